"""Writing HTTP/1.1 requests exactly as given: a library would change URLs and headers, and quote them in its errors."""

from __future__ import annotations

import re
from urllib.parse import quote

from bms_async.errors import TransportError
from bms_async.redaction import SecretBytes
from bms_async.wire import HttpRequest

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SENDABLE = re.compile(r"(?:[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)?")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_SCHEMES = frozenset({"http", "https"})


def split_url(request: HttpRequest) -> tuple[str, str, str]:
    """Return scheme, host with port, and the request target, which is kept as it was given.

    Raises:
        TransportError: The URL is not an HTTP URL; nothing was sent.
    """
    scheme, _, rest = request.url.partition("://")
    if scheme not in _SCHEMES:
        scheme = scheme.lower()
        if not rest or scheme not in _SCHEMES:
            raise not_sent_error(request, "UnsupportedProtocol: expected a URL that begins with http:// or https://")
    netloc, slash, path = rest.partition("/")
    target = slash + path
    if not slash or "?" in netloc or "#" in netloc:
        netloc = re.split(r"[/?#]", rest, maxsplit=1)[0]
        target = rest[len(netloc) :]
        if not target.startswith("/"):
            target = "/" + target
    if not (target.isascii() and target.isprintable()) or " " in target or "#" in target:
        try:
            target = quote(target.partition("#")[0], safe=_PRINTABLE)
        except UnicodeEncodeError:
            raise not_sent_error(request, "InvalidURL: expected a URL that can be encoded as UTF-8") from None
    return scheme, netloc, target


def write_request(request: HttpRequest, target: str, host: str, proxy_headers: str = "") -> tuple[SecretBytes, bool]:
    """Return the bytes of a request, and whether its connection may be kept.

    Args:
        request: The request. Headers that every request needs are added if it has none of that name.
        target: The request target.
        host: The value of ``Host`` if the request has none.
        proxy_headers: Header lines for a proxy.

    Raises:
        TransportError: The method or a header is invalid; nothing was sent.
    """
    check_headers(request)
    given = {name.lower() for name in request.headers}
    lines = []
    if "host" not in given:
        lines.append(f"Host: {host}\r\n")
    if "accept" not in given:
        lines.append("Accept: */*\r\n")
    if "accept-encoding" not in given:
        lines.append("Accept-Encoding: gzip, deflate\r\n")
    if "connection" not in given:
        lines.append("Connection: keep-alive\r\n")
    body = request.body
    if (body or request.method in _WITH_BODY) and "content-length" not in given:
        lines.append(f"Content-Length: {len(body)}\r\n")
    keep_alive = "connection" not in given or not _asks_to_close(request)
    # One expression, so that no variable holds the headers' secrets as plain text.
    return SecretBytes(
        "".join(
            (
                f"{request.method} {target} HTTP/1.1\r\n",
                *lines,
                *[f"{name}: {value}\r\n" for name, value in request.headers.items()],
                proxy_headers,
                "\r\n",
            )
        ).encode("ascii")
        + body
    ), keep_alive


def _asks_to_close(request: HttpRequest) -> bool:
    return any(name.lower() == "connection" and value.lower() == "close" for name, value in request.headers.items())


def not_sent_error(request: HttpRequest, text: str) -> TransportError:
    """Return the error of a request that was not sent; the text must not quote it."""
    return TransportError(text, maybe_delivered=False, operation=request.operation)


def check_headers(request: HttpRequest) -> None:
    """Refuse an invalid method or header without quoting it: a library's error would, and it may be a secret.

    Raises:
        TransportError: The method or a header is invalid; nothing was sent.
    """
    check_method(request)
    for name, value in request.headers.items():
        check_header(request, name, value)


def check_method(request: HttpRequest) -> None:
    """Refuse an invalid method.

    Raises:
        TransportError: The method is invalid; nothing was sent.
    """
    if _NAME.fullmatch(request.method) is None:
        raise not_sent_error(request, "LocalProtocolError: the method is not an HTTP token")


def check_header(request: HttpRequest, name: str, value: str) -> None:
    """Refuse an invalid header, as `check_headers` does for all headers of a request.

    Raises:
        TransportError: Its name or its value is invalid; nothing was sent.
    """
    if _NAME.fullmatch(name) is None:
        raise not_sent_error(request, "a header has an invalid name")
    if _SENDABLE.fullmatch(value) is None:
        raise not_sent_error(request, f"header {name} has characters that are invalid in a header")
