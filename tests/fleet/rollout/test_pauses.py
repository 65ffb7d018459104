"""A rollout that is paused, or outside of its window, begins nothing, whatever it waits for just then."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime

import pytest

from bms_async import FleetTimeoutError, Limits, OutcomeState, Rollout, Window
from bms_async.fleet.rollout.gate import Gate
from bms_async.simulator import Answer, CutBefore, Fault, Throttled
from bms_async.testing import VirtualClockLoop, suspend
from tests.fleet._helpers import assert_one_outcome_each, states
from tests.fleet.rollout._judge import books_of, judge
from tests.fleet.rollout._runs import asked, ended, nth_call, well
from tests.support.clouds import simulated
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState
ONE_A_MINUTE = Limits({"servers.reboot": 1})


def wall_time() -> float:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, VirtualClockLoop)
    return loop.wall_time()


def until(at: datetime) -> float:
    """Seconds from now to a time of day, on the running loop's clock."""
    return at.timestamp() - wall_time()


@pytest.mark.parametrize("option", ["rollout", "wave_size"])
def test_nothing_begins_in_a_pause_and_what_is_under_way_is_followed_to_its_end(option: str) -> None:
    async def main() -> None:
        async with simulated(servers=20, job_seconds=(60, 60)) as sim:
            wave = option == "wave_size"
            rollout = None if wave else Rollout(max_unavailable=5)
            run = sim.bms.fleet.reboot(sim.ids, wave_size=5 if wave else None, rollout=rollout)
            await advance(30)
            run.pause()
            await advance(600)
            progress = run.progress
            assert (progress.done, progress.in_flight) == (5, 0)
            assert progress.waits_for == "the run is paused"
            run.resume()
            await advance(1)
            assert run.progress.waits_for != "the run is paused"
            assert run.progress.in_flight == 5
            assert states((await ended(run)).outcomes) == {S.SUCCEEDED: 20}
            judge(books_of(sim.cloud), allowed=5, pauses=[(30.0, 630.0)])

    run_virtually(main)


@pytest.mark.parametrize("deferred", [False, True], ids=["new servers", "deferred ones"])
def test_a_pause_of_a_day_wakes_nothing_up(deferred: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    questions = 0
    ask = Gate.is_open

    def count(gate: Gate, at: datetime) -> bool:
        nonlocal questions
        questions += 1
        assert questions < 1000, "the run wakes up again and again"
        return ask(gate, at)

    monkeypatch.setattr(Gate, "is_open", count)

    async def main() -> None:
        nonlocal questions
        async with simulated(servers=10, job_seconds=(60, 60)) as sim:
            if deferred:
                body = b'{"error": {"code": "BMS.0212", "message": "busy"}}'
                sim.cloud.faults.append(nth_call("servers.reboot", 1, Answer(status=400, body=body)))
            run = sim.bms.fleet.reboot(sim.ids, rollout=Rollout(max_unavailable=5, settle=10))
            await advance(20)
            run.pause()
            await advance(300)
            questions = 0
            await advance(86400)
            assert questions < 5
            run.resume()
            assert states((await ended(run)).outcomes) == {S.SUCCEEDED: 10}

    run_virtually(main)


@pytest.mark.parametrize("first", ["never sent", "throttled", "lost"])
def test_a_batch_that_waits_for_its_slot_is_not_sent_in_a_pause(first: str) -> None:
    async def main() -> None:
        async with simulated(servers=6, job_seconds=(5, 5), limits=ONE_A_MINUTE) as sim:
            fault: Fault | None = Throttled() if first == "throttled" else CutBefore() if first == "lost" else None
            if fault is not None:
                sim.cloud.faults.append(nth_call("servers.reboot", 2, fault))
            run = sim.bms.fleet.reboot(sim.ids, rollout=Rollout(max_unavailable=3))
            # The second slot comes a minute after the first, and the third one is in the pause.
            await advance(70 if fault is not None else 30)
            run.pause()
            before = sim.arrived("servers.reboot")
            await advance(600)
            assert sim.arrived("servers.reboot") == before
            run.resume()
            report = await ended(run)
            assert_one_outcome_each(sim.ids, report.outcomes)
            lost = 3 if first == "lost" else 0
            assert (report.by_state[S.SUCCEEDED], report.by_state[S.UNKNOWN]) == (6 - lost, lost)
            judge(books_of(sim.cloud), allowed=3, pauses=[(70.0 if fault is not None else 30.0, 630.0)])

    run_virtually(main)


def test_without_a_pause_the_waiting_batch_is_sent() -> None:
    async def main() -> None:
        async with simulated(servers=6, job_seconds=(5, 5), limits=ONE_A_MINUTE) as sim:
            run = sim.bms.fleet.reboot(sim.ids, rollout=Rollout(max_unavailable=3))
            await advance(100)
            assert asked(sim) == 6
            await ended(run)

    run_virtually(main)


def test_a_pause_while_the_servers_are_read_lets_them_be_read() -> None:
    async def main() -> None:
        async with simulated(servers=20, job_seconds=(5, 5), latency=(2, 2)) as sim:

            async def source() -> AsyncIterator[str]:
                for server_id in sim.ids:
                    await advance(1)
                    yield server_id

            run = sim.bms.fleet.reboot(source(), rollout=Rollout(group_by="availability_zone", max_unavailable=2))
            await advance(10)
            assert run.progress.waits_for == "the servers are being read"
            run.pause()
            await advance(60)
            assert run.progress.total == 20
            assert run.progress.rollout is not None
            assert run.progress.rollout.waiting == 20
            assert asked(sim) == 0
            run.resume()
            assert states((await ended(run)).outcomes) == {S.SUCCEEDED: 20}

    run_virtually(main)


def test_a_pause_among_the_canaries_keeps_the_rest() -> None:
    async def main() -> None:
        async with simulated(servers=10, job_seconds=(60, 60)) as sim:
            run = sim.bms.fleet.reboot(sim.ids, rollout=Rollout(canary=2, ready=well(sim)))
            await advance(30)
            run.pause()
            await advance(600)
            assert asked(sim) == 2
            run.resume()
            assert states((await ended(run)).outcomes) == {S.SUCCEEDED: 10}
            judge(books_of(sim.cloud), canaries=sim.ids[:2], pauses=[(30.0, 630.0)])

    run_virtually(main)


def test_a_pause_before_the_first_server_holds_all_and_may_be_repeated() -> None:
    async def main() -> None:
        async with simulated(servers=10, job_seconds=(60, 60)) as sim:
            run = sim.bms.fleet.reboot(sim.ids, rollout=Rollout())
            run.pause()
            run.pause()
            await advance(600)
            assert asked(sim) == 0
            run.resume()
            run.resume()
            assert states((await ended(run)).outcomes) == {S.SUCCEEDED: 10}
            run.pause()
            assert run.progress.waits_for is None

    run_virtually(main)


def test_another_thread_may_pause_and_resume() -> None:
    async def main() -> None:
        async with simulated(servers=10, job_seconds=(60, 60)) as sim:

            async def in_a_thread(name: str) -> None:
                thread = threading.Thread(target=getattr(run, name))
                thread.start()
                await asyncio.to_thread(thread.join)
                await advance(0.001)

            run = sim.bms.fleet.reboot(sim.ids, rollout=Rollout(max_unavailable=5))
            await advance(30)
            await in_a_thread("pause")
            await advance(600)
            assert asked(sim) == 5
            await in_a_thread("resume")
            assert states((await ended(run)).outcomes) == {S.SUCCEEDED: 10}

    run_virtually(main)


@pytest.mark.parametrize("end", ["cancel", "detach", "close", "timeout"])
def test_a_paused_run_can_be_ended(end: str) -> None:
    async def main() -> None:
        async with simulated(servers=10, job_seconds=(60, 60)) as sim:
            timeout = 300.0 if end == "timeout" else None
            run = sim.bms.fleet.reboot(sim.ids, rollout=Rollout(max_unavailable=5), total_timeout=timeout)
            await advance(30)
            run.pause()
            await advance(10 if end == "detach" else 100)
            match end:
                case "cancel" | "detach":
                    run.cancel(detach=end == "detach")
                case "close":
                    await sim.bms.aclose()
            report = await ended(run, within=3600)
            assert_one_outcome_each(sim.ids, report.outcomes)
            assert states(report.outcomes) == {S.UNKNOWN if end == "detach" else S.SUCCEEDED: 5, S.SKIPPED: 5}
            assert report.timed_out is (end == "timeout")
            skipped = {type(outcome.error) for outcome in report.outcomes if outcome.state is S.SKIPPED}
            assert skipped == {FleetTimeoutError if end == "timeout" else type(None)}
            assert asked(sim) == 5

    run_virtually(main)


def window_around(begin: float, end: float) -> Window:
    """A window that is open from so many seconds until so many from now, rounded up to minutes."""
    now = wall_time()
    first, last = (datetime.fromtimestamp(now + seconds + 59, UTC) for seconds in (begin, end))
    return Window(f"{first:%H:%M}-{last:%H:%M}", zone="UTC")


def test_a_window_that_closes_while_a_batch_waits_for_its_slot_holds_it_until_the_next_day() -> None:
    async def main() -> None:
        async with simulated(servers=6, job_seconds=(5, 5), limits=Limits({"servers.reboot": 1})) as sim:
            window = window_around(-120, 0)
            run = sim.bms.fleet.reboot(sim.ids, rollout=Rollout(max_unavailable=3, window=window))
            closes = window.next_change(datetime.fromtimestamp(wall_time(), UTC))
            assert closes is not None
            await advance(until(closes) + 3600)
            assert asked(sim) == 3
            assert str(run.progress.waits_for).startswith("outside of the window ")
            report = await ended(run, within=86400)
            assert states(report.outcomes) == {S.SUCCEEDED: 6}
            judge(books_of(sim.cloud), allowed=3, is_open=window.is_open)

    run_virtually(main)


def test_a_machine_that_sleeps_sees_within_a_minute_that_its_window_is_open() -> None:
    async def main() -> None:
        async with simulated(servers=6, job_seconds=(5, 5)) as sim:
            window = window_around(5 * 3600, 6 * 3600)
            run = sim.bms.fleet.reboot(sim.ids, rollout=Rollout(window=window))
            await advance(600)
            assert asked(sim) == 0
            suspend(5 * 3600)
            await advance(61)
            assert asked(sim) == 6
            assert states((await ended(run)).outcomes) == {S.SUCCEEDED: 6}

    run_virtually(main)


def test_a_run_that_times_out_outside_of_its_window_skips_all() -> None:
    async def main() -> None:
        async with simulated(servers=6, job_seconds=(5, 5)) as sim:
            run = sim.bms.fleet.reboot(
                sim.ids, rollout=Rollout(window=window_around(5 * 3600, 6 * 3600)), total_timeout=600
            )
            report = await ended(run, within=660)
            assert states(report.outcomes) == {S.SKIPPED: 6}
            assert report.timed_out
            assert asked(sim) == 0

    run_virtually(main)
