"""The bytes of a request, without a library that knows better what was meant."""

from __future__ import annotations

import re
from urllib.parse import quote

from bms_async.errors import TransportError
from bms_async.redaction import SecretBytes
from bms_async.wire import HttpRequest

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SENDABLE = re.compile(r"(?:[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)?")
_TARGET = re.compile(r"[\x21-\x22\x24-\x7e]+")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_WITH_BODY = frozenset({"POST", "PUT", "PATCH"})
_SCHEMES = frozenset({"http", "https"})


def split_url(request: HttpRequest) -> tuple[str, str, str]:
    """Return scheme, host with port, and what a server is asked for, which is kept as it was written.

    Raises:
        TransportError: It is no URL of HTTP; nothing was sent.
    """
    scheme, _, rest = request.url.partition("://")
    if scheme not in _SCHEMES:
        scheme = scheme.lower()
        if not rest or scheme not in _SCHEMES:
            raise refused(request, "UnsupportedProtocol: the URL does not begin with http:// or https://")
    netloc, slash, path = rest.partition("/")
    target = slash + path
    if not slash or "?" in netloc or "#" in netloc:
        netloc = re.split(r"[/?#]", rest, maxsplit=1)[0]
        target = rest[len(netloc) :]
        if not target.startswith("/"):
            target = "/" + target
    if _TARGET.fullmatch(target) is None:
        try:
            target = quote(target.partition("#")[0], safe=_PRINTABLE)
        except UnicodeEncodeError:
            raise refused(request, "InvalidURL: the URL has text that cannot be written as UTF-8") from None
    return scheme, netloc, target


def write_request(request: HttpRequest, target: str, host: str, more: str = "") -> tuple[SecretBytes, bool]:
    """Return a whole request, which does not show itself, and whether its connection may be kept.

    Args:
        request: Its headers go as they are; those that every request needs are added where it has none.
        target: What the server is asked for.
        host: What ``Host`` says if the request does not.
        more: Lines for a proxy.

    Raises:
        TransportError: It cannot be sent, and nothing was.
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
    keeps = "connection" not in given or not _asks_to_close(request)
    # In one expression: no variable has the secrets among the headers as plain text.
    return SecretBytes(
        "".join(
            (
                f"{request.method} {target} HTTP/1.1\r\n",
                *lines,
                *[f"{name}: {value}\r\n" for name, value in request.headers.items()],
                more,
                "\r\n",
            )
        ).encode("ascii")
        + body
    ), keeps


def _asks_to_close(request: HttpRequest) -> bool:
    return any(name.lower() == "connection" and value.lower() == "close" for name, value in request.headers.items())


def refused(request: HttpRequest, text: str) -> TransportError:
    """Make the error for a request that cannot be sent; it quotes nothing of it."""
    return TransportError(text, maybe_delivered=False, operation=request.operation)


def check_headers(request: HttpRequest) -> None:
    """Refuse what no library can send, without showing it: their errors would, and it may be a secret.

    Raises:
        TransportError: The method or a header cannot be sent; nothing was.
    """
    if _NAME.fullmatch(request.method) is None:
        raise TransportError(
            "LocalProtocolError: the method is not a word that HTTP knows",
            maybe_delivered=False,
            operation=request.operation,
        )
    for name, value in request.headers.items():
        if _NAME.fullmatch(name) is None:
            raise TransportError(
                "a header has a name that no header can have", maybe_delivered=False, operation=request.operation
            )
        if _SENDABLE.fullmatch(value) is None:
            raise TransportError(
                f"header {name} has characters that no header can carry",
                maybe_delivered=False,
                operation=request.operation,
            )
