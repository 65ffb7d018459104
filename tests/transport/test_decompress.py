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


def unpacked(encoding: str, packed: bytes, step: int) -> bytes:
    unpack = make_decompressor(encoding)
    assert unpack is not None
    parts = [packed[start : start + step] for start in range(0, len(packed), step)]
    body = b"".join(piece for part in parts for piece in unpack.feed(part))
    unpack.finish()
    return body


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_deflate_without_its_header_may_be_cut_anywhere_too(step: int) -> None:
    squeeze = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    packed = squeeze.compress(b"text") + squeeze.flush()
    assert unpacked("deflate", packed, step) == b"text"


@pytest.mark.parametrize("padding", [b"", b"\0" * 20])
@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_body_of_several_members_is_read_to_the_last_one(step: int, padding: bytes) -> None:
    members = [gzip.compress(text) for text in (b"one", b"", b"two")]
    assert unpacked("gzip", b"".join(members) + padding, step) == b"onetwo"


@pytest.mark.parametrize("step", [1, 7, 1000])
def test_a_last_member_that_is_cut_off_or_no_member_is_an_error(step: int) -> None:
    member = gzip.compress(b"one")
    for rest in (member[:1], member[:-1], b"zzzz"):
        with pytest.raises(zlib.error):
            unpacked("gzip", member + rest, step)


def test_a_body_of_one_byte_is_no_body_of_deflate() -> None:
    with pytest.raises(zlib.error):
        unpacked("deflate", b"\xab", 1)


def test_a_body_that_holds_nothing_however_long_it_is_makes_no_chunks() -> None:
    unpack = make_decompressor("deflate")
    assert unpack is not None
    empty_block = b"\0\0\0\xff\xff"
    assert list(unpack.feed(b"\x78\x9c" + empty_block * 10_000)) == []
