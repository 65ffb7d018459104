"""Runs of a leader, in either store: begun and sent as long as it leads, and found by the next one."""

from __future__ import annotations

from functools import partial

from bms_async.journal import KeptRun, LedBy, NewRun, Step, unpack_ids
from bms_async.journal.transactions import leaders, runs, steps
from tests.journal._desk import Desk, make_batch, make_plan


async def lead(desk: Desk, owner: str = "first") -> LedBy:
    name = f"power of {desk.place}"
    fence = await desk.run(leaders.lead, name, owner)
    assert fence is not None
    return LedBy(name=name, fence=fence)


async def resign(desk: Desk, term: LedBy, owner: str = "first") -> None:
    await desk.run(leaders.resign, term.name, owner)


async def begin(desk: Desk, term: LedBy, key: str) -> KeptRun | None:
    run = NewRun(
        id=f"{desk.place} {key}",
        place=desk.place,
        key=key,
        action="servers.stop",
        options=b"options",
        digest="digest",
        wave=None,
        abort_above=None,
        abort_sample=1,
    )
    begun = await desk.run(runs.begin_led_run, term, run, [make_batch(3), make_batch(2)], [])
    return None if begun is None else begun[0]


async def test_a_run_is_begun_by_whoever_leads_and_found_by_its_key(desk: Desk) -> None:
    term = await lead(desk)
    begun = await begin(desk, term, "reconcile/power/1-1")
    # As after a commit that was not confirmed.
    assert await begin(desk, term, "reconcile/power/1-1") == begun
    await desk.begin(make_batch(), key="somebody else's")
    found = await desk.run(runs.list_open, desk.place, "reconcile/power/", writes=False)
    assert found == [begun]
    assert await desk.run(runs.list_open, "elsewhere", "reconcile/power/", writes=False) == []


async def test_a_run_is_not_begun_by_whoever_leads_no_more(desk: Desk) -> None:
    term = await lead(desk)
    await resign(desk, term)
    assert await begin(desk, term, "reconcile/power/1-1") is None
    later = await lead(desk, "second")
    assert await begin(desk, term, "reconcile/power/1-1") is None
    assert await begin(desk, later, "reconcile/power/2-1") is not None
    await desk.sql("UPDATE bms_async_leaders SET lease = bms_now() - 1 WHERE name = $1", term.name)
    assert await begin(desk, later, "reconcile/power/2-2") is None
    assert not await desk.run(leaders.leads, later, writes=False)


async def test_a_batch_is_marked_as_sent_as_long_as_its_leader_leads(desk: Desk) -> None:
    term = await lead(desk)
    begun = await begin(desk, term, "reconcile/power/1-1")
    assert begun is not None
    first, second = await desk.claim_one(), await desk.claim_one()
    assert await desk.run(partial(steps.mark_sending, is_first=True, term=term), first.claim, b"sent") is Step.MADE
    await resign(desk, term)
    before = await desk.everything(begun.id)
    assert await desk.run(partial(steps.mark_sending, is_first=True, term=term), second.claim, b"sent") is Step.STOPPED
    # Nor once more, whose response was lost.
    assert await desk.run(partial(steps.mark_sending, is_first=False, term=term), first.claim, b"again") is Step.STOPPED
    assert await desk.everything(begun.id) == before
    await desk.check(begun.id)


async def test_what_is_open_of_a_run_are_its_batches_without_the_plan(desk: Desk) -> None:
    run, _ = await desk.begin(make_batch(3), make_batch(2))
    kept = await desk.claim_one()
    packed = await desk.run(runs.read_open_batches, run.id, writes=False)
    assert [len(unpack_ids(ids)) for ids in packed] == [3, 2]
    assert packed[0] == kept.ids
    planned, _ = await desk.begin(plan=[make_plan(4)])
    assert await desk.run(runs.read_open_batches, planned.id, writes=False) == []
