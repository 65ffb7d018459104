"""A run in the journal as the command follows it: one that it carries out, or that others do."""

from __future__ import annotations

import shlex
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import anyio
import msgspec

from bms_async import DurableRun, FleetReport, JournalError, Outcome, OutcomeState, Progress, RunOutcomes, RunStatus
from bms_async.cli.terminal.again import print_command
from bms_async.cli.terminal.exit import print_error
from bms_async.cli.terminal.texts import pluralize, strip_class_names, verb_in

from .followed import count_under_way
from .not_as_asked import NotAsAsked, name_of_list

__all__ = ["KeptRun", "WatchedRun", "describe_status"]

_LOOK_EVERY = 0.5


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

    @property
    def failure(self) -> JournalError | None:
        """Whoever only reads it fails by itself."""
        return None

    def outcomes(self) -> AsyncIterator[Outcome]:
        """Iterate over its outcomes, from the first on."""
        return self._reader

    @property
    def list_name(self) -> str:
        """What the list of its servers that are not as asked is called: by its key."""
        return name_of_list(self.key, self._run.id, verb_in(self._run.action))

    async def stop_asking(self) -> None:
        """Only stop watching."""
        await self.let_go()

    async def let_go(self) -> None:
        """Only stop watching."""
        self._is_stopped = True
        self._reader.stop_waiting()

    async def report(self) -> FleetReport:
        """Return the report, as far as it is known."""
        return await self._run.report_so_far()

    def print_advice(self, servers: NotAsAsked, path: Path | None) -> None:  # noqa: ARG002 - the journal has the list
        """Print how to go on watching, or how to ask again for what is not as asked."""
        if self._run.ended is None:
            print_error("the run goes on as before. To watch it again:")
            print_command(f"bms runs watch {shlex.quote(self.key)}")
        elif servers:
            self._print_how_to_retry(servers)

    def _print_how_to_retry(self, servers: NotAsAsked) -> None:
        key, action = shlex.quote(self.key), verb_in(self._run.action)
        unknown, failed = servers.count(OutcomeState.UNKNOWN), servers.count(OutcomeState.FAILED)
        is_stopped = self.aborted is not None or self._run.status is RunStatus.CANCELLED or self._has_blocked
        if is_stopped and unknown + failed:
            print_error("look at what failed first:")
            print_command(f"bms runs show {key} --failed")
        if action == "reboot" and unknown:
            print_error(f"{pluralize(unknown, 'server')} may have been rebooted. To ask again for these, too:")
            print_command(f"bms runs retry {key} --unknown")
            if unknown == len(servers):
                return
        # Earlier failures do not count in a new run, but whatever failed is in it.
        which = "the others only" if action == "reboot" and unknown else "the servers that are not as asked"
        how = ", with the options of its rollout" if self.is_rollout else ""
        print_error(f"to ask again for {which}{how}:")
        print_command(f"bms {action} --retry-failed {key}")

    @property
    def _has_blocked(self) -> bool:
        rollout = self.progress.rollout
        return rollout is not None and rollout.groups_blocked > 0


class KeptRun(WatchedRun):
    """A run in the journal that this command carries out.

    Args:
        run: The run.
        count_to_verify: Returns how many of its servers have ended here and wait for their state to be read back.
    """

    is_sent_here = True

    def __init__(self, run: DurableRun, count_to_verify: Callable[[DurableRun], int]) -> None:
        super().__init__(run)
        self._count_to_verify = count_to_verify
        self._failure: JournalError | None = None

    @property
    def progress(self) -> Progress:
        """How far it is, and what waits here for its state to be read back."""
        return msgspec.structs.replace(super().progress, to_verify=self._count_to_verify(self._run))

    @property
    def failure(self) -> JournalError | None:
        """Why its journal cannot be used any more: one that is damaged may still be read where it cannot be written."""
        return self._run._journal.refusal  # noqa: SLF001 - no public state of a run

    @property
    def _under_way(self) -> int:
        # A batch that the cloud refused for the moment counts as sent until it is sent again, which a pause prevents.
        is_left = self._run.status is RunStatus.PAUSED and not self._run.held
        return 0 if is_left else count_under_way(self.progress)

    async def stop_asking(self) -> None:
        """Pause it, so that nobody sends a further batch, and wait for what is under way."""
        try:
            await self._run.pause()
            while self._run.ended is None and self._under_way + self.progress.to_verify:
                await anyio.sleep(_LOOK_EVERY)
                await self._run.refresh()
        except JournalError as error:
            self._failure = error
        await super().let_go()

    async def let_go(self) -> None:
        """Pause it, so that nobody sends a further batch, and do not wait for the jobs in flight."""
        try:
            await self._run.pause()
        except JournalError as error:
            self._failure = error
        await super().let_go()

    def print_advice(self, servers: NotAsAsked, path: Path | None) -> None:
        """Print how to resume it, or end it, where it has not ended."""
        if self._run.ended is not None:
            super().print_advice(servers, path)
            return
        key, action = shlex.quote(self.key), verb_in(self._run.action)
        progress = self.progress
        skipped = progress.by_state[OutcomeState.SKIPPED]
        in_flight = self._under_way
        unsent = (progress.total or 0) - progress.submitted - skipped + count_under_way(progress) - in_flight
        counts = f"{pluralize(unsent, 'server')} left"
        if in_flight:
            counts += f", and {in_flight:,} under way, whose jobs go on in the cloud"
        if self._failure is None:
            print_error(f"the run {self.key} is paused, and nothing more is sent: {counts}. To resume it:")
        else:
            why = strip_class_names(str(self._failure))
            print_error(f"the run {self.key} could not be paused, and workers may go on with it: {why}")
            print_error(f"{counts}. To resume it:")
        print_command(f"bms {action} --resume {key}")
        print_error("to have workers resume it, or to end it:")
        print_command(f"bms runs resume {key}")
        print_command(f"bms runs cancel {key}")


def describe_status(run: DurableRun) -> str:
    """Return in a word what may happen to a run, or how it ended."""
    if run.ended is not None:
        return "ended" if run.status in {RunStatus.OPEN, RunStatus.PAUSED} else run.status.value
    return "ending" if run.status in {RunStatus.CANCELLED, RunStatus.ABORTED} else run.status.value
