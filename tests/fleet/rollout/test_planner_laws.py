"""What holds of every plan, whatever the fleet: judged from the outside, by books that are not the planner's."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import product
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bms_async.fleet.rollout import planner as planner_module
from bms_async.fleet.rollout.planner import RolloutPlanner
from tests.fleet.rollout._walk import End, Fate, Limits, broken_laws, fleet_of, walk

SLACK = 1e-9
CLOSE = 1.02
"""How many times as long as the best plan a plan may be."""

FLEETS = st.lists(
    st.builds(
        Fate,
        group=st.sampled_from(["a", "b", "c", "d", "e"]),
        seconds=st.one_of(st.sampled_from([1.0, 60.0, 300.0]), st.floats(0.1, 500)),
        end=st.sampled_from([End.WELL] * 6 + [End.REFUSED, End.LOST, End.RECOVERS]),
        put_back=st.sampled_from([0, 0, 0, 0, 1, 2]),
    ),
    max_size=25,
).map(lambda fates: {f"server-{number}": fate for number, fate in enumerate(fates)})
LIMITS = st.builds(
    Limits,
    canary=st.sampled_from([0, 0, 1, 3, 40]),
    max_unavailable=st.sampled_from([None, 1, 2, 0.1, 0.29, 0.5]),
    max_groups=st.sampled_from([None, 1, 2, 3]),
    settle=st.sampled_from([0.0, 0.01, 30.0]),
    max_in_flight=st.sampled_from([None, 1, 2, 5]),
    packs=st.booleans(),
)
SIZES = st.lists(st.integers(1, 30), min_size=1, max_size=8)


@settings(max_examples=200)
@given(limits=LIMITS, fleet=FLEETS, max_count=st.sampled_from([1, 3, 1000]))
def test_limits_are_kept_and_every_server_is_taken_or_is_left_for_a_reason(
    limits: Limits, fleet: dict[str, Fate], max_count: int
) -> None:
    assert broken_laws(limits, fleet, limits.planner(), max_count=max_count) == []


@settings(max_examples=200)
@given(
    limits=LIMITS,
    fleet=FLEETS,
    max_count=st.sampled_from([1, 3, 1000]),
    deaths=st.sets(st.integers(0, 40), min_size=1, max_size=4),
)
def test_a_planner_that_goes_on_in_the_place_of_another_keeps_the_limits_and_loses_nobody(
    limits: Limits, fleet: dict[str, Fate], max_count: int, deaths: set[int]
) -> None:
    # Of a server that recovers nothing is written down.
    fleet = {name: fate._replace(end=End.LOST) if fate.end is End.RECOVERS else fate for name, fate in fleet.items()}
    others = {step: limits.planner() for step in deaths}

    assert broken_laws(limits, fleet, limits.planner(), max_count=max_count, deaths=others) == []


_DEATHS = range(1, 30)
_HELD_BY_CANARIES = (Limits(canary=4, max_unavailable=1, max_groups=1), fleet_of([3, 3, 3, 3]))


@pytest.mark.parametrize(
    ("limits", "fleet"),
    [
        _HELD_BY_CANARIES,
        (Limits(max_unavailable=1, settle=30.0), fleet_of([8, 3, 1])),
        (Limits(canary=2, max_unavailable=0.29, max_in_flight=3, settle=1.0), fleet_of([9, 4], [300.0, 60.0])),
    ],
    ids=["canaries of many groups", "much has settled", "few at once"],
)
def test_whenever_a_planner_dies_the_next_one_keeps_the_limits(limits: Limits, fleet: dict[str, Fate]) -> None:
    for step in _DEATHS:
        assert broken_laws(limits, fleet, limits.planner(), deaths={step: limits.planner()}) == [], step


class _TouchesWhatCanariesTouched(RolloutPlanner):
    """Takes the groups of canaries, which are over, for groups that are touched."""

    def resuming(self, was_taken: Callable[[str], bool], now: float) -> Iterator[None]:
        yield from super().resuming(was_taken, now)
        if self.phase == "main":
            for group in self._books.groups:
                if group.under_way and group.later:
                    yield from self._books.unqueue(group.index.__eq__, 1)
                    self._books.open(group)


class _ForgetsWhatWasTaken(RolloutPlanner):
    """Takes everything once more."""

    def resuming(self, was_taken: Callable[[str], bool], now: float) -> Iterator[None]:
        yield from ()


@pytest.mark.parametrize("kind", [_TouchesWhatCanariesTouched, _ForgetsWhatWasTaken])
def test_a_planner_that_resumes_wrongly_breaks_a_law(kind: Callable[..., RolloutPlanner]) -> None:
    limits, fleet = _HELD_BY_CANARIES

    found = [broken_laws(limits, fleet, limits.planner(), deaths={step: limits.planner(kind)}) for step in _DEATHS]

    assert any(found)


class _GoesOnTooEarly(RolloutPlanner):
    """Takes canaries that were taken for canaries that have ended."""

    def take(self, now: float, max_count: int = 1000) -> tuple[str, ...]:
        taken = super().take(now, max_count)
        if taken and self.phase == "canary" and self._main_at is None:
            self._main_at = now
        return taken


class _IgnoresCanaries(RolloutPlanner):
    """Goes on although a canary is not well."""

    def end(self, server_id: str, now: float, *, well: bool, available: bool) -> None:
        super().end(server_id, now, well=True if self.phase == "canary" else well, available=available)


class _ForgetsTheLost(RolloutPlanner):
    """Takes servers that are unavailable for good for available ones."""

    def end(self, server_id: str, now: float, *, well: bool, available: bool) -> None:
        super().end(server_id, now, well=well, available=True)


class _GivesUpTooEarly(RolloutPlanner):
    """Gives up what waits in a group when one server of it is unavailable for good."""

    def end(self, server_id: str, now: float, *, well: bool, available: bool) -> None:
        if not available and (group := self._chains.group("rack 0")) is not None:
            group.allowed = 1
        super().end(server_id, now, well=well, available=available)


class _LosesWhatComesBack(RolloutPlanner):
    """Puts servers that were not sent at the end."""

    def put_back(self, server_ids: Any, now: float) -> None:
        super().put_back(reversed(tuple(server_ids)), now)


class _Starves(RolloutPlanner):
    """Takes none of the last servers."""

    def take(self, now: float, max_count: int = 1000) -> tuple[str, ...]:
        return super().take(now, max_count) if self.waiting > 1 else ()


_MANY = fleet_of([10, 5])
_ONE_IS_LOST = {**_MANY, "0-1": Fate("rack 0", end=End.LOST), "1-1": Fate("rack 1", end=End.LOST)}
_COMES_BACK = {name: Fate(fate.group, put_back=1) for name, fate in _MANY.items()}
BROKEN: dict[str, tuple[Limits, dict[str, Fate], dict[str, Any], Callable[..., RolloutPlanner]]] = {
    "frees a room before it has settled": (
        Limits(max_unavailable=1, settle=30.0),
        _MANY,
        {"settle": 0.0},
        RolloutPlanner,
    ),
    "counts one too many": (Limits(max_unavailable=1), _MANY, {"max_unavailable": 2}, RolloutPlanner),
    "has no bound of a group": (Limits(max_unavailable=0.5), _MANY, {"max_unavailable": None}, RolloutPlanner),
    "touches too many groups": (Limits(max_unavailable=1, max_groups=1), _MANY, {"max_groups": 2}, RolloutPlanner),
    "has too many under way": (Limits(max_in_flight=4), _MANY, {"max_in_flight": 5}, RolloutPlanner),
    "has no canaries": (Limits(canary=2), _MANY, {"canary": 0}, RolloutPlanner),
    "has one canary too few": (Limits(canary=2), _MANY, {"canary": 1}, RolloutPlanner),
    "goes on before the canaries have ended": (Limits(canary=2), _MANY, {}, _GoesOnTooEarly),
    "goes on when a canary is not well": (Limits(canary=3), _ONE_IS_LOST, {}, _IgnoresCanaries),
    "forgets what is unavailable for good": (Limits(max_unavailable=1), _ONE_IS_LOST, {}, _ForgetsTheLost),
    "gives up too early": (Limits(max_unavailable=2), _ONE_IS_LOST, {}, _GivesUpTooEarly),
    "puts back in the wrong order": (Limits(), _COMES_BACK, {}, _LosesWhatComesBack),
    "lets the last ones starve": (Limits(max_unavailable=1), _MANY, {}, _Starves),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_planner_that_does_something_wrong_breaks_a_law(how: str) -> None:
    limits, fleet, changed, kind = BROKEN[how]

    assert broken_laws(limits, fleet, limits.planner()) == []
    assert broken_laws(limits, fleet, limits.planner(kind, **changed)) != []


def test_a_planner_that_rounds_a_share_up_breaks_a_law(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = Limits(max_unavailable=0.25)
    assert broken_laws(limits, _MANY, limits.planner()) == []

    monkeypatch.setattr(planner_module, "allowed_of", lambda size, share: math.ceil(size * share))

    assert broken_laws(limits, _MANY, limits.planner()) != []


@settings(max_examples=60)
@given(
    sizes=SIZES,
    seconds=st.lists(st.floats(60, 1000), min_size=8, max_size=8),
    allowed=st.integers(1, 4),
    packs=st.booleans(),
)
def test_without_a_bound_over_all_groups_the_plan_is_as_long_as_its_longest_group(
    sizes: list[int], seconds: list[float], allowed: int, packs: bool
) -> None:
    best = max(math.ceil(size / allowed) * each for size, each in zip(sizes, seconds, strict=False))
    limits = Limits(max_unavailable=allowed, packs=packs)

    history = walk(limits.planner(), fleet_of(sizes, seconds))

    assert best - SLACK * best <= history.end <= best * CLOSE


@settings(max_examples=60)
@given(sizes=SIZES, allowed=st.integers(1, 4), max_in_flight=st.integers(1, 12), settle=st.sampled_from([0.0, 30.0]))
def test_with_so_many_under_way_the_plan_is_as_long_as_the_longest_group_or_as_all_work(
    sizes: list[int], allowed: int, max_in_flight: int, settle: float
) -> None:
    rounds = max(math.ceil(max(sizes) / allowed), math.ceil(sum(sizes) / max_in_flight))
    limits = Limits(max_unavailable=allowed, max_in_flight=max_in_flight)

    assert walk(limits.planner(), fleet_of(sizes)).end <= rounds * 300 * CLOSE


@settings(max_examples=40)
@given(
    sizes=st.lists(st.integers(1, 20), min_size=1, max_size=7), allowed=st.integers(1, 3), max_groups=st.integers(1, 4)
)
def test_with_so_many_groups_touched_the_plan_is_as_long_as_the_best_there_is(
    sizes: list[int], allowed: int, max_groups: int
) -> None:
    rounds = _least_rounds([math.ceil(size / allowed) for size in sizes], max_groups)
    limits = Limits(max_unavailable=allowed, max_groups=max_groups)

    assert walk(limits.planner(), fleet_of(sizes)).end <= rounds * 300 * CLOSE


def test_the_longest_groups_first_would_not_always_be_the_best_order() -> None:
    assert _least_rounds([3, 3, 2, 2, 2], 2) == 6
    assert walk(Limits(max_unavailable=1, max_groups=2).planner(), fleet_of([3, 3, 2, 2, 2])).end == 6 * 300


@settings(max_examples=30)
@given(
    sizes=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    allowed=st.integers(1, 2),
    max_groups=st.integers(1, 3),
    max_in_flight=st.integers(1, 4),
)
def test_with_both_bounds_the_plan_is_at_most_one_round_longer_than_the_best(
    sizes: list[int], allowed: int, max_groups: int, max_in_flight: int
) -> None:
    limits = Limits(max_unavailable=allowed, max_groups=max_groups, max_in_flight=max_in_flight)

    rounds = walk(limits.planner(), fleet_of(sizes)).end / 300

    assert rounds <= _least_rounds_of_both(sizes, limits) + 1 + SLACK


def _least_rounds(groups: Sequence[int], lanes: int) -> int:
    """Return how long the best of all ways to put groups into lanes is."""
    return min(
        max(sum(rounds for rounds, lane in zip(groups, way, strict=True) if lane == which) for which in range(lanes))
        for way in product(*(range(min(lanes, number + 1)) for number in range(len(groups))))
    )


def _least_rounds_of_both(sizes: Sequence[int], limits: Limits) -> int:
    """Return how many rounds the best of all plans takes, by trying everything there is to do in each round."""
    states = {tuple(sorted((size, False) for size in sizes))}
    rounds = 0
    while () not in states:
        rounds += 1
        states = {state for before in states for state in _after(before, limits)}
    return rounds


def _after(groups: tuple[tuple[int, bool], ...], limits: Limits) -> set[tuple[tuple[int, bool], ...]]:
    found: set[tuple[tuple[int, bool], ...]] = set()
    allowed, max_in_flight, max_groups = (limits.max_unavailable, limits.max_in_flight, limits.max_groups)
    assert allowed is not None
    assert max_in_flight is not None
    assert max_groups is not None
    for numbers in product(*(range(min(int(allowed), left) + 1) for left, _ in groups)):
        after = [
            (left - number, is_open or number > 0) for number, (left, is_open) in zip(numbers, groups, strict=True)
        ]
        if sum(numbers) <= max_in_flight and sum(is_open for _, is_open in after) <= max_groups:
            found.add(tuple(sorted(group for group in after if group[0])))
    return found
