"""``last``, in place of the key of a run: the latest run of this cloud and project.

A run that is really named so wins, since nothing else leads to it; no new one can be given that name by the command.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bms_async.cli.following.journaled import describe_status
from bms_async.cli.terminal.exit import UsageError, print_error
from bms_async.cli.terminal.texts import strip_control_chars, verb_in

from .durable import find_run
from .run_texts import run_age

if TYPE_CHECKING:
    from bms_async.cli.access.cloud import OpenClient

__all__ = ["check_new_key", "check_typed_key", "is_last", "resolve_key"]


def is_last(key: str) -> bool:
    """Return whether a key is the word for the latest run."""
    return key.lower() == "last"


def check_new_key(key: str | None) -> None:
    """Refuse what no new run can be called.

    Args:
        key: The key that was typed; None if none was.

    Raises:
        UsageError: It is empty, the word for the latest run, or an option that was taken for a key.
    """
    if key is None:
        return
    if not key.strip():
        # An unset variable of a script: each time it is run it would begin another run.
        raise UsageError("--key is empty: expected the name of the run; give one, or leave the option out")
    if is_last(key):
        raise UsageError(f"--key {key}: this word means the latest run; give the run another key")
    check_typed_key("--key", key)


def check_typed_key(option: str, key: str | None) -> None:
    """Refuse an option that was taken for the key of a run, since the key was forgotten.

    Args:
        option: The option that a key belongs to.
        key: What was typed behind it; None if the option was not given.

    Raises:
        UsageError: It is an option.
    """
    if key is not None and key.startswith("-"):
        raise UsageError(
            f"{option}: expected the key of a run behind it, got the option {strip_control_chars(key)};"
            f" {'give one' if option == '--key' else 'give one, or the word last for the latest run'}"
        )


async def resolve_key(cloud: OpenClient, key: str, *, action: str | None = None, only_open: bool = False) -> str:
    """Return the key of a run that was typed, after a word about which one ``last`` is.

    Args:
        cloud: The client.
        key: What was typed.
        action: The action of the run that is looked for, such as ``stop``; None for any.
        only_open: Whether only a run that has not ended will do.

    Raises:
        UsageError: There is no run that ``last`` could mean.
        JournalError: The journal cannot be read.
    """
    if not is_last(key):
        return key
    if await find_run(cloud.bms, key) is not None:
        print_error(f"{key} is the run of that key")
        return key
    async for run in cloud.bms.runs.list(open=True if only_open else None):
        its_action = verb_in(run.action)
        if action is None or its_action == action:
            status = f"{its_action}, {describe_status(run)}, begun {run_age(run)} ago"
            print_error(f"the last run is {strip_control_chars(run.key)}: {status}")
            return run.key
    kind = f" {action}" if action is not None else ""
    which = f"no{kind} run that has not ended" if only_open else f"no{kind} run"
    raise UsageError(
        f"{key}: there is {which} of {cloud.place.brief} in this journal; `bms runs list` shows all of them"
    )
