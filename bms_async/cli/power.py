"""``bms start``, ``bms stop`` and ``bms reboot``."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import anyio
import msgspec

from bms_async import BmsError, FleetRun, InvalidRequestError, NotFoundError, PermissionDeniedError
from bms_async._extras import require
from bms_async.api.bms.power import REBOOT, START, STOP
from bms_async.fleet import FleetOptions, batch_size
from bms_async.limits.shared.limiter import SharedLimiter
from bms_async.models.ids import canonical_id

from .account_usage import LimitView, read_account_in
from .cloud import OpenClient, open_client, read_settings
from .confirm import confirm
from .estimate import time_of_last_call
from .exit import Code, UsageError, print_error
from .follow import Follower, print_in_doubt
from .ids import Filters, list_ids, read_ids
from .journal import Journal, make_header
from .output import json_line, write
from .progress import Screen
from .saved import SavedRun, read_saved, restore_jobs, resume_lock
from .signals import SignalHandler, run_interruptibly
from .texts import duration, pluralize

__all__ = ["Action", "PowerOptions", "act", "read_share"]

Action: TypeAlias = Literal["start", "stop", "reboot"]

_SLOT_POLL = 0.5
_PATIENCE = 2.0
"""Seconds for reading what other processes use, which is only shown."""

_CALLS = {"start": START, "stop": STOP, "reboot": REBOOT}


class PowerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options as typed.

    Attributes:
        ids: Servers, or a ``-``.
        file: A file of ids.
        filters: Filters of the server list, where no ids are given.
        cloud: A cloud of ``clouds.yaml``.
        wave: How many servers may be in flight at once.
        abort_above: The share of failures that aborts the run.
        verify: Whether states are read back at the end.
        dry_run: Whether to print the plan, and do nothing.
        yes: Whether to skip the confirmation.
        json: Whether to print JSON.
        quiet: Whether to print failures only.
        save: Where jobs are saved.
        resume: The file of the run to resume.
        report: Where a page about the run is written.
    """

    ids: Sequence[str] = ()
    file: str | None = None
    filters: tuple[Filters, ...] = ()
    cloud: str | None = None
    wave: int | None = None
    abort_above: float | None = None
    verify: bool = False
    dry_run: bool = False
    yes: bool = False
    json: bool = False
    quiet: bool = False
    save: str | None = None
    resume: str | None = None
    report: str | None = None


def act(action: Action, options: PowerOptions) -> int:
    """Run a power command, and return the exit code.

    Args:
        action: What is done to the servers.
        options: Which servers, and how.

    Raises:
        UsageError: The options contradict each other, or a file cannot be used.
        BmsError: The run could not start. After that, each server has its outcome instead.
    """
    if options.resume is not None and (options.ids or options.file or options.filters or options.save):
        raise UsageError("--resume: the file names the servers; leave out ids, --file, filters and --save")
    with resume_lock(options.resume) if options.resume is not None else nullcontext():
        return _act(action, options)


def _act(action: Action, options: PowerOptions) -> int:
    saved = _read_resumed(action, options)
    named = list(saved.unasked) if saved else read_ids(options.ids, options.file, filters=options.filters)
    _check_output_file("--report", options.report)
    if options.report is not None:
        # At the end of the run it would be too late for the page.
        require("jinja2")
    _check_output_file("--save", options.save)
    if options.save is not None and Path(options.save).exists():
        raise UsageError(f"--save {options.save}: the file exists; name a new one, or resume its run with --resume")
    settings = read_settings(options.cloud)
    if saved is not None and options.resume is not None:
        saved.check_cloud(options.resume, settings.endpoint)

    async def main(stop: SignalHandler) -> int:
        async with open_client(settings) as cloud:
            with Screen(quiet=options.quiet) as screen:
                return await _PowerCommand(action, options, cloud, stop, saved).run(named, screen)

    return run_interruptibly(main)


class _PowerCommand:
    """One action on some servers."""

    def __init__(
        self, action: Action, options: PowerOptions, cloud: OpenClient, stop: SignalHandler, saved: SavedRun | None
    ) -> None:
        self._action: Action = action
        self._options = options
        self._cloud = cloud
        self._stop = stop
        self._saved = saved
        self._adopted: set[str] = set()

    async def run(self, named: list[str] | None, screen: Screen) -> int:
        options, cloud = self._options, self._cloud
        if named is None:
            try:
                ids = await list_ids(cloud.bms, options.filters, screen)
            finally:
                with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                    await screen.clear()
        else:
            ids = named
        if named:
            await self._check_credentials(named[0])
        if options.dry_run:
            self._print_plan(ids, await self._read_usage())
            return Code.OK
        await self._confirm(len(ids))
        journal = self._open_journal(ids)
        if self._saved is not None:
            await journal.resume()
        await self._note_usage()
        run = self._start_run(ids, journal)
        servers = len(self._adopted.union(map(canonical_id, ids)))
        follower = Follower(self._action, run, cloud.bms, screen, json=options.json, wave=self._wave, servers=servers)
        self._stop.on_first_signal = follower.interrupt
        code = await follower.follow()
        return await follower.conclude(
            journal, code, where=cloud.where, quiet=options.quiet, report=options.report, stop=self._stop
        )

    @property
    def _wave(self) -> int | None:
        head = self._saved.head if self._saved else None
        return self._options.wave or (head.wave if head else None)

    def _start_run(self, ids: list[str], journal: Journal) -> FleetRun:
        options, saved = self._options, self._saved
        head = saved.head if saved else None
        jobs = restore_jobs(self._cloud.bms, options.resume or "", saved) if saved else []
        abort_above = options.abort_above if options.abort_above is not None or head is None else head.abort_above
        self._adopted = {canonical_id(server) for job in jobs for server in job.servers}
        # A server that its job deferred, and that was asked for again without a response, is in doubt too.
        in_doubt = self._adopted.intersection(map(canonical_id, saved.in_doubt if saved else ()))
        run = self._cloud.bms.fleet._run(  # noqa: SLF001 - `send_guard` is not a public option
            _CALLS[self._action],
            ids,
            FleetOptions(
                wave_size=self._wave,
                abort_above=abort_above,
                verify=options.verify or (head is not None and head.verify),
                retry_transient=not (in_doubt and self._action == "reboot"),
                on_job=journal.add,
                jobs=jobs,
            ),
            # A server may as well be started or stopped twice.
            send_guard=partial(self._note_batch, journal) if self._action == "reboot" else None,
        )
        journal.on_unnoted = run.cancel
        return run

    @asynccontextmanager
    async def _note_batch(self, journal: Journal, servers: tuple[str, ...]) -> AsyncIterator[None]:
        """Note a batch just before it is sent: while it waits for its slot, up to a minute, it is not asked for."""
        limiter = self._cloud.bms.limits[f"servers.{self._action}"]
        while (statistics := limiter.statistics()).free == 0:  # noqa: ASYNC110 - the limiter wakes only its own waiters
            await anyio.sleep(min(statistics.next_slot or _SLOT_POLL, _SLOT_POLL))
        async with journal.asking(servers):
            yield

    def _open_journal(self, ids: list[str]) -> Journal:
        options, saved = self._options, self._saved
        if saved is not None and saved.head is not None and options.resume is not None:
            in_doubt = saved.in_doubt if self._action == "reboot" else ()
            return Journal(Path(options.resume), saved.head, size=saved.size, in_doubt=in_doubt)
        head = make_header(
            f"servers.{self._action}",
            endpoint=self._cloud.settings.endpoint,
            project_id=self._cloud.bms.project_id or "",
            ids=ids,
            wave=options.wave,
            abort_above=options.abort_above,
            verify=options.verify,
        )
        return Journal(None if options.save is None else Path(options.save), head)

    async def _check_credentials(self, server_id: str) -> None:
        """Check with a read, before anything is changed, that the cloud responds and accepts the credentials."""
        try:
            await self._cloud.bms.servers.get(server_id)
        except (InvalidRequestError, NotFoundError, PermissionDeniedError):
            # A response came, and credentials that may not read a server may still stop it.
            return

    async def _confirm(self, count: int) -> None:
        saved = self._saved
        killed = saved is not None and saved.left is None and self._action == "reboot"
        if killed and saved is not None:
            print_error(
                "the run was killed: servers that it was just asking for are left alone, so that none is rebooted twice"
                if saved.is_certain
                else "the run was killed: servers that it was just asking for may be rebooted twice"
            )
        if saved is not None and saved.in_doubt and self._action == "reboot":
            print_in_doubt(saved.in_doubt)
        if self._options.yes or (count <= 1 and not killed):
            return
        await confirm(f"{self._action} {pluralize(count, 'server')} of {self._cloud.where}?")

    async def _read_usage(self) -> LimitView:
        """Return what all processes use of the limit."""
        name = f"servers.{self._action}"
        view = await read_account_in(self._cloud.settings)
        unused = LimitView(self._cloud.bms.limits[name].limit or sys.maxsize, (), 0.0, ())
        found = view.limits.get(name, unused)
        return found._replace(blocked_for=max(found.blocked_for, view.closed_for))

    async def _note_usage(self) -> None:
        """Have the progress show what other processes use already, before the run has asked for anything."""
        limiter = self._cloud.bms.limits[f"servers.{self._action}"]
        if not isinstance(limiter, SharedLimiter):
            return
        # While the store does not answer, the run itself waits for it, and says so.
        with suppress(BmsError), anyio.move_on_after(_PATIENCE):
            limiter.note_others((await self._read_usage()).spent)

    def _print_plan(self, ids: list[str], usage: LimitView) -> None:
        options, limiter = self._options, self._cloud.bms.limits[f"servers.{self._action}"]
        batch = batch_size(self._wave or None)
        calls, used = -(-len(ids) // batch), len(usage.spent)
        least = time_of_last_call(calls, spent=usage.spent, capacity=usage.capacity, blocked=usage.blocked_for)
        if options.json:
            plan: dict[str, object] = {"type": "plan", "action": f"servers.{self._action}", "servers": len(ids)}
            plan |= {"calls": calls, "limit": limiter.limit, "used": used, "least_seconds": round(least, 1)}
            write(json_line(plan))
            return
        write(
            f"would {self._action} {pluralize(len(ids), 'server')} of {self._cloud.where}: "
            f"{pluralize(calls, 'call')} of {batch:,} servers at most\n"
            f"the limit is {limiter.limit} calls a minute, of which {used} are used now; the last call can be sent "
            f"after {duration(least)} at the earliest, and then the servers take their time\n"
            "nothing was changed\n"
        )


def _read_resumed(action: Action, options: PowerOptions) -> SavedRun | None:
    if options.resume is None:
        return None
    saved = read_saved(options.resume)
    if saved.head is None:
        raise UsageError(f"{options.resume} has jobs and no run: `bms jobs watch --from {options.resume}` watches them")
    began = saved.head.action.removeprefix("servers.")
    if began != action:
        raise UsageError(f"{options.resume} is a saved {began}: resume it with `bms {began} --resume {options.resume}`")
    return saved


def _check_output_file(option: str, path: str | None) -> None:
    """Refuse an output file that cannot be written, before anything is changed."""
    if path is None:
        return
    if not Path(path).absolute().parent.is_dir():
        raise UsageError(f"{option} {path}: its folder does not exist; create it, or name another file")
    if not path or (Path(path).exists() and not Path(path).is_file()):
        raise UsageError(f"{option} {path!r}: not a regular file; name another one")


def read_share(text: str) -> float:
    """Return the share that was typed, as ``0.02`` or ``2%``.

    Raises:
        UsageError: It is not a share.
    """
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"--abort-above {text}: expected a share from 0 to 1, such as 0.02 or 2%")
    return share
