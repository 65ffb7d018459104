"""The loops of a reconciler, and what wakes which."""

from __future__ import annotations

import logging
from collections.abc import Callable
from contextlib import aclosing
from random import Random
from typing import TYPE_CHECKING

import anyio
import anyio.lowlevel

from bms_async.errors import LeadershipLostError
from bms_async.jobs import Watcher
from bms_async.models import ServerStatus

from .books import Books
from .changes import ChangeHub
from .doing import Doing
from .hearing import Hearing
from .inbox import Inbox
from .ledger import AT_ONCE
from .looking import Looking
from .looks import Looks
from .options import ReconcilerOptions
from .ports import Actor, DesiredPage, DesiredRow, Memory, ReconcileAction
from .statistics import ReconcilerStatistics
from .telling import DayTime, Teller

if TYPE_CHECKING:
    from bms_async.hooks import Hooks

    from .hook_events import ReconcilerHookEvents

_log = logging.getLogger("bms_async.reconcile")

_SAVE_EVERY = 1.0
"""Seconds in which failed attempts gather that are written down for the next leader."""


class Engine:
    """Keeps servers as they are desired, as long as it runs.

    Args:
        options: The options.
        looks: Reads states.
        actor: Acts.
        memory: Remembers.
        watcher: The client's.
        random: The source of jitter.
        day_time: The time of day.
        wait_for_call: Returns the seconds that a call for an action would wait for its slot.
        hooks: The client's hooks; None without any.

    Attributes:
        books: What is known.
        hub: Hands changes to subscribers.
        inbox: Takes wishes.
        is_leading: Whether this replica acts.
    """

    def __init__(
        self,
        options: ReconcilerOptions,
        *,
        looks: Looks,
        actor: Actor,
        memory: Memory,
        watcher: Watcher,
        random: Random,
        day_time: DayTime,
        wait_for_call: Callable[[ReconcileAction], float],
        hooks: Hooks | None,
    ) -> None:
        self._options = options
        self._memory = memory
        self._looks = looks
        self._day_time = day_time
        self.books = Books(options.backoff, resync=options.resync, on_change=self._on_change)
        teller = Teller(self.books, day_time)
        self.hub = ChangeHub(self.books, teller)
        self._events: ReconcilerHookEvents | None = None
        if hooks is not None:
            from .hook_events import ReconcilerHookEvents  # noqa: PLC0415 - most clients have no hooks

            self._events = ReconcilerHookEvents(hooks, options.name, self.books, teller)
        self.inbox = Inbox(self.books, memory, check=options.check, on_change=self.wake, on_force=self.hub.wake)
        self.looking = Looking(
            self.books,
            looks,
            resync=options.resync,
            random=random.random,
            is_wanted=lambda: self.is_leading or self.hub.has_audience,
            wait_until_idle=self._wait_until_idle,
            on_look=None if self._events is None else self._events.on_resync,
            on_change=self.wake,
        )
        self._doing = Doing(
            self.books,
            actor,
            wave_size=options.wave_size,
            one_at_a_time=options.rollout is not None,
            random=random.random,
            may_begin=lambda: not self.looking.is_absorbing,
            wait_for_call=wait_for_call,
            on_change=self.wake,
        )
        self._hearing = Hearing(self.books, watcher, on_change=self.looking.wake, on_gap=self.looking.look_at_all)
        self._unsaved: dict[str, None] = {}
        self._troubled: set[str] = set()
        self._changed = anyio.Event()
        self.is_leading = False

    async def run(self) -> None:
        """Keep servers as they are desired, until this is cancelled.

        Raises:
            ClientClosedError: The client was closed.
        """
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._read_memory)
            tasks.start_soon(self.inbox.admit)
            await self.inbox.loaded.wait()
            tasks.start_soon(self.looking.run)
            tasks.start_soon(self._hearing.run)
            if self._memory.is_durable:
                tasks.start_soon(self._save_attempts)
            await self._lead()

    def wake(self) -> None:
        """See whether anything is to be looked at, or acted on, and wake who waits for a change."""
        self.looking.wake()
        self._doing.wake()
        self.hub.notify()

    async def _wait_until_idle(self) -> None:
        while not self.inbox.is_idle:
            await self.hub.wait()

    def statistics(self) -> ReconcilerStatistics:
        """Return what is counted."""
        books, looking, doing = self.books, self.looking, self._doing
        return ReconcilerStatistics(
            desired=books.total,
            synced=books.synced,
            progressing=books.progressing,
            degraded=books.degraded,
            waiting=sum(map(len, books.ready.values())),
            under_way=len(books.under_way),
            runs=doing.runs,
            asked=doing.asked,
            succeeded=doing.succeeded,
            failed=doing.failed,
            readings=looking.full,
            targeted_readings=looking.targeted,
            failed_readings=looking.failed,
            reading_calls=self._looks.calls,
        )

    async def _lead(self) -> None:
        """Act whenever this replica leads."""
        while True:
            try:
                async with self._memory.lead():
                    self.is_leading = True
                    self.looking.look_at_all()
                    await self._doing.run()
            except LeadershipLostError:
                _log.warning("%s: this replica leads no more, and waits for its turn again", self._options.name)
            finally:
                self.is_leading = False

    async def _read_memory(self) -> None:
        """Bring into force what is desired, by this replica or another."""
        async with aclosing(self._memory.changes()) as pages:
            async for page in pages:
                self._apply(page)
                self.inbox.on_page(page.revision)
                if not page.rows:
                    self.inbox.loaded.set()
                self.wake()
                await anyio.lowlevel.checkpoint()

    def _apply(self, page: DesiredPage) -> None:
        now = anyio.current_time()
        for row in page.rows:
            if row.status is None:
                self.books.forget(row.server_id)
                continue
            self.books.want(row.server_id, ServerStatus(row.status), now)
            if self.is_leading:
                # It knows better.
                continue
            if row.attempts:
                retry_at = now if row.retry_at is None else self._day_time.moment(row.retry_at)
                self._troubled.add(row.server_id)
                self.books.remember(row.server_id, row.retry_reason or "", row.attempts, retry_at, now)
            elif row.server_id in self._troubled:
                self._troubled.discard(row.server_id)
                self.books.absolve(row.server_id, now)

    def _on_change(self, name: str) -> None:
        if self._memory.is_durable:
            self._note_attempts(name)
        self.hub.publish(name)
        if self._events is not None:
            self._events.on_change(name)

    def _note_attempts(self, server_id: str) -> None:
        """Note whether a server's failed attempts are other than what the memory has of them."""
        trouble = self.books.troubles.get(server_id)
        has_failed = trouble is not None and trouble.attempts > 0
        if not self.is_leading or not (has_failed or server_id in self._troubled):
            return
        if has_failed:
            self._troubled.add(server_id)
        else:
            self._troubled.discard(server_id)
        self._unsaved[server_id] = None
        self._changed.set()

    async def _save_attempts(self) -> None:
        while True:
            await self._changed.wait()
            await anyio.sleep(_SAVE_EVERY)
            self._changed = anyio.Event()
            unsaved, self._unsaved = iter(self._unsaved), {}
            rows: list[DesiredRow] = []
            for server_id in unsaved:
                rows.extend(self._row_of(server_id))
                if len(rows) == AT_ONCE:
                    await self._memory.save_attempts(rows)
                    rows = []
            if rows:
                await self._memory.save_attempts(rows)

    def _row_of(self, server_id: str) -> list[DesiredRow]:
        entry, trouble = self.books.entries.get(server_id), self.books.troubles.get(server_id)
        if entry is None:
            return []
        if trouble is None or not trouble.attempts:
            return [DesiredRow(server_id=server_id, status=entry.desired)]
        return [
            DesiredRow(
                server_id=server_id,
                status=entry.desired,
                attempts=trouble.attempts,
                retry_at=self._day_time.seconds(trouble.retry_at),
                retry_reason=str(trouble.reason),
            )
        ]
