"""Ten replicas of a controller in processes of their own, of which some are killed and begun again."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import anyio
import httpx
import msgspec

from bms_async import BmsClient, HttpxTransport, Limits, StaticToken
from tests.jobs._replica import Line, Part, read_lines
from tests.support.listener import Listener
from tests.support.machine import patience
from tests.support.nursery import Nursery, nursery
from tests.support.postgres import Postgres

REPLICAS = 10
SERVERS = 12
SECONDS = 5.0
JOBS = [f"{number}" * 32 for number in range(3)]
ALONE = ["a" * 32]


class Gateway:
    """What shows jobs, whose servers end one after the other from its first poll on, and counts the polls."""

    def __init__(self) -> None:
        self.polls: Counter[str] = Counter()
        self.most_at_once = 0
        self.last_poller = ""
        self._began: float | None = None
        self._in_flight: Counter[str] = Counter()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while head := await reader.readuntil(b"\r\n\r\n"):
            found, token = re.match(rb"GET \S*/jobs/(\w+)", head), re.search(rb"(?i)x-auth-token: (\S+)", head)
            assert found
            assert token
            job_id, self.last_poller = found[1].decode(), token[1].decode()
            self.polls[job_id] += 1
            self._in_flight[job_id] += 1
            self.most_at_once = max(self.most_at_once, self._in_flight[job_id])
            try:
                await asyncio.sleep(0.05)
                body = self._show(job_id)
            finally:
                self._in_flight[job_id] -= 1
            writer.write(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(body))
            writer.write(body)

    def _show(self, job_id: str) -> bytes:
        now = asyncio.get_running_loop().time()
        self._began = self._began or now
        ended = min(SERVERS, int((now - self._began) / SECONDS * SERVERS))
        subs = [
            {
                "status": "SUCCESS" if number < ended else "RUNNING",
                "entities": {"server_id": f"{job_id}-{number}"},
                "job_id": f"{job_id}-sub-{number}",
            }
            for number in range(SERVERS)
        ]
        status = "SUCCESS" if ended == SERVERS else "RUNNING"
        entities = {"sub_jobs_total": SERVERS, "sub_jobs": subs}
        return msgspec.json.encode({"job_id": job_id, "status": status, "entities": entities})


class Stage:
    def __init__(self, folder: Path, endpoint: str, runs: str, begin: Nursery[Part]) -> None:
        self._folder, self._endpoint, self._runs, self._nursery = folder, endpoint, runs, begin
        self.names = [f"replica-{number}" for number in range(REPLICAS)]

    def begin(self, name: str) -> None:
        file = str(self._folder / name)
        part = Part(name=name, endpoint=self._endpoint, runs=self._runs, file=file, jobs=JOBS)
        self._nursery.begin(part, 0)

    def lines(self, name: str) -> list[Line]:
        return read_lines(self._folder / name)

    def kill_and_begin_again(self, name: str) -> None:
        os.kill(self.lines(name)[-1].pid, signal.SIGKILL)
        self.begin(name)

    def terms(self) -> list[Line]:
        """All moments at which a replica led, in their order."""
        led = [line for name in self.names for line in self.lines(name) if line.kind == "leads"]
        return sorted(led, key=lambda line: line.at)

    def events(self, name: str) -> list[Line]:
        return [line for line in self.lines(name) if line.cursor]

    def is_over(self, name: str) -> bool:
        return sum(line.kind == "JobEnded" for line in self.events(name)) == len(JOBS)

    def leader(self) -> str:
        pid = self.terms()[-1].pid
        return next(name for name in self.names if any(line.pid == pid for line in self.lines(name)))


async def until(predicate: Callable[[], bool]) -> None:
    with anyio.fail_after(patience(20.0)):
        while not predicate():  # noqa: ASYNC110 - files of other processes
            await anyio.sleep(0.05)


async def poll_alone(endpoint: str) -> None:
    """Be a controller of one process, for comparison."""
    transport = HttpxTransport(httpx.AsyncClient(trust_env=False))
    async with BmsClient(
        endpoint=endpoint,
        project_id="p" * 32,
        auth=StaticToken("alone"),
        transport=transport,
        limits=Limits.unlimited(),
    ) as bms:
        await bms.jobs.watch(ALONE[0])


async def test_ten_replicas_poll_once_and_lead_one_by_one_and_miss_no_event_when_they_are_killed(
    tmp_path: Path, postgres: Postgres, database: str
) -> None:
    gateway = Gateway()
    with nursery(Part) as begin:
        async with Listener(gateway.serve) as listener, anyio.create_task_group() as tasks:
            endpoint = f"http://127.0.0.1:{listener.port}"
            stage = Stage(tmp_path, endpoint, postgres.url(database), begin)
            for name in stage.names:
                stage.begin(name)
            await until(lambda: all(stage.lines(name) for name in stage.names) and bool(stage.terms()))
            tasks.start_soon(poll_alone, endpoint)
            await until(lambda: any(line.kind == "SubJobEnded" for line in stage.events(stage.names[0])))
            # Whoever leads, whoever polls, and one more.
            killed = {stage.leader(), gateway.last_poller.replace("alone", stage.names[1]), stage.names[2]}
            for name in killed:
                stage.kill_and_begin_again(name)
            await until(lambda: all(map(stage.is_over, stage.names)))
            first_leader = stage.terms()[0].pid
            await until(lambda: stage.terms()[-1].pid != first_leader)
    events = [[(line.cursor, line.kind, line.job, line.server) for line in stage.events(name)] for name in stage.names]
    assert all(each == events[0] for each in events)
    assert [cursor for cursor, *_ in events[0]] == [str(number) for number in range(1, len(events[0]) + 1)]
    ends = Counter(server for _, kind, _, server in events[0] if kind == "SubJobEnded")
    assert ends == Counter(f"{job_id}-{number}" for job_id in JOBS for number in range(SERVERS))
    assert gateway.most_at_once == 1
    # One more for each that was killed, with which its age begins anew.
    assert max(gateway.polls[job_id] for job_id in JOBS) <= 2 * gateway.polls[ALONE[0]] + 2 * len(killed)
    terms = stage.terms()
    assert all(before.fence <= after.fence for before, after in pairwise(terms))
    assert len({line.fence for line in terms}) == len({(line.fence, line.pid) for line in terms}) > 1
