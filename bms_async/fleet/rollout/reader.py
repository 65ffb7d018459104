"""Reading the servers of a rollout that were given as ids."""

from __future__ import annotations

from collections.abc import Callable, Collection

import msgspec

from bms_async.api.bms.servers import GET, LIST
from bms_async.fleet.server_reader import ServerReader, free
from bms_async.limits import Lane
from bms_async.models import Server
from bms_async.session import Session
from bms_async.wire import RetryPolicy, read_fragment


class RolloutReader(ServerReader[Server, bool]):
    """Reads servers with all their fields, and keeps none: each goes to whoever asked for it."""

    def __init__(self, session: Session, lane: Lane) -> None:
        super().__init__(session, lane)
        self._note: Callable[[Server], None] = lambda _: None

    async def read_servers(self, ids: Collection[str], note: Callable[[Server], None]) -> None:
        """Read servers; those that the cloud does not show are left out.

        Args:
            ids: The servers.
            note: Called with each.

        Raises:
            CallError: They could not be read.
        """
        self._note = note
        found = await self.read(ids, exhaustive=True)
        if found is not None:
            await free(found)

    def decode(self, raw: msgspec.Raw) -> Server:
        """Return a server of the list."""
        return read_fragment(LIST.name, raw, Server)

    async def fetch_one(self, server_id: str, retry: RetryPolicy | None) -> Server:
        """Return one server."""
        response = await self.session.call(GET, path={"server_id": server_id}, lane=self.lane, retry=retry)
        return response.server

    def keep(self, server: Server) -> bool:
        """Hand a server on."""
        self._note(server)
        return True
