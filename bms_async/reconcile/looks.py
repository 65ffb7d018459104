"""Reading the actual states of servers, all of them or some, without a word on what they mean."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet

import anyio
import msgspec

from bms_async.fleet.evidence import ServerState
from bms_async.fleet.state_reader import StateReader
from bms_async.limits import Lane
from bms_async.session import Session

_PROVABLE = 1000
"""How many servers that a list lacks are read one by one where its pages do not fit together."""


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """States of servers.

    Attributes:
        began_at: When the reading began, by the event loop's clock.
        states: The states, by server.
        is_complete: Whether the cloud does not show the servers that are not among them.
    """

    began_at: float
    states: Mapping[str, ServerState]
    is_complete: bool


class Looks:
    """Reads states, in the bulk lane.

    Args:
        session: The client's; it should wait for its slots.
    """

    def __init__(self, session: Session) -> None:
        self._reader = StateReader(session, Lane.BULK)

    @property
    def calls(self) -> int:
        """How many calls were made so far."""
        return self._reader.calls

    async def read_all(self, ids: AbstractSet[str]) -> Look:
        """Read the states of all servers, whatever it takes.

        Args:
            ids: The servers; may grow meanwhile.

        Raises:
            CallError: They could not be read.
        """
        began_at = anyio.current_time()
        states = await self._reader.read(ids, exhaustive=len(ids) <= _PROVABLE)
        is_complete = states is not None
        if states is None:
            states = await self._reader.read(ids, exhaustive=True) or {}
            is_complete = len(ids) - len(states) <= _PROVABLE
        return Look(began_at=began_at, states=states, is_complete=is_complete)

    async def read_some(self, ids: AbstractSet[str]) -> Look | None:
        """Read the states of some servers; None where all had better be read.

        Args:
            ids: The servers.

        Raises:
            CallError: They could not be read.
        """
        began_at = anyio.current_time()
        states = await self._reader.read(ids)
        return None if states is None else Look(began_at=began_at, states=states, is_complete=True)
