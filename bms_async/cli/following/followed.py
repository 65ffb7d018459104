"""A run as the command follows it, whether it is in this process alone or in the journal."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Sequence
from typing import Protocol

from bms_async import (
    DurableRun,
    FleetReport,
    FleetRun,
    JournalError,
    Outcome,
    OutcomeState,
    Progress,
    RunOutcomes,
    RunStatus,
)
from bms_async.cli.terminal.exit import print_error
from bms_async.cli.terminal.texts import pluralize

__all__ = ["Followed", "KeptRun", "MemoryRun", "WatchedRun", "describe_status"]

_MAX_JOBS = 20


class Followed(Protocol):
    """A run that is followed."""

    @property
    def key(self) -> str | None:
        """Its key in the journal, None where it has none."""
        ...

    @property
    def progress(self) -> Progress:
        """How far it is."""
        ...

    @property
    def end(self) -> str:
        """In a word how it ended; empty as long as it goes on."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """What there is to know beside the counts, for people."""
        ...

    @property
    def is_rollout(self) -> bool:
        """Whether a rollout says when its servers go."""
        ...

    @property
    def is_sent_here(self) -> bool:
        """Whether this process makes calls for it."""
        ...

    @property
    def is_interrupted(self) -> bool:
        """Whether it was stopped before its end."""
        ...

    @property
    def aborted(self) -> str | None:
        """The reason, if too many failures ended it."""
        ...

    @property
    def unverified(self) -> int | None:
        """How many outcomes could not be verified."""
        ...

    def outcomes(self) -> AsyncIterator[Outcome]:
        """Iterate over outcomes until it has ended or was stopped."""
        ...

    async def stop(self) -> None:
        """Have `outcomes` end soon, and nothing more be sent where it is this command that sends."""
        ...

    async def report(self) -> FleetReport:
        """Return the report, as far as it is known."""
        ...

    def print_advice(self) -> None:
        """Print how to go on, where it has not ended as it should."""
        ...


class MemoryRun:
    """A run that ends with this process.

    Args:
        run: The run.
        jobs: Its jobs, to which later ones are appended.
    """

    key = None
    notes: Sequence[str] = ()
    is_sent_here = True

    def __init__(self, run: FleetRun, jobs: Sequence[str]) -> None:
        self._run = run
        self._jobs = jobs

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._run.progress

    @property
    def is_rollout(self) -> bool:
        """Whether a rollout says when its servers go."""
        return self._run.progress.rollout is not None

    @property
    def end(self) -> str:
        """In a word how it ended."""
        report = self._run.report
        if report is None:
            return ""
        return "interrupted" if report.cancelled else "aborted" if report.aborted else "ended"

    @property
    def is_interrupted(self) -> bool:
        """Whether it was stopped before its end."""
        return self._run.report is not None and self._run.report.cancelled

    @property
    def aborted(self) -> str | None:
        """The reason, if too many failures ended it."""
        return None if self._run.report is None else self._run.report.aborted

    @property
    def unverified(self) -> int | None:
        """How many outcomes could not be verified."""
        return None if self._run.report is None else self._run.report.unverified

    def outcomes(self) -> AsyncIterator[Outcome]:
        """Iterate over outcomes until it has ended."""
        return aiter(self._run)

    async def stop(self) -> None:
        """Send no further batch, and do not wait for the jobs in flight."""
        self._run.cancel(detach=True)

    async def report(self) -> FleetReport:
        """Return the report."""
        return await self._run

    def print_advice(self) -> None:
        """Print how to watch its jobs, where they were not waited for."""
        if not self.is_interrupted:
            return
        if not self._jobs:
            in_doubt = self.progress.by_state[OutcomeState.UNKNOWN]
            asked = f"{pluralize(in_doubt, 'server')} may have been asked for" if in_doubt else "nothing was asked for"
            print_error(f"no job is known; {asked}")
            return
        shown = self._jobs[:_MAX_JOBS]
        which = "them" if len(shown) == len(self._jobs) else f"the first {len(shown)} of {len(self._jobs):,}"
        print_error(f"the jobs continue in the cloud. To watch {which}:")
        print_error(f"bms jobs watch {' '.join(shown)}", first="  ")


class WatchedRun:
    """A run in the journal that other processes carry out.

    Args:
        run: The run.
    """

    is_sent_here = False

    def __init__(self, run: DurableRun) -> None:
        self._run = run
        self._reader: RunOutcomes = run.outcomes()
        self._is_stopped = False

    @property
    def key(self) -> str:
        """Its key."""
        return self._run.key

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._run.progress

    @property
    def is_rollout(self) -> bool:
        """Whether a rollout says when its servers go."""
        return self._run.is_rollout

    @property
    def end(self) -> str:
        """In a word how it ended."""
        if self._run.ended is not None:
            return describe_status(self._run)
        return "interrupted" if self._is_stopped else ""

    @property
    def notes(self) -> Sequence[str]:
        """Whether anybody works on it."""
        if self._run.status is RunStatus.PAUSED:
            # As long as it goes on, its progress says that it waits for that.
            return ("paused",) if self.end else ()
        if self.end or self._run.held or self.is_sent_here:
            return ()
        return ("no worker holds a batch of it: `bms worker` starts one",)

    @property
    def is_interrupted(self) -> bool:
        """Whether it was stopped before its end."""
        return self._run.ended is None or self._run.status is RunStatus.CANCELLED

    @property
    def aborted(self) -> str | None:
        """The reason, if too many failures ended it."""
        return self._run.aborted

    @property
    def unverified(self) -> None:
        """An outcome that could not be verified says so itself."""
        return

    def outcomes(self) -> AsyncIterator[Outcome]:
        """Iterate over its outcomes, from the first on."""
        return self._reader

    async def stop(self) -> None:
        """Only stop watching."""
        self._is_stopped = True
        self._reader.stop_waiting()

    async def report(self) -> FleetReport:
        """Return the report, as far as it is known."""
        return await self._run.report_so_far()

    def print_advice(self) -> None:
        """Print how to go on watching, or how to try what failed once more."""
        key = shlex.quote(self.key)
        if self._run.ended is None:
            print_error("the run goes on as before. To watch it again:")
            print_error(f"bms runs watch {key}", first="  ")
        elif self.aborted is not None or self._run.status is RunStatus.CANCELLED or self._has_blocked:
            # Earlier failures do not count in a new run, but whatever failed is in it.
            how = ", with the options of its rollout" if self.is_rollout else ""
            print_error(f"to begin a new run with the servers that were not asked for or failed{how}:")
            is_share = self.aborted is not None and self._run.abort_above is not None
            print_error(f"bms runs retry {key}{' --abort-above 100%' if is_share else ''}", first="  ")

    @property
    def _has_blocked(self) -> bool:
        rollout = self.progress.rollout
        return rollout is not None and rollout.groups_blocked > 0


class KeptRun(WatchedRun):
    """A run in the journal that this command carries out.

    Args:
        run: The run.
    """

    is_sent_here = True

    def __init__(self, run: DurableRun) -> None:
        super().__init__(run)
        self._failure: JournalError | None = None

    async def stop(self) -> None:
        """Pause it, so that nobody sends a further batch, and do not wait for the jobs in flight."""
        try:
            await self._run.pause()
        except JournalError as error:
            self._failure = error
        await super().stop()

    def print_advice(self) -> None:
        """Print how to resume it, or end it, where it has not ended."""
        if self._run.ended is not None:
            super().print_advice()
            return
        key, action = shlex.quote(self.key), self._run.action.removeprefix("servers.")
        progress = self.progress
        skipped = progress.by_state[OutcomeState.SKIPPED]
        unsent = (progress.total or 0) - progress.submitted - skipped
        in_flight = progress.submitted - (progress.done - skipped)
        counts = f"{pluralize(unsent, 'server')} left"
        if in_flight:
            counts += f", and {in_flight:,} in flight, whose jobs continue in the cloud"
        if self._failure is None:
            print_error(f"the run {self.key} is paused, and nothing more is sent: {counts}. To resume it:")
        else:
            print_error(f"the run {self.key} could not be paused, and workers may go on with it: {self._failure}")
            print_error(f"{counts}. To resume it:")
        print_error(f"bms {action} --resume {key}", first="  ")
        print_error("to have workers resume it, or to end it:")
        print_error(f"bms runs resume {key}", first="  ")
        print_error(f"bms runs cancel {key}", first="  ")


def describe_status(run: DurableRun) -> str:
    """Return in a word what may happen to a run, or how it ended."""
    if run.ended is not None:
        return "ended" if run.status in {RunStatus.OPEN, RunStatus.PAUSED} else run.status.value
    return "ending" if run.status in {RunStatus.CANCELLED, RunStatus.ABORTED} else run.status.value
