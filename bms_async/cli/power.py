"""``bms start``, ``bms stop`` and ``bms reboot``.

What more than one server, or a key, is given to is a run in the journal: it is written down before the first call, and
whichever process dies, `--resume` goes on with it exactly. One server alone is asked for without the journal.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import AsyncExitStack, nullcontext
from pathlib import Path
from typing import Literal, TypeAlias

import anyio
import msgspec

from bms_async import DurableOptions, DurableRun, JobHandle
from bms_async._extras import require
from bms_async.fleet import batch_size
from bms_async.models.ids import canonical_id

from .cloud import OpenClient, open_client, read_settings
from .confirm import confirm
from .durable import (
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
from .exit import Code, UsageError, print_error
from .follow import Follower, print_in_doubt
from .followed import MemoryRun
from .ids import Filters, list_ids, read_ids
from .journal import NOTHING_SENT, open_journal
from .plan import note_usage, print_plan
from .progress import Screen
from .saved import SavedRun, is_file, key_of_file, read_resumed, resume_lock
from .signals import SignalHandler, run_interruptibly
from .texts import pluralize, strip_control_chars

__all__ = ["Action", "PowerOptions", "act", "read_share"]

Action: TypeAlias = Literal["start", "stop", "reboot"]


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
        key: The name of the run.
        detach: Whether the run is only written down.
        resume: The key of the run to resume, or a file that an earlier version saved.
        journal: The address of the journal.
        no_journal: Whether the run is in memory alone.
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
    key: str | None = None
    detach: bool = False
    resume: str | None = None
    journal: str | None = None
    no_journal: bool = False
    report: str | None = None


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
    _check(options, file)
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
                with Screen(quiet=options.quiet) as screen:
                    return await _PowerCommand(action, options, cloud, stop, screen, saved=saved).run(named)

        return run_interruptibly(main)


def _check(options: PowerOptions, file: str | None) -> None:
    if options.resume is not None and (options.ids or options.file or options.filters or options.key or options.detach):
        raise UsageError("--resume: the run has its servers; leave out ids, --file, filters, --key and --detach")
    if (
        options.resume is not None
        and file is None
        and (options.wave is not None or options.abort_above is not None or options.verify)
    ):
        raise UsageError(
            "--resume: the run keeps its --wave, --abort-above and --verify; leave them out, or end it by"
            " `bms runs cancel` and begin another by `bms runs retry`"
        )
    if options.no_journal and (options.resume or options.key or options.detach or options.journal):
        raise UsageError(
            "--no-journal: a run without one has no key; leave out --key, --detach, --resume and --journal"
        )
    if options.detach and options.report:
        raise UsageError("--detach: the command ends before the run; leave out --report, and give it to bms runs watch")
    _check_output_file("--report", options.report)
    if options.report is not None:
        # At the end of the run it would be too late for the page.
        require("jinja2")


def _needs_journal(options: PowerOptions, named: list[str] | None) -> bool:
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
    ) -> None:
        self._action: Action = action
        self._options = options
        self._cloud = cloud
        self._stop = stop
        self._screen = screen
        self._saved = saved

    async def run(self, named: list[str] | None) -> int:
        options, saved = self._options, self._saved
        if options.resume is not None and saved is None:
            return await self._resume(options.resume)
        if saved is not None:
            _describe_saved(saved, self._action, options.resume or "")
            if not named:
                return Code.OK
        ids = await self._list() if named is None else named
        if named and not options.detach:
            await check_credentials(self._cloud.bms, named[0])
        wave = self._wave
        if options.dry_run:
            batch = kept_batch_size(wave) if len(ids) > 1 and not options.no_journal else batch_size(wave)
            await print_plan(self._action, self._cloud, len(ids), batch=batch, json=options.json)
            return Code.OK
        await self._confirm(len(ids), is_safe=saved is None or saved.left is not None or self._action != "reboot")
        if not _needs_journal(options, ids):
            return await self._run_in_memory(ids)
        return await self._run_in_journal(ids)

    async def _resume(self, key: str) -> int:
        options, bms = self._options, self._cloud.bms
        run = await find_resumable(bms, self._action, key)
        left = (run.progress.total or 0) - run.progress.done
        await check_credentials(bms)
        if options.dry_run:
            batch = kept_batch_size(run.wave_size)
            await print_plan(self._action, self._cloud, left, batch=batch, json=options.json)
            return Code.OK
        print_held(run)
        await self._confirm(left)
        return await self._carry_on(run)

    async def _run_in_journal(self, ids: list[str]) -> int:
        options, bms, key = self._options, self._cloud.bms, self._options.key
        known = None if key is None else await find_run(bms, key)
        head = self._saved.head if self._saved else None
        wanted: DurableOptions = {"wave_size": self._wave}
        wanted["abort_above"] = head.abort_above if options.abort_above is None and head else options.abort_above
        wanted["verify"] = options.verify or (head is not None and head.verify)
        # A run that is half begun may be in the journal, where workers find it; a signal pauses it once it is known.
        self._stop.on_first_signal = wait_for_the_run
        run = await begin_run(bms, self._action, ids, key=key, options=wanted)
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

    async def _run_in_memory(self, ids: list[str]) -> int:
        options, bms, jobs = self._options, self._cloud.bms, list[str]()

        def on_job(job: JobHandle) -> None:
            jobs.append(job.id)

        await note_usage(self._action, self._cloud)
        begin = {"start": bms.fleet.start, "stop": bms.fleet.stop, "reboot": bms.fleet.reboot}[self._action]
        wave = options.wave
        run = begin(ids, wave_size=wave, abort_above=options.abort_above, verify=options.verify, on_job=on_job)
        servers, batch = len(set(map(canonical_id, ids))), batch_size(wave)
        followed = MemoryRun(run, jobs)
        follower = Follower(
            self._action, followed, bms, self._screen, json=options.json, wave=wave, batch=batch, servers=servers
        )
        self._stop.on_first_signal = follower.interrupt
        code = await follower.follow()
        return await follower.conclude(
            code, where=self._cloud.where, quiet=options.quiet, report=options.report, stop=self._stop
        )

    async def _carry_on(self, run: DurableRun) -> int:
        options = self._options
        return await carry_on(
            run, self._cloud, self._stop, self._screen, json=options.json, quiet=options.quiet, report=options.report
        )

    @property
    def _wave(self) -> int | None:
        head = self._saved.head if self._saved else None
        return self._options.wave or (head.wave if head else None)

    async def _list(self) -> list[str]:
        try:
            return await list_ids(self._cloud.bms, self._options.filters, self._screen)
        finally:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await self._screen.clear()

    async def _confirm(self, count: int, *, is_safe: bool = True) -> None:
        if not self._options.yes and (count > 1 or not is_safe):
            await confirm(f"{self._action} {pluralize(count, 'server')} of {self._cloud.where}?")


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
