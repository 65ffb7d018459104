"""Runs the snippets of a page: code that awaits outside any function, with an open client at hand."""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import tempfile
from collections.abc import Sequence
from types import CodeType
from typing import Any

from bms_async import JobFailedError, Runs
from tests.docs.blocks import Block, Kind, find_differences
from tests.support.clouds import Simulated, simulated
from tests.support.virtual_clock import run_virtually

CLOUD: dict[str, Any] = {
    "servers": 60,
    "seed": 4,
    "fail_share": 0.05,
    "virtual_machines": 3,
    "job_seconds": (2.0, 9.0),
}


def run_snippets(blocks: Sequence[Block]) -> list[str]:
    """Run them in their order, all with the same names; return what is wrong.

    They find ``bms``, an open client with a journal; ``ids``, those of all servers; ``server_id``, one that does
    not fail; and ``job_id``, a job that is under way.
    """
    with tempfile.TemporaryDirectory() as folder:
        return run_virtually(lambda: _run(blocks, Runs(f"sqlite://{folder}/runs.db")))


async def _run(blocks: Sequence[Block], runs: Runs) -> list[str]:
    printed: dict[str, str] = {}
    async with simulated(runs=runs, **CLOUD) as cloud:
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


async def _names(cloud: Simulated) -> dict[str, Any]:
    """Return what every snippet finds; the job is one that all know of and nobody has waited for."""
    bms, ids = cloud.bms, cloud.ids
    fit = []
    for server_id in ids[:20]:
        job = await bms.servers.reboot([server_id])
        with contextlib.suppress(JobFailedError):
            await job
            fit.append(server_id)
    job = await bms.servers.reboot([fit[-1]])
    return {"__name__": "__main__", "bms": bms, "ids": ids, "server_id": fit[0], "job_id": job.id}
