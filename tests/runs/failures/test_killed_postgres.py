"""Workers that die at every point, with the journal in a database that crashes too."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

import msgspec
import pytest

from tests.runs.failures._faults import crash
from tests.runs.failures._judge import judge
from tests.runs.failures._plans import draw
from tests.runs.failures._points import POINTS
from tests.runs.failures._stage import Result, Scenario
from tests.support.postgres import Postgres, running_postgres

AT_ONCE = 5
"""Each of the workers may have three connections, and the server takes 60."""

SEEDS = [f"seed {seed}" for seed in range(5)]


@pytest.fixture(scope="module")
def crashing() -> Iterator[Postgres]:
    """A server of this file's own."""
    with running_postgres() as server:
        yield server


@contextmanager
def _databases(server: Postgres, names: list[str]) -> Iterator[None]:
    asyncio.run(server.run(*(f"CREATE DATABASE {name}" for name in names)))
    yield
    asyncio.run(server.run(*(f"DROP DATABASE {name} WITH (FORCE)" for name in names)))


@pytest.fixture(scope="module")
def scenarios(postgres: Postgres, crashing: Postgres) -> Iterator[dict[str, Scenario]]:
    names = [*SEEDS, "stop", "start"]
    databases = {name: f"killed_{name.replace(' ', '_')}" for name in names}
    urls = {name: postgres.url(database) for name, database in databases.items()}
    with _databases(postgres, list(databases.values())):
        scenarios = {name: draw(seed, urls[name]) for seed, name in enumerate(SEEDS)}
        yield scenarios | {
            "stop": draw(5, urls["stop"], action="stop"),
            "start": draw(6, urls["start"], action="start"),
            "crash": msgspec.structs.replace(draw(7, crashing.url(), points=2), play=crash(crashing)),
        }


@pytest.mark.parametrize("name", [*SEEDS, "crash"])
def test_no_server_is_rebooted_twice_and_each_has_its_one_true_outcome(
    result_of: Callable[[str], Result], name: str
) -> None:
    result = result_of(name)
    assert judge(result) == [], result


def test_somebody_died_at_every_point(results: Mapping[str, Result]) -> None:
    assert set[str]().union(*(results[name].passed for name in [*SEEDS, "stop", "start"])) == set(POINTS)


@pytest.mark.parametrize("action", ["stop", "start"])
def test_after_a_stop_and_a_start_nothing_is_unknown_and_all_are_as_asked(
    result_of: Callable[[str], Result], action: str
) -> None:
    result = result_of(action)
    assert judge(result, action) == [], result  # type: ignore[arg-type]
    assert result.deaths > 0
