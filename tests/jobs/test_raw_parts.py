"""R10: raw parts that are kept for later take little room, and each is there as long as it is needed."""

from __future__ import annotations

import uuid
from random import Random

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from bms_async.jobs.raw_parts import Block, is_stale, load, store, take_fingerprints

PARTS = [msgspec.Raw(b'{"n":%d}' % number) for number in range(60)]
FINGERPRINTS = list(take_fingerprints(PARTS))
PLACES = st.lists(st.integers(0, len(PARTS) - 1), max_size=20)


@given(steps=st.lists(st.tuples(PLACES, PLACES), max_size=30))
@settings(deadline=None)
def test_what_is_needed_is_there_and_little_else(steps: list[tuple[list[int], list[int]]]) -> None:
    blocks: tuple[Block, ...] = ()
    held: set[int] = set()
    for added, left in steps:
        new = {FINGERPRINTS[place]: PARTS[place] for place in added if FINGERPRINTS[place] not in held}
        held = (held | new.keys()) - {FINGERPRINTS[place] for place in left}
        blocks = store(blocks, {name: part for name, part in new.items() if name in held}, held)

        parts = load(blocks, held)
        assert {name: bytes(part) for name, part in parts.items()} == {
            name: bytes(PARTS[FINGERPRINTS.index(name)]) for name in held
        }
        assert not is_stale(blocks, len(held))
        assert len(blocks) <= 7


def test_equal_parts_have_equal_fingerprints_and_others_others() -> None:
    again = [msgspec.Raw(bytes(part)) for part in PARTS]

    assert list(take_fingerprints(again)) == FINGERPRINTS
    assert len(set(FINGERPRINTS)) == len(PARTS)


def test_what_is_stored_is_written_anew_once_little_of_it_is_needed() -> None:
    blocks = store((), dict(zip(FINGERPRINTS, PARTS, strict=True)), set(FINGERPRINTS))
    needed = set(FINGERPRINTS[:5])
    written = store(blocks, {}, needed)

    assert is_stale(blocks, len(needed))
    assert [len(block.fingerprints) for block in written] == [5]
    assert load(written, needed).keys() == needed


def test_nothing_is_stored_where_nothing_is_needed() -> None:
    blocks = store((), dict(zip(FINGERPRINTS, PARTS, strict=True)), set(FINGERPRINTS))

    assert store(blocks, {}, set()) == ()


def test_r10_parts_that_come_a_few_at_a_time_take_no_more_room_than_those_that_come_at_once() -> None:
    random = Random(1)
    texts = [uuid.UUID(int=random.getrandbits(128)) for _ in range(1000)]
    parts = [msgspec.Raw(b'{"status":"RUNNING","entities":{"server_id":"%b"}}' % str(text).encode()) for text in texts]
    fingerprints = list(take_fingerprints(parts))
    blocks: tuple[Block, ...] = ()
    for start in range(0, 1000, 20):
        some = slice(start, start + 20)
        new = dict(zip(fingerprints[some], parts[some], strict=True))
        blocks = store(blocks, new, set(fingerprints[: start + 20]))
    at_once = store((), dict(zip(fingerprints, parts, strict=True)), set(fingerprints))

    assert size_of(blocks) < 1.2 * size_of(at_once)
    assert len(at_once) == 1
    assert size_of(at_once) < sum(len(bytes(part)) for part in parts) / 2


def size_of(blocks: tuple[Block, ...]) -> int:
    return sum(len(block.compressed) for block in blocks)
