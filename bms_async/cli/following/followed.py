"""A run as the command follows it, whether it is in this process alone or in the journal."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Protocol

from bms_async import FleetReport, FleetRun, JournalError, Outcome, OutcomeState, Progress
from bms_async.cli.terminal.again import print_command
from bms_async.cli.terminal.exit import print_error
from bms_async.cli.terminal.texts import pluralize

from .not_as_asked import NotAsAsked, ask_again, name_of_list

__all__ = ["Followed", "MemoryRun", "count_under_way"]

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
    def under_way(self) -> int:
        """How many servers were asked for and have no outcome yet, without those that the cloud refused."""
        ...

    @property
    def end(self) -> str:
        """In a word how it ended; empty as long as it goes on."""
        ...

    @property
    def seconds(self) -> float | None:
        """How long it took, where that is not the time for which it was followed; None where it is."""
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

    @property
    def failure(self) -> JournalError | None:
        """Why its journal cannot be used any more, so that this process cannot go on with it."""
        ...

    def take_news(self, now: float) -> str:
        """Return what there is to say of it just once; empty if nothing is.

        Args:
            now: The time by the loop's clock, in seconds.
        """
        ...

    def outcomes(self) -> AsyncIterator[Outcome]:
        """Iterate over outcomes until it has ended or was stopped."""
        ...

    @property
    def list_name(self) -> str:
        """What the list of its servers that are not as asked is called."""
        ...

    async def stop_asking(self) -> None:
        """Have no further server asked for, and `outcomes` end once what is under way has ended."""
        ...

    async def let_go(self) -> None:
        """Have `outcomes` end soon, and nothing more be sent where it is this command that sends."""
        ...

    async def report(self) -> FleetReport:
        """Return the report, as far as it is known."""
        ...

    def print_advice(self, servers: NotAsAsked, path: Path | None) -> None:
        """Print how to go on, where it has not ended as it should.

        Args:
            servers: Its servers that are not as asked.
            path: The file that has a list of them; None if there is none.
        """
        ...


def count_under_way(progress: Progress) -> int:
    """Return how many servers were asked for and have not ended.

    Args:
        progress: The progress of their run.
    """
    ended = progress.done - progress.by_state[OutcomeState.SKIPPED] + progress.to_verify
    # Neither alone is right: servers that wait for their call are in flight too, and those that the cloud refused for
    # the moment were submitted too.
    return max(0, min(progress.in_flight, progress.submitted - ended))


class MemoryRun:
    """A run that ends with this process.

    Args:
        run: The run.
        jobs: Its jobs, to which later ones are appended.
        verb: What it does, in a word, such as ``untag``.
        operation: The call that does it.
    """

    key = None
    failure = None
    seconds = None
    notes: Sequence[str] = ()
    is_sent_here = True

    def __init__(self, run: FleetRun, jobs: Sequence[str], *, verb: str, operation: str) -> None:
        self._run = run
        self._jobs = jobs
        self._operation = operation
        self._has_let_go = False
        self.list_name = name_of_list(None, None, verb)

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._run.progress

    @property
    def under_way(self) -> int:
        """How many servers were asked for and have no outcome yet."""
        progress = self._run.progress
        return count_under_way(progress) + progress.to_verify

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

    def take_news(self, now: float) -> str:  # noqa: ARG002 - it is carried out here
        """Return nothing."""
        return ""

    def outcomes(self) -> AsyncIterator[Outcome]:
        """Iterate over outcomes until it has ended."""
        return aiter(self._run)

    async def stop_asking(self) -> None:
        """Send no further batch; what is under way is followed to its end."""
        self._run.cancel()

    async def let_go(self) -> None:
        """Send no further batch, and do not wait for the jobs in flight."""
        self._has_let_go = True
        self._run.cancel(detach=True)

    async def report(self) -> FleetReport:
        """Return the report."""
        return await self._run

    def print_advice(self, servers: NotAsAsked, path: Path | None) -> None:
        """Print how to watch its jobs, where they were not waited for, and how to ask again for what is left."""
        if self._has_let_go and self.is_interrupted:
            self._print_jobs()
        if not servers or path is None:
            return
        if self.aborted is not None:
            print_error(f"first look at what failed: {shlex.quote(str(path))}")
        what, command = ask_again(self._operation, path, servers)
        print_error(what)
        print_command(command)

    def _print_jobs(self) -> None:
        if not self._jobs:
            in_doubt = self.progress.by_state[OutcomeState.UNKNOWN]
            asked = f"{pluralize(in_doubt, 'server')} may have been asked for" if in_doubt else "nothing was asked for"
            print_error(f"no job is known; {asked}")
            return
        shown = self._jobs[:_MAX_JOBS]
        which = "them" if len(shown) == len(self._jobs) else f"the first {len(shown)} of {len(self._jobs):,}"
        print_error(f"the jobs go on in the cloud. To watch {which}:")
        print_command(f"bms jobs watch {' '.join(shown)}")
