"""Each guard by itself: with it no server is rebooted twice, and without it some are."""

from __future__ import annotations

from collections.abc import Callable
from typing import get_args

import pytest

from tests.runs.failures._faults import one_guard
from tests.runs.failures._guards import Guard
from tests.runs.failures._judge import judge
from tests.runs.failures._stage import Result, Scenario, Stage

GUARDS = get_args(Guard)


def _has_doubled(stage: Stage) -> bool:
    return any(times > 1 for times in stage.gateway.cloud.obeyed.values())


UNTIL = {f"without {guard}": _has_doubled for guard in GUARDS}


@pytest.fixture(scope="module")
def scenarios(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scenario]:
    folder = tmp_path_factory.mktemp("runs")
    return {
        name: one_guard(f"sqlite://{folder}/{name.replace(' ', '-')}.db", guard, is_there=is_there)
        for guard in GUARDS
        for name, is_there in ((f"with {guard}", True), (f"without {guard}", False))
    }


@pytest.mark.parametrize("guard", GUARDS)
def test_no_server_is_rebooted_twice_with_all_guards(result_of: Callable[[str], Result], guard: Guard) -> None:
    result = result_of(f"with {guard}")
    assert judge(result) == [], result
    assert result.passed, result


@pytest.mark.parametrize(
    "guard",
    [
        pytest.param("settling", id="what was marked as sent is sent again"),
        pytest.param("intent", id="what is sent is marked afterwards"),
        pytest.param("fence", id="nobody looks who has the batch"),
    ],
)
def test_servers_are_rebooted_twice_if(result_of: Callable[[str], Result], guard: Guard) -> None:
    result = result_of(f"without {guard}")
    assert not result.error, result
    assert result.twice > 0, result
