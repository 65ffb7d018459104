"""Asks again for the servers of an ended run that are not as asked: as a new run, with what the ended one had.

A server that may have been rebooted is rebooted again only where that was asked for by a word of its own.
"""

from __future__ import annotations

import shlex
from collections.abc import Collection
from typing import TYPE_CHECKING, Literal, NamedTuple, cast

import msgspec

from bms_async import DurableOptions, DurableRun, InvalidRequestError, OutcomeState
from bms_async.cli.access.learning import check_credentials, learn_servers
from bms_async.cli.access.whoami import show_place
from bms_async.cli.following.chosen import look_at
from bms_async.cli.following.journaled import describe_status
from bms_async.cli.following.waves import print_whole_plan
from bms_async.cli.selection.rollouts import check_rollout
from bms_async.cli.terminal.again import print_command
from bms_async.cli.terminal.confirm import confirm
from bms_async.cli.terminal.exit import Code, UsageError, print_error
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.texts import pluralize, strip_control_chars, verb_in

from .durable import carry_on, find_run, kept_batch_size, print_detached, print_known, wait_for_the_run
from .journal import OWN_PREFIX, made_up_key
from .run_texts import describe_ending
from .taken_over import TakenOver, take_over

if TYPE_CHECKING:
    from bms_async import BmsClient
    from bms_async.cli.access.cloud import OpenClient
    from bms_async.cli.report_page.live import LivePage
    from bms_async.cli.rolling import RolloutArguments
    from bms_async.cli.terminal.progress import Screen
    from bms_async.cli.terminal.signals import SignalHandler

__all__ = ["RetryOptions", "retry_failed"]


class RetryOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How servers are asked for again; what is not given is as it was.

    Attributes:
        key: The key of the new run.
        unknown: Whether servers that are UNKNOWN are in it also for a reboot.
        wave: How many servers may be under way at once.
        abort_above: The share of failures that aborts it.
        abort_sample: How many servers must have ended before that counts.
        verify: Whether states are read back at the end, also if they were not.
        changes: The options of a rollout, in place of those of the ended run; None for none.
        no_rollout: Whether the rollout of the ended run is left out.
        server_takes: Seconds that a server takes until it is well, for the plan.
        detach: Whether it is only written down.
        dry_run: Whether to print the plan, and do nothing.
        yes: Whether to skip the confirmation.
        quiet: Whether to print failures only.
        report: Where a report of the run is written, in the form of its suffix.
        failed_to: Where a list of the servers that are not as asked is written.
        output: The form of outcomes as rows.
        fail_if_none: Whether it is an error that nothing is left.
    """

    key: str | None = None
    unknown: bool = False
    wave: int | None = None
    abort_above: float | None = None
    abort_sample: int | None = None
    verify: bool = False
    changes: RolloutArguments | None = None
    no_rollout: bool = False
    server_takes: float | None = None
    detach: bool = False
    dry_run: bool = False
    yes: bool = False
    quiet: bool = False
    report: str | None = None
    failed_to: str | None = None
    output: OutputOptions = OutputOptions()
    fail_if_none: bool = False


async def retry_failed(
    run: DurableRun,
    retry: RetryOptions,
    cloud: OpenClient,
    stop: SignalHandler,
    screen: Screen,
    *,
    live: LivePage | None = None,
    action: str | None = None,
) -> int:
    """Begin a new run with the servers of an ended one that are not as asked, and carry it out.

    Args:
        run: The ended run.
        retry: How.
        cloud: The client.
        stop: What ends it early.
        screen: Where the progress is shown.
        live: The page that is served while it goes on.
        action: What the run has to have done, such as ``stop``; None for anything.

    Returns:
        The exit code.

    Raises:
        UsageError: The run has not ended, it was another action, or its rollout cannot be taken over.
        JournalError: The journal cannot be used.
    """
    _check(run, action)
    taken = take_over(run, retry)
    check_rollout(verb_in(run.action), taken.rollout)
    its_action, counts = verb_in(run.action), run.progress.by_state
    asked = await _look_for_earlier(run, retry, cloud.bms)
    if asked.run is not None:
        return _print_asked_before(run, asked.run, fails_if_none=retry.fail_if_none)
    wanted = {OutcomeState.FAILED, OutcomeState.SKIPPED}
    if retry.unknown or its_action != "reboot":
        wanted.add(OutcomeState.UNKNOWN)
    count = sum(counts[state] for state in wanted) if asked.ids is None else len(asked.ids)
    if not count:
        _print_nothing_to_do(run)
        return Code.USAGE if retry.fail_if_none else Code.OK
    if not retry.detach:
        await check_credentials(cloud)
    if retry.dry_run:
        await _print_plan(run, asked.ids or await _ids_in(run, wanted), retry, taken, cloud)
        return Code.OK
    place = await show_place(cloud, quiet=retry.quiet)
    known = None if retry.key is None else await find_run(cloud.bms, retry.key)
    for note in () if retry.quiet or known is not None else taken.notes(run, count):
        print_error(note)
    if count > 1 and not retry.yes:
        await confirm(f"{its_action} {pluralize(count, 'server')} of {place.brief}?", otherwise="confirm with --yes")
    wanted_options: DurableOptions = {"wave_size": taken.wave, "abort_above": taken.abort_above, "detach": True}
    wanted_options |= {"abort_sample": taken.abort_sample, "verify": taken.verify, "rollout": taken.rollout}
    # A run that is half begun may be in the journal, where workers find it; a signal pauses it once it is known.
    stop.on_interrupt = stop.on_first_signal = wait_for_the_run
    runs = cloud.bms.runs
    if asked.ids is None:
        new = await runs.retry(run, key=asked.key, unknown=retry.unknown or None, **wanted_options)
    else:
        new = await runs.reboot(asked.ids, key=asked.key, **wanted_options)
    if retry.detach:
        print_detached(new, was_known=known is not None, output=retry.output)
        return Code.OK
    if known is not None:
        print_known(known)
    return await carry_on(
        new,
        cloud,
        stop,
        screen,
        output=retry.output,
        quiet=retry.quiet,
        report=retry.report,
        failed_to=retry.failed_to,
        rollout=taken.rollout,
        live=live,
    )


async def _print_plan(
    run: DurableRun, ids: list[str], retry: RetryOptions, taken: TakenOver, cloud: OpenClient
) -> None:
    """Print what would be done, with what is taken over from the ended run."""
    action = cast("Literal['start', 'stop', 'reboot']", verb_in(run.action))
    note, size = "\n".join(taken.notes(run, len(ids))), taken.bounds(len(ids)).size
    await learn_servers(cloud, ids)
    chosen = await look_at(cloud, action, ids)
    await print_whole_plan(
        action,
        cloud,
        ids,
        len(ids),
        rollout=taken.rollout,
        wave=size,
        batch=kept_batch_size(size),
        server_takes=retry.server_takes,
        output=retry.output,
        chosen=chosen,
        note=note or None,
    )


async def _ids_in(run: DurableRun, states: Collection[OutcomeState]) -> list[str]:
    """Return the servers of an ended run that are in one of these states, and can be asked for."""
    return [
        outcome.server_id
        async for outcome in run.outcomes(wait=False)
        if outcome.state in states and not isinstance(outcome.error, InvalidRequestError)
    ]


class _Earlier(NamedTuple):
    """What was asked for again before.

    Attributes:
        key: The key of the run that asks for the rest.
        ids: The servers of the rest; None for all that are not as asked.
        run: The run that has asked for all of it before; None if there is none.
    """

    key: str
    ids: list[str] | None = None
    run: DurableRun | None = None


async def _look_for_earlier(run: DurableRun, retry: RetryOptions, bms: BmsClient) -> _Earlier:
    """Return what of an ended run was asked for again before.

    What failed may have been asked for before what may have been rebooted is: the latter is the rest then.
    """
    if retry.key is not None:
        return _Earlier(retry.key)
    key = _key_of_retry(run)
    before = await find_run(bms, key) if verb_in(run.action) == "reboot" else None
    if before is None or before.ended is None or not retry.unknown:
        return _Earlier(key, run=before)
    asked = {outcome.server_id async for outcome in before.outcomes(wait=False)}
    ids = [server_id for server_id in await _ids_in(run, {OutcomeState.UNKNOWN}) if server_id not in asked]
    if not ids:
        return _Earlier(key, run=before)
    key = f"{key}-unknown"
    return _Earlier(key, ids, await find_run(bms, key))


def _key_of_retry(run: DurableRun) -> str:
    """Return the key of the run that asks again for what is left of another one.

    For a reboot everybody gets the same one: two who ask at once carry one run out, and whoever asks later finds it, so
    that no server is rebooted twice.
    """
    action = verb_in(run.action)
    return f"{OWN_PREFIX}reboot-again-{run.id[:12]}" if action == "reboot" else made_up_key(action)


def _print_asked_before(run: DurableRun, again: DurableRun, *, fails_if_none: bool) -> int:
    """Print that a run was asked for again before, and what came of that, and return the exit code."""
    shown, its_key, typed = strip_control_chars(run.key), strip_control_chars(again.key), shlex.quote(again.key)
    if again.ended is None:
        raise UsageError(
            f"the run {shown} is being asked for again already, by the run {its_key}: watch that by"
            f" `bms runs watch {typed}`, or go on with it by `bms reboot --resume {typed}`"
        )
    left = sum(count for state, count in again.progress.by_state.items() if not state.is_success)
    counts = f"{pluralize(left, 'server')} of it not as asked" if left else "all of its servers are as asked"
    print_error(f"nothing to do: the run {shown} was asked for again before, by the run {its_key}; {counts}")
    if left:
        print_error("to ask again for these:")
        print_command(f"bms reboot --retry-failed {typed}")
        return Code.FAILED
    print_error("to reboot once more whatever was not as asked at first:")
    print_command(f"bms reboot --retry-failed {shlex.quote(run.key)} --key NAME")
    return Code.USAGE if fails_if_none else Code.OK


def _check(run: DurableRun, action: str | None) -> None:
    shown, typed, its_action = strip_control_chars(run.key), shlex.quote(run.key), verb_in(run.action)
    if action is not None and its_action != action:
        raise UsageError(
            f"the run {shown} is a {its_action}: ask for its servers with `bms {its_action} --retry-failed {typed}`"
        )
    if run.ended is not None:
        return
    if describe_status(run) == "ending":
        # Nothing more of it is asked for, and a cancellation adds nothing.
        raise UsageError(f"the run {shown} has not ended: {describe_ending(run)}")
    raise UsageError(
        f"the run {shown} has not ended, and its servers may still be asked for: go on with it by"
        f" `bms {its_action} --resume {typed}`, or end it first by `bms runs cancel {typed}`"
    )


def _print_nothing_to_do(run: DurableRun) -> None:
    unknown = run.progress.by_state[OutcomeState.UNKNOWN]
    if unknown:
        print_error(
            f"nothing to do: {pluralize(unknown, 'server')} may have been rebooted, and nothing else is left of the run"
            f" {strip_control_chars(run.key)}. To reboot also these again:"
        )
        print_command(f"bms runs retry {shlex.quote(run.key)} --unknown")
    else:
        print_error(f"nothing to do: all servers of the run {strip_control_chars(run.key)} are as asked")
