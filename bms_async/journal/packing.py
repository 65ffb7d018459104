"""Ids in little room: 16 bytes each, where all of a batch are UUIDs, or all are as long without hyphens."""

from __future__ import annotations

import zlib
from collections.abc import Sequence

import msgspec

from bms_async.errors import JournalError

from .records import COPY_ADVICE

_UUIDS = b"\x01"
_TEXTS = b"\x02"
_DIGITS = b"\x03"
_HALVES = b"\x04"
"""Texts of which one has half a surrogate pair, as a name of a file has that is not UTF-8."""
_BYTES = 16
_CHARACTERS = 36
_HYPHENS = (8, 13, 18, 23)
_PARTS = ((0, 0, 8), (9, 8, 4), (14, 12, 4), (19, 16, 4), (24, 20, 12))
"""Where each part of a UUID begins, with hyphens and without them, and its length."""
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
    packed = _pack_digits(ids)
    if packed is not None:
        return _DIGITS + packed
    try:
        return _TEXTS + zlib.compress(msgspec.msgpack.encode(ids), _LEVEL)
    except UnicodeEncodeError:
        return _HALVES + zlib.compress(msgspec.msgpack.encode([_encode(text) for text in ids]), _LEVEL)


def unpack_ids(data: bytes) -> list[str]:
    """Return the ids that `pack_ids` packed.

    Raises:
        JournalError: The bytes are not what it returns.
    """
    kind, packed = data[:1], data[1:]
    try:
        if kind == _UUIDS and not len(packed) % _BYTES:
            return _unpack_uuids(packed)
        if kind == _DIGITS and not len(packed) % _BYTES:
            text = packed.hex()
            return [text[at : at + 2 * _BYTES] for at in range(0, len(text), 2 * _BYTES)]
        if kind == _TEXTS:
            return msgspec.msgpack.decode(zlib.decompress(packed), type=list[str])
        if kind == _HALVES:
            texts = msgspec.msgpack.decode(zlib.decompress(packed), type=list[bytes])
            return [text.decode("utf-8", "surrogatepass") for text in texts]
    except (zlib.error, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise JournalError(f"the ids of a batch: expected what this version writes, got {error}") from error
    raise JournalError(
        f"the ids of a batch: expected what this version writes, got {len(data)} bytes of kind {kind.hex()!r}; update "
        f"bms_async here, {COPY_ADVICE}"
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
            # A UUID counts for the same wherever it is.
            data = b"".join(_pack_uuids([text]) or _hash(_encode(text)) for text in unpack_ids(packed))
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
    return _pack_hex(digits)


def _pack_digits(ids: Sequence[str]) -> bytes | None:
    return None if set(map(len, ids)) - {2 * _BYTES} else _pack_hex("".join(ids))


def _pack_hex(digits: str) -> bytes | None:
    try:
        packed = bytes.fromhex(digits)
    except ValueError:
        return None
    return packed if packed.hex() == digits else None


def _unpack_uuids(packed: bytes) -> list[str]:
    # All of a column at once, five times as fast as one id after another.
    digits, count = packed.hex().encode(), len(packed) // _BYTES
    text = bytearray(b"-" * _CHARACTERS + b" ") * count
    for start, begins, length in _PARTS:
        for at in range(length):
            text[start + at :: _CHARACTERS + 1] = digits[begins + at :: 2 * _BYTES]
    return text.decode().split()


def _encode(text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _hash(data: bytes) -> bytes:
    from hashlib import blake2b  # noqa: PLC0415 - most clouds have UUIDs

    return blake2b(data, digest_size=_BYTES).digest()
