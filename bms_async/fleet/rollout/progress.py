"""What a planner tells of how far its rollout is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from itertools import islice
from typing import Final

from bms_async.fleet.sharded import Pieces, Table

from .books import Books
from .chains import Chains
from .room import Group, Settling
from .standing import GroupStanding, RolloutPhase, RolloutStanding, WaitReason, group_standing

MAX_NAMED: Final = 20
"""How many servers and groups a standing names."""


class RolloutProgress(ABC):
    """The counts of a rollout, and the questions that may be asked of it.

    Attributes:
        canary_failure: The first canary that ended not well: nothing is taken from then on. None as long as all are.
        phase: Whether canaries may go, or the rest.
        waiting: How many servers have not been taken, those of blocked groups included.
        under_way: How many are taken and have not ended.
        unavailable: How many are unavailable: under way, settling, or for good.
        lost: How many are unavailable for good.
    """

    def __init__(self, books: Books, settling: Settling, phase: RolloutPhase) -> None:
        self._books = books
        self._chains = Chains()
        self._settling = settling
        self._sealed = False
        self._lost: Table[Group] = Table()
        self._lost_ids: Pieces[str] = Pieces()
        self.phase = phase
        self.canary_failure: str | None = None
        self.waiting = self.under_way = self.unavailable = self.lost = 0

    @property
    def is_over(self) -> bool:
        """Whether no server is under way, and none will ever be taken."""
        return self._sealed and not self.under_way and (not self.waiting or self.canary_failure is not None)

    def groups(self) -> Iterator[str]:
        """Iterate over the groups, in the order in which they were added."""
        return (group.name for group in self._books.groups)

    def allowed_of(self, group: str) -> int:
        """Return how many servers of a group may be unavailable at once; 0 for an unknown group."""
        books = self._chains.group(group)
        return 0 if books is None else books.allowed

    def unavailable_of(self, group: str) -> int:
        """Return how many servers of a group are unavailable: under way, settling, or for good."""
        books = self._chains.group(group)
        return 0 if books is None else books.held

    def lost_of(self, group: str) -> tuple[str, ...]:
        """Return the first servers of a group that are unavailable for good."""
        books = self._chains.group(group)
        return tuple(books.lost_ids or ()) if books is not None else ()

    def is_lost(self, server_id: str) -> bool:
        """Return whether a server is unavailable for good."""
        return server_id in self._lost

    def standing_of(self, group: str) -> GroupStanding | None:
        """Return how far a group is; None for an unknown group."""
        books = self._chains.group(group)
        return None if books is None else group_standing(books)

    def standing(self, now: float) -> RolloutStanding:
        """Return how far all is."""
        self._advance(now)
        blocked = dict.fromkeys(islice(self._books.blocked_names(), min(self._books.blocked, MAX_NAMED)))
        lost = (server_id for server_id in self._lost_ids if server_id in self._lost)
        return RolloutStanding(
            phase=self.phase,
            waiting=self.waiting,
            under_way=self.under_way,
            settling=len(self._settling),
            lost=self.lost,
            lost_servers=tuple(islice(lost, min(self.lost, MAX_NAMED))),
            groups=len(self._books.groups),
            groups_touched=self._books.touched,
            groups_done=self._books.done,
            groups_blocked=self._books.blocked,
            blocked_groups=tuple(blocked),
            canary_failure=self.canary_failure,
            reason=self._reason(now),
        )

    def reason(self, now: float) -> WaitReason | None:
        """Return why no server is taken just now, None if some may go or all is over."""
        self._advance(now)
        return self._reason(now)

    def _note_lost(self, server_id: str, group: Group) -> None:
        self.lost += 1
        self._lost[server_id] = group
        self._lost_ids.append(server_id)
        group.lost += 1
        if group.lost_ids is None:
            group.lost_ids = []
        if len(group.lost_ids) < MAX_NAMED:
            group.lost_ids.append(server_id)

    def _pop_lost(self, server_id: str) -> Group | None:
        group = self._lost.shard_of(server_id).pop(server_id, None)
        if group is not None:
            self.lost -= 1
            group.lost -= 1
            if group.lost_ids and server_id in group.lost_ids:
                group.lost_ids.remove(server_id)
        return group

    @abstractmethod
    def _advance(self, now: float) -> None:
        """Note what time has changed."""

    @abstractmethod
    def _reason(self, now: float) -> WaitReason | None:
        """Return why no server is taken just now, None if some may go or all is over."""
