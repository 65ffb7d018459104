"""Processes that die, stand still, fork, or have several event loops, and the limit that they keep all the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import pytest

from bms_async.limits.shared.messages import Terms
from tests.limits.shared._servers import Server
from tests.limits.shared.failures._stage import LIMIT, Outcome, Scenario, Stage, control, guarded
from tests.support.postgres import Postgres


async def nothing_happens(stage: Stage, store: str) -> None:
    await stage.begin_four(store)
    await stage.until_over()


async def nothing_is_shared(stage: Stage, stores: Sequence[str]) -> None:
    for store in stores:
        await stage.open_account(store)
        worker = await stage.begin(store, store, calls=LIMIT)
        worker.go()
    await stage.until_over()


async def a_holder_is_killed(stage: Stage, store: str, act: str = "") -> None:
    stage.gateway.withheld.add("one")
    one, *_ = await stage.begin_four(store, act=act)
    one.kill()
    await stage.until_over()


async def a_holder_is_stopped(stage: Stage, store: str) -> None:
    stage.gateway.withheld.add("one")
    one, *_ = await stage.begin_four(store)
    one.stop()
    await stage.until_forgotten(one, store)
    stage.gateway.withheld.clear()
    await one.resume()
    await stage.until_over()


async def one_stands_still_with_grants(stage: Stage, store: str) -> None:
    """The others have the slots that it stood still with, and go on using them, when it goes on."""
    await stage.open_account(store)
    one = await stage.begin("one", store, calls=LIMIT // 2, act="stands still with grants")
    one.go()
    await one.until("standing")
    for name in ("two", "three"):
        worker = await stage.begin(name, store, calls=LIMIT)
        worker.go()
    await stage.until_arrived(LIMIT)
    await one.resume()
    await stage.until_over()


async def one_forks(stage: Stage, store: str) -> None:
    await stage.open_account(store)
    one = await stage.begin("one", store, calls=LIMIT, act="forks")
    one.go()
    child = await stage.until_begun("one, too")
    assert child.pid != one.pid
    child.go()
    await stage.until_over()


async def one_has_two_loops(stage: Stage, store: str) -> None:
    await stage.open_account(store)
    one = await stage.begin("one", store, calls=LIMIT, act="two loops")
    other = await stage.until_begun("one, too")
    assert other.pid == one.pid
    one.go()
    other.go()
    await stage.until_over()


@pytest.fixture(scope="module")
def scenarios(valkey: Server, postgres: Postgres, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Scenario]:
    folder = tmp_path_factory.mktemp("limits")
    server, file, *files = valkey.url, *(f"sqlite://{folder}/{number}.db" for number in range(3))
    lapsing = Terms(window=60.0, lease=1.5, timeout=60.0)
    soon = Terms(window=3.0, lease=1.0, timeout=1.5)
    return {
        "nothing": guarded(partial(nothing_happens, store=server)),
        "nothing, a file": guarded(partial(nothing_happens, store=file)),
        "nothing, not shared": control(partial(nothing_is_shared, stores=files)),
        "killed": guarded(partial(a_holder_is_killed, store=server)),
        "killed, a file": guarded(partial(a_holder_is_killed, store=file)),
        "killed, whole clients": guarded(partial(a_holder_is_killed, store=server, act="is a whole client")),
        "killed, a database": guarded(partial(a_holder_is_killed, store=postgres.url())),
        "killed, its slots free at once": control(
            partial(a_holder_is_killed, store=file), without="cooldown of the dead", terms=lapsing
        ),
        "stopped": guarded(partial(a_holder_is_stopped, store=server)),
        "stopped with grants": guarded(partial(one_stands_still_with_grants, store=server)),
        "stopped with grants, its lease not looked at": control(
            partial(one_stands_still_with_grants, store=server), without="lease", terms=soon
        ),
        "forked": guarded(partial(one_forks, store=server)),
        "forked, going on as the parent": control(partial(one_forks, store=server), without="anew in a child"),
        "two loops": guarded(partial(one_has_two_loops, store=server)),
        "two loops, one id": control(partial(one_has_two_loops, store=server), without="own id of each loop"),
    }


@pytest.mark.parametrize("store", ["nothing", "nothing, a file"])
def test_four_processes_keep_one_limit(outcome_of: Callable[[str], Outcome], store: str) -> None:
    outcome = outcome_of(store)
    assert (outcome.refused, outcome.answered) == (0, 36), outcome.summary


def test_two_processes_that_share_nothing_are_refused(outcome_of: Callable[[str], Outcome]) -> None:
    assert outcome_of("nothing, not shared").refused > 0


@pytest.mark.parametrize("store", ["killed", "killed, a file", "killed, a database", "killed, whole clients"])
def test_nobody_is_refused_when_a_holder_is_killed_with_slots_in_flight(
    outcome_of: Callable[[str], Outcome], store: str
) -> None:
    outcome = outcome_of(store)
    assert (outcome.refused, outcome.answered) == (0, 27), outcome.summary


def test_without_a_cooldown_of_what_the_dead_held_somebody_is_refused(outcome_of: Callable[[str], Outcome]) -> None:
    assert outcome_of("killed, its slots free at once").refused > 0


def test_nobody_is_refused_when_a_holder_is_stopped_for_longer_than_its_lease(
    outcome_of: Callable[[str], Outcome],
) -> None:
    outcome = outcome_of("stopped")
    assert (outcome.refused, outcome.answered) == (0, 36), outcome.summary


def test_a_process_that_stood_still_with_slots_does_not_use_them(outcome_of: Callable[[str], Outcome]) -> None:
    outcome = outcome_of("stopped with grants")
    assert (outcome.refused, outcome.answered) == (0, 30), outcome.summary


def test_without_a_look_at_the_lease_it_uses_them_and_is_refused(outcome_of: Callable[[str], Outcome]) -> None:
    assert outcome_of("stopped with grants, its lease not looked at").refused > 0


def test_a_forked_child_does_not_use_the_slots_of_its_parent(outcome_of: Callable[[str], Outcome]) -> None:
    outcome = outcome_of("forked")
    assert (outcome.refused, outcome.answered) == (0, 24), outcome.summary


def test_a_child_that_goes_on_as_the_parent_is_refused(outcome_of: Callable[[str], Outcome]) -> None:
    assert outcome_of("forked, going on as the parent").refused > 0


def test_two_event_loops_of_one_process_keep_one_limit(outcome_of: Callable[[str], Outcome]) -> None:
    outcome = outcome_of("two loops")
    assert (outcome.refused, outcome.answered) == (0, 24), outcome.summary


def test_two_event_loops_with_one_id_are_refused(outcome_of: Callable[[str], Outcome]) -> None:
    assert outcome_of("two loops, one id").refused > 0
