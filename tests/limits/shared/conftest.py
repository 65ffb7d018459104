"""The real stores of the tests: one of each for all tests of a process."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import cache

import pytest

from tests.limits.shared._servers import Server, find_programs, running

PROGRAMS = find_programs()


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
