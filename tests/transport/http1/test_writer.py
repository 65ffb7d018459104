"""Requests as bytes: written once in full, and remembered as far as they repeat."""

from __future__ import annotations

import gc

import pytest

from bms_async import TransportError
from bms_async.redaction import SecretBytes, SecretStr
from bms_async.transport._writer import _MAX_LINES, _MAX_REMEMBERED, RequestWriter
from tests.transport.http1._requests import request


def test_a_request_is_written_the_same_whether_its_headers_are_remembered_or_not() -> None:
    sent = request("http://x", "POST", headers={"X-Auth-Token": SecretStr("t")}, body=SecretBytes(b"{}"))
    writer = RequestWriter("bms.example.com")
    first, second = writer.write(sent, "/x"), writer.write(sent, "/x")
    assert first == second
    assert first[0] == (
        b"POST /x HTTP/1.1\r\nContent-Length: 2\r\nHost: bms.example.com\r\nAccept: */*\r\n"
        b"Accept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nX-Auth-Token: t\r\n\r\n{}"
    )
    assert "t" not in repr(first[0])


def test_the_length_is_that_of_each_request() -> None:
    writer = RequestWriter("x")
    lengths = [
        [line for line in writer.write(request("http://x", method, body=body), "/")[0].split(b"\r\n") if b"Len" in line]
        for method, body in (("GET", b""), ("POST", b"12"), ("POST", b""), ("DELETE", b"1"), ("HEAD", b""))
    ]
    assert lengths == [[], [b"Content-Length: 2"], [b"Content-Length: 0"], [b"Content-Length: 1"], []]


@pytest.mark.parametrize("method", ["GE T", "", "GET / HTTP/1.1\r\nX: y"])
def test_a_method_that_is_no_word_is_refused_however_often(method: str) -> None:
    writer = RequestWriter("x")
    writer.write(request("http://x"), "/")
    for _ in range(2):
        with pytest.raises(TransportError, match="LocalProtocolError"):
            writer.write(request("http://x", method), "/")


def test_r5_no_more_than_a_few_headers_are_remembered_and_none_when_all_is_forgotten() -> None:
    writer = RequestWriter("x")
    for number in range(_MAX_REMEMBERED + 5):
        writer.write(request("http://x", headers={"X-Auth-Token": SecretStr(f"kept by the writer {number}")}), "/")
    assert len(writer._heads) == _MAX_REMEMBERED
    assert "kept by" not in repr(writer) + repr(writer._heads)
    for number in range(_MAX_LINES):
        signature = SecretStr(f"signature {number}")
        writer.write(request("http://x", headers={"X-Sdk-Date": str(number), "Authorization": signature}), "/")
    assert len(writer._lines) <= _MAX_LINES
    kept = b"".join([*writer._lines.values(), *[head.lines for head in writer._heads.values()]])
    assert b"X-Sdk-Date" in kept
    assert b"signature" not in kept
    writer.forget()
    assert not [
        each for each in gc.get_objects() if isinstance(each, SecretBytes) and each.count(b"kept by the writer")
    ]
    assert (writer._heads, writer._lines) == ({}, {})


def test_a_signed_request_is_written_with_its_own_signature_and_kept_as_long_as_its_headers_say() -> None:
    writer = RequestWriter("x")
    for signature in ("one", "other"):
        for close, kept in (({"Connection": "close"}, False), ({"connection": "Close"}, False), ({}, True)):
            headers = {"Host": "y", "Authorization": SecretStr(signature), **close}
            data, keep = writer.write(request("http://x", headers=headers), "/")
            assert data.count(f"Authorization: {signature}\r\n".encode()) == data.count(b"Authorization") == 1
            assert (data.count(b"Host: y\r\n"), data.lower().count(b"host:")) == (1, 1)
            assert data.lower().count(b"connection:") == 1
            assert keep is kept


def test_a_header_that_is_invalid_is_refused_however_often_and_though_the_rest_is_known() -> None:
    writer = RequestWriter("x")
    writer.write(request("http://x", headers={"X": "1"}), "/")
    for _ in range(2):
        with pytest.raises(TransportError, match="header Authorization has characters"):
            writer.write(request("http://x", headers={"X": "1", "Authorization": "a\r\nb"}), "/")
