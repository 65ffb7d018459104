"""Desired power states that are kept: ``bms.reconciler()``.

What it guarantees: a server of which a status is desired is brought there and kept there, and no other server is
touched. It is asked only if a recent state shows it idle and otherwise, never while it is under way, and no more of
them at once than `wave_size`. What cannot be done is said of the server, and tried again after a growing time.

How: level by level, not event by event. Three loops share the books (`books`): wishes are admitted (`inbox`), states
are read (`looking`), and what differs is acted on (`doing`). Events of jobs only make this quicker (`hearing`). The
loops are a task of the client, so that closing it ends them.

Rejected: to remember what was asked and to trust it. A job that is lost, a colleague or a dead process would leave a
server as it is for ever.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Self

import anyio
import anyio.lowlevel

from bms_async._tasks import check_loop
from bms_async.errors import ClientClosedError, InvalidRequestError, NotSyncedError
from bms_async.validation.common import is_number

from .changes import ALL_SYNCED, PowerChanges
from .conditions import Condition, Degraded, Progressing
from .inbox import copy_servers, read_server
from .ledger import AT_ONCE
from .statistics import ReconcilerStatistics
from .telling import Conditions

if TYPE_CHECKING:
    from bms_async.fleet.source import ServerRef
    from bms_async.models import ServerStatus
    from bms_async.session import Session

    from .engine import Engine

_log = logging.getLogger("bms_async.reconcile")

_EXIT_TIMEOUT = 70.0
"""Seconds that leaving waits for the end, which comes at once as a rule: a run has 60 s to end."""


class Reconciler:
    """Brings servers to the power states that are desired of them, and keeps them there: ``bms.reconciler()``.

    ::

        async with bms.reconciler(resync=30.0) as power:
            power.want(ServerStatus.ACTIVE, ids)
            await power.synced(timeout=600)

    It lists the servers every `resync` seconds, compares, and has those that differ started or stopped, a wave at a
    time. It never reboots a server, and touches none of which nothing is desired. A server is left alone while anything
    is at work on it, and for as long as it is neither ``ACTIVE`` nor ``SHUTOFF``, or is not shown by the cloud.

    Wishes may come from any number of tasks, at any time. Leaving the block sends nothing more; jobs that the cloud has
    accepted go on there.
    """

    def __init__(self, session: Session, engine: Engine, *, name: str) -> None:
        self._session = session
        self._engine = engine
        self._name = name
        self._scope = anyio.CancelScope()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._ended = asyncio.Event()
        self._was_opened = False

    @property
    def name(self) -> str:
        """Its name, in hook events and metrics."""
        return self._name

    @property
    def is_leading(self) -> bool:
        """Whether this process acts; without a journal it does as long as the block lasts."""
        return self._engine.is_leading

    def want(self, status: ServerStatus | str, servers: Iterable[ServerRef]) -> None:
        """Desire a status of servers from now on; what was desired of them before counts no more.

        To desire it again changes nothing. A server that is under way to the other status goes there first. An entry
        that is no id is `Degraded`. A list of up to 200,000 is copied; a larger one must not change until it was read.

        Args:
            status: ``ACTIVE`` or ``SHUTOFF``.
            servers: The servers: their ids, or the servers themselves as a list returns them.

        Raises:
            InvalidRequestError: The status is another one, or `servers` is not an iterable.
            ClientClosedError: The reconciler is not open.
        """
        self._engine.hub.check()
        self._engine.inbox.want(status, servers)

    def forget(self, servers: Iterable[ServerRef]) -> None:
        """Desire nothing of servers any more: they stay as they are, once what is under way has ended.

        Args:
            servers: The servers.

        Raises:
            InvalidRequestError: `servers` is not an iterable.
            ClientClosedError: The reconciler is not open.
        """
        self._engine.hub.check()
        self._engine.inbox.forget(servers)

    def replace(self, desired: Mapping[str, ServerStatus | str]) -> None:
        """Desire exactly this: servers that are not in it are forgotten.

        Args:
            desired: The status of each server, by its id.

        Raises:
            InvalidRequestError: A status is neither ``ACTIVE`` nor ``SHUTOFF``, or `desired` is no mapping.
            ClientClosedError: The reconciler is not open.
        """
        self._engine.hub.check()
        self._engine.inbox.replace(desired)

    def refresh(self, servers: Iterable[ServerRef]) -> None:
        """Read the states of servers at once, as after something else has changed them; others are ignored.

        Args:
            servers: The servers.

        Raises:
            InvalidRequestError: `servers` is not an iterable.
            ClientClosedError: The reconciler is not open.
        """
        self._engine.hub.check()
        self._engine.inbox.refresh(servers)

    def changes(self) -> PowerChanges:
        """Return what changes, for ``async for``: first every server of which something is known, then what changes.

        A reader that is slow gets the latest condition of a server and not those in between. It ends when the block of
        the reconciler is left.

        Raises:
            ClientClosedError: The reconciler is not open.
        """
        self._engine.hub.check()
        changes = self._engine.hub.subscribe()
        # A replica that does not act reads states only for those who want to know.
        self._engine.wake()
        return changes

    def condition(self, server_id: str) -> Condition | None:
        """Return the condition of a server; None if nothing is desired of it, or the wish was not read yet.

        Args:
            server_id: The server.
        """
        return self._engine.hub.teller.condition(read_server(server_id))

    def conditions(self) -> Mapping[str, Condition]:
        """Return the conditions of all servers: a view that shows them as they are when it is read, without a copy."""
        return Conditions(self._engine.books, self._engine.hub.teller)

    def statistics(self) -> ReconcilerStatistics:
        """Return what there is to do, and what was done so far."""
        return self._engine.statistics()

    async def synced(self, servers: Iterable[ServerRef] | None = None, *, timeout: float | None = None) -> None:
        """Wait until servers are as desired; wishes that were made before count.

        Args:
            servers: The servers; None for all of which a status is desired.
            timeout: Seconds to wait; None for no bound.

        Raises:
            NotSyncedError: Some are not in time; it has the reasons. It is a `TimeoutError` too.
            InvalidRequestError: Nothing is desired of one of the servers, or an argument is invalid.
            ClientClosedError: The reconciler is not open, or it was left or the client closed meanwhile.
        """
        self._engine.hub.check()
        if timeout is not None and not (is_number(timeout) and timeout >= 0):
            raise InvalidRequestError("timeout", timeout, "expected a number of seconds, or None for no bound")
        copied = None if servers is None else copy_servers(servers)
        taken = self._engine.inbox.taken
        names = None if copied is None else await _read_servers(copied)
        with anyio.move_on_after(timeout), self._engine.hub.attend():
            self._engine.wake()
            await self._wait_for(taken, lambda: self._engine.inbox.holds(taken))
            if names is None:
                await self._wait_for(ALL_SYNCED, lambda: not self._engine.books.unsynced)
            else:
                await self._check_desired(names)
                await self._wait_for_each(names)
            return
        # Without a bound it has not come here.
        seconds = timeout or 0.0
        reasons: dict[str, str] = {}
        for index, name in enumerate(self.conditions() if names is None else names, 1):
            condition = self._engine.hub.teller.condition(name)
            if isinstance(condition, Progressing):
                reasons[name] = condition.why
            elif isinstance(condition, Degraded):
                reasons[name] = str(condition.reason)
            if index % AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()
        if not reasons and not self._engine.inbox.holds(taken):
            raise NotSyncedError(f"the wishes could not be written down within {seconds:g} s", reasons={})
        if reasons:
            total = len(self.conditions()) if names is None else len(names)
            raise NotSyncedError.of(reasons, total, seconds, trouble=self._engine.looking.trouble)

    async def __aenter__(self) -> Self:
        if self._was_opened:
            raise ClientClosedError("a reconciler is opened once; make a new one")
        self._session.check_open()
        self._was_opened = True
        self._loop = self._engine.hub.loop = asyncio.get_running_loop()
        self._session.start(self._run, name=f"bms_async reconciler {self._name}")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        check_loop(self._loop, "the reconciler")
        self._engine.hub.close(None)
        self._scope.cancel()
        with anyio.move_on_after(_EXIT_TIMEOUT, shield=True):
            await self._ended.wait()

    def __repr__(self) -> str:
        books = self._engine.books
        state = "new" if not self._was_opened else "closed" if self._engine.hub.is_closed else "open"
        role = ", leading" if self.is_leading else ""
        return f"<Reconciler {self._name} {state}{role}: {books.synced:,} of {books.total:,} servers synced>"

    async def _run(self) -> None:
        error: BaseException | None = ClientClosedError("the client was closed")
        try:
            with self._scope:
                await self._engine.run()
            error = None
        except Exception as raised:  # noqa: BLE001 - whoever waits gets it
            error = _unwrapped(raised)
            if not isinstance(error, ClientClosedError):
                _log.exception("the reconciler %s failed", self._name)
        finally:
            self._engine.hub.close(error)
            self._ended.set()

    async def _wait_for(self, key: str | int | None, is_so: Callable[[], bool]) -> None:
        while not is_so():
            self._engine.hub.check()
            await self._engine.hub.wait_for(key)

    async def _check_desired(self, names: list[str]) -> None:
        for index, name in enumerate(names, 1):
            if self._engine.hub.teller.condition(name) is None:
                raise InvalidRequestError("servers", name, "expected servers of which a status is desired; want() it")
            if index % AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()

    async def _wait_for_each(self, names: list[str]) -> None:
        """Wait until all servers are synced at the same time."""
        books = self._engine.books
        waited = True
        while waited:
            waited = False
            for index, name in enumerate(names, 1):
                while (books.entries.get(name) is not None and not books.is_synced(name)) or name in books.refused:
                    self._engine.hub.check()
                    await self._engine.hub.wait_for(name)
                    waited = True
                if index % AT_ONCE == 0:
                    await anyio.lowlevel.checkpoint()


async def _read_servers(servers: Collection[object]) -> list[str]:
    names: list[str] = []
    for index, server in enumerate(servers, 1):
        names.append(read_server(server))
        if index % AT_ONCE == 0:
            await anyio.lowlevel.checkpoint()
    return names


def _unwrapped(error: Exception) -> Exception:
    """Return the error without the groups that task groups have put around it."""
    while isinstance(error, ExceptionGroup):
        rest = error.split(ClientClosedError)[1]
        error = error.exceptions[0] if rest is None else rest.exceptions[0]
    return error
