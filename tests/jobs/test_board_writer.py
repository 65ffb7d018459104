"""The order in which a job is claimed and handed back while the journal is slow."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import anyio

from bms_async.jobs.board_entry import BoardEntry, Unwritten
from bms_async.jobs.board_writer import BoardWriter
from bms_async.jobs.record import JobRecord
from bms_async.journal import ClaimedJobs, Journal, KeptJobRow
from tests.support.mocked import virtually

_JOB = "ff80808288d41e1b018990260955686a"


_ROW = KeptJobRow(job=_JOB, fence=1, sequence=0, is_followed=False, is_ended=False, blocks=[])


class _SlowJournal:
    """Takes its time, and notes what it was asked for."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    async def run(self, transaction: Any, *_: object, **__: object) -> Any:
        self.asked.append(transaction.__name__)
        await anyio.sleep(1.0)
        return ClaimedJobs(number=0, is_wanted=False, jobs={_JOB: _ROW})

    def notify(self) -> None:
        """Wake nobody."""


class _Entry(BoardEntry):
    """A job of which nothing is new."""

    __slots__ = ()

    def unwritten(self) -> Unwritten:
        return Unwritten(events=[], subs={}, before=0, ends=0, status=None, is_end=False)


@virtually
async def test_a_job_that_is_needed_again_before_it_was_handed_back_is_kept() -> None:
    journal, forgotten = _SlowJournal(), list[BoardEntry]()

    async def on_claimed(entry: BoardEntry, row: KeptJobRow, number: int, asked_at: float) -> None:
        entry.fence = 1

    record = SimpleNamespace(job_id=_JOB, action=None, servers=(), finished=False, error=None)
    entry = _Entry(cast("JobRecord", record))
    writer = BoardWriter(
        cast("Journal", journal),
        "me",
        clock=anyio.current_time,
        place=lambda: "here",
        on_claimed=on_claimed,
        on_wanted=lambda is_wanted: None,
        forget=forgotten.append,
    )
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(writer.run)
        writer.claim(entry)
        await anyio.sleep(0.5)
        assert journal.asked == ["claim_jobs"]
        writer.release(entry)
        writer.claim(entry)
        await anyio.sleep(10.0)
        tasks.cancel_scope.cancel()
    assert (forgotten, entry.fence, entry.is_released) == ([], 1, False)
