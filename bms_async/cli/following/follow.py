"""Follows a fleet run to its end: prints outcomes as they come, the progress, and the results."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread

from bms_async import JournalError, Outcome, OutcomeState
from bms_async.cli.access.learning import learn_all, learn_servers
from bms_async.cli.terminal.exit import Code, print_error
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.output import is_terminal
from bms_async.cli.terminal.progress import Screen
from bms_async.cli.terminal.row_stream import RowStream
from bms_async.cli.terminal.signals import SignalHandler
from bms_async.cli.terminal.texts import describe_os_error, duration

from .display import Display
from .followed import Followed
from .lists import FailedLists
from .not_as_asked import NotAsAsked
from .outcomes import outcome_table
from .pages import PageOfRun
from .results import Results, failure_line, print_results

if TYPE_CHECKING:
    from bms_async.cli.access.cloud import OpenClient
    from bms_async.cli.report_page.live import LivePage

__all__ = ["Follower"]

_TICK = 0.25
_YIELD_EVERY = 500
LINGER = 5.0
"""Seconds that whoever looks at the page of the run has to see its end."""


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
        output: OutputOptions,
        wave: int | None,
        batch: int,
        servers: int,
        operation: str | None = None,
        polls: str = "jobs.get",
        terms: Sequence[str] = (),
        live: LivePage | None = None,
    ) -> None:
        self._action = action
        self._live = live
        self._operation = operation or f"servers.{action}"
        self._run = run
        self._screen = screen
        self._rows = RowStream(outcome_table(cloud.known), output, screen, self._on_lost)
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
        self._page = PageOfRun(
            run, self._display, cloud, verb=action, operation=self._operation, terms=terms, servers=servers
        )
        self._not_as_asked = NotAsAsked()
        self._no_output: Code | None = None
        self._received = 0
        self._stops_asking, self._lets_go = anyio.Event(), anyio.Event()
        self._learning, self._consuming = anyio.CancelScope(), anyio.CancelScope()

    def heed(self, stop: SignalHandler) -> None:
        """Have signals end the run from here on: Ctrl-C once in order, and whatever else at once.

        Args:
            stop: The signals.
        """
        # A run that is carried out elsewhere goes on in any case.
        stop.on_interrupt = self._stops_asking.set if self._run.is_sent_here else None
        stop.on_first_signal = self._lets_go.set

    async def follow(self) -> int:
        """Show the run until it has ended or was interrupted; return the exit code.

        Raises:
            JournalError: The run is in a journal that cannot be read any more.
        """
        failure: JournalError | None = None
        if self._live is not None:
            self._live.begin(self._page.live_source())
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._show)
                tasks.start_soon(self._stop_asking)
                tasks.start_soon(self._let_go)
                tasks.start_soon(self._heed_failure)
                try:
                    with self._consuming:
                        await self._consume()
                    failure = self._run.failure if self._consuming.cancelled_caught else None
                except JournalError as error:
                    # Raised below, outside of the task group, which would wrap it.
                    failure = error
                tasks.cancel_scope.cancel()
            await self._refresh()
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(2):
                await self._screen.close()
                await self._rows.write(is_last=True)
        if failure is not None:
            raise failure
        progress = self._run.progress
        is_success = all(state.is_success or not count for state, count in progress.by_state.items())
        return Code.OK if is_success and progress.done >= self._servers else Code.FAILED

    async def see_through(self, stop: SignalHandler, *, quiet: bool, report: str | None, failed_to: str | None) -> int:
        """Do all of it: heed signals, show the run to its end, print what came of it, and return the exit code.

        Args:
            stop: The signals.
            quiet: Whether to print failures only.
            report: As of `conclude`.
            failed_to: As of `conclude`.

        Raises:
            JournalError: The run is in a journal that cannot be read any more.
        """
        self.heed(stop)
        code = await self.follow()
        return await self.conclude(code, quiet=quiet, report=report, stop=stop, failed_to=failed_to)

    async def conclude(
        self, code: int, *, quiet: bool, report: str | None, stop: SignalHandler, failed_to: str | None = None
    ) -> int:
        """Write the list of what is not as asked, print the results and how to go on, and return the exit code.

        Args:
            code: The exit code by the outcomes of the servers.
            quiet: Whether to print failures only.
            report: Where a report of the run is written, in the form of its suffix.
            stop: The signal that ended it, if one did.
            failed_to: Where the list is written beside the state folder.
        """
        servers = self._not_as_asked
        if servers and not stop.has_let_go:
            native = self._operation.startswith("nova.")
            with anyio.CancelScope() as learning:
                stop.on_interrupt = stop.on_first_signal = learning.cancel
                await learn_servers(self._cloud, servers.ids(), native=native)
        lists = FailedLists(servers, self._run, self._action, self._cloud)
        kept = await lists.keep()
        has_lost_list = failed_to is not None and not await lists.write(Path(failed_to))
        has_lost_page = report is not None and not await self._page.write(Path(report))
        if has_lost_list and code == Code.FAILED:
            code = Code.USAGE
        elif has_lost_list or has_lost_page:
            code = code or Code.USAGE
        await self._rows.write_in_order()
        code = 128 + stop.number if stop.number else self._no_output or code
        code = self._print(code, quiet=quiet, kept=kept)
        if servers:
            lists.print_where()
        try:
            if self._live is not None:
                await self._show_end(self._live, stop)
        finally:
            self._run.print_advice(servers, kept)
        return code

    async def _show_end(self, live: LivePage, stop: SignalHandler) -> None:
        """Let whoever looks at the page see the end; a signal ends that alone, since the run is over."""
        before, whole = stop.number, await self._run.report()
        with anyio.CancelScope() as looking:
            stop.on_interrupt = stop.on_first_signal = looking.cancel
            await live.end(whole, max(0, self._servers - len(whole)), linger=0.0 if before else LINGER)
        stop.number = before

    async def keep_lists(self, failed_to: str | None) -> None:
        """Write the lists of what is known of a run whose journal fails, and say where they are.

        Args:
            failed_to: Where the list is written beside the state folder.
        """
        lists = FailedLists(self._not_as_asked, self._run, self._action, self._cloud)
        await lists.keep()
        if failed_to is not None:
            await lists.write(Path(failed_to))
        if self._not_as_asked:
            lists.print_where()

    def _print(self, code: int, *, quiet: bool, kept: Path | None) -> int:
        """Print the results, and return the exit code."""
        if self._no_output is not None:
            return code
        run, rows = self._run, self._rows.rows
        results = Results(
            verb=self._action,
            operation=self._operation,
            key=run.key,
            servers=self._servers,
            by_state=run.progress.by_state,
            is_interrupted=run.is_interrupted,
            aborted=run.aborted,
            unverified=run.unverified,
            seconds=self._display.seconds(),
            calls=self._display.calls() if run.is_sent_here else None,
            failed_to=None if kept is None else str(kept),
        )
        try:
            if rows is not None and not rows.has_objects:
                rows.finish()
                self._rows.write_now()
            print_results(
                results,
                self._display.failures,
                known=self._cloud.known,
                where=self._cloud.place.brief,
                quiet=quiet,
                rows=rows,
                code=code,
            )
            self._rows.write_now()
        except OSError as error:
            self._rows.lose(error)
        return self._no_output or code

    async def _stop_asking(self) -> None:
        await self._stops_asking.wait()
        self._display.stops_asking = True
        under_way, seconds = self._run.under_way, self._display.seconds_under_way()
        about = "" if seconds is None else f" (about {duration(seconds)})"
        waiting = (
            f"waiting for {under_way:,} under way{about}; Ctrl-C again to let go" if under_way else "none is under way"
        )
        self._say(f"no further server is asked for; {waiting}")
        await self._run.stop_asking()

    async def _let_go(self) -> None:
        await self._lets_go.wait()
        self._display.stops_asking = True
        under_way = self._run.under_way
        if under_way and self._run.is_sent_here and self._no_output is None:
            self._say(f"no longer waiting for {under_way:,} under way, whose jobs go on in the cloud")
        self._learning.cancel()
        await self._run.let_go()

    async def _heed_failure(self) -> None:
        """End a run whose journal cannot be used any more, which would wait for what nobody can send."""
        while self._run.failure is None:  # noqa: ASYNC110 - whatever writes to the journal may be what finds it
            await anyio.sleep(_TICK)
        self._consuming.cancel()

    def _say(self, text: str) -> None:
        if self._screen.quiet:
            print_error(text)
        else:
            self._screen.print_above(f"bms: {text}")

    async def _consume(self) -> None:
        """Consume outcomes as they come, and write them as rows if asked to."""
        if self._run.key is not None and not len(self._cloud.known):
            # It was begun by another command. What is sent for it does not wait for the names.
            with self._learning:
                await learn_all(self._cloud)
        try:
            async for outcome in self._run.outcomes():
                self._on_outcome(outcome)
                if self._rows.rows is not None:
                    self._rows.rows.add(outcome)
                has_all = self._rows.waiting and self._received >= self._run.progress.done
                if has_all or self._rows.waiting >= _YIELD_EVERY:
                    await self._rows.write()
        finally:
            # What came before a journal failed, too.
            await self._rows.write()

    def _on_outcome(self, outcome: Outcome) -> None:
        self._received += 1
        self._not_as_asked.add(outcome)
        if self._live is not None:
            self._live.add(outcome)
        if outcome.seconds is not None and outcome.state is OutcomeState.SUCCEEDED:
            self._display.durations.add(outcome.seconds)
        explanation = self._display.failures.add(outcome)
        if explanation is not None and outcome.error is not None:
            self._screen.print_above(
                failure_line(self._cloud.known.label(outcome.server_id), outcome.reason, explanation)
            )

    def _on_lost(self, error: OSError) -> None:
        """Note that nothing can be printed any more. A closed pipe ends the run, a full disk does not."""
        if isinstance(error, BrokenPipeError):
            self._no_output = Code.NO_READER
            self._lets_go.set()
        else:
            self._no_output = Code.USAGE
            self._screen.print_above(
                f"bms: results cannot be written any more: {describe_os_error(error)}; the run goes on"
            )

    async def _show(self) -> None:
        while True:
            self._display.sample()
            if news := self._run.take_news(anyio.current_time()):
                self._say(news)
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
                self._display.block()[:1] if is_terminal() and self._rows.rows is None else self._display.block()
            )
        else:
            await self._screen.log(self._display.line())
