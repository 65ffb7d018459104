"""What is always true of the journal, whatever its workers do, and however often they do it."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from bms_async.journal.transactions import claims, steps
from tests.journal._machine import Workers

SETTINGS = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=False
)
# That a law is broken is enough; how to break it in the fewest steps takes minutes.
HUNT = settings(SETTINGS, max_examples=250, phases=[Phase.generate], report_multiple_bugs=False)


def test_each_server_is_in_one_place_and_only_who_has_a_batch_changes_it() -> None:
    run_state_machine_as_test(Workers, settings=SETTINGS)


NO_OWNER = "run = $1 AND number = $2 AND CAST($3 AS text) <> '' AND CAST($4 AS bigint) >= 0"


@pytest.mark.parametrize(
    ("module", "name", "value"),
    [
        (steps, "IS_MINE", NO_OWNER),
        (claims, "CLAIM", claims.CLAIM.replace("fence = fence + 1", "fence = fence")),
        (claims, "EXPIRED", "b.owner IS NOT NULL"),
        (claims, "_IS_FREE", "b.state = 'waiting'"),
    ],
    ids=["no owner and no fence", "a fence that stays", "leases that count for nothing", "owners too"],
)
def test_without_its_guards_a_law_is_broken(
    monkeypatch: pytest.MonkeyPatch, module: object, name: str, value: str
) -> None:
    monkeypatch.setattr(module, name, value)
    if name == "_IS_FREE":
        monkeypatch.setattr(claims, "IS_DUE", value + " AND b.due <= bms_wall()")
    with pytest.raises(AssertionError):
        run_state_machine_as_test(Workers, settings=HUNT)
