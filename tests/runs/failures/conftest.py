"""The scenarios of a file, played several at once."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping

import pytest

from tests.runs.failures._stage import Result, Scenario, Until, play_all
from tests.runs.failures._worker import Part
from tests.support.nursery import Nursery, nursery

_AT_ONCE = 10
"""They wait nearly all of the time."""


@pytest.fixture(scope="session")
def workers() -> Iterator[Nursery[Part]]:
    with nursery(Part) as begun:
        yield begun


@pytest.fixture(scope="module")
def results(request: pytest.FixtureRequest, workers: Nursery[Part]) -> Mapping[str, Result]:
    """What came of the scenarios that the file makes, by name."""
    scenarios: dict[str, Scenario] = request.getfixturevalue("scenarios")
    until: dict[str, Until] = getattr(request.module, "UNTIL", {})
    at_once: int = getattr(request.module, "AT_ONCE", _AT_ONCE)
    return asyncio.run(play_all(scenarios, workers, at_once=at_once, until=until))


@pytest.fixture(scope="module")
def result_of(results: Mapping[str, Result]) -> Callable[[str], Result]:
    return results.__getitem__
