"""One dev server of Temporal for all tests of a process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.temporal._server import TemporalServer, running_temporal


@pytest.fixture(scope="session")
def temporal() -> Iterator[TemporalServer]:
    """A server that a test leaves running, and where it has task queues and workflows of its own."""
    with running_temporal() as server:
        yield server


@pytest.fixture
def own_temporal() -> Iterator[TemporalServer]:
    """A server that a test may kill."""
    with running_temporal() as server:
        yield server
