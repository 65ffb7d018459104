"""Texts and bytes that do not show themselves."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any, Never, Self, SupportsIndex, overload

from bms_async.errors import ConfigurationError

from .masking import MASK

if TYPE_CHECKING:
    from typing_extensions import Buffer


class SecretStr(str):
    """A text whose repr is ``'***'``: a token, a signature or a password on its way to the socket.

    It equals the plain text and can be used as such. Encoding it gives `SecretBytes`, and a part of it is such a text
    too, for what prints a long text prints its beginning. Every other method of a text gives plain text, which belongs
    into an expression and not into a variable.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(MASK)

    def __getitem__(self, place: SupportsIndex | slice) -> SecretStr:
        return SecretStr(super().__getitem__(place))

    def strip(self, characters: str | None = None, /) -> SecretStr:
        """Return the text without what is round it, which does not show itself either."""
        return SecretStr(super().strip(characters))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("a SecretStr is not pickled: it would be readable in the pickle")

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> SecretBytes:
        """Return the text as bytes that do not show themselves either."""
        return SecretBytes(super().encode(encoding, errors))


class SecretBytes(bytes):
    """Bytes whose repr is ``b'***'``: a request body or a header value that holds a secret; a part is such too."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(MASK.encode())

    __str__ = __repr__

    @overload
    def __getitem__(self, place: SupportsIndex, /) -> int: ...

    @overload
    def __getitem__(self, place: slice, /) -> SecretBytes: ...

    def __getitem__(self, place: SupportsIndex | slice, /) -> int | SecretBytes:
        found = super().__getitem__(place)
        return found if isinstance(found, int) else SecretBytes(found)

    def strip(self, characters: Buffer | None = None, /) -> SecretBytes:
        """Return the bytes without what is round them, which do not show themselves either."""
        return SecretBytes(super().strip(characters))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("SecretBytes are not pickled: they would be readable in the pickle")

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> SecretStr:
        """Return the bytes as a text that does not show itself either."""
        return SecretStr(super().decode(encoding, errors))


class Secret:
    """A password, token or key that no repr, log line, pickle or JSON shows.

    ::

        password = Secret(os.environ["OS_PASSWORD"])
        PasswordAuth(password=password, ...)

    Args:
        value: The text to keep.

    Raises:
        ConfigurationError: It is no text.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str | Secret) -> None:
        given: object = value
        if not isinstance(given, Secret | str):
            kind = type(given).__name__
            # What was given may be the secret in another form, and this frame is shown with its variables.
            del value, given
            raise ConfigurationError(f"Secret: expected a text, got {kind}")
        self._value = given.text if isinstance(given, Secret) else SecretStr(given)

    @property
    def text(self) -> SecretStr:
        """The text as one that does not show itself, for what sends it."""
        return self._value

    def reveal(self) -> str:
        """Return the text itself: to send it, and for nothing else."""
        return str.__str__(self._value)

    def __eq__(self, other: object) -> bool:
        # A plain text is never equal: who compares with one has it lying open.
        if not isinstance(other, Secret):
            return NotImplemented
        # "surrogatepass", for a text that cannot be sent can still be compared.
        mine, theirs = (each.text.encode(errors="surrogatepass") for each in (self, other))
        return hmac.compare_digest(mine, theirs)

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled: it would be readable in the pickle")
