"""The real stores of the tests: one of each for all tests of a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest
from blockbuster import BlockBuster

from tests.limits.shared._postgres import Postgres, running_postgres
from tests.limits.shared._servers import Server, find_programs, running

PROGRAMS = find_programs()


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server whose databases the tests share; those that kill it start one of their own."""
    with running_postgres() as server:
        yield server


@pytest.fixture(scope="session")
def started() -> Iterator[Callable[[str], Server]]:
    with ExitStack() as stack:
        yield cache(lambda name: stack.enter_context(running(PROGRAMS[name])))


@pytest.fixture(params=list(PROGRAMS), scope="session")
def server(request: pytest.FixtureRequest, started: Callable[[str], Server]) -> Server:
    """Each kind of server that there is; a test leaves it running and set as it was, and cares for nobody's keys."""
    return started(request.param)


@pytest.fixture(scope="session")
def valkey(started: Callable[[str], Server]) -> Server:
    """The one that is always there, where another kind would show nothing more."""
    return started("valkey")


# A millisecond each time that a store connects; it has no other way to be given its files.
@pytest.fixture(autouse=True)
def asyncpg_may_look_for_its_files(nothing_blocks_the_loop: BlockBuster) -> None:
    for function in nothing_blocks_the_loop.functions.values():
        function.can_block_in("asyncpg/connect_utils.py", {"_parse_connect_dsn_and_args"})
