"""Lower bounds for the delay of any poll schedule, for `benchmarks/watch.py`."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from itertools import accumulate


def clairvoyant_delay(jobs: Sequence[Sequence[float]], polls: int) -> float:
    """Return the lower bound of the mean delay for a schedule that knows every end beforehand.

    Args:
        jobs: For each job, the ends of its sub-jobs in their order.
        polls: How many polls there are for all of them.
    """
    sample = jobs[:: max(1, len(jobs) // 100)]
    share = polls * sum(map(len, sample)) / sum(map(len, jobs))

    def made(price: float) -> float:
        return sum(_place(ends, price)[1] for ends in sample)

    # Any price gives a bound; the sample only has to find a good one.
    price = _price_for(made, share)
    total = sum(_place(ends, price)[0] for ends in jobs) - price * polls
    return max(0.0, total / sum(map(len, jobs)))


def _place(ends: Sequence[float], price: float) -> tuple[float, int]:
    """Return the least sum of the delays of one job and the price of its polls, and how many polls that takes.

    A poll is best made at the very end of a sub-job, and shows all that ended since the poll before. With the
    polls after ``j`` and after ``i`` ends, those between wait ``(i - j) * ends[i] - (sums[i] - sums[j])`` together,
    which makes the choice of ``j`` one of the lowest of straight lines, found by walking along them.
    """
    sums = [0.0, *accumulate(ends)]
    slopes, heights, counts = [0.0], [0.0], [0]
    at = 0
    least, count = 0.0, 0
    for number, end in enumerate(ends, start=1):
        at = min(at, len(slopes) - 1)
        while at + 1 < len(slopes) and heights[at + 1] + slopes[at + 1] * end <= heights[at] + slopes[at] * end:
            at += 1
        least = heights[at] + slopes[at] * end + number * end - sums[number] + price
        count = counts[at] + 1
        slope, height = -float(number), least + sums[number]
        while len(slopes) > 1 and (height - heights[-2]) * (slopes[-2] - slopes[-1]) <= (heights[-1] - heights[-2]) * (
            slopes[-2] - slope
        ):
            slopes.pop()
            heights.pop()
            counts.pop()
        slopes.append(slope)
        heights.append(height)
        counts.append(count)
    return least, count


class Kind:
    """How long the sub-jobs of one kind of job take, on a grid of seconds.

    Args:
        ended: Returns the share of sub-jobs that have ended by an age.
        longest: Seconds after which all have.
        together: How many sub-jobs a job has.
    """

    def __init__(self, ended: Callable[[float], float], *, longest: float, together: int) -> None:
        self.step = 2.0
        ages = [self.step * number for number in range(round(longest / self.step) + 1)]
        self.ended = [ended(age) for age in ages]
        self.alive = [1.0 - share**together for share in self.ended]
        # The area under that share: how long sub-jobs that ended between two polls wait for the second one.
        steps = ((before + after) / 2 * self.step for before, after in zip(self.ended, self.ended[1:], strict=False))
        self.area = [0.0, *accumulate(steps)]

    def place(self, price: float) -> tuple[float, float]:
        """Return the least mean delay with this price of a poll for each sub-job, and the polls a job that takes."""
        last = len(self.ended) - 1
        cost, polls = [0.0] * (last + 1), [0.0] * (last + 1)
        for start in range(last - 1, -1, -1):
            best, chosen = math.inf, last
            fee = price * self.alive[start]
            for end in range(start + 1, last + 1):
                wait = self.area[end] - self.area[start] - self.ended[start] * (end - start) * self.step
                if wait + fee > best:
                    break
                if wait + fee + cost[end] < best:
                    best, chosen = wait + fee + cost[end], end
            cost[start] = best
            polls[start] = self.alive[start] + polls[chosen]
        return cost[0], polls[0]


def foresighted_delay(kinds: Sequence[tuple[Kind, float]], polls: float) -> float:
    """Return the least mean delay for a schedule that knows how long each kind takes, and no single end beforehand.

    Args:
        kinds: Each kind with its share of the jobs.
        polls: How many polls a job there are.
    """

    def made(price: float) -> float:
        return sum(share * kind.place(price)[1] for kind, share in kinds)

    price = _price_for(made, polls)
    return sum(share * kind.place(price)[0] for kind, share in kinds) - price * polls


def _price_for(made: Callable[[float], float], polls: float) -> float:
    """Return the price of a poll at which about this number of polls is made."""
    low, high = 1e-9, 1e9
    for _ in range(40):
        price = math.sqrt(low * high)
        low, high = (price, high) if made(price) > polls else (low, price)
        if high / low < 1.001:
            break
    return math.sqrt(low * high)
