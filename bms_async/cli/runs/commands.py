"""``bms runs``: what the journal has of runs, and what may happen to them."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import msgspec

from bms_async import DurableOptions, DurableRun, OutcomeState, Rollout, RunStatus
from bms_async.cli.access.cloud import OpenClient, open_client, read_settings
from bms_async.cli.access.whoami import show_place
from bms_async.cli.following.failures import Failures
from bms_async.cli.following.follow import Follower
from bms_async.cli.following.followed import WatchedRun, describe_status
from bms_async.cli.following.results import plain_reasons, reason_lines
from bms_async.cli.following.terms import describe_terms
from bms_async.cli.report_page.forms import check_report
from bms_async.cli.report_page.live import LivePage, serve_page
from bms_async.cli.selection.rollouts import check_rollout
from bms_async.cli.terminal.confirm import confirm
from bms_async.cli.terminal.exit import Code, UsageError, print_error
from bms_async.cli.terminal.output import TableWriter, json_line, write
from bms_async.cli.terminal.progress import Screen
from bms_async.cli.terminal.signals import SignalHandler, run_interruptibly
from bms_async.cli.terminal.texts import pluralize, strip_control_chars

from .durable import carry_on, check_credentials, find_run, kept_batch_size, print_detached, wait_for_the_run
from .journal import made_up_key, open_journal
from .run_texts import run_age, run_fields, run_head, run_lines

__all__ = [
    "RetryOptions",
    "RunsOptions",
    "change_runs",
    "list_runs",
    "prune_runs",
    "retry_run",
    "show_runs",
    "watch_run",
]

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


class RunsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What all of these commands take.

    Attributes:
        cloud: A cloud of ``clouds.yaml``.
        journal: The address of the journal.
        json: Whether to print JSON.
    """

    cloud: str | None = None
    journal: str | None = None
    json: bool = False


class RetryOptions(msgspec.Struct, frozen=True, kw_only=True):
    """How a run is tried once more; what is not given is as it was.

    Attributes:
        key: The key of the new run.
        unknown: Whether servers that are UNKNOWN are in it also for a reboot.
        wave: How many servers may be in flight at once.
        abort_above: The share of failures that aborts it.
        verify: Whether states are read back at the end.
        rollout: How the fleet is walked through.
        no_rollout: Whether a run that was a rollout is tried again without one.
        detach: Whether it is only written down.
        yes: Whether to skip the confirmation.
        quiet: Whether to print failures only.
        report: Where a report of the run is written, in the form of its suffix.
        serve: The port on which its page is served; 0 for any that is free.
    """

    key: str | None = None
    unknown: bool = False
    wave: int | None = None
    abort_above: float | None = None
    verify: bool = False
    rollout: Rollout | None = None
    no_rollout: bool = False
    detach: bool = False
    yes: bool = False
    quiet: bool = False
    report: str | None = None
    serve: int | None = None


def list_runs(options: RunsOptions, *, only_open: bool, everywhere: bool) -> int:
    """Print the runs of a project, the latest first, and return the exit code.

    Args:
        options: Which journal.
        only_open: Whether those that have ended are left out.
        everywhere: Whether those of all clouds and projects are shown.
    """

    async def work(cloud: OpenClient, _stop: SignalHandler) -> int:
        columns = TableWriter(("key", "action", "state", "progress", "age"), right=("progress", "age"))
        async for run in cloud.bms.runs.list(open=True if only_open else None, all_places=everywhere):
            if options.json:
                write(json_line(run_fields(run)))
                continue
            action, progress = run.action.removeprefix("servers."), run.progress
            columns.add(
                run.key, action, describe_status(run), f"{progress.done:,}/{progress.total or 0:,}", run_age(run)
            )
        columns.flush()
        return Code.OK

    return _with_journal(options, work)


def show_runs(keys: Sequence[str], options: RunsOptions) -> int:
    """Print all that is known of runs; returns 1 if one of them does not exist.

    Args:
        keys: Their keys.
        options: Which journal.
    """

    async def show(run: DurableRun) -> int:
        failures = Failures()
        if sum(count for state, count in run.progress.by_state.items() if not state.is_success):
            async for outcome in run.outcomes(wait=False):
                failures.add(outcome)
        if options.json:
            write(json_line({**run_fields(run), "held": run.held, "reasons": plain_reasons(failures)}))
        else:
            write("\n".join([*run_lines(run), *reason_lines(failures)]) + "\n")
        return Code.OK

    return _with_journal(options, _for_each(keys, show))


def watch_run(key: str, options: RunsOptions, *, quiet: bool, report: str | None, serve: int | None = None) -> int:
    """Show a run to its end, whoever carries it out, and return the exit code.

    Args:
        key: Its key.
        options: Which journal.
        quiet: Whether to print failures only.
        report: Where a report of it is written, in the form of its suffix.
        serve: The port on which its page is served; 0 for any that is free.

    Raises:
        UsageError: The report cannot be written, or the port cannot be had.
    """
    check_report(report)

    async def work(cloud: OpenClient, stop: SignalHandler) -> int:
        async with serve_page(serve) as live:
            return await watch(cloud, stop, live)

    async def watch(cloud: OpenClient, stop: SignalHandler, live: LivePage | None) -> int:
        run = await _find(cloud, key)
        if run is None:
            return Code.FAILED
        with Screen(quiet=quiet) as screen:
            follower = Follower(
                run.action.removeprefix("servers."),
                WatchedRun(run),
                cloud,
                screen,
                json=options.json,
                wave=run.wave_size,
                batch=kept_batch_size(run.wave_size),
                servers=run.progress.total or 0,
                terms=describe_terms(wave=run.wave_size, abort_above=run.abort_above, is_rollout=run.is_rollout),
                live=live,
            )
            stop.on_first_signal = follower.interrupt
            code = await follower.follow()
            return await follower.conclude(code, quiet=quiet, report=report, stop=stop)

    return _with_journal(options, work)


def change_runs(keys: Sequence[str], status: RunStatus, options: RunsOptions) -> int:
    """Pause, resume or cancel runs; returns 1 if one of them does not exist, or has ended.

    Args:
        keys: Their keys.
        status: What may happen to them from now on.
        options: Which journal.
    """

    async def change(run: DurableRun) -> int:
        calls = {RunStatus.PAUSED: run.pause, RunStatus.OPEN: run.resume, RunStatus.CANCELLED: run.cancel}
        was_ended = run.ended is not None
        await calls[status]()
        if options.json:
            write(json_line(run_fields(run)))
        else:
            write(f"{run_head(run)}\n")
        if was_ended or run.status is not status:
            print_error(f"the run {strip_control_chars(run.key)} was {describe_status(run)} before, and stays so")
            return Code.FAILED
        if status is RunStatus.OPEN and not options.json:
            print_error("`bms worker` carries it out; `bms runs watch` shows whether one does")
        return Code.OK

    async def work(cloud: OpenClient, stop: SignalHandler) -> int:
        await show_place(cloud)
        return await _for_each(keys, change)(cloud, stop)

    return _with_journal(options, work)


def retry_run(key: str, retry: RetryOptions, options: RunsOptions) -> int:
    """Begin a new run with the servers of an ended one that are not as asked, and carry it out.

    Args:
        key: The key of the ended run.
        retry: How.
        options: Which journal.

    Raises:
        UsageError: The run has not ended, it was a rollout and the new one is none, or nothing of it is to be tried
            again; or the report cannot be written, or the port cannot be had.
    """
    check_report(retry.report)

    async def work(cloud: OpenClient, stop: SignalHandler) -> int:
        async with serve_page(None if retry.detach else retry.serve) as live:
            return await begin(cloud, stop, live)

    async def begin(cloud: OpenClient, stop: SignalHandler, live: LivePage | None) -> int:
        run = await _find(cloud, key)
        if run is None:
            return Code.FAILED
        if run.ended is None:
            raise UsageError(f"the run {strip_control_chars(key)} has not ended: resume it, or cancel it first")
        if run.is_rollout and retry.rollout is None and not retry.no_rollout:
            raise UsageError(
                f"the run {strip_control_chars(key)} was a rollout: give the options of the new one, such as"
                " --max-unavailable, or --no-rollout"
            )
        action, counts = run.action.removeprefix("servers."), run.progress.by_state
        check_rollout(action, retry.rollout)
        wanted = {OutcomeState.FAILED, OutcomeState.SKIPPED}
        if retry.unknown or action != "reboot":
            wanted.add(OutcomeState.UNKNOWN)
        count = sum(counts[state] for state in wanted)
        if not count:
            raise UsageError(f"nothing of the run {strip_control_chars(key)} is to be tried again")
        if not retry.detach:
            await check_credentials(cloud.bms)
        place = await show_place(cloud, quiet=retry.quiet)
        if count > 1 and not retry.yes:
            await confirm(f"{action} {pluralize(count, 'server')} of {place.brief}?", otherwise="confirm with --yes")
        wanted_options: DurableOptions = {"wave_size": retry.wave or run.wave_size, "detach": True}
        wanted_options["abort_above"] = run.abort_above if retry.abort_above is None else retry.abort_above
        wanted_options["verify"] = retry.verify
        wanted_options["rollout"] = retry.rollout
        # A run that is half begun may be in the journal, where workers find it; a signal pauses it once it is known.
        stop.on_first_signal = wait_for_the_run
        new = await cloud.bms.runs.retry(
            run, key=retry.key or made_up_key(action), unknown=retry.unknown or None, **wanted_options
        )
        if retry.detach:
            print_detached(new, was_known=False, json=options.json)
            return Code.OK
        with Screen(quiet=retry.quiet) as screen:
            return await carry_on(
                new,
                cloud,
                stop,
                screen,
                json=options.json,
                quiet=retry.quiet,
                report=retry.report,
                rollout=retry.rollout,
                live=live,
            )

    return _with_journal(options, work)


def prune_runs(options: RunsOptions, *, older_than: str, everywhere: bool) -> int:
    """Delete runs that ended long ago, and return the exit code.

    Args:
        options: Which journal.
        older_than: Their age since their end, such as ``30d``.
        everywhere: Whether those of all clouds and projects are deleted.
    """
    seconds = _read_age(older_than)

    async def work(cloud: OpenClient, _stop: SignalHandler) -> int:
        count = await cloud.bms.runs.prune(older_than=seconds, all_places=everywhere)
        write(json_line({"type": "pruned", "runs": count}) if options.json else f"{pluralize(count, 'run')} deleted\n")
        return Code.OK

    return _with_journal(options, work)


def _with_journal(options: RunsOptions, work: Callable[[OpenClient, SignalHandler], Awaitable[int]]) -> int:
    settings = read_settings(options.cloud)

    @asynccontextmanager
    async def opened() -> AsyncIterator[OpenClient]:
        async with open_journal(settings, options.journal) as runs, open_client(settings, runs) as cloud:
            yield cloud

    async def main(stop: SignalHandler) -> int:
        async with opened() as cloud:
            return await work(cloud, stop)

    return run_interruptibly(main)


def _for_each(
    keys: Sequence[str], work: Callable[[DurableRun], Awaitable[int]]
) -> Callable[[OpenClient, SignalHandler], Awaitable[int]]:
    async def each(cloud: OpenClient, _stop: SignalHandler) -> int:
        code: int = Code.OK
        for key in dict.fromkeys(keys):
            run = await _find(cloud, key)
            code = max(code, Code.FAILED if run is None else await work(run))
        return code

    return each


async def _find(cloud: OpenClient, key: str) -> DurableRun | None:
    """Return the run of a key, after a word about one that does not exist."""
    run = await find_run(cloud.bms, key)
    if run is None:
        print_error(
            f"there is no run {strip_control_chars(key)} of {cloud.where} in this journal: `bms runs list --all` shows"
            " those of all clouds"
        )
    return run


def _read_age(text: str) -> float:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if found is None:
        raise UsageError(f"--older-than {text}: expected an age such as 30d, 12h, 45m or 90s")
    return float(found[1]) * _UNITS[found[2]]
