"""Checking requests for HTTP/1.1: a library would change URLs and headers, and quote them in its errors."""

from __future__ import annotations

import re
from urllib.parse import quote

from bms_async.errors import TransportError
from bms_async.wire import HttpRequest

_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
_SENDABLE = re.compile(r"(?:[\x21-\x7e](?:[\t\x20-\x7e]*[\x21-\x7e])?)?")
_PRINTABLE = "".join(map(chr, range(0x21, 0x7F)))
_SCHEMES = frozenset({"http", "https"})
_ONCE = frozenset({"host", "content-length"})


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
    check_names(request)
    check_length(request)


def check_timeout(request: HttpRequest) -> None:
    """Refuse a timeout that no timer can be set to; a NaN would put those of the whole event loop out of order.

    Raises:
        TransportError: It is not a number of at least 0; nothing was sent.
    """
    if not request.timeout >= 0:
        raise not_sent_error(request, f"expected a timeout in seconds, got {request.timeout:g}")


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
    if name.lower() == "transfer-encoding":
        # The server would look for the end of the body elsewhere, and read what is left as another request.
        raise not_sent_error(request, f"header {name} cannot be given: a body is sent as it is, and with its length")


def check_names(request: HttpRequest) -> None:
    """Refuse a request with two headers of which servers and proxies may each believe another one.

    Raises:
        TransportError: Two names differ in nothing but their case; nothing was sent.
    """
    names = [name.lower() for name in request.headers]
    for name in _ONCE:
        if names.count(name) > 1:
            raise not_sent_error(request, f"expected one header {name}, got several that differ in case")


def check_length(request: HttpRequest) -> None:
    """Refuse a request whose headers have another length than its body.

    Raises:
        TransportError: They do, and the rest would be read as another request; nothing was sent.
    """
    for name, value in request.headers.items():
        if name.lower() == "content-length" and value != str(len(request.body)):
            raise not_sent_error(
                request, f"header {name}: expected the length of the body, {len(request.body)}; omit it"
            )
