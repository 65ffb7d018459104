"""``bms worker``: carries out runs that were written down by others, until a signal ends it."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from functools import partial

import anyio

from bms_async import BmsClient, InvalidRequestError, JournalError
from bms_async.cli.access.cloud import open_client
from bms_async.cli.access.settings import read_settings
from bms_async.cli.following.journaled import describe_status
from bms_async.cli.terminal.exit import Code, UsageError, print_error
from bms_async.cli.terminal.logs import NOTES
from bms_async.cli.terminal.signals import SignalHandler, run_interruptibly
from bms_async.cli.terminal.texts import pluralize, strip_control_chars, verb_in
from bms_async.journal import KeptBatch
from bms_async.runs import BatchEvent

from .journal import open_journal

__all__ = ["work"]

_LOOK_EVERY = 1.0


def work(clouds: Sequence[str], *, journal: str | None) -> int:
    """Be a worker for some clouds until a signal comes; then hand back what is left, and return 0.

    Args:
        clouds: Clouds of ``clouds.yaml``; none for the one that the environment leads to.
        journal: The address of the journal.

    Raises:
        UsageError: Two clouds name two journals, or the journal cannot be used.
        ConfigurationError: The settings of a cloud are incomplete.
    """
    settings = [read_settings(name) for name in dict.fromkeys(clouds)] or [read_settings(None)]
    if journal is None and len({each.runs for each in settings}) > 1:
        raise UsageError("the clouds name several journals (bms_runs): name one for all by --journal")

    async def main(stop: SignalHandler) -> int:
        ending = anyio.Event()
        stop.on_first_signal = ending.set
        async with AsyncExitStack() as stack:
            runs = await stack.enter_async_context(open_journal(settings[0], journal))
            desks = []
            for each in settings:
                cloud = await stack.enter_async_context(open_client(each, runs))
                desks.append(_Desk(cloud.bms))
                print_error(f"works for {cloud.place.brief}, by the journal {runs.label}; Ctrl-C ends it")
            async with AsyncExitStack() as workers:
                for desk in desks:
                    worker = await workers.enter_async_context(desk.bms.runs.work())
                    worker.on_event = desk.note
                async with anyio.create_task_group() as tasks:
                    for desk in desks:
                        tasks.start_soon(desk.watch)
                    await ending.wait()
                    tasks.cancel_scope.cancel()
                print_error("hands back what it has, and ends")
            for desk in desks:
                await desk.look()
        # It was asked to end, and did.
        stop.number = 0
        return Code.OK

    return run_interruptibly(main)


class _Desk:
    """Says what a worker does.

    Args:
        bms: Its client.

    Attributes:
        bms: Its client.
    """

    def __init__(self, bms: BmsClient) -> None:
        self.bms = bms
        self._touched: set[str] = set()

    def note(self, event: BatchEvent, batch: KeptBatch) -> None:
        """Note what happened to a batch."""
        if event is BatchEvent.TAKEN_OVER:
            action = verb_in(batch.action)
            _say(
                f"{batch.key}: took over a batch to {action} {pluralize(batch.servers, 'server')}, {batch.state.value}"
            )
        self._touched.add(batch.key)

    async def watch(self) -> None:
        """Say which runs have ended, until it is cancelled."""
        while True:
            await self.look()
            await anyio.sleep(_LOOK_EVERY)

    async def look(self) -> None:
        """Say which runs have ended since the last look."""
        for key in tuple(self._touched):
            self._touched.discard(key)
            try:
                await self._look(key)
            except BaseException:
                # Ended in the middle of it, as by Ctrl-C: the last look has it once more.
                self._touched.add(key)
                raise

    async def _look(self, key: str) -> None:
        try:
            run = await self.bms.runs.get(key)
        except (JournalError, InvalidRequestError):
            # The worker itself says that the journal fails; and a run that was deleted is no news.
            return
        if run.ended is None:
            return
        states = ", ".join(f"{count:,} {state.lower()}" for state, count in run.progress.by_state.items() if count)
        servers = pluralize(run.progress.total or 0, "server")
        _say(f"{key}: {verb_in(run.action)} {servers}, {describe_status(run)}: {states}")


def _say(text: str) -> None:
    sink = NOTES.sink or partial(print_error, first="")
    sink(f"bms: {strip_control_chars(text)}")
