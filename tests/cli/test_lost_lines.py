"""What was taken out of a buffer is written, whoever is cancelled while it is."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import anyio
import anyio.to_thread
import pytest

from bms_async.cli.access.known import KnownServers
from bms_async.cli.following.follow import Follower
from bms_async.cli.following.followed import MemoryRun
from bms_async.cli.following.outcomes import outcome_table
from bms_async.cli.terminal import output, progress
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.progress import Screen
from bms_async.cli.terminal.row_stream import RowStream
from bms_async.errors import JournalError
from bms_async.fleet import Outcome, OutcomeState
from bms_async.fleet.outcome import make_outcome

LINE = '{"type":"job"}\n'


def stream_with(line: str) -> RowStream[Outcome]:
    """The rows of `bms jobs watch` and of a run, of which one waits to be written."""
    stream = RowStream(outcome_table(KnownServers()), OutputOptions("jsonl"), Screen(quiet=True))
    stream._lines.append(line)
    return stream


async def cancel_while(work: Callable[[], Coroutine[Any, Any, object]]) -> None:
    """Cancel a task that has just begun to write, as the end of the last job does."""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(work)
        await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()


async def test_no_line_is_lost_when_the_command_ends_while_it_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(output, "write", written.append)
    stream = stream_with(LINE)
    await cancel_while(stream.write)
    with anyio.CancelScope(shield=True):
        await stream.write()
    assert written == [LINE]


async def test_the_line_would_be_lost_by_a_write_that_can_be_cancelled(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []

    async def write_unshielded(text: str) -> None:
        await anyio.to_thread.run_sync(written.append, text)

    monkeypatch.setattr("bms_async.cli.terminal.row_stream.write_aside", write_unshielded)
    stream = stream_with(LINE)
    await cancel_while(stream.write)
    await stream.write()
    assert written == []


@pytest.fixture
def screen(monkeypatch: pytest.MonkeyPatch) -> Screen:
    screen = Screen()
    screen.is_live = True
    monkeypatch.setattr(type(screen), "width", 60)
    return screen


@pytest.mark.parametrize("way", ["draw", "log"])
async def test_a_note_above_the_progress_is_printed_though_the_drawing_is_cancelled(
    screen: Screen, monkeypatch: pytest.MonkeyPatch, way: str
) -> None:
    written: list[str] = []
    monkeypatch.setattr(progress, "_write", written.append)
    screen.print_above("web-1 BMS.3037: no")
    await cancel_while((lambda: screen.draw([])) if way == "draw" else screen.log)
    assert written == []
    await screen.close()
    assert "".join(written).count("web-1 BMS.3037: no") == 1
    # What was never drawn is not gone back over.
    assert "\x1b[1A" not in "".join(written)


async def test_a_note_is_printed_once_though_its_thread_is_left_behind(
    screen: Screen, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[str] = []
    has_begun, may_go_on = threading.Event(), threading.Event()

    def write(text: str) -> None:
        if not has_begun.is_set():
            has_begun.set()
            may_go_on.wait(10)
        written.append(text)

    monkeypatch.setattr(progress, "_write", write)
    screen.print_above("web-1 failed")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(screen.draw, [])
        while not has_begun.is_set():
            await anyio.lowlevel.checkpoint()
        tasks.cancel_scope.cancel()
    may_go_on.set()
    await screen.close()
    text = "".join(written)
    assert text.count("web-1 failed") == 1
    # The cursor was hidden by the one and is shown by the other.
    assert "\x1b[?25h" in text


class _BrokenRun(MemoryRun):
    """Two outcomes, of more that are known to have ended, and then the journal fails."""

    def __init__(self) -> None:
        pass

    async def outcomes(self) -> AsyncIterator[Outcome]:
        for number in range(2):
            yield make_outcome(f"server-{number}", OutcomeState.SUCCEEDED)
        raise JournalError("the disk is gone")


async def test_outcomes_that_came_before_the_journal_failed_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    written: list[str] = []
    monkeypatch.setattr(output, "write", written.append)
    follower = Follower.__new__(Follower)
    received: list[Outcome] = []
    follower._run, follower._no_output, follower._received = _BrokenRun(), None, -100
    follower._rows = RowStream(outcome_table(KnownServers()), OutputOptions("jsonl"), Screen(quiet=True))
    monkeypatch.setattr(follower, "_on_outcome", received.append)
    monkeypatch.setattr(_BrokenRun, "progress", type("P", (), {"done": 5}), raising=False)
    with pytest.raises(JournalError):
        await follower._consume()
    assert len(received) == "".join(written).count("\n") == 2
