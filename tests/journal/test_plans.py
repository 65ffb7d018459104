"""Plans of rollouts, in either store: one worker has one at a time, and takes each server of it once."""

from __future__ import annotations

import pytest

from bms_async.journal import BatchState, Counts, NewBlock, RunStatus, Step
from bms_async.journal.transactions import plans
from bms_async.journal.transactions.runs import delete_ended
from tests.journal._desk import Desk, make_block, make_plan

NOTHING = NewBlock(counts=Counts(), body=b"")


async def test_a_plan_is_carried_out_by_whoever_claimed_it_last_each_step_once(desk: Desk) -> None:
    run, is_new = await desk.begin(plan=[make_plan(4), make_plan(3)])
    assert is_new
    first = await desk.claim_plan()
    assert first is not None
    assert (first.state, first.servers, first.sequence) == (BatchState.PLANNING, 7, 0)
    assert await desk.another().claim_plan() is None
    assert await desk.release(first.claim, 1) is Step.MADE
    # As after a commit that was not confirmed.
    assert await desk.release(first.claim, 1) is Step.MADE
    await desk.expire(first.claim)
    second = await desk.another().claim_plan()
    assert second is not None
    assert (second.sequence, second.servers) == (1, 5)
    assert await desk.release(first.claim, 2) is Step.LOST
    assert await desk.run(plans.skip_planned, first.claim, 2, make_block(skipped=1)) is Step.LOST
    assert await desk.run(plans.abort_planned, first.claim, "why") is Step.LOST
    assert await desk.run(plans.note_standing, first.claim, b"noted") is Step.LOST
    assert await desk.run(plans.skip_planned, second.claim, 2, make_block(skipped=3)) is Step.MADE
    assert await desk.run(plans.note_standing, second.claim, b"noted") is Step.MADE
    await desk.check(run.id)
    kept = await desk.read(run.id)
    assert (kept.counts.skipped, kept.in_flight, kept.standing, kept.open_batches) == (3, 0, b"noted", 2)


@pytest.mark.parametrize("guarded", [True, False])
async def test_what_a_planner_releases_that_has_lost_its_plan_would_count_but_for_its_fence(
    desk: Desk, guarded: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    await desk.begin(plan=[make_plan(4)])
    first = await desk.claim_plan()
    assert first is not None
    await desk.expire(first.claim)
    assert await desk.another().claim_plan() is not None
    if not guarded:
        anybody = "run = $1 AND number = $2 AND CAST($3 AS text) <> '' AND CAST($4 AS bigint) >= 0"
        monkeypatch.setattr(plans, "IS_MINE", anybody)
    assert await desk.release(first.claim, 1) is (Step.LOST if guarded else Step.MADE)


async def test_no_more_servers_are_taken_from_a_plan_than_it_has(desk: Desk) -> None:
    await desk.begin(plan=[make_plan(3)])
    kept = await desk.claim_plan()
    assert kept is not None
    assert await desk.release(kept.claim, 1, 2) is Step.MADE
    assert await desk.release(kept.claim, 2, 2) is Step.LOST
    assert await desk.release(kept.claim, 2, 1) is Step.MADE


async def test_a_plan_says_whether_what_it_released_was_sent_and_in_which_parts_it_is(desk: Desk) -> None:
    run, _ = await desk.begin(plan=[make_plan(4), make_plan(3)])
    kept = await desk.claim_plan()
    assert kept is not None
    assert not await desk.run(plans.has_unsent, run.id)
    await desk.release(kept.claim, 1)
    assert await desk.run(plans.has_unsent, run.id)
    batch = await desk.claim_one()
    assert await desk.run(plans.has_unsent, run.id)
    await desk.mark_sending(batch.claim)
    assert not await desk.run(plans.has_unsent, run.id)
    assert await desk.run(plans.read_open_batches, run.id, 0, 10) == [(1, batch.ids)]
    parts = [await desk.run(plans.read_plan, run.id, after) for after in (-1, 0, 1)]
    assert [None if part is None else part.number for part in parts] == [0, 1, None]


async def test_nothing_is_released_in_a_pause_and_a_cancelled_plan_is_taken_from_whoever_has_it(desk: Desk) -> None:
    run, _ = await desk.begin(plan=[make_plan(3)])
    kept = await desk.claim_plan()
    assert kept is not None
    await desk.set_status(run.id, RunStatus.PAUSED)
    assert await desk.release(kept.claim, 1) is Step.STOPPED
    assert await desk.run(plans.seize_plan, run.id, "canceller") is None
    await desk.set_status(run.id, RunStatus.CANCELLED)
    seized = await desk.run(plans.seize_plan, run.id, "canceller")
    assert seized is not None
    assert await desk.release(kept.claim, 1) is Step.LOST
    assert await desk.run(plans.skip_planned, seized.claim, 1, make_block(skipped=3)) is Step.MADE
    assert await desk.finish(seized.claim, NOTHING) is Step.MADE
    assert await desk.run(plans.seize_plan, run.id, "canceller") is None
    await desk.check(run.id)
    assert (await desk.read(run.id)).ended is not None
    assert await desk.run(delete_ended, -1.0, desk.place) == 1
    assert await desk.run(plans.read_plan, run.id, -1) is None


async def test_a_batch_that_is_handed_back_with_a_delay_is_claimed_when_that_is_over(desk: Desk) -> None:
    run, _ = await desk.begin(plan=[make_plan(3)])
    kept = await desk.claim_plan()
    assert kept is not None
    await desk.release(kept.claim, 1)
    batch = await desk.claim_one()
    await desk.hand_back_one(batch.claim, 300.0)
    assert await desk.claim() == []
    assert not await desk.run(plans.has_unsent, run.id)
    await desk.sql("UPDATE bms_async_batches SET due = bms_wall() - 1 WHERE run = $1", run.id)
    assert (await desk.claim_one()).ids == batch.ids


async def test_how_many_servers_are_not_ready_is_known_for_as_long_as_leases_are_renewed(desk: Desk) -> None:
    run, _ = await desk.begin(plan=[make_plan(3)])
    kept = await desk.claim_plan()
    assert kept is not None
    await desk.release(kept.claim, 1)
    batch = await desk.send()
    await desk.renew(batch.claim, unready=[2])
    assert (await desk.read(run.id)).unready == 2
    await desk.expire(batch.claim)
    assert (await desk.read(run.id)).unready == 0
    assert (await desk.take_over())[0].claim.fence == 2
    assert (await desk.read(run.id)).unready == 0
