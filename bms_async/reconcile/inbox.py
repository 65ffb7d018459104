"""The wishes of a program: taken at once, admitted a few at a time.

What is guaranteed: to wish holds the event loop no longer than copying a list takes (R9). Wishes come into force in the
order in which they came. What is no id harms nothing but itself.

How: a wish keeps a copy of the caller's servers. One task reads the copies, checks the ids and hands rows to the
memory, some hundred at a time; what the memory hands back is in force.

Rejected: to admit small wishes at once. The order would be lost behind a large one, and a journal cannot be written
without waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from itertools import islice
from typing import cast

import anyio
import anyio.lowlevel
import msgspec

from bms_async._foreign import call_foreign_now
from bms_async.errors import InvalidRequestError
from bms_async.errors.base import show_value
from bms_async.fleet.plan import ANY_NUMBER, Intake
from bms_async.fleet.tracker import SERVER_TYPES
from bms_async.models import BriefServer, CreatedServer, Server, ServerStatus
from bms_async.models.ids import canonical_id

from .books import Books
from .ledger import ACTIONS, AT_ONCE
from .ports import DesiredRow, Memory

_log = logging.getLogger("bms_async.reconcile")

_MAX_COPIED = 200_000
"""How many servers of a container are copied: that takes some milliseconds."""

_WHAT = "the servers of a wish"

_COPIED = (list, set, frozenset, dict, deque)


class _Wish(msgspec.Struct, frozen=True, kw_only=True):
    """Something that was wished.

    Attributes:
        servers: The servers, or a mapping of them to statuses.
        status: What they are to be; None to forget them, or where `servers` says it.
        replaces: Whether all others are to be forgotten.
        looks: Whether they are only to be looked at.
    """

    servers: Collection[object]
    status: ServerStatus | None = None
    replaces: bool = False
    looks: bool = False


class Inbox:
    """Takes wishes.

    Args:
        books: What is known.
        memory: Where wishes are written.
        check: Whether ids are checked against the reference.
        on_change: Called when wishes were admitted.
        on_force: Called with the number of each wish that is in force.

    Attributes:
        loaded: Set once the memory has been read.
    """

    def __init__(
        self,
        books: Books,
        memory: Memory,
        *,
        check: bool,
        on_change: Callable[[], None],
        on_force: Callable[[int], None],
    ) -> None:
        self._books = books
        self._memory = memory
        self._check = check
        self._on_change = on_change
        self._on_force = on_force
        self._wishes: deque[_Wish] = deque()
        self._came = asyncio.Event()
        self._taken = self._admitted = self._in_force = 0
        self._saved = self._applied = 0
        self._written: deque[tuple[int, int]] = deque()
        self.loaded = asyncio.Event()

    @property
    def taken(self) -> int:
        """How many wishes came so far."""
        return self._taken

    @property
    def is_idle(self) -> bool:
        """Whether all wishes are in force."""
        return self.holds(self._taken)

    def holds(self, taken: int) -> bool:
        """Return whether the first wishes are in force, so many as `taken`."""
        return self._in_force >= taken

    def want(self, status: object, servers: object) -> None:
        """Take the wish that servers have a status."""
        self._put(_Wish(servers=copy_servers(servers), status=read_status("status", status)))

    def forget(self, servers: object) -> None:
        """Take the wish that nothing is desired of servers."""
        self._put(_Wish(servers=copy_servers(servers)))

    def replace(self, desired: object) -> None:
        """Take the wish that servers have statuses, and nothing is desired of others."""
        if not isinstance(desired, Mapping):
            raise InvalidRequestError("desired", desired, "expected a mapping of ids to statuses")
        copied: dict[object, object] = call_foreign_now("the desired statuses", dict, desired)
        # Most of a large mapping are the same two statuses.
        for status in _different(copied.values()):
            try:
                read_status("desired", status)
            except InvalidRequestError as error:
                server = next(server for server, each in copied.items() if each is status)
                raise InvalidRequestError("desired", status, f"{error.rule} of {show_value(server)}") from None
        self._put(_Wish(servers=copied, replaces=True))

    def refresh(self, servers: object) -> None:
        """Take the wish that servers are looked at."""
        self._put(_Wish(servers=copy_servers(servers), looks=True))

    async def admit(self) -> None:
        """Admit wishes as they come."""
        # What is forgotten by a replacement has to be known.
        await self.loaded.wait()
        while True:
            while not self._wishes:
                self._came.clear()
                await self._came.wait()
            wish = self._wishes.popleft()
            if wish.looks:
                await self._look(wish)
            else:
                await self._write(wish)
            self._admitted += 1
            self._written.append((self._admitted, self._saved))
            self._bring_into_force()
            self._on_change()

    def on_page(self, revision: int) -> None:
        """Note what the memory has handed back."""
        self._applied = max(self._applied, revision)
        self._bring_into_force()

    def _bring_into_force(self) -> None:
        """Say of the wishes that were written and handed back that they are in force."""
        while self._written and self._written[0][1] <= self._applied:
            self._in_force, _ = self._written.popleft()
            self._on_force(self._in_force)

    def _put(self, wish: _Wish) -> None:
        self._wishes.append(wish)
        self._taken += 1
        self._came.set()

    async def _write(self, wish: _Wish) -> None:
        intake = Intake(size=ANY_NUMBER, check=self._check)
        refused: set[str] = set()
        for chunk in _chunks(wish):
            rows = []
            for value, status in chunk:
                name, error = _admit_one(intake, value)
                if error is not None:
                    refused.add(name)
                    self._refuse(name, status, error)
                elif name:
                    rows.append(DesiredRow(server_id=name, status=status))
            await self._save(rows)
        if wish.replaces:
            await self._forget_others(intake, refused)

    async def _forget_others(self, intake: Intake, refused: set[str]) -> None:
        for index, name in enumerate(tuple(self._books.refused), 1):
            if name not in refused:
                self._books.forget(name)
            if index % AT_ONCE == 0:
                await anyio.lowlevel.checkpoint()
        others: list[DesiredRow] = []
        for index, server_id in enumerate(self._books.ids, 1):
            if server_id not in intake.pending:
                others.append(DesiredRow(server_id=server_id, status=None))
            if index % AT_ONCE == 0:
                await self._save(others)
                others = []
        await self._save(others)

    async def _save(self, rows: list[DesiredRow]) -> None:
        if rows:
            self._saved = await self._memory.save(rows)
        await anyio.lowlevel.checkpoint()

    def _refuse(self, name: str, status: ServerStatus | None, error: InvalidRequestError) -> None:
        if status is None:
            self._books.forget(name)
        else:
            self._books.refuse(name, status, error, anyio.current_time())

    async def _look(self, wish: _Wish) -> None:
        intake = Intake(size=ANY_NUMBER, check=self._check)
        for chunk in _chunks(wish):
            for value, _ in chunk:
                name, error = _admit_one(intake, value)
                if name and error is None:
                    self._books.look(name)
            await anyio.lowlevel.checkpoint()


def read_status(argument: str, value: object) -> ServerStatus:
    """Return a status that servers can be brought to.

    Raises:
        InvalidRequestError: It is another one, or none.
    """
    status = ServerStatus(str.__str__(value)) if issubclass(type(value), str) else None
    if status not in ACTIONS:
        raise InvalidRequestError(argument, value, "expected ServerStatus.ACTIVE or ServerStatus.SHUTOFF")
    return status  # type: ignore[return-value]  # None is in no mapping of statuses


def read_server(server: object) -> str:
    """Return the name under which a server is known: its id in its canonical form, or any text as it is."""
    if isinstance(server, SERVER_TYPES):
        server = server.id
    return canonical_id(str.__str__(server)) if isinstance(server, str) else show_value(server)


def copy_servers(servers: object) -> Collection[object]:
    """Return a copy of servers, or themselves where they are too many to be copied at once.

    Raises:
        InvalidRequestError: They are no iterable of servers.
        Exception: Iterating over them raised it.
    """
    if isinstance(servers, (str, bytes, *SERVER_TYPES)):
        raise InvalidRequestError("servers", servers, "expected an iterable of servers, got one; put it in brackets")
    if not isinstance(servers, Iterable):
        raise InvalidRequestError("servers", servers, "expected an iterable of ids or servers")
    if type(servers) is tuple or (type(servers) in _COPIED and len(cast("Collection[object]", servers)) > _MAX_COPIED):
        return cast("Collection[object]", servers)
    return call_foreign_now(_WHAT, tuple, servers)


def _different(values: Collection[object]) -> Iterable[object]:
    try:
        return frozenset(values)
    except TypeError:
        # One of them cannot be hashed, and is no status.
        return values


def _chunks(wish: _Wish) -> Iterator[list[tuple[object, ServerStatus | None]]]:
    """Iterate over what was wished, some servers at a time."""
    servers = wish.servers
    pairs: Iterator[tuple[object, ServerStatus | None]]
    if isinstance(servers, Mapping):
        pairs = ((server, read_status("desired", status)) for server, status in servers.items())
    else:
        pairs = ((server, wish.status) for server in servers)
    while True:
        try:
            chunk = list(islice(pairs, AT_ONCE))
        except RuntimeError:
            # A set or dict that was too large to be copied.
            _log.exception("the servers of a wish changed while they were read; those that were left are ignored")
            return
        if not chunk:
            return
        yield chunk


def _admit_one(intake: Intake, value: object) -> tuple[str, InvalidRequestError | None]:
    """Return the id of a server, empty for one that came before; or the name of what is no id, with the error."""
    if issubclass(type(value), SERVER_TYPES):
        # By its type: an attribute of a foreign object may raise.
        value = cast("Server | BriefServer | CreatedServer", value).id
    refused = intake.admit(value)
    if refused is not None:
        return refused
    return next(iter(intake.pop_batch(1)), ""), None
