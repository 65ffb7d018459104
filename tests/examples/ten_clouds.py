"""Serves ten simulated clouds in one process, each with a project and a token of its own, until it is killed.

It prints a line of JSON with their addresses. Cloud N has the project `project-N` and the token `token-N`.
"""

from __future__ import annotations

import json
import socket

import anyio
import uvicorn

from bms_async.simulator import Cloud, CloudSettings, create_app


async def main() -> None:
    addresses = []
    async with anyio.create_task_group() as tasks:
        for number in range(10):
            settings = CloudSettings(
                servers=20,
                seed=number,
                project_id=f"project-{number}",
                token=f"token-{number}",
                job_seconds=(0.1, 0.3),
                fail_share=0.2 if number == 7 else 0,
            )
            config = uvicorn.Config(create_app(Cloud(settings)), lifespan="off", log_level="critical")
            listener = socket.create_server(("127.0.0.1", 0))
            addresses.append(f"http://127.0.0.1:{listener.getsockname()[1]}")
            tasks.start_soon(uvicorn.Server(config).serve, [listener])
        print(json.dumps(addresses), flush=True)  # noqa: T201 - what others wait for


if __name__ == "__main__":
    anyio.run(main)
