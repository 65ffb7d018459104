"""The stores that the tests of shared limits start once a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.limits.shared._postgres import Postgres, running_postgres


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A server whose databases the tests share; those that kill it start one of their own."""
    with running_postgres() as server:
        yield server
