"""What the journal knows of a run, as text and as JSON."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import Final

from bms_async import DurableRun, RunStatus
from bms_async.cli.following.followed import count_under_way
from bms_async.cli.following.journaled import describe_open, describe_status
from bms_async.cli.following.standing import describe_groups, describe_unavailable, describe_waiting, standing_fields
from bms_async.cli.terminal.again import to_be_pasted
from bms_async.cli.terminal.exit import print_error
from bms_async.cli.terminal.rows import Table
from bms_async.cli.terminal.texts import duration, pluralize, strip_control_chars, verb_in

__all__ = ["TABLE", "describe_ending", "print_open", "run_age", "run_fields", "run_head", "run_lines"]

_DAY = 86400


def run_fields(run: DurableRun) -> dict[str, object]:
    """Return a run as the fields of its line of JSON."""
    progress = run.progress
    endpoint, _, project = run.place.rpartition("|")
    fields: dict[str, object] = {
        "type": "run",
        "key": run.key,
        "id": run.id,
        "action": run.action,
        "status": describe_status(run),
        "endpoint": endpoint,
        "project_id": project,
        "servers": progress.total,
        "submitted": progress.submitted,
        "done": progress.done,
        "in_flight": count_under_way(progress),
        "by_state": {state.value: count for state, count in progress.by_state.items()},
        "created": run.created,
        "ended": run.ended,
        "aborted": run.aborted,
    }
    # What an ended run noted last is from before its end.
    rollout = standing_fields(progress) if run.ended is None else None
    return fields if rollout is None else {**fields, "rollout": rollout}


def run_head(run: DurableRun) -> str:
    """Return a run in a line."""
    progress, action = run.progress, verb_in(run.action)
    done = f"{progress.done:,} of {pluralize(progress.total or 0, 'server')} ended"
    return f"{strip_control_chars(run.key)}: {action}, {describe_status(run)}, {done}"


def run_lines(run: DurableRun) -> list[str]:
    """Return all that is known of a run without reading its outcomes."""
    progress = run.progress
    endpoint, _, project = run.place.rpartition("|")
    states = ", ".join(f"{count:,} {state.lower()}" for state, count in progress.by_state.items() if count)
    ended = "" if run.ended is None else f", ended {run.ended:%Y-%m-%d %H:%M:%S}"
    lines = [
        run_head(run),
        f"  of project {strip_control_chars(project)} at {strip_control_chars(endpoint)}",
        f"  begun {run.created:%Y-%m-%d %H:%M:%S}{ended} UTC",
        f"  {progress.submitted:,} asked, {run.under_way:,} in flight{', ' if states else ''}{states}",
    ]
    if run.wave_size is not None:
        lines.append(f"  at most {run.wave_size:,} in flight at once")
    if run.aborted is not None:
        lines.append(f"  aborted: {run.aborted}")
    if run.ended is None:
        texts = describe_groups(progress), describe_unavailable(progress), describe_waiting(progress)
        lines += [f"  {text}" for text in texts if text]
        held = f"{run.held:,} batch{'' if run.held == 1 else 'es'}"
        nobody = "" if run.held or run.status is RunStatus.PAUSED else ": `bms worker` carries it out"
        lines.append(f"  workers hold {held}{nobody}")
    return lines


def print_open(run: DurableRun) -> None:
    """Print what keeps a cancelled run from its end, if anything does.

    Args:
        run: The run, read a moment ago.
    """
    if run.ended is None:
        print_error(f"nothing more is asked for; {describe_ending(run)}")


def describe_ending(run: DurableRun) -> str:
    """Return what keeps a run from its end of which nothing more is asked for.

    Args:
        run: The run, read a moment ago.
    """
    if not run.held:
        return describe_open(run)
    resume = to_be_pasted(f"bms {verb_in(run.action)} --resume {shlex.quote(run.key)}")
    return (
        f"{pluralize(run.under_way, 'server')} under way, which another process follows to the end. If that has died,"
        f" `{resume}` takes over after 15 seconds"
    )


def run_age(run: DurableRun) -> str:
    """Return how long ago a run was begun."""
    seconds = (datetime.now(UTC) - run.created).total_seconds()
    return duration(seconds) if seconds < _DAY else pluralize(int(seconds // _DAY), "day")


def _progress(run: DurableRun) -> str:
    return f"{run.progress.done:,}/{run.progress.total or 0:,}"


TABLE: Final = Table[DurableRun](
    columns={
        "key": lambda run: run.key,
        "action": lambda run: verb_in(run.action),
        "state": describe_status,
        "progress": _progress,
        "age": run_age,
        "servers": lambda run: run.progress.total or 0,
        "done": lambda run: run.progress.done,
        "in_flight": lambda run: count_under_way(run.progress),
        "not_as_asked": lambda run: sum(n for state, n in run.progress.by_state.items() if not state.is_success),
        "created": lambda run: run.created,
        "ended": lambda run: run.ended,
        "project": lambda run: run.place.rpartition("|")[2],
        "endpoint": lambda run: run.place.rpartition("|")[0],
    },
    usual=("key", "action", "state", "progress", "age"),
    ids=lambda run: run.key,
    fields=run_fields,
    right=frozenset({"progress", "age", "servers", "done", "in_flight", "not_as_asked"}),
)
"""The columns of runs."""
