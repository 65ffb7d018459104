"""Jobs that processes with one journal share: what the journal costs a job of 1000 servers, with readers and without.

    python -m benchmarks.job_events [--jobs N] [--rounds N] [--tree PATH ...]

A client watches jobs that begin one after the other and end a part at a time. It has no journal, or one in which nobody
wants events, or one and a reader of them. The three take turns, in processes of their own; what the first one spends is
what the polls cost. With ``--tree`` each turn is made with the package of several working trees, to compare them. The
CPU is that of the client's process, reader and store's thread included; a PostgreSQL's own is given beside it.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

import anyio
import msgspec
import psutil  # type: ignore[import-untyped]

from bms_async import JobEnded, Runs
from bms_async.jobs import PartialPoll, PollReader, Watcher
from bms_async.jobs.board import JobBoard
from bms_async.journal.statements import Transaction, ask
from bms_async.limits import Pacer
from bms_async.models import Job
from tests.support.postgres import running_postgres

SERVERS = 1000
SECONDS = 12.0
"""How long a job takes."""

BEGIN_EVERY = 0.2
STAGES = 12
MODES = ("no journal", "no reader", "reader")


class _Session:
    project_id = "p"

    async def find_project_id(self, _what: str) -> str:
        return self.project_id


def _bodies() -> tuple[tuple[str, ...], list[bytes]]:
    """The servers, and the job as it is shown when each part of it has ended."""
    ids = tuple(str(uuid.uuid4()) for _ in range(SERVERS))
    names = [uuid.uuid4().hex for _ in ids]
    bodies = []
    for stage in range(STAGES + 1):
        ended = SERVERS * stage // STAGES
        subs = [
            {
                "status": "SUCCESS" if at < ended else "RUNNING",
                "entities": {"server_id": server_id},
                "job_id": name,
                "job_type": "serverStop",
                "begin_time": f"2026-01-01T00:00:{at % 7:02d}.{at % 1000:03d}Z",
                "end_time": f"2026-01-01T00:01:{at * 59 // SERVERS:02d}.{at * 7 % 1000:03d}Z" if at < ended else "",
                "error_code": None,
                "fail_reason": None,
            }
            for at, (server_id, name) in enumerate(zip(ids, names, strict=True))
        ]
        entities = {"sub_jobs_total": SERVERS, "sub_jobs": subs}
        job = {"job_id": "j", "status": "SUCCESS" if ended == SERVERS else "RUNNING", "entities": entities}
        bodies.append(msgspec.json.encode(job))
    return ids, bodies


async def _watch(mode: str, store: str, jobs: int) -> dict[str, float]:
    ids, bodies = _bodies()
    began: dict[str, float] = {}

    async def fetch(job_id: str, reader: PollReader) -> Job | PartialPoll | None:
        stage = min(STAGES, int((time.monotonic() - began[job_id]) / SECONDS * STAGES))
        return reader.read(bodies[stage], lambda shown: msgspec.json.decode(shown, type=Job))

    runs = Runs(store or None)
    board = None if mode == "no journal" else JobBoard(runs.journal, _Session(), "e")  # type: ignore[arg-type]
    watcher = Watcher(fetch, pace=Pacer(6000), project=lambda: "p", board=board)
    await watcher.open()
    cpu = time.process_time()
    async with anyio.create_task_group() as tasks:
        if mode == "reader":
            tasks.start_soon(_read, watcher, jobs)
        await asyncio.sleep(0.5)

        async def wait(job_id: str) -> None:
            began[job_id] = time.monotonic()
            await watcher.watch(job_id, servers=ids, action="servers.stop")

        for _ in range(jobs):
            tasks.start_soon(wait, uuid.uuid4().hex)
            await asyncio.sleep(BEGIN_EVERY)
    await asyncio.sleep(1.0)
    cpu = time.process_time() - cpu
    size = 0.0
    if board is not None:
        size = await runs.journal.run(_measure, writes=False)
    await watcher.aclose()
    return {"cpu": cpu / jobs * 1000, "bytes": size / jobs}


def _measure() -> Transaction[float]:
    total = 0.0
    for sql in (
        "SELECT coalesce(sum(length(body)), 0) FROM bms_async_events",
        "SELECT coalesce(sum(length(servers)), 0) FROM bms_async_jobs",
    ):
        ((size,),) = yield from ask(sql)
        total += float(size or 0)
    return total


async def _read(watcher: Watcher, jobs: int) -> None:
    ended = 0
    async with watcher.shared_events("") as events:
        async for event in events:
            ended += isinstance(event, JobEnded)
            if ended == jobs:
                return


def _turn(tree: str, mode: str, store: str, jobs: int) -> dict[str, float]:
    """Make one turn with the package of a tree, in a process of its own."""
    words = [sys.executable, __file__, "--turn", mode, "--store", store, "--jobs", str(jobs)]
    done = subprocess.run(words, env={**os.environ, "PYTHONPATH": tree}, cwd=tree, check=True, capture_output=True)
    turn: dict[str, float] = json.loads(done.stdout)
    return turn


def _spent(pid: int) -> float:
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return sum(sum(process.cpu_times()[:4]) for process in processes if process.is_running())


async def _compare(trees: list[str], jobs: int, rounds: int) -> None:
    found: dict[tuple[str, str, str], list[dict[str, float]]] = {}
    with running_postgres() as postgres, tempfile.TemporaryDirectory() as folder:
        connection = await postgres.connect()
        server = psutil.Process(await connection.fetchval("SELECT pg_backend_pid()")).ppid()
        await connection.close()
        for number in range(rounds):
            for mode in MODES:
                for store in ("SQLite", "PostgreSQL"):
                    for tree in trees:
                        async with postgres.database() as database:
                            path = Path(folder) / f"{number}-{len(found)}-{mode}.db"
                            url = f"sqlite://{path}" if store == "SQLite" else postgres.url(database)
                            before = _spent(server)
                            turn = await anyio.to_thread.run_sync(_turn, tree, mode, url, jobs)
                            turn["server"] = (_spent(server) - before) / jobs * 1000
                            found.setdefault((tree, store, mode), []).append(turn)
                            print(store, mode, tree, turn, file=sys.stderr, flush=True)
    for (tree, store, mode), turns in found.items():
        polls = statistics.median(turn["cpu"] for turn in found[tree, store, MODES[0]])
        cpu = statistics.median(turn["cpu"] for turn in turns)
        spent = statistics.median(turn["server"] for turn in turns)
        size = statistics.median(turn["bytes"] for turn in turns)
        print(
            f"{tree}: {store}, {mode}: {cpu:.1f} ms CPU a job, {cpu - polls:+.1f} ms for the journal; "
            f"server {spent:.1f} ms; {size:.0f} bytes"
        )


def main() -> None:
    """Compare, or make one turn."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--jobs", type=int, default=60)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tree", action="append", default=[])
    parser.add_argument("--turn", choices=MODES)
    parser.add_argument("--store", default="")
    options = parser.parse_args()
    if options.turn:
        print(json.dumps(asyncio.run(_watch(options.turn, options.store, options.jobs))))
        return
    trees = options.tree or [str(Path(__file__).parent.parent)]
    asyncio.run(_compare(trees, options.jobs, options.rounds))


if __name__ == "__main__":
    main()
