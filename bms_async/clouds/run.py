"""A run over many clouds: one run in each, with one stream of outcomes and one report.

What it guarantees: what a fleet run does (R2, R4), whatever becomes of any cloud. Every server gets its one outcome,
also where a cloud is dead, refuses the credentials, or could not be opened; and an error of one cloud's run is raised
only once the runs of all clouds have ended.

How: each cloud has a fleet run of its own, which is a task of its client and knows nothing of the others. What this
module adds has no task, and so none that closing could forget: the runs say that something has changed, and each
reader of the stream has a position in the outcomes of each run. So there is no copy of any outcome (R10). Clouds take
turns in the stream, some hundred outcomes each, so that one with a million servers does not hide another.

Rejected: a queue that all runs write into. It would hold outcomes twice, and a reader that comes late would find none.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Generator, Mapping
from itertools import islice
from types import TracebackType
from typing import TYPE_CHECKING, Never, Self

import anyio
import anyio.lowlevel

from bms_async._tasks import check_loop
from bms_async.fleet.clock import Clock
from bms_async.fleet.frozen import FrozenDict
from bms_async.fleet.report import FleetReport
from bms_async.fleet.run import EXIT_TIMEOUT, FleetRun
from bms_async.fleet.tracker import YIELD_EVERY

from .outcome import CloudOutcome, CloudsProgress, add_progress, name_cloud
from .report import CloudsReport


class CloudsRun:
    """An action on servers of many clouds: a `FleetRun` in each, and one stream of outcomes for all.

    It is used as a `FleetRun` is: await it for the report, or iterate over it for the outcomes, each a `CloudOutcome`.
    Those of one cloud come in the order in which they became known. Leaving only detaches; `cancel`, closing the clouds
    and leaving its ``async with`` end it.

    An error of one cloud's run that is not a server's, such as one of its source of servers, is raised once the runs of
    all clouds have ended, with the cloud in a note. If there are several, that of the first cloud is raised, and the
    others are logged. `wait` returns the report instead, and `errors` has them all.

    Attributes:
        by_cloud: The run in each cloud.
    """

    def __init__(self, action: str, runs: Mapping[str, FleetRun]) -> None:
        self.by_cloud: Mapping[str, FleetRun] = FrozenDict(runs)
        self._action = action
        self._loop = asyncio.get_running_loop()
        self._started = Clock(self._loop).created
        self._report: CloudsReport | None = None
        self._changed: asyncio.Event | None = None
        self._outcomes = {name: run.attach(self._notify) for name, run in runs.items()}

    @property
    def progress(self) -> CloudsProgress:
        """The progress so far, of all clouds together and of each."""
        by_cloud = {name: run.progress for name, run in self.by_cloud.items()}
        running = {name: by_cloud[name] for name, run in self.by_cloud.items() if run.report is None}
        return add_progress(by_cloud, running)

    @property
    def report(self) -> CloudsReport | None:
        """The report, None until the runs of all clouds have ended."""
        if self._report is None:
            reports: dict[str, FleetReport] = {}
            for name, run in self.by_cloud.items():
                if run.report is None:
                    return None
                reports[name] = run.report
            self._report = CloudsReport(
                action=self._action,
                started=self._started,
                ended=max((report.ended for report in reports.values()), default=self._started),
                by_cloud=FrozenDict(reports),
            )
        return self._report

    @property
    def errors(self) -> Mapping[str, BaseException]:
        """The errors so far that are not a server's, by cloud: a source of servers that broke, for example."""
        errors = {name: run.error for name, run in self.by_cloud.items()}
        return FrozenDict({name: error for name, error in errors.items() if error is not None})

    async def wait(self) -> CloudsReport:
        """Wait for the end of the runs of all clouds; return the report, whatever errors they have: see `errors`.

        Those errors are not logged then.
        """
        report = await self._wait_for_end()
        for run in self.by_cloud.values():
            # Looked at, it counts as retrieved.
            _ = run.error
        return report

    def cancel(self, *, detach: bool = False) -> None:
        """Send no further batch in any cloud; see `FleetRun.cancel`. ``by_cloud[name].cancel()`` is for one of them.

        Args:
            detach: Do not follow the accepted actions either: their servers are UNKNOWN.
        """
        for run in self.by_cloud.values():
            run.cancel(detach=detach)

    def pause(self) -> None:
        """Begin nothing more in any cloud until `resume`; see `FleetRun.pause`."""
        for run in self.by_cloud.values():
            run.pause()

    def resume(self) -> None:
        """Go on after `pause`, in all clouds."""
        for run in self.by_cloud.values():
            run.resume()

    def __await__(self) -> Generator[object, None, CloudsReport]:
        return self._wait().__await__()

    async def __aiter__(self) -> AsyncIterator[CloudOutcome]:
        check_loop(self._loop, "the run")
        positions = dict.fromkeys(self._outcomes, 0)
        yielded = 0
        while True:
            has_more = False
            for name, outcomes in self._outcomes.items():
                for outcome in islice(outcomes.since(positions[name]), YIELD_EVERY):
                    has_more = True
                    positions[name] += 1
                    yielded += 1
                    yield name_cloud(name, outcome)
                    if yielded % YIELD_EVERY == 0:
                        await anyio.lowlevel.checkpoint()
            if has_more:
                continue
            if self.report is not None:
                break
            await self._wait_for_change()
        await self._raise_error()

    async def __aenter__(self) -> Self:
        check_loop(self._loop, "the run")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.cancel(detach=error is not None)
        if error is None:
            await self._wait()
            return
        with anyio.move_on_after(EXIT_TIMEOUT, shield=True):
            while self.report is None:
                await self._wait_for_change()

    if not TYPE_CHECKING:  # a type checker reports these mistakes by itself

        def __getattr__(self, name: str) -> object:
            hint = "; the report has it: report = await run" if hasattr(CloudsReport, name) else ""
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{hint}", name=name, obj=self)

        def __iter__(self) -> Never:
            raise TypeError("'CloudsRun' object is not iterable: use `async for`, or await it for its report")

    def __repr__(self) -> str:
        state = "running" if self.report is None else "ended"
        progress = self.progress
        clouds = ", ".join(self.by_cloud) or "no cloud"
        return f"<CloudsRun {self._action} {state}: {progress.submitted} submitted, {progress.done} done in {clouds}>"

    async def _wait(self) -> CloudsReport:
        report = await self._wait_for_end()
        await self._raise_error()
        return report

    async def _wait_for_end(self) -> CloudsReport:
        check_loop(self._loop, "the run")
        while (report := self.report) is None:
            await self._wait_for_change()
        return report

    async def _wait_for_change(self) -> None:
        if self._changed is None:
            self._changed = asyncio.Event()
        await self._changed.wait()

    def _notify(self) -> None:
        # Made when something waits: mostly nothing does between two outcomes.
        changed, self._changed = self._changed, None
        if changed is not None:
            changed.set()

    async def _raise_error(self) -> None:
        """Raise the error of the first cloud whose run has one; a run that was not asked logs its own."""
        for name, run in self.by_cloud.items():
            try:
                await run
            except Exception as error:
                note = f"in the cloud {name!r}"
                if note not in getattr(error, "__notes__", ()):
                    error.add_note(note)
                raise
