"""What the page of a run is made of: written when the run has ended, and served while it goes on."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from bms_async import JournalError
from bms_async.cli.terminal.exit import print_error
from bms_async.cli.terminal.texts import describe_os_error

from .display import Display
from .followed import Followed

if TYPE_CHECKING:
    from bms_async.cli.access.cloud import OpenClient
    from bms_async.cli.report_page.head import PageHead
    from bms_async.cli.report_page.history import CallHistory
    from bms_async.cli.report_page.live import LiveSource

__all__ = ["PageOfRun"]


class PageOfRun:
    """The page of a run.

    Args:
        run: The run.
        display: Its progress, which counts its calls.
        cloud: The client.
        verb: What is done, in a word, such as ``stop``.
        operation: The call that does it.
        terms: How the servers are walked through, in words.
        servers: The number of servers.
    """

    def __init__(
        self,
        run: Followed,
        display: Display,
        cloud: OpenClient,
        *,
        verb: str,
        operation: str,
        terms: Sequence[str],
        servers: int,
    ) -> None:
        self._run = run
        self._display = display
        self._cloud = cloud
        self._verb = verb
        self._operation = operation
        self._terms = terms
        self._servers = servers

    async def write(self, path: Path) -> bool:
        """Write a report in the form of its suffix, and return whether it was written; what went wrong is printed.

        Args:
            path: The file.
        """
        from bms_async.cli.report_page.forms import write_report

        try:
            report = await self._run.report()
            left, history = max(0, self._servers - len(report)), self._history()
            write = partial(write_report, path, report, history, left, head=self._head(), known=self._cloud.known)
            await anyio.to_thread.run_sync(write)
        except (OSError, ImportError, JournalError) as error:
            print_error(f"the report {path} was not written: {describe_os_error(error)}")
            return False
        return True

    def live_source(self) -> LiveSource:
        """Return what the page is rendered from while the run goes on."""
        from bms_async.cli.report_page.live import LiveSource

        known, run = self._cloud.known, self._run
        return LiveSource(
            self._head(), known, self._operation, self._servers, lambda: run.progress.waits_for, self._history
        )

    def _head(self) -> PageHead:
        from bms_async.cli.report_page.head import head_of

        return head_of(self._verb, self._cloud.place, self._run.key, self._terms)

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
