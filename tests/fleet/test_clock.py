"""The times of a run: those of the day, whatever becomes of the clocks."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from bms_async.fleet.clock import Clock, wall_clock
from bms_async.testing import VirtualClockLoop
from tests.support.virtual_clock import run_virtually

BEGAN = 1_700_000_000.0


class Clocks:
    """A loop's time and a wall clock, each set by hand."""

    def __init__(self) -> None:
        self.loop = VirtualClockLoop()
        self.wall = BEGAN
        self.clock = Clock(self.loop, lambda: self.wall)

    def passed(self) -> float:
        return (self.clock.now() - self.clock.created).total_seconds()

    def go_on(self, *, loop: float, wall: float) -> float:
        self.loop._virtual_now += loop
        self.wall += wall
        return self.passed()


def with_clocks(use: object) -> None:
    clocks = Clocks()
    try:
        use(clocks)  # type: ignore[operator]
    finally:
        clocks.loop.close()


def test_a_run_goes_by_the_loops_clock_as_long_as_the_wall_clock_keeps_up() -> None:
    def use(clocks: Clocks) -> None:
        assert clocks.go_on(loop=10.0, wall=10.4) == 10.0
        assert clocks.go_on(loop=10.0, wall=9.8) == 20.0

    with_clocks(use)


def test_what_the_machine_has_slept_counts() -> None:
    def use(clocks: Clocks) -> None:
        assert clocks.go_on(loop=10.0, wall=10.0) == 10.0
        assert clocks.go_on(loop=0.0, wall=7200.0) == 7210.0
        assert clocks.go_on(loop=5.0, wall=5.0) == 7215.0

    with_clocks(use)


def test_a_clock_that_is_set_back_does_not_take_a_runs_times_back() -> None:
    def use(clocks: Clocks) -> None:
        assert clocks.go_on(loop=10.0, wall=-3600.0) == 10.0
        assert clocks.go_on(loop=10.0, wall=10.0) == 20.0

    with_clocks(use)


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(-5000, 5000))))
def test_times_never_go_back_and_are_never_long_behind_the_day(steps: list[tuple[float, float]]) -> None:
    def use(clocks: Clocks) -> None:
        before = 0.0
        for loop, wall in steps:
            now = clocks.go_on(loop=loop, wall=wall)
            assert now >= before
            assert clocks.clock.created.timestamp() + now >= clocks.wall - 1.01
            before = now

    with_clocks(use)


def test_a_virtual_loop_has_a_time_of_day_of_its_own_and_any_other_the_machines() -> None:
    async def main() -> None:
        loop = asyncio.get_running_loop()
        assert isinstance(loop, VirtualClockLoop)
        before = wall_clock(loop)()
        await asyncio.sleep(86_400)
        assert 86_400 <= wall_clock(loop)() - before < 86_401

    run_virtually(main)
