"""``bms runs``: what the journal has of runs, and what may happen to them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Final, NamedTuple

import msgspec

from bms_async import DurableRun, RunStatus
from bms_async.cli.access.cloud import OpenClient, open_client
from bms_async.cli.access.learning import learn_servers
from bms_async.cli.access.settings import read_settings
from bms_async.cli.access.whoami import show_place
from bms_async.cli.following.failures import Failures
from bms_async.cli.following.follow import Follower
from bms_async.cli.following.journaled import WatchedRun, describe_status
from bms_async.cli.following.outcomes import TABLE as OUTCOMES
from bms_async.cli.following.results import plain_reasons, reason_lines
from bms_async.cli.following.terms import describe_terms
from bms_async.cli.report_page.forms import check_report
from bms_async.cli.report_page.live import LivePage, serve_page
from bms_async.cli.terminal.exit import Code, UsageError, print_error
from bms_async.cli.terminal.files import check_output_file
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.numbers import read_seconds
from bms_async.cli.terminal.output import write
from bms_async.cli.terminal.progress import Screen
from bms_async.cli.terminal.rows import RowWriter, Table, write_record, write_rows_aside
from bms_async.cli.terminal.signals import SignalHandler, run_interruptibly
from bms_async.cli.terminal.texts import pluralize, strip_control_chars, verb_in

from .durable import find_run, kept_batch_size
from .failed import show_failed
from .journal import open_journal
from .last import check_new_key, resolve_key
from .retrying import RetryOptions, retry_failed
from .run_texts import TABLE, print_open, run_fields, run_head, run_lines

__all__ = [
    "RunsOptions",
    "change_runs",
    "list_runs",
    "prune_runs",
    "retry_run",
    "show_runs",
    "watch_run",
]


class RunsOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What all of these commands take.

    Attributes:
        cloud: A cloud of ``clouds.yaml``.
        journal: The address of the journal.
        output: The form of rows.
    """

    cloud: str | None = None
    journal: str | None = None
    output: OutputOptions = OutputOptions()


class _Shown(NamedTuple):
    run: DurableRun
    failures: Failures


def _shown_fields(shown: _Shown) -> dict[str, object]:
    return {
        **run_fields(shown.run),
        "in_flight": shown.run.under_way,
        "held": shown.run.held,
        "reasons": plain_reasons(shown.failures),
    }


_SHOWN: Final[Table[_Shown]] = TABLE.over(lambda shown: shown.run, _shown_fields)


def list_runs(options: RunsOptions, *, only_open: bool, everywhere: bool) -> int:
    """Print the runs of a project, the latest first, and return the exit code.

    Args:
        options: Which journal.
        only_open: Whether those that have ended are left out.
        everywhere: Whether those of all clouds and projects are shown.
    """
    RowWriter(TABLE, options.output)

    async def work(cloud: OpenClient, _stop: SignalHandler) -> int:
        runs = cloud.bms.runs.list(open=True if only_open else None, all_places=everywhere)
        await write_rows_aside(TABLE, options.output, runs)
        return Code.OK

    return _with_journal(options, work)


def show_runs(keys: Sequence[str], options: RunsOptions, *, only_failed: bool = False) -> int:
    """Print all that is known of runs; returns 1 if one of them does not exist.

    Args:
        keys: Their keys, or ``last``.
        options: Which journal.
        only_failed: Whether their servers that are not as asked are printed, each in a row, and nothing else.
    """
    if only_failed:
        RowWriter(OUTCOMES, options.output)
        return _with_journal(options, _for_each(keys, partial(show_failed, output=options.output), None))
    rows = None if options.output.is_default else RowWriter(_SHOWN, options.output)

    async def show(run: DurableRun, cloud: OpenClient) -> int:
        failures = Failures()
        if sum(count for state, count in run.progress.by_state.items() if not state.is_success):
            async for outcome in run.outcomes(wait=False):
                failures.add(outcome)
        if rows is None:
            await learn_servers(cloud, [server_id for reason in failures.reasons() for server_id in reason.servers])
            write("\n".join([*run_lines(run), *reason_lines(failures, cloud.known)]) + "\n")
        else:
            rows.add(_Shown(run, failures))
        return Code.OK

    return _with_journal(options, _for_each(keys, show, rows))


def watch_run(
    key: str,
    options: RunsOptions,
    *,
    quiet: bool,
    report: str | None,
    failed_to: str | None = None,
    serve: int | None = None,
) -> int:
    """Show a run to its end, whoever carries it out, and return the exit code.

    Args:
        key: Its key.
        options: Which journal.
        quiet: Whether to print failures only.
        report: Where a report of it is written, in the form of its suffix.
        failed_to: Where a list of its servers that are not as asked is written.
        serve: The port on which its page is served; 0 for any that is free.

    Raises:
        UsageError: A file cannot be written, or the port cannot be had.
    """
    check_report(report)
    check_output_file("--failed-to", failed_to)

    async def work(cloud: OpenClient, stop: SignalHandler) -> int:
        async with serve_page(serve) as live:
            return await watch(cloud, stop, live)

    async def watch(cloud: OpenClient, stop: SignalHandler, live: LivePage | None) -> int:
        run = await _find(cloud, key)
        if run is None:
            return Code.FAILED
        with Screen(quiet=quiet) as screen:
            follower = Follower(
                verb_in(run.action),
                WatchedRun(run),
                cloud,
                screen,
                output=options.output,
                wave=run.wave_size,
                batch=kept_batch_size(run.wave_size),
                servers=run.progress.total or 0,
                terms=describe_terms(
                    wave=run.wave_size, abort_above=run.abort_above, verify=run.verify, rollout=run.rollout
                ),
                live=live,
            )
            return await follower.see_through(stop, quiet=quiet, report=report, failed_to=failed_to)

    return _with_journal(options, work)


def change_runs(keys: Sequence[str], status: RunStatus, options: RunsOptions) -> int:
    """Pause, resume or cancel runs; returns 1 if one of them does not exist, or has ended.

    Args:
        keys: Their keys.
        status: What may happen to them from now on.
        options: Which journal.
    """
    rows = None if options.output.is_default else RowWriter(TABLE, options.output)

    async def change(run: DurableRun, _cloud: OpenClient) -> int:
        calls = {RunStatus.PAUSED: run.pause, RunStatus.OPEN: run.resume, RunStatus.CANCELLED: run.cancel}
        was_ended = run.ended is not None
        await calls[status]()
        if rows is None:
            write(f"{run_head(run)}\n")
        else:
            rows.add(run)
        if status is RunStatus.CANCELLED and not was_ended and run.status in {status, RunStatus.ABORTED}:
            # One that was ending may be ended by this, too.
            print_open(run)
            return Code.OK
        if was_ended or run.status is not status:
            print_error(f"the run {strip_control_chars(run.key)} was {describe_status(run)} before, and stays so")
            return Code.FAILED
        if status is RunStatus.OPEN and rows is None:
            print_error("`bms worker` carries it out; `bms runs watch` shows whether one does")
        return Code.OK

    async def work(cloud: OpenClient, stop: SignalHandler) -> int:
        await show_place(cloud)
        return await _for_each(keys, change, rows)(cloud, stop)

    return _with_journal(options, work)


def retry_run(key: str, retry: RetryOptions, options: RunsOptions, *, serve: int | None = None) -> int:
    """Begin a new run with the servers of an ended one that are not as asked, and carry it out.

    Args:
        key: The key of the ended run, or ``last``.
        retry: How.
        options: Which journal.
        serve: The port on which its page is served; 0 for any that is free.

    Raises:
        UsageError: The run has not ended, or its rollout cannot be taken over; or a file cannot be written, or the port
            cannot be had.
    """
    check_new_key(retry.key)
    check_report(retry.report)
    check_output_file("--failed-to", retry.failed_to)

    async def work(cloud: OpenClient, stop: SignalHandler) -> int:
        async with serve_page(None if retry.detach else serve) as live:
            run = await _find(cloud, key)
            if run is None:
                return Code.FAILED
            with Screen(quiet=retry.quiet) as screen:
                return await retry_failed(run, retry, cloud, stop, screen, live=live)

    return _with_journal(options, work)


def prune_runs(options: RunsOptions, *, older_than: str, everywhere: bool) -> int:
    """Delete runs that ended long ago, and return the exit code.

    Args:
        options: Which journal.
        older_than: Their age since their end, such as ``30d``.
        everywhere: Whether those of all clouds and projects are deleted.

    Raises:
        UsageError: The age is none.
    """
    seconds = read_seconds(older_than, needs_unit=True)
    if seconds is None:
        raise UsageError(f"--older-than {older_than}: expected an age such as 30d, 12h, 45m or 90s")

    async def work(cloud: OpenClient, _stop: SignalHandler) -> int:
        count = await cloud.bms.runs.prune(older_than=seconds, all_places=everywhere)
        if options.output.is_default:
            write(f"{pluralize(count, 'run')} deleted\n")
        else:
            write_record({"type": "pruned", "runs": count}, options.output)
        return Code.OK

    return _with_journal(options, work)


def _with_journal(options: RunsOptions, work: Callable[[OpenClient, SignalHandler], Awaitable[int]]) -> int:
    settings = read_settings(options.cloud)

    async def main(stop: SignalHandler) -> int:
        async with open_journal(settings, options.journal) as runs, open_client(settings, runs) as cloud:
            return await work(cloud, stop)

    return run_interruptibly(main)


def _for_each(
    keys: Sequence[str], work: Callable[[DurableRun, OpenClient], Awaitable[int]], rows: RowWriter[Any] | None
) -> Callable[[OpenClient, SignalHandler], Awaitable[int]]:
    async def each(cloud: OpenClient, _stop: SignalHandler) -> int:
        code: int = Code.OK
        for key in dict.fromkeys(keys):
            run = await _find(cloud, key)
            code = max(code, Code.FAILED if run is None else await work(run, cloud))
        if rows is not None:
            rows.finish()
        return code

    return each


async def _find(cloud: OpenClient, key: str) -> DurableRun | None:
    """Return the run of a key, or the latest, after a word about one that does not exist."""
    key = await resolve_key(cloud, key)
    run = await find_run(cloud.bms, key)
    if run is None:
        print_error(
            f"there is no run {strip_control_chars(key)} of {cloud.place.brief} in this journal: `bms runs list --all`"
            " shows those of all clouds"
        )
    return run
