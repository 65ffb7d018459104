"""Who is cut off at the worst moment loses nothing: a worker between journal and cloud, a reader of outcomes."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from bms_async import BmsClient, OutcomeState, Runs
from bms_async.journal.transactions.steps import mark_sending, mark_waiting
from bms_async.testing import CloudSettings, SimulatedCloud
from tests.support.virtual_clock import run_patiently

Transaction = Callable[..., Any]


def name_of(transaction: Transaction) -> Transaction:
    return transaction.func if isinstance(transaction, partial) else transaction


def states(place: Path) -> list[str]:
    with closing(sqlite3.connect(place)) as journal:
        return [state for (state,) in journal.execute("SELECT state FROM bms_async_batches ORDER BY number")]


def test_a_batch_that_was_written_down_and_not_sent_when_the_client_closes_is_no_mystery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        cloud = SimulatedCloud(CloudSettings(servers=5, seed=1))
        runs = Runs(f"sqlite://{tmp_path}/runs.db")
        run_transaction, is_marked = runs.journal.run, anyio.Event()

        async def run_slowly(transaction: Transaction, *args: Any, **options: Any) -> Any:
            if name_of(transaction) is mark_waiting:
                await anyio.sleep(0.5)
            result = await run_transaction(transaction, *args, **options)
            if name_of(transaction) is mark_sending:
                is_marked.set()
                await anyio.sleep(1)
            return result

        monkeypatch.setattr(runs.journal, "run", run_slowly)
        async with cloud.client(runs=runs) as bms:
            await bms.runs.reboot(cloud.ids, key="k")
            await is_marked.wait()
        assert states(tmp_path / "runs.db") == ["waiting"]

    run_patiently(main)


def withdraw_all(bms: BmsClient) -> None:
    for worker in bms.runs._workers.values():
        for held in worker._held.values():
            held.work.withdraw()


def test_a_batch_that_is_withdrawn_as_the_journal_answers_is_not_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        cloud = SimulatedCloud(CloudSettings(servers=5, seed=1))
        runs = Runs(f"sqlite://{tmp_path}/runs.db")
        run_transaction, marked = runs.journal.run, []

        async def run_and_withdraw(transaction: Transaction, *args: Any, **options: Any) -> Any:
            result = await run_transaction(transaction, *args, **options)
            if name_of(transaction) is mark_sending:
                marked.append(cloud.arrived("servers.reboot"))
                if len(marked) == 1:
                    withdraw_all(bms)
            return result

        monkeypatch.setattr(runs.journal, "run", run_and_withdraw)
        async with cloud.client(runs=runs) as bms:
            report = await (await bms.runs.reboot(cloud.ids, key="k"))
        # It went with the second mark, and neither before nor twice.
        assert marked == [0, 0]
        assert report.by_state[OutcomeState.SUCCEEDED] == 5
        assert cloud.arrived("servers.reboot") == 1

    run_patiently(main)


def test_a_reader_that_is_cancelled_at_every_outcome_misses_none(tmp_path: Path) -> None:
    async def main() -> None:
        cloud = SimulatedCloud(CloudSettings(servers=1200, seed=1))
        async with cloud.client(runs=Runs(f"sqlite://{tmp_path}/runs.db")) as bms:
            run = await bms.runs.stop(cloud.ids, key="k")
            await run
            outcomes, read, cut_off = run.outcomes(), [], 0
            for _ in range(1200):
                cursor = outcomes.cursor
                with anyio.CancelScope() as scope:
                    scope.cancel()
                    read.append((await anext(outcomes)).server_id)
                if scope.cancelled_caught:
                    cut_off += 1
                    assert outcomes.cursor == cursor
                    read.append((await anext(outcomes)).server_id)
        # At each block, and where others are let through.
        assert cut_off > 2
        assert sorted(read) == sorted(cloud.ids)

    run_patiently(main)
