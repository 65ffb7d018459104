"""The outcomes of a run, any number of them, in the order in which they became known."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import SupportsIndex, overload

import msgspec

from bms_async.errors import BmsError

from .outcome import Outcome, make_outcome
from .sharded import Pieces
from .stored_failure import StoredFailure, SubJobFailure, read_failure, store

_MAX_SHOWN = 10


class Outcomes(Sequence[Outcome]):
    """A sequence that grows at its end without moving what it holds.

    It is made of objects that the garbage collector does not track. An outcome with an error is a `StoredFailure` here,
    and becomes an `Outcome` when it is read.

    Args:
        outcomes: The first outcomes.

    Attributes:
        not_as_asked_count: How many servers are not in the state that was asked for.
    """

    __slots__ = (
        "_error_positions",
        "_errors",
        "_items",
        "_last_error",
        "_last_failure",
        "_results",
        "not_as_asked_count",
    )

    def __init__(self, outcomes: Iterable[Outcome] = ()) -> None:
        self._items: Pieces[Outcome | StoredFailure] = Pieces()
        # Not in pieces: an error may be part of a cycle, so that the collector must see it.
        self._errors: list[BmsError] = []
        # Outcomes with an error are found without a look at all others.
        self._error_positions = array("q")
        # Servers that follow one another mostly failed alike.
        self._last_error: BmsError | None = None
        self._last_failure: SubJobFailure | None = None
        # As the errors are: a result may be anything.
        self._results: dict[int, object] = {}
        self.not_as_asked_count = 0
        for outcome in outcomes:
            self.append(outcome)

    def append(self, outcome: Outcome) -> None:
        """Add an outcome at the end."""
        if not outcome.state.is_success:
            self.not_as_asked_count += 1
        if outcome.result is not None:
            self._results[len(self)] = outcome.result
            fields = msgspec.structs.asdict(outcome) | {"result": None}
            outcome = make_outcome(**fields)
        if outcome.error is None:
            self._items.append(outcome)
        else:
            self._error_positions.append(len(self))
            self._items.append(self._store(outcome, outcome.error))

    def not_as_asked(self) -> Iterator[tuple[str, str, int]]:
        """Iterate over the servers that are not as asked; all outcomes are read only if one of these has no error.

        Yields:
            The outcome's reason, the server and the outcome's index: an error is made of what is stored only if the
            outcome is read.
        """
        positions: Iterable[int] = self._error_positions
        if self.not_as_asked_count != len(self._error_positions):
            positions = (position for position, item in enumerate(self._items) if not item.state.is_success)
        # Servers that follow one another mostly have the same reason.
        why: SubJobFailure | int | None = None
        reason = ""
        for position in positions:
            item = self._items[position]
            if not isinstance(item, StoredFailure):
                yield item.reason, item.server_id, position
                continue
            if item.why is not why:
                why = item.why
                reason = why.key if isinstance(why, SubJobFailure) else self._restore(item).reason
            yield reason, item.server_id, position

    def without_errors(self) -> Iterator[Outcome | StoredFailure]:
        """Iterate over the outcomes as they are kept: the errors are not made."""
        return iter(self._items)

    def since(self, start: int) -> Iterator[Outcome]:
        """Iterate over the outcomes from an index on that are there now."""
        return islice(self._read(start), max(0, len(self) - start))

    def __len__(self) -> int:
        return len(self._items)

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

    def __copy__(self) -> Outcomes:
        # The errors that both make of a failure are the same.
        copied = Outcomes()
        copied._items, copied._errors = self._items.copy(), self._errors.copy()
        copied._results = self._results.copy()
        copied._error_positions = array("q", self._error_positions)
        copied.not_as_asked_count = self.not_as_asked_count
        return copied

    def _store(self, outcome: Outcome, error: BmsError) -> StoredFailure:
        failure = read_failure(outcome, self._last_failure)
        if failure is not None:
            self._last_failure = failure
            return store(outcome, failure)
        if self._last_error is not error:
            self._errors.append(error)
            self._last_error = error
        return store(outcome, len(self._errors) - 1)

    def _at(self, index: int) -> Outcome:
        return self._with_result(index, self._restore(self._items[index]))

    def _read(self, index: int) -> Iterator[Outcome]:
        for chunk in self._items.chunks(index):
            if self._results:
                for item in chunk:
                    yield self._with_result(index, self._restore(item))
                    index += 1
                continue
            index += len(chunk)
            for item in chunk:
                yield self._restore(item) if isinstance(item, StoredFailure) else item

    def _with_result(self, index: int, outcome: Outcome) -> Outcome:
        result = self._results.get(index)
        if result is None:
            return outcome
        fields = msgspec.structs.asdict(outcome) | {"result": result}
        return make_outcome(**fields)

    def _restore(self, item: Outcome | StoredFailure) -> Outcome:
        if not isinstance(item, StoredFailure):
            return item
        return item.with_error(self._errors[item.why] if isinstance(item.why, int) else item.error_of_sub_job(item.why))
