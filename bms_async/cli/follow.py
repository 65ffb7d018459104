"""A fleet run, followed to its end: outcomes as they come, how far it is, and what became of it."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from rich.text import Text

from bms_async import BmsClient, FleetReport, FleetRun, Outcome, OutcomeState
from bms_async._files import write_atomically
from bms_async.redaction import shown_text

from .display import Display
from .exit import Code, discard_output, print_error
from .failures import explain_code
from .journal import Journal
from .output import is_terminal, json_line, pluralize, strip_control_chars, write_aside
from .progress import Screen
from .results import print_results
from .signals import SignalHandler
from .words import words_of

if TYPE_CHECKING:
    from .report_page import CallHistory

__all__ = ["Follower", "print_in_doubt"]

_TICK = 0.25
_YIELD_EVERY = 500
_MOST_JOBS = 20
_MOST_DOUBTFUL = 5


class Follower:
    """Follows a run.

    Args:
        action: What is done.
        run: The run, under way.
        bms: The client.
        screen: Where its progress is shown.
        json: Whether outcomes are written as JSON.
        wave: How many servers may be under way at once.
        servers: How many servers it is about.
    """

    def __init__(
        self, action: str, run: FleetRun, bms: BmsClient, screen: Screen, *, json: bool, wave: int | None, servers: int
    ) -> None:
        self._action = action
        self._run = run
        self._screen = screen
        self._json = json
        self._display = Display(action, run, bms, screen, wave=wave, servers=servers)
        self._no_output: Code | None = None
        self._told = 0

    def interrupt(self) -> None:
        """Ask for nothing more, and do not wait for what was asked for."""
        self._run.cancel(detach=True)

    async def follow(self) -> int:
        """Show the run until it has ended; return the exit code."""
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._show)
                report = await self._tell()
                tasks.cancel_scope.cancel()
            await self._refresh()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await self._screen.close()
        return (
            Code.OK if all(state.is_success or not count for state, count in report.by_state.items()) else Code.FAILED
        )

    async def conclude(
        self, journal: Journal, code: int, *, where: str, quiet: bool, report: str | None, stop: SignalHandler
    ) -> int:
        """Tell what became of it, keep what is needed to go on, and return the exit code.

        Args:
            journal: The saved jobs.
            code: The exit code as far as the servers are concerned.
            where: Which cloud it was.
            quiet: Whether to tell nothing but failures.
            report: Where a page about it is written.
            stop: Which signal ended it, if one did.
        """
        told = self._run.report
        if told is None:
            raise RuntimeError("a run that was followed to its end has no report")
        ended_early = told.cancelled or told.aborted is not None
        if ended_early:
            await journal.close(self._left(told), self._doubtful(told))
        else:
            await journal.remove()
        seconds = anyio.current_time() - self._display.began
        code = 128 + stop.number if stop.number else self._no_output or code
        if self._no_output is None:
            try:
                print_results(
                    told,
                    self._display.failures,
                    self._display.calls(),
                    seconds=seconds,
                    where=where,
                    quiet=quiet,
                    json=self._json,
                    code=code,
                    saved=journal.path if ended_early else None,
                )
            except OSError as error:
                code = self._lose_output(error)
        if report is not None:
            await self._write_page(Path(report), told)
        if ended_early:
            self._print_how_to_resume(journal, told)
        return code

    async def _tell(self) -> FleetReport:
        """Take outcomes in as they come, and write them where that is asked for."""
        lines: list[str] = []
        async for outcome in self._run:
            self._take(outcome)
            if self._json:
                lines.append(json_line(describe(outcome)))
            if len(lines) >= _YIELD_EVERY or (lines and self._told >= self._run.progress.done):
                await self._write(lines)
        await self._write(lines)
        return await self._run

    def _take(self, outcome: Outcome) -> None:
        self._told += 1
        if outcome.seconds is not None and outcome.state is OutcomeState.SUCCEEDED:
            self._display.durations.add(outcome.seconds)
        told = self._display.failures.add(outcome)
        if told is not None and outcome.error is not None:
            code = (strip_control_chars(outcome.reason), "red")
            self._screen.print_above(
                Text.assemble(f"{strip_control_chars(outcome.server_id)} ", code, f": {strip_control_chars(told)}")
            )

    async def _write(self, lines: list[str]) -> None:
        text = "".join(lines)
        lines.clear()
        if not text or self._no_output is not None:
            return
        try:
            await write_aside(text)
        except OSError as error:
            self._lose_output(error)

    def _lose_output(self, error: OSError) -> Code:
        """Do without standard output; return the exit code for that. Who has left ends the run, and a full disk not."""
        discard_output()
        if isinstance(error, BrokenPipeError):
            self._no_output = Code.NO_READER
            self._run.cancel(detach=True)
        else:
            self._no_output = Code.USAGE
            self._screen.print_above(f"bms: results cannot be written any more: {error}; the run goes on")
        return self._no_output

    async def _show(self) -> None:
        while True:
            self._display.sample()
            if self._screen.is_live:
                await self._screen.draw(self._display.block())
            elif not self._screen.quiet:
                await self._screen.log(self._display.line() if self._screen.is_due() else None)
            await anyio.sleep(_TICK)

    async def _refresh(self) -> None:
        """Show the end."""
        self._display.sample()
        if self._screen.is_live:
            # Where the results go to the same terminal, they say the rest.
            await self._screen.draw(
                self._display.block()[:1] if is_terminal() and not self._json else self._display.block()
            )
        else:
            await self._screen.log(self._display.line())

    def _left(self, report: FleetReport) -> list[str]:
        """Return the servers that another run may ask for: nothing was done to them, or twice is as good as once."""
        states = {OutcomeState.SKIPPED} if self._action == "reboot" else {OutcomeState.SKIPPED, OutcomeState.UNKNOWN}
        jobless = (each for each in report.outcomes if each.job_id is None and each.state in states)
        return [each.server_id for each in jobless if _may_be_asked(each)]

    def _doubtful(self, report: FleetReport) -> list[str]:
        """Return the servers that may have been rebooted, without a job that tells."""
        if self._action != "reboot":
            return []
        unknown = (each for each in report.outcomes if each.state is OutcomeState.UNKNOWN)
        return [each.server_id for each in unknown if each.job_id is None]

    def _print_how_to_resume(self, journal: Journal, report: FleetReport) -> None:
        left, path = pluralize(len(self._left(report)), "server"), journal.path
        if path is None and not journal.jobs:
            in_doubt = report.by_state[OutcomeState.UNKNOWN]
            asked = f"{pluralize(in_doubt, 'server')} may have been asked for" if in_doubt else "nothing was asked for"
            print_error(f"no job is known of; {asked}, and there is nothing saved to go on with")
            return
        if path is None:
            print_error(f"the {pluralize(len(journal.jobs), 'job')} could not be saved. To follow the first of them:")
            print_error(f"bms jobs watch {' '.join(journal.jobs[:_MOST_JOBS])}", first="  ")
            return
        # Each command has a line of its own, so that it can be copied whole.
        file = shlex.quote(os.fspath(path))
        if report.cancelled and journal.jobs:
            print_error("what was asked for goes on in the cloud. To follow it:")
            print_error(f"bms jobs watch --from {file}", first="  ")
        if self._left(report):
            # What failed before counts again, so that the same share would end the next run at once.
            share = " --abort-above 100%" if report.aborted else ""
            whatever = ", whatever fails" if report.aborted else ""
            print_error(f"to {'follow it and ' if report.cancelled else ''}go on with the {left} left{whatever}:")
            print_error(f"bms {self._action} --resume {file}{share}", first="  ")
        if self._doubtful(report):
            print_in_doubt(self._doubtful(report))

    async def _write_page(self, path: Path, report: FleetReport) -> None:
        try:
            await anyio.to_thread.run_sync(lambda: write_page(path, report, self._history(report)))
        except (OSError, ImportError) as error:
            print_error(f"the report {path} was not written: {error}")

    def _history(self, report: FleetReport) -> CallHistory:
        from .report_page import CallHistory

        return CallHistory(
            operation=f"servers.{self._action}",
            limit=self._display.limiter.limit,
            started=report.started,
            calls=tuple(self._display.samples[0]),
            polls=tuple(self._display.samples[1]),
            poll_limit=self._display.polls.limit,
        )


def write_page(path: Path, report: FleetReport, history: CallHistory) -> None:
    """Write the page about a run.

    Raises:
        OSError: It cannot be written.
        ImportError: What renders it is not installed.
    """
    from .report_page import render_report

    write_atomically(path, render_report(report, history).encode())


def describe(outcome: Outcome) -> dict[str, object]:
    """Return an outcome as its line of JSON tells it."""
    told: dict[str, object] = {"type": "outcome", "server_id": outcome.server_id, "state": outcome.state.value}
    if outcome.error is not None:
        told["code"] = shown_text(outcome.code)
        told["error"] = str(outcome.error)
        told["what"] = explain_code(outcome.code)
        words = words_of(outcome)
        if words is not None:
            told["said"] = words.text
        if words is not None and words.request_id is not None:
            told["request_id"] = words.request_id
    if outcome.job_id is not None:
        told["job_id"] = outcome.job_id
    told["attempts"] = outcome.attempts
    if outcome.seconds is not None:
        told["seconds"] = round(outcome.seconds, 3)
    return told


def print_in_doubt(servers: Sequence[str]) -> None:
    """Say which servers are left alone, for nobody knows whether the cloud took them."""
    more = f" and {len(servers) - _MOST_DOUBTFUL:,} more" if len(servers) > _MOST_DOUBTFUL else ""
    print_error(
        f"{pluralize(len(servers), 'server')} may have been rebooted, for no answer came; a --resume leaves them alone:"
    )
    print_error(f"{' '.join(map(strip_control_chars, servers[:_MOST_DOUBTFUL]))}{more}", first="  ")


def _may_be_asked(outcome: Outcome) -> bool:
    """Whether a skipped server was only not come to; an id that no server can have never will be."""
    return not isinstance(outcome.error, ValueError)
