"""The outcomes of a run, any number of them, in the order in which they became known."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import SupportsIndex, overload

from .outcome import Outcome

CHUNK_SIZE = 1000
"""How many outcomes make a tuple."""

_MAX_SHOWN = 10


class Outcomes(Sequence[Outcome]):
    """A sequence that grows at its end without moving what it holds.

    Outcomes without an error are in tuples, which the garbage collector visits once and never again. Those with an
    error are kept apart: they are few, and are found without a look at all others.

    Args:
        outcomes: The first outcomes.

    Attributes:
        not_as_asked_count: How many servers are not in the state that was asked for.
    """

    __slots__ = ("_chunks", "_error_positions", "_tail", "_with_error", "not_as_asked_count")

    def __init__(self, outcomes: Iterable[Outcome] = ()) -> None:
        self._chunks: list[tuple[Outcome | None, ...]] = []
        self._tail: list[Outcome | None] = []
        self._with_error: list[Outcome] = []
        self._error_positions = array("q")
        self.not_as_asked_count = 0
        for outcome in outcomes:
            self.append(outcome)

    def append(self, outcome: Outcome) -> None:
        """Add an outcome at the end."""
        if not outcome.state.is_success:
            self.not_as_asked_count += 1
        if outcome.error is None:
            self._tail.append(outcome)
        else:
            self._error_positions.append(len(self))
            self._with_error.append(outcome)
            self._tail.append(None)
        if len(self._tail) == CHUNK_SIZE:
            self._chunks.append(tuple(self._tail))
            self._tail.clear()

    def not_as_asked(self) -> Iterator[Outcome]:
        """Iterate over the servers that are not as asked; all outcomes are read only if one of these has no error."""
        if self.not_as_asked_count == len(self._with_error):
            return iter(self._with_error)
        return (outcome for outcome in self if not outcome.state.is_success)

    def since(self, start: int) -> Iterator[Outcome]:
        """Iterate over the outcomes from an index on that are there now."""
        return islice(self._read(start), max(0, len(self) - start))

    def __len__(self) -> int:
        return len(self._chunks) * CHUNK_SIZE + len(self._tail)

    @overload
    def __getitem__(self, index: SupportsIndex) -> Outcome: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[Outcome]: ...

    def __getitem__(self, index: SupportsIndex | slice) -> Outcome | Sequence[Outcome]:
        if isinstance(index, slice):
            return [self._at(at) for at in range(*index.indices(len(self)))]
        at = index.__index__()
        at += len(self) if at < 0 else 0
        if not 0 <= at < len(self):
            raise IndexError(f"index {index} is out of range: there are {len(self)} outcomes")
        return self._at(at)

    def __iter__(self) -> Iterator[Outcome]:
        return self._read(0)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outcomes | list | tuple):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as a list has it

    def __repr__(self) -> str:
        more = f", and {len(self) - _MAX_SHOWN:,} more" if len(self) > _MAX_SHOWN else ""
        return f"[{', '.join(map(repr, islice(self, _MAX_SHOWN)))}{more}]"

    def __reduce__(self) -> tuple[type[Outcomes], tuple[()], None, Iterator[Outcome]]:
        # One by one: a list is pickled in one go, which would block all threads until it is done.
        return Outcomes, (), None, iter(self)

    def _at(self, index: int) -> Outcome:
        chunk, offset = divmod(index, CHUNK_SIZE)
        outcome = self._chunks[chunk][offset] if chunk < len(self._chunks) else self._tail[offset]
        return outcome or self._with_error[bisect_left(self._error_positions, index)]

    def _read(self, index: int) -> Iterator[Outcome]:
        errors = bisect_left(self._error_positions, index)
        while index < len(self):
            number, offset = divmod(index, CHUNK_SIZE)
            # The tail may become a chunk while the consumer of this generator does something else: hence the copy.
            chunk = self._chunks[number] if number < len(self._chunks) else tuple(self._tail)
            for outcome in chunk[offset:]:
                index += 1
                if outcome is not None:
                    yield outcome
                else:
                    errors += 1
                    yield self._with_error[errors - 1]
