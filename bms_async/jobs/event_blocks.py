"""Blocks of events as a journal has them, read back."""

from __future__ import annotations

from collections.abc import Sequence

from bms_async._threads import run_in_thread
from bms_async.journal import EventBlock, Journal
from bms_async.journal.transactions.events import read_blocks_of
from bms_async.models import SubJob

from .events import JobEvent
from .packed_events import refers_back, unpack_events

_UNPACKED_IN_THREAD = 2**14


async def unpack_block(journal: Journal, place: str, block: EventBlock) -> list[JobEvent]:
    """Return the events of a block, and read those before it where the end of its job refers to them.

    Args:
        journal: The journal.
        place: The endpoint and the project.
        block: The block.

    Raises:
        JournalError: It is not what this version writes, or the journal cannot be read.
    """
    if not refers_back(block.body):
        (events,) = await unpack_blocks([block])
        return events
    blocks = await journal.run(read_blocks_of, place, block.job, writes=False)
    before = [each for each in blocks if each.number < block.number]
    return (await unpack_blocks([*before, block]))[-1]


async def unpack_blocks(blocks: Sequence[EventBlock]) -> list[list[JobEvent]]:
    """Return the events of each block, in a thread if that takes long.

    Args:
        blocks: All blocks of a job, up to one of them, in their order.

    Raises:
        JournalError: One is not what this version writes.
    """
    if sum(len(block.body) for block in blocks) < _UNPACKED_IN_THREAD:
        return _unpack(blocks)
    return await run_in_thread(_unpack, blocks)


def _unpack(blocks: Sequence[EventBlock]) -> list[list[JobEvent]]:
    subs: list[SubJob] = []
    return [list(unpack_events(block.job, block.body, subs)) for block in blocks]
