"""A batch goes on by steps, which only its owner makes, and which do no harm if they are made twice."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from bms_async.journal import BatchState, Claim, Counts, JournalStore, KeptBatch, NewBlock, RunStatus, Step
from bms_async.journal.transactions import steps
from tests.journal._desk import Desk, make_batch, make_block, opened

Made = Callable[[Desk, Claim], Awaitable[Step]]


async def _waiting(desk: Desk) -> KeptBatch:
    return await desk.claim_one()


async def _sending(desk: Desk) -> KeptBatch:
    kept = await desk.claim_one()
    assert await desk.mark_sending(kept.claim) is Step.MADE
    return kept


async def _watching(desk: Desk) -> KeptBatch:
    return await desk.send()


async def _merges(desk: Desk, claim: Claim) -> Step:
    return await desk.run(steps.merge, claim, (), b"\x01", b"", 10)


STEPS: dict[str, tuple[Callable[[Desk], Awaitable[KeptBatch]], Made]] = {
    "sending": (_waiting, lambda desk, claim: desk.mark_sending(claim)),
    "waiting": (_sending, lambda desk, claim: desk.mark_waiting(claim)),
    "watching": (_sending, lambda desk, claim: desk.mark_watching(claim)),
    "outcomes": (_watching, lambda desk, claim: desk.add(claim, 1, make_block(succeeded=4, failed=1))),
    "merged": (_waiting, _merges),
    "done": (_watching, lambda desk, claim: desk.finish(claim, make_block(succeeded=10))),
    "skipped": (_waiting, lambda desk, claim: desk.finish(claim, make_block(skipped=10))),
    "split": (
        _sending,
        lambda desk, claim: desk.finish(claim, make_block(), make_batch(5, rank=0), make_batch(5, rank=0), splits=2),
    ),
}


@pytest.mark.parametrize("name", STEPS)
async def test_a_step_that_is_made_twice_is_written_down_once(desk: Desk, name: str) -> None:
    before, make = STEPS[name]
    run, _ = await desk.begin(make_batch(10))
    claim = (await before(desk)).claim
    assert await make(desk, claim) is Step.MADE
    await desk.check(run.id)
    # A request that leaves once more has its lease renewed, which changes nothing else.
    lease = "UPDATE bms_async_batches SET lease = 0 WHERE run = $1"
    await desk.sql(lease, run.id)
    once = await desk.everything(run.id)
    assert await make(desk, claim) is Step.MADE
    await desk.sql(lease, run.id)
    assert await desk.everything(run.id) == once


@pytest.mark.parametrize("name", STEPS)
async def test_whoever_has_lost_a_batch_changes_nothing(desk: Desk, name: str) -> None:
    before, make = STEPS[name]
    run, _ = await desk.begin(make_batch(10))
    kept = await before(desk)
    state, _, _ = await desk.state(kept.claim)
    await desk.expire(kept.claim)
    other = desk.another()
    if state is BatchState.WAITING:
        await other.take_over()
        await other.claim_one()
    else:
        await other.take_over()
    rows = await desk.everything(run.id)
    strangers = [
        kept.claim,
        Claim(run=run.id, number=0, owner=other.owner, fence=1),
        Claim(run=run.id, number=0, owner=desk.owner, fence=(await desk.state(kept.claim))[2]),
    ]
    for claim in strangers:
        assert await make(desk, claim) is Step.LOST
        assert await desk.everything(run.id) == rows


@pytest.mark.parametrize("name", STEPS)
async def test_a_batch_that_was_handed_back_goes_on_only_by_a_new_claim(desk: Desk, name: str) -> None:
    before, make = STEPS[name]
    run, _ = await desk.begin(make_batch(10))
    claim = (await before(desk)).claim
    await desk.hand_back()
    rows = await desk.everything(run.id)
    if (await desk.state(claim))[0] is BatchState.WAITING:
        assert await make(desk, claim) is Step.LOST
        assert await desk.everything(run.id) == rows
    else:
        # Nobody else has it yet, and what is known of it is better written down than not.
        assert await make(desk, claim) is Step.MADE


@pytest.mark.parametrize("status", [RunStatus.PAUSED, RunStatus.CANCELLED])
async def test_nothing_is_sent_any_more_once_a_run_is_stopped(desk: Desk, status: RunStatus) -> None:
    run, _ = await desk.begin(make_batch(10))
    kept = await desk.claim_one()
    await desk.set_status(run.id, status)
    rows = await desk.everything(run.id)
    assert await desk.mark_sending(kept.claim) is Step.STOPPED
    assert await desk.everything(run.id) == rows


@pytest.mark.parametrize("status", [RunStatus.PAUSED, RunStatus.CANCELLED])
async def test_what_is_to_be_sent_once_more_is_not_once_a_run_is_stopped(desk: Desk, status: RunStatus) -> None:
    run, _ = await desk.begin(make_batch(10))
    kept = await _sending(desk)
    await desk.set_status(run.id, status)
    await desk.expire(kept.claim)
    rows = await desk.everything(run.id)
    assert await desk.mark_sending(kept.claim, is_first=False) is Step.STOPPED
    assert await desk.everything(run.id) == rows


@pytest.mark.parametrize("status", [RunStatus.PAUSED, RunStatus.CANCELLED])
async def test_what_was_sent_goes_on_to_its_end_whatever_becomes_of_the_run(desk: Desk, status: RunStatus) -> None:
    run, _ = await desk.begin(make_batch(10), make_batch(10))
    kept, refused = await _sending(desk), await _sending(desk)
    await desk.set_status(run.id, status)
    assert await desk.mark_watching(kept.claim) is Step.MADE
    assert await desk.finish(kept.claim, make_block(succeeded=10)) is Step.MADE
    assert await desk.mark_waiting(refused.claim) is Step.MADE
    assert await desk.mark_sending(refused.claim) is Step.STOPPED
    await desk.check(run.id)


async def test_sending_is_counted_once_a_server_and_gives_the_lease_its_whole_time(desk: Desk) -> None:
    run, _ = await desk.begin(make_batch(10))
    kept = await desk.claim_one()
    await desk.sql("UPDATE bms_async_batches SET lease = bms_now() + 1 WHERE run = $1", run.id)
    await desk.mark_sending(kept.claim)
    ((left, details),) = await desk.sql(
        "SELECT lease - bms_now() > 5, details FROM bms_async_batches WHERE run = $1", run.id
    )
    assert (bool(left), details) == (True, b"sent")
    await desk.mark_waiting(kept.claim)
    await desk.mark_sending(kept.claim, is_first=False)
    assert (await desk.read(run.id)).submitted == 10


async def test_outcomes_come_in_blocks_that_are_numbered_and_counted(desk: Desk) -> None:
    run, _ = await desk.begin(make_batch(10))
    claim = (await desk.send()).claim
    assert await desk.add(claim, 2, make_block(succeeded=1)) is Step.LOST
    first = NewBlock(counts=Counts(succeeded=2, unchanged=1), body=b"first", extra_calls=3)
    assert await desk.add(claim, 1, first) is Step.MADE
    assert await desk.add(claim, 2, make_block(failed=1)) is Step.MADE
    assert await desk.add(claim, 1, first) is Step.LOST
    assert await desk.finish(claim, make_block(unknown=2, skipped=4)) is Step.MADE
    kept = await desk.read(run.id)
    assert kept.counts == Counts(succeeded=2, unchanged=1, failed=1, unknown=2, skipped=4)
    assert (kept.number, kept.in_flight, kept.accepted, kept.extra_calls) == (3, 0, 1, 3)
    assert kept.ended is not None
    assert [(each.number, each.servers) for each in await desk.blocks(run.id)] == [(1, 3), (2, 1), (3, 6)]
    assert [each.number for each in await desk.blocks(run.id, since=1)] == [2, 3]
    await desk.check(run.id)


async def test_the_next_worker_is_given_the_outcomes_that_the_batch_has(desk: Desk) -> None:
    await desk.begin(make_batch(10), make_batch(10))
    kept, other_batch = await desk.send(), await desk.send()
    await desk.add(other_batch.claim, 1, make_block(failed=1))
    await desk.add(kept.claim, 1, make_block(succeeded=4))
    await desk.expire(kept.claim)
    (taken,) = await desk.another().take_over()
    assert (taken.sequence, taken.servers, taken.ids) == (1, 6, kept.ids)
    assert [each.servers for each in await desk.run(steps.read_blocks_of_batch, taken.claim)] == [4]


async def test_an_end_without_outcomes_writes_no_block(desk: Desk) -> None:
    run, _ = await desk.begin(make_batch(10))
    kept = await _sending(desk)
    assert await desk.finish(kept.claim, make_block(), make_batch(10, rank=1)) is Step.MADE
    assert await desk.blocks(run.id) == []
    await desk.check(run.id)


async def test_a_batch_that_ended_leaves_no_ids_behind(desk: Desk) -> None:
    run, _ = await desk.begin(make_batch(1000))
    await desk.finish((await desk.send()).claim, make_block(succeeded=1000))
    ((size,),) = await desk.sql("SELECT length(ids) + length(details) FROM bms_async_batches WHERE run = $1", run.id)
    assert size == 0


@pytest.mark.parametrize(("bad", "aborts"), [(4, False), (5, True)])
async def test_a_run_is_aborted_once_more_fail_than_it_allows(desk: Desk, bad: int, aborts: bool) -> None:
    run, _ = await desk.begin(make_batch(20), make_batch(20), abort_above=0.2, abort_sample=20)
    kept = await desk.send()
    assert await desk.add(kept.claim, 1, make_block(failed=bad)) is Step.MADE
    assert (await desk.read(run.id)).status is RunStatus.OPEN, "too few have ended"
    waiting = await desk.claim_one()
    await desk.finish(kept.claim, make_block(succeeded=20 - bad - 1, unchanged=1))
    found = await desk.read(run.id)
    assert found.status is (RunStatus.ABORTED if aborts else RunStatus.OPEN)
    assert await desk.mark_sending(waiting.claim) is (Step.STOPPED if aborts else Step.MADE)
    if aborts:
        assert found.aborted == "5 of 20 servers failed or are unknown, which is more than 20%"
        await desk.hand_back()
        (skipped,) = await desk.claim_unsendable(run.id)
        assert skipped.aborted == found.aborted


async def test_skipped_servers_count_for_no_abort_and_a_cancelled_run_stays_cancelled(desk: Desk) -> None:
    run, _ = await desk.begin(make_batch(10), make_batch(10), abort_above=0.0)
    first, second = await desk.send(), await desk.send()
    await desk.add(first.claim, 1, make_block(skipped=9))
    assert (await desk.read(run.id)).status is RunStatus.OPEN
    await desk.set_status(run.id, RunStatus.CANCELLED)
    await desk.finish(second.claim, make_block(failed=10))
    assert (await desk.read(run.id)).status is RunStatus.CANCELLED


async def test_children_are_due_after_their_delay_and_stay_in_flight(desk: Desk) -> None:
    run, _ = await desk.begin(make_batch(10), make_batch(10), wave=10)
    kept = await _sending(desk)
    await desk.finish(kept.claim, make_block(failed=4), make_batch(6, delay=300.0))
    assert (await desk.read(run.id)).in_flight == 6
    assert await desk.claim() == []
    await desk.sql("UPDATE bms_async_batches SET due = 0 WHERE run = $1 AND number = 2", run.id)
    assert (await desk.claim_one()).servers == 6


async def test_numbers_of_blocks_become_visible_in_their_order(
    desk: Desk, make_store: Callable[[], JournalStore]
) -> None:
    workers, batches = 4, 32
    run, _ = await desk.begin(*(make_batch(1) for _ in range(batches)))
    async with AsyncExitStack() as stack:
        desks = [desk.another(await stack.enter_async_context(opened(make_store()))) for _ in range(workers)]

        async def work(each: Desk) -> None:
            while found := await each.claim(run.id):
                await each.mark_sending(found[0].claim)
                await each.finish(found[0].claim, make_block(succeeded=1))

        seen: list[int] = []

        async def read() -> None:
            while len(seen) < batches:
                seen.extend(block.number for block in await desk.blocks(run.id, seen[-1] if seen else 0))

        await asyncio.gather(read(), *map(work, desks))
    assert seen == list(range(1, batches + 1))
    await desk.check(run.id)
