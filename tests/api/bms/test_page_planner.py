"""Which page comes next, and what shows that the list has moved: without a cloud."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from bms_async.api._recent_ids import RecentIds
from bms_async.api.bms._page_planner import (
    MIN_OVERLAP_SIZE,
    REFETCH_DELAYS,
    STEPS_BACK,
    USUAL_CAPS,
    PagePlanner,
    PageRange,
)


def read_all(planner: PagePlanner, total: int) -> list[PageRange]:
    """Read a list that does not move, page by page."""
    spans = []
    while True:
        span = planner.plan()
        spans.append(span)
        size = max(0, min(span.size, total - span.start))
        if not planner.accept(span, size, total, is_new=size > 0).pages:
            return spans


@given(page_size=st.integers(MIN_OVERLAP_SIZE, 1000), total=st.integers(501, 30_000))
def test_each_page_holds_the_end_of_the_one_before_and_not_much_more(page_size: int, total: int) -> None:
    spans = read_all(PagePlanner(page_size), total)

    end = 0
    for span in spans:
        assert span.size <= page_size
        assert span.start <= max(0, end - 1)
        assert span.stop >= end + page_size // 4
        end = span.stop
    assert end >= total


@pytest.mark.parametrize(("total", "calls"), [(999, 1), (1000, 2), (1001, 2), (10_000, 11), (100_000, 105)])
def test_overlaps_cost_few_calls(total: int, calls: int) -> None:
    assert len(read_all(PagePlanner(1000), total)) <= calls


@given(page_size=st.integers(1, MIN_OVERLAP_SIZE - 1), total=st.integers(0, 200))
def test_small_pages_go_by_number_and_do_not_overlap(page_size: int, total: int) -> None:
    assume(total >= page_size or total not in USUAL_CAPS)
    spans = read_all(PagePlanner(page_size), total)

    assert spans == [PageRange(number, page_size) for number in range(1, total // page_size + 2)]


def test_the_first_page_need_not_join_on_and_every_other_must() -> None:
    planner = PagePlanner(100)
    first = planner.plan()
    assert not planner.must_overlap(first, 100)
    planner.accept(first, 100, 500)

    second = planner.plan()
    assert planner.must_overlap(second, second.size)
    assert planner.must_overlap(second, 0)


def test_steps_back_become_longer_and_end() -> None:
    planner = PagePlanner(1000)
    for _ in range(40):
        planner.accept(planner.plan(), 1000, 100_000)
    end = planner.end

    for step in STEPS_BACK:
        assert planner.must_overlap(PageRange(99, 1000), 1000)
        planner.back_up()
        span = planner.plan()
        assert span.start < end - step < span.stop
    assert not planner.must_overlap(PageRange(99, 1000), 1000)
    planner.accept(span, 1000, 100_000)
    assert not planner.must_overlap(PageRange(99, 1000), 1000)
    planner.note_new()
    assert planner.must_overlap(PageRange(99, 1000), 1000)


def test_a_step_back_past_the_beginning_begins_anew() -> None:
    planner = PagePlanner(100)
    planner.accept(planner.plan(), 100, 500)
    planner.back_up()
    planner.plan()
    planner.back_up()

    assert planner.plan() == PageRange(1, 100)


def test_a_page_larger_than_asked_for_ends_the_overlaps() -> None:
    planner = PagePlanner(1000)
    planner.accept(planner.plan(), 100, 500)
    span = planner.plan()
    assert span == PageRange(2, 99)

    assert not planner.must_overlap(span, 100)
    planner.accept(span, 100, 500)
    assert planner.plan() == PageRange(3, 100)


@pytest.mark.parametrize("size", sorted(USUAL_CAPS))
def test_a_first_page_as_short_as_clouds_like_them_has_one_more_asked_for(size: int) -> None:
    planner = PagePlanner(1000)

    assert planner.accept(planner.plan(), size, size).pages == 1
    beyond = planner.plan()
    assert planner.accept(beyond, size - beyond.start, size, is_new=False).pages == 0


def test_a_page_that_brings_nothing_is_asked_for_at_growing_distances_and_then_is_lost() -> None:
    planner = PagePlanner(10)
    planner.accept(planner.plan(), 10, 30)

    steps = []
    for _ in range(len(REFETCH_DELAYS) + 1):
        span = planner.plan()
        assert span == PageRange(2, 10)
        steps.append(planner.accept(span, 0, 30))

    assert [step.delay for step in steps[:-1]] == list(REFETCH_DELAYS)
    assert steps[-1].is_lost
    assert not any(step.is_lost for step in steps[:-1])


def test_a_count_that_is_the_pages_own_counts_for_nothing() -> None:
    planner = PagePlanner(10)
    for _ in range(3):
        assert planner.accept(planner.plan(), 10, 10).pages == 1

    assert planner.count is None


@given(most=st.sampled_from([1000, 3000]), number=st.integers(0, 9000))
def test_the_last_ids_are_remembered_and_the_oldest_forgotten(most: int, number: int) -> None:
    remembered = RecentIds(most)
    ids = [str(each) for each in range(number)]
    assert all(remembered.add(each) for each in ids)

    assert not any(remembered.add(each) for each in ids[-most:])
    assert sum(each in remembered for each in ids) < most + 1000


def test_a_count_that_leaves_no_room_for_what_a_page_brings_is_not_the_lists() -> None:
    planner = PagePlanner(1000)

    assert planner.accept(planner.plan(), 10, 10).pages == 1
    # The page is cut short, and counts what it would have held.
    assert planner.accept(planner.plan(), 5, 10).pages == 1
    assert planner.count is None
