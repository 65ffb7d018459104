"""The parser by itself: pieces of any size, and bounds on what is no body."""

from __future__ import annotations

import math

import pytest

from bms_async.transport._parser import MAX_HEAD, ResponseParser, parse_keep_alive, try_parser

WHOLE = {
    "a length": b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nX: y \t\r\n\r\nHello",
    "chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nX: y\r\n\r\n2\r\nHe\r\n3\r\nllo\r\n0\r\nT: u\r\n\r\n",
    "early hints": b"HTTP/1.1 103 Early\r\nX: z\r\n\r\nHTTP/1.1 200 OK\r\nX: y\r\nContent-Length: 5\r\n\r\nHello",
    "the end": b"HTTP/1.1 200 OK\r\nX: y\r\n\r\nHello",
}


def parsed(pieces: list[bytes], max_bytes: int = 100) -> ResponseParser:
    parser = ResponseParser(max_bytes)
    for piece in pieces:
        parser.feed(piece)
    return parser


@pytest.mark.parametrize("whole", WHOLE.values(), ids=WHOLE)
@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
def test_a_response_is_the_same_in_pieces_of_any_size(whole: bytes, size: int) -> None:
    parser = parsed([whole[start : start + size] for start in range(0, len(whole), size)])
    parser.end(clean=True)
    assert (parser.status, bytes(parser.content), parser.complete, parser.problem) == (200, b"Hello", True, None)
    assert ("X", "y") in parser.headers
    assert ("X", "z") not in parser.headers


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("a length", "RemoteProtocolError: the response body is incomplete or malformed"),
        ("chunks", "RemoteProtocolError: the response body is incomplete or malformed"),
        ("early hints", "RemoteProtocolError: the response body is incomplete or malformed"),
    ],
)
def test_a_response_that_ends_early_is_not_one(name: str, problem: str) -> None:
    for cut in range(1, len(WHOLE[name])):
        parser = parsed([WHOLE[name][:cut]])
        parser.end(clean=True)
        assert not parser.complete
        if parser.status:
            assert parser.problem == problem
        else:
            expected = "RemoteProtocolError: the server closed the connection without a complete response"
            assert parser.problem == expected


def test_a_body_without_a_length_is_whole_only_if_the_connection_was_closed_in_order() -> None:
    for clean in (True, False):
        parser = parsed([WHOLE["the end"]])
        parser.end(clean=clean)
        assert parser.complete is clean


ENDLESS = {
    "a status line": (b"HTTP/1.1 200 ", b"x"),
    "a name": (b"HTTP/1.1 200 OK\r\n", b"x"),
    "a value": (b"HTTP/1.1 200 OK\r\nX: ", b"y"),
    "headers": (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
    "a trailer": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: ", b"y"),
    "trailers": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", b"X: y\r\n"),
    "an extension": (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5;", b"x"),
}


@pytest.mark.parametrize(("begin", "more"), ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("size", [100, 50_000])
def test_what_is_no_body_is_bounded_in_all(begin: bytes, more: bytes, size: int) -> None:
    parser = parsed([begin])
    fed = 0
    while parser.problem is None:
        assert fed <= MAX_HEAD + size
        piece = more * (size // len(more))
        parser.feed(piece)
        fed += len(piece)
    assert fed > MAX_HEAD - size
    assert parser.problem.startswith("RemoteProtocolError: ")


def test_a_head_that_comes_at_once_is_not_read_beyond_its_bound() -> None:
    read: list[bytes] = []

    class Counts(ResponseParser):
        def on_header(self, name: bytes, value: bytes) -> None:
            read.append(name)
            super().on_header(name, value)
            assert len(self.headers) <= MAX_HEAD // 4

    counting = Counts(1000)
    counting.feed(b"HTTP/1.1 200 OK\r\n" + b"x:y\r\n" * 50_000)
    assert len(read) > MAX_HEAD // 4
    assert counting.problem is not None
    assert counting.headers == []


@pytest.mark.parametrize("size", [MAX_HEAD - 200, MAX_HEAD + 200])
def test_a_head_that_comes_at_once_with_much_of_its_body_is_bounded_alike(size: int) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\nX: %b\r\n\r\n" % (b"y" * size)
    parser = parsed([head + b"x" * 100_000], 200_000)
    assert parser.complete is (size < MAX_HEAD)
    assert (parser.problem is None) is parser.complete


def test_headers_that_come_twice_count_together() -> None:
    head = (
        b"HTTP/1.1 200 OK\r\nConnection: x\r\nKeep-Alive: max=3\r\nConnection: close\r\nkeep-alive: timeout=9\r\n\r\n"
    )
    parser = ResponseParser(100)
    parser.expect(bodiless=True)
    parser.feed(head)
    assert (parser.complete, parser.keep_alive, parser.idle_limit) == (True, False, 8.0)
    assert len(parser.headers) == 4


def test_a_body_of_single_bytes_takes_no_more_memory_than_its_bytes() -> None:
    parser = parsed([b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", *[b"1\r\nx\r\n"] * 1000], 1000)
    assert isinstance(parser.content, bytearray)
    assert parser.content == b"x" * 1000
    parser.feed(b"1\r\nx\r\n")
    assert parser.is_too_large


@pytest.mark.parametrize(
    "response",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n{}",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n{}",
        b"HTTP/1.1 000 Nothing\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 20 OK\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/1.1 200 OK\nContent-Length: 2\n\n{}",
        b"HTTP/1.1 200 OK\r\nX: a\r\n b\r\nContent-Length: 2\r\n\r\n{}",
        b"HTTP/7.1 200 OK\r\nContent-Length: 2\r\n\r\n{}",
    ],
    ids=[
        "twice",
        "two kinds",
        "a long length",
        "below zero",
        "no status",
        "two digits",
        "no CR",
        "folded",
        "a version",
    ],
)
def test_what_can_be_read_in_two_ways_is_not_read(response: bytes) -> None:
    parser = parsed([response])
    assert (parser.problem, parser.complete) == ("RemoteProtocolError: the response is not HTTP", False)


def test_what_is_raised_for_the_program_is_not_swallowed_by_the_parser(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(ResponseParser, "on_headers_complete", interrupted)
    with pytest.raises(KeyboardInterrupt):
        parsed([WHOLE["a length"]])


@pytest.mark.parametrize(
    ("header", "seconds"),
    [("timeout=5", 4.0), ("max=100, Timeout=5", 4.0), ("timeout=soon", math.inf), ("yes", math.inf), ("", math.inf)],
)
def test_what_a_server_announces_is_taken_less_a_second(header: str, seconds: float) -> None:
    assert parse_keep_alive(header) == seconds


def test_the_installed_parser_does_what_is_expected_of_it() -> None:
    try_parser()
