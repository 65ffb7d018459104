"""Writing the requests of one route."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

from bms_async.redaction import SecretBytes
from bms_async.wire import HttpRequest

from ._http1 import check_headers

_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_USUAL_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"})
_USUAL = {"Accept": "*/*", "Accept-Encoding": "gzip, deflate", "Connection": "keep-alive"}
_MAX_REMEMBERED = 32


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

    A token has thousands of characters, and most requests have the same headers as one before. They are forgotten with
    the writer, or when it has written many others.

    Args:
        host: The value of ``Host``.
        path_prefix: What is written before a request's path.
        proxy_headers: Header lines for a proxy.
    """

    __slots__ = ("_heads", "_host", "_path_prefix", "_proxy_headers")

    def __init__(self, host: str, path_prefix: str = "", proxy_headers: str = "") -> None:
        self._host = host
        self._path_prefix = path_prefix
        self._proxy_headers = proxy_headers
        self._heads: dict[tuple[tuple[str, str], ...], _Head] = {}

    def write(self, request: HttpRequest, target: str) -> tuple[SecretBytes, bool]:
        """Return the bytes of a request, and whether its connection may be kept.

        Args:
            request: The request. Headers that every request needs are added if it has none of that name.
            target: The request target.

        Raises:
            TransportError: The method or a header is invalid; nothing was sent.
        """
        method, body = request.method, request.body
        key = tuple(request.headers.items())
        head = self._heads.get(key)
        if head is None or method not in _USUAL_METHODS:
            head = self._write_head(request)
            while len(self._heads) >= _MAX_REMEMBERED:
                del self._heads[next(iter(self._heads))]
            self._heads[key] = head
        lines, has_length, keep = head
        if has_length or not (body or method in _WITH_BODY):
            first = f"{method} {self._path_prefix}{target} HTTP/1.1\r\n"
        else:
            first = f"{method} {self._path_prefix}{target} HTTP/1.1\r\nContent-Length: {len(body)}\r\n"
        return SecretBytes(first.encode() + lines + body), keep

    def forget(self) -> None:
        """Forget all headers."""
        self._heads.clear()

    def _write_head(self, request: HttpRequest) -> _Head:
        check_headers(request)
        given = {name.lower() for name in request.headers}
        usual = {"Host": self._host, **_USUAL}
        closes = any(
            name.lower() == "connection" and value.lower() == "close" for name, value in request.headers.items()
        )
        # One expression, so that no variable holds the headers' secrets as plain text.
        return _Head(
            SecretBytes(
                "".join(
                    (
                        *_lines((name, value) for name, value in usual.items() if name.lower() not in given),
                        *_lines(request.headers.items()),
                        self._proxy_headers,
                        "\r\n",
                    )
                ).encode("ascii")
            ),
            "content-length" in given,
            not closes,
        )


def _lines(headers: Iterable[tuple[str, str]]) -> list[str]:
    return [f"{name}: {value}\r\n" for name, value in headers]
