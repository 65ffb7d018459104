"""Subscribers of changes: they read what is so now, and cost nothing they do not need."""

from __future__ import annotations

import gc

import anyio
import pytest

from bms_async import ConditionChanged, Degraded, PowerChange, Progressing, ResyncEnded, Synced
from bms_async.fleet.run import FleetRun
from tests.hooks._helpers import Ear
from tests.reconcile._helpers import RESYNC, collect, keeping, kinds
from tests.support.virtual_clock import advance, run_virtually


def test_a_subscriber_sees_a_server_on_its_way_and_there() -> None:
    async def main() -> None:
        async with keeping(servers=3) as kept:
            seen: list[PowerChange] = []
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(collect, kept.power.changes(), seen)
                kept.power.want("SHUTOFF", kept.ids[:1])
                await kept.power.synced()
                await advance(2 * RESYNC)
                kept.cloud.turn_on(kept.ids[0])
                await advance(2 * RESYNC)
                tasks.cancel_scope.cancel()
            assert kinds(seen, kept.ids[0]) == ["Progressing", "Synced", "Progressing", "Synced"]
            assert {change.desired for change in seen} == {"SHUTOFF"}
            acted = [each.condition.action for each in seen if isinstance(each.condition, Progressing)]
            assert set(acted) == {None, "stop"}

    run_virtually(main)


def test_a_subscriber_that_comes_late_begins_with_all_servers() -> None:
    async def main() -> None:
        async with keeping(servers=30) as kept:
            kept.power.want("ACTIVE", [*kept.ids, "no id"])
            await kept.power.synced(kept.ids)
            seen: list[PowerChange] = []
            with anyio.move_on_after(1.0):
                await collect(kept.power.changes(), seen)
            synced = {change.server_id for change in seen if isinstance(change.condition, Synced)}
            assert synced == set(kept.ids)
            (refused,) = [change for change in seen if isinstance(change.condition, Degraded)]
            assert refused.server_id == "no id"
            assert len(seen) == 31

    run_virtually(main)


def test_a_reader_that_is_cancelled_between_two_changes_misses_none_when_it_reads_on() -> None:
    async def main() -> None:
        async with keeping(servers=1200) as kept:
            kept.power.want("ACTIVE", kept.ids)
            await kept.power.synced()
            changes, seen = kept.power.changes(), set[str]()
            cancelled = 0
            while len(seen) < 1200:
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    seen.add((await anext(changes)).server_id)
                if scope.cancelled_caught:
                    cancelled += 1
                    with anyio.fail_after(1.0):
                        seen.add((await anext(changes)).server_id)
            assert cancelled > 1

    run_virtually(main)


def test_a_slow_subscriber_reads_the_last_condition_of_each_server_and_holds_no_more_than_their_ids() -> None:
    async def main() -> None:
        async with keeping(servers=20, job_seconds=(1.0, 2.0)) as kept:
            slow, quick = kept.power.changes(), list[PowerChange]()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(collect, kept.power.changes(), quick)
                for turn in range(40):
                    kept.power.want("SHUTOFF" if turn % 2 else "ACTIVE", kept.ids)
                    await kept.power.synced()
                await advance(2 * RESYNC)
                tasks.cancel_scope.cancel()
            assert len(quick) > 20 * 40
            assert len(slow._pending) == 20
            seen: list[PowerChange] = []
            with anyio.move_on_after(1.0):
                await collect(slow, seen)
            assert len(seen) == 20
            assert {type(change.condition) for change in seen} == {Synced}

    run_virtually(main)


def test_two_subscribers_read_the_same_and_one_that_is_dropped_is_forgotten() -> None:
    async def main() -> None:
        async with keeping(servers=5) as kept:
            one: list[PowerChange] = []
            other: list[PowerChange] = []
            dropped = kept.power.changes()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(collect, kept.power.changes(), one)
                tasks.start_soon(collect, kept.power.changes(), other)
                kept.power.want("SHUTOFF", kept.ids)
                await kept.power.synced()
                hub = kept.power._engine.hub
                assert len(hub._subscribers) == 3
                assert "5 waiting" in repr(dropped)
                del dropped
                gc.collect()
                assert len(hub._subscribers) == 2
                await advance(1.0)
                tasks.cancel_scope.cancel()
            assert one == other
            assert len(one) >= 10

    run_virtually(main)


def test_a_subscriber_ends_when_the_block_is_left() -> None:
    async def main() -> None:
        seen: list[PowerChange] = []
        async with anyio.create_task_group() as tasks, keeping(servers=5) as kept:
            tasks.start_soon(collect, kept.power.changes(), seen)
            kept.power.want("ACTIVE", kept.ids)
            await kept.power.synced()
        assert len(seen) == 5

    run_virtually(main)


def test_a_server_that_is_forgotten_is_said_no_more_of() -> None:
    async def main() -> None:
        async with keeping(servers=5) as kept:
            changes = kept.power.changes()
            kept.power.want("SHUTOFF", kept.ids)
            await advance(1.0)
            kept.power.forget(kept.ids[1:])
            await advance(1.0)
            assert [(await anext(changes)).server_id for _ in range(1)] == kept.ids[:1]
            with anyio.move_on_after(1.0) as scope:
                await anext(changes)
            assert scope.cancelled_caught
            assert kept.power.condition(kept.ids[1]) is None
            with pytest.raises(KeyError):
                kept.power.conditions()[kept.ids[1]]

    run_virtually(main)


def test_the_times_of_conditions_are_times_of_day_that_do_not_change_when_they_are_read_again() -> None:
    async def main() -> None:
        async with keeping(servers=2) as kept:
            kept.power.want("SHUTOFF", kept.ids)
            run = kept.bms.fleet.start(())
            assert isinstance(run, FleetRun)
            now = (await run).started
            await kept.power.synced()
            first = kept.power.condition(kept.ids[0])
            await advance(3 * RESYNC)
            assert kept.power.condition(kept.ids[0]) == first
            assert isinstance(first, Synced)
            assert 0 < (first.since - now).total_seconds() < 30

    run_virtually(main)


def test_hooks_see_conditions_and_resyncs() -> None:
    async def main() -> None:
        ear = Ear()
        async with keeping(servers=20, hooks=ear) as kept:
            kept.cloud.break_down(kept.ids[0])
            kept.power.want("SHUTOFF", [*kept.ids[:5], "no id"])
            await advance(2 * RESYNC)
            changed = ear.heard(ConditionChanged, server_id=kept.ids[1])
            assert [event.condition for event in changed] == ["Progressing", "Progressing", "Synced"]
            last = ear.heard(ConditionChanged, server_id=kept.ids[0])[-1]
            assert (last.condition, last.attempts, last.desired) == ("Degraded", 1, "SHUTOFF")
            assert last.reason == "BMS.3037" or (last.reason or "").startswith("BMS.")
            (refused,) = ear.heard(ConditionChanged, server_id="no id")
            assert refused.reason == "InvalidRequestError"
            resync = ear.heard(ResyncEnded)[-1]
            assert (resync.synced, resync.progressing, resync.degraded, resync.error) == (4, 0, 2, None)
            assert resync.reconciler == "power"

    run_virtually(main)
