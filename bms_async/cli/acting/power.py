"""``bms start``, ``bms stop`` and ``bms reboot``.

What more than one server, or a key, is given to is a run in the journal: it is written down before the first call, and
whichever process dies, `--resume` goes on with it exactly. One server alone is asked for without the journal.
"""

from __future__ import annotations

import shlex
from contextlib import AsyncExitStack, nullcontext

import anyio
import msgspec

from bms_async import DurableOptions, DurableRun, JobHandle
from bms_async.cli.access.cloud import OpenClient, open_client, read_settings
from bms_async.cli.access.whoami import show_place
from bms_async.cli.following.follow import Follower, print_in_doubt
from bms_async.cli.following.followed import MemoryRun
from bms_async.cli.following.plan import note_usage, print_plan
from bms_async.cli.following.terms import describe_terms
from bms_async.cli.following.waves import print_waves
from bms_async.cli.report_page.live import LivePage, serve_page
from bms_async.cli.runs.durable import (
    begin_run,
    carry_on,
    check_credentials,
    find_resumable,
    find_run,
    kept_batch_size,
    print_detached,
    print_held,
    wait_for_the_run,
)
from bms_async.cli.runs.journal import NOTHING_SENT, open_journal
from bms_async.cli.runs.saved import SavedRun, is_file, key_of_file, read_resumed, resume_lock
from bms_async.cli.selection.ids import read_ids
from bms_async.cli.selection.learning import check_credentials_by, learn_servers
from bms_async.cli.selection.listing import check_found, list_chosen
from bms_async.cli.selection.rollouts import ListedServers
from bms_async.cli.terminal.confirm import confirm
from bms_async.cli.terminal.exit import Code, UsageError, print_error
from bms_async.cli.terminal.progress import Screen
from bms_async.cli.terminal.signals import SignalHandler, run_interruptibly
from bms_async.cli.terminal.texts import pluralize, strip_control_chars
from bms_async.fleet import FleetOptions, batch_size
from bms_async.models.ids import canonical_id

from .power_options import Action, PowerOptions, check_options, read_share

__all__ = ["Action", "PowerOptions", "act", "read_share"]


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
            named: list[str] | None = list(saved.unasked)
            options = msgspec.structs.replace(options, key=key_of_file(options.resume or ""))
        elif options.resume is not None:
            named = []
        else:
            named = read_ids(options.ids, options.file, filters=options.filters)
        settings = read_settings(options.cloud)
        if saved is not None and file is not None:
            saved.check_cloud(file, settings.endpoint)

        async def main(stop: SignalHandler) -> int:
            async with AsyncExitStack() as stack:
                runs = None
                if _needs_journal(options, named) or (options.resume is not None and file is None):
                    opening = open_journal(settings, options.journal, otherwise=NOTHING_SENT)
                    runs = await stack.enter_async_context(opening)
                cloud = await stack.enter_async_context(open_client(settings, runs))
                # Before anything is sent: a port that cannot be had is no reason to end a run.
                port = None if options.dry_run else options.serve
                live = await stack.enter_async_context(serve_page(port))
                with Screen(quiet=options.quiet) as screen:
                    return await _PowerCommand(action, options, cloud, stop, screen, saved=saved, live=live).run(named)

        return run_interruptibly(main)


def _needs_journal(options: PowerOptions, named: list[str] | ListedServers | None) -> bool:
    if options.no_journal or options.dry_run:
        return False
    return bool(options.key or options.detach or options.resume) or named is None or len(named) > 1


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

    async def run(self, named: list[str] | None) -> int:
        options, saved = self._options, self._saved
        if options.resume is not None and saved is None:
            return await self._resume(options.resume)
        if saved is not None:
            _describe_saved(saved, self._action, options.resume or "")
            if not named:
                return Code.OK
        servers = await self._list() if named is None else named
        if named and not options.detach:
            await check_credentials_by(self._cloud, named[0])
            await learn_servers(self._cloud, named)
        if options.dry_run:
            await self._print_plan(servers)
            return Code.OK
        await self._confirm(len(servers), is_safe=saved is None or saved.left is not None or self._action != "reboot")
        if not _needs_journal(options, servers):
            return await self._run_in_memory(servers)
        return await self._run_in_journal(servers)

    async def _print_plan(self, servers: list[str] | ListedServers) -> None:
        options, wave, count = self._options, self._wave, len(servers)
        if options.rollout is not None:
            await print_waves(
                self._action,
                self._cloud,
                servers,
                options.rollout,
                wave=wave,
                server_takes=options.server_takes,
                json=options.json,
            )
            return
        batch = kept_batch_size(wave) if count > 1 and not options.no_journal else batch_size(wave)
        await print_plan(self._action, self._cloud, count, batch=batch, json=options.json)

    async def _resume(self, key: str) -> int:
        options, bms = self._options, self._cloud.bms
        run = await find_resumable(bms, self._action, key)
        left = (run.progress.total or 0) - run.progress.done
        await check_credentials(bms)
        if options.dry_run:
            if run.is_rollout:
                raise UsageError(
                    f"--plan: the run {strip_control_chars(key)} keeps the plan of its rollout; leave it out"
                )
            batch = kept_batch_size(run.wave_size)
            await print_plan(self._action, self._cloud, left, batch=batch, json=options.json)
            return Code.OK
        print_held(run)
        await self._confirm(left)
        return await self._carry_on(run)

    async def _run_in_journal(self, servers: list[str] | ListedServers) -> int:
        options, bms, key = self._options, self._cloud.bms, self._options.key
        known = None if key is None else await find_run(bms, key)
        head = self._saved.head if self._saved else None
        wanted: DurableOptions = {"wave_size": self._wave}
        wanted["abort_above"] = head.abort_above if options.abort_above is None and head else options.abort_above
        wanted["verify"] = options.verify or (head is not None and head.verify)
        if options.abort_sample is not None:
            wanted["abort_sample"] = options.abort_sample
        if options.rollout is not None:
            wanted["rollout"] = options.rollout
        # A run that is half begun may be in the journal, where workers find it; a signal pauses it once it is known.
        self._stop.on_first_signal = wait_for_the_run
        run = await begin_run(bms, self._action, servers, key=key, options=wanted)
        if options.detach:
            print_detached(run, was_known=known is not None, json=options.json)
            return Code.OK
        if known is not None:
            print_held(known)
        if known is not None and known.ended is not None:
            print_error(
                f"the run {strip_control_chars(run.key)} has ended before: nothing is sent, and this came of it"
            )
        return await self._carry_on(run)

    async def _run_in_memory(self, servers: list[str] | ListedServers) -> int:
        options, bms, jobs = self._options, self._cloud.bms, list[str]()

        def on_job(job: JobHandle) -> None:
            jobs.append(job.id)

        await note_usage(self._action, self._cloud)
        begin = {"start": bms.fleet.start, "stop": bms.fleet.stop, "reboot": bms.fleet.reboot}[self._action]
        wave = options.wave
        wanted: FleetOptions = {"wave_size": wave, "abort_above": options.abort_above, "verify": options.verify}
        if options.abort_sample is not None:
            wanted["abort_sample"] = options.abort_sample
        wanted |= {"rollout": options.rollout, "on_job": on_job}
        run = begin(servers, **wanted)
        count = len(set(map(canonical_id, servers)) if isinstance(servers, list) else servers)
        followed, batch = MemoryRun(run, jobs), batch_size(wave)
        follower = Follower(
            self._action,
            followed,
            self._cloud,
            self._screen,
            json=options.json,
            wave=wave,
            batch=batch,
            servers=count,
            terms=describe_terms(
                wave=wave, abort_above=options.abort_above, verify=options.verify, rollout=options.rollout
            ),
            live=self._live,
        )
        self._stop.on_first_signal = follower.interrupt
        code = await follower.follow()
        return await follower.conclude(code, quiet=options.quiet, report=options.report, stop=self._stop)

    async def _carry_on(self, run: DurableRun) -> int:
        options = self._options
        return await carry_on(
            run,
            self._cloud,
            self._stop,
            self._screen,
            json=options.json,
            quiet=options.quiet,
            report=options.report,
            rollout=options.rollout,
            live=self._live,
        )

    @property
    def _wave(self) -> int | None:
        head = self._saved.head if self._saved else None
        return self._options.wave or (head.wave if head else None)

    async def _list(self) -> list[str] | ListedServers:
        rollout, filters = self._options.rollout, self._options.filters
        # The rollout would have to read them, too.
        whole = rollout is not None and rollout.needs_servers
        try:
            servers = await list_chosen(self._cloud, filters, self._screen, whole=whole)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await self._screen.clear()
        check_found(len(servers), filters)
        return servers

    async def _confirm(self, count: int, *, is_safe: bool = True) -> None:
        place = await show_place(self._cloud, quiet=self._options.quiet)
        if not self._options.yes and (count > 1 or not is_safe):
            await confirm(f"{self._action} {pluralize(count, 'server')} of {place.brief}?")


def _describe_saved(saved: SavedRun, action: Action, file: str) -> None:
    """Print what is not resumed of a run that an earlier version saved."""
    if saved.left is None and action == "reboot":
        print_error(
            "the run was killed: servers that it was just asking for are left alone, so that none is rebooted twice"
            if saved.is_certain
            else "the run was killed: servers that it was just asking for may be rebooted twice"
        )
    if saved.in_doubt and action == "reboot":
        print_in_doubt(saved.in_doubt)
    if saved.jobs:
        print_error(f"{pluralize(len(saved.jobs), 'job')} of the run was accepted before. To watch:")
        print_error(f"bms jobs watch --from {shlex.quote(file)}", first="  ")
    if not saved.unasked:
        print_error("no server of the run is left to be asked for")
