"""How soon the watcher sees that a sub-job has ended, and with how many polls, on the virtual clock.

A constant number of jobs is in flight, each of one server or of a whole batch. Their sub-jobs take 2 to 15 minutes,
drawn from a distribution of each kind of job, which the watcher has to learn from jobs that end before the measured
ones. Two further schedules are those that people write by hand: each job polled every 2 s, and every 5 s, stretched to
the limit of 2000 polls a minute.

Two bounds are for the number of polls that the watcher made. They place polls freely, however many come in one minute,
and their polls take no time:

``best``: the least mean delay for a schedule that knows the distributions, but no end before it was polled. It is found
by going backwards through the ages of a job: from each age, the next poll with the least cost of delay and polls, of
which none is made once the job has ended. For jobs of one server nothing else can be known, so no schedule can do
better. (Polls are placed on a grid of two seconds, within a hundredth of the best for such distributions.) In large
batches, a schedule that counts how many have ended already might gain a little on it. The target is 1.3 times of it.

``clairvoyant``: the least mean delay for a schedule that knows every end beforehand, a true lower bound for any: the
best cut of the ends of each job into as many groups as it has polls, with polls given to jobs so that the sum is the
least (Lagrange's dual, which is below the best for any price of a poll). With as many polls as there are sub-jobs it
is 0. Where ``best`` is more than 1.3 times as large, no schedule without foresight comes within 1.3 times of it.

The watcher is real and its polls need no HTTP, so that 2,000 jobs fit into a minute. The last row is the whole client
with the simulator, whose sub-jobs are drawn evenly from the same 2 to 15 minutes.
"""

from __future__ import annotations

import math
import random
import statistics
from bisect import bisect_right
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import anyio
from anyio.abc import TaskGroup

from benchmarks._report import judge, report
from benchmarks._schedules import Kind, clairvoyant_delay, foresighted_delay
from bms_async import Job, JobStatus, SubJob
from bms_async.jobs import POLL_BUDGET_SHARE, Watcher
from bms_async.limits import Pacer
from bms_async.models import JobEntities, SubJobEntities
from tests.support.clouds import simulated
from tests.support.virtual_clock import run_virtually

LIMIT = 2000
TARGET = 1.3
MIN_SECONDS, MAX_SECONDS = 120.0, 900.0
LATENCY = (0.04, 0.16)
EPOCH = datetime(2026, 1, 1, tzinfo=UTC)

LAWS = {"servers.stop": (210.0, 0.35), "servers.start": (330.0, 0.3), "servers.reboot": (480.0, 0.25)}
"""Kinds of jobs: the median of their sub-jobs in seconds, and the spread of its logarithm."""

CASES = (
    # Live jobs, servers a job, seconds until the watcher has learned, seconds in which the measured jobs begin.
    (1, 1000, 9_000.0, 25_000.0),
    (100, 1000, 1_200.0, 400.0),
    (2000, 200, 1_000.0, 120.0),
    (1, 1, 20_000.0, 100_000.0),
    (100, 1, 1_200.0, 600.0),
    (2000, 1, 1_000.0, 200.0),
)


@dataclass(slots=True)
class Work:
    """A job of the cloud, its polls, and the delay of each sub-job's end."""

    kind: str
    begun: float
    ends: list[float]
    measured: bool
    shown: list[SubJob] = field(default_factory=list)
    polls: int = 0
    delays: list[float] = field(default_factory=list)


class Cloud:
    """Jobs whose sub-jobs end at drawn times."""

    def __init__(self, together: int, rng: random.Random, measured: tuple[float, float]) -> None:
        self.rng = rng
        self.works: dict[str, Work] = {}
        self.polled_at: list[float] = []
        self.names = tuple(f"s{number}" for number in range(together))
        self._measured = measured
        self._about = [SubJobEntities(server_id=name) for name in self.names]
        self._running = tuple(SubJob(status=JobStatus.RUNNING, about=about) for about in self._about)

    def start(self, job_id: str) -> Work:
        """Draw how long the sub-jobs of a new job take."""
        kind = self.rng.choice(list(LAWS))
        now = anyio.current_time()
        ends = sorted(now + draw(kind, self.rng) for _ in self.names)
        begin, end = self._measured
        self.works[job_id] = work = Work(kind, now, ends, begin <= now < end)
        return work

    async def fetch(self, job_id: str, *_: object) -> Job | None:
        """Return the result of a poll, as the client does: None where there is nothing new."""
        self.polled_at.append(anyio.current_time())
        work = self.works[job_id]
        work.polls += 1
        job = self._show(job_id, work)
        await anyio.sleep(self.rng.uniform(*LATENCY))
        return job

    def _show(self, job_id: str, work: Work) -> Job | None:
        ended = bisect_right(work.ends, anyio.current_time())
        if ended == len(work.shown) and work.polls > 1:
            return None
        for number in range(len(work.shown), ended):
            at = EPOCH + timedelta(seconds=work.ends[number])
            work.shown.append(SubJob(status=JobStatus.SUCCESS, about=self._about[number], _end_time=at.isoformat()))
        subs = (*work.shown, *self._running[ended:])
        return Job(
            job_id=job_id,
            status=JobStatus.SUCCESS if ended == len(subs) else JobStatus.RUNNING,
            _begin_time=(EPOCH + timedelta(seconds=work.begun)).isoformat(),
            entities=JobEntities(sub_jobs_total=len(subs), sub_jobs=subs),
        )


def draw(kind: str, rng: random.Random) -> float:
    """Return how many seconds a sub-job takes."""
    median, spread = LAWS[kind]
    while True:
        seconds = median * rng.lognormvariate(0.0, spread)
        if MIN_SECONDS <= seconds <= MAX_SECONDS:
            return seconds


def law_of(kind: str) -> Callable[[float], float]:
    """Return the distribution of a kind: the share of its sub-jobs that have ended by an age."""
    median, spread = LAWS[kind]
    whole = statistics.NormalDist(math.log(median), spread)
    below = whole.cdf(math.log(MIN_SECONDS))
    within = whole.cdf(math.log(MAX_SECONDS)) - below
    return lambda age: min(1.0, max(0.0, whole.cdf(math.log(max(age, 1.0))) - below) / within)


def even_law(age: float) -> float:
    """Return the share of the simulator's sub-jobs that have ended by an age."""
    return min(1.0, max(0.0, (age - MIN_SECONDS) / (MAX_SECONDS - MIN_SECONDS)))


def watch(live: int, together: int, warm_up: float, measured: float) -> tuple[list[Work], int]:
    """Keep so many jobs in flight; return the measured ones, and the most polls that came in any minute."""

    async def main() -> tuple[list[Work], int]:
        cloud = Cloud(together, random.Random(live), (warm_up, warm_up + measured))
        watcher = Watcher(cloud.fetch, pace=Pacer(LIMIT * POLL_BUDGET_SHARE), project=lambda: "p")
        await watcher.open()
        async with anyio.create_task_group() as tasks:
            for number in range(live):
                tasks.start_soon(one_after_the_other, f"j{number}", cloud, watcher, tasks, live)
        await watcher.aclose()
        return [work for work in cloud.works.values() if work.measured], most_in_a_minute(cloud.polled_at)

    async def one_after_the_other(name: str, cloud: Cloud, watcher: Watcher, tasks: TaskGroup, live: int) -> None:
        await anyio.sleep(cloud.rng.uniform(0.0, 600.0) * (live > 1))
        number = 0
        while True:
            number += 1
            job_id = f"{name}.{number}"
            work = cloud.start(job_id)
            ends = iter(work.ends)
            async for _ in watcher.watch(job_id, servers=cloud.names, action=work.kind).sub_jobs():
                work.delays.append(anyio.current_time() - next(ends))
            work.shown.clear()
            if not work.measured:
                del cloud.works[job_id]
            over = anyio.current_time() > warm_up + measured
            if over and all(len(work.delays) == together for work in cloud.works.values() if work.measured):
                tasks.cancel_scope.cancel()

    return run_virtually(main)


def watch_through_the_client(jobs: int) -> tuple[list[Work], int]:
    """Watch batches one after the other, by the client and in the simulator; from the first half it learns."""

    async def main() -> tuple[list[Work], int]:
        works = []
        async with simulated(servers=1000, job_seconds=(MIN_SECONDS, MAX_SECONDS), seed=1) as (bms, cloud):
            for number in range(jobs):
                action = (bms.servers.stop, bms.servers.start)[number % 2]
                before = cloud.call_counts().operations["jobs.get"].arrived if number else 0
                begun = anyio.current_time()
                handle = await action(list(cloud.servers))
                seen = [(sub, anyio.current_time()) async for sub in handle.sub_jobs()]
                job = await handle
                assert job.begin_time is not None
                began = job.begin_time
                spans = sorted((begun + (sub.end_time - began).total_seconds(), at) for sub, at in seen if sub.end_time)
                work = Work("", begun, [end for end, _ in spans], number >= jobs // 2)
                work.polls = cloud.call_counts().operations["jobs.get"].arrived - before
                work.delays = [at - end for end, at in spans]
                works.append(work)
            most = cloud.call_counts().operations["jobs.get"].worst_minute
        return [work for work in works if work.measured], most

    return run_virtually(main)


def most_in_a_minute(moments: Sequence[float]) -> int:
    """Return how many polls came in the worst 60 s."""
    window: deque[float] = deque()
    most = 0
    for moment in moments:
        window.append(moment)
        while window[0] <= moment - 60.0:
            window.popleft()
        most = max(most, len(window))
    return most


def poll_every(wanted: float, works: Sequence[Work], live: int) -> list[Work]:
    """Return the jobs as if each had been polled at fixed times, as often as the limit allows."""
    period = max(wanted, live * 60.0 / LIMIT)
    return [
        Work(
            work.kind,
            work.begun,
            work.ends,
            measured=True,
            polls=math.ceil((work.ends[-1] - work.begun) / period),
            delays=[(work.begun - end) % period + sum(LATENCY) / 2 for end in work.ends],
        )
        for work in works
    ]


def row_of(live: int, how: str, works: Sequence[Work], most: int) -> dict[str, object]:
    """Return the row of a schedule."""
    delays = sorted(delay for work in works for delay in work.delays)
    return {
        "live": live,
        "servers a job": len(works[0].ends),
        "polled": how,
        "jobs": len(works),
        "mean delay (s)": statistics.fmean(delays),
        "99th percentile (s)": delays[int(0.99 * len(delays))],
        "of the last (s)": statistics.fmean(work.delays[-1] for work in works),
        "polls a job": sum(work.polls for work in works) / len(works),
        "in a minute": most,
        "best (s)": "",
        "times": "",
        "clairvoyant (s)": "",
    }


def bound(row: dict[str, object], works: Sequence[Work], laws: dict[str, Callable[[float], float]]) -> float:
    """Add the bounds to the watcher's row, and return how many times the best its delay is."""
    together, polls = len(works[0].ends), sum(work.polls for work in works)
    kinds = [
        (Kind(law, longest=MAX_SECONDS, together=together), sum(work.kind == kind for work in works) / len(works))
        for kind, law in laws.items()
    ]
    best = foresighted_delay(kinds, polls / len(works))
    times = statistics.fmean(delay for work in works for delay in work.delays) / best
    row["best (s)"], row["times"] = best, times
    row["clairvoyant (s)"] = clairvoyant_delay([work.ends for work in works], polls)
    return times


def main() -> int:
    """Run all cases; return the exit status, 1 if a target was missed."""
    rows, targets = [], {}
    laws = {kind: law_of(kind) for kind in LAWS}
    for live, together, warm_up, measured in CASES:
        works, most = watch(live, together, warm_up, measured)
        row = row_of(live, "by the watcher", works, most)
        times = bound(row, works, laws)
        rows.append(row)
        for period in (2, 5):
            others = poll_every(period, works, live)
            rows.append(row_of(live, f"every {period} s", others, min(LIMIT, live * 60 // period)))
        case = f"{live:,} live jobs of {together:,}"
        targets[f"{case}: {times:.2f} times the best, at most {TARGET}"] = times <= TARGET
        targets[f"{case}: {most:,} polls in the worst minute, at most {LIMIT * POLL_BUDGET_SHARE:,.0f}"] = (
            most <= LIMIT * POLL_BUDGET_SHARE
        )
    works, most = watch_through_the_client(16)
    row = row_of(1, "by the client", works, most)
    times = bound(row, works, {"": even_law})
    rows.append(row)
    targets[f"through the client: {times:.2f} times the best, at most {TARGET}"] = times <= TARGET
    report("watch", rows)
    return judge(targets)


if __name__ == "__main__":
    raise SystemExit(main())
