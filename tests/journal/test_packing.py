"""Ids in little room come back as they were; and the same ids are the same whatever their order and batches."""

from __future__ import annotations

import uuid
from random import Random
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async.errors import JournalError
from bms_async.journal import digest_ids, pack_ids, unpack_ids

uuids = st.uuids().map(str)
# With halves of surrogate pairs, as a name of a file has that is not UTF-8.
texts = st.text(st.characters(exclude_categories=()), max_size=40)
anything = st.one_of(uuids, texts, st.text("0123456789abcdef-", min_size=36, max_size=36))


@given(st.lists(anything, max_size=6))
def test_ids_come_back_as_they_were(ids: list[str]) -> None:
    assert unpack_ids(pack_ids(ids)) == ids


def test_a_uuid_takes_16_bytes() -> None:
    ids = [str(uuid.UUID(int=number << 64 | 7)) for number in range(1000)]
    assert len(pack_ids(ids)) == 16 * 1000 + 1
    assert unpack_ids(pack_ids([*ids, "srv-1"])) == [*ids, "srv-1"]


@given(st.lists(uuids, unique=True, max_size=12), st.randoms(use_true_random=False), st.integers(1, 5))
def test_the_digest_of_the_same_ids_is_the_same_in_any_order_and_any_batches(
    ids: list[str], random: object, size: int
) -> None:
    shuffled = list(ids)
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    batches = [pack_ids(shuffled[start : start + size]) for start in range(0, len(ids), size)]
    assert digest_ids(batches) == digest_ids([pack_ids(ids)] if ids else [])
    assert digest_ids([*batches, pack_ids([str(uuid.UUID(int=1))])]) != digest_ids(batches)


@pytest.mark.parametrize("data", [b"", b"\x01123", b"\x02no zlib", b"\x09" + bytes(16), pack_ids(["a"])[:-2]])
def test_bytes_of_another_version_are_refused(data: bytes) -> None:
    with pytest.raises(JournalError, match="expected what this version writes"):
        unpack_ids(data)


RANDOM = Random(1)
UUIDS = [str(UUID(int=RANDOM.getrandbits(128))) for _ in range(50)]
DIGITS = [each.replace("-", "") for each in UUIDS]
FIRST, SECOND = UUIDS[:2]


@pytest.mark.parametrize(
    "ids",
    [
        [],
        UUIDS,
        DIGITS,
        [*UUIDS, *DIGITS],
        ["server-1", "7"],
        [FIRST.upper()],
        [DIGITS[0].upper()],
        # As long together, with the same hyphens in the same places.
        [FIRST[:-1], FIRST[-1] + SECOND],
        [FIRST[:9] + "-" + FIRST[10:], SECOND],
        [FIRST.replace("-", " ", 1)],
        [DIGITS[0][:-2] + "  ", DIGITS[1]],
        ["é" * 32],
        ["-" * 36],
    ],
)
def test_what_was_packed_is_unpacked(ids: list[str]) -> None:
    assert unpack_ids(pack_ids(ids)) == ids


@pytest.mark.parametrize("ids", [UUIDS, DIGITS])
def test_an_id_takes_16_bytes(ids: list[str]) -> None:
    assert len(pack_ids(ids)) == 1 + 16 * len(ids)


def test_the_same_servers_have_the_same_digest_in_whatever_batches_they_are() -> None:
    ids = [*UUIDS, *DIGITS, "server-1"]
    mixed = [ids[-1], *ids[:-1]]
    alone = [pack_ids(UUIDS), pack_ids(DIGITS), pack_ids(["server-1"])]
    assert digest_ids([pack_ids(mixed)]) == digest_ids(alone)
    assert digest_ids([pack_ids(mixed[:-1])]) != digest_ids(alone)
