"""Parsing the responses of one connection with httptools; the only module that knows it.

The guarantee: whatever bytes a server sends, in whatever pieces, they become a response or the text of a problem, and
never more memory than the limits allow. Only the parser's public names are used, and no exception leaves a callback of
it, for it would come out as another one with the first as its context.

httptools lacks two things that the parser below it has, and both are made up for here and nowhere else:

- It cannot be told that a response has no body though its head announces one, as responses to HEAD do. The response
  ends with its head here, the parser is left in the middle, and the next response gets a new one.
- It cannot be told that the connection has ended, which is how a body without a length ends. `end` decides from the
  head whether a body may end so.

The bounds: a head, and whatever else is not a body (trailers, extensions of chunks), is at most `MAX_HEAD` bytes; a
single header that never ends is never reported by the parser, so bytes are counted too. Informational responses are
counted, and a change of protocol is refused, since none is asked for.
"""

from __future__ import annotations

import math
import re

import httptools

from bms_async.errors import ConfigurationError

from ._decompress import PackedBody, make_decompressor

MAX_HEAD = 64 * 1024
"""The maximum size of a response's head in bytes; a Keystone token alone may have 16 KB."""

# No head of that size has more, the shortest header line being four bytes.
_MAX_HEADERS = MAX_HEAD // 4
_MAX_INFORMATIONAL = 100
_SWITCHING_PROTOCOLS = 101
_FIRST_INFORMATIONAL, _FIRST_FINAL = 100, 200
_BODILESS = frozenset({204, 304})
_HEEDED = frozenset({"connection", "content-encoding", "content-length", "keep-alive", "transfer-encoding"})
_USUAL = (
    *("Cache-Control", "Connection", "Content-Encoding", "Content-Language", "Content-Length", "Content-Type", "Date"),
    *("ETag", "Expires", "Keep-Alive", "Location", "Server", "Strict-Transport-Security", "Transfer-Encoding", "Vary"),
    *("X-Content-Type-Options", "X-Frame-Options", "X-Openstack-Request-Id", "X-Request-Id", "X-XSS-Protection"),
)
# Of the usual names, as they are usually written: the text, and whether it is heeded.
_NAMES = {name.encode(): (name, name.lower() in _HEEDED) for usual in _USUAL for name in (usual, usual.lower())}
# Seconds off the announced time at which a server closes: a request needs time to arrive.
_KEEP_ALIVE_MARGIN = 1.0
_NOT_HTTP = "RemoteProtocolError: the response is not HTTP"
_MALFORMED = "RemoteProtocolError: the response body is incomplete or malformed"
_NO_RESPONSE = "RemoteProtocolError: the server closed the connection without a complete response"
_TOO_LARGE = "the response is larger than the limit"
_HEAD_TOO_LARGE = f"RemoteProtocolError: the head of the response is larger than {MAX_HEAD} bytes"

_MIN_VERSION = (0, 6, 4)
_TRIAL_BODY = b"{}"
_TRIAL = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n" + _TRIAL_BODY
_TRIAL_PARSED = (200, _TRIAL_BODY, [("Content-Length", "2")], True, True)


class ResponseParser:
    """Parses responses one after another.

    Args:
        max_bytes: The size limit of a body, in bytes after decompression.

    Attributes:
        status: The status of the response; 0 before its head is complete.
        headers: Its headers.
        content: Its body, unless that is compressed.
        packed: Its body if that is compressed, else None.
        complete: Whether it is.
        problem: Why it is not a valid response; None as long as it may become one.
        is_too_large: Whether the problem is that its body is larger than the limit.
        excess: Whether something arrived after its end.
        keep_alive: Whether the server keeps the connection, once the response is complete.
        idle_limit: Seconds for which it does; infinity if it does not say.
    """

    __slots__ = (
        "_bodiless",
        "_gap",
        "_has_length",
        "_heeded",
        "_informational",
        "_is_chunked",
        "_max_bytes",
        "_moved",
        "_parser",
        "complete",
        "content",
        "excess",
        "headers",
        "idle_limit",
        "is_too_large",
        "keep_alive",
        "packed",
        "problem",
        "status",
    )

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._parser: httptools.HttpResponseParser | None = None
        self._bodiless = False
        self.expect()

    def expect(self, *, bodiless: bool = False) -> None:
        """Prepare for the response to the next request.

        Args:
            bodiless: Whether it ends with its head, as that to HEAD does.
        """
        if self._parser is None or self._bodiless:
            self._parser = httptools.HttpResponseParser(self)
        self._bodiless = bodiless
        self._heeded: list[tuple[str, str]] = []
        self._gap = self._informational = 0
        self._has_length = self._is_chunked = self._moved = False
        self.status = 0
        self.headers: list[tuple[str, str]] = []
        self.content: bytes | bytearray = b""
        self.packed: PackedBody | None = None
        self.idle_limit = math.inf
        self.is_too_large = False
        self.complete = self.excess = self.keep_alive = False
        self.problem: str | None = None

    def close(self) -> None:
        """Let go of the parser, which refers to this object."""
        self._parser = None

    def feed(self, data: bytes | memoryview) -> None:
        """Parse what was received."""
        if self._parser is None:
            return
        self._moved = False
        self._gap += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if isinstance(error.__context__, KeyboardInterrupt | SystemExit):
                # It was raised in a callback, and belongs to the program.
                raise error.__context__ from None
            if self.complete:
                self.excess = True
            elif self.problem is None:
                self.problem = _MALFORMED if self.status else _NOT_HTTP
        if self._moved:
            self._gap = 0
        elif self._gap > MAX_HEAD and self.problem is None and not self.complete:
            self.problem = _MALFORMED if self.status else _HEAD_TOO_LARGE

    def release(self) -> None:
        """Forget the response."""
        self.headers = []
        self.content = b""
        self.packed = None

    def end(self, *, clean: bool) -> None:
        """Take note that the connection has ended.

        Args:
            clean: Whether the server has closed it, and it did not break.
        """
        if self.complete or self.problem is not None:
            return
        if clean and self.status and not self._has_length and not self._is_chunked:
            self.complete = True
        else:
            self.problem = _MALFORMED if self.status else _NO_RESPONSE

    def on_message_begin(self) -> None:
        """Take note of a response that begins."""
        if self.complete:
            self.excess = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header, or a trailer, which is left out."""
        if self.status or self.problem is not None:
            return
        if len(self.headers) >= _MAX_HEADERS:
            self.problem = _HEAD_TOO_LARGE
            self.headers = []
            return
        shown, heed = _NAMES.get(name) or _read_name(name)
        # The parser leaves the white space behind a value.
        text = value.rstrip(b" \t").decode("utf-8", "surrogateescape")
        self.headers.append((shown, text))
        if heed:
            self._heeded.append((shown.lower(), text))

    def on_headers_complete(self) -> None:
        """Take the end of a head."""
        self._moved = True
        if self._parser is None or self.problem is not None or self.complete:
            return
        status = self._parser.get_status_code()
        if self._gap > MAX_HEAD and sum(len(name) + len(value) + 4 for name, value in self.headers) > MAX_HEAD:
            self.problem = _HEAD_TOO_LARGE
        elif status >= _FIRST_FINAL:
            self.status = status
            self._read_headers()
        elif status < _FIRST_INFORMATIONAL:
            self.problem = _NOT_HTTP
        elif status == _SWITCHING_PROTOCOLS:
            self.problem = "RemoteProtocolError: the server switched to another protocol, which was not asked for"
        else:
            self._informational += 1
            if self._informational > _MAX_INFORMATIONAL:
                self.problem = f"RemoteProtocolError: more than {_MAX_INFORMATIONAL} informational responses"

    def on_body(self, part: bytes) -> None:
        """Take a part of the body."""
        self._moved = True
        if self.complete:
            self.excess = True
        elif self.problem is not None:
            return
        elif self.packed is not None:
            self.packed.add(part)
        elif len(self.content) + len(part) > self._max_bytes:
            self._refuse_size()
        elif not self.content:
            self.content = part
        else:
            # Parts in a list would take many times their size where a server sends a byte at a time.
            if not isinstance(self.content, bytearray):
                self.content = bytearray(self.content)
            self.content += part

    def on_message_complete(self) -> None:
        """Take the end of a response."""
        if self._parser is None or self.problem is not None or self.complete:
            return
        if not self.status:
            # An informational one: the next is the response, or another of these.
            self.headers = []
            self._heeded = []
            return
        self.complete = True
        self.keep_alive = self._parser.should_keep_alive()

    def _read_headers(self) -> None:
        values: dict[str, list[str]] = {}
        for name, value in self._heeded:
            values.setdefault(name, []).append(value)
        heeded = {name: ",".join(each) for name, each in values.items()}
        length = heeded.get("content-length")
        self._has_length = length is not None
        self._is_chunked = "chunked" in heeded.get("transfer-encoding", "").lower()
        self.idle_limit = parse_keep_alive(heeded["keep-alive"]) if "keep-alive" in heeded else math.inf
        encoding = heeded.get("content-encoding")
        # A chunked body, where none may be, is expected by the parser all the same.
        self._bodiless = self._bodiless or (self.status in _BODILESS and self._is_chunked)
        if self._bodiless:
            self.complete = True
            # The parser has taken it for a response with a body.
            self.keep_alive = "close" not in heeded.get("connection", "").lower() and self._version() == "1.1"
        elif length is not None and int(length) > self._max_bytes and self.status not in _BODILESS:
            self._refuse_size()
        elif encoding is not None and (decompressor := make_decompressor(encoding)) is not None:
            self.packed = PackedBody(decompressor, self._max_bytes)

    def _version(self) -> str:
        return "" if self._parser is None else self._parser.get_http_version()

    def _refuse_size(self) -> None:
        self.is_too_large = True
        self.problem = _TOO_LARGE


def try_parser() -> None:
    """Check that the installed parser does what is expected of it, with responses that no server sent.

    Raises:
        ConfigurationError: It does not.
    """
    try:
        problem = _problem_of_library()
    except Exception as error:  # noqa: BLE001 - another version may raise anything
        problem = f"{type(error).__name__} at a trial: {error}"
    if problem is not None:
        raise ConfigurationError(
            f"httptools {httptools.__version__} cannot parse responses ({problem}): expected "
            f"httptools>={'.'.join(map(str, _MIN_VERSION))}; install 'bms-async[speedups]', or use HttpxTransport"
        )


def _problem_of_library() -> str | None:
    if tuple(map(int, re.findall(r"\d+", httptools.__version__)[:3])) < _MIN_VERSION:
        return "it is too old"
    parser = ResponseParser(len(_TRIAL_BODY))
    parsed = []
    for _ in range(2):
        parser.expect()
        parser.feed(_TRIAL)
        parsed.append((parser.status, bytes(parser.content), parser.headers, parser.complete, parser.keep_alive))
    parser.expect(bodiless=True)
    parser.feed(_TRIAL)
    is_right = parsed == [_TRIAL_PARSED] * 2 and parser.complete and parser.excess
    return None if is_right else "the trial responses were parsed incorrectly"


def _read_name(raw: bytes) -> tuple[str, bool]:
    name = raw.decode("latin-1")
    return name, name.lower() in _HEEDED


def parse_keep_alive(header: str) -> float:
    """Return for how many seconds a server keeps an idle connection, less a margin; infinity if it does not say."""
    for part in header.split(","):
        name, _, value = part.partition("=")
        if name.strip().lower() == "timeout" and value.strip().isdecimal():
            return float(value) - _KEEP_ALIVE_MARGIN
    return math.inf
