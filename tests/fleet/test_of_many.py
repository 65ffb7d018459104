"""What a run of very many servers costs the event loop and the garbage collector, and that it leaves nothing behind."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import anyio
import pytest

from bms_async import FleetReport, FleetRun, Outcome, OutcomeState
from bms_async.fleet.plan import Intake
from bms_async.fleet.sharded import CHUNK_SIZE, SHARDS, Queue, Table
from tests.fleet._helpers import states
from tests.support.clouds import simulated
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState


def visited_lists() -> dict[int, int]:
    """Return the lengths of the lists and tuples of outcomes that the collector visits, by what they are known by."""
    return {
        id(each): len(each)
        for each in gc.get_objects()
        if type(each) in (tuple, list) and each and type(each[0]) is Outcome
    }


def test_r9_the_collector_does_not_visit_outcomes_that_went_well() -> None:
    async def main() -> None:
        # Other tests of this process may have some.
        before = visited_lists()
        async with simulated(servers=3000, fail_share=0.02) as sim:
            report = await sim.bms.fleet.stop(sim.ids)
            tracked = [outcome for outcome in report.outcomes if gc.is_tracked(outcome)]
            assert {outcome.state for outcome in tracked} == {S.FAILED}
            assert len(tracked) == report.by_state[S.FAILED] == 60
            gc.collect()
            # What holds them is not visited either, once it has been visited for the first time.
            held = {known_by: size for known_by, size in visited_lists().items() if known_by not in before}
            assert sum(held.values()) < CHUNK_SIZE

    run_virtually(main)


@pytest.mark.parametrize("how", ["to its end", "let go", "with failures"])
def test_a_run_and_its_report_are_gone_when_nobody_holds_them(how: str) -> None:
    async def main() -> list[weakref.ref[Any]]:
        async with simulated(servers=3000, fail_share=0.1 if how == "with failures" else 0, job_seconds=(5, 60)) as sim:
            run = sim.bms.fleet.stop([*sim.ids, "no/id"])
            await advance(8)
            if how == "let go":
                run.cancel(detach=True)
            report = await run
            assert len(report) == 3001
            return [weakref.ref(run), weakref.ref(run._tracker)]

    left = run_virtually(main)
    gc.collect()
    assert [ref() for ref in left] == [None, None]


def test_a_report_whose_error_was_raised_by_its_owner_is_gone_when_nobody_holds_it() -> None:
    class MarkError(Exception):
        """Tells whether what holds it is still there: an outcome can hold nothing that has a weak reference itself."""

    async def look(sim: Any) -> weakref.ref[MarkError]:
        report: FleetReport = await sim.bms.fleet.stop(sim.ids)
        error = next(outcome.error for outcome in report.outcomes if outcome.error is not None)
        error.__context__ = mark = MarkError()
        try:
            # Its traceback holds this frame now, which holds the report, which holds the error.
            raise error
        except type(error):
            return weakref.ref(mark)

    async def main() -> None:
        async with simulated(servers=50, fail_share=0.2) as sim:
            left = await look(sim)
            gc.collect()
            assert left() is None

    run_virtually(main)


@pytest.mark.parametrize("how", ["let go", "closed"])
def test_r9_batches_that_are_let_go_together_are_gone_through_one_in_a_pass_of_the_loop(how: str) -> None:
    async def main() -> None:
        most = 0

        async def count(run: FleetRun) -> None:
            nonlocal most
            while run.report is None:
                before = run.progress.done
                await asyncio.sleep(0)
                most = max(most, run.progress.done - before)

        async with simulated(servers=8_000, job_seconds=(500, 600)) as sim:
            run = sim.bms.fleet.stop(sim.ids)
            await advance(30)
            assert run.progress.submitted == 8_000
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(count, run)
                await asyncio.sleep(0)
                if how == "let go":
                    run.cancel(detach=True)
                else:
                    tasks.start_soon(sim.bms.aclose)
                report = await run
            assert states(report.outcomes) == {S.UNKNOWN: 8_000}
            assert all(outcome.job_id for outcome in report.outcomes)
            assert most <= 1000

    run_virtually(main)


@pytest.mark.parametrize("kind", [list, set, dict.fromkeys, tuple])
def test_r9_a_call_reads_no_more_of_its_ids_than_takes_no_time(kind: Callable[..., Any]) -> None:
    async def main() -> None:
        async with simulated(servers=1) as sim:
            ids = kind(f"id-{number}" for number in range(20_000))
            run = sim.bms.fleet.stop(ids)
            before = run.progress
            run.cancel()
            counts = [before.done]
            while run.report is None:
                await asyncio.sleep(0)
                counts.append(run._tracker.intake.admitted)
            assert max(later - sooner for sooner, later in pairwise(counts)) <= 1000
            assert states((await run).outcomes) == {S.SKIPPED: 20_000}

    run_virtually(main)


def test_a_table_is_spread_over_small_parts() -> None:
    table: Table[str | None] = Table()
    for number in range(100_000):
        table[f"{number:08x}-1111-4222-8333-123456789abc"] = None if number % 2 else "odd"
    assert len(table) == 100_000
    assert max(map(len, table._shards)) < 2 * 100_000 / SHARDS
    assert table.get(f"{7:08x}-1111-4222-8333-123456789abc") is None
    assert table.get(f"{8:08x}-1111-4222-8333-123456789abc") == "odd"
    assert f"{7:08x}-1111-4222-8333-123456789abc" in table
    assert "another" not in table
    assert not any(gc.is_tracked(shard) for shard in table._shards)


def test_a_queue_gives_back_what_came_in_its_order_and_is_not_visited_by_the_collector() -> None:
    queue = Queue()
    taken: list[str] = []
    for number in range(2600):
        queue.append(f"id-{number}")
        if number % 700 == 699:
            taken += queue.pop(333)
    gc.collect()
    assert not any(gc.is_tracked(chunk) for chunk in queue._chunks)
    assert len(queue) == 2600 - 3 * 333
    while some := queue.pop(CHUNK_SIZE - 1):
        taken += some
    assert taken == [f"id-{number}" for number in range(2600)]
    assert len(queue) == 0


def test_very_many_entries_that_are_no_ids_are_each_refused() -> None:
    intake = Intake()
    refused = [invalid[0] for invalid in (intake.admit((number,)) for number in range(20_000)) if invalid is not None]
    assert len(set(refused)) == intake.admitted == 20_000
    assert intake.ready == 0
