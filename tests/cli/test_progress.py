"""The bar of a run: what has ended, what waits for its state to be read back, and what was never asked for."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import anyio
import anyio.lowlevel
import pytest

from bms_async import BmsClient, Limits, OutcomeState, Progress
from bms_async.cli.following.display import Display
from bms_async.cli.following.followed import Followed, count_under_way
from bms_async.cli.terminal import signals
from bms_async.cli.terminal.progress import Screen
from bms_async.cli.terminal.signals import SignalHandler
from bms_async.testing import run_virtually


def progress_of(servers: int, *, submitted: int, in_flight: int = 0, to_verify: int = 0, **states: int) -> Progress:
    by_state = {state: states.get(state.value.lower(), 0) for state in OutcomeState}
    return Progress(
        total=servers,
        submitted=submitted,
        done=sum(by_state.values()),
        by_state=by_state,
        in_flight=in_flight,
        to_verify=to_verify,
    )


class _Run:
    notes = ()
    is_rollout = False
    is_sent_here = True
    seconds: float | None = None

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self.end = ""

    @property
    def under_way(self) -> int:
        return count_under_way(self.progress)


def shown(servers: int, look: Callable[[Display, _Run], None]) -> None:
    """Look at the display of a run that began ten seconds ago."""

    async def main() -> None:
        watcher = SimpleNamespace(failed_polls=0, polls=0, in_flight=0)
        bms = SimpleNamespace(limits=Limits(), statistics=lambda: SimpleNamespace(watcher=watcher))
        run = _Run(progress_of(servers, submitted=0))
        display = Display(
            "stop",
            cast("Followed", run),
            cast("BmsClient", bms),
            Screen(),
            operation="servers.stop",
            polls="jobs.get",
            wave=None,
            batch=1000,
            servers=servers,
        )
        display.sample()
        await anyio.sleep(10)
        look(display, run)

    run_virtually(main)


def head_of(display: Display) -> str:
    display.sample()
    return display.block()[0].plain


def test_the_bar_moves_and_says_a_time_while_ended_servers_wait_for_their_states_to_be_read() -> None:
    def look(display: Display, run: _Run) -> None:
        run.progress = progress_of(11_668, submitted=11_668, in_flight=1_291, to_verify=10_300, failed=77)
        head = head_of(display)
        assert " 10,377/11,668   88%" in head
        # At the pace so far: no outcome says yet how long a server takes.
        assert head.endswith(">=0:02 left")
        assert "10,300 ended and to be verified" in display.line()
        run.progress = progress_of(11_668, submitted=11_668, to_verify=11_591, failed=77)
        head = head_of(display)
        assert " 11,668/11,668   99%" in head
        assert head.endswith("verifying")
        run.progress = progress_of(11_668, submitted=11_668, succeeded=11_591, failed=77)
        run.end = "ended"
        assert " 11,668/11,668  100%" in head_of(display)

    shown(11_668, look)


def test_what_was_skipped_is_not_done_and_is_counted_once() -> None:
    def look(display: Display, run: _Run) -> None:
        run.progress = progress_of(80, submitted=13, succeeded=13, skipped=67)
        run.end = "interrupted"
        display.failures.add_reason("SKIPPED", "Nothing was done to it.", "x")
        assert " 13/80   16%" in head_of(display)
        assert head_of(display).endswith("interrupted")
        line = display.line()
        assert line.startswith("stop: 13 of 80, ")
        assert line.lower().count("skipped") == 1

    shown(80, look)


def test_a_run_that_had_ended_is_shown_with_its_own_time() -> None:
    def look(display: Display, run: _Run) -> None:
        run.progress = progress_of(1_200, submitted=1_200, succeeded=1_200)
        run.end, run.seconds = "ended", 3_600.0
        assert head_of(display).endswith("100%   20/min  1:00:00  ended")
        run.seconds = None
        assert head_of(display).endswith("100%    120/s  0:10  ended")

    shown(1_200, look)


def test_after_ctrl_c_no_time_is_said_for_what_is_not_asked_for_any_more() -> None:
    def look(display: Display, run: _Run) -> None:
        run.progress = progress_of(300_000, submitted=2_000, in_flight=1_900, succeeded=100)
        display.durations.add(15.0)
        for _ in range(2_000):
            display.durations.add(15.0)
        assert head_of(display).endswith("~5:16 left")
        assert "298 calls to go" in display.line()
        display.stops_asking = True
        assert head_of(display).endswith("~0:06 left") or head_of(display).endswith("~0:07 left")
        assert "calls to go" not in display.line()
        assert 5 < (display.seconds_under_way() or 0) < 7

    shown(300_000, look)


@pytest.mark.parametrize(
    ("columns", "ends"),
    [
        (20, [" 0/1,000,000", " 50%", "100%"]),
        (30, ["  0/1,000,000", " 500,000/1,000,000", " 1,000,000/1,000,000"]),
        (40, ["  0/1,000,000", " 500,000/1,000,000", " 1,000,000/1,000,000  ended"]),
    ],
)
def test_no_number_is_cut_on_a_narrow_terminal(columns: int, ends: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))

    def look(display: Display, run: _Run) -> None:
        heads = [head_of(display)]
        run.progress = progress_of(1_000_000, submitted=1_000_000, in_flight=500_000, succeeded=500_000)
        heads.append(head_of(display))
        run.progress, run.end = progress_of(1_000_000, submitted=1_000_000, succeeded=1_000_000), "ended"
        heads.append(head_of(display))
        assert [head[-len(end) :] for head, end in zip(heads, ends, strict=True)] == ends
        assert max(map(len, heads)) < columns

    shown(1_000_000, look)


def test_under_way_is_neither_what_waits_for_its_call_nor_what_the_cloud_refused_for_the_moment() -> None:
    assert count_under_way(progress_of(100, submitted=40, in_flight=60, succeeded=10)) == 30
    assert count_under_way(progress_of(100, submitted=40, in_flight=5, succeeded=10)) == 5
    assert count_under_way(progress_of(100, submitted=40, skipped=60, succeeded=40)) == 0
    assert count_under_way(progress_of(100, submitted=40, in_flight=40, to_verify=15)) == 25


def pressed(monkeypatch: pytest.MonkeyPatch, *received: tuple[float, signal.Signals], gently: bool = True) -> list[str]:
    """Return what came of signals, each so many seconds after the one before it."""
    happened: list[str] = []
    monkeypatch.setattr(SignalHandler, "_exit_now", staticmethod(lambda number: happened.append(f"exit {number}")))

    async def main() -> None:
        stop = SignalHandler()
        stop.on_interrupt = (lambda: happened.append("waits")) if gently else None
        stop.on_first_signal = lambda: happened.append("lets go")
        for seconds, number in received:
            await anyio.sleep(seconds)
            stop.on_signal(number)
        happened.append(f"code {128 + stop.number}")

    run_virtually(main)
    return happened


INT, TERM, HUP = signal.SIGINT, signal.SIGTERM, signal.SIGHUP


def test_ctrl_c_once_waits_twice_lets_go_and_three_times_exits(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pressed(monkeypatch, (1, INT)) == ["waits", "code 130"]
    assert pressed(monkeypatch, (1, INT), (9, INT)) == ["waits", "lets go", "code 130"]
    assert pressed(monkeypatch, (1, INT), (9, INT), (9, INT)) == ["waits", "lets go", "exit 2", "code 130"]
    assert pressed(monkeypatch, (1, INT), (9, INT), gently=False) == ["lets go", "exit 2", "code 130"]


def test_one_press_that_the_terminal_and_the_parent_deliver_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pressed(monkeypatch, (1, INT), (0.2, INT), (0.05, INT)) == ["waits", "code 130"]
    assert pressed(monkeypatch, (1, INT), (9, INT), (0.2, INT)) == ["waits", "lets go", "code 130"]


def test_another_signal_is_never_taken_for_the_same_press(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pressed(monkeypatch, (1, INT), (0.05, TERM)) == ["waits", "lets go", "code 130"]
    # Whatever comes with it asks for the same, and leaves it the time to end in order.
    assert pressed(monkeypatch, (1, INT), (0.05, TERM), (0.05, INT)) == ["waits", "lets go", "code 130"]
    assert pressed(monkeypatch, (1, INT), (0.05, TERM), gently=False) == ["lets go", "code 130"]
    assert pressed(monkeypatch, (1, TERM), (0.05, INT)) == ["lets go", "code 143"]
    assert pressed(monkeypatch, (1, INT), (0.05, TERM), (9, TERM)) == ["waits", "lets go", "exit 15", "code 130"]


@pytest.mark.parametrize("number", [INT, HUP])
@pytest.mark.parametrize("is_ignored", [True, False])
def test_a_signal_that_the_parent_has_ignored_stays_so_as_under_nohup(number: signal.Signals, is_ignored: bool) -> None:
    async def main(stop: SignalHandler) -> int:
        signal.raise_signal(number)
        for _ in range(10):
            await anyio.lowlevel.checkpoint()
        return stop.number

    before = signal.signal(number, signal.SIG_IGN if is_ignored else signal.SIG_DFL)
    try:
        assert signals.run_interruptibly(main) == (0 if is_ignored else 128 + number)
    finally:
        signal.signal(number, before)


def test_without_the_rule_one_press_would_let_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signals, "_DUPLICATE_SECONDS", -1.0)
    assert pressed(monkeypatch, (1, INT), (0.2, INT)) == ["waits", "lets go", "code 130"]


def test_what_does_not_wait_for_long_lets_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pressed(monkeypatch, (1, TERM)) == ["lets go", "code 143"]
    assert pressed(monkeypatch, (1, HUP), (9, HUP), (9, HUP)) == ["lets go", "code 129"]
    assert pressed(monkeypatch, (1, INT), (0.1, HUP)) == ["waits", "lets go", "code 130"]
    assert pressed(monkeypatch, (1, TERM), (9, INT)) == ["lets go", "exit 2", "code 143"]
