"""How much is under way at once, and how it ends: waves, rollouts, closing, faults of an actor."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from bms_async import Backoff, ClientClosedError, NotSyncedError, Outcome, Rollout, ServerStatus, Synced
from bms_async.fleet import Fleet
from bms_async.fleet.evidence import ServerState
from bms_async.fleet.plan import WaveLimit
from bms_async.reconcile.acting import ProcessActor, ProcessMemory
from bms_async.reconcile.books import Books
from bms_async.reconcile.changes import ChangeHub
from bms_async.reconcile.doing import Doing
from bms_async.reconcile.inbox import Inbox
from bms_async.reconcile.ports import DesiredRow, ReconcileAction
from tests.reconcile._helpers import RESYNC, Kept, keeping
from tests.support.virtual_clock import advance, run_virtually


def under_way(kept: Kept) -> int:
    return sum(server.action is not None for server in kept.cloud.cloud.servers.values())


async def most_under_way(kept: Kept) -> int:
    """Wait until all is synced, and return how many servers were under way at once."""
    most = 0
    while kept.power.statistics().synced < kept.power.statistics().desired or not most:
        most = max(most, under_way(kept))
        await advance(0.5)
    return most


async def stops_of_both_kinds(**options: Any) -> int:
    async with keeping(servers=100, stopped_share=0.5, wave_size=16, **options) as kept:
        kept.power.replace({**dict.fromkeys(kept.cloud.on, "SHUTOFF"), **dict.fromkeys(kept.cloud.off, "ACTIVE")})
        return await most_under_way(kept)


def test_no_more_servers_are_under_way_than_a_wave_has_in_all_runs_together(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        assert 12 <= await stops_of_both_kinds() <= 16
        monkeypatch.setattr(WaveLimit, "room", lambda self, in_flight: self.size)
        assert await stops_of_both_kinds() > 16

    run_virtually(main)


def test_a_wave_is_refilled_a_quarter_at_a_time() -> None:
    async def main() -> None:
        async with keeping(servers=200, wave_size=40, job_seconds=(5.0, 20.0)) as kept:
            kept.power.want("SHUTOFF", kept.ids)
            await kept.power.synced()
            # 5 waves, each refilled with 10 servers at a time, or after 5 s.
            assert kept.acted <= 25

    run_virtually(main)


@pytest.mark.parametrize("wave_size", [1, 200])
def test_servers_whose_states_are_all_too_old_are_put_off_without_holding_the_loop(wave_size: int) -> None:
    async def main() -> None:
        books = Books(Backoff(), resync=RESYNC, on_change=lambda name: None)
        for number in range(5000):
            books.want(str(number), ServerStatus.SHUTOFF, 0.0)
            shown = ServerState(id="", status=ServerStatus.ACTIVE)
            books.observe(str(number), shown, began_at=1.0, now=1.0, random=0.0)
        books.max_age = -1.0
        doing = Doing(
            books,
            ProcessActor(cast("Fleet", None)),
            wave_size=wave_size,
            one_at_a_time=False,
            random=lambda: 0.0,
            may_begin=lambda: True,
            wait_for_call=lambda action: 0.0,
            on_change=lambda: None,
        )
        passes = 0
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(doing.run)
            while books.ready["servers.stop"] or not passes:
                await anyio.lowlevel.checkpoint()
                passes += 1
            tasks.cancel_scope.cancel()
        assert 10 <= passes <= 50
        assert len(books.to_look) == 5000

    run_virtually(main)


class SlowActor(ProcessActor):
    async def act(self, action: ReconcileAction, ids: Sequence[str], on_outcome: Callable[[Outcome], None]) -> None:
        await anyio.sleep(100)


def test_what_becomes_due_while_a_run_has_to_end_first_does_not_keep_the_loop_busy() -> None:
    async def main() -> None:
        books = Books(Backoff(), resync=RESYNC, on_change=lambda name: None)
        for name, desired, shown in (
            ("a", "SHUTOFF", "ACTIVE"),
            ("b", "SHUTOFF", "ACTIVE"),
            ("c", "ACTIVE", "SHUTOFF"),
        ):
            books.want(name, ServerStatus(desired), 0.0)
            books.observe(name, ServerState(id="", status=ServerStatus(shown)), began_at=1.0, now=1.0, random=0.0)
        books.max_age = 1000.0
        looks = 0

        def may_begin() -> bool:
            nonlocal looks
            looks += 1
            assert looks < 10
            return True

        doing = Doing(
            books,
            SlowActor(cast("Fleet", None)),
            wave_size=10,
            one_at_a_time=True,
            random=lambda: 0.0,
            may_begin=may_begin,
            # The greater part has to wait for its slot, so that the smaller one goes first.
            wait_for_call=lambda action: 3.0 if action == "servers.stop" else 0.0,
            on_change=lambda: None,
        )
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(doing.run)
            await advance(90)
            assert (doing.runs, doing.asked) == (1, 1)
            # Once it has ended, what had waited goes on.
            await advance(20)
            assert doing.runs == 2
            tasks.cancel_scope.cancel()

    run_virtually(main)


async def looks_of_waiters(monkeypatch: pytest.MonkeyPatch, count: int) -> int:
    """How often tasks that wait for a server each see whether it is synced."""
    looks = 0
    check = ChangeHub.check

    def count_looks(hub: ChangeHub) -> None:
        nonlocal looks
        looks += 1
        check(hub)

    async with keeping(servers=count) as kept:

        async def keep_off(server_id: str) -> None:
            kept.power.want("SHUTOFF", [server_id])
            await kept.power.synced([server_id])

        with monkeypatch.context() as patch:
            patch.setattr(ChangeHub, "check", count_looks)
            async with anyio.create_task_group() as tasks:
                for server_id in kept.ids:
                    tasks.start_soon(keep_off, server_id)
    return looks


def test_tasks_that_wait_for_a_server_each_are_not_woken_by_every_change(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        assert await looks_of_waiters(monkeypatch, 60) <= 60 * 10
        monkeypatch.setattr(ChangeHub, "wait_for", lambda self, key: self.wait())
        assert await looks_of_waiters(monkeypatch, 60) > 60 * 60

    run_virtually(main)


def test_waiting_for_earlier_wishes_is_not_put_off_by_later_ones() -> None:
    class SlowMemory(ProcessMemory):
        revision = 0

        async def save(self, rows: Sequence[DesiredRow]) -> int:
            await anyio.sleep(1.0)
            self.revision += 1
            return self.revision

    async def main() -> None:
        books = Books(Backoff(), resync=RESYNC, on_change=lambda name: None)
        inbox = Inbox(books, SlowMemory(), check=False, on_change=lambda: None, on_force=lambda number: None)
        inbox.loaded.set()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(inbox.admit)
            for number in range(1, 6):
                inbox.want("ACTIVE", [f"server-{number}"])
                # Another one is always on its way.
                inbox.want("ACTIVE", [f"other-{number}"])
                await advance(2.5)
                inbox.on_page(2 * number - 1)
                assert inbox.holds(2 * number - 1)
                assert not inbox.holds(2 * number)
            tasks.cancel_scope.cancel()

    run_virtually(main)


@pytest.mark.parametrize("held", [True, False])
def test_what_waits_for_its_slot_can_still_be_forgotten_but_without_being_held_back(
    held: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not held:
        monkeypatch.setattr("bms_async.reconcile.doing._MAX_HOLD", 0.0)

    async def main() -> None:
        async with keeping(servers=70) as kept:
            for server_id in kept.ids[20:]:
                await kept.bms.servers.stop([server_id])
            kept.power.want("SHUTOFF", kept.ids[:20])
            await advance(5.0)
            kept.power.forget(kept.ids[:19])
            await advance(200.0)
            left_on = [server.id async for server in kept.bms.servers.list() if server.status == "ACTIVE"]
            assert left_on == (kept.ids[:19] if held else [])
            await kept.power.synced(timeout=1.0)

    run_virtually(main)


def test_held_back_servers_go_together_once_there_is_a_slot_and_are_not_held_for_ever() -> None:
    async def main() -> None:
        async with keeping(servers=80) as kept:
            for server_id in kept.ids[30:]:
                await kept.bms.servers.stop([server_id])
            for server_id in kept.ids[:30]:
                kept.power.want("SHUTOFF", [server_id])
                await advance(1.0)
            await kept.power.synced(timeout=120.0)
            assert kept.arrived("servers.stop") == 51

    run_virtually(main)


def test_two_reconcilers_of_contrary_desires_do_not_use_the_limits_up() -> None:
    async def main() -> None:
        async with keeping(servers=8) as kept, kept.bms.reconciler(name="other", resync=RESYNC) as other:
            kept.power.want("ACTIVE", kept.ids)
            other.want("SHUTOFF", kept.ids)
            await advance(8 * RESYNC)
            # Each of the two acts once a resync, and now and then on a few that ended late.
            assert kept.acted <= 4 * 8
            assert other.statistics().asked >= 8 * 4

    run_virtually(main)


def test_with_a_rollout_one_run_is_under_way_at_a_time_and_walks_as_that_says() -> None:
    async def main() -> None:
        rollout = Rollout(group_by="availability_zone", max_unavailable=1)
        async with keeping(servers=90, rollout=rollout, job_seconds=(5.0, 5.0)) as kept:
            kept.power.want("SHUTOFF", [*kept.ids[:2], *kept.ids[40:42], *kept.ids[80:82]])
            kept.power.want("ACTIVE", kept.ids[10:20])
            most = 0
            while not isinstance(kept.power.condition(kept.ids[81]), Synced):
                most = max(most, under_way(kept))
                assert sum(job.status in ("INIT", "RUNNING") for job in kept.cloud.jobs) <= 3
                await advance(0.5)
            await kept.power.synced()
            assert most <= 3
            assert kept.power.statistics().runs == 1

    run_virtually(main)


def test_leaving_sends_nothing_more_and_does_not_wait_for_jobs() -> None:
    async def main() -> None:
        async with keeping(servers=100, wave_size=10, job_seconds=(600.0, 600.0)) as kept:
            kept.power.want("SHUTOFF", kept.ids)
            await advance(5.0)
            began_at, sent = anyio.current_time(), kept.acted
            await kept.power.__aexit__(None, None, None)
            assert anyio.current_time() - began_at < 1.0
            assert sent > 0
            assert "closed" in repr(kept.power)
            await advance(1500.0)
            assert kept.acted == sent
            with pytest.raises(ClientClosedError):
                kept.power.want("SHUTOFF", kept.ids)
            with pytest.raises(ClientClosedError):
                await kept.power.synced()

    run_virtually(main)


@pytest.mark.parametrize("when", [0.0, 0.05, 0.11, 3.0, 30.0])
def test_closing_the_client_ends_it_whatever_it_is_at(when: float) -> None:
    async def main() -> None:
        ended: list[str] = []
        async with keeping(servers=2000, latency=(0.1, 0.3)) as kept, anyio.create_task_group() as tasks:

            async def read() -> None:
                try:
                    async for _ in kept.power.changes():
                        pass
                except ClientClosedError:
                    ended.append("changes")

            async def wait() -> None:
                with pytest.raises(ClientClosedError):
                    await kept.power.synced()
                ended.append("synced")

            tasks.start_soon(read)
            tasks.start_soon(wait)
            kept.power.want("SHUTOFF", kept.ids)
            await anyio.sleep(when)
            await kept.bms.aclose()
            await advance(1.0)
            assert sorted(ended) == ["changes", "synced"]
            sent = kept.acted
            await advance(100.0)
            assert kept.acted == sent

    run_virtually(main)


def test_it_is_opened_once_and_only_on_an_open_client() -> None:
    async def main() -> None:
        async with keeping(servers=1) as kept:
            with pytest.raises(ClientClosedError, match="opened once"):
                await kept.power.__aenter__()
            other = kept.bms.reconciler()
            assert "new" in repr(other)
            assert not other.is_leading
            await kept.bms.aclose()
            with pytest.raises(ClientClosedError):
                async with other:
                    pass
            with pytest.raises(ClientClosedError):
                kept.bms.reconciler()

    run_virtually(main)


@pytest.mark.parametrize("error", [OSError("no disk"), SystemExit(3)])
def test_servers_of_a_run_that_broke_are_read_and_tried_again(
    error: BaseException, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "bms_async.reconcile")
    broken = [3]
    act = ProcessActor.act

    async def breaking(
        self: ProcessActor, action: ReconcileAction, ids: Sequence[str], on_outcome: Callable[[Outcome], None]
    ) -> None:
        broken[0] -= 1
        if broken[0] >= 0:
            raise error
        await act(self, action, ids, on_outcome)

    monkeypatch.setattr(ProcessActor, "act", breaking)

    async def main() -> None:
        async with keeping(servers=5) as kept:
            kept.power.want(ServerStatus.SHUTOFF, kept.ids)
            await kept.power.synced(timeout=120)
            assert kept.acted == 1
            assert len(caplog.records) == 3

    run_virtually(main)


def test_a_fault_of_its_own_is_raised_to_all_who_wait(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        async with keeping(servers=5) as kept:
            monkeypatch.setattr(kept.power._engine.books, "observe", None)
            kept.power.want("SHUTOFF", kept.ids)
            with pytest.raises(TypeError):
                await kept.power.synced()
            with pytest.raises(TypeError):
                kept.power.changes()
        assert "the reconciler power failed" in caplog.text

    run_virtually(main)


def test_a_server_that_was_forgotten_counts_for_the_wave_until_its_job_has_ended() -> None:
    async def main() -> None:
        async with keeping(servers=20, wave_size=10, job_seconds=(100.0, 100.0)) as kept:
            kept.power.want("SHUTOFF", kept.ids[:10])
            await advance(2.0)
            kept.power.forget(kept.ids[:10])
            kept.power.want("SHUTOFF", kept.ids[10:])
            await advance(50.0)
            assert under_way(kept) == 10
            assert kept.acted == 1
            with pytest.raises(NotSyncedError):
                await kept.power.synced(timeout=20)
            await advance(100.0 + RESYNC)
            assert kept.acted == 2

    run_virtually(main)
