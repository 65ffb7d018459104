"""The page of a run while it goes on.

It is rendered only when somebody asks for it, in a thread, and so seldom that it takes a twentieth of the time at most:
whoever reads it takes nothing from the run that could be felt. Between two renderings the same page is sent again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import Final, NamedTuple

import anyio
import anyio.to_thread
import msgspec

from bms_async import FleetReport, Outcome, OutcomeState
from bms_async._extras import require
from bms_async.cli.access.known import KnownServers
from bms_async.cli.terminal.exit import print_error
from bms_async.cli.terminal.texts import pluralize

from .head import PageHead
from .history import CallHistory
from .loopback import HOST, Answer, listen, port_of, serve
from .words import ENDED

__all__ = ["LivePage", "LiveSource", "serve_page"]

RARELY: Final = 5.0
"""Seconds between two renderings at least."""
_SHARE: Final = 20
_VIEWED: Final = 12.0
_MAX_VIEWERS: Final = 64
_MAX_NAME: Final = 32
_HTML: Final = "text/html; charset=utf-8"
_NOT_YET: Final = (
    b'<!doctype html><html lang="en"><meta charset="utf-8"><meta http-equiv="refresh" content="2">'
    b"<title>bms</title><p>The run has not begun yet. This page follows it as soon as it does.</p></html>"
)


class LiveSource(NamedTuple):
    """Where the page of a run comes from while it goes on.

    Attributes:
        head: Where and how it runs.
        known: What is known of its servers.
        operation: The call that does it.
        servers: How many servers it has.
        waits_for: Returns why nothing begins; None if something may.
        calls: Returns the calls that it made.
    """

    head: PageHead
    known: KnownServers
    operation: str
    servers: int
    waits_for: Callable[[], str | None]
    calls: Callable[[], CallHistory]


class LivePage:
    """The page of one run.

    Args:
        address: Where it is served.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._source: LiveSource | None = None
        self._outcomes: list[Outcome] = []
        self._by_state, self._by_code = Counter[OutcomeState](), Counter[str]()
        self._lock = anyio.Lock()
        self._page, self._version = b"", ""
        self._rendered, self._cost = float("-inf"), 0.0
        self._is_ended = False
        self._viewers: dict[str, float] = {}
        self._has_seen_end = anyio.Event()

    def begin(self, source: LiveSource) -> None:
        """Follow a run from now on."""
        self._source = source

    def add(self, outcome: Outcome) -> None:
        """Note what became of a server."""
        self._outcomes.append(outcome)
        self._by_state[outcome.state] += 1
        if not outcome.state.is_success:
            self._by_code[outcome.reason] += 1

    async def end(self, report: FleetReport, left: int, *, linger: float) -> None:
        """Show the report of the run that has ended, and wait for those who were looking to have seen it.

        Args:
            report: The report of the run.
            left: How many servers have not ended, so that they are not in the report.
            linger: Seconds that they are waited for at most.
        """
        now = anyio.current_time()
        seen = {viewer for viewer, at in self._viewers.items() if now - at < _VIEWED}
        self._viewers = dict.fromkeys(seen, now)
        if self._source is None or not seen:
            return
        async with self._lock:
            self._page = await _render(report, self._source, left, ENDED)
            self._version, self._is_ended = ENDED, True
        with anyio.move_on_after(linger):
            await self._has_seen_end.wait()

    async def answer(self, path: str, query: str) -> Answer | None:
        """Return what is at a path; None if nothing is.

        Args:
            path: The path of a request.
            query: Its query: a name that whoever looks has given itself.
        """
        if path not in {"/", "/state"}:
            return None
        source = self._source
        if source is None:
            return Answer(_HTML, _NOT_YET) if path == "/" else None
        viewer = query[:_MAX_NAME]
        if path == "/state":
            # Only who follows the page by its script is known again.
            if not self._is_ended and (viewer in self._viewers or len(self._viewers) < _MAX_VIEWERS):
                self._viewers[viewer] = anyio.current_time()
            return Answer("application/json", msgspec.json.encode(self._state(source)))
        page = await self._newest(source)
        return Answer(_HTML, page, partial(self._note_seen, viewer) if self._is_ended else None)

    def _note_seen(self, viewer: str) -> None:
        self._viewers.pop(viewer, None)
        if not self._viewers:
            self._has_seen_end.set()

    @property
    def _next_version(self) -> str:
        """Which page whoever asks now is sent."""
        is_fresh = anyio.current_time() - self._rendered < max(RARELY, _SHARE * self._cost)
        return self._version if self._is_ended or is_fresh else str(len(self._outcomes))

    def _state(self, source: LiveSource) -> dict[str, object]:
        ended, total = len(self._outcomes), source.servers
        bad = sum(count for state, count in self._by_state.items() if not state.is_success)
        failed = f", {bad:,} of them not as asked" if bad else ""
        words = f"{ended:,} of {pluralize(total, 'server')} {'has' if ended == 1 else 'have'} ended{failed}."
        if self._is_ended:
            return {
                "version": ENDED,
                "ended": True,
                "words": f"The run has ended: {words} This page stays as it is now.",
            }
        waits = source.waits_for()
        words = f"The run goes on: {words}"
        return {
            "version": self._next_version,
            "ended": False,
            "words": f"{words} It waits: {waits}" if waits else words,
        }

    async def _newest(self, source: LiveSource) -> bytes:
        async with self._lock:
            version = self._next_version
            if version != self._version or not self._page:
                before = anyio.current_time()
                self._page = await _render(self._so_far(source), source, source.servers - len(self._outcomes), version)
                self._version, self._rendered = version, anyio.current_time()
                self._cost = self._rendered - before
            return self._page

    def _so_far(self, source: LiveSource) -> FleetReport:
        now = datetime.now(UTC)
        calls = source.calls()
        # A run that was resumed began earlier than this command: `_render` looks for it.
        return FleetReport(
            action=source.operation,
            outcomes=self._outcomes[:],
            by_state={state: self._by_state[state] for state in OutcomeState},
            by_code=dict(self._by_code.most_common()),
            batches=0,
            cancelled=False,
            started=calls.started,
            ended=now,
        )


@asynccontextmanager
async def serve_page(port: int | None) -> AsyncIterator[LivePage | None]:
    """Serve the page of a run on a port of this machine, and print where; None without a port.

    Args:
        port: The port; 0 for any that is free.

    Raises:
        UsageError: The port cannot be had.
    """
    if port is None:
        yield None
        return
    require("jinja2")
    listener = await listen(port)
    page = LivePage(f"http://{HOST}:{port_of(listener)}/")
    print_error(f"the page of the run is at {page.address} as long as the command runs")
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(serve, listener, page.answer)
        try:
            yield page
        except Exception as error:  # noqa: BLE001 - raised again below, outside of the task group, which would wrap it
            failure = error
        finally:
            tasks.cancel_scope.cancel()
    if failure is not None:
        raise failure


async def _render(report: FleetReport, source: LiveSource, left: int, version: str) -> bytes:
    return await anyio.to_thread.run_sync(
        partial(_rendered, report, source.calls(), max(0, left), source, version), abandon_on_cancel=True
    )


def _rendered(report: FleetReport, calls: CallHistory, left: int, source: LiveSource, version: str) -> bytes:
    from .render import render_report

    began = min((outcome.started for outcome in report.outcomes if outcome.started), default=report.started)
    report = msgspec.structs.replace(report, started=min(began, report.started))
    return render_report(report, calls, left, head=source.head, known=source.known, version=version).encode()
