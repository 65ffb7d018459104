"""``bms start``, ``bms stop`` and ``bms reboot``."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, nullcontext
from functools import partial
from pathlib import Path
from typing import Literal, TypeAlias

import anyio
import msgspec

from bms_async import FleetRun, InvalidRequestError, NotFoundError, PermissionDeniedError
from bms_async.api.bms.power import REBOOT, START, STOP
from bms_async.fleet import batch_size
from bms_async.fleet.options import RunOptions
from bms_async.models.ids import canonical_id

from .cloud import Cloud, open_client, read_settings
from .confirm import confirm
from .estimate import time_of_last_call
from .exit import Code, UsageError, print_error
from .follow import Follower, print_in_doubt
from .ids import Filters, list_ids, read_ids
from .journal import Journal, make_header
from .output import duration, json_line, pluralize, write
from .progress import Screen
from .saved import SavedRun, read_saved, restore_jobs, resume_lock
from .signals import SignalHandler, run_interruptibly

__all__ = ["Action", "PowerOptions", "act", "read_share"]

Action: TypeAlias = Literal["start", "stop", "reboot"]

_GLANCE = 0.5
_CALLS = {"start": START, "stop": STOP, "reboot": REBOOT}


class PowerOptions(msgspec.Struct, frozen=True, kw_only=True):
    """What was typed.

    Attributes:
        ids: Servers, or a ``-``.
        file: A file of ids.
        filters: What the cloud is asked for, where no server is named.
        cloud: A cloud of ``clouds.yaml``.
        wave: How many servers may be under way at once.
        abort_above: The share of failures that ends the run.
        verify: Whether states are read back at the end.
        dry_run: Whether to tell what would be done, and do nothing.
        yes: Whether not to ask.
        json: Whether to write JSON.
        quiet: Whether to write nothing that is no error.
        save: Where jobs are saved.
        resume: Saved jobs of a run that is to go on.
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
    """Do it, and return the exit code.

    Args:
        action: What is done to the servers.
        options: To which, and how.

    Raises:
        UsageError: It makes no sense; the text says what to do.
        BmsError: It could not begin. Once it has, each server has its outcome instead.
    """
    if options.resume is not None and (options.ids or options.file or options.filters or options.save):
        raise UsageError("--resume: the file says which servers are meant; give no others, and no --save")
    with resume_lock(options.resume) if options.resume is not None else nullcontext():
        return _act(action, options)


def _act(action: Action, options: PowerOptions) -> int:
    saved = _read_resumed(action, options)
    named = list(saved.unasked) if saved else read_ids(options.ids, options.file, filters=options.filters)
    _check_place("--report", options.report)
    _check_place("--save", options.save)
    if options.save is not None and Path(options.save).exists():
        raise UsageError(f"--save {options.save}: it is there already; name a new file, or go on with it by --resume")
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
        self, action: Action, options: PowerOptions, cloud: Cloud, stop: SignalHandler, saved: SavedRun | None
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
            await self._try_credentials(named[0])
        if options.dry_run:
            self._tell_plan(ids)
            return Code.OK
        await self._ask(len(ids))
        journal = self._open_journal(ids)
        if self._saved is not None:
            await journal.resume()
        run = self._begin(ids, journal)
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

    def _begin(self, ids: list[str], journal: Journal) -> FleetRun:
        options, saved = self._options, self._saved
        head = saved.head if saved else None
        jobs = restore_jobs(self._cloud.bms, options.resume or "", saved) if saved else []
        abort_above = options.abort_above if options.abort_above is not None or head is None else head.abort_above
        self._adopted = {canonical_id(server) for job in jobs for server in job.servers}
        # One that was put off by its job, and asked for again without an answer, is left alone like all in doubt.
        in_doubt = self._adopted.intersection(map(canonical_id, saved.in_doubt if saved else ()))
        run = self._cloud.bms.fleet._run(  # noqa: SLF001 - what is noted before a batch is sent is no public option
            _CALLS[self._action],
            ids,
            RunOptions(
                wave_size=self._wave,
                abort_above=abort_above,
                verify=options.verify or (head is not None and head.verify),
                retry_transient=not (in_doubt and self._action == "reboot"),
                on_job=journal.add,
                # Who is started or stopped twice is as well off as once.
                asking=partial(self._noting, journal) if self._action == "reboot" else None,
                jobs=tuple(jobs),
            ),
        )
        journal.on_unnoted = run.cancel
        return run

    @asynccontextmanager
    async def _noting(self, journal: Journal, servers: tuple[str, ...]) -> AsyncIterator[None]:
        """Note a batch just before it is sent: one that waits for its slot, for a minute maybe, was not asked for."""
        limiter = self._cloud.bms.limits[f"servers.{self._action}"]
        while (statistics := limiter.statistics()).free == 0:  # noqa: ASYNC110 - the limiter wakes those in its line
            await anyio.sleep(min(statistics.next_slot or _GLANCE, _GLANCE))
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

    async def _try_credentials(self, server_id: str) -> None:
        """Find out before anything is asked for whether the cloud answers, and answers us."""
        try:
            await self._cloud.bms.servers.get(server_id)
        except (InvalidRequestError, NotFoundError, PermissionDeniedError):
            # An answer came, and who may not read a server may still stop it.
            return

    async def _ask(self, count: int) -> None:
        saved = self._saved
        killed = saved is not None and saved.left is None and self._action == "reboot"
        if killed and saved is not None:
            print_error(
                "the run was killed: so that none may be rebooted twice, those it was just asking for are left alone"
                if saved.is_certain
                else "the run was killed: servers that were being asked for just then may be rebooted twice"
            )
        if saved is not None and saved.in_doubt and self._action == "reboot":
            print_in_doubt(saved.in_doubt)
        if self._options.yes or (count <= 1 and not killed):
            return
        await confirm(f"{self._action} {pluralize(count, 'server')} of {self._cloud.where}?")

    def _tell_plan(self, ids: list[str]) -> None:
        options, limiter = self._options, self._cloud.bms.limits[f"servers.{self._action}"]
        batch = batch_size(self._wave or None)
        calls = -(-len(ids) // batch)
        least = time_of_last_call(calls, spent=limiter.snapshot(), capacity=limiter.limit)
        used = limiter.statistics().used
        if options.json:
            write(
                json_line(
                    {
                        "type": "plan",
                        "action": f"servers.{self._action}",
                        "servers": len(ids),
                        "calls": calls,
                        "limit": limiter.limit,
                        "used": used,
                        "least_seconds": round(least, 1),
                    }
                )
            )
            return
        write(
            f"would {self._action} {pluralize(len(ids), 'server')} of {self._cloud.where}: "
            f"{pluralize(calls, 'call')} of {batch:,} servers at most\n"
            f"the limit is {limiter.limit} calls a minute, of which {used} are used now; the last call can go after "
            f"{duration(least)} at the earliest, and then come the seconds that servers take\n"
            "nothing was changed\n"
        )


def _read_resumed(action: Action, options: PowerOptions) -> SavedRun | None:
    if options.resume is None:
        return None
    saved = read_saved(options.resume)
    if saved.head is None:
        raise UsageError(
            f"{options.resume} holds jobs and no run: `bms jobs watch --from {options.resume}` follows them"
        )
    began = saved.head.action.removeprefix("servers.")
    if began != action:
        raise UsageError(f"{options.resume} is of a {began}: `bms {began} --resume {options.resume}` goes on with it")
    return saved


def _check_place(option: str, path: str | None) -> None:
    """Refuse a file that cannot be written before anything is done, and not after."""
    if path is None:
        return
    if not Path(path).absolute().parent.is_dir():
        raise UsageError(f"{option} {path}: there is no such folder; make it, or name another file")
    if not path or (Path(path).exists() and not Path(path).is_file()):
        raise UsageError(f"{option} {path!r}: that is no ordinary file; name another one")


def read_share(text: str) -> float:
    """Return a share from how it was typed: ``0.02`` or ``2%``.

    Raises:
        UsageError: It is none.
    """
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = -1.0
    if not 0 <= share <= 1:
        raise UsageError(f"--abort-above {text}: a share from 0 to 1 is wanted, such as 0.02 or 2%")
    return share
