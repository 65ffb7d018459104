"""Scenarios of all kinds on the virtual clock, judged by the cloud's own books: no rule is ever broken."""

from __future__ import annotations

from collections import Counter
from random import Random

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bms_async import OutcomeState
from bms_async.simulator import GarbledJob
from tests.simulation.__main__ import main
from tests.simulation.draw import draw_scenario
from tests.simulation.draw_reconcilers import draw_reconciler
from tests.simulation.mutants import MUTANTS
from tests.simulation.scenario import RunFleet, Scenario
from tests.simulation.seeds import replay_line, shrink, try_scenario, try_seed
from tests.simulation.wants import Reconcile, WishMany
from tests.simulation.world import play

FIRST, SEEDS = 100, 30
YIELD_EVERY = 10


@pytest.fixture(scope="module")
def counts() -> Counter[str]:
    return Counter()


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, YIELD_EVERY))
def test_no_rule_is_broken_whatever_happens(first: int, counts: Counter[str]) -> None:
    verdicts = [try_seed(seed) for seed in range(first, first + YIELD_EVERY)]
    for verdict in verdicts:
        counts.update(verdict.counts)
    assert not [str(verdict) for verdict in verdicts if verdict.broken]


def test_those_scenarios_came_to_every_kind_of_outcome(counts: Counter[str]) -> None:
    assert min(counts[state.value] for state in OutcomeState) >= 5, counts


@settings(max_examples=12, suppress_health_check=[HealthCheck.too_slow])
@given(random=st.randoms(use_true_random=False), seed=st.integers(0, 1000))
def test_no_rule_is_broken_by_what_hypothesis_thinks_of(random: Random, seed: int) -> None:
    verdict = try_scenario(draw_scenario(seed, random))
    assert not verdict.broken, str(verdict)


@pytest.mark.parametrize("scenario", [draw_scenario(7), draw_scenario(14), draw_reconciler(2), draw_reconciler(26)])
def test_a_seed_is_played_in_the_same_way_each_time(scenario: Scenario) -> None:
    first, second = (play(scenario) for _ in range(2))
    assert len(first.exchanges) > 10
    assert [str(each) for each in first.exchanges] == [str(each) for each in second.exchanges]


def test_a_thousand_seeds_draw_every_trouble_for_every_operation() -> None:
    troubles: Counter[str] = Counter()
    garbled: Counter[str] = Counter()
    operations: Counter[str] = Counter()
    together = 0
    for seed in range(1000):
        mishaps = draw_scenario(seed).mishaps
        together += len(mishaps) > 1
        for mishap in mishaps:
            operations[mishap.operation] += 1
            troubles[type(mishap.trouble).__name__ + str(getattr(mishap.trouble, "status", ""))] += 1
            if isinstance(mishap.trouble, GarbledJob):
                garbled.update(mishap.trouble.how)
    assert len(troubles) == 23, sorted(troubles)
    assert min(troubles.values()) >= 20
    assert len(garbled) == 5
    assert {"servers.stop", "servers.reboot", "jobs.get", "identity.create_token", "*"} <= operations.keys()
    assert together > 300


def test_a_share_of_them_has_durable_runs_whose_workers_die_in_every_way() -> None:
    durable = [scenario for scenario in map(draw_scenario, range(1000)) if scenario.workers]
    assert 100 <= len(durable) <= 200
    kinds = Counter(death.kind for scenario in durable for death in scenario.deaths)
    assert min(kinds[kind] for kind in ("killed", "closed", "stalls")) >= 20
    assert {scenario.workers for scenario in durable} == {1, 2, 3}


def test_a_share_of_them_has_rollouts_of_all_kinds_pauses_and_calls_for_each_server() -> None:
    runs = [deed for seed in range(1000) for deed in draw_scenario(seed).deeds if isinstance(deed, RunFleet)]
    walks = [run.walk for run in runs if run.walk is not None]
    assert 250 <= len(walks) <= 500
    assert {walk.group for walk in walks} == {None, "rack", "zone", "flavor"}
    kinds = ("canary", "max_unavailable", "max_groups", "ready", "settle", "hours", "order_by")
    assert min(sum(bool(getattr(walk, kind)) for walk in walks) for kind in kinds) >= 40
    assert sum(bool(run.pauses) for run in runs) >= 200
    assert min(Counter(run.action for run in runs).values()) >= 30
    foreign = Counter(run.foreign.where for run in runs if run.foreign is not None)
    assert min(foreign[where] for where in ("ready", "group_by", "order_by", "call")) >= 3


def test_a_share_of_them_has_native_fleets_durable_rollouts_and_servers_for_ids() -> None:
    scenarios = [scenario for scenario in map(draw_scenario, range(1000)) if scenario.deeds]
    runs = [deed for scenario in scenarios for deed in scenario.deeds if isinstance(deed, RunFleet)]
    natives = [run for run in runs if run.native]
    assert 100 <= len(natives) <= 200
    assert min(Counter(run.action for run in natives).values()) >= 20
    assert sum(run.walk is not None for run in natives) >= 20
    mishaps = ("native_error_share", "native_ignored_share", "native_slow_share", "native_vanish_share")
    assert min(sum(getattr(scenario, mishap) > 0 for scenario in scenarios) for mishap in mishaps) >= 30
    durable = [run for run in runs if run.durable is not None and run.walk is not None]
    assert len(durable) >= 40
    assert sum(run.walk is not None and run.walk.ready for run in durable) >= 15
    assert sum(run.as_servers for run in runs) >= 100


def test_a_share_of_them_has_wishes_and_reconcilers_that_are_disturbed_in_every_way() -> None:
    deeds = [deed for scenario in map(draw_scenario, range(1000)) for deed in scenario.deeds]
    wishes = [wish for deed in deeds if isinstance(deed, WishMany) for wish in deed.wishes]
    assert 100 <= sum(isinstance(deed, WishMany) for deed in deeds) <= 200
    assert min(Counter(wish.action for wish in wishes).values()) >= 500
    assert sum(wish.leaves_after is not None for wish in wishes) >= 500
    reconcilers = [deed for deed in deeds if isinstance(deed, Reconcile)]
    assert 100 <= len(reconcilers) <= 200
    assert min(sum(bool(getattr(each, how)) for each in reconcilers) for how in ("drifts", "restarts", "wishes")) >= 20
    assert {drift.status for each in reconcilers for drift in each.drifts} == {"ACTIVE", "SHUTOFF", "ERROR"}
    assert sum(drift.seconds > 0 for each in reconcilers for drift in each.drifts) >= 100
    assert sum(each.replicas > 1 for each in reconcilers) >= 15
    assert {loss.kind for each in reconcilers for loss in each.losses} == {"killed", "closed", "stalls"}
    assert sum(each.room is not None for each in reconcilers) >= 10


def test_rollouts_change_nothing_else_of_what_a_seed_draws() -> None:
    for seed in range(200):
        drawn, before = draw_scenario(seed), draw_scenario(seed, walks=False)
        if any(isinstance(deed, Reconcile) for deed in drawn.deeds):
            # It may be alone.
            continue
        plain = [
            msgspec.structs.replace(deed, walk=None, pauses=()) for deed in drawn.deeds if isinstance(deed, RunFleet)
        ]
        assert len([run for run in plain if not (run.is_each or run.native)]) == sum(
            isinstance(each, RunFleet) for each in before.deeds
        )
        assert (drawn.latency, drawn.auth, drawn.job_seconds) == (before.latency, before.auth, before.job_seconds)
        assert drawn.mishaps[: len(before.mishaps)] == before.mishaps


def test_a_scenario_is_replayed_from_one_line() -> None:
    assert replay_line(draw_scenario(12)) == "python -m tests.simulation 12"
    other = msgspec.structs.replace(draw_scenario(12), servers=500)
    line = replay_line(other)
    assert "\n" not in line
    text = line.removeprefix("python -m tests.simulation '").removesuffix("'")
    assert msgspec.json.decode(text, type=Scenario) == other


def test_the_command_plays_one_scenario_and_says_what_became_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["12"]) == 0
    assert capsys.readouterr().out.endswith("python -m tests.simulation 12\n  no rule is broken\n")
    twice = next(mutant for mutant in MUTANTS if mutant.name == "a poll started twice")
    with twice.patch():
        assert main(["0"]) == 1
    assert "python -m tests.simulation 0\n  R6 job " in capsys.readouterr().out


def test_a_scenario_that_breaks_a_rule_is_made_smaller_until_nothing_can_be_left_out() -> None:
    scenario = draw_scenario(12)
    twice = next(mutant for mutant in MUTANTS if mutant.name == "a poll started twice")
    with twice.patch():
        verdict = try_scenario(scenario)
        small = shrink(verdict)
    assert small.broken[0].startswith("R6")
    assert [deed.count for deed in small.scenario.deeds if isinstance(deed, RunFleet)] == [1]
    assert len(small.scenario.deeds) == 1
    assert small.scenario.mishaps == ()
