"""Commands that make a call for each of any number of servers: chosen, confirmed, followed and reported as power runs.

Such a run is in this process alone: killed, it is begun again with the servers that are left, which ``--json`` names.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from typing import TypedDict

import anyio

from bms_async import BmsClient, FleetRun, JobHandle, Rollout
from bms_async.cli.access.cloud import OpenClient, open_client, read_settings
from bms_async.cli.access.whoami import show_place
from bms_async.cli.following.follow import Follower
from bms_async.cli.following.followed import MemoryRun
from bms_async.cli.following.plan import note_usage, print_plan
from bms_async.cli.following.terms import describe_terms
from bms_async.cli.report_page.live import LivePage, serve_page
from bms_async.cli.runs.durable import check_credentials
from bms_async.cli.selection.ids import read_ids
from bms_async.cli.selection.learning import learn_servers
from bms_async.cli.selection.listing import check_found, list_chosen
from bms_async.cli.selection.rollouts import ListedServers
from bms_async.cli.terminal.confirm import confirm, confirm_number
from bms_async.cli.terminal.exit import Code
from bms_async.cli.terminal.progress import Screen
from bms_async.cli.terminal.signals import SignalHandler, run_interruptibly
from bms_async.cli.terminal.texts import pluralize
from bms_async.models.ids import canonical_id

from .common import CommonArguments, CommonOptions, check_common, read_common

__all__ = ["RunArguments", "Task", "carry_out", "make_options"]


class RunArguments(TypedDict, total=False):
    """What a task hands on to its run."""

    wave_size: int | None
    abort_above: float | None
    abort_sample: int
    rollout: Rollout | None
    on_job: Callable[[JobHandle], Awaitable[object] | object]


class Task:
    """What is done to each server; this is the base of what the commands do.

    Attributes:
        verb: What it is called.
        operation: The call that does it.
        polls: The call that finds out how it ended.
        loses_data: Whether it is confirmed by the number of servers, also for one alone.
        native: Whether the native list of OpenStack chooses the servers.
    """

    verb: str
    operation: str
    polls: str = "jobs.get"
    loses_data: bool = False
    native: bool = False

    def describe(self, ids: Sequence[str]) -> str:  # noqa: ARG002 - mostly the same for all
        """Return what is done, for the confirmation: what stands after the cloud, or nothing.

        Args:
            ids: All servers.

        Raises:
            UsageError: It cannot be done to these.
        """
        return ""

    def begin(self, bms: BmsClient, servers: Sequence[str] | ListedServers, options: RunArguments) -> FleetRun:
        """Begin the run.

        Args:
            bms: The client.
            servers: The servers.
            options: Its options.
        """
        raise NotImplementedError

    async def check_credentials(self, bms: BmsClient, server_id: str) -> None:
        """Check with a read, before anything is changed, that the cloud responds and accepts the credentials.

        Args:
            bms: The client.
            server_id: A server to read.
        """
        await check_credentials(bms, server_id)


def make_options(typed: CommonArguments) -> CommonOptions:
    """Return the options that were typed.

    Args:
        typed: As click has read them.

    Raises:
        UsageError: They contradict each other, or a file cannot be written.
    """
    options = CommonOptions(**read_common(typed))
    check_common(options)
    return options


def carry_out(task: Task, ids: Sequence[str], options: CommonOptions, *, named: list[str] | None = None) -> int:
    """Do something to each server, and return the exit code.

    Args:
        task: What is done.
        ids: Servers, or a ``-``.
        options: Which servers, and how.
        named: The servers, where they are known already.

    Raises:
        UsageError: The options contradict each other, or a file cannot be used.
        BmsError: The run could not start. Else each server has its outcome.
    """
    if named is None:
        named = read_ids(ids, options.file, filters=options.filters)
    settings = read_settings(options.cloud)

    async def main(stop: SignalHandler) -> int:
        async with AsyncExitStack() as stack:
            cloud = await stack.enter_async_context(open_client(settings, None))
            live = await stack.enter_async_context(serve_page(None if options.dry_run else options.serve))
            with Screen(quiet=options.quiet) as screen:
                return await _Command(task, options, cloud, stop, screen, live=live).run(named)

    return run_interruptibly(main)


class _Command:
    """One task, and some servers."""

    def __init__(
        self,
        task: Task,
        options: CommonOptions,
        cloud: OpenClient,
        stop: SignalHandler,
        screen: Screen,
        *,
        live: LivePage | None,
    ) -> None:
        self._task = task
        self._options = options
        self._cloud = cloud
        self._stop = stop
        self._screen = screen
        self._live = live

    async def run(self, named: list[str] | None) -> int:
        options, task = self._options, self._task
        servers = await self._list() if named is None else named
        ids = servers if isinstance(servers, list) else [server.id for server in servers]
        what = task.describe(ids)
        if named:
            await task.check_credentials(self._cloud.bms, named[0])
            await learn_servers(self._cloud, named, native=task.native)
        if options.dry_run:
            await self._print_plan(len(ids), what)
            return Code.OK
        await self._confirm(len(ids), what)
        return await self._run(servers, len(set(map(canonical_id, ids))))

    async def _run(self, servers: list[str] | ListedServers, count: int) -> int:
        options, task, jobs = self._options, self._task, list[str]()

        def on_job(job: JobHandle) -> None:
            jobs.append(job.id)

        await note_usage(task.verb, self._cloud, operation=task.operation)
        wanted: RunArguments = {"wave_size": options.wave, "abort_above": options.abort_above, "on_job": on_job}
        if options.abort_sample is not None:
            wanted["abort_sample"] = options.abort_sample
        wanted["rollout"] = options.rollout
        run = task.begin(self._cloud.bms, servers, wanted)
        follower = Follower(
            task.verb,
            MemoryRun(run, jobs),
            self._cloud,
            self._screen,
            json=options.json,
            wave=options.wave,
            batch=1,
            servers=count,
            operation=task.operation,
            polls=task.polls,
            terms=describe_terms(wave=options.wave, abort_above=options.abort_above, rollout=options.rollout),
            live=self._live,
        )
        self._stop.on_first_signal = follower.interrupt
        code = await follower.follow()
        return await follower.conclude(code, quiet=options.quiet, report=options.report, stop=self._stop)

    async def _print_plan(self, count: int, what: str) -> None:
        note = f"each of them {what}\n" if what else ""
        if self._options.rollout is not None:
            note += "its canaries, groups, checks and windows are not in these times\n"
        await print_plan(
            self._task.verb,
            self._cloud,
            count,
            batch=1,
            json=self._options.json,
            operation=self._task.operation,
            note=note,
        )

    async def _list(self) -> list[str] | ListedServers:
        rollout, filters = self._options.rollout, self._options.filters
        # A rollout that needs the servers would have to read them, too.
        whole = rollout is not None and rollout.needs_servers
        try:
            servers = await list_chosen(self._cloud, filters, self._screen, whole=whole, native=self._task.native)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await self._screen.clear()
        check_found(len(servers), filters)
        return servers

    async def _confirm(self, count: int, what: str) -> None:
        task, place = self._task, await show_place(self._cloud, quiet=self._options.quiet)
        if self._options.yes or (count == 1 and not task.loses_data):
            return
        question = f"{task.verb} {pluralize(count, 'server')} of {place.brief}{f' {what}' if what else ''}"
        if task.loses_data:
            await confirm_number(f"{question}? What is on their system disks is lost.", count)
        else:
            await confirm(f"{question}?")
