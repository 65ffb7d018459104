"""Runs in the journal: begun, found, and carried on by a command."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import anyio

from bms_async import (
    BmsClient,
    DurableOptions,
    DurableRun,
    InvalidRequestError,
    JournalError,
    Rollout,
    RunStatus,
    Server,
)
from bms_async.cli.following.follow import Follower
from bms_async.cli.following.journaled import KeptRun, describe_status
from bms_async.cli.following.plan import note_usage
from bms_async.cli.following.terms import describe_terms
from bms_async.cli.terminal.again import print_command, to_be_pasted
from bms_async.cli.terminal.exit import UsageError, print_error
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.output import write
from bms_async.cli.terminal.rows import write_record
from bms_async.cli.terminal.texts import pluralize, strip_class_names, strip_control_chars, verb_in
from bms_async.runs.options import CheckedOptions

from .journal import NOTHING_SENT, PATIENCE, made_up_key, prune_own

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bms_async.cli.access.cloud import OpenClient
    from bms_async.cli.report_page.live import LivePage
    from bms_async.cli.terminal.progress import Screen
    from bms_async.cli.terminal.signals import SignalHandler

__all__ = [
    "begin_run",
    "carry_on",
    "find_resumable",
    "find_run",
    "kept_batch_size",
    "print_detached",
    "print_held",
    "print_known",
    "wait_for_the_run",
]

_PATIENCE_AT_THE_END = 5.0
"""Seconds for which a journal that has failed may delay the end."""


def kept_batch_size(wave: int | None) -> int:
    """Return how many servers a run in the journal sends with one call at most.

    Args:
        wave: How many servers may be in flight at once.
    """
    return CheckedOptions(wave_size=wave).batch_size


async def begin_run(
    bms: BmsClient, action: str, servers: Iterable[str | Server], *, key: str | None, options: DurableOptions
) -> DurableRun:
    """Write a run down, unless there is one of that key, and do not begin to carry it out.

    Args:
        bms: The client.
        action: ``start``, ``stop`` or ``reboot``.
        servers: The servers.
        key: Its key; None makes one up.
        options: Its options.

    Raises:
        UsageError: It could not be written down.
        InvalidRequestError: The key is that of a run of other servers.
    """
    try:
        # Detached: nothing is sent before its calls are counted.
        return await bms.runs._begin(  # noqa: SLF001 - the patience is not a public option
            f"servers.{action}", servers, key or made_up_key(action), {**options, "detach": True}, patience=PATIENCE
        )
    except JournalError as error:
        raise UsageError(f"{strip_class_names(str(error))}\n{NOTHING_SENT}") from error


async def find_run(bms: BmsClient, key: str) -> DurableRun | None:
    """Return the run of a key in this project, None if there is none."""
    try:
        return await (await bms.runs.get(key)).refresh()
    except InvalidRequestError:
        return None


async def find_resumable(bms: BmsClient, action: str, key: str) -> DurableRun:
    """Return the run of a key that is to be gone on with.

    Args:
        bms: The client.
        action: ``start``, ``stop`` or ``reboot``.
        key: The key.

    Raises:
        UsageError: There is none, it is one of another action, or it has ended.
    """
    shown, typed = strip_control_chars(key), shlex.quote(key)
    run = await find_run(bms, key)
    if run is None:
        async for other in bms.runs.list(all_places=True):
            if other.key == key:
                endpoint, _, project = other.place.rpartition("|")
                raise UsageError(f"--resume {shown}: it is a run of project {project} at {endpoint}; name that cloud")
        raise UsageError(
            f"--resume {shown}: there is no run of that key; `bms runs list` shows them. A file that an earlier version"
            " saved is named by its path, such as ./run.jsonl"
        )
    began = verb_in(run.action)
    if began != action:
        raise UsageError(f"{shown} is a {began}: resume it with `bms {began} --resume {typed}`")
    if run.ended is not None:
        status = describe_status(run)
        how = "has ended" if status == "ended" else f"was {status}"
        raise UsageError(
            f"the run {shown} {how}, and nothing is left of it: `bms runs show {typed}` shows what"
            f" became of it, and `bms runs retry {typed}` begins a new one with what failed"
        )
    return run


def print_held(run: DurableRun) -> None:
    """Print that another process works on the run, or did until a moment ago."""
    if run.held:
        batches = f"{run.held:,} batch{'' if run.held == 1 else 'es'}"
        print_error(
            f"another process holds {batches} of the run; if it has died they are taken over within 20 seconds, and"
            " what it was just asking for is settled by the servers' states, so that none is rebooted twice"
        )


def print_known(run: DurableRun) -> None:
    """Print how it is with a run that was written down before: whether it has ended, or another process works on it."""
    print_held(run)
    if run.ended is not None:
        print_error(f"the run {strip_control_chars(run.key)} has ended before: nothing is sent, and this came of it")


def print_detached(run: DurableRun, *, was_known: bool, output: OutputOptions) -> None:
    """Print that a run is written down, how to watch it, and what carries it out.

    Args:
        run: The run.
        was_known: Whether it was written down before.
        output: The form of the run as a record; the usual one is text for people.
    """
    servers = run.progress.total or 0
    if not output.is_default:
        fields: dict[str, object] = {"type": "run", "key": run.key, "action": run.action, "servers": servers}
        write_record({**fields, "status": describe_status(run), "known": was_known}, output, name="key")
        return
    action, key = verb_in(run.action), shlex.quote(run.key)
    was = f"was written down before, and is {describe_status(run)}" if was_known else "is written down"
    write(f"{strip_control_chars(run.key)}: {action} {pluralize(servers, 'server')} {was}\n")
    print_error("`bms worker` carries it out, here or on any machine with the same journal. To watch it:")
    print_command(f"bms runs watch {key}")


def wait_for_the_run() -> None:
    """Leave a signal to be heeded once the run is known."""


async def carry_on(
    run: DurableRun,
    cloud: OpenClient,
    stop: SignalHandler,
    screen: Screen,
    *,
    output: OutputOptions,
    quiet: bool,
    report: str | None = None,
    failed_to: str | None = None,
    rollout: Rollout | None = None,
    live: LivePage | None = None,
) -> int:
    """Carry a run out, show it to its end, and return the exit code.

    Args:
        run: The run.
        cloud: The client.
        stop: What ends it early.
        screen: Where the progress is shown.
        output: The form of outcomes as rows; usually there are none, and the results are text for people.
        quiet: Whether to print failures only.
        failed_to: Where the list of its servers that are not as asked is written, beside the state folder.
        report: Where a report of the run is written, in the form of its suffix.
        rollout: Its rollout, where this command has its options.
        live: The page that is served while it goes on.

    Raises:
        JournalError: The journal cannot be read any more.
    """
    action = verb_in(run.action)
    kept = KeptRun(run, cloud.bms.runs._count_to_verify)  # noqa: SLF001 - for the bar alone
    follower = Follower(
        action,
        kept,
        cloud,
        screen,
        output=output,
        wave=run.wave_size,
        batch=kept_batch_size(run.wave_size),
        servers=run.progress.total or 0,
        terms=describe_terms(
            wave=run.wave_size, abort_above=run.abort_above, verify=run.verify, rollout=rollout or run.rollout
        ),
        live=live,
    )
    # From here on Ctrl-C pauses the run.
    follower.heed(stop)
    try:
        await note_usage(action, cloud)
        if stop.number:
            await kept.let_go()
        else:
            if run.status is RunStatus.PAUSED and run.ended is None:
                await run.resume()
            await cloud.bms.runs.carry_on(run)
        try:
            code = await follower.follow()
        except JournalError:
            await follower.keep_lists(failed_to)
            raise
        code = await follower.conclude(code, quiet=quiet, report=report, stop=stop, failed_to=failed_to)
    except JournalError as error:
        why = strip_class_names(str(error))
        raise JournalError(f"{why}\n{await _what_is_left(run, cloud.bms)}") from error
    if run.ended is not None:
        await prune_own(cloud.bms)
    return code


async def _what_is_left(run: DurableRun, bms: BmsClient) -> str:
    """Return what a journal that failed still has of a run, for people."""
    progress = run.progress
    asked = f"at least {progress.submitted:,} of {pluralize(progress.total or 0, 'server')} had been asked for"
    resume = to_be_pasted(f"bms {verb_in(run.action)} --resume {shlex.quote(run.key)}")
    found = None
    try:
        with anyio.fail_after(_PATIENCE_AT_THE_END):
            found = await find_run(bms, run.key)
    except (JournalError, TimeoutError):
        return f"When it failed, {asked}. Once the journal can be read again, the run can be resumed: {resume}"
    if found is not None and found.id == run.id:
        return f"The run is in the journal as far as it is. To resume it: {resume}"
    return f"The run cannot be resumed, and {asked}: look at their states before you ask for them again."
