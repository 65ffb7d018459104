"""What a run that asks again for servers takes over from the one that has ended: all that protected them.

Its wave, its threshold, its check of the states and its rollout are taken over unless they are given anew, and are
said before anything is sent. Rejected: to have the rollout given again, as it was; whoever leaves out the window or the
check in the night after a failure has less protection than the run that failed.
"""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, NamedTuple

from bms_async import DurableRun, Rollout
from bms_async.cli.following.bounds import Bounds
from bms_async.cli.following.terms import describe_terms
from bms_async.cli.selection.rollouts import given_options, make_rollout
from bms_async.cli.terminal.exit import UsageError
from bms_async.cli.terminal.texts import strip_control_chars
from bms_async.runs.options import decode_options

if TYPE_CHECKING:
    from .retrying import RetryOptions

__all__ = ["TakenOver", "take_over"]


class TakenOver(NamedTuple):
    """How servers are asked for again, with what was not given anew from the run that has ended.

    Attributes:
        wave: How many may be under way at once; None for any number.
        abort_above: The share of failures that aborts the run.
        abort_sample: How many servers must have ended before that counts.
        verify: Whether states are read back at the end.
        rollout: How the servers are walked through.
        words: What of it is from the ended run.
    """

    wave: int | None
    abort_above: float | None
    abort_sample: int
    verify: bool
    rollout: Rollout | None
    words: tuple[str, ...]

    def bounds(self, servers: int) -> Bounds:
        """Return what bounds a run of so many servers."""
        return Bounds(self.wave, self.abort_above, servers)

    def notes(self, run: DurableRun, servers: int) -> list[str]:
        """Return what is said of it before so many servers are asked for, for people.

        Args:
            run: The ended run.
            servers: How many servers are asked for.
        """
        taken = f"as in the run {strip_control_chars(run.key)}: {', '.join(self.words)}" if self.words else None
        return [note for note in (taken, self.bounds(servers).text) if note]


def take_over(run: DurableRun, retry: RetryOptions) -> TakenOver:
    """Return how the servers of an ended run are asked for again.

    Args:
        run: The ended run.
        retry: What was given.

    Raises:
        UsageError: The options contradict each other, or what made the groups of the ended run is not known.
    """
    before = None if retry.no_rollout else run.rollout
    changes = retry.changes
    rollout = before if changes is None else make_rollout(changes, before)
    given = set() if changes is None else given_options(changes)
    if before is not None and rollout is not None and "group_by" not in given:
        _check_groups(run, rollout)
    # A wave that follows from the threshold is that of a larger fleet.
    wave = None if run.wave_follows else run.wave_size
    words = describe_terms(
        wave=None if retry.wave else wave,
        abort_above=run.abort_above if retry.abort_above is None else None,
        verify=run.verify and not retry.verify,
        rollout=None if before is None else _only_from(before, given),
    )
    if run.abort_above is not None and run.abort_sample > 1 and retry.abort_sample is None:
        words.append(f"failures counted from {run.abort_sample:,} servers on")
    return TakenOver(
        wave=retry.wave or wave,
        abort_above=run.abort_above if retry.abort_above is None else retry.abort_above,
        abort_sample=run.abort_sample if retry.abort_sample is None else retry.abort_sample,
        verify=retry.verify or run.verify,
        rollout=rollout,
        words=tuple(words),
    )


def _only_from(before: Rollout, given: set[str]) -> Rollout | None:
    """Return a rollout of what was not given anew; None if nothing is left."""
    names = set(Rollout.__struct_fields__) - given
    if "ready" in given:
        names.discard("ready_timeout")
    left = Rollout(**{name: getattr(before, name) for name in names})
    return None if left == Rollout() else left


def _check_groups(run: DurableRun, rollout: Rollout) -> None:
    if rollout.max_unavailable is None and rollout.max_groups is None:
        return
    kept = decode_options(run._kept.options).rollout  # noqa: SLF001 - no public state of a run
    standing = run.progress.rollout
    has_groups = standing is not None and standing.groups > 1
    if (kept is not None and kept.is_grouped_by_function) or (has_groups and rollout.group_by is None):
        typed = shlex.quote(run.key)
        raise UsageError(
            f"the run {strip_control_chars(run.key)} grouped its servers in a way that is not in the journal: give"
            f" --group-by, or leave its rollout out by `bms runs retry {typed} --no-rollout`"
        )
