"""Replicas of a reconciler, as a program sees them: one memory, and one of them acts."""

from __future__ import annotations

import sqlite3
from contextlib import AsyncExitStack, closing
from pathlib import Path

import anyio
import pytest

from bms_async import (
    Backoff,
    BmsClient,
    Degraded,
    InvalidRequestError,
    Reconciler,
    Rollout,
    Runs,
    ServerStatus,
)
from bms_async.testing import CloudSettings, SimulatedCloud, run_virtually
from tests.reconcile.durable._replicas import asked, journal_away
from tests.runs._virtual import Site, at_a_site, kill
from tests.support.virtual_clock import advance


async def until_leading(power: Reconciler) -> None:
    while not power.is_leading:
        await advance(0.1)


async def until_tried(power: Reconciler, server_id: str, attempts: int) -> Degraded:
    """Wait until attempts at a server have failed."""
    while True:
        condition = power.condition(server_id)
        if isinstance(condition, Degraded) and condition.attempts >= attempts:
            return condition
        await advance(1.0)


class Pair:
    """Two replicas: the first one acts."""

    def __init__(self, stack: AsyncExitStack, site: Site) -> None:
        self._stack = stack
        self._site = site

    async def open(self) -> tuple[BmsClient, Reconciler, Reconciler]:
        bms = await self._site.client()
        acting = await self._stack.enter_async_context(bms.reconciler(backoff=Backoff(300.0)))
        await until_leading(acting)
        other = (await self._site.client()).reconciler(backoff=Backoff(300.0))
        return bms, acting, await self._stack.enter_async_context(other)


def test_what_the_replica_that_waits_is_asked_for_the_one_that_acts_does(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        async with AsyncExitStack() as stack:
            _, acting, other = await Pair(stack, site).open()
            other.want(ServerStatus.SHUTOFF, site.ids[:5])
            began = anyio.current_time()
            # It reads the states too, for whoever asks it, but hears of the outcomes by its next reading alone.
            await other.synced()
            assert anyio.current_time() < began + 35.0
            assert (acting.statistics().asked, other.statistics().asked) == (5, 0)
            other.forget(site.ids[:2])
            acting.want(ServerStatus.ACTIVE, site.ids[2:5])
            await advance(5.0)
            assert set(acting.conditions()) == set(other.conditions()) == set(site.ids[2:5])
            await acting.synced()
        assert site.cloud.off == site.ids[:2]

    at_a_site(tmp_path, main, servers=8)


def test_back_off_goes_on_when_whoever_acts_is_killed(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        async with AsyncExitStack() as stack:
            bms, acting, other = await Pair(stack, site).open()
            acting.want(ServerStatus.SHUTOFF, site.ids)
            tried = await until_tried(acting, site.ids[0], 2)
            await advance(3.0)
            await kill(bms)
            killed_at = anyio.current_time()
            await until_leading(other)
            condition = other.condition(site.ids[0])
            assert isinstance(condition, Degraded)
            assert (condition.attempts, str(condition.reason)) == (2, str(tried.reason))
            calls = site.calls("servers.stop")
            tried = await until_tried(other, site.ids[0], 3)
            # The second failure was 3 s before the kill, and the third attempt comes 600 s after it, with jitter.
            assert anyio.current_time() - killed_at > 300.0
            assert site.calls("servers.stop") > calls

    at_a_site(tmp_path, main, servers=2, fail_share=1.0)


def test_a_program_that_is_started_again_goes_on_where_it_was(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        async with (await site.client()).reconciler(backoff=Backoff(3000.0)) as power:
            power.want(ServerStatus.SHUTOFF, site.ids)
            await until_tried(power, site.ids[0], 1)
            await advance(3.0)
        calls = site.calls("servers.stop")
        async with (await site.client()).reconciler(backoff=Backoff(3000.0)) as power:
            power.want(ServerStatus.SHUTOFF, site.ids)
            condition = await until_tried(power, site.ids[0], 1)
            await advance(600.0)
            assert condition.attempts == 1
            assert site.calls("servers.stop") == calls

    at_a_site(tmp_path, main, servers=2, fail_share=1.0)


def test_a_journal_that_is_away_for_a_minute_is_waited_for(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        bms = await site.client()
        async with bms.reconciler() as power:
            power.want(ServerStatus.SHUTOFF, site.ids)
            await until_leading(power)
            await advance(0.5)
            with journal_away(bms):
                power.forget(site.ids[:1])
                await advance(60.0)
                # Its lease is over, and another one may act.
                assert not power.is_leading
            await power.synced()
            assert set(power.conditions()) == set(site.ids[1:])
        assert set(asked(site).values()) == {1}

    at_a_site(tmp_path, main, servers=8)


def test_a_rollout_is_walked_by_whoever_acts_with_what_any_process_can_call(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        async with (await site.client()).reconciler(rollout=Rollout(max_unavailable=2)) as power:
            power.want(ServerStatus.SHUTOFF, site.ids)
            await power.synced()
        with pytest.raises(InvalidRequestError, match="ready"):
            (await site.client()).reconciler(rollout=Rollout(ready=site.cloud.reachable))
        assert site.calls("servers.stop") >= 4

    at_a_site(tmp_path, main, servers=8)


def test_two_projects_in_one_journal_have_a_reconciler_each(tmp_path: Path) -> None:
    async def main() -> None:
        first, second = (SimulatedCloud(CloudSettings(servers=4, project_id=letter * 32)) for letter in "ab")
        runs = f"sqlite://{tmp_path}/runs.db"
        async with (
            first.client(runs=Runs(runs)) as one,
            second.client(runs=Runs(runs)) as other,
            one.reconciler() as its,
            other.reconciler() as power,
        ):
            its.want(ServerStatus.SHUTOFF, first.ids)
            power.want(ServerStatus.SHUTOFF, second.ids[:1])
            await its.synced()
            await power.synced()
            assert its.is_leading
            assert power.is_leading
        assert (first.off, second.off) == (first.ids, second.ids[:1])

    run_virtually(main)


def test_the_journal_does_not_grow_with_what_is_desired_again(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        async with (await site.client()).reconciler() as power:
            for _ in range(20):
                power.want(ServerStatus.SHUTOFF, site.ids)
                power.replace(dict.fromkeys(site.ids, "SHUTOFF"))
            await power.synced()

    at_a_site(tmp_path, main, servers=8)
    with closing(sqlite3.connect(tmp_path / "runs.db")) as file:
        assert file.execute("SELECT count(*), max(number) FROM bms_async_desired").fetchone() == (8, 8)


def test_pruning_deletes_what_was_forgotten_long_ago_and_no_desired_state(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        bms = await site.client()
        async with bms.reconciler() as power:
            power.want(ServerStatus.ACTIVE, site.ids)
            power.forget(site.ids[:3])
            await power.synced()
        await bms.runs.prune(older_than=3600.0)
        assert kept(tmp_path) == (8, 5)
        await advance(3600.0)
        await bms.runs.prune(older_than=3600.0, prefix="x")
        assert kept(tmp_path) == (8, 5)
        await bms.runs.prune(older_than=3600.0)
        assert kept(tmp_path) == (5, 5)

    at_a_site(tmp_path, main, servers=8)


def kept(folder: Path) -> tuple[int, int]:
    """How many rows there are, and how many desired states."""
    with closing(sqlite3.connect(folder / "runs.db")) as file:
        rows, states = file.execute("SELECT count(*), count(status) FROM bms_async_desired").fetchone()
    return rows, states


def test_attempts_that_led_to_the_end_in_the_meantime_are_no_reason_to_wait(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        async with AsyncExitStack() as stack:
            bms, acting, other = await Pair(stack, site).open()
            acting.want(ServerStatus.SHUTOFF, site.ids)
            await until_tried(acting, site.ids[0], 2)
            site.cloud.turn_off(*site.ids)
            await acting.synced()
            await advance(3.0)
            await kill(bms)
            site.cloud.turn_on(*site.ids)
            calls = site.calls("servers.stop")
            await until_leading(other)
            await advance(10.0)
            assert site.calls("servers.stop") == calls + 1

    at_a_site(tmp_path, main, servers=2, fail_share=1.0)
