"""A replica of a controller, in a process of its own: it reads events from its cursor on, and leads when it can.

All that it learns is a line of its file, with the cursor of the line: what it does with an event, and that it has read
it, is one step. So the next process of the same name goes on exactly there.
"""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import anyio
import httpx
import msgspec

from bms_async import BmsClient, HttpxTransport, JobEnded, Limits, Runs, StaticToken, SubJobEnded
from bms_async._clock import steady_time
from bms_async.jobs import board, board_follower
from bms_async.journal.transactions import jobs, leaders
from bms_async.runs import leader

LEASE = 2.0


class Part(msgspec.Struct, frozen=True, kw_only=True):
    """What a replica is told.

    Attributes:
        name: Its name, which its file has.
        endpoint: The gateway.
        runs: The journal.
        file: Where it writes.
        jobs: The jobs that it watches.
    """

    name: str
    endpoint: str
    runs: str
    file: str
    jobs: list[str]


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a replica has learned.

    Attributes:
        pid: Its process.
        cursor: Its cursor after the event; empty for a line of another kind.
        kind: The kind of the event, ``begun`` or ``leads``.
        job: The event's job.
        server: The event's server.
        fence: The fence with which it leads.
        at: When that was valid.
    """

    pid: int
    kind: str
    cursor: str = ""
    job: str = ""
    server: str | None = None
    fence: int = 0
    at: float = 0.0


def read_lines(file: Path) -> list[Line]:
    """Return what is written, without a line that was not finished."""
    if not file.exists():
        return []
    *lines, _ = file.read_bytes().split(b"\n")
    return [msgspec.json.decode(line, type=Line) for line in lines]


def run(part: Part, control: int) -> None:
    """Be a replica until the process is killed."""
    for module in (board, jobs, leaders, leader):
        module.LEASE = LEASE  # type: ignore[attr-defined]
    for module in (board, leader):
        module._MARGIN = LEASE / 10  # type: ignore[attr-defined]
    board.RENEW_EVERY = board_follower._TAKE_OVER_EVERY = leader._RENEW_EVERY = LEASE / 4
    board_follower._LOOK_EVERY = leader._LOOK_EVERY = 0.3
    with Path(part.file).open("ab", buffering=0) as file:

        def write(kind: str, **fields: object) -> None:
            file.write(msgspec.json.encode({"pid": os.getpid(), "kind": kind, **fields}) + b"\n")

        asyncio.run(_run(part, write))


async def _run(part: Part, write: object) -> None:
    assert callable(write)
    cursor = next((line.cursor for line in reversed(read_lines(Path(part.file))) if line.cursor), "")
    transport = HttpxTransport(httpx.AsyncClient(trust_env=False))
    async with BmsClient(
        endpoint=part.endpoint,
        project_id="p" * 32,
        auth=StaticToken(part.name),
        transport=transport,
        limits=Limits.unlimited(),
        runs=Runs(part.runs),
    ) as bms:
        write("begun")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_lead, bms, write)
            for job_id in part.jobs:
                bms.jobs.watch(job_id)
            async with bms.jobs.events(since=cursor) as events:
                async for event in events:
                    server = event.server_id if isinstance(event, SubJobEnded) else None
                    job_id = getattr(event, "job_id", "")
                    write(type(event).__name__, cursor=events.cursor, job=job_id, server=server)
                    assert isinstance(event, JobEnded) or job_id


async def _lead(bms: BmsClient, write: object) -> None:
    assert callable(write)
    async with bms.runs.lead("power") as term:
        while True:
            at = steady_time()
            if term.is_valid():
                write("leads", fence=term.fence, at=at)
            await anyio.sleep(0.05)
