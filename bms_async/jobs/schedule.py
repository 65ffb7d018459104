"""When to poll which job: pure, so that it can be read and tested without a cloud.

Guarantee: for the number of polls that a job gets, the mean delay until an end is seen is as small as it can be.

How: say that the sub-jobs of a job end with the density ``f``, and that the job is polled with the density ``p``. An
end is then seen ``1 / (2 p)`` after it came, and for a given number of polls the mean delay is the least where ``p``
is proportional to the square root of ``f``. So polls are placed where jobs of this kind have ended before, and more
thinly where few ends are to be expected. When all jobs together want more polls than they may get, all of them are
thinned out by the same factor, which is the best that can be done with what there is.

Rejected: exponential back-off, which polls most at an age at which no job has ever ended and least when an end is due,
and a fixed interval, which spends most polls on jobs that cannot have ended yet.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

import msgspec

POLL_BUDGET_SHARE = 0.9
"""The share of the limit of `jobs.get` that the watcher may use; the rest is left to the application's own calls."""

SAMPLES = 128
"""How many ends of one job are learned from; more would add nothing."""

_MIN_DELAY = 1.0
_MAX_DELAY = 15.0
_MAX_PROFILED_DELAY = 10.0
# Before the onset hardly any job of the kind has ended, but this one may fail at once.
_MAX_BEFORE_ONSET = 30.0
_AGE_FRACTION = 0.1
_MAX_AFTER_FAILURE = 30.0

_POLLS_PER_JOB = 60
# A poll of a job of 1000 servers may serve 1000 waiters, so such a job gets this many times the polls of a single one.
_WEIGHT_OF_1000 = 1.75
# Minimum weighted sample count: about three single-server jobs after decay.
_MIN_SAMPLES = 2.9
# A job fifty jobs ago counts for about a third.
_DECAY = 0.98
_ONSET_SHARE = 0.005
_FEW = 2
# A lower bound, because what has seldom been seen is not impossible.
_MIN_REMAINING = 0.02

# Durations are counted in bins, each a twentieth wider than the one before, from half a second to four hours.
_FIRST = 0.5
_RATIO = 1.05
_BINS = 210
_EDGES = tuple(_FIRST * _RATIO**index for index in range(1, _BINS + 1))
_STARTS = (0.0, *_EDGES[:-1])
_WIDTHS = tuple(end - start for start, end in zip(_STARTS, _EDGES, strict=True))


class DurationProfile(msgspec.Struct, frozen=True):
    """How long the sub-jobs of one kind of job took, and the polling density that follows from it.

    Attributes:
        weights: The share of a job's ends in each bin, summed over jobs with exponential decay.
        samples: How many ends were counted, with the same decay.
        onset: The age in seconds before which hardly any sub-job has ended.
        remaining: The share of sub-jobs that had not ended by the end of each bin.
        poll_curve_many: How many polls are due by the end of each bin while many sub-jobs of a job remain.
        poll_curve_few: The same while few remain, when any poll may be the last.
    """

    weights: tuple[float, ...]
    samples: float
    onset: float
    remaining: tuple[float, ...]
    poll_curve_many: tuple[float, ...]
    poll_curve_few: tuple[float, ...]


def update_profile(known: DurationProfile | None, durations: Sequence[float]) -> DurationProfile | None:
    """Return the profile of a kind of job after one more of them has ended.

    Args:
        known: The profile before, None if there is none.
        durations: Seconds from the job's acceptance to the end of each of its sub-jobs.
    """
    if not durations:
        return known
    new_weights = _smoothed(durations)
    weights = (
        new_weights
        if known is None
        else [_DECAY * old + new for old, new in zip(known.weights, new_weights, strict=True)]
    )
    total = sum(weights)
    ended = [mass / total for mass in accumulate(weights)]
    remaining = [max(0.0, 1.0 - share) for share in ended]
    roots = [math.sqrt(weight / total * width) for weight, width in zip(weights, _WIDTHS, strict=True)]
    scale = _POLLS_PER_JOB / sum(roots)
    return DurationProfile(
        weights=tuple(weights),
        samples=(0.0 if known is None else _DECAY * known.samples) + len(durations),
        onset=_EDGES[bisect_left(ended, _ONSET_SHARE)],
        remaining=tuple(remaining),
        poll_curve_many=tuple(accumulate(scale * root for root in roots)),
        poll_curve_few=tuple(
            accumulate(
                scale * root / math.sqrt(max((before + after) / 2, _MIN_REMAINING))
                for root, before, after in zip(roots, (1.0, *remaining), remaining, strict=False)
            )
        ),
    )


def _smoothed(durations: Sequence[float]) -> list[float]:
    """Return the share of durations in each bin, each spread over its neighbours: the fewer there are, the wider."""
    reach = 2 if len(durations) >= SAMPLES // 2 else 6
    weights = [0.0] * _BINS
    for duration in durations:
        middle = _bin(duration)
        for step in range(-reach, reach + 1):
            index = min(max(middle + step, 0), _BINS - 1)
            weights[index] += (reach + 1 - abs(step)) / (reach + 1) ** 2 / len(durations)
    return weights


def unprofiled_poll_delay(*, age: float, live: int, rate: float) -> float:
    """Return the seconds until something without a duration profile is polled again.

    This is a share of its age: a wait of a minute can go on for six seconds more. It is never so short that all of them
    together would need more polls than there are.

    Args:
        age: Seconds since the wait began.
        live: How many are polled.
        rate: Polls a second for all of them.
    """
    return max(_delay_by_age(age), live / rate)


def next_poll_delay(
    *,
    age: float,
    profile: DurationProfile | None = None,
    total: int = 1,
    remaining: int = 1,
    load: float = 1.0,
    round_robin_interval: float = math.inf,
) -> float:
    """Return the seconds until a job is polled again.

    Args:
        age: Seconds since the job was accepted, or since it was picked up.
        profile: The profile of this kind of job; None if there is none, or if the time of acceptance is not known.
        total: How many sub-jobs the job has.
        remaining: How many of them are not known to have ended.
        load: The ratio of the polls that all jobs demand to those they may get, at least 1.
        round_robin_interval: Seconds between two polls of a job if all jobs were polled in turn.
    """
    if profile is None or profile.samples < _MIN_SAMPLES:
        return load * _delay_by_age(age)
    if age < profile.onset:
        longest = load * _MAX_BEFORE_ONSET
    else:
        # The last sub-jobs of a batch are what its caller waits for, so they are not polled less than in turn.
        usual = min(_delay_by_age(age), _MAX_PROFILED_DELAY)
        longest = min(load * usual, max(usual, round_robin_interval))
    weight = 1 + (_WEIGHT_OF_1000 - 1) * math.log10(max(total, 1)) / 3
    share = min(remaining / max(total, 1), 1.0)
    if remaining > _FEW:
        # The eagerness grows while the job is behind its kind, and shrinks while it is ahead.
        curve, usual_share = profile.poll_curve_many, _read(profile.remaining, age, 1.0)
        eagerness = min(max(math.sqrt(share / max(usual_share, _MIN_REMAINING)), 1 / 3), 3.0)
    else:
        curve, eagerness = profile.poll_curve_few, math.sqrt(max(share, _MIN_REMAINING))
    delay = _find(curve, _read(curve, age, 0.0) + load / weight / eagerness) - age
    return max(_MIN_DELAY, min(delay, longest))


def demand(delay: float, load: float) -> float:
    """Return how many polls a second a job with this delay would get if it were the only one.

    A job that is to be polled at once gets one poll, and that is no demand on the others.

    Args:
        delay: Seconds until it is polled.
        load: The load that the delay was found with.
    """
    return min(load / delay, 1 / _MIN_DELAY) if delay > 0 else 0.0


def failure_delay(failures: int) -> float:
    """Return the seconds until a job is polled again after `failures` failed polls in a row, at least one."""
    return float(min(_MAX_AFTER_FAILURE, _MIN_DELAY * 2 ** min(failures - 1, 16)))


def _delay_by_age(age: float) -> float:
    return min(max(age * _AGE_FRACTION, _MIN_DELAY), _MAX_DELAY)


def _bin(age: float) -> int:
    return min(bisect_left(_EDGES, age), _BINS - 1)


def _read(curve: tuple[float, ...], age: float, first: float) -> float:
    """Return the value of a curve at an age, interpolated; at age 0 it is `first`."""
    if age >= _EDGES[-1]:
        return curve[-1]
    index = _bin(age)
    before = curve[index - 1] if index else first
    return before + (curve[index] - before) * (age - _STARTS[index]) / _WIDTHS[index]


def _find(curve: tuple[float, ...], value: float) -> float:
    """Return the age at which a curve that rises from 0 reaches a value, infinity if it never does."""
    index = bisect_left(curve, value)
    if index == _BINS:
        return math.inf
    before = curve[index - 1] if index else 0.0
    return _STARTS[index] + _WIDTHS[index] * (value - before) / max(curve[index] - before, 1e-12)
