"""Servers are brought to what is desired of them, and kept there: on a simulated cloud, judged by its own books."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from itertools import pairwise
from typing import Any

import pytest

from bms_async import (
    Backoff,
    Degraded,
    NotSyncedError,
    Progressing,
    ServerStatus,
    SubJobFailedError,
    Synced,
)
from bms_async.simulator import Answer, CutBefore
from tests.reconcile._helpers import JOB, RESYNC, keeping, wait_until_busy
from tests.support.virtual_clock import advance, run_virtually

WITHIN_A_RESYNC = RESYNC + JOB + 2.0
"""Seconds within which a drift is found and repaired."""


def run(main: Callable[[], Awaitable[None]]) -> None:
    run_virtually(main)  # type: ignore[arg-type]


def test_servers_are_brought_to_what_is_desired_in_one_call_each_way() -> None:
    async def main() -> None:
        async with keeping(servers=100, stopped_share=0.5) as kept:
            kept.power.want(ServerStatus.ACTIVE, kept.ids[:60])
            kept.power.want("SHUTOFF", kept.ids[60:80])
            await kept.power.synced(timeout=JOB + 2)
            assert set(kept.ids[:60]) <= set(kept.cloud.on)
            assert set(kept.ids[60:80]) <= set(kept.cloud.off)
            assert (kept.arrived("servers.start"), kept.arrived("servers.stop")) == (1, 1)
            assert kept.arrived("servers.reboot") == 0

    run(main)


def test_a_server_that_drifts_is_brought_back_within_a_resync() -> None:
    async def main() -> None:
        async with keeping(servers=20) as kept:
            kept.power.want("SHUTOFF", kept.ids[:10])
            await kept.power.synced()
            await advance(2 * RESYNC)
            kept.cloud.turn_on(*kept.ids[2:5])
            await advance(WITHIN_A_RESYNC)
            assert set(kept.ids[:10]) <= set(kept.cloud.off)
            assert kept.arrived("servers.stop") == 2
            assert kept.power.statistics().synced == 10

    run(main)


def test_a_server_that_is_switched_right_after_its_job_is_brought_back_too() -> None:
    async def main() -> None:
        async with keeping(servers=20) as kept:
            kept.power.want("SHUTOFF", kept.ids[:10])
            await kept.power.synced()
            kept.cloud.turn_on(*kept.ids[2:5])
            await advance(WITHIN_A_RESYNC + 12.0)
            assert set(kept.ids[:10]) <= set(kept.cloud.off)
            assert kept.arrived("servers.stop") == 2

    run(main)


def test_servers_of_which_nothing_is_desired_are_never_touched() -> None:
    async def main() -> None:
        async with keeping(servers=30, stopped_share=0.5) as kept:
            on, off = kept.cloud.on[:3], kept.cloud.off[:3]
            kept.power.want("ACTIVE", off)
            kept.power.want("SHUTOFF", on)
            await kept.power.synced()
            kept.power.forget(on)
            await kept.power.synced()
            kept.cloud.turn_on(*on)
            await advance(5 * RESYNC)
            assert set(on) <= set(kept.cloud.on)
            touched = {server.id for server in kept.cloud.cloud.servers.values() if server.starts or server.stops}
            assert touched == {*on, *off}
            assert kept.acted == 2

    run(main)


def test_what_a_replacement_lacks_is_forgotten() -> None:
    async def main() -> None:
        async with keeping(servers=10) as kept:
            kept.power.want("SHUTOFF", kept.ids[:4])
            kept.power.want("SHUTOFF", ["no id"])
            await kept.power.synced(kept.ids[:4])
            kept.power.replace({kept.ids[0].upper(): "SHUTOFF", kept.ids[4]: ServerStatus.SHUTOFF})
            await kept.power.synced()
            assert set(kept.power.conditions()) == {kept.ids[0], kept.ids[4]}
            kept.cloud.turn_on(*kept.ids[:5])
            await advance(WITHIN_A_RESYNC + 12.0)
            assert kept.cloud.off == [kept.ids[0], kept.ids[4]]

    run(main)


def test_of_contrary_wishes_the_last_counts_and_waits_for_the_end_of_the_first() -> None:
    async def main() -> None:
        async with keeping(servers=10, job_seconds=(20.0, 20.0)) as kept:
            power, server_id = kept.power, kept.ids[0]
            power.want("SHUTOFF", [server_id])
            await wait_until_busy(kept, server_id)
            power.want("ACTIVE", [server_id])
            await advance(5.0)
            assert kept.arrived("servers.start") == 0
            condition = power.condition(server_id)
            assert isinstance(condition, Progressing)
            assert condition.action == "stop"
            await power.synced()
            server = kept.cloud.server(server_id)
            assert (server.stops, server.starts, server.powered) == (1, 1, True)
            assert kept.acted == 2

    run(main)


def test_of_contrary_wishes_of_one_moment_only_the_last_is_acted_on() -> None:
    async def main() -> None:
        async with keeping(servers=10) as kept:
            for status in ("SHUTOFF", "ACTIVE", "SHUTOFF", "ACTIVE"):
                kept.power.want(status, kept.ids)
            await kept.power.synced(timeout=5)
            assert kept.acted == 0

    run(main)


def test_the_same_wish_again_changes_nothing() -> None:
    async def main() -> None:
        async with keeping(servers=10) as kept:
            for _ in range(50):
                kept.power.want("SHUTOFF", kept.ids)
                await advance(1.0)
            await kept.power.synced()
            assert kept.arrived("servers.stop") == 1

    run(main)


def test_a_server_that_somebody_else_is_at_work_on_is_left_alone_until_that_is_over() -> None:
    async def main() -> None:
        async with keeping(servers=4, job_seconds=(60.0, 60.0)) as kept:
            kept.power.want("ACTIVE", kept.ids)
            await kept.power.synced()
            async with kept.cloud.client() as colleague:
                await colleague.servers.stop([kept.ids[0]])
                seen: list[Any] = []
                while kept.cloud.server(kept.ids[0]).action is not None:
                    seen.append(kept.power.condition(kept.ids[0]))
                    assert kept.acted == 1
                    await advance(1.0)
                busy = [each for each in seen if isinstance(each, Progressing)]
                assert busy
                assert busy[-1].action is None
                assert "powering-off" in busy[-1].why
                await advance(RESYNC + 60.0 + 2)
                assert kept.cloud.server(kept.ids[0]).powered
                assert kept.acted == 2

    run(main)


def test_a_job_of_the_same_client_holds_its_servers_without_a_resync() -> None:
    async def main() -> None:
        async with keeping(servers=4, resync=10_000.0, job_seconds=(60.0, 60.0)) as kept:
            kept.power.want("ACTIVE", kept.ids)
            await kept.power.synced()
            job = await kept.bms.servers.stop([kept.ids[0]])
            await advance(1.0)
            condition = kept.power.condition(kept.ids[0])
            assert isinstance(condition, Progressing)
            assert job.id in condition.why
            await job
            await advance(60.0 + 5.0)
            assert kept.cloud.server(kept.ids[0]).powered
            assert kept.arrived("servers.start") == 1

    run(main)


def test_a_server_that_cannot_be_brought_there_is_left_alone_for_longer_each_time() -> None:
    async def main() -> None:
        async with keeping(servers=5, backoff=Backoff(60.0, cap=300.0, jitter=0.0)) as kept:
            broken = kept.ids[0]
            kept.cloud.break_down(broken)
            kept.power.want("SHUTOFF", kept.ids)
            with pytest.raises(NotSyncedError) as caught:
                await kept.power.synced(timeout=30)
            assert set(caught.value.reasons) == {broken}
            condition = kept.power.condition(broken)
            assert isinstance(condition, Degraded)
            assert isinstance(condition.reason, SubJobFailedError)
            assert condition.attempts == 1
            assert condition.next_try is not None
            assert (condition.next_try - condition.since).total_seconds() == pytest.approx(60.0)
            times: list[float] = []
            since = condition.since
            for _ in range(1500):
                await advance(1.0)
                times += [kept.cloud.now()] * (kept.arrived("servers.stop") - 1 - len(times))
            # A minute after the first attempt, and then twice as long each time, up to the cap.
            gaps = [after - before for before, after in pairwise([0.0, *times])]
            delays = [60.0, 120.0, 240.0, 300.0, 300.0]
            assert len(gaps) >= len(delays) - 1
            assert all(wait <= gap <= wait + WITHIN_A_RESYNC for wait, gap in zip(delays, gaps, strict=False))
            condition = kept.power.condition(broken)
            assert isinstance(condition, Degraded)
            assert condition.since == since
            assert condition.attempts == kept.arrived("servers.stop")

    run(main)


def test_the_back_off_begins_anew_once_a_server_was_as_desired() -> None:
    async def main() -> None:
        async with keeping(servers=2) as kept:
            power, server_id = kept.power, kept.ids[0]
            kept.cloud.break_down(server_id)
            power.want("SHUTOFF", [server_id])
            await advance(400)
            condition = power.condition(server_id)
            assert isinstance(condition, Degraded)
            assert condition.attempts > 1
            kept.cloud.repair(server_id)
            await power.synced(timeout=1000)
            await advance(2 * RESYNC)
            kept.cloud.break_down(server_id)
            kept.cloud.turn_on(server_id)
            await advance(WITHIN_A_RESYNC)
            condition = power.condition(server_id)
            assert isinstance(condition, Degraded)
            assert condition.attempts == 1

    run(main)


@pytest.mark.parametrize("how", ["ERROR", "locked", "gone"])
def test_a_server_that_cannot_be_acted_on_is_degraded_and_never_asked(how: str) -> None:
    async def main() -> None:
        async with keeping(servers=20) as kept:
            server_id = kept.ids[0]
            if how == "ERROR":
                kept.cloud.server(server_id).break_down()
            elif how == "locked":
                kept.cloud.lock(server_id)
            else:
                kept.cloud.remove(server_id)
            kept.power.want("SHUTOFF", [server_id, *kept.ids[:12]])
            await advance(6 * RESYNC)
            condition = kept.power.condition(server_id)
            assert isinstance(condition, Degraded)
            assert (condition.attempts, condition.next_try) == (0, None)
            words = {"ERROR": "its status is ERROR", "locked": "it is locked: unlock it"}
            assert condition.reason == words.get(how, "the cloud does not show it: check the id and the project")
            assert kept.arrived("servers.stop") == 1
            asked = {each for job in kept.cloud.jobs for each in job.server_ids}
            assert server_id not in asked
            if how == "locked":
                kept.cloud.unlock(server_id)
                await advance(WITHIN_A_RESYNC)
                assert isinstance(kept.power.condition(server_id), Synced)

    run(main)


@pytest.mark.parametrize("fault", [Answer(status=503), Answer(status=401), CutBefore()])
def test_while_the_list_fails_nothing_is_acted_on_and_nothing_wrong_is_said(
    fault: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bms_async.reconcile")

    async def main() -> None:
        async with keeping(servers=20) as kept:
            kept.power.want("SHUTOFF", kept.ids)
            await kept.power.synced()
            await advance(2 * RESYNC)
            before = {server_id: kept.power.condition(server_id) for server_id in kept.ids}
            kept.cloud.faults.add("servers.list", fault, times=None)
            kept.cloud.turn_on(*kept.ids[:5])
            # What was known is too old by then.
            await advance(3 * RESYNC)
            kept.power.want("ACTIVE", kept.ids[10:12])
            await advance(600)
            assert {server_id: kept.power.condition(server_id) for server_id in kept.ids[:10]} == {
                server_id: before[server_id] for server_id in kept.ids[:10]
            }
            assert kept.acted == 1
            assert kept.power.statistics().failed_readings > 3
            warnings = [record for record in caplog.records if record.levelno >= logging.WARNING]
            assert [record.name for record in warnings] == ["bms_async.reconcile"]
            kept.cloud.faults.clear()
            await advance(70 + WITHIN_A_RESYNC)
            assert set(kept.cloud.off) == {*kept.ids[:10], *kept.ids[12:]}

    run(main)
