"""Str and bytes with a masked repr, and the container that keeps a secret."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Never, Self, SupportsIndex, overload

from bms_async.errors import ConfigurationError

from .masking import MASK

if TYPE_CHECKING:
    from typing_extensions import Buffer


class SecretStr(str):
    """A str whose repr is ``'***'``: a token, a signature or a password on its way to the socket.

    It equals the plain text and can be used as such. Encoding it gives `SecretBytes`, and a slice is a `SecretStr` too,
    for code that prints a long text prints its beginning. Every other str method returns plain text: use it within an
    expression, and never assign it to a variable.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(MASK)

    def __getitem__(self, index: SupportsIndex | slice) -> SecretStr:
        return SecretStr(super().__getitem__(index))

    def strip(self, characters: str | None = None, /) -> SecretStr:
        """Return the stripped text, as a `SecretStr`."""
        return SecretStr(super().strip(characters))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("a SecretStr is not pickled: it would be readable in the pickle")

    def encode(self, encoding: str = "utf-8", errors: str = "strict") -> SecretBytes:
        """Return the text as `SecretBytes`."""
        return SecretBytes(super().encode(encoding, errors))


class SecretBytes(bytes):
    """Bytes whose repr is ``b'***'``: a request body or a header value that holds a secret; slices are too."""

    __slots__ = ()

    def __repr__(self) -> str:
        return repr(MASK.encode())

    __str__ = __repr__

    @overload
    def __getitem__(self, index: SupportsIndex, /) -> int: ...

    @overload
    def __getitem__(self, index: slice, /) -> SecretBytes: ...

    def __getitem__(self, index: SupportsIndex | slice, /) -> int | SecretBytes:
        item = super().__getitem__(index)
        return item if isinstance(item, int) else SecretBytes(item)

    def strip(self, characters: Buffer | None = None, /) -> SecretBytes:
        """Return the stripped bytes, as `SecretBytes`."""
        return SecretBytes(super().strip(characters))

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("SecretBytes are not pickled: they would be readable in the pickle")

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> SecretStr:
        """Return the bytes as a `SecretStr`."""
        return SecretStr(super().decode(encoding, errors))


class Secret:
    """A password, token or key that no repr, log line, pickle or JSON shows.

    ::

        password = Secret(os.environ["OS_PASSWORD"])
        PasswordAuth(password=password, ...)

    Args:
        value: The text to keep.

    Raises:
        ConfigurationError: It is not a str.
    """

    __slots__ = ("_value",)

    def __init__(self, value: str | Secret) -> None:
        given: object = value
        if not isinstance(given, Secret | str):
            kind = type(given).__name__
            # They may be the secret in another form, and an error reporter shows this frame's variables.
            del value, given
            raise ConfigurationError(f"Secret: expected a str, got {kind}")
        self._value = given.text if isinstance(given, Secret) else SecretStr(given)

    @property
    def text(self) -> SecretStr:
        """The text as a `SecretStr`, to be sent."""
        return self._value

    def reveal(self) -> str:
        """Return the plain text: to send it, and for nothing else."""
        return str.__str__(self._value)

    def __eq__(self, other: object) -> bool:
        # Never equal to a plain str: code that compares with one has the secret in plain sight.
        if not isinstance(other, Secret):
            return NotImplemented
        # "surrogatepass", for a text that cannot be sent can still be compared.
        mine, theirs = (secret.text.encode(errors="surrogatepass") for secret in (self, other))
        # Few programs compare secrets, and it brings all of OpenSSL.
        import hmac  # noqa: PLC0415

        return hmac.compare_digest(mine, theirs)

    def __hash__(self) -> int:
        return hash((Secret, self._value))

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __str__(self) -> str:
        return MASK

    def __reduce__(self) -> str:
        raise TypeError("a Secret is not pickled: it would be readable in the pickle")
