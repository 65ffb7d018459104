"""Real stores and the processes that share limits in them."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from benchmarks._shared_worker import Done, Plan
from bms_async.limits.shared.stores import find_store
from tests.support.postgres import running_postgres
from tests.limits.shared._servers import find_programs, running

VALKEY, POSTGRES, SQLITE = "Valkey", "PostgreSQL", "SQLite"


@contextmanager
def stores() -> Iterator[dict[str, str]]:
    """Start a store of each kind; yield their addresses."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bms_async-")))
        yield {
            VALKEY: stack.enter_context(running(find_programs()["valkey"])).url,
            POSTGRES: stack.enter_context(running_postgres()).url(),
            SQLITE: f"sqlite://{folder / 'limits.db'}",
        }


def open_account(url: str, account: str) -> None:
    """Have an account open at once: nobody used it before."""

    async def main() -> None:
        store = find_store("store", url)()
        await store.open()
        try:
            await store.open_account(account)
        finally:
            await store.aclose()

    asyncio.run(main())


def run(plans: Sequence[Plan]) -> list[Done]:
    """Run a process for each plan, all from one moment on; return what they did, in the same order."""
    with ExitStack() as stack:
        processes = [stack.enter_context(_start(plan)) for plan in plans]
        for process in processes:
            assert process.stdout
            assert process.stdout.readline() == "ready\n"
        for process in processes:
            assert process.stdin
            process.stdin.write("go\n")
            process.stdin.flush()
        return [msgspec.json.decode(process.communicate()[0], type=Done) for process in processes]


@contextmanager
def _start(plan: Plan) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks._shared_worker"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdin
            process.stdin.write(msgspec.json.encode(plan).decode() + "\n")
            process.stdin.flush()
            yield process
        finally:
            process.kill()
