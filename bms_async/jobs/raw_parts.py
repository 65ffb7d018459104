"""Raw parts of JSON that are kept for later, compressed together: they differ in little but their ids.

A block of parts is written anew, without those that are not needed any more, when it holds at most twice as many as
come after it, or when most of what is stored is not needed. So there are few blocks, no part is compressed more often
than some ten times, and what is stored is at most `_MAX_STALE` times what is needed.
"""

from __future__ import annotations

import zlib
from array import array
from collections.abc import Collection, Mapping
from typing import Final, NamedTuple, TypeAlias

import msgspec

Fingerprints: TypeAlias = "array[int]"
"""A number for each part: 8 bytes, and nothing for the garbage collector."""

_LEVEL: Final = 1
"""The fastest level of zlib, with which a part takes a fifth of its length."""

_MAX_STALE: Final = 3

_DECODER = msgspec.json.Decoder(list[msgspec.Raw])


class Block(NamedTuple):
    """Parts that were compressed together."""

    fingerprints: Fingerprints
    compressed: bytes


def take_fingerprints(parts: Collection[msgspec.Raw]) -> Fingerprints:
    """Return the fingerprint of each part, 64 bits of SipHash."""
    return array("q", map(hash, map(bytes, parts)))


def is_stale(blocks: Collection[Block], needed: int) -> bool:
    """Return whether most of what is stored is not needed.

    Args:
        blocks: The blocks.
        needed: How many parts are needed.
    """
    return sum(len(block.fingerprints) for block in blocks) > _MAX_STALE * needed


def store(blocks: tuple[Block, ...], new: Mapping[int, msgspec.Raw], needed: Collection[int]) -> tuple[Block, ...]:
    """Return blocks that hold all parts that are needed.

    Args:
        blocks: The blocks so far.
        new: Further parts, by fingerprint.
        needed: The fingerprints of all parts that are needed.
    """
    kept, parts = list(blocks), dict(new)
    writes_all = is_stale(blocks, len(needed))
    while kept and (writes_all or sum(map(needed.__contains__, kept[-1].fingerprints)) <= 2 * len(parts)):
        parts = load([kept.pop()], needed) | parts
    if parts:
        compressed = zlib.compress(b"[%b]" % b",".join(parts.values()), _LEVEL)
        kept.append(Block(array("q", parts), compressed))
    return tuple(kept)


def load(blocks: Collection[Block], needed: Collection[int]) -> dict[int, msgspec.Raw]:
    """Return the parts that are needed, by fingerprint."""
    return {
        fingerprint: part
        for block in blocks
        for fingerprint, part in zip(
            block.fingerprints, _DECODER.decode(zlib.decompress(block.compressed)), strict=True
        )
        if fingerprint in needed
    }
