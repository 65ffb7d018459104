"""The outcomes of a run, any number of them, in the order in which they were known."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import SupportsIndex, overload

from .outcome import Outcome

PIECE = 1000
"""How many outcomes make a tuple."""

_SHOWN = 10


class Outcomes(Sequence[Outcome]):
    """A sequence that grows at its end, without moving what is there.

    Those that went well are in tuples, which the garbage collector visits once and never again. Those that hold an
    error are kept apart: they are few, and what looks for them need not look at all others.

    Args:
        outcomes: What it begins with.

    Attributes:
        bad: How many servers are not as asked.
    """

    __slots__ = ("_apart", "_pieces", "_places", "_tail", "bad")

    def __init__(self, outcomes: Iterable[Outcome] = ()) -> None:
        self._pieces: list[tuple[Outcome | None, ...]] = []
        self._tail: list[Outcome | None] = []
        self._apart: list[Outcome] = []
        self._places = array("q")
        self.bad = 0
        for outcome in outcomes:
            self.append(outcome)

    def append(self, outcome: Outcome) -> None:
        """Add one at the end."""
        if not outcome.state.is_success:
            self.bad += 1
        if outcome.error is None:
            self._tail.append(outcome)
        else:
            self._places.append(len(self))
            self._apart.append(outcome)
            self._tail.append(None)
        if len(self._tail) == PIECE:
            self._pieces.append(tuple(self._tail))
            self._tail.clear()

    def not_as_asked(self) -> Iterator[Outcome]:
        """Iterate over those whose servers are not as asked; the others are looked at only where none has an error."""
        if self.bad == len(self._apart):
            return iter(self._apart)
        return (outcome for outcome in self if not outcome.state.is_success)

    def since(self, place: int) -> Iterator[Outcome]:
        """Iterate over those from a place on that are there now."""
        return islice(self._read(place), max(0, len(self) - place))

    def __len__(self) -> int:
        return len(self._pieces) * PIECE + len(self._tail)

    @overload
    def __getitem__(self, place: SupportsIndex) -> Outcome: ...

    @overload
    def __getitem__(self, place: slice) -> Sequence[Outcome]: ...

    def __getitem__(self, place: SupportsIndex | slice) -> Outcome | Sequence[Outcome]:
        if isinstance(place, slice):
            return [self._at(each) for each in range(*place.indices(len(self)))]
        at = place.__index__()
        at += len(self) if at < 0 else 0
        if not 0 <= at < len(self):
            raise IndexError(f"there are {len(self)} outcomes, and none at {place}")
        return self._at(at)

    def __iter__(self) -> Iterator[Outcome]:
        return self._read(0)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outcomes | list | tuple):
            return NotImplemented
        return len(self) == len(other) and all(mine == its for mine, its in zip(self, other, strict=True))

    __hash__ = None  # type: ignore[assignment]  # as a list has it

    def __repr__(self) -> str:
        more = f", and {len(self) - _SHOWN:,} more" if len(self) > _SHOWN else ""
        return f"[{', '.join(map(repr, islice(self, _SHOWN)))}{more}]"

    def __reduce__(self) -> tuple[type[Outcomes], tuple[()], None, Iterator[Outcome]]:
        # One by one: a list is taken as a whole, which would hold all threads up until it is done.
        return Outcomes, (), None, iter(self)

    def _at(self, place: int) -> Outcome:
        number, rest = divmod(place, PIECE)
        outcome = self._pieces[number][rest] if number < len(self._pieces) else self._tail[rest]
        return outcome or self._apart[bisect_left(self._places, place)]

    def _read(self, place: int) -> Iterator[Outcome]:
        number = place // PIECE
        apart = bisect_left(self._places, place)
        while place < len(self):
            # A piece that is not full yet may become so, and move, while its reader looks at something else.
            piece = self._pieces[number] if number < len(self._pieces) else tuple(self._tail)
            for outcome in piece[place - number * PIECE :]:
                place += 1
                if outcome is not None:
                    yield outcome
                else:
                    apart += 1
                    yield self._apart[apart - 1]
            number = place // PIECE
