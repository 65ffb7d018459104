"""Runs the snippets of a page: code that awaits outside any function, with an open client at hand."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import tempfile
from collections.abc import AsyncIterator, Sequence
from types import CodeType
from typing import Any
from unittest.mock import patch
from urllib.parse import urlsplit

from bms_async import JobFailedError, Runs
from bms_async.fleet.rollout import probes, readiness
from bms_async.simulator.core.attributes import tags_of
from tests.docs.blocks import Block, Kind, find_differences
from tests.support.clouds import Simulated, simulated
from tests.support.virtual_clock import run_virtually

CLOUD: dict[str, Any] = {
    "servers": 60,
    "rack_size": 10,
    "seed": 4,
    "fail_share": 0.05,
    "virtual_machines": 3,
    "job_seconds": (2.0, 9.0),
    "boot_seconds": (10.0, 40.0),
}


def run_snippets(blocks: Sequence[Block]) -> list[str]:
    """Run them in their order, all with the same names; return what is wrong.

    They find ``bms``, an open client with a journal; ``ids``, those of all servers; ``server_id``, one that does
    not fail; and ``job_id``, a job that is under way. The servers that do not fail have the tag ``prod``. What a check
    of readiness asks a server is answered by the cloud: it is well once it has booted.
    """
    with tempfile.TemporaryDirectory() as folder:
        return run_virtually(lambda: _run(blocks, Runs(f"sqlite://{folder}/runs.db")))


async def _run(blocks: Sequence[Block], runs: Runs) -> list[str]:
    printed: dict[str, str] = {}
    async with simulated(runs=runs, **CLOUD) as cloud, _answering(cloud):
        space = await _names(cloud)
        for block in (each for each in blocks if each.kind is Kind.SNIPPET):
            told = io.StringIO()
            try:
                with contextlib.redirect_stdout(told):
                    waiting = eval(compiled(block), space)
                    if inspect.iscoroutine(waiting):
                        await waiting
            except Exception as error:
                error.add_note(f"in the block at {block.place}")
                raise
            printed[block.place] = told.getvalue()
    return find_differences(blocks, printed)


def compiled(block: Block) -> CodeType:
    code = compile(block.placed, block.page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True)
    assert isinstance(code, CodeType)
    return code


@contextlib.asynccontextmanager
async def _answering(cloud: Simulated) -> AsyncIterator[None]:
    """Have the servers answer: on the virtual clock nothing can be asked of a socket."""
    by_address: dict[str, str] = {}
    async for server in cloud.bms.servers.list():
        by_address |= dict.fromkeys(probes.addresses_of(server, "any", None), server.id)

    def is_well(address: str) -> bool:
        return cloud.cloud.is_reachable(by_address[address])

    async def ask_tcp(address: str, *_: object) -> str | None:
        return None if is_well(address) else "connection refused"

    async def ask_http(_: object, url: str, **__: object) -> int | str:
        return 200 if is_well(str(urlsplit(url).hostname)) else "connection refused"

    with patch.object(readiness, "ask_tcp", ask_tcp), patch.object(readiness, "ask_http", ask_http):
        yield


async def _names(cloud: Simulated) -> dict[str, Any]:
    """Return what every snippet finds; the job is one that all know of and nobody has waited for."""
    bms, ids = cloud.bms, cloud.ids
    for machine in cloud.cloud.servers.values():
        if not machine.faulty:
            extra = cloud.cloud.change(machine)
            extra.tags = [*tags_of(machine, extra), "prod"]
    fit = []
    for server_id in ids[:20]:
        job = await bms.servers.reboot([server_id])
        with contextlib.suppress(JobFailedError):
            await job
            fit.append(server_id)
    job = await bms.servers.reboot([fit[-1]])
    return {"__name__": "__main__", "bms": bms, "ids": ids, "server_id": fit[0], "job_id": job.id}
