"""When to poll which job: pure, so that it can be read and tried without a cloud.

Say that the sub-jobs of a job end with the density ``f``, and that a job is polled with the density ``p``. An end is
then told ``1 / (2 p)`` after it came, and the mean delay for so many polls is the least where ``p`` is proportional to
the root of ``f``. So polls are placed where this kind of job has ended before, thinner where few ends are to be
expected; and when there are more of them than there may be, all are thinned out by one and the same factor, which is
the best that can be done with what there is.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate

import msgspec

POLL_BUDGET_SHARE = 0.9
"""The share of the limit of `jobs.get` that the watcher may use; the rest is for callers who ask themselves."""

SAMPLES = 128
"""How many ends of one job are learned from; more tell nothing new."""

_MIN_DELAY = 1.0
_MAX_DELAY = 15.0
_MAX_LEARNED = 10.0
# Before anything of the kind has ever ended: a job may all the same fail at once.
_MAX_BEFORE_ONSET = 30.0
_AGE_FRACTION = 0.1
_MAX_AFTER_FAILURE = 30.0

_POLLS_A_JOB = 60
# A batch of 1000 tells as many people something, and gets so many times more polls than one server.
_WEIGHT_OF_1000 = 1.75
# Three jobs of one server, of which the first two have begun to be forgotten.
_MIN_SAMPLES = 2.9
# Fifty jobs back counts for a third.
_DECAY = 0.98
_ONSET_SHARE = 0.005
_FEW = 2
# What has seldom been seen must not be taken for what never happens.
_MIN_REMAINING = 0.02

# Durations are counted in bins that grow by a twentieth, from half a second to four hours.
_FIRST = 0.5
_RATIO = 1.05
_BINS = 210
_EDGES = tuple(_FIRST * _RATIO**number for number in range(1, _BINS + 1))
_STARTS = (0.0, *_EDGES[:-1])
_WIDTHS = tuple(end - start for start, end in zip(_STARTS, _EDGES, strict=True))


class DurationProfile(msgspec.Struct, frozen=True):
    """How long the sub-jobs of one kind of job took, and where its polls belong for that.

    Attributes:
        weights: How many jobs' ends fell into each bin, the older the less.
        samples: How many ends that were.
        onset: Seconds before which hardly any sub-job has ended.
        remaining: The share of sub-jobs that had not ended by the end of each bin.
        poll_curve_many: How many polls are due by the end of each bin, while a job has many sub-jobs that have not
            ended.
        poll_curve_few: The same while there are few, and polling may be over any moment.
    """

    weights: tuple[float, ...]
    samples: float
    onset: float
    remaining: tuple[float, ...]
    poll_curve_many: tuple[float, ...]
    poll_curve_few: tuple[float, ...]


def update_profile(known: DurationProfile | None, durations: Sequence[float]) -> DurationProfile | None:
    """Return what is known of a kind of job, after one more of them has ended.

    Args:
        known: What was known, None if nothing.
        durations: Seconds from the acceptance of the job to the end of each of its sub-jobs.
    """
    if not durations:
        return known
    reach = 2 if len(durations) >= SAMPLES // 2 else 6
    fresh = [0.0] * _BINS
    for duration in durations:
        middle = _bin(duration)
        for step in range(-reach, reach + 1):
            number = min(max(middle + step, 0), _BINS - 1)
            fresh[number] += (reach + 1 - abs(step)) / (reach + 1) ** 2 / len(durations)
    weights = fresh if known is None else [_DECAY * old + new for old, new in zip(known.weights, fresh, strict=True)]
    total = sum(weights)
    ended = [mass / total for mass in accumulate(weights)]
    left = [max(0.0, 1.0 - share) for share in ended]
    roots = [math.sqrt(weight / total * width) for weight, width in zip(weights, _WIDTHS, strict=True)]
    scale = _POLLS_A_JOB / sum(roots)
    return DurationProfile(
        weights=tuple(weights),
        samples=(0.0 if known is None else _DECAY * known.samples) + len(durations),
        onset=_EDGES[bisect_left(ended, _ONSET_SHARE)],
        remaining=tuple(left),
        poll_curve_many=tuple(accumulate(scale * root for root in roots)),
        poll_curve_few=tuple(
            accumulate(
                scale * root / math.sqrt(max((before + after) / 2, _MIN_REMAINING))
                for root, before, after in zip(roots, (1.0, *left), left, strict=False)
            )
        ),
    )


def unprofiled_poll_delay(*, age: float, live: int, rate: float) -> float:
    """Return the seconds until what nothing is known of is polled again.

    A share of its age: who has waited a minute can wait six seconds more. Never so often that all together would need
    more polls than there are.

    Args:
        age: Seconds since it is waited for.
        live: How many are polled.
        rate: Polls a second for all of them.
    """
    return max(_unlearned(age), live / rate)


def next_poll_delay(
    *,
    age: float,
    profile: DurationProfile | None = None,
    total: int = 1,
    left: int = 1,
    load: float = 1.0,
    evenly: float = math.inf,
) -> float:
    """Return the seconds until a job is polled again.

    Args:
        age: Seconds since the job was accepted, or since it was picked up.
        profile: What is known of this kind of job; None if nothing, or if nobody knows when it was accepted.
        total: How many sub-jobs the job has.
        left: How many of them are not known to have ended.
        load: How many times more polls all jobs would make than they may, at least 1.
        evenly: Seconds between two polls of a job if all jobs were polled in turn.
    """
    if profile is None or profile.samples < _MIN_SAMPLES:
        return load * _unlearned(age)
    if age < profile.onset:
        longest = load * _MAX_BEFORE_ONSET
    else:
        # The last of a batch is what its caller waits for: it is not left alone for longer than it would be in turn.
        usual = min(_unlearned(age), _MAX_LEARNED)
        longest = min(load * usual, max(usual, evenly))
    weight = 1 + (_WEIGHT_OF_1000 - 1) * math.log10(max(total, 1)) / 3
    share = min(left / max(total, 1), 1.0)
    if left > _FEW:
        # Ahead of what is usual, or behind it.
        eagerness = min(max(math.sqrt(share / max(_read(profile.remaining, age, 1.0), _MIN_REMAINING)), 1 / 3), 3.0)
        delay = (
            _find(profile.poll_curve_many, _read(profile.poll_curve_many, age, 0.0) + load / weight / eagerness) - age
        )
    else:
        eagerness = math.sqrt(max(share, _MIN_REMAINING))
        delay = _find(profile.poll_curve_few, _read(profile.poll_curve_few, age, 0.0) + load / weight / eagerness) - age
    return max(_MIN_DELAY, min(delay, longest))


def demand(delay: float, load: float) -> float:
    """Return how many polls a second a job would make for this delay, if there were no other jobs.

    A job that is to be polled at once makes one poll, and nothing follows from that for the others.

    Args:
        delay: Seconds until it is polled.
        load: What that was found with.
    """
    return min(load / delay, 1 / _MIN_DELAY) if delay > 0 else 0.0


def failure_delay(failures: int) -> float:
    """Return the seconds until a job is polled again after so many failed polls in a row, at least one."""
    return float(min(_MAX_AFTER_FAILURE, _MIN_DELAY * 2 ** min(failures - 1, 16)))


def _unlearned(age: float) -> float:
    return min(max(age * _AGE_FRACTION, _MIN_DELAY), _MAX_DELAY)


def _bin(age: float) -> int:
    return min(bisect_left(_EDGES, age), _BINS - 1)


def _read(curve: tuple[float, ...], age: float, first: float) -> float:
    """Return what a curve says of an age; it has `first` at 0."""
    if age >= _EDGES[-1]:
        return curve[-1]
    number = _bin(age)
    before = curve[number - 1] if number else first
    return before + (curve[number] - before) * (age - _STARTS[number]) / _WIDTHS[number]


def _find(curve: tuple[float, ...], value: float) -> float:
    """Return the age at which a curve that rises from 0 comes to a value, infinity if it never does."""
    number = bisect_left(curve, value)
    if number == _BINS:
        return math.inf
    before = curve[number - 1] if number else 0.0
    return _STARTS[number] + _WIDTHS[number] * (value - before) / max(curve[number] - before, 1e-12)
