"""The state reader: the states of any number of servers."""

from __future__ import annotations

import msgspec

from bms_async.api.bms.servers import GET, LIST
from bms_async.limits import Lane
from bms_async.models.base import Model
from bms_async.session import Session
from bms_async.wire import Operation, RetryPolicy, read_fragment

from .evidence import ServerState
from .server_reader import ServerReader

_MAX_SHARED = 1000
"""How many different states are shared: a task may have any text."""


class _StateResponse(Model, frozen=True, kw_only=True):
    server: ServerState


_GET_STATE: Operation[_StateResponse] = msgspec.structs.replace(GET, result=_StateResponse)  # type: ignore[arg-type]  # same call


class StateReader(ServerReader[ServerState, ServerState]):
    """Reads the states of servers for one run: of each server only the fields that show its state."""

    def __init__(self, session: Session, lane: Lane) -> None:
        super().__init__(session, lane)
        self._shared: dict[tuple[object, ...], ServerState] = {}

    def decode(self, raw: msgspec.Raw) -> ServerState:
        """Return the state of a server of the list."""
        return read_fragment(LIST.name, raw, ServerState)

    async def fetch_one(self, server_id: str, retry: RetryPolicy | None) -> ServerState:
        """Return the state of one server."""
        response = await self.session.call(_GET_STATE, path={"server_id": server_id}, lane=self.lane, retry=retry)
        return response.server

    def keep(self, server: ServerState) -> ServerState:
        """Return an equal state without an id: most servers of a million are in one of a few states."""
        key = (server.status, server.task_state, server.locked)
        shared = self._shared.get(key)
        if shared is None:
            if len(self._shared) >= _MAX_SHARED:
                self._shared.clear()
            shared = self._shared[key] = msgspec.structs.replace(server, id="")
        return shared
