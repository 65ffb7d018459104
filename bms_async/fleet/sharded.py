"""Tables, lists and queues of a million ids that never block the event loop (R9) and take little memory (R10).

A dict of 700,000 entries that grows blocks the event loop for 50 to 90 ms; one of 256 small dicts, for less than one.
So a `Table` is made of shards, of which only one is resized at a time.

The garbage collector counts as well: it reads a list or a deque from end to end each time. A tuple of strings it visits
only once, but it begins after 700 new objects, less those that were freed meanwhile, and however large these are: it
may find a million servers' tuples new, which holds the event loop for 35 ms. So `Pieces` and a `Queue` keep what they
hold in Structs that it does not track, and only the tail is a list. Nothing that they hold may be part of a cycle.

The order of a `Table` is that of the hashes, which differ from process to process. So it has none that can be seen:
what is iterated over is an `OrderedTable`, and everything of a run is in the same order each time.

Rejected: a plain dict, a plain deque and tuples, for these figures. Beside them a look-up that takes 0.4 us more is
cheap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Generic, TypeVar

import msgspec
from msgspec.structs import astuple

T = TypeVar("T")
V = TypeVar("V")

SHARDS = 256
"""How many dicts a table is made of: at a million entries each has some 4,000."""

_SHARDS_A_STEP = 16
_CHUNKS_A_STEP = 50

CHUNK_SIZE = 200
"""How many items of a list or a queue make a Struct."""

_FIELDS = tuple(f"item_{number}" for number in range(CHUNK_SIZE))
_Chunk = msgspec.defstruct("_Chunk", _FIELDS, gc=False)


class Table(Generic[V]):
    """A sharded dict with strings as keys; entries cannot be removed.

    Measured at a million entries: 0.5 us a look-up, where a dict takes 0.1 us, and never more than 0.3 ms at a time.
    """

    __slots__ = ("_shards",)

    def __init__(self) -> None:
        self._shards: tuple[dict[str, V], ...] = tuple({} for _ in range(SHARDS))

    def get(self, key: str) -> V | None:
        """Return the value of a key, None if the key is not there."""
        return self._shards[hash(key) % SHARDS].get(key)

    def __contains__(self, key: str) -> bool:
        return key in self._shards[hash(key) % SHARDS]

    def __setitem__(self, key: str, value: V) -> None:
        self._shards[hash(key) % SHARDS][key] = value

    def __len__(self) -> int:
        return sum(map(len, self._shards))

    def shard_of(self, key: str) -> dict[str, V]:
        """Return the dict that has a key, or is to have it: for who looks it up and then sets it."""
        return self._shards[hash(key) % SHARDS]

    def dismantle(self) -> Iterator[None]:
        """Remove all entries, some at each step: to free a million at once blocks the event loop for 20 ms."""
        for number, shard in enumerate(self._shards, 1):
            shard.clear()
            if number % _SHARDS_A_STEP == 0:
                yield


class Pieces(Generic[T]):
    """A list that only grows, without moving what it holds: strings, and Structs that the collector does not track."""

    __slots__ = ("_chunks", "_tail")

    def __init__(self) -> None:
        self._chunks: list[msgspec.Struct] = []
        self._tail: list[T] = []

    def append(self, item: T) -> None:
        """Add an item at the end."""
        self._tail.append(item)
        if len(self._tail) == CHUNK_SIZE:
            self._chunks.append(_Chunk(*self._tail))
            self._tail.clear()

    def chunks(self, index: int = 0) -> Iterator[tuple[T, ...]]:
        """Iterate over the items from an index on, some at a time, those that are added meanwhile included."""
        while index < len(self):
            number, offset = divmod(index, CHUNK_SIZE)
            # The tail may become a chunk while the consumer of this generator does something else: hence the copy.
            chunk: tuple[T, ...] = astuple(self._chunks[number]) if number < len(self._chunks) else tuple(self._tail)
            index += len(chunk) - offset
            yield chunk[offset:] if offset else chunk

    def copy(self) -> Pieces[T]:
        """Return another list of the same items."""
        copied: Pieces[T] = Pieces()
        copied._chunks, copied._tail = self._chunks.copy(), self._tail.copy()
        return copied

    def __len__(self) -> int:
        return len(self._chunks) * CHUNK_SIZE + len(self._tail)

    def __getitem__(self, index: int) -> T:
        """Return an item.

        Raises:
            IndexError: There is none, as for a negative index.
        """
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is out of range: there are {len(self)} items")
        number, offset = divmod(index, CHUNK_SIZE)
        if number < len(self._chunks):
            item: T = getattr(self._chunks[number], _FIELDS[offset])
            return item
        return self._tail[offset]

    def pick(self, indexes: Iterable[int]) -> list[T]:
        """Return the items at some indexes, which there are: quicker than one by one."""
        chunks, tail, size = self._chunks, self._tail, len(self._chunks) * CHUNK_SIZE
        return [
            getattr(chunks[index // CHUNK_SIZE], _FIELDS[index % CHUNK_SIZE]) if index < size else tail[index - size]
            for index in indexes
        ]

    def __iter__(self) -> Iterator[T]:
        return chain.from_iterable(self.chunks())

    def dismantle(self) -> Iterator[None]:
        """Remove all items, some at each step: to free a million at once blocks the event loop for 50 ms."""
        while self._chunks:
            del self._chunks[-_CHUNKS_A_STEP:]
            yield
        self._tail.clear()


class OrderedTable(Mapping[str, V]):
    """A sharded dict with strings as keys, in the order in which they were added; entries cannot be removed."""

    __slots__ = ("_keys", "_table")

    def __init__(self) -> None:
        self._table: Table[V] = Table()
        self._keys: Pieces[str] = Pieces()

    def __setitem__(self, key: str, value: V) -> None:
        if key not in self._table:
            self._keys.append(key)
        self._table[key] = value

    def __getitem__(self, key: str) -> V:
        value = self._table.get(key)
        if value is None and key not in self._table:
            raise KeyError(key)
        return value  # type: ignore[return-value]  # a None that is the value

    def __contains__(self, key: object) -> bool:
        return isinstance(key, str) and key in self._table

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def dismantle(self) -> Iterator[None]:
        """Remove all entries, some at each step: to free a million at once blocks the event loop for 20 ms."""
        self._keys = Pieces()
        yield
        yield from self._table.dismantle()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} of {len(self):,} entries>"


class Queue:
    """Strings, first in, first out."""

    __slots__ = ("_chunks", "_head", "_size", "_tail")

    def __init__(self) -> None:
        self._head: Iterator[str] = iter(())
        self._chunks: deque[msgspec.Struct] = deque()
        self._tail: list[str] = []
        self._size = 0

    def __len__(self) -> int:
        return self._size

    def append(self, text: str) -> None:
        """Add a string at the end."""
        self._size += 1
        self._tail.append(text)
        if len(self._tail) == CHUNK_SIZE:
            self._chunks.append(_Chunk(*self._tail))
            self._tail.clear()

    def pop(self, max_count: int) -> tuple[str, ...]:
        """Remove the first strings and return them."""
        popped = tuple(self._pop_each(min(max_count, self._size)))
        self._size -= len(popped)
        return popped

    def _pop_each(self, count: int) -> Iterable[str]:
        while count > 0:
            text = next(self._head, None)
            if text is not None:
                count -= 1
                yield text
            elif self._chunks:
                self._head = iter(astuple(self._chunks.popleft()))
            else:
                self._head = iter(tuple(self._tail))
                self._tail.clear()
