"""Covering what was given as a secret, whatever it is, before anything else is done with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from .secret import Secret, SecretBytes, SecretStr

T = TypeVar("T")


def wrap_secrets(value: T) -> T:
    """Return the same value with every text and all bytes in it as ones that do not show themselves.

    A public method does this first with what may be a secret, in place of its own variable: whatever is refused later,
    no frame shows it. What is neither text nor bytes nor a collection of such is returned as it is.

    Args:
        value: A text, bytes, a `Secret`, or a mapping, list or tuple of them.
    """
    return cast("T", _wrap(value))


def _wrap(value: Any) -> Any:
    if isinstance(value, str):
        return value if isinstance(value, SecretStr) else SecretStr(str.__str__(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return value if isinstance(value, SecretBytes) else SecretBytes(bytes(value))
    if isinstance(value, Secret):
        return value.text
    if isinstance(value, Mapping):
        return {key: _wrap(each) for key, each in value.items()}
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return kind([_wrap(each) for each in value])
    return value


def kind_of(value: object) -> str:
    """Return the name of a value's type, as whoever gave the value knows it: a veiled text is a ``str``."""
    return next((kind.__name__ for kind in (str, bytes) if isinstance(value, kind)), type(value).__name__)


def wrap_address(value: T) -> T:
    """Return an address that may hold credentials or a signed query as a text that does not show itself.

    Args:
        value: An address; one that holds nothing of the kind is returned as it is.
    """
    return wrap_secrets(value) if isinstance(value, str) and not {"@", "?", "#"}.isdisjoint(value) else value


class Unencodable:
    """A body that cannot be written, to be raised of where no frame holds the body any more.

    Args:
        error: Why; None where some text of it is half a character.
        kind: The name of the body's type.
    """

    __slots__ = ("error", "kind")

    def __init__(self, error: Exception | None = None, *, kind: str = "") -> None:
        self.error = error
        self.kind = kind


def encode_secretly(encode: Callable[..., bytes], body: object) -> SecretBytes | Unencodable:
    """Write a body that may hold secrets, and hold it where nothing shows it.

    Args:
        encode: The encoder of a format, which takes an ``enc_hook``.
        body: What is written; texts and bytes that do not show themselves are written as what they are.
    """
    try:
        return SecretBytes(encode(body, enc_hook=write_secret))
    except UnicodeEncodeError:
        # Its error holds the text.
        return Unencodable()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return Unencodable(error.with_traceback(None))


def write_secret(value: object) -> object:
    """Return what a text or bytes that do not show themselves are, for an encoder's ``enc_hook``.

    Args:
        value: What the encoder does not know.

    Raises:
        TypeError: It is none of ours.
    """
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes(value)
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")
