"""Processes that die, stand still, fork, or have several event loops, and the limit that they keep all the same."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bms_async.limits.shared.messages import Terms
from tests.limits.shared._servers import Server
from tests.limits.shared.failures._stage import LONG, Outcome, Scenario, Stage, control, guarded


@pytest.fixture(scope="module")
def scenarios(valkey: Server, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scenario]:
    folder: Path = tmp_path_factory.mktemp("limits")
    numbers = iter(range(100))

    def file() -> str:
        return f"sqlite://{folder}/{next(numbers)}.db"

    async def nothing_happens(stage: Stage) -> None:
        await stage.begin_four(valkey.url)
        await stage.until_over()

    async def nothing_happens_with_a_file(stage: Stage) -> None:
        await stage.begin_four(file())
        await stage.until_over()

    async def nothing_is_shared(stage: Stage) -> None:
        for name in ("one", "two"):
            own = file()
            await stage.open_account(own)
            worker = await stage.begin(name, own, calls=12)
            worker.go()
        await stage.until_over()

    async def a_holder_is_killed(stage: Stage, store: str) -> None:
        stage.gateway.withheld.add("one")
        workers = await stage.begin_four(store)
        await stage.changes.until(lambda: stage.gateway.arrived["one"] >= 2)
        workers[0].kill()
        await stage.until_over()

    async def killed(stage: Stage) -> None:
        await a_holder_is_killed(stage, valkey.url)

    async def killed_with_a_file(stage: Stage) -> None:
        await a_holder_is_killed(stage, file())

    async def a_holder_is_stopped(stage: Stage) -> None:
        stage.gateway.withheld.add("one")
        workers = await stage.begin_four(valkey.url)
        await stage.changes.until(lambda: stage.gateway.arrived["one"] >= 2)
        workers[0].stop()
        await stage.until_forgotten(workers[0], valkey.url)
        stage.gateway.withheld.clear()
        workers[0].resume()
        await stage.until_over()

    async def stopped_between_grant_and_use(stage: Stage) -> None:
        await stage.open_account(valkey.url)
        one = await stage.begin("one", valkey.url, calls=6, act="stands still with grants")
        one.go()
        await one.until("standing")
        for name in ("two", "three"):
            worker = await stage.begin(name, valkey.url, calls=12)
            worker.go()
        await stage.until_arrived(12)
        one.resume()
        await stage.until_over()

    async def forked(stage: Stage) -> None:
        await stage.open_account(valkey.url)
        parent = await stage.begin("one", valkey.url, calls=4, act="forks")
        parent.go()
        await stage.changes.until(lambda: stage.workers.get("one, too", parent) is not parent)
        await stage.workers["one, too"].until("ready")
        stage.workers["one, too"].go()
        await stage.until_over()

    async def two_loops(stage: Stage) -> None:
        await stage.open_account(valkey.url)
        one = await stage.begin("one", valkey.url, calls=8, act="two loops")
        await stage.changes.until(lambda: len(stage.workers) == 2)
        await stage.workers["one, too"].until("ready")
        for worker in stage.workers.values():
            worker.go()
        assert one.pid == stage.workers["one, too"].pid
        await stage.until_over()

    return {
        "nothing": guarded(nothing_happens),
        "nothing, a file": guarded(nothing_happens_with_a_file),
        "nothing, not shared": control(nothing_is_shared),
        "killed": guarded(killed),
        "killed, a file": guarded(killed_with_a_file),
        "killed, its slots free at once": control(killed_with_a_file, without="cooldown of the dead"),
        "stopped": guarded(a_holder_is_stopped),
        "stopped with grants": guarded(stopped_between_grant_and_use),
        "stopped with grants, its lease not looked at": control(
            stopped_between_grant_and_use, without="lease", terms=Terms(window=3.0, lease=1.0, timeout=0.5)
        ),
        "forked": guarded(forked, limit=4),
        "forked, going on with the parent's slots": control(forked, without="anew in a child", limit=4),
        "two loops": guarded(two_loops, limit=8),
        "two loops, one id": control(two_loops, without="own id of each loop", limit=8),
    }


@pytest.mark.parametrize("store", ["nothing", "nothing, a file"])
def test_four_processes_keep_one_limit(outcome_of: Callable[[str], Outcome], store: str) -> None:
    outcome = outcome_of(store)
    assert (outcome.refused, outcome.calls) == (0, 36), outcome.summary


def test_two_processes_that_share_nothing_are_refused(outcome_of: Callable[[str], Outcome]) -> None:
    assert outcome_of("nothing, not shared").refused > 0


@pytest.mark.parametrize("store", ["killed", "killed, a file"])
def test_nobody_is_refused_when_a_holder_is_killed_with_slots_in_flight(
    outcome_of: Callable[[str], Outcome], store: str
) -> None:
    outcome = outcome_of(store)
    assert outcome.refused == 0, outcome.summary
    assert outcome.calls >= 27 + 2


def test_without_a_cooldown_of_what_the_dead_held_somebody_is_refused(outcome_of: Callable[[str], Outcome]) -> None:
    assert outcome_of("killed, its slots free at once").refused > 0


def test_nobody_is_refused_when_a_holder_is_stopped_for_longer_than_its_lease(
    outcome_of: Callable[[str], Outcome],
) -> None:
    outcome = outcome_of("stopped")
    assert (outcome.refused, outcome.calls >= 36) == (0, True), outcome.summary


def test_a_process_that_stood_still_with_slots_does_not_use_them(outcome_of: Callable[[str], Outcome]) -> None:
    outcome = outcome_of("stopped with grants")
    assert (outcome.refused, outcome.calls) == (0, 30), outcome.summary


def test_without_a_look_at_the_lease_it_uses_them_and_is_refused(outcome_of: Callable[[str], Outcome]) -> None:
    assert outcome_of("stopped with grants, its lease not looked at").refused > 0


def test_a_forked_child_does_not_use_the_slots_of_its_parent(outcome_of: Callable[[str], Outcome]) -> None:
    outcome = outcome_of("forked")
    assert (outcome.refused, outcome.calls) == (0, 8), outcome.summary


def test_a_child_that_goes_on_as_the_parent_is_refused(outcome_of: Callable[[str], Outcome]) -> None:
    assert outcome_of("forked, going on with the parent's slots").refused > 0


def test_two_event_loops_of_one_process_keep_one_limit(outcome_of: Callable[[str], Outcome]) -> None:
    outcome = outcome_of("two loops")
    assert (outcome.refused, outcome.calls) == (0, 16), outcome.summary


def test_two_event_loops_with_one_id_are_refused(outcome_of: Callable[[str], Outcome]) -> None:
    assert outcome_of("two loops, one id").refused > 0
