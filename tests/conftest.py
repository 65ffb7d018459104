"""What every test runs under: no call may block the event loop."""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Generator, Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from blockbuster import BlockBuster, blockbuster_ctx
from hypothesis import settings

from tests.support.machine import patience
from tests.support.signals import heed_signals

if TYPE_CHECKING:
    from tests.support.postgres import Postgres

# How long an example takes is the machine's business; a law does not break because another process was busy.
# The same examples each time, so that a change and not chance breaks a test; `--hypothesis-profile=random` looks for
# new ones.
settings.register_profile("bms_async", deadline=None, derandomize=True)
settings.register_profile("random", deadline=None)
settings.load_profile("bms_async")


# What `make check` leaves to `make test`: processes, browsers, whole fleets and searches, of some seconds each.
SLOW = (
    "api/bms/test_lists_cut_short.py", "api/bms/test_lists_that_move.py", "api/every_call", "browser", "cli", "docs",
    "examples", "fleet", "oracles", "secrets", "simulation", "soak", "telemetry", "temporal", "testing",
    "auth/test_token_cache.py", "session/test_large_answers.py", "client/test_closing.py",
    "limits/shared/failures", "journal", "runs/failures",
    "foreign/test_every_call.py", "jobs/test_patience.py", "jobs/test_replicas.py", "jobs/test_watcher.py",
    "limits/test_accounts.py",
    "limits/shared/test_ledger_histories.py", "limits/shared/test_lua_beside_python.py",
    "limits/shared/test_postgres_store.py", "limits/shared/test_store_contract.py", "limits/test_window.py",
    "models/test_lenient_reading.py", "simulator/test_simulator_process.py", "simulator/test_simulator_signatures.py",
    "test_import.py", "transport/test_any_bytes.py",
    "transport/test_cancelling.py", "transport/test_cancelling_at_each_step.py", "transport/test_everything_at_once.py",
    "transport/test_on_each_loop.py", "transport/test_responses_without_end.py", "transport/test_secrets.py",
    "transport/test_thousands_of_connections.py", "transport/test_which_transport.py",
)  # fmt: skip
HERE = Path(__file__).parent


heed_signals()

pytest_plugins = ["bms_async.testing.plugin"]


# pytest-timeout looks after this, and the processes of pytest-xdist are given what it was set to.
@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    if config.option.timeout is None and "PYTEST_TIMEOUT" not in os.environ:
        config.option.timeout = patience(float(config.getini("timeout")))
    # With the slow files first, no process of pytest-xdist is left alone with one of them at the end.
    config.option.loadscopereorder = False


# Once for all tests: to begin and to end it for each would take a quarter of what a small test takes.
@pytest.fixture(scope="session", autouse=True)
def nothing_blocks_the_loop() -> Iterator[BlockBuster]:
    # The virtual clock's loop is in the package, and below it is every test's own code.
    with blockbuster_ctx("bms_async", excluded_modules=["bms_async.testing"]) as watch:
        # A millisecond each time that a store connects; asyncpg has no other way to be given its files.
        for function in watch.functions.values():
            function.can_block_in("asyncpg/connect_utils.py", {"_parse_connect_dsn_and_args"})
            # A tenth of a millisecond for each zone, once; a window is made where a rollout begins, in the loop.
            function.can_block_in("rollout/window.py", {"_load_zone", "_why_unknown"})
        yield watch


# Here, so that there is one for all folders. Most runs of a few tests need none.
@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server whose databases the tests share; those that kill it start one of their own."""
    from tests.support.postgres import running_postgres

    with running_postgres() as server:
        yield server


@pytest.fixture
async def database(postgres: Postgres) -> AsyncIterator[str]:
    """A database of the shared server without tables."""
    async with postgres.database() as name:
        yield name


# Two more than there are processors: a test that kills processes, or follows a command, waits nearly all of its time.
def pytest_xdist_auto_num_workers() -> int:
    return len(os.sched_getaffinity(0)) + 2 if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1) + 2


@cache
def is_slow(path: Path) -> bool:
    return any(path.is_relative_to(HERE / place) for place in SLOW)


# To import what is not run takes as long as half of the fast tests do.
def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    return True if config.option.markexpr == "not slow" and is_slow(collection_path) else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: not is_slow(item.path))
    for item in items:
        if is_slow(item.path):
            item.add_marker(pytest.mark.slow)


# What is collected stays, so that to look for garbage among it is a sixth of the time in vain, in each process of
# pytest-xdist.
@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    gc.disable()
    try:
        return (yield)
    finally:
        gc.enable()


# To look for garbage takes as long as there are objects, and what was collected of the whole suite is a million of
# them that stay to the end. So no search for garbage looks at them, whether a test asks for it or Python begins it.
def pytest_collection_finish() -> None:
    gc.collect()
    gc.freeze()
