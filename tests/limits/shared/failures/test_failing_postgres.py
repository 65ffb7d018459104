"""What happens to a server of PostgreSQL, and the limit that is kept all the same; each has servers of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from threading import Lock

import pytest

from tests.limits.shared.failures._proxy import Proxy
from tests.limits.shared.failures._stage import LIMIT, Outcome, Scenario, Stage, control, guarded
from tests.support.postgres import Postgres

# A function that is found before the server's own.
_OWN_CLOCK = (
    "CREATE SCHEMA own",
    "CREATE TABLE own.clock AS SELECT interval '0' AS ahead",
    """
    CREATE FUNCTION own.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE
    AS 'SELECT pg_catalog.clock_timestamp() + (SELECT ahead FROM own.clock)'
    """,
)

# A commit that is not waited for is not written by itself either.
_LATE_WRITER = (
    "ALTER SYSTEM SET wal_writer_delay = '10s'",
    "ALTER SYSTEM SET wal_writer_flush_after = '1GB'",
    "SELECT pg_reload_conf()",
)


@pytest.fixture(scope="module")
def scenarios(postgres: Postgres) -> dict[str, Scenario]:
    numbers = iter(range(100))
    copying = Lock()

    def copy(server: Postgres) -> Postgres:
        # The checkpoint of one copy takes away what another one has not copied yet.
        with copying:
            return server.copy(f"failing-{next(numbers)}")

    def start() -> Postgres:
        """Start one more server."""
        server = copy(postgres)
        server.promote()
        return server

    async def nothing_happens(stage: Stage) -> None:
        await stage.begin_four(postgres.url())
        await stage.until_over()

    async def it_crashes(stage: Stage) -> None:
        server = await asyncio.to_thread(start)
        if stage.is_control:
            await server.run(*_LATE_WRITER)
        await stage.begin_four(server.url())
        await stage.until_arrived(LIMIT)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        await stage.until_over()

    async def a_stale_standby_takes_over(stage: Stage) -> None:
        first = await asyncio.to_thread(start)
        async with Proxy(first.port) as address:
            url = f"postgresql://postgres@127.0.0.1:{address.port}/postgres"
            await stage.open_account(url)
            second = await asyncio.to_thread(copy, first)
            await stage.begin_four(url)
            await stage.until_arrived(LIMIT)
            await asyncio.to_thread(second.promote)
            address.switch(second.port)
            await asyncio.to_thread(first.kill)
            await stage.until_over()

    async def its_clock_is_set(stage: Stage, by: str) -> None:
        database = f"clock{next(numbers)}"
        await postgres.run(f"CREATE DATABASE {database}")
        await postgres.run(*_OWN_CLOCK, database=database)
        await postgres.run(f"ALTER DATABASE {database} SET search_path = own, public, pg_catalog")
        await stage.begin_four(postgres.url(database))
        await stage.until_arrived(LIMIT)
        # Who has not seen the clock before it was set cannot see that it was.
        await stage.until_all("asked")
        await postgres.run(f"UPDATE own.clock SET ahead = '{by}'", database=database)
        await stage.until_over()

    ahead, back = partial(its_clock_is_set, by="1000 seconds"), partial(its_clock_is_set, by="-1 hour")
    return {
        "nothing": guarded(nothing_happens),
        "crash": guarded(it_crashes),
        "crash, commits not waited for": control(it_crashes, without="commit"),
        "standby": guarded(a_stale_standby_takes_over),
        "standby, taken for the same": control(a_stale_standby_takes_over, without="life"),
        "ahead": guarded(ahead),
        "ahead, not looked at": control(ahead, without="clock"),
        "back": guarded(back),
    }


@pytest.mark.parametrize(
    "what",
    [
        pytest.param("nothing", id="nothing happens to it"),
        pytest.param("crash", id="it crashes and is started again"),
        pytest.param("standby", id="a stale standby is promoted"),
        pytest.param("ahead", id="its clock is set forward"),
        pytest.param("back", id="its clock is set back"),
    ],
)
def test_nobody_is_refused_when(outcome_of: Callable[[str], Outcome], what: str) -> None:
    outcome = outcome_of(what)
    assert (outcome.refused, outcome.answered) == (0, 36), outcome.summary


@pytest.mark.parametrize(
    "what",
    [
        pytest.param("crash, commits not waited for", id="commits are not waited for before a crash"),
        pytest.param("standby, taken for the same", id="a stale standby is taken for the server before it"),
        pytest.param("ahead, not looked at", id="nobody looks whether the clock was set forward"),
    ],
)
def test_somebody_is_refused_when(outcome_of: Callable[[str], Outcome], what: str) -> None:
    assert outcome_of(what).refused > 0
