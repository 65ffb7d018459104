"""What a leader has begun: the next one finds it, and asks no server twice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from bms_async import BmsClient, LeadershipLostError, Limits, OutcomeState, RunStatus
from bms_async.journal.transactions import steps
from bms_async.reconcile import durable_actor
from bms_async.runs.led import LedRuns
from tests.reconcile.durable._replicas import Leader, asked, hook, stopped
from tests.runs._virtual import Site, at_a_site, kill
from tests.support.virtual_clock import advance

LEASE = 15.0
TRANSACTIONS = ("begin_led_run", "claim_waiting", "mark_sending", "mark_watching", "add_outcomes", "finish")


async def runs_of(bms: BmsClient) -> list[str]:
    return [run.key async for run in bms.runs.list()]


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", TRANSACTIONS)
def test_a_leader_is_killed_at_any_point_and_the_next_one_goes_on_and_asks_no_server_twice(
    tmp_path: Path, at: str, when: str
) -> None:
    async def main(site: Site) -> None:
        dying, second = Leader(await site.client()), Leader(await site.client())
        died = anyio.Event()

        async def die() -> None:
            died.set()
            await anyio.sleep_forever()

        hook(dying, at, when, die)
        async with anyio.create_task_group() as tasks:
            async with anyio.create_task_group() as doomed:
                doomed.start_soon(dying.work)
                await died.wait()
                tasks.start_soon(second.work)
                await kill(dying._bms)
                doomed.cancel_scope.cancel()
            began = anyio.current_time()
            while not second.terms:
                await advance(0.1)
            assert anyio.current_time() - began < LEASE + 1.0
            await stopped(site, second)
            tasks.cancel_scope.cancel()
        assert set(asked(site)) == set(site.ids)
        assert set(asked(site).values()) == {1}

    at_a_site(tmp_path, main, servers=8, job_seconds=(10, 30), latency=(0.5, 1.5))


def test_servers_whose_job_an_earlier_leader_has_noted_are_under_way_until_it_ends(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        first, second = Leader(await site.client()), Leader(await site.client())
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.work)
            await advance(10.0)
            tasks.start_soon(second.work)
            await kill(first._bms)
            await stopped(site, second)
            tasks.cancel_scope.cancel()
        assert set(second.found) == set(site.ids)
        assert {outcome.server_id for outcome in second.outcomes} == set(site.ids)
        assert {outcome.state for outcome in second.outcomes} == {OutcomeState.SUCCEEDED}
        assert await runs_of(second._bms) == ["reconcile/power/1-1"]

    at_a_site(tmp_path, main, servers=8, job_seconds=(30, 60))


@pytest.mark.parametrize("guards", ["both", "the term", "the cancelling", "none"])
def test_a_leader_that_loses_its_lease_sends_nothing_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guards: str
) -> None:
    if guards not in {"both", "the term"}:
        monkeypatch.setattr(steps, "_may_send", _may_always_send)
    if guards not in {"both", "the cancelling"}:
        monkeypatch.setattr(LedRuns, "take_over", _take_nothing_over)

    async def main(site: Site) -> None:
        first = Leader(await site.client(limits=Limits({"servers.stop": 1})))
        second = Leader(await site.client())
        # So its batch waits for a slot for a minute.
        await first._bms.servers.stop(site.ids[:1])
        hook(first, "renew_lead", "before", anyio.sleep_forever)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.work, 1)
            await advance(1.0)
            tasks.start_soon(second.work)
            await stopped(site, second)
            assert set(asked(site).values()) == {1}
            await advance(100.0)
            tasks.cancel_scope.cancel()
        assert (first.terms, second.terms) == (1, 1)
        assert len(site.cloud.jobs) == (3 if guards == "none" else 2)

    at_a_site(tmp_path, main, servers=8)


def test_what_waits_for_a_slot_when_its_leader_dies_is_skipped_and_decided_anew(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        limits = Limits({"servers.stop": 1})
        first, second = Leader(await site.client(limits=limits)), Leader(await site.client(limits=limits))
        other = site.ids[0]
        await first._bms.servers.stop([other])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(first.work)
            await advance(5.0)
            tasks.start_soon(second.work)
            await kill(first._bms)
            await stopped(site, second)
            tasks.cancel_scope.cancel()
        assert second.found == []
        assert set(asked(site).values()) == {1}
        assert await runs_of(second._bms) == ["reconcile/power/2-1", "reconcile/power/1-1"]
        assert (await second._bms.runs.get("reconcile/power/1-1")).status is RunStatus.CANCELLED

    at_a_site(tmp_path, main, servers=8)


def test_a_reconciler_that_is_left_has_nothing_more_sent(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        bms = await site.client(limits=Limits({"servers.stop": 1}))
        leader = Leader(bms)
        await bms.servers.stop(site.ids[:1])
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leader.work)
            await advance(5.0)
            tasks.cancel_scope.cancel()
        left_at = anyio.current_time()
        run = await bms.runs.get("reconcile/power/1-1")
        await run
        assert anyio.current_time() < left_at + 1.0
        await advance(100.0)
        assert set(asked(site)) == set(site.ids[:1])

    at_a_site(tmp_path, main, servers=8)


def test_nobody_acts_who_does_not_lead(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        leader = Leader(await site.client())
        with pytest.raises(LeadershipLostError, match="nothing was sent"):
            await leader.actor.act("servers.stop", site.ids, leader._note)
        assert await runs_of(leader._bms) == []

    at_a_site(tmp_path, main)


def test_a_run_is_not_written_down_once_another_replica_leads(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        first, second = Leader(await site.client()), Leader(await site.client())
        async with first.runs.lead() as term:
            await first.runs.journal.run(_resign)
            # It has not seen that yet.
            assert term.is_valid()
            async with second.runs.lead():
                with pytest.raises(LeadershipLostError, match="nothing was sent"):
                    await first.runs.begin("servers.stop", site.ids, {})
            assert await runs_of(first._bms) == []

    at_a_site(tmp_path, main)


def test_runs_that_ended_are_deleted_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable_actor, "_KEEP_RUNS", 100.0)
    monkeypatch.setattr(durable_actor, "_PRUNE_EVERY", 10.0)

    async def main(site: Site) -> None:
        leader = Leader(await site.client())
        await (await leader._bms.runs.stop(site.ids[:1], key="somebody else's"))
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(leader.work)
            await stopped(site, leader)
            assert await runs_of(leader._bms) == ["reconcile/power/1-1", "somebody else's"]
            await advance(120.0)
            assert await runs_of(leader._bms) == ["somebody else's"]
            tasks.cancel_scope.cancel()

    at_a_site(tmp_path, main, servers=8)


async def _take_nothing_over(_: LedRuns) -> list[object]:
    return []


def _may_always_send(_: object) -> Any:
    yield from ()
    return True


def _resign() -> Any:
    from bms_async.journal.statements import ask

    yield from ask("UPDATE bms_async_leaders SET owner = NULL, lease = -1")
