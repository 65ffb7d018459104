"""The page that tells what became of every server."""

from __future__ import annotations

import base64
import hashlib
import random
import re
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from html.parser import HTMLParser
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async import BadRequestError, BmsError, FleetReport, Outcome, OutcomeState, TransportError
from bms_async.cli.report_page.charts import HEIGHT, bucket_of, ceiling, duration, minutes, peaks, stack, steps, ticks
from bms_async.cli.report_page.history import CallHistory
from bms_async.cli.report_page.reasons import printable
from bms_async.cli.report_page.render import render_report
from bms_async.errors import SubJobFailedError

BEGAN = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
EVIL = '</style><script>alert("1")</script>\'" onload=x &amp; \N{RIGHT-TO-LEFT OVERRIDE}\u05d0 \x00\ud800'
APART = {
    "details",
    "summary",
    "option",
    "button",
    "pre",
    "dt",
    "dd",
    "th",
    "td",
    "tr",
    "p",
    "h1",
    "h2",
    "h3",
    "header",
    "li",
    "span",
    "b",
}
VOID = {"meta", "link", "br", "line", "path", "rect", "input"}


def outcome(
    number: int = 0,
    state: OutcomeState = OutcomeState.SUCCEEDED,
    error: BmsError | None = None,
    *,
    at: float | None = 30.0,
    server_id: str | None = None,
) -> Outcome:
    return Outcome(
        server_id=server_id or f"5a1d0c3e-0000-4000-a000-{number:012x}",
        state=state,
        job_id="7f" * 16,
        error=error,
        attempts=1,
        started=BEGAN,
        ended=None if at is None else BEGAN + timedelta(seconds=at),
    )


def failed(number: int, code: str | None = "BMS.3037", reason: str | None = "It did not come up.") -> Outcome:
    error = SubJobFailedError(server_id=f"s-{number}", job_id="7f" * 16, code=code, reason=reason)
    return outcome(number, OutcomeState.FAILED, error)


def report_of(outcomes: Sequence[Outcome], action: str = "servers.stop", **more: object) -> FleetReport:
    by_state = dict.fromkeys(OutcomeState, 0)
    by_code: dict[str, int] = {}
    for each in outcomes:
        by_state[each.state] += 1
        if not each.state.is_success:
            by_code[each.reason] = by_code.get(each.reason, 0) + 1
    ends = [each.ended for each in outcomes if each.ended is not None]
    plain = FleetReport(
        action=action,
        outcomes=outcomes,
        by_state=by_state,
        by_code=by_code,
        batches=1,
        cancelled=bool(more.get("cancelled", False)),
        started=BEGAN,
        ended=max(ends, default=BEGAN),
        aborted=str(more["aborted"]) if "aborted" in more else None,
        unverified=int(str(more["unverified"])) if "unverified" in more else None,
    )
    assert sum(by_code.values()) == sum(not each.state.is_success for each in outcomes)
    return plain


def history(calls: Sequence[tuple[float, int]] = (), operation: str = "servers.stop") -> CallHistory:
    return CallHistory(operation=operation, limit=50, started=BEGAN, calls=calls)


class Reading(HTMLParser):
    """Reads a page as a browser would, and keeps what it shows and of which elements it is made."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.shown = ""
        self.feed(page)
        self.close()
        self.text = " ".join(self.shown.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self.shown += " " if tag in APART else ""
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in {"style", "title", "script"}:
            self.shown += data

    def names(self) -> set[str]:
        return {tag for tag, _ in self.elements}


def read(report: FleetReport, calls: CallHistory | None = None) -> Reading:
    reading = Reading(render_report(report, calls or history()))
    assert reading.open == []
    return reading


def test_the_page_of_a_run_that_was_interrupted_does_not_say_that_all_is_well() -> None:
    page = Reading(render_report(report_of([outcome(1), outcome(2)]), history(), left=58))
    assert "stop of 60 servers" in page.text
    assert "58 of 60 servers have not ended yet." in page.text
    assert "as asked." not in page.text
    assert "<title>stop of 60 servers: 2 as asked</title>" in render_report(
        report_of([outcome(1), outcome(2)]), history(), left=58
    )
    nothing = Reading(render_report(report_of([]), history(), left=1))
    assert "1 of 1 server has not ended yet." in nothing.text
    assert "There was no server" not in nothing.text


def test_a_run_in_which_all_went_well_says_so() -> None:
    page = read(report_of([outcome(each) for each in range(1500)]), history([(0.0, 0), (1.0, 2)]))
    assert "stop of 1,500 servers" in page.text
    assert "All 1,500 servers are as asked." in page.text
    assert "Took 30 s" in page.text
    assert "2 calls in all, at most 2 in any 60 seconds; 50 are allowed." in page.text
    assert "What went wrong" not in page.text


def test_each_code_comes_with_its_meaning_its_measure_and_its_servers() -> None:
    outcomes = (
        [outcome(0, at=31.0)]
        + [outcome(each) for each in range(1, 97)]
        + [failed(97), failed(98), failed(99, "BMS.0040", "Not here.")]
    )
    page = read(report_of(outcomes))
    assert "3 of 100 servers are not as asked (3 %)" in page.text
    assert "BMS.3037 2 servers, 2 % of all" in page.text
    assert "What it means: No machine was free, or the server did not start." in page.text
    assert "What to do: Ask support which; for a new server, try another flavor or zone." in page.text
    assert "What was said: It did not come up." in page.text
    assert page.text.index("BMS.3037") < page.text.index("BMS.0040")
    for each in (97, 98, 99):
        assert outcomes[each].server_id in page.text
    assert outcomes[0].server_id in page.text.partition("What took longest")[2]


def test_words_that_differ_stand_beside_their_servers() -> None:
    page = read(report_of([failed(1, reason="First."), failed(2, reason="Second.")]))
    assert "What was said:" not in page.text
    assert "First." in page.text
    assert "Second." in page.text


def test_what_was_said_most_often_is_counted_where_not_all_servers_are_listed() -> None:
    often = [failed(each, reason="No power.") for each in range(700)]
    less = [failed(each, reason=f"Server {outcome(each).server_id} is locked.") for each in range(700, 1100)]
    rare = [failed(each, reason=f"Slot {each} is empty.") for each in range(1100, 1400)]
    page = read(report_of([*less, *rare, *often]))
    said = page.text.partition("What was said most often:")[2].partition("The first 1,000")[0]
    assert "No power. (700 servers, the first" in said
    assert "is locked. (400 servers, the first" in said
    assert said.count("the first ") == 5
    assert said.index("No power.") < said.index("is locked.") < said.index("is empty.")


def test_the_same_words_to_different_requests_are_the_same_words() -> None:
    errors = [BadRequestError(status=400, code="BMS.0018", message="no", request_id=f"r-{each}") for each in range(9)]
    page = read(report_of([outcome(each, OutcomeState.FAILED, error) for each, error in enumerate(errors)]))
    assert "What was said: no (request r-0)" in page.text
    assert "r-1" not in page.text


def test_a_run_that_was_aborted_cancelled_and_not_verified_tells_all_three() -> None:
    skipped = [outcome(each, OutcomeState.SKIPPED) for each in range(1, 5)]
    page = read(report_of([failed(0), *skipped], aborted="5 % failed", cancelled=True, unverified=3))
    assert "Aborted. No further batch was sent: 5 % failed" in page.text
    assert "Cancelled. Servers that were not asked for by then are skipped" in page.text
    assert "Of 3 servers no state could be read afterwards" in page.text
    assert "What it means: They were never asked for" in page.text
    assert "1 server ended within" in page.text
    assert "What was skipped is not in it." in page.text


def test_a_run_of_no_servers_has_a_page() -> None:
    page = read(report_of([]))
    assert "There was no server to stop." in page.text
    assert "No call of servers.stop was made." in page.text
    assert "svg" not in page.names()


def test_a_run_of_one_server_speaks_of_one() -> None:
    assert "The server is as asked." in read(report_of([outcome()])).text
    assert "1 of 1 server is not as asked" in read(report_of([failed(1)])).text


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (TransportError("reset", maybe_delivered=True), "No answer came."),
        (BadRequestError(status=400, message="no", request_id="r-17"), "no (request r-17)"),
        (None, "nothing proves how it ended"),
    ],
)
def test_what_has_no_code_is_told_by_what_it_is(error: BmsError | None, words: str) -> None:
    assert words in read(report_of([outcome(1, OutcomeState.UNKNOWN, error)])).text


def test_nothing_from_the_cloud_becomes_markup() -> None:
    outcomes = [
        outcome(
            each,
            OutcomeState.FAILED,
            SubJobFailedError(server_id=EVIL, job_id=EVIL, code=EVIL + str(each % 2), reason=EVIL),
            server_id=EVIL,
        )
        for each in range(4)
    ]
    text = render_report(report_of(outcomes, action=EVIL, aborted=EVIL), history([(1.0, 2)], operation=EVIL))
    page = Reading(text)
    assert page.open == []
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert not [name for _, attributes in page.elements for name in attributes if name.startswith("on")]
    assert '</style><script>alert("1")</script>' in page.text
    assert "\x00" not in text
    assert text.encode()
    # What reads from right to left turns nothing but itself around.
    bare = re.sub(r"<bdi>.*?</bdi>|<title>.*?</title>|=\"[^\"]*\"", "", text, flags=re.DOTALL)
    inside = [line for line in bare.splitlines() if "\N{RIGHT-TO-LEFT OVERRIDE}" in line]
    assert inside == []


@given(text=st.text(), most=st.integers(1, 50))
def test_any_text_is_made_fit_for_a_page(text: str, most: int) -> None:
    strip_control_chars = printable(text, most)
    assert len(strip_control_chars) <= most
    strip_control_chars.encode()
    assert not set(strip_control_chars) & {"\x00", "\x1b", "\n", "\x85"}


def test_the_page_needs_nothing_from_anywhere_and_runs_its_own_script_alone() -> None:
    text = render_report(report_of([outcome(), failed(1)]), history([(0.0, 1)]))
    page = Reading(text)
    assert not page.names() & {"img", "iframe", "object", "form", "a"}
    script = text.partition("<script>")[2].partition("</script>")[0]
    assert "<" not in re.sub(r" < ", "", script)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    [policy] = [
        attributes["content"] for tag, attributes in page.elements if "http-equiv" in attributes and tag == "meta"
    ]
    assert policy is not None
    assert f"script-src 'sha256-{digest}';" in policy
    assert policy.startswith("default-src 'none';")
    assert "connect-src" not in policy
    (link,) = [attributes for tag, attributes in page.elements if tag == "link"]
    assert link["href"] == "data:,"
    assert not [attributes for _, attributes in page.elements if "src" in attributes]
    style = render_report(report_of([]), history())
    assert "@import" not in style
    assert "url(" not in style


def test_every_picture_has_words() -> None:
    page = read(report_of([outcome(), failed(1)]), history([(0.0, 1), (5.0, 3)]))
    pictures = [attributes for tag, attributes in page.elements if tag == "svg"]
    assert len(pictures) == 3
    for attributes in pictures:
        assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
    # No state is told by its colour alone.
    for sign, name in (
        ("✓", "succeeded"),
        ("✕", "failed"),
        ("?", "unknown"),
        ("\N{EN DASH}", "skipped"),
        ("=", "unchanged"),
    ):
        assert f"{sign} {name}" in page.text


def test_the_page_is_bounded_also_where_all_servers_failed_badly() -> None:
    rng = random.Random(1)
    errors = [
        SubJobFailedError(server_id="s", job_id='"' * 90, code=f"{'&' * 90}{each}", reason=f"{each}" + '"' * 900)
        for each in range(300)
    ]
    outcomes = [
        outcome(each, OutcomeState.FAILED, rng.choice(errors), at=rng.uniform(0, 900), server_id="&" * 90 + str(each))
        for each in range(30_000)
    ]
    calls = [(each / 4, each // 100) for each in range(3600)]
    text = render_report(report_of(outcomes), CallHistory(operation="x", limit=50, started=BEGAN, calls=calls))
    assert len(text.encode()) < 25_000_000
    assert "The servers of 280 others are in the table" in text
    assert re.search(r"<b>[1-9][\d,]+ servers are not in this table</b>", text)


def test_every_server_that_is_not_as_asked_is_on_the_page() -> None:
    outcomes = [failed(each) for each in range(1300)]
    page = read(report_of(outcomes))
    assert "The first 1,000 of these servers The other 300 are in the table of all servers below." in page.text
    listed, _, everywhere = page.text.partition("A line for each server")
    assert outcomes[1299].server_id not in listed.partition("What took longest")[0]
    assert all(each.server_id in everywhere for each in outcomes)


def test_more_calls_than_the_limit_are_told_plainly() -> None:
    calls = [(each / 10, each) for each in range(80)]
    page = read(report_of([outcome()]), history(calls))
    assert "at most 79 in any 60 seconds; 50 are allowed." in page.text
    assert "That is more than the limit." in page.text


def test_a_history_that_begins_elsewhere_and_times_in_another_zone_are_read_right() -> None:
    elsewhere = BEGAN.astimezone(timezone(timedelta(hours=5))) + timedelta(seconds=10)
    calls = CallHistory(operation="servers.stop", limit=None, started=elsewhere, calls=[(0.0, 1)], polls=[(1.0, 4)])
    page = read(report_of([outcome()]), calls)
    assert "Began 2026-03-01 12:00:00 UTC" in page.text
    assert "1 call in all, at most 1 in any 60 seconds." in page.text
    assert "4 polls in all" in page.text


def test_the_page_of_a_run_that_was_resumed_shows_its_calls_where_they_were_made() -> None:
    ended = [outcome(each, at=40_000.0 + each) for each in range(9)]
    calls = CallHistory(
        operation="servers.stop", limit=50, started=BEGAN + timedelta(seconds=39_600), calls=[(0.0, 0), (60.0, 4)]
    )
    text = render_report(report_of([outcome(10, at=30.0), *ended]), calls)
    page = Reading(text)
    assert "4 calls in all, at most 4 in any 60 seconds; 50 are allowed." in page.text
    assert "What was called before this command took the run over, after 11 h, is not in it." in page.text.replace(
        "\N{NO-BREAK SPACE}", " "
    )
    [path] = [str(attributes["d"]) for tag, attributes in page.elements if tag == "path"]
    # Nothing for as long as the command had not begun.
    assert path.startswith("M0 1000" + "V1000h1" * 237)


def test_servers_without_a_time_are_counted_beside_the_timeline() -> None:
    assert "1 server without a time is not in it." in read(report_of([outcome(), outcome(1, at=None)])).text


COUNTS = st.dictionaries(st.sampled_from(OutcomeState), st.integers(0, 10_000))


@given(counts=COUNTS, above=st.integers(0, 1000))
def test_the_parts_of_a_column_are_as_high_as_their_counts_and_stand_on_each_other(
    counts: dict[OutcomeState, int], above: int
) -> None:
    total = sum(counts.values())
    top = max(1, total + above)
    pieces = stack(counts, top)
    assert sum(piece.height for piece in pieces) == pytest.approx(HEIGHT * total / top)
    assert {piece.state: piece.servers for piece in pieces} == {state: n for state, n in counts.items() if n}
    floor = HEIGHT
    for piece in pieces:
        assert piece.y + piece.height == pytest.approx(floor)
        assert piece.height == pytest.approx(HEIGHT * piece.servers / top)
        floor = piece.y
    assert floor >= -1e-6


@given(seconds=st.floats(0, 1e7), most=st.integers(2, 100))
def test_a_run_is_cut_into_no_more_columns_than_there_is_room_for(seconds: float, most: int) -> None:
    assert int(seconds // bucket_of(seconds, most)) < most


@given(value=st.integers(0, 10**9))
def test_an_axis_ends_above_what_it_shows_and_not_far_above(value: int) -> None:
    top = ceiling(value)
    assert value <= top <= max(1, 2 * value)
    marks = ticks(top)
    assert (marks[0], marks[-1]) == (0, top)
    assert len(marks) <= 6
    assert all(a < b for a, b in pairwise(marks))


@given(seconds=st.floats(0, 1e7))
def test_times_under_a_chart_are_few_and_lie_within(seconds: float) -> None:
    marks = steps(seconds)
    assert marks[0] == 0
    assert len(marks) <= 5
    assert marks[-1] <= seconds


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "0 s"),
        (0.04, "0 s"),
        (0.4, "0.4 s"),
        (9.96, "10 s"),
        (42, "42 s"),
        (90, "1 min 30 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_times_are_written_as_people_write_them(seconds: float, words: str) -> None:
    assert duration(seconds).replace("\N{NO-BREAK SPACE}", " ") == words


MOMENTS = st.lists(st.integers(0, 400_000), max_size=50).map(sorted)


def fullest(moments: list[float]) -> int:
    """The most calls in any minute that is open at its left end."""
    return max((sum(t - 60 < u <= t for u in moments) for t in moments), default=0)


def sampled(moments: list[float], readings: list[float]) -> list[tuple[float, int]]:
    return [(at, sum(moment <= at for moment in moments)) for at in readings]


@given(calls=MOMENTS, readings=MOMENTS, columns=st.integers(1, 60))
def test_however_seldom_it_was_read_no_minute_is_shown_fuller_than_it_was(
    calls: list[int], readings: list[int], columns: int
) -> None:
    moments = [each / 1000 for each in calls]
    read_off = sampled(moments, [each / 1000 for each in readings])
    limit = fullest(moments)
    assert all(0 <= held <= limit for _, held in minutes(read_off))
    assert all(0 <= held <= limit for held in peaks(read_off, 400.0, columns))


@given(calls=MOMENTS, columns=st.integers(1, 60))
def test_read_before_and_at_each_call_the_fullest_minute_is_found_exactly(calls: list[int], columns: int) -> None:
    moments = [each / 1000 for each in calls]
    read_off = sampled(moments, sorted({at for each in moments for at in (each - 0.0005, each) if at >= 0}))
    assert max(peaks(read_off, 400.0, columns)) == fullest(moments)
    assert max((held for _, held in minutes(read_off)), default=0) == fullest(moments)
