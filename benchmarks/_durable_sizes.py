"""What a run leaves in its store: bytes and rows, before it and after it, and once it was deleted."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]

from benchmarks._durable_journal import contender, opened, write_run
from benchmarks._durable_process import Done, Plan
from benchmarks._durable_stores import SQLITE
from bms_async.journal.transactions.runs import delete_ended

Row = dict[str, object]

_TABLES = ("runs", "batches", "outcomes")


async def measure_sizes(store: str, plan: Plan) -> list[Row]:
    """Write a run down, carry it out, delete it, and give the room back."""
    rows: list[Row] = []

    async def note(when: str) -> None:
        rows.append(
            {"store": store, "servers": plan.batches * plan.servers, "when": when, **await _size(store, plan.url)}
        )

    async with opened(plan.url):
        await note("empty")
    async with opened(plan.url) as journal:
        await write_run(journal, plan)
    await note("written down")
    async with contender(plan) as work:
        await work(Done())
    await note("ended")
    async with opened(plan.url) as journal:
        while await journal.run(delete_ended, -1.0, None):
            pass
    await note("pruned")
    await _vacuum(store, plan.url)
    await note("after VACUUM")
    return rows


async def _size(store: str, url: str) -> Row:
    if store == SQLITE:
        path = Path(url.removeprefix("sqlite://"))
        with closing(sqlite3.connect(path)) as connection:
            rows = sum(connection.execute(f"SELECT count(*) FROM bms_async_{table}").fetchone()[0] for table in _TABLES)
        found = sum(each.stat().st_size for each in path.parent.glob(f"{path.name}*"))
    else:
        connection = await asyncpg.connect(url, ssl=False)
        try:
            rows = sum([await connection.fetchval(f"SELECT count(*) FROM bms_async_{table}") for table in _TABLES])
            found = sum([await connection.fetchval(f"SELECT pg_total_relation_size('bms_async_{t}')") for t in _TABLES])
        finally:
            await connection.close()
    return {"rows": rows, "MB": found / 1e6}


async def _vacuum(store: str, url: str) -> None:
    if store == SQLITE:
        with closing(sqlite3.connect(url.removeprefix("sqlite://"), isolation_level=None)) as connection:
            connection.execute("VACUUM")
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return
    connection = await asyncpg.connect(url, ssl=False)
    try:
        await connection.execute("VACUUM")
    finally:
        await connection.close()
