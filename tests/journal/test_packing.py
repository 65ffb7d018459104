"""Ids as bytes: the very same ones come back, and the same servers have the same digest."""

from __future__ import annotations

from random import Random
from uuid import UUID

import pytest

from bms_async.journal import digest_ids, pack_ids, unpack_ids

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
