"""Follows a fleet run to its end: prints outcomes as they come, the progress, and the results."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
from rich.text import Text

from bms_async import FleetReport, JournalError, Outcome, OutcomeState
from bms_async.cli.terminal.exit import Code, discard_output, print_error
from bms_async.cli.terminal.output import is_terminal, json_line, write_aside
from bms_async.cli.terminal.progress import Screen
from bms_async.cli.terminal.signals import SignalHandler
from bms_async.cli.terminal.texts import pluralize, strip_control_chars
from bms_async.cli.terminal.words import message_of
from bms_async.redaction import shown_text

from .display import Display
from .failures import explain_code
from .followed import Followed
from .results import Results, print_results

if TYPE_CHECKING:
    from bms_async.cli.access.cloud import OpenClient
    from bms_async.cli.report_page.head import PageHead
    from bms_async.cli.report_page.history import CallHistory
    from bms_async.cli.report_page.live import LivePage, LiveSource

__all__ = ["Follower", "print_in_doubt"]

_TICK = 0.25
_YIELD_EVERY = 500
_MAX_IN_DOUBT = 5
LINGER = 5.0
"""Seconds that whoever looks at the page of the run has to see its end."""


class Follower:
    """Follows a run.

    Args:
        action: What is done, in a word, such as ``stop``.
        run: The run, in progress.
        cloud: The client.
        screen: Where the progress is shown.
        json: Whether outcomes are written as JSON.
        wave: How many servers may be in flight at once.
        batch: How many servers one call takes at most.
        servers: The number of servers.
        operation: The call that does it; by default the action of ``servers``.
        polls: The call that finds out how it ended.
        terms: How the servers are walked through, in words.
        live: The page that is served while it goes on.
    """

    def __init__(
        self,
        action: str,
        run: Followed,
        cloud: OpenClient,
        screen: Screen,
        *,
        json: bool,
        wave: int | None,
        batch: int,
        servers: int,
        operation: str | None = None,
        polls: str = "jobs.get",
        terms: Sequence[str] = (),
        live: LivePage | None = None,
    ) -> None:
        self._action = action
        self._terms = terms
        self._live = live
        self._operation = operation or f"servers.{action}"
        self._run = run
        self._screen = screen
        self._json = json
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
        if self._live is not None:
            self._live.begin(self._live_source())
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
            report: Where a report of the run is written, in the form of its suffix.
            stop: The signal that ended it, if one did.
        """
        code = 128 + stop.number if stop.number else self._no_output or code
        code = self._print(code, quiet=quiet)
        if report is not None:
            await self._write_report(Path(report), await self._run.report())
        if self._live is not None:
            whole = await self._run.report()
            await self._live.end(whole, max(0, self._servers - len(whole)), linger=0.0 if stop.number else LINGER)
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
                results, self._display.failures, where=self._cloud.where, quiet=quiet, json=self._json, code=code
            )
        except OSError as error:
            return self._lose_output(error)
        return code

    async def _stop_if_interrupted(self) -> None:
        await self._interrupted.wait()
        await self._run.stop()

    async def _consume(self) -> None:
        """Consume outcomes as they come, and write them as JSON if asked to."""
        lines: list[str] = []
        try:
            async for outcome in self._run.outcomes():
                self._on_outcome(outcome)
                if self._json:
                    lines.append(json_line(describe(outcome)))
                if len(lines) >= _YIELD_EVERY or (lines and self._received >= self._run.progress.done):
                    await self._write(lines)
        finally:
            # What came before a journal failed, too.
            await self._write(lines)

    def _on_outcome(self, outcome: Outcome) -> None:
        self._received += 1
        if self._live is not None:
            self._live.add(outcome)
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
                self._display.block()[:1] if is_terminal() and not self._json else self._display.block()
            )
        else:
            await self._screen.log(self._display.line())

    async def _write_report(self, path: Path, report: FleetReport) -> None:
        try:
            from bms_async.cli.report_page.forms import write_report

            left, history = max(0, self._servers - len(report)), self._history()
            write = partial(write_report, path, report, history, left, head=self._head(), known=self._cloud.known)
            await anyio.to_thread.run_sync(write)
        except (OSError, ImportError) as error:
            print_error(f"the report {path} was not written: {error}")

    def _head(self) -> PageHead:
        from bms_async.cli.report_page.head import head_of

        return head_of(self._action, self._cloud.place, self._run.key, self._terms)

    def _live_source(self) -> LiveSource:
        from bms_async.cli.report_page.live import LiveSource

        known, run = self._cloud.known, self._run
        return LiveSource(
            self._head(), known, self._operation, self._servers, lambda: run.progress.waits_for, self._history
        )

    def _history(self) -> CallHistory:
        from bms_async.cli.report_page.history import CallHistory

        return CallHistory(
            operation=self._operation,
            limit=self._display.limiter.limit,
            started=self._display.started,
            calls=tuple(self._display.samples[0]),
            polls=tuple(self._display.samples[1]),
            poll_limit=self._display.polls.limit,
        )


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
