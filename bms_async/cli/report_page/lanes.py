"""The groups of a rollout over time, a lane for each: reports in, numbers and paths out. Pure.

The size is bounded, however many groups and servers there are: the groups with the most trouble have lanes, then the
largest, and a lane with many servers is an area in the place of bars.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from heapq import heappop, heappush, nsmallest
from typing import Final, NamedTuple

from bms_async import FleetReport, GroupReport, OutcomeState, RolloutReport

from .charts import duration
from .reasons import printable

__all__ = ["LANES", "WIDTH", "Lane", "Lanes", "Span", "lanes_of", "most_at_once", "tracks_of"]

LANES: Final = 60
"""How many groups are shown at most."""
WIDTH: Final = 1000
"""How wide a lane is, in its own units; it is stretched to its place."""

_BARS: Final = 2400
"""How many bars all lanes have together at most."""
_TRACKS: Final = 12
"""How many bars are above each other in a lane at most."""
_FEW: Final = 10
"""Of how many lanes at most each is drawn high."""
_COLUMNS: Final = 3600
"""How many columns the areas have together at most."""
_MAX_COLUMNS: Final = 200
_ASKED: Final = 250
_SHADED: Final = 200
_MAX_NAME: Final = 48
_REST: Final = "rest"


class Span(NamedTuple):
    """The time that a server was away, in seconds since the beginning of the run.

    Attributes:
        begin: When it was asked for.
        end: When its outcome became known.
        state: Its state.
        rest: When it is away until after that: the end of the run; None if it is well by then, or was never away.
    """

    begin: float
    end: float
    state: OutcomeState
    rest: float | None = None

    @property
    def back(self) -> float:
        """When it is no longer away."""
        return self.end if self.rest is None else self.rest


class Lane(NamedTuple):
    """A group.

    Attributes:
        name: Its name; empty where all servers are one group.
        group: What became of it.
        most: How many of its servers were away at once at most.
        tracks: How many bars are above each other.
        height: How high it is drawn, in bars.
        is_area: Whether its height is a number of servers, and not a bar for each.
        paths: What is drawn: a class and a path for each colour.
        span: From when to when its servers were asked for and well; empty if none was asked for.
    """

    name: str
    group: GroupReport
    most: int
    tracks: int
    height: int
    is_area: bool
    paths: Sequence[tuple[str, str]]
    span: str


class Lanes(NamedTuple):
    """All lanes.

    Attributes:
        lanes: Those that are shown, in the order in which they began.
        groups: How many groups there are.
        left_out: How many groups are not shown.
        servers_left_out: How many servers these have.
        bad_left_out: How many of these are not as asked.
        asked: A path with a mark for each moment at which servers were asked for.
        shaded: A path of the times in which nothing could begin.
        pauses: The same in words.
        canaries: Where the time of the canaries ends, in per cent; None without any.
        alone: The same in words.
    """

    lanes: Sequence[Lane]
    groups: int
    left_out: int
    servers_left_out: int
    bad_left_out: int
    asked: str
    shaded: str
    pauses: str
    canaries: float | None
    alone: str


def lanes_of(report: FleetReport, end: float) -> Lanes | None:
    """Return the lanes of a rollout; None if the run had none.

    Args:
        report: The report of the run.
        end: Seconds since the beginning at which the lanes end.
    """
    rollout = report.rollout
    if rollout is None or not rollout.groups:
        return None
    end = max(end, 0.1)
    shown = _choose(rollout.groups)
    spans: dict[str, list[Span]] = {group.name: [] for group in shown}
    asked, alone = set[int](), _Alone()
    for outcome, place in zip(report.outcomes, rollout.places, strict=False):
        if outcome.started is None or place.group is None:
            continue
        begin = _since(report, outcome.started)
        asked.add(min(_ASKED - 1, max(0, int(begin * _ASKED / end))))
        alone.note(begin, is_canary=place.is_canary)
        if place.group.name in spans:
            ended = end if outcome.ended is None else _since(report, outcome.ended)
            rest = end if place.is_lost and ended < end else None
            spans[place.group.name].append(Span(begin, max(begin, ended), outcome.state, rest))
    left = [group for group in rollout.groups if group.name not in spans]
    until = alone.until
    step = WIDTH / _ASKED
    return Lanes(
        lanes=[_lane(group, spans[group.name], end, len(shown)) for group in shown],
        groups=len(rollout.groups),
        left_out=len(left),
        servers_left_out=sum(group.servers for group in left),
        bad_left_out=sum(_bad(group) for group in left),
        asked="".join(f"M{(column + 0.5) * step:g} 0v10" for column in sorted(asked)),
        shaded=_shaded(report, rollout, end),
        pauses=_pauses_in_words(rollout),
        canaries=None if until is None else min(100.0, 100 * until / end),
        alone="" if until is None else duration(until),
    )


def tracks_of(spans: Iterable[tuple[float, float]]) -> list[int]:
    """Return for each span the first track on which no other one lies, so that there are as few as can be.

    Args:
        spans: Beginnings and ends, in the order of the beginnings.
    """
    taken: list[tuple[float, int]] = []
    free: list[int] = []
    found = []
    for begin, end in spans:
        while taken and taken[0][0] <= begin:
            heappush(free, heappop(taken)[1])
        track = heappop(free) if free else len(taken)
        heappush(taken, (end, track))
        found.append(track)
    return found


def most_at_once(spans: Iterable[tuple[float, float]]) -> int:
    """Return how many of these times have a moment in common at most; one may begin when another one ends."""
    return max((count for _, count in _counted(spans)), default=0)


class _Alone:
    """When the canaries were alone."""

    def __init__(self) -> None:
        self._has_canaries = False
        self._first: float | None = None
        self._last = 0.0

    def note(self, begin: float, *, is_canary: bool) -> None:
        if is_canary:
            self._has_canaries = True
        elif self._first is None or begin < self._first:
            self._first = begin
        self._last = max(self._last, begin)

    @property
    def until(self) -> float | None:
        """When the first other server was asked for; None without canaries, or if only they were."""
        return self._first if self._has_canaries else None


def _choose(groups: Sequence[GroupReport]) -> list[GroupReport]:
    """Return the groups with the most trouble, then the largest, in the order in which they began."""

    def key(entry: tuple[int, GroupReport]) -> tuple[bool, int, int, int, int]:
        index, group = entry
        return (not group.blocked, -group.lost, -_bad(group), -group.servers, index)

    chosen = nsmallest(LANES, enumerate(groups), key=key)
    started = {index: group.started.timestamp() for index, group in chosen if group.started is not None}
    return [group for _, group in sorted(chosen, key=lambda entry: (started.get(entry[0], float("inf")), entry[0]))]


def _bad(group: GroupReport) -> int:
    return sum(count for state, count in group.by_state.items() if not state.is_success)


def _since(report: FleetReport, at: datetime) -> float:
    return max(0.0, (at - report.started).total_seconds())


def _lane(group: GroupReport, spans: list[Span], end: float, lanes: int) -> Lane:
    spans.sort()
    away = [(span.begin, span.back) for span in spans]
    tracks = tracks_of(away)
    most = most_at_once(away)
    rows = height = max(tracks, default=0) + 1
    is_area = rows > _TRACKS or len(spans) > max(1, _BARS // lanes)
    if is_area:
        paths = _areas(spans, end, most, max(1, min(_MAX_COLUMNS, _COLUMNS // lanes)))
        rows, height = _TRACKS, _TRACKS if lanes <= _FEW else _TRACKS // 2
    else:
        paths = _bars(spans, tracks, end)
    span = ""
    if spans:
        span = f"{duration(spans[0].begin)} to {duration(max(back for _, back in away))}"
    return Lane(printable(group.name, _MAX_NAME), group, most, rows, height, is_area, paths, span)


def _bars(spans: Sequence[Span], tracks: Sequence[int], end: float) -> list[tuple[str, str]]:
    paths: dict[str, list[str]] = {}
    for span, track in zip(spans, tracks, strict=True):
        y = track * 10 + 1
        paths.setdefault(span.state.value, []).append(_box(span.begin, span.end, y, 8, end))
        if span.rest is not None:
            paths.setdefault(f"{span.state.value} {_REST}", []).append(_box(span.end, span.rest, y, 8, end))
    return [(name, "".join(boxes)) for name, boxes in paths.items()]


def _box(begin: float, until: float, y: int, height: int, end: float) -> str:
    x = round(begin * WIDTH / end)
    # Even the shortest can be seen, and two that follow one another are two.
    width = max(1, round(until * WIDTH / end) - x)
    return f"M{x} {y}h{width}v{height}h-{width}z"


def _areas(spans: Sequence[Span], end: float, most: int, columns: int) -> list[tuple[str, str]]:
    """Return a layer for each kind of servers that are away; each covers a part of the one before."""
    layers: list[tuple[str, list[tuple[float, float]]]] = [
        (OutcomeState.SUCCEEDED.value, [(span.begin, span.back) for span in spans]),
        (OutcomeState.FAILED.value, [(span.begin, span.back) for span in spans if span.state.is_failure]),
        (f"{OutcomeState.FAILED.value} {_REST}", [(span.end, span.rest) for span in spans if span.rest is not None]),
    ]
    top = max(1, most)
    return [(name, _area(_peaks(layer, end, columns), top, columns)) for name, layer in layers if layer]


def _area(peaks: Sequence[int], top: int, columns: int) -> str:
    """Return the path of an area: only where the count changes there is a point."""
    bottom = _TRACKS * 10
    path, before, width = [f"M0 {bottom}"], 0, WIDTH / columns
    for column, count in enumerate(peaks):
        if count != before:
            path.append(f"H{column * width:.0f}V{bottom - bottom * count / top:.0f}")
            before = count
    return "".join([*path, f"H{WIDTH}V{bottom}z"])


def _peaks(spans: Iterable[tuple[float, float]], end: float, columns: int) -> list[int]:
    """Return how many servers were away at once at most, in each of so many equal parts of the run."""
    peaks, before, known = [0] * columns, 0, 0
    for at, count in _counted(spans):
        column = min(columns - 1, max(0, int(at * columns / end)))
        # What was there before is in this column too, unless it ended where the column begins.
        for between in range(before + 1, column + (at * columns / end > column)):
            peaks[between] = max(peaks[between], known)
        peaks[column] = max(peaks[column], count)
        before, known = column, count
    return peaks


def _counted(spans: Iterable[tuple[float, float]]) -> Iterator[tuple[float, int]]:
    """Yield how many are away from each moment on at which that changes."""
    changes: dict[float, int] = {}
    for begin, end in spans:
        if begin < end:
            changes[begin] = changes.get(begin, 0) + 1
            changes[end] = changes.get(end, 0) - 1
    count = 0
    for at in sorted(changes):
        count += changes[at]
        yield at, count


def _shaded(report: FleetReport, rollout: RolloutReport, end: float) -> str:
    boxes, covered = list[str](), -1
    for pause in rollout.pauses:
        begin, until = _since(report, pause.started), min(end, _since(report, pause.ended))
        # What is too near to the one before to be told apart is a part of it.
        if until > begin and round(until * WIDTH / end) > covered and len(boxes) < _SHADED:
            boxes.append(_box(begin, until, 0, 100, end))
            covered = round(until * WIDTH / end)
    return "".join(boxes)


_REASONS: Final[Mapping[str, str]] = {"window": "outside of the window", "paused": "paused"}


def _pauses_in_words(rollout: RolloutReport) -> str:
    parts = []
    for reason, words in _REASONS.items():
        times = [pause for pause in rollout.pauses if pause.reason == reason]
        if times:
            seconds = sum((pause.ended - pause.started).total_seconds() for pause in times)
            often = "once" if len(times) == 1 else f"{len(times):,} times"
            parts.append(f"{words} {often}, {duration(seconds)}{'' if len(times) == 1 else ' in all'}")
    return "; ".join(parts)
