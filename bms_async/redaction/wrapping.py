"""Wrapping an argument that may be a secret, before anything else is done with it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar, cast

from .secret import Secret, SecretBytes, SecretStr

T = TypeVar("T")


def wrap_secrets(value: T) -> T:
    """Return the same value with every str and bytes in it as `SecretStr` and `SecretBytes`.

    A public method does this first, and rebinds its own argument: whatever is raised later, no frame's variables show
    the secret. A value that is neither str nor bytes nor a collection of them is returned unchanged.

    Args:
        value: A str, bytes, a `Secret`, or a mapping or collection of them.
    """
    given: Any = value
    # The headers of credentials: they come with each call, and are wrapped once.
    if type(given) is dict:
        for item in given.values():
            if type(item) is not SecretStr:
                break
        else:
            return value
    return cast("T", _wrap(value))


def _wrap(value: Any) -> Any:
    if isinstance(value, str):
        return value if isinstance(value, SecretStr) else SecretStr(str.__str__(value))
    if isinstance(value, bytes | bytearray | memoryview):
        return value if isinstance(value, SecretBytes) else SecretBytes(bytes(value))
    if isinstance(value, Secret):
        return value.text
    if isinstance(value, Mapping):
        return {key: _wrap(item) for key, item in value.items()}
    for kind in (list, tuple, set, frozenset):
        if isinstance(value, kind):
            return kind([_wrap(item) for item in value])
    return value


def kind_of(value: object) -> str:
    """Return the name of a value's type as the caller knows it: a `SecretStr` is a ``str``."""
    return next((kind.__name__ for kind in (str, bytes) if isinstance(value, kind)), type(value).__name__)


def wrap_address(value: T) -> T:
    """Return an address as a `SecretStr` if it may hold credentials or a signed query.

    Args:
        value: An address; one without a user, a query and a fragment is returned unchanged.
    """
    return wrap_secrets(value) if isinstance(value, str) and not {"@", "?", "#"}.isdisjoint(value) else value


class Unencodable:
    """A body that could not be encoded; its error is raised later, where no frame holds the body any more.

    Args:
        error: The encoder's error; None if a text in the body has a lone surrogate.
        kind: The name of the body's type.
    """

    __slots__ = ("error", "kind")

    def __init__(self, error: Exception | None = None, *, kind: str = "") -> None:
        self.error = error
        self.kind = kind


def encode_secretly(encode: Callable[..., bytes], body: object) -> SecretBytes | Unencodable:
    """Encode a body that may hold secrets, without a traceback or a variable that shows them.

    Args:
        encode: The encoder of a format, which takes an ``enc_hook``.
        body: The body; its `SecretStr` and `SecretBytes` are encoded in plain.
    """
    try:
        return SecretBytes(encode(body, enc_hook=write_secret))
    except UnicodeEncodeError:
        # Its error holds the text.
        return Unencodable()
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        return Unencodable(error.with_traceback(None))


def write_secret(value: object) -> object:
    """Return the plain value of a secret, for an encoder's ``enc_hook``.

    Args:
        value: A value whose type the encoder does not know.

    Raises:
        TypeError: It is not a secret.
    """
    if isinstance(value, Secret):
        return value.reveal()
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, bytes):
        return bytes(value)
    raise TypeError(f"Encoding objects of type {type(value).__name__} is unsupported")
