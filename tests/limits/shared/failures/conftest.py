"""The scenarios of a file, played at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator

import pytest

from tests.limits.shared.failures._stage import Outcome, play_all
from tests.limits.shared.failures._worker import Part
from tests.support.nursery import Nursery, nursery


@pytest.fixture(scope="session")
def workers() -> Iterator[Nursery[Part]]:
    with nursery(Part) as begun:
        yield begun


@pytest.fixture(scope="module")
def outcome_of(request: pytest.FixtureRequest, workers: Nursery[Part]) -> Callable[[str], Outcome]:
    """What came of a scenario that came to its end; `scenarios` of the file makes them all."""
    outcomes = asyncio.run(play_all(request.getfixturevalue("scenarios"), workers))

    def find(name: str) -> Outcome:
        outcome = outcomes[name]
        assert not outcome.error, f"{outcome.error}: {outcome.summary}"
        return outcome

    return find
