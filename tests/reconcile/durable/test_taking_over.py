"""Replicas of a reconciler: what the one that acts has begun the next one finds, and asks no server twice."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import anyio
import pytest

from bms_async import BmsClient, ClientClosedError, LeadershipLostError, Limits, Reconciler, RunStatus
from bms_async.journal.statements import Transaction, ask
from bms_async.journal.transactions import steps
from bms_async.reconcile import durable_actor
from bms_async.runs.led import LedRuns
from tests.reconcile.durable._replicas import asked, cut, hook
from tests.runs._virtual import Site, at_a_site, kill
from tests.support.virtual_clock import advance

LEASE = 15.0
TRANSACTIONS = ("begin_led_run", "claim_waiting", "mark_sending", "mark_watching", "add_outcomes", "finish")


async def runs_of(bms: BmsClient) -> list[str]:
    return [run.key async for run in bms.runs.list()]


async def leads(power: Reconciler) -> None:
    while not power.is_leading:
        await advance(0.1)


def at_two(folder: Path, main: Callable[[Site, BmsClient, BmsClient], Awaitable[None]], **settings: Any) -> None:
    """Run something at a site with two clients."""

    async def run(site: Site) -> None:
        await main(site, await site.client(), await site.client())

    at_a_site(folder, run, **{"servers": 8, **settings})


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("at", TRANSACTIONS)
def test_whoever_acts_is_killed_at_any_point_and_the_next_one_goes_on_and_asks_no_server_twice(
    tmp_path: Path, at: str, when: str
) -> None:
    async def main(site: Site, first: BmsClient, second: BmsClient) -> None:
        died = anyio.Event()

        async def die() -> None:
            died.set()
            await anyio.sleep_forever()

        hook(first, at, when, die)
        async with AsyncExitStack() as stack:
            dying = await stack.enter_async_context(first.reconciler())
            dying.want("SHUTOFF", site.ids)
            await died.wait()
            power = await stack.enter_async_context(second.reconciler())
            await kill(first)
            killed_at = anyio.current_time()
            await leads(power)
            assert anyio.current_time() - killed_at < LEASE + 1.0
            await power.synced()
        assert set(asked(site)) == set(site.ids)
        assert set(asked(site).values()) == {1}

    at_two(tmp_path, main, job_seconds=(10, 30), latency=(0.5, 1.5))


def test_servers_whose_job_was_begun_before_are_under_way_until_it_ends(tmp_path: Path) -> None:
    async def main(site: Site, first: BmsClient, second: BmsClient) -> None:
        async with first.reconciler() as dying:
            dying.want("SHUTOFF", site.ids)
            await advance(10.0)
            async with second.reconciler() as power:
                await kill(first)
                await leads(power)
                assert power.statistics().under_way == 8
                await power.synced()
                statistics = power.statistics()
        assert (statistics.runs, statistics.succeeded) == (0, 8)
        assert await runs_of(second) == ["reconcile/power/1-1"]

    at_two(tmp_path, main, job_seconds=(30, 60))


@pytest.mark.parametrize("is_guarded", [True, False])
def test_a_wave_is_full_of_what_was_begun_before_but_for_finding_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_guarded: bool
) -> None:
    if not is_guarded:
        monkeypatch.setattr(LedRuns, "take_over", _take_nothing_over)

    async def main(site: Site, first: BmsClient, second: BmsClient) -> None:
        async with first.reconciler(wave_size=4) as dying:
            dying.want("SHUTOFF", site.ids)
            await advance(5.0)
            async with second.reconciler(wave_size=4) as power:
                await kill(first)
                await leads(power)
                await advance(5.0)
                assert site.calls("servers.stop") == (1 if is_guarded else 2)
                await power.synced()
        assert set(asked(site).values()) == {1}

    at_two(tmp_path, main, job_seconds=(40, 60))


def begin_without_a_slot(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have a run begin before there is a slot for it, as it does once servers were held back for a minute."""
    monkeypatch.setattr("bms_async.reconcile.doing._MAX_HOLD", 0.0)


@pytest.mark.parametrize("guards", ["both", "the term", "the cancelling", "none"])
def test_whoever_has_lost_the_lease_sends_nothing_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, guards: str
) -> None:
    if guards not in {"both", "the term"}:
        monkeypatch.setattr(steps, "_may_send", _may_always_send)
    if guards not in {"both", "the cancelling"}:
        monkeypatch.setattr(LedRuns, "take_over", _take_nothing_over)

    begin_without_a_slot(monkeypatch)

    async def main(site: Site) -> None:
        first = await site.client(limits=Limits({"servers.stop": 1}))
        second = await site.client()
        # So the batch of the first one waits for a slot for a minute.
        await first.servers.stop(site.ids[:1])
        async with AsyncExitStack() as stack:
            lost = await stack.enter_async_context(first.reconciler())
            lost.want("SHUTOFF", site.ids[1:])
            await leads(lost)
            await advance(2.0)
            power = await stack.enter_async_context(second.reconciler())
            cut(first, "renew_lead", "is_free")
            await leads(power)
            assert not lost.is_leading
            await power.synced()
            await advance(100.0)
        # What comes late finds the servers as they ought to be, and so does no harm here.
        assert site.calls("servers.stop") == (3 if guards == "none" else 2)

    at_a_site(tmp_path, main, servers=8)


def test_what_waits_for_a_slot_when_its_leader_dies_is_decided_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_without_a_slot(monkeypatch)

    async def main(site: Site) -> None:
        limits = Limits({"servers.stop": 1})
        first, second = await site.client(limits=limits), await site.client(limits=limits)
        await first.servers.stop(site.ids[:1])
        async with first.reconciler() as dying:
            dying.want("SHUTOFF", site.ids[1:])
            await leads(dying)
            async with second.reconciler() as power:
                await advance(5.0)
                await kill(first)
                power.forget(site.ids[1:4])
                await power.synced()
        assert set(asked(site)) == {site.ids[0], *site.ids[4:]}
        assert await runs_of(second) == ["reconcile/power/2-1", "reconcile/power/1-1"]
        assert (await second.runs.get("reconcile/power/1-1")).status is RunStatus.CANCELLED

    at_a_site(tmp_path, main, servers=8)


def test_a_reconciler_that_is_left_has_nothing_more_sent_and_the_next_one_acts_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin_without_a_slot(monkeypatch)

    async def main(site: Site) -> None:
        first, second = await site.client(limits=Limits({"servers.stop": 1})), await site.client()
        await first.servers.stop(site.ids[:1])
        async with AsyncExitStack() as stack:
            async with first.reconciler() as left:
                left.want("SHUTOFF", site.ids[1:])
                await leads(left)
                power = await stack.enter_async_context(second.reconciler())
                await advance(3.0)
            left_at = anyio.current_time()
            await leads(power)
            assert anyio.current_time() < left_at + 1.0
            await power.synced()
            await advance(100.0)
        assert site.calls("servers.stop") == 2

    at_a_site(tmp_path, main, servers=8)


def test_a_client_that_is_closed_ends_its_reconciler_and_the_next_one_acts_at_once(tmp_path: Path) -> None:
    async def main(site: Site, first: BmsClient, second: BmsClient) -> None:
        async with AsyncExitStack() as stack:
            left = await stack.enter_async_context(first.reconciler())
            left.want("SHUTOFF", site.ids)
            await leads(left)
            power = await stack.enter_async_context(second.reconciler())
            await first.aclose()
            closed_at = anyio.current_time()
            await leads(power)
            assert anyio.current_time() < closed_at + 1.5
            with pytest.raises(ClientClosedError):
                left.want("SHUTOFF", site.ids)
            await power.synced()
        assert set(asked(site).values()) == {1}

    at_two(tmp_path, main)


def test_nobody_begins_a_run_who_does_not_lead(tmp_path: Path) -> None:
    async def main(site: Site, first: BmsClient, _: BmsClient) -> None:
        with pytest.raises(LeadershipLostError, match="nothing was sent"):
            await first.runs.led_by("power").begin("servers.stop", site.ids, {})
        assert await runs_of(first) == []

    at_two(tmp_path, main)


def test_a_run_is_not_written_down_once_another_replica_leads(tmp_path: Path) -> None:
    async def main(site: Site, first: BmsClient, second: BmsClient) -> None:
        runs = first.runs.led_by("power")
        async with runs.lead() as term:
            await first.runs._journal.run(_resign)
            # It has not seen that yet.
            assert term.is_valid()
            async with second.runs.led_by("power").lead():
                with pytest.raises(LeadershipLostError, match="which is over; nothing was sent"):
                    await runs.begin("servers.stop", site.ids, {})
            assert await runs_of(first) == []

    at_two(tmp_path, main)


def test_runs_of_others_are_left_alone_whatever_their_names_are(tmp_path: Path) -> None:
    async def main(site: Site, first: BmsClient, second: BmsClient) -> None:
        async with first.reconciler(name="power/a") as its, second.reconciler() as power:
            its.want("SHUTOFF", site.ids)
            await leads(its)
            await leads(power)
            await its.synced()
        assert await runs_of(second) == ["reconcile/power/a/1-1"]
        assert (await second.runs.get("reconcile/power/a/1-1")).status is RunStatus.OPEN

    at_two(tmp_path, main)


def test_runs_that_ended_are_deleted_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(durable_actor, "_KEEP_RUNS", 100.0)
    monkeypatch.setattr(durable_actor, "_PRUNE_EVERY", 10.0)

    async def main(site: Site, bms: BmsClient, _: BmsClient) -> None:
        await (await bms.runs.stop(site.ids[:1], key="somebody else's"))
        async with bms.reconciler() as power:
            power.want("SHUTOFF", site.ids)
            await power.synced()
            assert await runs_of(bms) == ["reconcile/power/1-1", "somebody else's"]
            await advance(120.0)
            assert await runs_of(bms) == ["somebody else's"]

    at_two(tmp_path, main)


async def _take_nothing_over(_: LedRuns) -> list[object]:
    return []


def _may_always_send(_: object) -> Transaction[bool]:
    yield from ()
    return True


def _resign() -> Transaction[object]:
    return (yield from ask("UPDATE bms_async_leaders SET owner = NULL, lease = -1"))
