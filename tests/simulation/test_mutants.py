"""Variants of the SDK that are broken on purpose, each caught within a few dozen of the scenarios that concern it."""

from __future__ import annotations

from itertools import count, islice

import pytest

from tests.simulation.draw import draw_scenario
from tests.simulation.mutants import MUTANTS, Mutant
from tests.simulation.native_mutants import NATIVE_MUTANTS
from tests.simulation.reconcile_mutants import RECONCILE_MUTANTS
from tests.simulation.seeds import try_scenario
from tests.simulation.walk_mutants import WALK_MUTANTS
from tests.simulation.wish_mutants import WISH_MUTANTS

MOST = 60
"""How many scenarios may be played until a mutant is caught."""


ALL = (*MUTANTS, *WALK_MUTANTS, *NATIVE_MUTANTS, *WISH_MUTANTS, *RECONCILE_MUTANTS)


@pytest.mark.parametrize("mutant", ALL, ids=[mutant.name for mutant in ALL])
def test_it_is_caught(mutant: Mutant) -> None:
    concerned = (scenario for scenario in map(mutant.draw or draw_scenario, count()) if mutant.concerns(scenario))
    with mutant.patch():
        caught = (
            verdict
            for verdict in map(try_scenario, islice(concerned, MOST))
            if any(each.startswith(mutant.rule) for each in verdict.broken)
        )
        verdict = next(caught, None)
    assert verdict is not None, f"{mutant.name} went unseen in {MOST} scenarios"
    # The same scenario is without fault as soon as the SDK is whole again.
    assert not [each for each in try_scenario(verdict.scenario).broken if each.startswith(mutant.rule)]


def test_there_is_one_at_least_for_each_rule_that_scenarios_can_break_by_what_is_sent_and_told() -> None:
    assert len(MUTANTS) >= 8
    assert {mutant.rule for mutant in MUTANTS} >= {"R1", "R2", "R3", "R4", "R6", "R8"}
