"""A time of day that is set back or forth: what is to be sent is sent."""

from __future__ import annotations

from pathlib import Path

import pytest

from bms_async.journal.sqlite import SqliteJournal
from tests.journal._desk import Desk, make_batch, make_block, opened

HOUR = 3600.0
WALL = 1_800_000_000.0


class Clock:
    """A time of day that somebody sets."""

    def __init__(self) -> None:
        self.shift = 0.0

    def __call__(self) -> float:
        return WALL + self.shift


@pytest.mark.parametrize("shift", [-HOUR, -1.0, HOUR])
async def test_what_was_never_sent_is_due_whatever_the_time_of_day_is_set_to(tmp_path: Path, shift: float) -> None:
    clock = Clock()
    async with opened(SqliteJournal(tmp_path / "runs.db", wall=clock)) as store:
        desk = Desk(store)
        run, _ = await desk.begin(make_batch(), make_batch())
        clock.shift = shift
        assert (await desk.claim_one()).claim.number == 0
        assert (await desk.claim_one()).claim.number == 1
        assert (await desk.read(run.id)).in_flight == 20


@pytest.mark.parametrize(
    ("shift", "is_due"), [(-HOUR, True), (-60.0, False), (0.0, False), (301.0, True), (HOUR, True)]
)
@pytest.mark.parametrize("grid", [0.0, 60.0])
async def test_deferred_servers_do_not_wait_for_hours_since_the_time_of_day_was_set_back(
    tmp_path: Path, shift: float, is_due: bool, grid: float
) -> None:
    clock = Clock()
    async with opened(SqliteJournal(tmp_path / "runs.db", wall=clock)) as store:
        desk = Desk(store)
        await desk.begin(make_batch())
        kept = await desk.send()
        await desk.finish(kept.claim, make_block(), make_batch(delay=240.0, grid=grid, rank=1))
        clock.shift = shift
        assert bool(await desk.claim()) is is_due
