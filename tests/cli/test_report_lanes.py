"""The lanes of the report's page: what became of each group of a rollout, over time."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from datetime import timedelta

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async import FleetReport, Outcome, OutcomeState
from bms_async.cli.report_page.lanes import LANES, WIDTH, Lanes, lanes_of, most_at_once, tracks_of
from bms_async.cli.report_page.render import render_report
from bms_async.errors import SubJobFailedError
from bms_async.fleet.rollout.report import Pause, RolloutTally
from tests.cli.test_report_page import BEGAN, EVIL, failed, history, outcome, read, report_of

S = OutcomeState


def away(
    number: int, begin: float, end: float, state: OutcomeState = S.SUCCEEDED, *, server_id: str | None = None
) -> Outcome:
    """A server that was away from `begin` to `end`, in seconds."""
    error = SubJobFailedError(server_id="s", job_id="j", code=None, reason="no") if state is S.FAILED else None
    plain = outcome(number, state, error, at=end, server_id=server_id)
    return msgspec.structs.replace(plain, started=BEGAN + timedelta(seconds=begin))


def with_groups(
    rows: Iterable[tuple[str, Outcome]],
    *,
    allowed: int = 1,
    canaries: Sequence[int] = (),
    lost: Sequence[int] = (),
    blocked: Sequence[str] = (),
    pauses: Sequence[Pause] = (),
) -> FleetReport:
    """A report whose outcomes have groups; canaries and lost ones are told by their places."""
    rows, tally = list(rows), RolloutTally()
    for place, (group, each) in enumerate(rows):
        tally.add(each, group, is_canary=place in canaries, is_lost=place in lost)
    groups = tuple(tally.groups(lambda _: allowed, blocked.__contains__))
    report = report_of([each for _, each in rows])
    return msgspec.structs.replace(report, rollout=tally.report(groups, pauses))


def lanes(report: FleetReport, end: float = 100.0) -> Lanes:
    found = lanes_of(report, end)
    assert found is not None
    return found


def boxes(path: str) -> list[tuple[int, int, int]]:
    """The left end, the width and the top of each bar of a path."""
    return [(int(x), int(width), int(y)) for x, y, width in re.findall(r"M(\d+) (\d+)h(\d+)", path)]


def paused(begin: float, end: float, reason: str = "paused") -> Pause:
    return Pause(started=BEGAN + timedelta(seconds=begin), ended=BEGAN + timedelta(seconds=end), reason=reason)


def test_a_run_without_a_rollout_has_no_lanes() -> None:
    assert lanes_of(report_of([outcome()]), 30.0) is None
    assert "over time, from asking" not in read(report_of([outcome()])).text


def test_each_server_is_a_bar_from_asking_to_well_again() -> None:
    (lane,) = lanes(with_groups([("a", away(1, 0, 50)), ("a", away(2, 50, 100))])).lanes
    ((state, path),) = lane.paths
    assert state == "SUCCEEDED"
    assert boxes(path) == [(0, 500, 1), (500, 500, 1)]
    assert (lane.tracks, lane.most, lane.is_area) == (1, 1, False)
    assert lane.span == "0 s to 1 min 40 s".replace(" s", "\N{NO-BREAK SPACE}s").replace(
        " min", "\N{NO-BREAK SPACE}min"
    )


def test_servers_that_are_away_at_once_are_above_each_other() -> None:
    (lane,) = lanes(
        with_groups([("a", away(1, 0, 60)), ("a", away(2, 10, 70)), ("a", away(3, 60, 80))], allowed=2)
    ).lanes
    ((_, path),) = lane.paths
    assert [y for _, _, y in boxes(path)] == [1, 11, 1]
    assert (lane.tracks, lane.most) == (2, 2)


def test_a_server_that_never_came_back_is_pale_to_the_end_and_told() -> None:
    report = with_groups(
        [("a", away(1, 0, 40, S.FAILED)), ("a", outcome(2, S.SKIPPED, at=None)), ("b", away(3, 0, 100))],
        lost=[0],
        blocked=["a"],
    )
    report = msgspec.structs.replace(
        report,
        outcomes=[
            each if each.state is not S.SKIPPED else Outcome(server_id="x", state=S.SKIPPED) for each in report.outcomes
        ],
    )
    paths = {lane.name: dict(lane.paths) for lane in lanes(report).lanes}
    assert boxes(paths["a"]["FAILED"]) == [(0, 400, 1)]
    assert boxes(paths["a"]["FAILED rest"]) == [(400, 600, 1)]
    assert set(paths["b"]) == {"SUCCEEDED"}
    page = read(report)
    assert "1 failed, 1 skipped; at most 1 of 1 away; ✕ 1 did not come back; blocked" in page.text
    assert "Pale: not back at the end of the run." in page.text


def test_where_the_canaries_were_alone_and_nothing_could_begin_is_shown() -> None:
    report = with_groups(
        [("a", away(1, 0, 20)), ("a", away(2, 25, 45)), ("b", away(3, 60, 100))],
        canaries=[0],
        pauses=[paused(45, 60), paused(61, 62, "window"), paused(63, 64, "window")],
    )
    found = lanes(report)
    assert found.canaries == pytest.approx(25)
    assert boxes(found.shaded) == [(450, 150, 0), (610, 10, 0), (630, 10, 0)]
    assert [int(float(x)) for x in re.findall(r"M([\d.]+) ", found.asked)] == [2, 250, 602]
    text = read(report).text
    assert "Up to the broken line, at 25 s, the canaries were alone." in text
    assert "Shaded: nothing could begin (outside of the window 2 times, 2 s in all; paused once, 15 s)." in text
    assert "1 canary" in text


def test_lanes_are_in_the_order_in_which_their_groups_began() -> None:
    never = Outcome(server_id="x", state=S.SKIPPED)
    report = with_groups([("never", never), ("late", away(1, 50, 60)), ("early", away(2, 0, 10))])
    assert [lane.name for lane in lanes(report).lanes] == ["early", "late", "never"]
    assert "never asked for" in render_report(report, history())


def test_of_very_many_groups_those_with_trouble_and_then_the_largest_are_shown_and_the_rest_counted() -> None:
    rows = [(f"g-{each % 500}", away(each, each, each + 30)) for each in range(1000)]
    rows += [("big", away(each, each, each + 30)) for each in range(1000, 1010)]
    rows += [("bad", failed(2000)), ("stuck", failed(2001))]
    found = lanes(with_groups(rows, lost=[len(rows) - 1], blocked=["stuck"]), end=1100.0)
    assert len(found.lanes) == LANES
    assert {"big", "bad", "stuck"} <= {lane.name for lane in found.lanes}
    assert (found.groups, found.left_out, found.servers_left_out, found.bad_left_out) == (503, 443, 886, 0)
    text = read(with_groups(rows)).text
    assert "443 groups with 886 servers are not shown; all of these servers are as asked." in text


def test_a_lane_of_many_servers_is_an_area_as_high_as_how_many_were_away() -> None:
    rows = [("a", away(each, each / 10, each / 10 + 50)) for each in range(500)]
    rows += [("a", away(900, 0, 50, S.FAILED))]
    (lane,) = lanes(with_groups(rows, lost=[500], allowed=600)).lanes
    assert lane.is_area
    assert lane.most == 501
    assert [name for name, _ in lane.paths] == ["SUCCEEDED", "FAILED", "FAILED rest"]
    heights = [int(y) for y in re.findall(r"V(\d+)", lane.paths[0][1])]
    assert min(heights) == 0
    assert max(heights) == lane.tracks * 10


def test_an_area_does_not_count_servers_that_followed_one_another() -> None:
    # At 100 columns each has several of them, one after the other.
    rows = [("a", away(each, each, each + 1)) for each in range(3000)]
    (lane,) = lanes(with_groups(rows), end=3000.0).lanes
    assert lane.is_area
    assert lane.most == 1
    assert lane.paths[0][1] == "M0 120H0V0H1000V120z"


def test_the_page_stays_small_with_hundreds_of_groups_of_thousands_of_servers_that_failed_badly() -> None:
    errors = [
        SubJobFailedError(server_id="s", job_id='"' * 90, code=f"{'&' * 90}{each}", reason=f"{each}" + '"' * 900)
        for each in range(300)
    ]
    rows = []
    for each in range(20_000):
        begin = (each * 37) % 6007
        row = away(each, begin, begin + each % 997, S.FAILED, server_id='"' * 90 + str(each))
        rows.append(('"' * 90 + str(each % 200), msgspec.structs.replace(row, error=errors[each % 300])))
    pauses = [paused(each * 7, each * 7 + 3, "window") for each in range(1000)]
    report = with_groups(rows, allowed=900, lost=range(0, 20_000, 3), pauses=pauses)
    text = render_report(report, history([(each / 4, each // 100) for each in range(3600)]))
    before, _, after = text.partition('<h2 id="lanes">')
    assert len(after.partition("</section>")[0].encode()) + len(before.encode()) < 200_000


def test_nothing_from_the_cloud_becomes_markup_in_a_lane() -> None:
    page = read(with_groups([(EVIL, away(1, 0, 10)), ("", away(2, 0, 10))]))
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert "all servers" in page.text
    pictures = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert all(attributes.get("aria-label") or attributes.get("aria-hidden") == "true" for attributes in pictures)


SPANS = st.lists(st.tuples(st.integers(0, 50), st.integers(1, 20)), max_size=40).map(
    lambda drawn: sorted((begin, begin + length) for begin, length in drawn)
)


@given(spans=SPANS)
def test_there_are_as_many_tracks_as_servers_are_away_at_once_and_none_lies_on_another(
    spans: list[tuple[float, float]],
) -> None:
    tracks = tracks_of(spans)
    assert max(tracks, default=-1) + 1 == most_at_once(spans)
    for track in set(tracks):
        mine = [span for span, where in zip(spans, tracks, strict=True) if where == track]
        assert all(before[1] <= after[0] for before, after in itertools.pairwise(mine))


@given(spans=SPANS)
def test_no_bar_leaves_its_lane(spans: list[tuple[float, float]]) -> None:
    if not spans:
        return
    end = float(max(until for _, until in spans))
    rows = [("a", away(number, *span)) for number, span in enumerate(spans)]
    (lane,) = lanes(with_groups(rows), end=end).lanes
    for _, path in lane.paths:
        if not lane.is_area:
            assert all(x >= 0 and x + width <= WIDTH for x, width, _ in boxes(path))
