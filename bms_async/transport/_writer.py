"""Writing the requests of one route."""

from __future__ import annotations

from typing import NamedTuple

from bms_async.redaction import SecretBytes
from bms_async.wire import HttpRequest

from ._http1 import check_header, check_length, check_method, check_names

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_USUAL_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_USUAL = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate", "Connection": "keep-alive"}
_OF_ONE_REQUEST = "Authorization"
_MAX_REMEMBERED = 32
_MAX_LINES = 8 * _MAX_REMEMBERED


class _Added(NamedTuple):
    """What is added to the headers of a request, by their names.

    Attributes:
        lines: The header lines that every request needs and that it has not.
        has_length: Whether it has its length.
    """

    lines: bytes
    has_length: bool


class _Head(NamedTuple):
    """The header lines of a request, but for its length.

    Attributes:
        lines: The lines as bytes, with the empty one after them.
        has_length: Whether the length is among them.
        keep: Whether the connection may be kept.
    """

    lines: SecretBytes
    has_length: bool
    keep: bool


class RequestWriter:
    """Writes requests, and remembers the header lines that it has checked and written.

    A token has thousands of characters, and most requests have the same headers as one before; signed ones have all but
    the signature in common. The lines are forgotten with the writer, or when it has written many others.

    Args:
        host: The value of ``Host``.
        path_prefix: What is written before a request's path.
        proxy_headers: Header lines for a proxy.
    """

    __slots__ = ("_added", "_closing", "_heads", "_host", "_lines", "_path_prefix", "_proxy_headers")

    def __init__(self, host: str, path_prefix: str = "", proxy_headers: str = "") -> None:
        self._host = host
        self._path_prefix = path_prefix
        # With the empty line at the end of a head.
        self._proxy_headers = SecretBytes(f"{proxy_headers}\r\n".encode("ascii"))
        self._heads: dict[tuple[tuple[str, str], ...], _Head] = {}
        self._lines: dict[tuple[str, str], SecretBytes] = {}
        self._closing: set[tuple[str, str]] = set()
        self._added: dict[tuple[str, ...], _Added] = {}

    def write(self, request: HttpRequest, target: str) -> tuple[SecretBytes, bool]:
        """Return the bytes of a request, and whether its connection may be kept.

        Args:
            request: The request. Headers that every request needs are added if it has none of that name.
            target: The request target.

        Raises:
            TransportError: The method or a header is invalid; nothing was sent.
        """
        method, headers, body = request.method, request.headers, request.body
        if method not in _USUAL_METHODS:
            check_method(request)
        pairs = tuple(headers.items())
        head = self._heads.get(pairs)
        if head is None:
            head = self._write_head(request, pairs)
            if _OF_ONE_REQUEST not in headers:
                while len(self._heads) >= _MAX_REMEMBERED:
                    del self._heads[next(iter(self._heads))]
                self._heads[pairs] = head
        lines, has_length, keep = head
        if has_length:
            check_length(request)
        if has_length or not (body or method in _WITH_BODY):
            first = f"{method} {self._path_prefix}{target} HTTP/1.1\r\n"
        else:
            first = f"{method} {self._path_prefix}{target} HTTP/1.1\r\nContent-Length: {len(body)}\r\n"
        return SecretBytes(first.encode() + lines + body), keep

    def forget(self) -> None:
        """Forget all headers."""
        for remembered in (self._heads, self._lines, self._closing, self._added):
            remembered.clear()

    def _write_head(self, request: HttpRequest, pairs: tuple[tuple[str, str], ...]) -> _Head:
        names = tuple(request.headers)
        added = self._added.get(names) or self._find_added(request, names)
        lines = [self._lines.get(pair) or self._write_line(request, *pair) for pair in pairs]
        keep = self._closing.isdisjoint(pairs)
        return _Head(SecretBytes(b"".join((added.lines, *lines, self._proxy_headers))), added.has_length, keep)

    def _write_line(self, request: HttpRequest, name: str, value: str) -> SecretBytes:
        check_header(request, name, value)
        line = SecretBytes(f"{name}: {value}\r\n".encode("ascii"))
        if name != _OF_ONE_REQUEST:
            if len(self._lines) >= _MAX_LINES:
                self._lines.clear()
            self._lines[name, value] = line
            if name.lower() == "connection" and value.lower() == "close":
                self._closing.add((name, value))
        return line

    def _find_added(self, request: HttpRequest, names: tuple[str, ...]) -> _Added:
        check_names(request)
        given = {name.lower() for name in names}
        usual = {"Host": self._host, **_USUAL}
        lines = "".join([f"{name}: {value}\r\n" for name, value in usual.items() if name.lower() not in given])
        if len(self._added) >= _MAX_REMEMBERED:
            self._added.clear()
        added = self._added[names] = _Added(lines.encode("ascii"), "content-length" in given)
        return added
