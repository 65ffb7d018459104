"""Commands that make a call for each of any number of servers: chosen, confirmed, followed and reported as power runs.

Such a run is in this process alone: killed, it is begun again with the servers that are left, which ``--json`` names.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from itertools import islice
from typing import Final

from bms_async.cli.access.cloud import OpenClient, open_client
from bms_async.cli.access.settings import read_settings
from bms_async.cli.access.whoami import show_place
from bms_async.cli.following.bounds import Bounds
from bms_async.cli.following.chosen import look_at
from bms_async.cli.following.plan import print_plan
from bms_async.cli.report_page.live import LivePage, serve_page
from bms_async.cli.selection.choosing import Choice, Selection, choose_servers, leave_out
from bms_async.cli.selection.ids import Given, read_excluded, read_given, reads_input
from bms_async.cli.selection.rollouts import ListedServers
from bms_async.cli.selection.words import Word
from bms_async.cli.terminal.confirm import confirm, confirm_number
from bms_async.cli.terminal.exit import Code, print_error
from bms_async.cli.terminal.progress import Screen
from bms_async.cli.terminal.signals import SignalHandler, run_interruptibly
from bms_async.cli.terminal.texts import pluralize

from .common import CommonArguments, CommonOptions, check_common, read_common
from .in_memory import run_in_memory
from .task import Task

__all__ = ["carry_out", "make_options"]

_ASKED: Final = 3
"""Changes that a confirmation shows."""

_PLANNED: Final = 20
"""Changes that a plan shows."""


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


def carry_out(
    task: Task,
    ids: Sequence[str],
    options: CommonOptions,
    *,
    named: list[str] | None = None,
    is_found: bool = False,
) -> int:
    """Do something to each server, and return the exit code.

    Args:
        task: What is done.
        ids: Servers, or a ``-``.
        options: Which servers, and how.
        named: Ids and names of the servers, where a file of the task has them.
        is_found: Whether the task finds them by itself.

    Raises:
        UsageError: The options contradict each other, or a file cannot be used.
        BmsError: The run could not start. Else each server has its outcome.
    """
    given = None if named is None else Given(map(Word, named))
    if given is None and not is_found:
        given = read_given(ids, options.file, filters=options.filters)
    reads = not is_found and named is None and reads_input(ids, options.file, options.filters)
    excluded = read_excluded(options.excluded, reads_input=reads)
    settings = read_settings(options.cloud)

    async def main(stop: SignalHandler) -> int:
        async with AsyncExitStack() as stack:
            cloud = await stack.enter_async_context(open_client(settings, None))
            live = await stack.enter_async_context(serve_page(None if options.dry_run else options.serve))
            with Screen(quiet=options.quiet) as screen:
                command = _Command(task, options, cloud, stop, screen, live=live)
                return await command.run(given, excluded, is_found=is_found)

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

    async def run(self, given: Given | None, excluded: Given | None, *, is_found: bool) -> int:
        options, task = self._options, self._task
        choice = await self._choose(given, excluded, is_found=is_found)
        if choice.why_none:
            return await self._do_nothing(choice.why_none)
        choice = choice._replace(servers=await task.prepare(self._cloud, choice.servers))
        if not choice.ids:
            return await self._do_nothing(self._unchanged)
        bounds = Bounds(options.wave, options.abort_above, len(choice.ids))
        if options.dry_run:
            await self._print_plan(choice, bounds)
            return Code.OK
        await self._confirm(choice.ids, bounds)
        return await self._run(choice.servers, bounds)

    async def _choose(self, given: Given | None, excluded: Given | None, *, is_found: bool) -> Choice:
        task, options = self._task, self._options
        # A rollout that needs the servers would have to read them, too.
        whole = options.rollout is not None and options.rollout.needs_servers
        if is_found:
            servers = await task.find(self._cloud, whole=whole)
            return Choice(servers if excluded is None else await leave_out(self._cloud, servers, excluded))
        selection = Selection(given=given, filters=options.filters, excluded=excluded, whole=whole, native=task.native)
        return await choose_servers(self._cloud, selection, self._screen)

    async def _do_nothing(self, why: str) -> int:
        options, none = self._options, Bounds(None, None, 0)
        print_error(f"nothing to do: {why}")
        if options.dry_run and not options.output.is_default:
            await self._print_plan(Choice([]), none)
        elif (options.output.json or options.report is not None) and not options.dry_run:
            await self._run([], none)
        return Code.USAGE if options.fail_if_none else Code.OK

    async def _run(self, servers: list[str] | ListedServers, bounds: Bounds) -> int:
        code = await run_in_memory(
            self._task,
            servers,
            bounds,
            self._options,
            self._cloud,
            stop=self._stop,
            screen=self._screen,
            live=self._live,
        )
        if self._task.unchanged and not self._options.quiet:
            print_error(self._unchanged)
        return code

    @property
    def _unchanged(self) -> str:
        count = self._task.unchanged
        return f"{pluralize(count, 'server')} {'was' if count == 1 else 'were'} as asked before"

    async def _print_plan(self, choice: Choice, bounds: Bounds) -> None:
        task, ids = self._task, choice.ids
        lines = list(islice(task.changes(ids, self._cloud.known), _PLANNED + 1))
        if len(lines) > _PLANNED:
            lines[_PLANNED:] = ["..."]
        if task.how:
            lines.insert(0, f"each of them {task.how}")
        if bounds.text is not None:
            lines.append(bounds.text)
        if self._options.rollout is not None:
            lines.append("the canaries, groups, checks and windows of the rollout are not in these times")
        await print_plan(
            task.phrase,
            self._cloud,
            len(ids),
            wave=bounds.size,
            batch=1,
            output=self._options.output,
            operation=task.operation,
            calls=task.calls(ids),
            note="".join(f"{line}\n" for line in lines),
            chosen=await look_at(self._cloud, task.verb, ids, choice.missing),
            # Nobody knows how long such a call takes.
            server_takes=0.0,
        )

    async def _confirm(self, ids: Sequence[str], bounds: Bounds) -> None:
        task, place = self._task, await show_place(self._cloud, quiet=self._options.quiet)
        if bounds.text is not None and not self._options.quiet:
            print_error(bounds.text)
        if self._options.yes or (len(ids) == 1 and not task.loses_data and not task.asks_always):
            return
        question = f"{task.phrase} {pluralize(len(ids), 'server')} of {place.brief}"
        if task.how:
            question += f" {task.how}"
        if changes := list(islice(task.changes(ids, self._cloud.known), _ASKED + 1)):
            question += f" ({', '.join(changes[:_ASKED])}{', ...' if len(changes) > _ASKED else ''})"
        if task.loses_data:
            await confirm_number(f"{question}? What is on their system disks is lost.", len(ids))
        else:
            await confirm(f"{question}?")
