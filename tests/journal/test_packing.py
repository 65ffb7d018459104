"""Ids in little room come back as they were; and the same ids are the same whatever their order and batches."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async.errors import JournalError
from bms_async.journal import digest_ids, pack_ids, unpack_ids

uuids = st.uuids().map(str)
anything = st.one_of(uuids, st.text(max_size=40), st.text("0123456789abcdef-", min_size=36, max_size=36))


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
