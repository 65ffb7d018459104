"""Who has a batch: one worker at a time, under a fence that grows, for as long as its lease counts."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack

import pytest

from bms_async.journal import BatchState, JournalStore, KeptBatch, RunStatus, Step
from bms_async.journal.transactions import claims
from tests.journal._desk import Desk, make_batch, make_block, opened

WORKERS = 4


@pytest.fixture
async def desks(desk: Desk, make_store: Callable[[], JournalStore]) -> AsyncIterator[list[Desk]]:
    """Several workers of one place, each with a store of its own."""
    async with AsyncExitStack() as stack:
        yield [desk.another(await stack.enter_async_context(opened(make_store()))) for _ in range(WORKERS)]


async def test_a_claim_says_all_that_is_kept_of_the_batch(desk: Desk) -> None:
    batch = make_batch(3, details=b"\x00details")
    run, _ = await desk.begin(batch, key="k", wave=5)
    kept = await desk.claim_one()
    assert (kept.claim.run, kept.claim.number, kept.claim.owner, kept.claim.fence) == (run.id, 0, desk.owner, 1)
    assert (kept.state, kept.ids, kept.servers, kept.details) == (BatchState.WAITING, batch.ids, 3, b"\x00details")
    assert (kept.job, kept.sequence, kept.parts) == (None, 0, 0)
    assert (kept.key, kept.action, kept.options, kept.status) == ("k", "servers.reboot", b"options", RunStatus.OPEN)
    assert (await desk.read(run.id)).in_flight == 3
    await desk.check(run.id)


async def test_claimers_at_once_get_different_batches_and_each_gets_one(desks: list[Desk]) -> None:
    run, _ = await desks[0].begin(*(make_batch(1) for _ in range(24)))

    async def claims_of(desk: Desk) -> list[KeptBatch]:
        return [await desk.claim_one() for _ in range(6)]

    found = [kept for each in await asyncio.gather(*map(claims_of, desks)) for kept in each]
    assert sorted(kept.claim.number for kept in found) == list(range(24))
    assert await desks[0].claim() == []
    await desks[0].check(run.id)


@pytest.mark.parametrize("wave", [25, 30])
async def test_a_wave_is_never_exceeded_whoever_claims_at_once(desks: list[Desk], wave: int) -> None:
    run, _ = await desks[0].begin(*(make_batch(10) for _ in range(20)), wave=wave)
    done = 0
    while done < 20:
        found = [kept for each in await asyncio.gather(*(desk.claim() for desk in desks)) for kept in each]
        assert 1 <= len(found) <= wave // 10
        await desks[0].check(run.id)
        assert await desks[0].claim() == [] or len(found) < wave // 10
        for desk in desks:
            await desk.hand_back()
        while kept := await desks[1].claim():
            await desks[1].mark_sending(kept[0].claim)
            await desks[1].finish(kept[0].claim, make_block(succeeded=10))
            done += 1
        await desks[0].check(run.id)
    assert (await desks[0].read(run.id)).ended is not None


async def test_runs_take_turns(desk: Desk) -> None:
    begun = [(await desk.begin(*(make_batch(1) for _ in range(3))))[0].id for _ in range(3)]
    for at, run in enumerate(begun):
        await desk.sql("UPDATE bms_async_runs SET served = $2 WHERE id = $1", run, float(at))
    turns = [(await desk.claim_one()).claim.run for _ in range(9)]
    assert turns == begun * 3


async def test_a_run_whose_wave_is_full_leaves_its_turn_to_the_next(desk: Desk) -> None:
    full, _ = await desk.begin(make_batch(10), make_batch(10), wave=10)
    await desk.send(full.id)
    await desk.sql("UPDATE bms_async_runs SET served = -1 WHERE id = $1", full.id)
    other, _ = await desk.begin(make_batch(1))
    assert (await desk.claim_one()).claim.run == other.id
    assert await desk.claim() == []


async def test_only_the_named_actions_run_and_place_are_looked_at(desk: Desk) -> None:
    stop, _ = await desk.begin(make_batch(), action="servers.stop")
    start, _ = await desk.begin(make_batch(), action="servers.start")
    assert await desk.run(claims.claim_waiting, desk.place, ["servers.reboot"], desk.owner) == []
    assert await desk.claim(start.id) == []
    assert await desk.run(claims.claim_waiting, "elsewhere", ["servers.stop"], desk.owner) == []
    assert (await desk.claim_one(stop.id)).action == "servers.stop"


async def test_parts_of_a_refused_batch_go_first_then_deferred_servers_then_new_ones(desk: Desk) -> None:
    run, _ = await desk.begin(make_batch(10), make_batch(10), wave=10)
    kept = await desk.claim_one()
    await desk.mark_sending(kept.claim)
    children = [make_batch(2, rank=2), make_batch(2, rank=1), make_batch(2, rank=0), make_batch(2, rank=0)]
    await desk.finish(kept.claim, make_block(failed=2), *children, splits=2)
    await desk.check(run.id)
    found = [await desk.claim_one() for _ in range(4)]
    assert [each.claim.number for each in found] == [4, 5, 3, 2]
    # Deferred servers have a budget of their own when their batch is refused.
    assert [each.parts for each in found] == [2, 2, 0, 2]
    assert await desk.claim() == []


async def test_a_batch_that_is_not_due_waits(desk: Desk) -> None:
    await desk.begin(make_batch(delay=300.0), make_batch())
    assert (await desk.claim_one()).claim.number == 1
    assert await desk.claim() == []


async def test_servers_that_are_deferred_to_a_grid_are_due_at_its_next_line_at_once(desk: Desk) -> None:
    run, _ = await desk.begin(make_batch(delay=30.0, grid=60.0), make_batch(delay=31.0, grid=60.0))
    rows = await desk.sql("SELECT due, due - bms_wall() FROM bms_async_batches WHERE run = $1", run.id)
    for due, left in rows:
        assert isinstance(due, float)
        assert isinstance(left, float)
        assert due % 60.0 == 0
        assert 29.0 < left <= 92.0


async def _defer(desk: Desk, sizes: list[int]) -> str:
    run, _ = await desk.begin(make_batch(sum(sizes)))
    kept = await desk.claim_one()
    await desk.mark_sending(kept.claim)
    await desk.finish(kept.claim, make_block(), *(make_batch(size, rank=1) for size in sizes))
    return run.id


async def test_deferred_servers_of_many_batches_share_a_call_of_at_most_1000(desk: Desk) -> None:
    run = await _defer(desk, [400, 300, 200, 600, 100, 1000])
    found = await desk.claim(run)
    assert [kept.servers for kept in found] == [400, 300, 200]
    assert await desk.merge(found) is Step.MADE
    assert await desk.merge(found) is Step.MADE
    await desk.check(run)
    assert (await desk.read(run)).open_batches == 4
    assert await desk.mark_sending(found[0].claim) is Step.MADE
    again = await desk.claim(run)
    assert [kept.servers for kept in again] == [600, 100]
    assert [kept.servers for kept in await desk.claim(run)] == [1000]


async def test_a_batch_that_has_outcomes_is_not_merged(desk: Desk) -> None:
    run = await _defer(desk, [10, 10, 10])
    await desk.sql("UPDATE bms_async_batches SET sequence = 1 WHERE run = $1 AND number = 2", run)
    assert [kept.claim.number for kept in await desk.claim(run)] == [1, 3]
    assert [kept.claim.number for kept in await desk.claim(run)] == [2]


async def test_claimers_at_once_merge_no_batch_twice(desks: list[Desk]) -> None:
    run = await _defer(desks[0], [1] * 40)

    async def takes(desk: Desk) -> list[KeptBatch]:
        found = await desk.claim(run)
        assert not found or await desk.merge(found) is Step.MADE
        return found

    found = [kept.claim.number for each in await asyncio.gather(*map(takes, desks)) for kept in each]
    assert sorted(found) == list(range(1, 41))
    await desks[0].check(run)


async def test_what_was_merged_elsewhere_meanwhile_is_not_merged_again(desk: Desk) -> None:
    run = await _defer(desk, [10, 10])
    found = await desk.claim(run)
    other = desk.another()
    await desk.expire(found[1].claim)
    await other.take_over()
    stolen = await other.claim_one(run)
    assert stolen.claim.number == found[1].claim.number
    before = await desk.everything(run)
    assert await desk.merge(found) is Step.LOST
    assert await desk.everything(run) == before
    await other.mark_sending(stolen.claim)
    await other.finish(stolen.claim, make_block(succeeded=10))
    assert await desk.merge(found) is Step.LOST
    await desk.check(run)


async def test_nobody_takes_a_batch_over_whose_lease_counts(desk: Desk) -> None:
    await desk.begin(make_batch(), make_batch())
    sent, waiting = await desk.send(), await desk.claim_one()
    other = desk.another()
    assert await other.take_over() == []
    assert await desk.state(sent.claim) == (BatchState.WATCHING, desk.owner, 1)
    assert await desk.state(waiting.claim) == (BatchState.WAITING, desk.owner, 1)


@pytest.mark.parametrize("lease", ["bms_now() - 1", "bms_now() + 1000"])
async def test_a_batch_that_was_sent_is_taken_over_once_its_lease_is_over_or_longer_than_any(
    desk: Desk, lease: str
) -> None:
    run, _ = await desk.begin(make_batch(7))
    sent = await desk.send()
    await desk.sql(f"UPDATE bms_async_batches SET lease = {lease} WHERE run = $1", run.id)
    other = desk.another()
    assert await other.take_over(run="another run") == []
    assert await Desk(desk.store).take_over() == []
    (kept,) = await other.take_over()
    assert (kept.claim.number, kept.claim.fence, kept.claim.owner) == (sent.claim.number, 2, other.owner)
    assert (kept.state, kept.job, kept.details, kept.servers) == (BatchState.WATCHING, "job", b"sent", 7)
    assert await other.take_over() == []
    await desk.check(run.id)


async def test_what_was_claimed_and_not_sent_goes_back_to_all(desk: Desk) -> None:
    run, _ = await desk.begin(make_batch())
    kept = await desk.claim_one()
    await desk.expire(kept.claim)
    assert await desk.another().take_over() == []
    assert await desk.state(kept.claim) == (BatchState.WAITING, None, 2)
    assert await desk.mark_sending(kept.claim) is Step.LOST
    await desk.check(run.id)


async def test_those_who_take_over_at_once_share_what_is_left(desks: list[Desk]) -> None:
    dead, *living = desks
    await dead.begin(*(make_batch(1) for _ in range(12)))
    for _ in range(12):
        await dead.expire((await dead.send()).claim)
    found = [kept for each in await asyncio.gather(*(desk.take_over(limit=6) for desk in living)) for kept in each]
    found += await living[0].take_over()
    assert sorted(kept.claim.number for kept in found) == list(range(12))


async def test_a_worker_renews_what_it_carries_on_and_nothing_else_in_its_name(desk: Desk) -> None:
    """Else a claim whose answer was lost would be nobody's for as long as the worker lives."""
    await desk.begin(make_batch(), make_batch())
    known, lost = await desk.send(), await desk.send()
    await desk.expire(known.claim)
    await desk.expire(lost.claim)
    renewed = await desk.renew(known.claim)
    assert renewed == {
        (kept.claim.run, kept.claim.number): (kept.claim.fence, RunStatus.OPEN) for kept in (known, lost)
    }
    (taken,) = await desk.another().take_over()
    assert taken.claim.number == lost.claim.number


async def test_renewing_says_what_was_lost_and_which_runs_were_stopped(desk: Desk) -> None:
    run, _ = await desk.begin(make_batch(), make_batch())
    first, second = await desk.send(), await desk.send()
    await desk.expire(first.claim)
    other = desk.another()
    (taken,) = await other.take_over()
    await desk.set_status(run.id, RunStatus.CANCELLED)
    assert await desk.renew(first.claim, second.claim) == {(run.id, second.claim.number): (1, RunStatus.CANCELLED)}
    assert await desk.state(taken.claim) == (BatchState.WATCHING, other.owner, 2)


async def test_what_is_handed_back_is_free_at_once(desk: Desk) -> None:
    run, _ = await desk.begin(make_batch(), make_batch())
    sent, waiting = await desk.send(), await desk.claim_one()
    await desk.hand_back()
    await desk.hand_back()
    other = desk.another()
    assert (await other.claim_one()).claim.number == waiting.claim.number
    (taken,) = await other.take_over()
    assert taken.claim.number == sent.claim.number
    await desk.check(run.id)


async def test_one_batch_is_handed_back_by_whose_it_is(desk: Desk) -> None:
    run, _ = await desk.begin(make_batch(), make_batch())
    sent, waiting = await desk.send(), await desk.claim_one()
    other = desk.another()
    for kept in (sent, waiting):
        await desk.run(claims.hand_back_one, kept.claim)
        await desk.run(claims.hand_back_one, kept.claim)
    (taken,), claimed = await other.take_over(), await other.claim_one()
    before = await desk.everything(run.id)
    for kept in (sent, waiting):
        await desk.run(claims.hand_back_one, kept.claim)
    assert await desk.everything(run.id) == before
    assert (taken.claim.fence, claimed.claim.fence) == (2, 2)


@pytest.mark.parametrize("claimed", [False, True])
async def test_what_is_left_of_a_cancelled_run_is_claimed_to_be_skipped(desk: Desk, claimed: bool) -> None:
    run, _ = await desk.begin(make_batch(10), make_batch(10), wave=15)
    if claimed:
        await desk.expire((await desk.claim_one()).claim)
    other = desk.another()
    assert await other.claim_unsendable() == []
    await desk.set_status(run.id, RunStatus.CANCELLED)
    assert await other.claim_unsendable("another run") == []
    assert await Desk(desk.store).claim_unsendable() == []
    found = await other.run(claims.claim_unsendable, None, None, other.owner, 1000)
    mine = [kept for kept in found if kept.claim.run == run.id]
    assert [kept.claim.number for kept in mine] == [0, 1]
    assert {kept.status for kept in mine} == {RunStatus.CANCELLED}
    for kept in mine:
        assert await other.finish(kept.claim, make_block(skipped=10)) is Step.MADE
    ended = await desk.read(run.id)
    assert (ended.counts.skipped, ended.in_flight, ended.ended is None) == (20, 0, False)
    await desk.check(run.id)


async def test_those_who_skip_at_once_skip_each_batch_once(desks: list[Desk]) -> None:
    run, _ = await desks[0].begin(*(make_batch(1) for _ in range(60)))
    await desks[0].set_status(run.id, RunStatus.CANCELLED)

    async def skips(desk: Desk) -> None:
        while found := await desk.claim_unsendable(run.id):
            for kept in found:
                assert await desk.finish(kept.claim, make_block(skipped=1)) is Step.MADE

    await asyncio.gather(*map(skips, desks))
    assert (await desks[0].read(run.id)).counts.skipped == 60
    await desks[0].check(run.id)


async def test_what_was_not_sent_is_taken_from_its_worker_once_its_run_was_cancelled_and_not_before(desk: Desk) -> None:
    run, _ = await desk.begin(make_batch(), make_batch(), make_batch())
    sent = (await desk.send()).claim
    waiting = (await desk.claim_one()).claim
    await desk.run(claims.release_unsendable, run.id)
    assert (await desk.renew(waiting, sent)).keys() == {(run.id, 0), (run.id, 1)}
    await desk.set_status(run.id, RunStatus.CANCELLED)
    await desk.run(claims.release_unsendable, run.id)
    assert (await desk.renew(waiting, sent)).keys() == {(run.id, 0)}
    assert await desk.mark_sending(waiting) is Step.LOST
    assert len(await desk.another().claim_unsendable(run.id)) == 2


async def test_whether_others_send_is_asked_of_one_place_and_of_living_workers(desk: Desk) -> None:
    await desk.begin(make_batch())
    other = desk.another()

    async def others_send(asker: Desk, place: str | None = None) -> bool:
        return await desk.run(claims.others_send, place or desk.place, asker.owner, writes=False)

    claimed = (await desk.claim_one()).claim
    assert not await others_send(other)
    assert await desk.mark_sending(claimed) is Step.MADE
    assert await others_send(other)
    assert not await others_send(desk)
    assert not await others_send(other, "elsewhere")
    await desk.expire(claimed)
    assert not await others_send(other)
