"""The geometry of the report's charts: numbers in, numbers out. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from bms_async import OutcomeState

__all__ = ["HEIGHT", "Piece", "bucket_of", "ceiling", "duration", "minutes", "peaks", "stack", "steps", "ticks"]

HEIGHT: Final = 1000.0
"""How high a chart is, in its own units; it is stretched to its index."""

MINUTE: Final = 60.0
_TOLERANCE: Final = 1e-6

_BUCKETS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0, 3600.0)
_UNITS: Final = ((86400, "d"), (3600, "h"), (60, "min"), (1, "s"))


class Piece(NamedTuple):
    """One state's part of a column: its top, counted from the top of the chart, and its height."""

    state: OutcomeState
    servers: int
    y: float
    height: float


def bucket_of(seconds: float, max_buckets: int = 60) -> float:
    """Return the smallest round number of seconds that divides a run into at most `max_buckets` columns.

    Args:
        seconds: How long the run took.
        max_buckets: The maximum number of columns.
    """
    for bucket in _BUCKETS:
        if int(seconds // bucket) < max_buckets:
            return bucket
    hours = 1
    while int(seconds // (hours * 3600.0)) >= max_buckets:
        hours *= 2
    return hours * 3600.0


def stack(counts: Mapping[OutcomeState, int], top: int) -> list[Piece]:
    """Stack the states of one column from the bottom, with heights proportional to the counts.

    Args:
        counts: How many servers are in each state; empty states are left out.
        top: The count at the top of the chart.
    """
    pieces, below = [], 0
    for state in OutcomeState:
        count = counts.get(state, 0)
        if count:
            below += count
            pieces.append(Piece(state, count, HEIGHT - HEIGHT * below / top, HEIGHT * count / top))
    return pieces


def ceiling(value: int) -> int:
    """Return the round number, at least 1, at the end of an axis that has to show `value`."""
    power = 1
    while True:
        for step in (1, 2, 4, 5, 6, 8):
            if step * power >= value:
                return step * power
        power *= 10


def ticks(top: int) -> list[int]:
    """Return the integer labels of an axis from 0 to `top`, a value of `ceiling`."""
    for parts in (4, 5, 3, 2):
        if top % parts == 0:
            return [top * part // parts for part in range(parts + 1)]
    return [0, top]


def steps(seconds: float, max_buckets: int = 5) -> list[float]:
    """Return the round times that are written under a chart, at most `max_buckets` of them, from 0.

    Args:
        seconds: Where the chart ends.
        max_buckets: How many there is room for.
    """
    step = bucket_of(seconds, max_buckets)
    return [index * step for index in range(int(seconds // step) + 1)]


def duration(seconds: float) -> str:
    """Return a duration for people: ``0.4 s``, ``42 s``, ``1 min 30 s``; no line breaks between number and unit."""
    if seconds < 10 and round(seconds, 1) != round(seconds):  # noqa: PLR2004 - below 10 s, tenths matter
        return f"{seconds:.1f}\N{NO-BREAK SPACE}s"
    left, parts = round(seconds), []
    for size, unit in _UNITS:
        whole, left = divmod(left, size)
        if whole:
            parts.append(f"{whole}\N{NO-BREAK SPACE}{unit}")
    return " ".join(parts[:2]) or "0\N{NO-BREAK SPACE}s"


def minutes(history: Sequence[tuple[float, int]]) -> Iterator[tuple[float, int]]:
    """Yield for each entry how many calls the minute before it certainly holds.

    A call that was counted between two entries may have been made at any moment between them. The minute that ends at
    an entry certainly holds the calls counted since the first entry inside of it, so that no number is too high.

    Args:
        history: Seconds since the run's start and the calls counted in all until then, neither ever going back.
    """
    whole = _from_start(history)
    times = [at for at, _ in whole]
    return ((at, _held(whole, times, at, count)) for at, count in history)


def peaks(history: Sequence[tuple[float, int]], end: float, columns: int) -> list[int]:
    """Return the fullest running minute within each of `columns` equal intervals of a run.

    Args:
        history: As for `minutes`.
        end: Seconds since the run's start at which the last interval ends; more than 0.
        columns: The number of intervals.
    """
    whole = _from_start(history)
    times = [at for at, _ in whole]
    highest = []
    for column in range(columns):
        # Between two entries nothing is counted, so that the running minute is fullest at the beginning.
        opens = end * column / columns
        before = max(0, bisect_right(times, opens) - 1)
        highest.append(_held(whole, times, opens, whole[before][1] if times[before] <= opens else 0))
    for at, count in whole:
        index = min(columns - 1, max(0, int(at / end * columns)))
        highest[index] = max(highest[index], _held(whole, times, at, count))
    return highest


def _from_start(history: Sequence[tuple[float, int]]) -> Sequence[tuple[float, int]]:
    return history if history and history[0][0] <= 0 else [(0.0, 0), *history]


def _held(history: Sequence[tuple[float, int]], times: Sequence[float], at: float, count: int) -> int:
    opened = at - MINUTE
    if opened < times[0] - _TOLERANCE:
        return count
    inside = bisect_left(times, opened - _TOLERANCE)
    same = bisect_right(times, opened + _TOLERANCE) - 1
    base = history[max(inside, same)][1] if inside < len(history) else count
    return max(0, count - base)
