"""What a rollout knows of its servers: their group, their place in the order, and all of them for `ready`.

A server is kept as compressed JSON, and only where `ready` needs it (R10). Servers that the caller handed over as such
are not read again.
"""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Collection, Iterable, Iterator, Sequence

import anyio
import anyio.lowlevel
import msgspec

from bms_async._foreign import call_foreign_now
from bms_async._threads import run_in_thread
from bms_async.errors import FleetError
from bms_async.fleet.plan import Intake
from bms_async.fleet.server_reader import index_ids
from bms_async.fleet.sharded import Pieces, Table
from bms_async.fleet.tracker import YIELD_EVERY
from bms_async.fleet.walk import ServerSource
from bms_async.models import Server
from bms_async.models.ids import canonical_id

from .groups import group_of
from .rollout import Rollout

_LEVEL = 1


class KnownServers:
    """The servers of a run that were seen.

    Args:
        rollout: Says what has to be known of them.

    Attributes:
        error: What `group_by` or `order_by` raised first; None as long as neither has.
    """

    def __init__(self, rollout: Rollout) -> None:
        self._rollout = rollout
        self._groups: Table[str] = Table()
        self._names: dict[str, str] = {}
        self._kept: Table[bytes | None] = Table()
        self._keys: Table[object] = Table()
        self.error: Exception | None = None

    def note(self, server: Server) -> None:
        """Note a server."""
        rollout, server_id = self._rollout, canonical_id(server.id)
        if self.error is not None or not rollout.needs_servers:
            return
        try:
            group = "" if rollout.group_by is None else group_of(server, rollout.group_by)
            if rollout.order_by is not None:
                self._keys[server_id] = call_foreign_now("order_by", rollout.order_by, server)
        except Exception as error:  # noqa: BLE001 - the caller's own fault, raised before anything is sent
            self.error = error
            return
        self._groups[server_id] = self._names.setdefault(group, group)
        if rollout.ready is not None:
            self._kept[server_id] = _pack(server)

    def group(self, server_id: str) -> str | None:
        """Return the group of a server; None if it was never seen."""
        return self._groups.get(server_id) if self._rollout.needs_servers else ""

    async def get(self, server_id: str) -> Server:
        """Return a server as it was seen.

        Raises:
            KeyError: It was not, or is forgotten.
        """
        kept = self._kept.get(server_id)
        if kept is None:
            raise KeyError(server_id)
        return _unpack(kept)

    def forget(self, server_id: str) -> None:
        """Forget all of a server but its group."""
        if self._kept.get(server_id) is not None:
            self._kept[server_id] = None

    def dismantling(self) -> Iterator[None]:
        """Forget all servers, in steps of some milliseconds."""
        for table in (self._groups, self._kept, self._keys):
            yield from table.dismantle()

    def check(self) -> None:
        """Check that no function of the rollout has raised.

        Raises:
            Exception: One has.
        """
        if self.error is not None:
            raise self.error

    async def read_missing(self, ids: Iterable[str], source: ServerSource) -> None:
        """Read the servers that were not seen.

        Args:
            ids: All servers of the run.
            source: Reads some.

        Raises:
            CallError: They could not be read.
        """
        if not self._rollout.needs_servers:
            return
        missing: Pieces[str] = Pieces()
        for index, server_id in enumerate(ids, 1):
            if server_id not in self._groups:
                missing.append(server_id)
            if index % YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()
        if missing:
            wanted: Collection[str] = await index_ids(missing)
            await source.read_servers(wanted, self.note)

    async def in_order(self, ids: Iterable[str]) -> Iterable[str]:
        """Return servers in the order in which they are to go."""
        keys, self._keys = self._keys, Table()
        if self._rollout.order_by is None:
            return ids
        # In a thread: a million keys hold the loop for a second, and what compares them is foreign.
        ordered = await run_in_thread(_sort, ids, keys)
        for _ in keys.dismantle():
            await anyio.lowlevel.checkpoint()
        return ordered

    async def placed(self, ids: Iterable[str], source: ServerSource) -> AsyncIterator[tuple[str, str | None]]:
        """Iterate over servers in the order in which they are to go, each with its group.

        Args:
            ids: All servers of the run.
            source: Reads those that were not seen.

        Yields:
            A server, and its group; None for one that the cloud does not show.

        Raises:
            CallError: They could not be read.
            Exception: A function of the rollout raised it.
        """
        await self.read_missing(ids, source)
        self.check()
        for index, server_id in enumerate(await self.in_order(ids), 1):
            yield server_id, self.group(server_id)
            if index % YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()


async def pop_all(intake: Intake) -> Pieces[str]:
    """Remove all ids from an intake and return them, in their order."""
    ids: Pieces[str] = Pieces()
    while chunk := intake.pop_batch(YIELD_EVERY):
        for server_id in chunk:
            ids.append(server_id)
        await anyio.lowlevel.checkpoint()
    return ids


def unknown_group(action: str, server_id: str) -> FleetError:
    """Return the error of a server that the cloud does not show, so that it cannot be planned.

    Args:
        action: Such as ``servers.reboot``.
        server_id: The server.
    """
    text = f"{action}: server {server_id} was not sent: the cloud does not show it, so that its group is not known"
    return FleetError(text, code=None, server_ids=(server_id,))


class ReadServers:
    """Servers that are read when the first of them is asked for.

    Args:
        source: Reads some.
        ids: All that may be asked for.
    """

    def __init__(self, source: ServerSource, ids: Sequence[str]) -> None:
        self._source = source
        self._ids = ids
        self._kept: dict[str, bytes] = {}
        self._reading = anyio.Lock()

    async def get(self, server_id: str) -> Server:
        """Return a server; it may have been read for others.

        Raises:
            CallError: It could not be read.
            FleetError: The cloud does not show it.
        """
        async with self._reading:
            if server_id not in self._kept:
                missing = [other for other in self._ids if other not in self._kept]
                await self._source.read_servers(missing, self._note)
        kept = self._kept.get(server_id)
        if kept is None:
            text = f"server {server_id}: expected the cloud to show it, but it does not"
            raise FleetError(text, code=None, server_ids=(server_id,))
        return _unpack(kept)

    def forget(self, server_id: str) -> None:
        """Forget a server."""
        self._kept.pop(server_id, None)

    def _note(self, server: Server) -> None:
        self._kept[canonical_id(server.id)] = _pack(server)


def _pack(server: Server) -> bytes:
    return zlib.compress(msgspec.json.encode(server), _LEVEL)


def _unpack(kept: bytes) -> Server:
    return msgspec.json.decode(zlib.decompress(kept), type=Server)


def _sort(ids: Iterable[str], keys: Table[object]) -> list[str]:
    # Servers that were not seen go last: they are not sent.
    known = [server_id for server_id in ids if server_id in keys]
    known = call_foreign_now("order_by", lambda: sorted(known, key=keys.get))  # type: ignore[arg-type]  # may raise
    return known + [server_id for server_id in ids if server_id not in keys]
