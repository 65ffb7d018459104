"""A watcher of a fake cloud, whose responses a test sets."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio

from bms_async import Job, JobStatus, SubJob
from bms_async.jobs import Watcher
from bms_async.limits import Pacer
from bms_async.models import JobEntities, SubJobEntities


def sub_job(server_id: str | None, status: str, **fields: Any) -> SubJob:
    return SubJob(about=SubJobEntities(server_id=server_id), status=JobStatus(status), **fields)


def job(status: str, *subs: SubJob, job_id: str = "j", total: int | None = None, **fields: Any) -> Job:
    entities = JobEntities(sub_jobs=subs, sub_jobs_total=total)
    return Job(job_id=job_id, status=JobStatus(status), entities=entities, **fields)


class FakeCloud:
    """What the cloud shows of each job, and when it was polled."""

    def __init__(self) -> None:
        self.says: dict[str, Job | Exception | Callable[[], Job | Exception]] = {}
        self.asked: defaultdict[str, list[float]] = defaultdict(list)

    @property
    def counts(self) -> Counter[str]:
        return Counter({job_id: len(moments) for job_id, moments in self.asked.items()})

    async def fetch(self, job_id: str, *_: object) -> Job:
        self.asked[job_id].append(anyio.current_time())
        said = self.says.get(job_id, job("RUNNING", job_id=job_id))
        said = said() if callable(said) else said
        if isinstance(said, Exception):
            raise said
        return said


@asynccontextmanager
async def watching(*, polls_a_minute: float = 1800) -> AsyncIterator[tuple[Watcher, FakeCloud]]:
    cloud = FakeCloud()
    watcher = Watcher(cloud.fetch, pace=Pacer(polls_a_minute), project=lambda: "p")
    await watcher.open()
    try:
        yield watcher, cloud
    finally:
        await watcher.aclose()
