"""Ids in little room: 16 bytes a server, where all of a batch are UUIDs."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec

from bms_async.errors import JournalError

_UUIDS = b"\x01"
_TEXTS = b"\x02"
_BYTES = 16
_CHARACTERS = 36
_HYPHENS = (8, 13, 18, 23)
_LEVEL = 1
"""What zlib gains beyond its fastest level is not worth the time."""

_MASK = (1 << 64) - 1


def pack_ids(ids: Sequence[str]) -> bytes:
    """Return ids as bytes.

    Args:
        ids: The ids, in the form of `models.ids.canonical_id`.
    """
    packed = _pack_uuids(ids)
    if packed is not None:
        return _UUIDS + packed
    return _TEXTS + zlib.compress(msgspec.msgpack.encode(ids), _LEVEL)


def unpack_ids(data: bytes) -> list[str]:
    """Return the ids that `pack_ids` packed.

    Raises:
        JournalError: The bytes are not what it returns.
    """
    kind, packed = data[:1], data[1:]
    try:
        if kind == _UUIDS and not len(packed) % _BYTES:
            return _unpack_uuids(packed)
        if kind == _TEXTS:
            return msgspec.msgpack.decode(zlib.decompress(packed), type=list[str])
    except (zlib.error, msgspec.DecodeError) as error:
        raise JournalError(f"the ids of a batch: expected what this version writes, got {error}") from error
    raise JournalError(
        f"the ids of a batch: expected what this version writes, got {len(data)} bytes of kind {kind.hex()!r}; update "
        "bms_async here, or put back a copy of the journal"
    )


def digest_ids(batches: Sequence[bytes]) -> str:
    """Return what packed batches of the same ids have in common, in whatever order and batches the ids came.

    Args:
        batches: What `pack_ids` returned.
    """
    count = first = second = 0
    for packed in batches:
        data = packed[1:]
        if packed[:1] != _UUIDS:
            hashes = [_hash(text.encode()) for text in unpack_ids(packed)]
            data = b"".join(hashes)
        words = memoryview(data).cast("Q")
        count += len(words) // 2
        first += sum(words[::2])
        second += sum(words[1::2])
    return f"{count}:{first & _MASK:016x}{second & _MASK:016x}"


def _pack_uuids(ids: Sequence[str]) -> bytes | None:
    """Return ids as bytes; None if these would not become the very same ids again, whatever a cloud takes for one."""
    if set(map(len, ids)) - {_CHARACTERS}:
        return None
    joined = "".join(ids)
    digits = joined.replace("-", "")
    # So there is no other hyphen than these four.
    if len(digits) != 2 * _BYTES * len(ids) or any(set(joined[at::_CHARACTERS]) - {"-"} for at in _HYPHENS):
        return None
    try:
        packed = bytes.fromhex(digits)
    except ValueError:
        return None
    return packed if packed.hex() == digits else None


def _unpack_uuids(packed: bytes) -> list[str]:
    text = packed.hex()
    return [
        f"{text[at : at + 8]}-{text[at + 8 : at + 12]}-{text[at + 12 : at + 16]}-{text[at + 16 : at + 20]}-"
        f"{text[at + 20 : at + 32]}"
        for at in range(0, len(text), 32)
    ]


def _hash(data: bytes) -> bytes:
    from hashlib import blake2b  # noqa: PLC0415 - most clouds have UUIDs

    return blake2b(data, digest_size=_BYTES).digest()
