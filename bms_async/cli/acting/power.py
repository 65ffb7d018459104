"""``bms start``, ``bms stop`` and ``bms reboot``.

What more than one server, a key or a journal is given to is a run in the journal: it is written down before the first
call, and whichever process dies, `--resume` goes on with it exactly. One server alone is asked for without the journal.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, nullcontext

import msgspec

from bms_async import DurableOptions, DurableRun, RunStatus
from bms_async.cli.access.cloud import OpenClient, open_client
from bms_async.cli.access.learning import check_credentials
from bms_async.cli.access.settings import read_settings
from bms_async.cli.access.whoami import show_place
from bms_async.cli.following.bounds import Bounds
from bms_async.cli.following.chosen import look_at
from bms_async.cli.following.plan import print_plan
from bms_async.cli.following.waves import print_whole_plan
from bms_async.cli.report_page.live import LivePage, serve_page
from bms_async.cli.runs.durable import (
    begin_run,
    carry_on,
    find_resumable,
    find_run,
    kept_batch_size,
    print_detached,
    print_held,
    print_known,
    wait_for_the_run,
)
from bms_async.cli.runs.journal import NOTHING_SENT, open_journal
from bms_async.cli.runs.last import resolve_key
from bms_async.cli.runs.retrying import RetryOptions, retry_failed
from bms_async.cli.runs.saved import SavedRun, is_file, key_of_file, read_resumed, resume_lock
from bms_async.cli.runs.saved_texts import print_saved
from bms_async.cli.selection.choosing import Choice, Selection, choose_servers
from bms_async.cli.selection.ids import Given, read_excluded, read_given, reads_input
from bms_async.cli.selection.rollouts import ListedServers
from bms_async.cli.terminal.confirm import confirm
from bms_async.cli.terminal.exit import Code, UsageError, print_error
from bms_async.cli.terminal.progress import Screen
from bms_async.cli.terminal.signals import SignalHandler, run_interruptibly
from bms_async.cli.terminal.texts import pluralize, strip_control_chars
from bms_async.fleet import batch_size

from .in_memory import run_in_memory
from .power_options import Action, PowerOptions, check_options
from .power_task import PowerTask

__all__ = ["act"]


def act(action: Action, options: PowerOptions) -> int:
    """Run a power command, and return the exit code.

    Args:
        action: What is done to the servers.
        options: Which servers, and how.

    Raises:
        UsageError: The options contradict each other, or a file or the journal cannot be used.
        BmsError: The run could not start, or its journal cannot be read any more. Else each server has its outcome.
    """
    file = options.resume if options.resume is not None and is_file(options.resume) else None
    check_options(action, options, file)
    with resume_lock(file) if file is not None else nullcontext():
        saved = None if file is None else read_resumed(action, file)
        if saved is not None:
            given: Given | None = Given.of_ids(saved.unasked)
            options = msgspec.structs.replace(options, key=key_of_file(options.resume or ""))
        elif options.resume is not None or options.retry_failed is not None:
            given = Given(())
        else:
            given = read_given(options.ids, options.file, filters=options.filters)
        excluded = read_excluded(options.excluded, reads_input=reads_input(options.ids, options.file, options.filters))
        settings = read_settings(options.cloud)
        if saved is not None and file is not None:
            saved.check_cloud(file, settings.endpoint, settings.project_id)

        async def main(stop: SignalHandler) -> int:
            async with AsyncExitStack() as stack:
                runs = None
                if options.needs_journal(given) or options.goes_on(file):
                    opening = open_journal(settings, options.journal, otherwise=NOTHING_SENT)
                    runs = await stack.enter_async_context(opening)
                cloud = await stack.enter_async_context(open_client(settings, runs))
                # Before anything is sent: a port that cannot be had is no reason to end a run.
                port = None if options.dry_run else options.serve
                live = await stack.enter_async_context(serve_page(port))
                with Screen(quiet=options.quiet) as screen:
                    command = _PowerCommand(action, options, cloud, stop, screen, saved=saved, live=live)
                    return await command.run(given, excluded)

        return run_interruptibly(main)


class _PowerCommand:
    """One action on some servers."""

    def __init__(
        self,
        action: Action,
        options: PowerOptions,
        cloud: OpenClient,
        stop: SignalHandler,
        screen: Screen,
        *,
        saved: SavedRun | None,
        live: LivePage | None,
    ) -> None:
        self._action: Action = action
        self._options = options
        self._cloud = cloud
        self._stop = stop
        self._screen = screen
        self._saved = saved
        self._live = live

    async def run(self, given: Given | None, excluded: Given | None) -> int:
        options, saved = self._options, self._saved
        if options.retry_failed is not None:
            return await self._retry(options.retry_failed)
        if options.resume is not None and saved is None:
            return await self._resume(options.resume)
        if saved is not None:
            print_saved(saved, self._action, options.resume or "")
            if not given:
                return Code.OK
        return await self._choose(given, excluded)

    async def _choose(self, given: Given | None, excluded: Given | None) -> int:
        options, saved = self._options, self._saved
        selection = Selection(
            given=given,
            filters=options.filters,
            excluded=excluded,
            # The rollout would have to read them, too.
            whole=options.rollout is not None and options.rollout.needs_servers,
            is_checked=not options.detach,
        )
        choice = await choose_servers(self._cloud, selection, self._screen)
        if choice.why_none:
            return await self._do_nothing(choice.why_none)
        servers = choice.servers
        bounds = Bounds(self._wave, self._abort_above, len(servers))
        if options.dry_run:
            await self._print_plan(choice, bounds)
            return Code.OK
        is_safe = saved is None or saved.left is not None or self._action != "reboot"
        await self._confirm(len(servers), is_safe=is_safe, note=bounds.text)
        if not options.needs_journal(servers):
            return await self._run_in_memory(servers, bounds)
        return await self._run_in_journal(servers)

    async def _do_nothing(self, why: str) -> int:
        options = self._options
        print_error(f"nothing to do: {why}")
        if options.dry_run and not options.output.is_default:
            await self._print_plan(Choice([]), Bounds(None, None, 0))
        elif (options.output.json or options.report is not None) and not (options.dry_run or options.detach):
            await self._run_in_memory([], Bounds(None, None, 0))
        return Code.USAGE if options.fail_if_none else Code.OK

    async def _print_plan(self, choice: Choice, bounds: Bounds) -> None:
        options, wave, servers = self._options, bounds.size, choice.servers
        chosen = await look_at(self._cloud, self._action, choice.ids, choice.missing)
        await print_whole_plan(
            self._action,
            self._cloud,
            servers,
            len(servers),
            rollout=options.rollout,
            wave=wave,
            batch=kept_batch_size(wave) if len(servers) > 1 and not options.no_journal else batch_size(wave),
            server_takes=options.server_takes,
            output=options.output,
            chosen=chosen,
            note=bounds.text,
        )

    async def _resume(self, key: str) -> int:
        options, bms = self._options, self._cloud.bms
        key = await resolve_key(self._cloud, key, action=self._action, only_open=True)
        run = await find_resumable(bms, self._action, key)
        # What is ending is only followed to its end.
        is_ending = run.status in {RunStatus.CANCELLED, RunStatus.ABORTED}
        left = 0 if is_ending else (run.progress.total or 0) - run.progress.done
        await check_credentials(self._cloud)
        if options.dry_run:
            if run.is_rollout:
                raise UsageError(
                    f"--plan: the run {strip_control_chars(key)} keeps the plan of its rollout; leave it out"
                )
            wave = run.wave_size
            batch = kept_batch_size(wave)
            await print_plan(self._action, self._cloud, left, wave=wave, batch=batch, output=options.output)
            return Code.OK
        print_held(run)
        await self._confirm(left)
        return await self._carry_on(run)

    async def _retry(self, key: str) -> int:
        options = self._options
        key = await resolve_key(self._cloud, key, action=self._action)
        run = await find_run(self._cloud.bms, key)
        if run is None:
            raise UsageError(
                f"--retry-failed {strip_control_chars(key)}: {self._cloud.place.brief} has no run of that key in this"
                " journal; `bms runs list` shows its runs"
            )
        retry = RetryOptions(
            key=options.key,
            wave=options.wave,
            abort_above=options.abort_above,
            abort_sample=options.abort_sample,
            verify=options.verify,
            changes=options.changes,
            server_takes=options.server_takes,
            detach=options.detach,
            dry_run=options.dry_run,
            yes=options.yes,
            quiet=options.quiet,
            report=options.report,
            failed_to=options.failed_to,
            output=options.output,
            fail_if_none=options.fail_if_none,
        )
        return await retry_failed(
            run, retry, self._cloud, self._stop, self._screen, live=self._live, action=self._action
        )

    async def _run_in_journal(self, servers: list[str] | ListedServers) -> int:
        options, bms, key = self._options, self._cloud.bms, self._options.key
        known = None if key is None else await find_run(bms, key)
        head = self._saved.head if self._saved else None
        wanted: DurableOptions = {"wave_size": self._wave, "abort_above": self._abort_above}
        wanted["verify"] = options.verify or (head is not None and head.verify)
        if options.abort_sample is not None:
            wanted["abort_sample"] = options.abort_sample
        if options.rollout is not None:
            wanted["rollout"] = options.rollout
        # A run that is half begun may be in the journal, where workers find it; a signal pauses it once it is known.
        self._stop.on_interrupt = self._stop.on_first_signal = wait_for_the_run
        run = await begin_run(bms, self._action, servers, key=key, options=wanted)
        if options.detach:
            print_detached(run, was_known=known is not None, output=options.output)
            return Code.OK
        if known is not None:
            print_known(known)
        return await self._carry_on(run)

    async def _run_in_memory(self, servers: list[str] | ListedServers, bounds: Bounds) -> int:
        task = PowerTask(self._action, verify=self._options.verify)
        return await run_in_memory(
            task,
            servers,
            bounds,
            self._options,
            self._cloud,
            stop=self._stop,
            screen=self._screen,
            live=self._live,
        )

    async def _carry_on(self, run: DurableRun) -> int:
        options = self._options
        return await carry_on(
            run,
            self._cloud,
            self._stop,
            self._screen,
            output=options.output,
            quiet=options.quiet,
            report=options.report,
            failed_to=options.failed_to,
            rollout=options.rollout,
            live=self._live,
        )

    @property
    def _wave(self) -> int | None:
        head = self._saved.head if self._saved else None
        return self._options.wave or (head.wave if head else None)

    @property
    def _abort_above(self) -> float | None:
        head, typed = self._saved.head if self._saved else None, self._options.abort_above
        return head.abort_above if typed is None and head else typed

    async def _confirm(self, count: int, *, is_safe: bool = True, note: str | None = None) -> None:
        place = await show_place(self._cloud, quiet=self._options.quiet)
        if note is not None and not self._options.quiet:
            print_error(note)
        if not self._options.yes and (count > 1 or not is_safe):
            await confirm(f"{self._action} {pluralize(count, 'server')} of {place.brief}?")
