"""Which servers of a rollout go when, case by case."""

from __future__ import annotations

import gc
from collections import Counter
from itertools import pairwise

import pytest

from bms_async.fleet.rollout.order import best_order
from bms_async.fleet.rollout.planner import RolloutPlanner
from bms_async.fleet.rollout.progress import MAX_NAMED
from bms_async.fleet.rollout.room import Settling
from bms_async.fleet.rollout.standing import RolloutPhase, WaitReason
from tests.fleet.rollout._walk import Limits, fleet_of, walk


def planner_of(groups: dict[str, int], **limits: float | None) -> RolloutPlanner:
    """Return a sealed planner of groups of given sizes, of which the servers are called a0, a1 and so on."""
    planner = RolloutPlanner(**limits)  # type: ignore[arg-type]
    for group, size in groups.items():
        for number in range(size):
            planner.add(f"{group}{number}", group)
    planner.seal()
    return planner


def end_well(planner: RolloutPlanner, *servers: str, at: float) -> None:
    for server_id in servers:
        planner.end(server_id, at, well=True, available=True)


def test_a_thousand_servers_in_fifty_racks_take_twenty_calls_and_a_hundred_minutes() -> None:
    history = walk(Limits(max_unavailable=1).planner(), fleet_of([20] * 50))

    assert history.takes == 20
    assert history.end == 100 * 60


def test_racks_that_are_not_in_step_take_at_most_a_fifth_of_the_calls_and_two_hundredths_more_time() -> None:
    seconds = [300.0 + 0.37 * rack for rack in range(50)]
    history = walk(Limits(max_unavailable=1).planner(), fleet_of([20] * 50, seconds))

    assert history.takes <= 1000 / 5
    assert history.end <= 20 * seconds[-1] * 1.02


def test_a_share_is_rounded_down_as_it_is_written_and_is_one_at_least() -> None:
    planner = planner_of({"a": 100, "b": 7, "c": 3}, max_unavailable=0.29)

    assert [planner.allowed_of(group) for group in planner.groups()] == [29, 2, 1]
    assert int(0.29 * 100) == 28, "what the float's own value would give"


def test_a_server_that_was_refused_takes_no_room() -> None:
    planner = planner_of({"a": 2}, max_unavailable=1, settle=30)
    assert planner.take(0) == ("a0",)

    planner.end("a0", 1, well=False, available=True)

    assert planner.take(1) == ("a1",)


def test_a_room_is_free_when_its_server_has_settled() -> None:
    planner = planner_of({"a": 2}, max_unavailable=1, settle=30)
    planner.take(0)
    end_well(planner, "a0", at=10)

    assert planner.next_time(10) == 40
    assert planner.take(39.9) == ()
    assert planner.unavailable_of("a") == 1
    assert planner.take(40) == ("a1",)


def test_the_rest_goes_when_all_canaries_are_well_and_have_settled() -> None:
    planner = planner_of({"a": 3, "b": 3}, canary=4, max_unavailable=2, settle=30)
    assert planner.take(0) == ("a0", "a1", "b0")
    end_well(planner, "a0", "a1", "b0", at=5)
    assert planner.take(5) == ()
    assert planner.take(35) == ("a2",)
    assert planner.phase is RolloutPhase.CANARY
    assert planner.next_time(35) is None

    end_well(planner, "a2", at=50)

    assert planner.next_time(50) == 80
    assert planner.standing(79).reason is WaitReason.CANARIES_SETTLE
    assert planner.take(79) == ()
    assert planner.take(80) == ("b1", "b2")


@pytest.mark.parametrize("available", [False, True])
def test_nothing_goes_after_a_canary_that_is_not_well(available: bool) -> None:
    planner = planner_of({"a": 5}, canary=2)
    assert planner.take(0) == ("a0", "a1")
    end_well(planner, "a0", at=1)
    planner.end("a1", 2, well=False, available=available)

    assert planner.canary_failure == "a1"
    assert planner.is_over
    assert planner.take(1000) == ()
    assert planner.next_time(1000) is None
    assert planner.pop_blocked(10) == []
    assert planner.standing(1000).reason is WaitReason.CANARY_FAILED


def test_canaries_that_are_the_whole_fleet_are_a_plan_too() -> None:
    planner = planner_of({"a": 2}, canary=5)
    end_well(planner, *planner.take(0), at=1)

    assert planner.is_over
    assert planner.next_time(1) is None


def test_a_group_whose_room_is_used_up_for_good_is_given_up_and_the_others_go_on() -> None:
    planner = planner_of({"a": 3, "b": 2}, max_unavailable=1)
    assert planner.take(0) == ("a0", "b0")
    planner.end("a0", 1, well=False, available=False)

    standing = planner.standing(1)
    assert (standing.groups_blocked, standing.blocked_groups, standing.lost_servers) == (1, ("a",), ("a0",))
    assert planner.pop_blocked(1) == [("a1", "a")]
    assert planner.pop_blocked(5) == [("a2", "a")]
    assert planner.pop_blocked(5) == []
    end_well(planner, "b0", at=2)
    assert planner.take(2) == ("b1",)
    end_well(planner, "b1", at=3)
    assert planner.is_over


def test_a_group_goes_on_when_what_blocked_it_is_found_well() -> None:
    planner = planner_of({"a": 2}, max_unavailable=1, settle=30)
    planner.take(0)
    planner.end("a0", 1, well=False, available=False)
    assert planner.standing(1).reason is WaitReason.BLOCKED

    planner.recover("a0", 5)

    assert planner.pop_blocked(5) == []
    assert planner.next_time(5) == 35
    assert planner.take(35) == ("a1",)
    assert planner.standing(35).groups_blocked == 0


def test_a_group_is_not_given_up_as_long_as_something_of_it_may_free_room() -> None:
    planner = planner_of({"a": 4}, max_unavailable=2)
    planner.take(0)
    planner.end("a0", 1, well=False, available=False)
    assert planner.pop_blocked(5) == []

    end_well(planner, "a1", at=2)

    assert planner.take(2) == ("a2",)


def test_servers_that_were_put_back_go_first_and_in_their_order() -> None:
    planner = planner_of({"a": 5})
    assert planner.take(0, 3) == ("a0", "a1", "a2")

    planner.put_back(("a1", "a2"), 1)

    assert planner.under_way == 1
    assert planner.take(1, 3) == ("a1", "a2", "a3")


def test_the_group_with_the_most_rounds_left_goes_first() -> None:
    planner = planner_of({"a": 2, "b": 9, "c": 12}, max_unavailable=3, max_in_flight=4, packs=False)

    assert planner.take(0) == ("c0", "c1", "c2", "b0")


def test_groups_of_one_length_take_turns_in_the_order_in_which_they_were_added() -> None:
    planner = planner_of({"a": 4, "b": 4, "c": 4}, max_unavailable=2, max_in_flight=5)

    assert planner.take(0) == ("a0", "a1", "b0", "b1", "c0")


def test_no_more_groups_are_begun_than_keep_all_busy_while_others_wait_for_their_end() -> None:
    limits = Limits(max_unavailable=1, max_groups=3, max_in_flight=2)

    assert walk(limits.planner(), fleet_of([5, 5, 5, 5])).end == 10 * 300
    assert walk(limits.planner(), fleet_of([5, 5, 5])).end == 8 * 300, "no group waits for an end, so all take turns"


def test_a_group_is_begun_when_another_has_ended_and_settled() -> None:
    planner = planner_of({"a": 2, "b": 1}, max_unavailable=2, max_groups=1, settle=30)
    assert planner.take(0) == ("a0", "a1")
    end_well(planner, "a0", at=1)
    assert planner.take(31) == ()
    assert planner.standing(31).reason is WaitReason.GROUPS
    end_well(planner, "a1", at=40)

    assert planner.take(69) == ()
    assert planner.take(70) == ("b0",)


def test_ends_that_come_one_after_the_other_go_in_one_call() -> None:
    planner = planner_of({f"{number:02}/": 3 for number in range(50)}, max_unavailable=1)
    for number, server_id in enumerate(planner.take(0)):
        if number < 12:
            assert planner.take(300 + number * 1e-6) == ()
        end_well(planner, server_id, at=300 + number * 1e-6)
        if number == 5:
            assert planner.standing(300.001).reason is WaitReason.PACKING
            assert planner.next_time(300.001) == pytest.approx(303)

    assert len(planner.take(300.001)) == 50


def test_a_few_rooms_wait_for_a_hundredth_of_the_time_that_a_server_takes() -> None:
    planner = planner_of({f"{number:02}/": 3 for number in range(50)}, max_unavailable=1)
    first = planner.take(0)
    end_well(planner, first[0], at=100)
    end_well(planner, first[1], at=100.5)

    assert planner.next_time(100.5) == 101
    assert planner.take(100.99) == ()
    assert planner.take(101) == ("00/1", "01/1")


def test_nothing_waits_where_each_server_is_a_call_of_its_own() -> None:
    planner = planner_of({f"{number:02}/": 3 for number in range(50)}, max_unavailable=1, packs=False)
    first = planner.take(0)
    end_well(planner, first[0], at=100)

    assert planner.take(100) == ("00/1",)


def test_groups_of_long_rounds_do_not_slow_down_a_long_chain_of_short_ones() -> None:
    sizes, seconds = [100, *[3] * 30], [60.0, *[1990.0 + rack for rack in range(30)]]

    history = walk(Limits(max_unavailable=1).planner(), fleet_of(sizes, seconds))

    assert history.end <= 6000 * 1.02


def test_a_standing_tells_how_far_all_is() -> None:
    planner = planner_of({"a": 2, "b": 1, "c": 40}, max_unavailable=30)
    planner.take(0)
    end_well(planner, "a0", "a1", at=5)
    for number in range(25):
        planner.end(f"c{number}", 6, well=False, available=False)

    standing = planner.standing(6)

    assert (standing.groups, standing.groups_touched, standing.groups_done) == (3, 2, 1)
    assert (standing.waiting, standing.under_way, standing.lost) == (10, 6, 25)
    assert standing.lost_servers == tuple(f"c{number}" for number in range(MAX_NAMED))
    assert standing.reason is WaitReason.ROOM
    group = planner.standing_of("c")
    assert group is not None
    assert (group.size, group.allowed, group.waiting, group.under_way, group.unavailable) == (40, 30, 10, 5, 30)
    assert group.touched
    assert planner.standing_of("d") is None
    assert (planner.allowed_of("d"), planner.unavailable_of("d")) == (0, 0)


def test_servers_that_are_not_to_be_taken_any_more_leave_a_few_at_a_time() -> None:
    planner = planner_of({"a": 4, "b": 3}, canary=1, max_unavailable=2)
    assert planner.take(0) == ("a0",)

    assert planner.pop_waiting(2) == ("a1", "a2")
    end_well(planner, "a0", at=1)
    assert planner.take(100) == ()
    assert planner.next_time(100) is None
    assert planner.pop_waiting(2) == ("a3", "b0")
    assert planner.pop_waiting(9) == ("b1", "b2")
    assert planner.pop_waiting(9) == ()
    assert planner.is_over


def test_a_server_that_is_put_back_while_others_leave_leaves_too() -> None:
    planner = planner_of({"a": 2, "b": 2}, max_unavailable=1)
    taken = planner.take(0)
    assert planner.pop_waiting(9) == ("a1", "b1")

    planner.put_back(taken, 1)

    assert planner.pop_waiting(9) == ("a0", "b0")
    assert planner.is_over


def test_the_servers_that_block_a_group_are_named() -> None:
    planner = planner_of({"a": 30, "b": 1}, max_unavailable=25)
    planner.take(0)
    for number in range(25):
        planner.end(f"a{number}", 1, well=False, available=False)

    assert planner.lost_of("a") == tuple(f"a{number}" for number in range(MAX_NAMED))
    planner.recover("a0", 2)
    assert planner.lost_of("a")[0] == "a1"
    assert planner.lost_of("b") == planner.lost_of("c") == ()


def test_a_server_that_is_not_under_way_changes_nothing() -> None:
    planner = planner_of({"a": 1})
    planner.end("a0", 0, well=True, available=True)
    planner.put_back(("a0", "x"), 0)
    planner.recover("a0", 0)

    assert planner.take(0) == ("a0",)


def test_an_empty_plan_is_over() -> None:
    planner = planner_of({}, canary=3, max_groups=2)

    assert planner.is_over
    assert planner.take(0) == ()
    assert planner.next_time(0) is None


def test_nothing_goes_before_all_were_added() -> None:
    planner = RolloutPlanner()
    planner.add("a")

    assert planner.take(0) == ()
    assert not planner.is_over


def test_a_planner_that_resumes_goes_on_with_a_group_of_which_one_was_lost() -> None:
    planner = planner_of({"a": 4, "b": 2}, max_unavailable=2, packs=False)
    for _ in planner.resuming({"a0", "a1"}.__contains__, 0):
        pass
    assert planner.take(0) == ("b0", "b1")
    planner.end("a0", 1, well=False, available=False)
    end_well(planner, "a1", at=1)

    # It has as many rounds left as before those two were taken.
    assert planner.take(1) == ("a2",)


@pytest.mark.parametrize("groups", [1, 40])
def test_a_planner_resumes_and_is_taken_apart_in_steps(groups: int) -> None:
    size = 20_000 // groups
    planner = planner_of({f"{number:02}-": size for number in range(groups)})
    asked: Counter[int] = Counter()
    steps = 0

    def was_taken(server_id: str) -> bool:
        asked[steps] += 1
        return True

    taken = [0]
    for _ in planner.resuming(was_taken, 0):
        steps += 1
        taken.append(planner.under_way)
    taken.append(planner.under_way)

    assert planner.under_way == 20_000
    assert max(after - before for before, after in pairwise(taken)) <= 4000
    assert max(asked.values()) <= 2000
    assert len(list(planner.dismantling())) > 1


def test_ten_thousand_groups_are_sealed_in_steps() -> None:
    planner = RolloutPlanner(max_unavailable=1)
    for number in range(10_000):
        planner.add(f"{number}", f"{number}")

    assert sum(1 for _ in planner.sealing()) >= 10
    assert len(planner.take(0)) == 1000


def test_a_hundred_thousand_servers_that_wait_are_no_objects_for_the_collector() -> None:
    planner = RolloutPlanner(max_unavailable=0.1)
    ids = [f"server-{number}" for number in range(100_000)]
    gc.collect()
    before = len(gc.get_objects())
    for number, server_id in enumerate(ids):
        planner.add(server_id, f"{number % 100}")
    planner.seal()
    gc.collect()

    assert len(gc.get_objects()) - before < 100


def test_rooms_that_settle_are_freed_some_at_a_time() -> None:
    settling = Settling(10)
    for number in range(10_000):
        settling.add(number, number * 1e-6)

    assert len(list(settling.pop_due(5, 3000))) == 0
    assert [index for _, index in settling.pop_due(20, 6000)] == list(range(6000))
    assert settling.next_due(1.0) == pytest.approx(10.009999)
    assert [index for _, index in settling.pop_due(20, 6000)] == list(range(6000, 10_000))
    assert settling.next_due(1.0) is None


def test_a_search_for_a_better_order_ends_soon_and_keeps_all_groups() -> None:
    rounds = [100 + 7 * number % 61 for number in range(90)]

    assert sorted(best_order(rounds, 40)) == list(range(90))
    assert best_order([3, 3, 2, 2, 2], 2) != sorted(range(5), key=lambda index: -[3, 3, 2, 2, 2][index])
