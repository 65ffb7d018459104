"""A program that stops a fleet and saves each job; run again after it was killed, it goes on with them.

python -m tests.fleet._killed_run ADDRESS PROJECT TOKEN FILE
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

import httpx

from bms_async import BmsClient, HttpxTransport, JobHandle, StaticToken


async def main(address: str, project: str, token: str, saved: Path, lines: list[str]) -> None:
    def save(job: JobHandle) -> None:
        with saved.open("a") as file:
            file.write(job.to_json() + "\n")
        tell("saved")

    transport = HttpxTransport(httpx.AsyncClient(trust_env=False))
    async with BmsClient(endpoint=address, project_id=project, auth=StaticToken(token), transport=transport) as bms:
        ids = [server.id async for server in bms.servers.list()]
        jobs = [bms.jobs.restore(line) for line in lines]
        report = await bms.fleet.stop(ids, jobs=jobs, on_job=save, verify=True)
        tell(report.to_json().decode())


def tell(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    _, address, project, token, path = sys.argv
    file = Path(path)
    lines = file.read_text().splitlines() if file.exists() else []
    asyncio.run(main(address, project, token, file, lines))
