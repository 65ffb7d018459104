"""HTTP requests and responses, independent of the HTTP library."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Never, Self, cast, overload

import msgspec
from msgspec.structs import force_setattr

from bms_async.redaction import SecretBytes, SecretStr


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request ready to be sent.

    Attributes:
        operation: The dotted name of the call, for errors and logs; it is not sent.
        url: Absolute, encoded.
        headers: The values that hold credentials are `SecretStr`; the repr has no headers.
        body: `SecretBytes` where it may hold a secret; the repr has no body.
        timeout: Seconds that one attempt may take once it is connected.
    """

    operation: str
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes = b""
    timeout: float = 60.0

    def __repr__(self) -> str:
        return f"<HttpRequest {self.operation} {self.method} {self.url.partition('?')[0]}>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # The one that a Struct has shows every field.
        return [("operation", self.operation), ("method", self.method), ("url", self.url.partition("?")[0])]


class ResponseHeaders(Sequence[tuple[str, str]]):
    """The headers of a response, in the order received; the values are `SecretStr`, and the repr has none of them.

    Args:
        pairs: Their names and values, which must be pairs of str: they are looked at when they are read.
    """

    __slots__ = ("_read",)

    def __init__(self, pairs: Iterable[tuple[str, str]] = ()) -> None:
        kept = tuple(pairs)
        # In a function, which no repr and no walk over attributes opens: to wrap each value would cost as much as
        # everything else about a response, and hardly any header is read.
        self._read: Callable[[], tuple[tuple[str, str], ...]] = lambda: kept

    @overload
    def __getitem__(self, index: int) -> tuple[str, str]: ...

    @overload
    def __getitem__(self, index: slice) -> Self: ...

    def __getitem__(self, index: int | slice) -> tuple[str, str] | Self:
        if isinstance(index, slice):
            return type(self)(self._read()[index])
        return _wrap_pair(self._read()[index])

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return map(_wrap_pair, self._read())

    def __len__(self) -> int:
        return len(self._read())

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and self._read() == tuple(other)

    def __hash__(self) -> int:
        return hash(self._read())

    def __repr__(self) -> str:
        return f"<{len(self)} headers>"

    def __copy__(self) -> Self:
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        return self

    def __reduce_ex__(self, protocol: object) -> Never:
        raise TypeError("headers of a response are not pickled: they would be readable in the pickle")

    def find(self, *names: str) -> str | None:
        """Return the value of the first header that has one of these names, in the order of the names."""
        for name in names:
            folded = name.lower()
            for header, value in self._read():
                if header.lower() == folded:
                    return str.__str__(value)
        return None


def _wrap_pair(pair: tuple[str, str]) -> tuple[str, str]:
    return pair[0], SecretStr(pair[1])


class HttpResponse(msgspec.Struct, frozen=True, kw_only=True):
    """A complete response.

    Attributes:
        headers: Pairs in the order received; `header` finds one by its name in any case. The values are `SecretStr`:
            one may be a new token, or an echo of what was sent.
        body: `SecretBytes`, for the same reason.
    """

    status: int
    headers: Sequence[tuple[str, str]] = ()
    body: bytes = b""

    def __post_init__(self) -> None:
        if type(self.headers) is not ResponseHeaders:
            # A transport of the application's may give anything. What is no pair is its error, while it sends.
            force_setattr(self, "headers", ResponseHeaders([(name, SecretStr(value)) for name, value in self.headers]))
        if type(self.body) is not SecretBytes:
            force_setattr(self, "body", SecretBytes(self.body))

    def header(self, *names: str) -> str | None:
        """Return the value of the first header that has one of these names, in the order of the names."""
        return cast("ResponseHeaders", self.headers).find(*names)

    def __repr__(self) -> str:
        return f"<HttpResponse {self.status}, {len(self.body)} bytes>"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        return [("status", self.status), ("bytes", len(self.body))]
