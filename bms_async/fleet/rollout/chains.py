"""The servers of a rollout that wait, group by group, where the garbage collector does not look."""

from __future__ import annotations

from array import array
from collections.abc import Iterator

from bms_async.fleet.sharded import Pieces, Table

from .room import Group


class Chains:
    """The ids, and for each the number of the next one of its group: 12 bytes a server beside its id."""

    __slots__ = ("_ids", "_last", "_next", "_table")

    def __init__(self) -> None:
        self._ids: Pieces[str] = Pieces()
        self._next = array("I")
        self._table: Table[Group] = Table()
        self._last: Group | None = None

    def __len__(self) -> int:
        return len(self._next)

    def add(self, server_id: str, name: str, groups: list[Group]) -> Group:
        """Add a server at the end of its group, and the group to the groups if it is new; return the group."""
        index = len(self._next)
        group = self._last
        if group is None or group.name != name:
            shard = self._table.shard_of(name)
            group = shard.get(name)
            if group is None:
                group = shard[name] = Group(name, len(groups), index, index)
                groups.append(group)
            self._last = group
        if group.size:
            self._next[group.last] = index
            group.last = index
        group.size += 1
        self._next.append(0)
        self._ids.append(server_id)
        return group

    def group(self, name: str) -> Group | None:
        """Return a group, None if it is unknown."""
        return self._table.get(name)

    def from_first(self, group: Group) -> Iterator[str]:
        """Iterate over the servers of a group from the first that waits on."""
        index = group.first
        while True:
            yield self._ids[index]
            if index == group.last:
                return
            index = self._next[index]

    def dismantle(self) -> Iterator[None]:
        """Forget all servers, some at each step."""
        self._last = None
        yield from self._ids.dismantle()
        yield from self._table.dismantle()

    def pop(self, group: Group, count: int) -> list[str]:
        """Remove the first servers of a group, of which so many wait; those that were put back are the first."""
        group.waiting -= count
        popped: list[str] = []
        while group.front and count:
            count -= 1
            popped.append(group.front.pop())
        index, following = group.first, self._next
        numbers = []
        for _ in range(count):
            numbers.append(index)
            index = following[index]
        group.first = index
        return popped + self._ids.pick(numbers) if popped else self._ids.pick(numbers)
