"""The servers that a watch follows."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Final, TypeAlias
from zlib import crc32

from bms_async.errors import BmsError
from bms_async.fleet.outcome import OutcomeState
from bms_async.models import ServerStatus

from .verdict import NativeState, Sight, is_busy

_SHARDS: Final = 128

OnEnd: TypeAlias = Callable[[OutcomeState, BmsError | None], None]


class Followed:
    """A server that is followed, and what was seen of it."""

    __slots__ = ("accepted_at", "action", "in_doubt", "looked_at", "on_end", "seen", "sent_at", "sign_at", "state")

    def __init__(
        self, action: str, on_end: OnEnd, *, sent_at: float, accepted_at: float, in_doubt: bool, seen: Sight
    ) -> None:
        self.action = action
        self.on_end = on_end
        self.in_doubt = in_doubt
        self.sent_at = sent_at
        self.accepted_at = accepted_at
        self.seen = seen
        self.state: tuple[ServerStatus | None, str | None, datetime | None] | None = None
        self.looked_at = self.sign_at = accepted_at

    @property
    def is_idle(self) -> bool:
        """Whether the last reading has shown that nothing is being done to it."""
        return self.state is not None and not is_busy(*self.state[:2])

    def last_state(self, server_id: str) -> NativeState | None:
        """Return what the last reading has shown; None if none has shown it.

        Args:
            server_id: Its id.
        """
        if self.state is None:
            return None
        status, task_state, updated = self.state
        return NativeState(id=server_id, status=status, task_state=task_state, updated=updated)


class FollowedServers:
    """The followed servers by id, in many small dicts: a large one that grows would hold the event loop (R9)."""

    __slots__ = ("_length", "shards")

    def __init__(self) -> None:
        self.shards: tuple[dict[str, Followed], ...] = tuple({} for _ in range(_SHARDS))
        self._length = 0

    def __len__(self) -> int:
        return self._length

    def __contains__(self, server_id: str) -> bool:
        return server_id in self._shard(server_id)

    def get(self, server_id: str) -> Followed | None:
        """Return a server; None if it is not followed."""
        return self._shard(server_id).get(server_id)

    def add(self, server_id: str, server: Followed) -> None:
        """Add a server."""
        self._shard(server_id)[server_id] = server
        self._length += 1

    def pop(self, server_id: str) -> Followed | None:
        """Remove a server and return it; None if it is not followed."""
        server = self._shard(server_id).pop(server_id, None)
        self._length -= server is not None
        return server

    def _shard(self, server_id: str) -> dict[str, Followed]:
        # Not by hash(), so that the order is the same in each process.
        return self.shards[crc32(server_id.encode()) % _SHARDS]
