"""Workers of one machine that die at every point, with the journal in a file."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec
import pytest

from tests.runs.failures._faults import lock_the_file, shared_budget
from tests.runs.failures._judge import judge, judge_rollout
from tests.runs.failures._plans import draw, draw_rollout
from tests.runs.failures._points import POINTS
from tests.runs.failures._stage import Result, Scenario

SEEDS = [f"seed {seed}" for seed in range(5)]


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scenario]:
    folder = tmp_path_factory.mktemp("runs")

    def file(name: str) -> str:
        return f"sqlite://{folder}/{name}.db"

    scenarios = {name: draw(seed, file(name)) for seed, name in enumerate(SEEDS)}
    return scenarios | {
        "stop": draw(5, file("stop"), action="stop"),
        "start": draw(6, file("start"), action="start"),
        "locked": msgspec.structs.replace(draw(7, file("locked"), points=2), play=lock_the_file()),
        "rollout": draw_rollout(0, file("rollout")),
        "budget": shared_budget(file("budget"), file("limits")),
    }


@pytest.mark.parametrize("name", [*SEEDS, "locked"])
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


def test_no_more_servers_are_away_than_a_rollout_allows_though_its_planners_die(
    result_of: Callable[[str], Result],
) -> None:
    result = result_of("rollout")
    assert judge_rollout(result, 16) == [], result
    assert {"before the commit of a release", "after the commit of a release"} <= result.passed


def test_two_workers_with_one_budget_are_never_refused_though_one_is_killed(
    result_of: Callable[[str], Result],
) -> None:
    result = result_of("budget")
    assert judge(result, "stop") == [], result
    assert (result.refused, result.deaths) == (0, 1), result
