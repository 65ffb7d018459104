"""What a poll of a large job costs, and what is kept of a job under way.

A job of 1000 sub-jobs is polled: for the first time, with 20 ends more than before, and with none. The polls are read
in parts, as the watcher reads them, and as a whole. The unit is a glance: the same response decoded into nothing but
the status and the server of each sub-job, and those found that have ended and were not known to have. A reader that
keeps nothing of the last poll needs one for each.

A figure is the least CPU of many rounds, in each of which all readers take their turn. The bytes are those that Python
has allocated for a job after eight polls, the ids of its servers left out, divided by the number of its sub-jobs. The
exit status is 1 if a target was missed.

    python -m benchmarks.polls [ROUNDS]
"""

from __future__ import annotations

import functools
import gc
import random
import sys
import time
import tracemalloc
import uuid
from collections.abc import Callable, Container
from typing import Any

import msgspec

from benchmarks._report import judge, report
from bms_async.jobs.events import EventBus
from bms_async.jobs.poll_reading import SPLIT_FROM
from bms_async.jobs.record import JobRecord
from bms_async.models import Job, JobStatus, Model, SubJobEntities, decode
from bms_async.models.ids import canonical_id
from tests.support.virtual_clock import run_virtually

SUB_JOBS = 1000
ENDED, NEWS = 480, 20
POLLS = 8
ROUNDS = 100
AS_A_WHOLE = sys.maxsize
COSTS = f"{NEWS} ends (glances)"
WAYS = {"in parts": SPLIT_FROM, "as a whole": AS_A_WHOLE}
MAX_GLANCES = 2.0
"""Glances that a poll with news may cost."""
MAX_BYTES = {"in flight": 200.0, "half of them ended": 400.0}


class GlancedSubJob(Model, frozen=True, kw_only=True, rename={"about": "entities"}):
    """The status of a sub-job, and what it is about."""

    status: JobStatus = JobStatus.INIT
    about: SubJobEntities | tuple[SubJobEntities, ...] | None = None


class GlancedEntities(Model, frozen=True, kw_only=True):
    """The sub-jobs of a glance."""

    sub_jobs: tuple[GlancedSubJob, ...] = ()


class Glance(Model, frozen=True, kw_only=True):
    """A job, decoded into the least that shows what has ended."""

    status: JobStatus
    entities: GlancedEntities


class Cloud:
    """A job, some of whose sub-jobs have ended."""

    def __init__(self) -> None:
        draw = random.Random(1)
        self.servers = tuple(str(uuid.UUID(int=draw.getrandbits(128))) for _ in range(SUB_JOBS))
        self._jobs = [f"{draw.getrandbits(128):032x}" for _ in range(SUB_JOBS)]

    def poll(self, ended: int) -> bytes:
        """Return the response to a poll, as the reference prints one."""
        subs = [
            {
                "status": "SUCCESS" if number < ended else "RUNNING",
                "entities": {"server_id": server_id},
                "job_id": self._jobs[number],
                "job_type": "baremetalSingleOperate",
                "begin_time": f"2019-04-25T20:04:{number % 60:02}.{number:03}Z",
                "end_time": f"2019-04-25T20:08:{number % 60:02}.{number:03}Z" if number < ended else "",
                "error_code": None,
                "fail_reason": None,
            }
            for number, server_id in enumerate(self.servers)
        ]
        job = {
            "job_id": "2c9eb2c5544cbf6101544f0602af2b4f",
            "job_type": "baremetalBatchOperate",
            "status": "RUNNING",
            "entities": {"sub_jobs_total": SUB_JOBS, "sub_jobs": subs},
            "begin_time": "2019-04-25T20:04:34.604Z",
            "end_time": "",
            "error_code": None,
            "fail_reason": None,
        }
        return msgspec.json.encode(job)

    def record(self) -> JobRecord:
        """Return the record of the job before its first poll."""
        return JobRecord("j", self.servers, "servers.stop", since=0.0, started=True, bus=EventBus(lambda: None))


def glance(body: bytes, known: Container[str]) -> list[str]:
    """Return the servers whose sub-jobs have ended since they were looked at."""
    ended = (sub.about for sub in decode(body, Glance).entities.sub_jobs if sub.status.is_final)
    servers = (about.server_id for about in ended if isinstance(about, SubJobEntities) and about.server_id)
    return [server_id for server_id in servers if canonical_id(server_id) not in known]


def read(record: JobRecord, body: bytes, split_from: int) -> None:
    """Apply one poll, as the watcher does."""
    poll = record.make_reader(split_from=split_from).read(body, lambda shown: decode(shown, Job))
    if poll is not None:
        record.update(poll)
    record.note_progress(1.0)


def cost_of(work: Callable[[], object]) -> float:
    """Return the CPU of one run, in milliseconds."""
    gc.collect()
    begun = time.process_time()
    kept = work()
    spent = time.process_time() - begun
    del kept
    return 1000 * spent


def measure_polls(cloud: Cloud, rounds: int) -> tuple[float, dict[str, list[float]]]:
    """Return the cost of a glance, and of each way the costs of a first poll, one with news, and one without."""
    before, after = cloud.poll(ENDED), cloud.poll(ENDED + NEWS)
    known = frozenset(cloud.servers[:ENDED])
    glances = []
    costs: dict[str, list[list[float]]] = {way: [] for way in WAYS}
    for _ in range(rounds):
        glances.append(cost_of(lambda: glance(after, known)))
        for way, split_from in WAYS.items():
            record = cloud.record()
            # Copies, since bytes remember their hash.
            bodies = [bytes(bytearray(body)) for body in (before, after, after)]
            polls = [cost_of(functools.partial(read, record, body, split_from)) for body in bodies]
            assert len(record.ended) == ENDED + NEWS
            costs[way].append(polls)
    return min(glances), {way: [min(each) for each in zip(*polls, strict=True)] for way, polls in costs.items()}


def bytes_kept(cloud: Cloud, ended: int, split_from: int) -> float:
    """Return the bytes for each sub-job after some polls, in the last of which so many have ended."""
    tracemalloc.start()
    record = cloud.record()
    for number in range(POLLS):
        read(record, cloud.poll(ended * number // (POLLS - 1)), split_from)
    gc.collect()
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return kept / SUB_JOBS


def main(rounds: int = ROUNDS) -> int:
    """Measure, print and save; return the exit status."""

    async def measure() -> list[dict[str, Any]]:
        cloud = Cloud()
        unit, costs = measure_polls(cloud, rounds)
        rows: list[dict[str, Any]] = []
        for way, split_from in WAYS.items():
            first, news, none = costs[way]
            rows.append(
                {
                    "read": way,
                    "glance (ms)": unit,
                    "first (ms)": first,
                    f"{NEWS} ends (ms)": news,
                    "no news (ms)": none,
                    COSTS: news / unit,
                    "no news (glances)": none / unit,
                    **{
                        f"bytes, {what}": bytes_kept(cloud, ended, split_from)
                        for what, ended in zip(MAX_BYTES, (0, SUB_JOBS // 2), strict=True)
                    },
                }
            )
        return rows

    rows = run_virtually(measure)
    report("polls", rows)
    ours = rows[0]
    targets = {
        f"a poll with {NEWS} ends costs at most {MAX_GLANCES:g} glances": ours["20 ends (glances)"] <= MAX_GLANCES
    }
    for what, bound in MAX_BYTES.items():
        targets[f"under {bound:g} bytes a sub-job, {what}"] = ours[f"bytes, {what}"] < bound
    return judge(targets)


if __name__ == "__main__":
    raise SystemExit(main(*map(int, sys.argv[1:])))
