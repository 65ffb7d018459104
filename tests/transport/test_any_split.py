"""However the bytes of a response are split on the way, it is the same response."""

from __future__ import annotations

import asyncio
import gzip
import itertools
import ssl
import zlib
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.transport._transports import make_transport
from tests.transport._trials import OWN_SHOWN, Ending, attempt, request, shown
from tests.transport.loopback import Talk
from tests.transport.memory import MemoryServer, run_in_memory

TEXT = b'{"servers": [1, 2]}'


def raw_deflate(text: bytes) -> bytes:
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return squeeze.compress(text) + squeeze.flush()


class Valid(NamedTuple):
    """A response, and what it says."""

    raw: bytes
    body: bytes = TEXT
    headers: tuple[tuple[str, str], ...] = ()
    status: int = 200
    method: str = "GET"
    ending: Ending = "stays"

    @property
    def says(self) -> object:
        return self.status, self.headers, self.body


def valid(head: bytes, *content: bytes, early: bytes = b"", **more: object) -> Valid:
    """Write a response of a head, with lines as people write them, and the bytes behind it."""
    first, *lines = head.split(b"\n")
    headers = [line.decode().partition(":") for line in lines]
    raw = early + b"\r\n".join([first, *lines]) + b"\r\n\r\n" + b"".join(content)
    return Valid(raw, headers=tuple((name.lower(), value.strip()) for name, _, value in headers), **more)  # type: ignore[arg-type]


def chunked(*chunks: bytes, extension: bytes = b"", trailers: bytes = b"") -> bytes:
    return (
        b"".join(b"%x%s\r\n%s\r\n" % (len(each), extension, each) for each in (*chunks, b""))[:-2] + trailers + b"\r\n"
    )


PACKED = gzip.compress(TEXT, mtime=0)
VALID = {
    "of a length": valid(b"HTTP/1.1 200 OK\nContent-Length: 19", TEXT),
    "empty": valid(b"HTTP/1.1 200 OK\nContent-Length: 0", body=b""),
    "odd spaces": valid(b"HTTP/1.1 200 OK\nX-Pad:  \t a b \t\nX-Nothing:\nContent-Length:19  ", TEXT),
    "without a reason": valid(b"HTTP/1.1 200 \nContent-Length: 19", TEXT),
    "chunked": valid(b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked", chunked(TEXT[:1], TEXT[1:])),
    "chunked with extensions and trailers": valid(
        b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked\nTrailer: X-Sum\nConnection: close",
        chunked(TEXT, extension=b';a=b;c="d;e"', trailers=b"X-Sum: 1\r\n"),
        ending="closes",
    ),
    "ends with its connection": valid(b"HTTP/1.1 200 OK\nX-A: b", TEXT, ending="closes"),
    "of HTTP/1.0": valid(b"HTTP/1.0 200 OK\nX-A: b", TEXT, ending="closes"),
    "closes": valid(b"HTTP/1.1 200 OK\nConnection: close\nContent-Length: 19", TEXT),
    "no content": valid(b"HTTP/1.1 204 No Content\nX-A: b", status=204, body=b""),
    "not modified": valid(b"HTTP/1.1 304 Not Modified\nContent-Length: 19", status=304, body=b""),
    "to HEAD": valid(b"HTTP/1.1 200 OK\nContent-Length: 19", method="HEAD", body=b""),
    "to HEAD, chunked": valid(b"HTTP/1.1 200 OK\nTransfer-Encoding: chunked", method="HEAD", body=b""),
    "behind informational ones": valid(
        b"HTTP/1.1 202 Accepted\nContent-Length: 19",
        TEXT,
        status=202,
        early=b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
    ),
    "gzip": valid(b"HTTP/1.1 200 OK\nContent-Encoding: gzip\nContent-Length: %d" % len(PACKED), PACKED),
    "gzip, chunked": valid(
        b"HTTP/1.1 200 OK\nContent-Encoding: gzip\nTransfer-Encoding: chunked", chunked(PACKED[:5], PACKED[5:])
    ),
    "raw deflate": valid(
        b"HTTP/1.1 200 OK\nContent-Encoding: deflate\nTransfer-Encoding: chunked", chunked(raw_deflate(TEXT))
    ),
}  # fmt: skip


def splits(raw: bytes) -> Iterator[list[bytes]]:
    """Split in two at each place, into single bytes, and not at all."""
    yield [raw]
    for cut in range(1, len(raw)):
        yield [raw[:cut], raw[cut:]]
    yield [raw[at : at + 1] for at in range(len(raw))]


@pytest.mark.parametrize("response", VALID.values(), ids=VALID)
def test_a_response_split_at_any_place_is_the_same(
    library: ModuleType, trusting: ssl.SSLContext, response: Valid
) -> None:
    async def main() -> None:
        turns = splits(response.raw)

        async def behave(talk: Talk) -> None:
            while await talk.hear() is not None:
                for piece in next(turns):
                    await talk.say(piece)
                if response.ending == "closes":
                    return

        async with MemoryServer(behave) as server, make_transport(library, trusting, 1) as transport:
            for _ in range(len(response.raw) + 1):
                got = await transport.send(request(server.url, method=response.method))
                assert shown(got) == response.says
            assert len(server.heard) == len(response.raw) + 1

    run_in_memory(main)


PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "raw": raw_deflate,
}


@st.composite
def responses(draw: st.DrawFn) -> Valid:
    """Draw a valid response: a status, headers, a body, its packing and its framing."""
    body = draw(st.binary(max_size=3000))
    method = draw(st.sampled_from(["GET", "POST", "HEAD"]))
    status = draw(st.integers(200, 599).filter(lambda status: status not in (204, 304)))
    encoding = draw(st.sampled_from(["", "gzip", "deflate", "raw"]))
    packed = PACK[encoding](body)
    names = draw(st.lists(st.from_regex(r"X-[A-Za-z0-9!#$%&'*+.^_`|~-]{1,20}", fullmatch=True), max_size=5))
    values = st.from_regex(r"([!-~]([ -~]{0,40}[!-~])?)?", fullmatch=True)
    lines = [f"HTTP/1.1 {status} {draw(values)}", *(f"{name}: {draw(values)}" for name in names)]
    if encoding:
        lines.append(f"Content-Encoding: {'deflate' if encoding == 'raw' else encoding}")
    framing = draw(st.sampled_from(["length", "chunked", "closes"]))
    content = packed
    if framing == "length":
        lines.append(f"Content-Length: {len(packed)}")
    elif framing == "chunked":
        lines.append("Transfer-Encoding: chunked")
        cuts = sorted(draw(st.sets(st.integers(1, max(1, len(packed) - 1)), max_size=5)) & set(range(1, len(packed))))
        chunks = [packed[begin:end] for begin, end in zip([0, *cuts], [*cuts, len(packed)], strict=True)]
        content = chunked(*filter(None, chunks))
    early = b"HTTP/1.1 100 Continue\r\n\r\n" * draw(st.integers(0, 2))
    head = "\n".join(lines).encode()
    return valid(
        head,
        b"" if method == "HEAD" else content,
        early=early,
        body=b"" if method == "HEAD" else body,
        status=status,
        method=method,
        ending="closes" if framing == "closes" else "stays",
    )


@settings(max_examples=35, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(response=responses(), cuts=st.lists(st.floats(0, 1), max_size=8))
def test_any_response_split_anyhow_says_what_was_written(
    library: ModuleType, trusting: ssl.SSLContext, response: Valid, cuts: list[float]
) -> None:
    at = sorted({int(cut * len(response.raw)) for cut in cuts} | {0, len(response.raw)})
    pieces = [response.raw[begin:end] for begin, end in itertools.pairwise(at)]
    trial = attempt(library, trusting, pieces, response.ending, method=response.method)
    assert shown(trial.first) == response.says
    assert shown(trial.second) == OWN_SHOWN
    assert trial.heard == 2
    assert trial.left_open == 0


def test_a_reader_that_takes_one_piece_for_a_whole_response_breaks_the_law() -> None:
    # Without this one the pieces might be joined on the way, and the tests above would prove nothing.
    async def main() -> list[bytes]:
        async def behave(talk: Talk) -> None:
            await talk.hear()
            for piece in (b"HTTP/1.1 200 OK\r\nContent-", b"Length: 0\r\n\r\n"):
                await talk.say(piece)
            await talk.until_gone()

        async with MemoryServer(behave) as server:
            reads: list[bytes] = []

            class Naive(asyncio.Protocol):
                def connection_made(self, transport: asyncio.BaseTransport) -> None:
                    assert isinstance(transport, asyncio.Transport)
                    transport.write(b"GET / HTTP/1.1\r\n\r\n")

                def data_received(self, data: bytes) -> None:
                    reads.append(data)

            transport, _ = await asyncio.get_running_loop().create_connection(Naive, "127.0.0.1", server.port)
            await asyncio.sleep(0.1)
            transport.close()
            return reads

    assert run_in_memory(main) == [b"HTTP/1.1 200 OK\r\nContent-", b"Length: 0\r\n\r\n"]
