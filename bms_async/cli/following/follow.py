"""Follows a fleet run to its end: prints outcomes as they come, the progress, and the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from rich.text import Text

from bms_async import FleetReport, JournalError, Outcome, OutcomeState
from bms_async._files import write_atomically
from bms_async.cli.terminal.exit import Code, discard_output, print_error
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.output import is_terminal, write, write_aside
from bms_async.cli.terminal.progress import Screen
from bms_async.cli.terminal.rows import RowWriter
from bms_async.cli.terminal.signals import SignalHandler
from bms_async.cli.terminal.texts import pluralize, strip_control_chars
from bms_async.cli.terminal.words import message_of
from bms_async.redaction import shown_text

from .display import Display
from .failures import explain_code
from .followed import Followed
from .outcomes import outcome_table
from .results import Results, print_results

if TYPE_CHECKING:
    from bms_async.cli.access.cloud import OpenClient
    from bms_async.cli.report_page import CallHistory

__all__ = ["Follower", "print_in_doubt"]

_TICK = 0.25
_YIELD_EVERY = 500
_MAX_IN_DOUBT = 5


class Follower:
    """Follows a run.

    Args:
        action: What is done, in a word, such as ``stop``.
        run: The run, in progress.
        cloud: The client.
        screen: Where the progress is shown.
        output: The form of outcomes as rows; usually there are none, and the results are text for people.
        wave: How many servers may be in flight at once.
        batch: How many servers one call takes at most.
        servers: The number of servers.
        operation: The call that does it; by default the action of ``servers``.
        polls: The call that finds out how it ended.
    """

    def __init__(
        self,
        action: str,
        run: Followed,
        cloud: OpenClient,
        screen: Screen,
        *,
        output: OutputOptions,
        wave: int | None,
        batch: int,
        servers: int,
        operation: str | None = None,
        polls: str = "jobs.get",
    ) -> None:
        self._operation = operation or f"servers.{action}"
        self._run = run
        self._screen = screen
        self._lines: list[str] = []
        table = outcome_table(cloud.known, describe)
        self._rows = None if output.is_default else RowWriter(table, output, out=self._lines.append)
        self._servers = servers
        self._cloud = cloud
        self._display = Display(
            action,
            run,
            cloud.bms,
            screen,
            operation=self._operation,
            polls=polls,
            wave=wave,
            batch=batch,
            servers=servers,
        )
        self._no_output: Code | None = None
        self._received = 0
        self._interrupted = anyio.Event()

    def interrupt(self) -> None:
        """Have nothing more sent, and do not wait for the jobs in flight."""
        self._interrupted.set()

    async def follow(self) -> int:
        """Show the run until it has ended or was interrupted; return the exit code.

        Raises:
            JournalError: The run is in a journal that cannot be read any more.
        """
        failure: JournalError | None = None
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._show)
                tasks.start_soon(self._stop_if_interrupted)
                try:
                    await self._consume()
                except JournalError as error:
                    # Raised below, outside of the task group, which would wrap it.
                    failure = error
                tasks.cancel_scope.cancel()
            await self._refresh()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await self._screen.close()
        if failure is not None:
            raise failure
        progress = self._run.progress
        is_success = all(state.is_success or not count for state, count in progress.by_state.items())
        return Code.OK if is_success and progress.done >= self._servers else Code.FAILED

    async def conclude(self, code: int, *, quiet: bool, report: str | None, stop: SignalHandler) -> int:
        """Print the results and how to go on, and return the exit code.

        Args:
            code: The exit code by the outcomes of the servers.
            quiet: Whether to print failures only.
            report: Where a page about the run is written.
            stop: The signal that ended it, if one did.
        """
        code = 128 + stop.number if stop.number else self._no_output or code
        code = self._print(code, quiet=quiet)
        if report is not None:
            await self._write_page(Path(report), await self._run.report())
        self._run.print_advice()
        return code

    def _print(self, code: int, *, quiet: bool) -> int:
        """Print the results, and return the exit code."""
        if self._no_output is not None:
            return code
        run = self._run
        results = Results(
            action=self._operation,
            key=run.key,
            servers=self._servers,
            by_state=run.progress.by_state,
            is_interrupted=run.is_interrupted,
            aborted=run.aborted,
            unverified=run.unverified,
            seconds=anyio.current_time() - self._display.began,
            calls=self._display.calls() if run.is_sent_here else None,
        )
        try:
            print_results(
                results, self._display.failures, where=self._cloud.where, quiet=quiet, rows=self._rows, code=code
            )
            write("".join(self._lines))
        except OSError as error:
            return self._lose_output(error)
        return code

    async def _stop_if_interrupted(self) -> None:
        await self._interrupted.wait()
        await self._run.stop()

    async def _consume(self) -> None:
        """Consume outcomes as they come, and write them as rows if asked to."""
        try:
            async for outcome in self._run.outcomes():
                self._on_outcome(outcome)
                if self._rows is not None:
                    self._rows.add(outcome)
                has_all = self._lines and self._received >= self._run.progress.done
                if has_all or len(self._lines) >= _YIELD_EVERY:
                    await self._write()
        finally:
            # What came before a journal failed, too.
            await self._write()

    def _on_outcome(self, outcome: Outcome) -> None:
        self._received += 1
        if outcome.seconds is not None and outcome.state is OutcomeState.SUCCEEDED:
            self._display.durations.add(outcome.seconds)
        explanation = self._display.failures.add(outcome)
        if explanation is not None and outcome.error is not None:
            code = (strip_control_chars(outcome.reason), "red")
            self._screen.print_above(
                Text.assemble(
                    f"{strip_control_chars(outcome.server_id)} ", code, f": {strip_control_chars(explanation)}"
                )
            )

    async def _write(self) -> None:
        text = "".join(self._lines)
        self._lines.clear()
        if not text or self._no_output is not None:
            return
        try:
            await write_aside(text)
        except OSError as error:
            self._lose_output(error)

    def _lose_output(self, error: OSError) -> Code:
        """Discard further output; return the exit code for that. A closed pipe ends the run, a full disk does not."""
        discard_output()
        if isinstance(error, BrokenPipeError):
            self._no_output = Code.NO_READER
            self.interrupt()
        else:
            self._no_output = Code.USAGE
            self._screen.print_above(f"bms: results cannot be written any more: {error}; the run continues")
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
        """Draw the final state."""
        self._display.sample()
        if self._screen.is_live:
            # Results on the same terminal follow, and repeat the rest of the block.
            await self._screen.draw(
                self._display.block()[:1] if is_terminal() and self._rows is None else self._display.block()
            )
        else:
            await self._screen.log(self._display.line())

    async def _write_page(self, path: Path, report: FleetReport) -> None:
        try:
            left = max(0, self._servers - len(report))
            await anyio.to_thread.run_sync(lambda: write_page(path, report, self._history(), left))
        except (OSError, ImportError) as error:
            print_error(f"the report {path} was not written: {error}")

    def _history(self) -> CallHistory:
        from bms_async.cli.report_page import CallHistory

        return CallHistory(
            operation=self._operation,
            limit=self._display.limiter.limit,
            started=self._display.started,
            calls=tuple(self._display.samples[0]),
            polls=tuple(self._display.samples[1]),
            poll_limit=self._display.polls.limit,
        )


def write_page(path: Path, report: FleetReport, history: CallHistory, left: int = 0) -> None:
    """Write the page about a run.

    Args:
        path: The file.
        report: What became of the servers.
        history: The calls that the run made.
        left: How many servers have not ended, so that they are not in the report.

    Raises:
        OSError: It cannot be written.
        ImportError: What renders it is not installed.
    """
    from bms_async.cli.report_page import render_report

    write_atomically(path, render_report(report, history, left).encode())


def describe(outcome: Outcome) -> dict[str, object]:
    """Return an outcome as the fields of its line of JSON."""
    fields: dict[str, object] = {"type": "outcome", "server_id": outcome.server_id, "state": outcome.state.value}
    if outcome.error is not None:
        fields["code"] = shown_text(outcome.code)
        fields["error"] = str(outcome.error)
        fields["what"] = explain_code(outcome.code)
        message = message_of(outcome)
        if message is not None:
            fields["said"] = message.text
        if message is not None and message.request_id is not None:
            fields["request_id"] = message.request_id
    if outcome.job_id is not None:
        fields["job_id"] = outcome.job_id
    fields["attempts"] = outcome.attempts
    if outcome.seconds is not None:
        fields["seconds"] = round(outcome.seconds, 3)
    return fields


def print_in_doubt(servers: Sequence[str]) -> None:
    """Print the servers that a resumed run leaves alone, since it is not known whether the cloud rebooted them."""
    more = f" and {len(servers) - _MAX_IN_DOUBT:,} more" if len(servers) > _MAX_IN_DOUBT else ""
    print_error(
        f"{pluralize(len(servers), 'server')} may have been rebooted, since no response came; they are left alone:"
    )
    print_error(f"{' '.join(map(strip_control_chars, servers[:_MAX_IN_DOUBT]))}{more}", first="  ")
