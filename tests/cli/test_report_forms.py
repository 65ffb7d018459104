"""What all forms of a report say of a run: where and how it ran, by zone and tag, and as text and as CSV."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta, timezone
from io import StringIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async import Rollout
from bms_async.cli.access.known import NOTHING_KNOWN, KnownServer, KnownServers
from bms_async.cli.access.place import Place
from bms_async.cli.following.terms import describe_terms
from bms_async.cli.report_page.csv_form import COLUMNS, render_csv
from bms_async.cli.report_page.facts import moment
from bms_async.cli.report_page.head import PageHead, command_line
from bms_async.cli.report_page.reasons import share_out
from bms_async.cli.report_page.render import render_report
from bms_async.cli.report_page.servers import lines_of
from bms_async.cli.report_page.shares import SHOWN, shares_of
from bms_async.cli.report_page.text_form import WIDTH, render_text
from tests.cli.test_report_page import BEGAN, EVIL, Reading, failed, history, outcome, report_of

PLACE = Place(
    endpoint="https://bms.example.com", cloud="prod", project_id="0a1b", project_name="billing", user="night-shift"
)
HEAD = PageHead(
    verb="reboot",
    place=PLACE,
    key="kernel-42",
    host="jump-1",
    ran_by="anna",
    command="bms reboot --tag rack-7",
    terms=("at most 5 under way at once",),
    version="1.2.3",
)


def named(count: int) -> KnownServers:
    return KnownServers(
        {
            outcome(each).server_id: KnownServer(
                f"web-{each}", f"zone-{each % 2}", "physical.s4", (f"rack-{each % 3}", "prod"), "ACTIVE"
            )
            for each in range(count)
        }
    )


def test_the_head_says_which_cloud_project_and_user_by_which_command_and_how() -> None:
    page = Reading(render_report(report_of([outcome()]), history(), head=HEAD, known=NOTHING_KNOWN))
    for words in (
        "reboot of 1 server in billing",
        "Cloud prod, https://bms.example.com",
        "Project billing (0a1b)",
        "Cloud user night-shift",
        "Command bms reboot --tag rack-7",
        "Run by anna on jump-1",
        "Run kernel-42",
        "How at most 5 under way at once",
        "Written by bms 1.2.3",
    ):
        assert words in page.text


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        (["stop", "--journal", "postgres://bms:s3cret@db/runs"], "bms stop --journal 'postgres://bms:***@db/runs'"),
        (["stop", "--journal=postgres://bms:s3cret@db/runs"], "bms stop '--journal=postgres://bms:***@db/runs'"),
        (["stop", "--store", "redis://:s3cret@host:6379/0"], "bms stop --store 'redis://:***@host:6379/0'"),
        (["stop", "--store", "redis://u:s3/cr@et@host/0"], "bms stop --store 'redis://u:***@host/0'"),
        (["stop", "--journal", "postgres://db/runs?user=a&password=s3cret"], None),
        (["servers", "metadata", "password=s3cret"], "bms servers metadata 'password=***'"),
        (["servers", "x", "--api-token=s3cret"], "bms servers x '--api-token=***'"),
        (["stop", "--name", "web 17", "--yes"], "bms stop --name 'web 17' --yes"),
        (["stop", "--tag", "a=b", ""], "bms stop --tag a=b ''"),
        (["stop", "--tag", "a\x1b[2J"], "bms stop --tag 'a\ufffd[2J'"),
    ],
)
def test_the_command_line_is_shown_as_it_was_typed_but_for_its_secrets(arguments: list[str], shown: str | None) -> None:
    line = command_line(arguments)
    assert not {"s3cret", "cr@et"} & {part for part in ("s3cret", "cr@et") if part in line}
    if shown is not None:
        assert line == shown


def test_how_the_servers_are_walked_through_is_said_in_words() -> None:
    rollout = Rollout(canary=2, group_by="availability_zone", max_unavailable=0.1, max_groups=1, settle=30)
    assert describe_terms(wave=5, abort_above=0.02, verify=True, rollout=rollout) == [
        "at most 5 under way at once",
        "ended when more than 2 % have failed",
        "2 canaries first",
        "grouped by availability_zone",
        "at most 10 % of a group unavailable",
        "at most 1 group touched at once",
        "30\N{NO-BREAK SPACE}s between two of a group",
        "states read back at the end",
    ]
    assert describe_terms(abort_above=0, rollout=Rollout()) == ["ended by the first failure", "as a rollout"]


def test_a_moment_is_said_in_utc_and_in_the_time_of_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    assert moment(BEGAN).startswith("2026-03-01 12:00:00 UTC")

    class Elsewhere(datetime):
        def astimezone(self, tz: object = None) -> datetime:  # type: ignore[override]
            zone = timezone(timedelta(hours=5), "YEKT") if tz is None else UTC
            return datetime.fromtimestamp(self.timestamp(), zone)

    assert moment(Elsewhere.fromtimestamp(BEGAN.timestamp(), UTC)) == (
        "2026-03-01 12:00:00 UTC (2026-03-01 17:00:00 YEKT)"
    )


def test_failures_are_counted_by_zone_and_tag_but_not_by_what_all_servers_share() -> None:
    report = report_of([failed(each) if each % 4 == 1 else outcome(each) for each in range(12)])
    zones, tags = shares_of(report, named(12))
    assert (zones.kind, tags.kind) == ("zone", "tag")
    assert [(row.name, row.bad, row.servers) for row in zones.rows] == [("zone-1", 3, 6), ("zone-0", 0, 6)]
    # "prod", which all of them have, says nothing.
    assert {row.name: row.bad for row in tags.rows} == {"rack-0": 1, "rack-1": 1, "rack-2": 1}
    page = Reading(render_report(report, history(), known=named(12)))
    assert "What went wrong, by zone" in page.text
    assert "zone-1 3 6 50 %" in page.text.replace("\N{NO-BREAK SPACE}", " ")
    assert "by flavor" not in page.text


def test_servers_of_which_nothing_is_known_are_a_row_and_a_run_without_failures_has_no_tables() -> None:
    report = report_of([failed(0), *[outcome(each) for each in range(1, 9)]])
    zones = shares_of(report, named(4))[0]
    assert [(row.name, row.bad, row.servers) for row in zones.rows] == [("zone-0", 1, 2), ("", 0, 5), ("zone-1", 0, 2)]
    assert shares_of(report_of([outcome(each) for each in range(9)]), named(9)) == []
    assert shares_of(report, NOTHING_KNOWN) == []


def test_of_many_zones_the_worst_are_shown_and_the_others_counted() -> None:
    servers = {outcome(each).server_id: KnownServer(zone=f"z{each}") for each in range(100)}
    [zones] = shares_of(report_of([failed(each) for each in range(100)]), KnownServers(servers))
    assert (len(zones.rows), zones.left_out, zones.bad_left_out) == (SHOWN, 100 - SHOWN, 100 - SHOWN)


def test_all_servers_are_lines_with_names_and_those_that_are_not_as_asked_come_first() -> None:
    lines = lines_of(report_of([outcome(0), outcome(1), failed(2)]), named(3))
    assert lines.columns == ["id", "name", "zone", "flavor", "tags", "state", "code", "seconds", "what was said"]
    first, second, _ = [line.split("\t") for line in lines.text.splitlines()]
    assert first[1:] == [
        "web-2",
        "zone-0",
        "physical.s4",
        "rack-2, prod",
        "failed",
        "BMS.3037",
        "30.0",
        "It did not come up.",
    ]
    assert second[1:] == ["web-0", "zone-0", "physical.s4", "rack-0, prod", "succeeded", "", "30.0", ""]
    assert lines_of(report_of([outcome(0)]), NOTHING_KNOWN).columns == ["id", "state", "seconds"]


def test_what_does_not_fit_is_counted_and_what_failed_is_kept() -> None:
    lines = lines_of(report_of([outcome(0), outcome(1), failed(2)]), named(3), max_bytes=150)
    assert (lines.servers, lines.left_out) == (1, 2)
    assert "web-2" in lines.text


def test_no_name_becomes_markup_a_second_line_or_another_column() -> None:
    evil = f"{EVIL}<img src=x onerror=alert(1)>\t\n\u202e"
    servers = KnownServers(
        {outcome(each).server_id: KnownServer(evil[each * 20 :], evil, evil, (evil,)) for each in range(3)}
    )
    report = report_of([failed(0), outcome(1), outcome(2)])
    text = render_report(report, history(), head=PageHead(verb=evil, command=evil, terms=(evil,)), known=servers)
    page = Reading(text)
    assert sum(tag == "script" for tag, _ in page.elements) == 1
    assert "img" not in page.names()
    lines = lines_of(report, servers)
    assert len(lines.text.splitlines()) == 3
    assert {line.count("\t") for line in lines.text.splitlines()} == {len(lines.columns) - 1}
    assert "\u202e" not in lines.text


@given(counts=st.lists(st.integers(1, 3000), min_size=1, max_size=8))
def test_a_rare_reason_keeps_its_servers_beside_a_frequent_one(counts: list[int]) -> None:
    room = share_out(80, {str(place): count for place, count in enumerate(counts)})
    assert sum(room.values()) == min(80, sum(counts))
    assert all(room[str(place)] >= min(count, 80 // len(counts)) for place, count in enumerate(counts))


def test_the_text_to_be_mailed_has_eighty_columns_and_every_failure() -> None:
    report = report_of(
        [failed(each, reason=f"{each} is " + "long " * 40) if each < 30 else outcome(each) for each in range(90)]
    )
    text = render_text(report, head=HEAD, known=named(90))
    lines = text.splitlines()
    assert max(map(len, lines)) <= WIDTH
    assert lines[0] == "reboot of 90 servers in billing"
    assert "30 of 90 servers are not as asked (33.3\N{NO-BREAK SPACE}%)." in lines
    for words in (
        "Command         bms reboot --tag rack-7",
        "Not as asked, by zone",
        "BMS.3037: 30 servers, 33.3",
        "failed",
    ):
        assert words in text
    assert all(outcome(each).server_id in text for each in range(30))
    assert outcome(30).server_id not in text


def test_the_text_of_a_run_that_goes_on_or_went_well_says_so() -> None:
    assert "All 2 servers are as asked." in render_text(
        report_of([outcome(), outcome(1)]), head=HEAD, known=NOTHING_KNOWN
    )
    early = render_text(report_of([outcome()]), 3, head=HEAD, known=NOTHING_KNOWN)
    assert "3 of 4 servers have not ended yet; of the others 1 are as asked." in early


def test_the_rows_of_the_csv_are_read_back_as_they_were() -> None:
    known = KnownServers({outcome(1).server_id: KnownServer('a "quoted", name', "z", "f", ("t1", "t2"))})
    text = render_csv(report_of([outcome(0), failed(1, reason="No, not\nnow")]), known)
    assert text.count("\r\n") == 3
    header, plain, bad = list(csv.reader(StringIO(text, newline="")))
    assert tuple(header) == COLUMNS
    assert dict(zip(COLUMNS, plain, strict=True))["state"] == "succeeded"
    fields = dict(zip(COLUMNS, bad, strict=True))
    assert (fields["name"], fields["tags"], fields["code"]) == ('a "quoted", name', "t1 t2", "BMS.3037")
    assert (fields["said"], fields["seconds"], fields["sent"]) == ("No, not now", "30.0", "1")
    assert fields["ended"] == "2026-03-01T12:00:30+00:00"


@pytest.mark.parametrize("name", ["=cmd|'/C calc'!A0", "+1", "-1", "@SUM(A1)", "\t=1", " =1", "\uff1d1"])
def test_no_field_of_the_csv_is_a_formula(name: str) -> None:
    text = render_csv(report_of([outcome(1)]), KnownServers({outcome(1).server_id: KnownServer(name)}))
    row = list(csv.reader(StringIO(text, newline="")))[1]
    assert row[1].startswith("'")
