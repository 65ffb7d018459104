"""Packed bodies are unpacked in pieces, and what does not end as it should is not taken for whole."""

from __future__ import annotations

import gzip
import zlib

import pytest

from bms_async.transport._decompress import CHUNK_SIZE, make_decompressor


def test_a_bomb_comes_in_pieces_that_fit() -> None:
    unpack = make_decompressor("gzip")
    assert unpack is not None
    pieces = unpack.feed(gzip.compress(b"\0" * 50 * CHUNK_SIZE))
    assert max(len(next(pieces)) for _ in range(20)) <= CHUNK_SIZE


@pytest.mark.parametrize("step", [1, 7, 1000])
@pytest.mark.parametrize("encoding", ["gzip", "X-GZip", "deflate"])
def test_a_body_may_be_cut_anywhere(encoding: str, step: int) -> None:
    text = bytes(range(256)) * 20
    packed = zlib.compress(text) if encoding == "deflate" else gzip.compress(text)
    unpack = make_decompressor(encoding)
    assert unpack is not None
    parts = [packed[start : start + step] for start in range(0, len(packed), step)]
    assert b"".join(piece for part in parts for piece in unpack.feed(part)) == text
    unpack.finish()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_half_a_body_is_an_error(encoding: str) -> None:
    packed = gzip.compress(b"text" * 100) if encoding == "gzip" else zlib.compress(b"text" * 100)
    unpack = make_decompressor(encoding)
    assert unpack is not None
    list(unpack.feed(packed[:-3]))
    with pytest.raises(zlib.error):
        unpack.finish()


@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_body_that_is_not_packed_so_is_an_error(encoding: str) -> None:
    unpack = make_decompressor(encoding)
    assert unpack is not None
    with pytest.raises(zlib.error):
        list(unpack.feed(b"\xff\xff\xff\xff"))


@pytest.mark.parametrize("encoding", [None, "", "identity", "br", "gzip, deflate"])
def test_what_was_not_asked_for_is_left_as_it_is(encoding: str | None) -> None:
    assert make_decompressor(encoding) is None
