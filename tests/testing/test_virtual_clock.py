"""The virtual clock: it jumps, it creeps, it keeps the order, and it says when nothing will ever happen."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
import time

import anyio
import anyio.from_thread
import anyio.lowlevel
import anyio.to_thread
import pytest

from bms_async.testing import (
    CloudSettings,
    DeadlockError,
    SimulatedCloud,
    VirtualClockLoop,
    advance,
    run_virtually,
    suspend,
)
from tests.support.machine import patience

DAY = 86400.0


def test_a_day_passes_at_once_and_the_result_is_returned() -> None:
    async def main() -> float:
        before = asyncio.get_running_loop().time()
        await anyio.sleep(DAY)
        return asyncio.get_running_loop().time() - before

    # On a real clock it takes longer than any test may.
    assert run_virtually(main) == pytest.approx(DAY, abs=1e-3)


def test_timers_fire_in_their_order_and_the_same_each_time() -> None:
    async def main() -> list[tuple[int, float]]:
        rang: list[tuple[int, float]] = []

        async def ring(number: int, after: float) -> None:
            await anyio.sleep(after)
            rang.append((number, anyio.current_time()))

        async with anyio.create_task_group() as tasks:
            for number, after in enumerate((30, 10, 20, 10)):
                tasks.start_soon(ring, number, after)
        return rang

    first = run_virtually(main)
    assert [number for number, _ in first] == [1, 3, 2, 0]
    assert first == run_virtually(main)


def test_each_run_begins_at_zero() -> None:
    async def main() -> float:
        return anyio.current_time()

    assert run_virtually(main) == run_virtually(main) < 0.001


def test_the_clock_creeps_so_that_what_waits_for_it_in_a_busy_loop_ends() -> None:
    async def main() -> int:
        passes = 0
        end = anyio.current_time() + 0.0005
        while anyio.current_time() < end:
            await asyncio.sleep(0)
            passes += 1
        return passes

    assert run_virtually(main) == pytest.approx(500, abs=5)


def test_a_timeout_and_a_cancelled_timer_take_no_real_time_and_leave_no_trace() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        loop.call_later(5, pytest.fail, "it was cancelled").cancel()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(7):
                await asyncio.sleep(DAY)
        return loop.time()

    assert run_virtually(main) == pytest.approx(7, abs=1e-3)


def test_a_deadlock_is_told_with_who_waits_and_where() -> None:
    async def wait_for_nobody() -> None:
        await anyio.Event().wait()

    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(wait_for_nobody(), name="the forgotten one")

    with pytest.raises(DeadlockError) as error:
        run_virtually(main)
    told = str(error.value)
    assert told.startswith("all tasks wait, and nothing will ever happen\n")
    assert "the forgotten one: test_a_deadlock_is_told_with_who_waits_and_where.<locals>.wait_for_nobody" in told
    assert "test_virtual_clock.py:" in told


def test_who_sleeps_for_ever_makes_nothing_happen_either() -> None:
    async def main() -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(anyio.sleep_forever())
            await asyncio.sleep(DAY)

    with pytest.raises(DeadlockError, match="nothing will ever happen"):
        run_virtually(main)


def test_a_deadlock_on_a_socket_says_that_sockets_need_a_real_clock() -> None:
    async def main() -> None:
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            await asyncio.get_running_loop().sock_recv(ours, 1)

    with pytest.raises(DeadlockError, match="waits for a real socket or process, which needs a real clock"):
        run_virtually(main)


@pytest.mark.parametrize("library", ["asyncio", "anyio", "an executor"])
def test_the_clock_stands_still_while_a_thread_works(library: str) -> None:
    may_end = threading.Event()

    def work() -> str:
        assert may_end.wait(patience(30.0))
        return "done"

    async def main() -> None:
        loop = asyncio.get_running_loop()
        ticked: list[float] = []
        far = loop.call_later(DAY, ticked.append, 0.0)
        before = loop.time()
        # The last thing that happens before the loop has nothing left to do but to wait for the thread.
        loop.call_soon(loop.call_soon, may_end.set)
        if library == "asyncio":
            done = await asyncio.to_thread(work)
        elif library == "anyio":
            done = await anyio.to_thread.run_sync(work)
        else:
            done = await loop.run_in_executor(None, work)
        assert done == "done"
        assert loop.time() - before < 0.001
        assert ticked == []
        far.cancel()

    run_virtually(main)


def test_a_thread_that_waits_for_the_loop_gets_its_turn() -> None:
    async def main() -> float:
        before = anyio.current_time()
        await anyio.to_thread.run_sync(lambda: anyio.from_thread.run(anyio.sleep, 0.01))
        return anyio.current_time() - before

    assert run_virtually(main) == pytest.approx(0.01, abs=1e-3)


def test_the_loop_can_be_given_to_whoever_takes_a_loop_factory() -> None:
    async def main() -> bool:
        await anyio.sleep(DAY)
        return isinstance(asyncio.get_running_loop(), VirtualClockLoop)

    with asyncio.Runner(loop_factory=VirtualClockLoop) as runner:
        assert runner.run(main())
    assert anyio.run(main, backend_options={"loop_factory": VirtualClockLoop})


async def test_on_a_real_clock_advancing_is_refused_instead_of_slept() -> None:
    with pytest.raises(RuntimeError, match=r"needs a virtual clock.*mark\.bms\(virtual=True\)"):
        await advance(1)


@pytest.mark.bms(virtual=True)
async def test_a_test_that_is_marked_runs_on_it() -> None:
    await advance(DAY)
    assert anyio.current_time() == pytest.approx(DAY, abs=1e-3)


async def test_a_run_within_a_run_is_refused_before_it_begins() -> None:
    async def main() -> None:
        pytest.fail("it ran")

    with pytest.raises(RuntimeError, match="runs its own loop, and one is running already"):
        run_virtually(main)


def test_advancing_lets_happen_what_is_due_at_its_very_end_with_all_that_follows() -> None:
    async def main() -> list[int]:
        looked = 0
        seen: list[int] = []

        async def look_each_minute() -> None:
            nonlocal looked
            while True:
                await anyio.sleep(60)
                for _ in range(100):
                    await anyio.lowlevel.checkpoint()
                looked += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(look_each_minute)
            for seconds in (60, 60, 600):
                await advance(seconds)
                seen.append(looked)
            tasks.cancel_scope.cancel()
        return seen

    assert run_virtually(main) == [1, 2, 12]


@pytest.mark.bms(virtual=True)
@pytest.mark.parametrize("seconds", [-1.0, float("nan")])
async def test_time_cannot_be_told_to_go_back(seconds: float) -> None:
    with pytest.raises(ValueError, match=rf"seconds={seconds}: expected 0 or more"):
        await advance(seconds)


def test_a_timer_in_the_past_rings_at_once_and_the_clock_does_not_go_back() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(DAY)
        before = loop.time()
        rang: list[float] = []
        loop.call_at(5, lambda: rang.append(loop.time()))
        await asyncio.sleep(0.001)
        assert rang == [pytest.approx(before, abs=1e-4)]
        assert rang[0] > before

    run_virtually(main)


def test_whoever_sleeps_for_a_thousand_years_wakes_up() -> None:
    async def main() -> float:
        loop = asyncio.get_running_loop()
        await asyncio.sleep(1000 * 365 * DAY)
        before = loop.time()
        await asyncio.sleep(1)
        return loop.time() - before

    assert run_virtually(main) == pytest.approx(1, abs=0.01)


def test_a_coroutine_in_place_of_its_function_is_refused_with_what_to_write() -> None:
    async def main() -> None: ...

    with pytest.raises(TypeError, match=r"run_virtually\(main\(\)\): expected a function; call run_virtually\(main\)"):
        run_virtually(main())  # type: ignore[arg-type]


def test_a_signal_that_has_come_is_neither_a_deadlock_nor_later_than_the_next_timer() -> None:
    async def main() -> list[float]:
        loop = asyncio.get_running_loop()
        came: list[float] = []
        stop = asyncio.Event()

        def end() -> None:
            came.append(loop.time())
            stop.set()

        loop.add_signal_handler(signal.SIGTERM, end)
        try:
            for timer in (False, True):
                stop.clear()
                signal.raise_signal(signal.SIGTERM)
                if timer:
                    with anyio.fail_after(DAY):
                        await stop.wait()
                else:
                    await stop.wait()
        finally:
            loop.remove_signal_handler(signal.SIGTERM)
        return came

    assert run_virtually(main) == pytest.approx([0, 0], abs=1e-3)


def test_while_the_machine_sleeps_the_day_goes_on_and_the_loop_stands_still() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        rang = asyncio.Event()
        loop.call_later(10, rang.set)
        at, wall = loop.time(), loop.wall_time()
        suspend(7200)
        assert loop.time() == at
        assert loop.wall_time() == pytest.approx(wall + 7200)
        await advance(9)
        assert not rang.is_set()
        await advance(1)
        assert rang.is_set()
        assert loop.wall_time() - wall == pytest.approx(7210, abs=0.01)
        assert loop.suspended == 7200

    run_virtually(main)


def test_a_wall_clock_that_is_set_shows_in_the_time_of_day_and_not_in_the_loops(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        at, wall, honest = loop.time(), loop.wall_time(), time.time
        monkeypatch.setattr(time, "time", lambda: honest() + 3600)
        assert loop.wall_time() - wall == pytest.approx(3600, abs=1)
        assert loop.time() == at

    run_virtually(main)


def test_a_simulated_cloud_does_not_sleep_with_the_machine() -> None:
    async def main() -> None:
        cloud = SimulatedCloud(CloudSettings(servers=1, job_seconds=(600, 600)))
        async with cloud.client() as bms:
            job = await bms.servers.stop(cloud.ids)
            before = cloud.now()
            suspend(3600)
            assert cloud.now() == before + 3600
            assert (await job).status == "SUCCESS"
            assert anyio.current_time() < 60

    run_virtually(main)


async def test_on_a_real_clock_no_machine_can_be_sent_to_sleep() -> None:
    with pytest.raises(RuntimeError, match="suspend\\(\\) needs a virtual clock"):
        suspend(1)


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_nobody_sleeps_less_than_no_time(seconds: float) -> None:
    async def main() -> None:
        with pytest.raises(ValueError, match="expected 0 or more seconds"):
            suspend(seconds)

    run_virtually(main)
