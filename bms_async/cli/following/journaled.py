"""A run in the journal as the command follows it: one that it carries out, or that others do."""

from __future__ import annotations

import math
import shlex
from collections.abc import AsyncIterator, Callable, Sequence
from pathlib import Path

import anyio
import msgspec

from bms_async import DurableRun, FleetReport, JournalError, Outcome, OutcomeState, Progress, RunOutcomes, RunStatus
from bms_async.cli.terminal.again import print_command, to_be_pasted
from bms_async.cli.terminal.exit import print_error
from bms_async.cli.terminal.texts import pluralize, strip_class_names, verb_in

from .not_as_asked import NotAsAsked, name_of_list

__all__ = ["KeptRun", "WatchedRun", "describe_open", "describe_status"]

_LOOK_EVERY = 0.5

_LONELY_AFTER = 3.0
"""Seconds for which no process holds anything of a run, after which that is said: between two batches none may."""


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
        self._had_ended = run.ended is not None
        self._lonely_since: float | None = None

    @property
    def key(self) -> str:
        """Its key."""
        return self._run.key

    @property
    def progress(self) -> Progress:
        """How far it is."""
        return self._run.progress

    @property
    def under_way(self) -> int:
        """How many servers were asked for and have no outcome yet, without those that the cloud refused."""
        return self._run.under_way

    @property
    def seconds(self) -> float | None:
        """How long it took from its beginning to its end; None as long as it has not ended."""
        run = self._run
        return None if run.ended is None else (run.ended - run.created).total_seconds()

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
        """Whether a process works on it."""
        # As long as it goes on, its progress says that it waits for the end of its pause.
        paused = ("paused",) if self.end and self._run.status is RunStatus.PAUSED else ()
        return (*paused, "no process works on it") if self._is_left_alone and not self.end else paused

    @property
    def _is_left_alone(self) -> bool:
        """Whether it needs a process to go on, and none has anything of it."""
        run = self._run
        needs_one = run.ended is None and (run.status is not RunStatus.PAUSED or run.under_way > 0)
        return needs_one and not (run.held or self.is_sent_here)

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

    def take_news(self, now: float) -> str:
        """Return how it goes on where no process works on it; once each time that it is left so."""
        if self.end or not self._is_left_alone:
            self._lonely_since = None
            return ""
        if self._lonely_since is None:
            self._lonely_since = now
        if now - self._lonely_since < _LONELY_AFTER:
            return ""
        self._lonely_since = math.inf
        return describe_open(self._run)

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
            goes_on = "stays as it is" if self._is_left_alone else "goes on as before"
            print_error(f"the run {goes_on}. To watch it again:")
            print_command(f"bms runs watch {shlex.quote(self.key)}")
        elif servers:
            self._print_how_to_retry(servers)

    def _print_how_to_retry(self, servers: NotAsAsked) -> None:
        key, action = shlex.quote(self.key), verb_in(self._run.action)
        unknown, failed = servers.count(OutcomeState.UNKNOWN), servers.count(OutcomeState.FAILED)
        is_stopped = self.aborted is not None or self._run.status is RunStatus.CANCELLED or self._has_blocked
        if is_stopped and unknown + failed:
            print_error("first look at what failed:")
            print_command(f"bms runs show {key} --failed")
        if action == "reboot" and unknown:
            print_error(f"{pluralize(unknown, 'server')} may have been rebooted. To ask again for these, too:")
            print_command(f"bms runs retry {key} --unknown")
            if unknown == len(servers):
                return
        # Earlier failures do not count in a new run, but whatever failed is in it.
        which = "the others only" if action == "reboot" and unknown else "the servers that are not as asked"
        print_error(f"to ask again for {which}:")
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
    def seconds(self) -> float | None:
        """How long it took where it had ended before; else that is the time for which it was carried out here."""
        return super().seconds if self._had_ended else None

    async def stop_asking(self) -> None:
        """Pause it, so that nobody sends a further batch, and wait for what is under way."""
        try:
            await self._run.pause()
            while self._run.ended is None and self._run.under_way:
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
        progress, in_flight = self.progress, self._run.under_way
        if self._failure is None and describe_status(self._run) == "ending":
            self._print_how_to_end(in_flight)
            return
        counts = f"{pluralize((progress.total or 0) - progress.done - in_flight, 'server')} left"
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

    def _print_how_to_end(self, in_flight: int) -> None:
        if not in_flight:
            print_error("nothing more is asked for, and nothing is under way. To end the run:")
            print_command(f"bms runs cancel {shlex.quote(self.key)}")
            return
        be, whose = ("is", "its") if in_flight == 1 else ("are", "their")
        print_error(
            f"nothing more is asked for, and {pluralize(in_flight, 'server')} {be} under way, whose jobs go on in the"
            f" cloud. To follow {'it' if in_flight == 1 else 'them'} to {whose} end:"
        )
        print_command(f"bms {verb_in(self._run.action)} --resume {shlex.quote(self.key)}")


def describe_open(run: DurableRun) -> str:
    """Return what is open of a run that no process works on, and the line that goes on with it.

    Args:
        run: The run, read a moment ago.
    """
    under_way, line = run.under_way, to_be_pasted(f"bms {verb_in(run.action)} --resume {shlex.quote(run.key)}")
    if describe_status(run) == "ending":
        if not under_way:
            return f"no process works on this run, and nothing of it is under way; `{_line_of_cancel(run)}` ends it"
        return (
            f"no process follows the {pluralize(under_way, 'server')} under way, and until one does, the run does not"
            f" end; `{line}` sees to that, and asks for nothing more"
        )
    left = (run.progress.total or 0) - run.progress.done - under_way
    asked = f"{under_way:,} under way, " if under_way else ""
    return f"no process works on this run: {asked}{pluralize(left, 'server')} left; `{line}` or `bms worker` goes on"


def _line_of_cancel(run: DurableRun) -> str:
    return to_be_pasted(f"bms runs cancel {shlex.quote(run.key)}")


def describe_status(run: DurableRun) -> str:
    """Return in a word what may happen to a run, or how it ended."""
    if run.ended is not None:
        return "ended" if run.status in {RunStatus.OPEN, RunStatus.PAUSED} else run.status.value
    return "ending" if run.status in {RunStatus.CANCELLED, RunStatus.ABORTED} else run.status.value
