"""Rows in each form: what is written can be read back, and stands below each other."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import AsyncIterator, Mapping, Sequence
from datetime import UTC, datetime
from operator import methodcaller
from typing import Any

import click
import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bms_async.cli.acting.answers import find_rows, is_secret, mask_secrets, table_of
from bms_async.cli.acting.any_call import guess_service
from bms_async.cli.declaring import complete_columns
from bms_async.cli.terminal import output, rows
from bms_async.cli.terminal.cells import cell_len
from bms_async.cli.terminal.exit import UsageError
from bms_async.cli.terminal.forms import FORMS, OutputOptions
from bms_async.cli.terminal.rows import RowWriter, Table, write_rows_aside
from bms_async.cli.terminal.sorting import SortedRows, natural_key
from bms_async.cli.terminal.writers import Csv, JsonArray, JsonLines, TextTable, Yaml, csv_cell
from bms_async.models import JobStatus
from tests.cli._helpers import Bms

ODD = (
    "=1+1", "@x", "-", "+5", "\t", "yes", "null", "1e5", "~", "a: b", "- a", "#", "\x85", "\u2028", "\x1b[2J", "\ufeff",
    "\uffff", "\U000e0001", "0o7", "1:20", "2026-11-30", "数据库", '"', "\r\n", "a,b", "''",
)  # fmt: skip
TEXTS = st.one_of(st.text(max_size=20), st.sampled_from(ODD))
SCALARS = st.one_of(
    TEXTS, st.none(), st.booleans(), st.integers(-(2**60), 2**60), st.floats(allow_nan=False, allow_infinity=False)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3), max_leaves=6
)
OBJECTS = st.lists(st.dictionaries(TEXTS, VALUES, max_size=4), max_size=4)

SERVERS: Table[Mapping[str, Any]] = Table(
    columns={name: methodcaller("get", name) for name in ("id", "name", "used")},
    usual=("id", "name", "used"),
    ids=lambda row: row["id"],
    fields=lambda row: row,
    right=frozenset({"used"}),
    keep=1,
)
THREE: list[dict[str, Any]] = [
    {"id": "a", "name": "web-10", "used": 5},
    {"id": "b", "name": "web-9", "used": None},
    {"id": "c", "used": 70},
]


def written(writer: Any, items: Sequence[object]) -> str:
    return "".join([*(writer.add(item) for item in items), writer.end()])


def written_by(options: OutputOptions, items: Sequence[Mapping[str, Any]] = THREE) -> str:
    parts: list[str] = []
    writer = RowWriter(SERVERS, options, out=parts.append)
    for item in items:
        writer.add(item)
    writer.finish()
    return "".join(parts)


@settings(max_examples=40)
@given(OBJECTS)
def test_json_is_one_document_and_json_lines_are_one_object_each(objects: list[dict[str, object]]) -> None:
    text = written(JsonArray(), objects)
    assert json.loads(text) == objects
    lines = written(JsonLines(), objects)
    assert [json.loads(line) for line in lines.splitlines()] == objects
    assert all(character == "\n" or character.isprintable() for character in text + lines)


@settings(max_examples=40)
@given(OBJECTS)
@example([{"": [[], {}, [{"a": [1, [2]]}]]}])
def test_yaml_reads_back_as_the_same_data(objects: list[dict[str, object]]) -> None:
    text = written(Yaml(), objects)
    assert yaml.safe_load(text) == objects
    assert all(character == "\n" or character.isprintable() for character in text)


@settings(max_examples=40)
@given(VALUES.filter(lambda value: value is not None))
def test_one_record_in_yaml_is_a_document_of_its_own(value: object) -> None:
    assert yaml.safe_load(written(Yaml(is_single=True), [{"it": value}])) == {"it": value}


@given(st.lists(st.lists(TEXTS, min_size=2, max_size=2), max_size=4))
def test_csv_reads_back_as_it_was_but_for_the_apostrophe_before_a_formula(cells: list[list[str]]) -> None:
    text = written(Csv(["a", "b"]), cells)
    head, *read = csv.reader(io.StringIO(text, newline=""), strict=True)
    assert head == ["a", "b"]
    assert read == [[csv_cell(cell) for cell in row] for row in cells]
    assert all(csv_cell(cell) in {cell, f"'{cell}"} for row in cells for cell in row)
    assert not any(cell.startswith(("=", "+", "-", "@", "\t", "\r")) for row in read for cell in row)
    assert text.endswith("\r\n")


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ("=cmd|' /C calc'!A0", "'=cmd|' /C calc'!A0"),
        (" =1", "' =1"),
        ("\uff1d1", "'\uff1d1"),
        ("\n=1+1", "'\n=1+1"),
        (-5, "-5"),
        (-0.5, "-0.5"),
        (None, ""),
        (True, "true"),
        (["a", "b"], "a, b"),
        ([], ""),
        ({"a": "b"}, '{"a":"b"}'),
        ([{"a": 1}], '[{"a":1}]'),
        (JobStatus.FAIL, "FAIL"),
        (datetime(2026, 11, 30, tzinfo=UTC), "2026-11-30T00:00:00+00:00"),
    ],
)
def test_a_cell_of_csv_is_data_and_no_formula(value: object, cell: str) -> None:
    assert csv_cell(value) == cell


def test_a_terminal_gets_no_control_character_of_a_csv_cell() -> None:
    assert "\x1b" in written(Csv(None), [["\x1b[2J"]])
    assert "\x1b" not in written(Csv(None, for_terminal=True), [["\x1b[2J"]])


@given(st.lists(st.tuples(TEXTS, st.integers(0, 10**6)), min_size=1, max_size=5))
def test_columns_of_a_table_end_below_each_other(cells: list[tuple[str, int]]) -> None:
    table = TextTable(["name", "used"], header=True, right=frozenset({"used"}), keep=2, width=lambda: 80)
    lines = written(table, [list(row) for row in cells]).splitlines()
    assert len(lines) == len(cells) + 1
    assert len({cell_len(line) for line in lines}) == 1


def test_a_long_list_is_a_table_from_its_hundredth_row_on() -> None:
    table = TextTable(["n"], header=True, right=frozenset(), keep=1, width=lambda: 80)
    texts = [table.add([number]) for number in range(102)]
    assert [bool(text) for text in texts] == [False] * 99 + [True] * 3
    assert table.end() == ""


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (OutputOptions("ids"), "a\nb\nc\n"),
        (OutputOptions(), "a\tweb-10\t5\nb\tweb-9\t\nc\t\t70\n"),
        (OutputOptions(header=True, columns="name,id"), "name\tid\nweb-10\ta\nweb-9\tb\n\tc\n"),
        (OutputOptions("table"), "ID   NAME     USED\na    web-10      5\nb    web-9       -\nc    -          70\n"),
        (OutputOptions("table", columns="used", header=False), " 5\n -\n70\n"),
        (OutputOptions("csv", columns="id,used"), "id,used\r\na,5\r\nb,\r\nc,70\r\n"),
        (OutputOptions("csv", columns="id", header=False), "a\r\nb\r\nc\r\n"),
        (OutputOptions("jsonl", columns="used"), '{"used":5}\n{"used":null}\n{"used":70}\n'),
        (OutputOptions("yaml", columns="id,used"), "- id: a\n  used: 5\n- id: b\n  used: null\n- id: c\n  used: 70\n"),
        (OutputOptions("ids", sort="used"), "a\nc\nb\n"),
        (OutputOptions("ids", sort="-used"), "c\na\nb\n"),
        (OutputOptions("ids", sort="name"), "b\na\nc\n"),
        (OutputOptions("ids", sort="name:desc"), "a\nb\nc\n"),
        (OutputOptions("ids", sort="name:asc"), "b\na\nc\n"),
    ],
)  # fmt: skip
def test_each_form_has_its_columns_its_header_and_its_order(options: OutputOptions, text: str) -> None:
    assert written_by(options) == text


@pytest.mark.parametrize("form", ["json", "jsonl", "yaml"])
def test_a_summary_comes_after_rows_that_were_held_for_their_order(form: str) -> None:
    parts: list[str] = []
    writer = RowWriter(SERVERS, OutputOptions(form, sort="-used"), out=parts.append)
    for row in THREE:
        writer.add(row)
    for _ in writer.in_order():
        pass
    writer.add_object({"id": "summary"})
    writer.finish()
    text = "".join(parts)
    document = [json.loads(line) for line in text.splitlines()] if form == "jsonl" else yaml.safe_load(text)
    assert [each["id"] for each in document] == ["c", "a", "b", "summary"]


@pytest.mark.parametrize("form", FORMS)
def test_no_row_is_a_whole_document_all_the_same(form: str) -> None:
    expected = {"json": "[]\n", "yaml": "[]\n", "csv": "id,name,used\r\n"}
    assert written_by(OutputOptions(form), []) == expected.get(form, "")


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            OutputOptions(columns="id,colour"),
            "--columns id,colour: there is no column colour; the columns are id",
        ),
        (OutputOptions(columns=" ,"), "no column is named"),
        (OutputOptions(sort="-colour"), "--sort -colour: there is no column colour; the columns are id, name, used"),
        (OutputOptions("ids", columns="id"), "leave out --columns"),
    ],
)
def test_a_column_that_is_not_there_is_answered_by_all_that_are(options: OutputOptions, told: str) -> None:
    with pytest.raises(UsageError, match=re.escape(told)):
        RowWriter(SERVERS, options)


@given(st.lists(st.one_of(SCALARS, st.lists(TEXTS, max_size=2)), max_size=8), st.booleans())
def test_any_values_have_an_order_and_what_is_empty_comes_last(values: list[object], descending: bool) -> None:
    ordered = SortedRows[object](lambda value: value, descending=descending)
    for value in values:
        ordered.add(value)
    found = list(ordered)
    assert sorted(map(repr, found)) == sorted(map(repr, values))
    has = [natural_key(value)[0] for value in found]
    assert has == sorted(has, reverse=True)


def test_thousands_of_rows_are_sorted_in_small_runs_as_in_one() -> None:
    names = [f"web-{number * 7919 % 2003}" for number in range(2003)]
    ordered = SortedRows[str](lambda name: name, descending=False)
    for name in names:
        ordered.add(name)
    assert max(map(len, ordered._runs)) == 500
    assert list(ordered) == [f"web-{number}" for number in range(2003)]


async def test_rows_that_came_before_a_page_failed_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[str] = []
    monkeypatch.setattr(output, "write", parts.append)

    async def broken() -> AsyncIterator[Mapping[str, Any]]:
        for row in THREE:
            yield row
        raise OSError("the next page")

    for form, text in (("ids", "a\nb\nc\n"), ("table", written_by(OutputOptions("table")))):
        parts.clear()
        with pytest.raises(OSError, match="the next page"):
            await write_rows_aside(SERVERS, OutputOptions(form), broken())
        assert "".join(parts) == text
    parts.clear()
    with pytest.raises(OSError, match="the next page"):
        await write_rows_aside(SERVERS, OutputOptions("json"), broken())
    # No program takes a part for the whole.
    with pytest.raises(json.JSONDecodeError):
        json.loads("".join(parts))


async def test_a_limit_counts_after_the_order(monkeypatch: pytest.MonkeyPatch) -> None:
    parts: list[str] = []
    monkeypatch.setattr(output, "write", parts.append)

    async def all_rows() -> AsyncIterator[Mapping[str, Any]]:
        for row in THREE:
            yield row

    await write_rows_aside(SERVERS, OutputOptions("ids", sort="-used"), all_rows(), limit=1)
    await write_rows_aside(SERVERS, OutputOptions("ids"), all_rows(), limit=2)
    assert parts == ["c\n", "a\nb\n"]


def test_a_terminal_gets_a_table_and_a_pipe_with_a_table_has_the_width_of_columns(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wide: list[dict[str, Any]] = [{"id": "i" * 30, "name": "数" * 20, "used": 1}]
    monkeypatch.setattr(rows, "is_terminal", lambda: True)
    monkeypatch.setattr(rows, "terminal_width", lambda: 60)
    assert written_by(OutputOptions(), wide).splitlines()[0].split() == ["ID"]
    assert written_by(OutputOptions(), THREE) == written_by(OutputOptions("table"), THREE)
    monkeypatch.undo()
    monkeypatch.setenv("COLUMNS", "76")
    assert written_by(OutputOptions("table"), wide).splitlines()[0].split() == ["ID", "NAME"]
    monkeypatch.setenv("COLUMNS", "")
    assert written_by(OutputOptions("table"), wide).splitlines()[0].split() == ["ID", "NAME", "USED"]


def test_columns_are_completed_after_a_comma_and_an_order_after_a_sign() -> None:
    command = click.Command("list")
    context, parameter = click.Context(command), click.Option(["--columns"])

    def offered(begun: str, *, is_list: bool) -> list[str]:
        complete = complete_columns("reading.servers:TABLE", is_list=is_list)
        return [item.value for item in complete(context, parameter, begun)]

    assert offered("id,na", is_list=True) == ["id,name"]
    assert offered("-na", is_list=False) == ["-name"]
    assert offered("na", is_list=False) == ["name"]


@pytest.mark.parametrize(
    "place",
    [
        "access.login:TABLE",
        "following.outcomes:TABLE",
        "reading.info:CALLS",
        "reading.info:LIMITS",
        "reading.job_rows:JOBS",
        "reading.job_rows:SUB_JOBS",
        "reading.quota:TABLE",
        "reading.servers:TABLE",
        "runs.run_texts:TABLE",
    ],
)
def test_each_command_has_columns_to_complete(place: str) -> None:
    command = click.Command("list")
    offered = complete_columns(place)(click.Context(command), click.Option(["--columns"]), "")
    assert len(offered) >= 4


@pytest.mark.parametrize(
    ("path", "service"),
    [("/v1/p/x", "bms"), ("/v2.1/p/x", "compute"), ("/v2/p", "compute"), ("/v3/users", "identity"), ("/", "bms")],
)
def test_the_service_is_told_by_the_path(path: str, service: str) -> None:
    assert guess_service(path) == service


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("POST", "/v1/%2e%2E/x"), "expected a path without the parts . and .."),
        (("POST", "/v1/x", "--header-line", "X-Project-Id: other"), "the address and the project come from the"),
        (("POST", "/v1/x", "--header-line", "host: other"), "the address and the project come from the"),
        (("POST", "/v1/x", "--data", "@/dev/zero"), "is not JSON"),
    ],
)
def test_a_call_that_would_go_elsewhere_or_never_end_is_refused(
    nowhere: Bms, arguments: tuple[str, ...], said: str
) -> None:
    ended = nowhere("api", *arguments)
    assert (ended.code, ended.out, said in ended.err) == (2, "", True)


def test_secrets_of_an_answer_are_masked_by_their_names() -> None:
    answer = {
        "server": {
            "id": "s",
            "adminPass": "S3cret!",
            "metadata": {"admin_pass": "x", "role": "db"},
            "user_data": "IyE=",
        },
        "credential": {"access": "AK", "secret": "SK", "securitytoken": "t", "passwords": None},
        "keypair": {"private_key": "-----BEGIN", "public_key": "ssh-rsa"},
        "console": [{"url": "https://h/x?token=abc&id=1"}],
        "next_page_token": "p2",
        "password": "",
    }
    shown, count = mask_secrets(answer)
    text = json.dumps(shown)
    assert count == 7
    assert not [each for each in ("S3cret!", "IyE=", '"SK"', "BEGIN", "abc") if each in text]
    assert ("https://h/x?token=***&id=1" in text, "p2" in text, "ssh-rsa" in text) == (True, True, True)
    assert answer["console"] == [{"url": "https://h/x?token=abc&id=1"}]
    more = {
        "access": {"token": {"id": "T0K"}},
        "pin": {"passcode": 90210, "tokens": ["T1K"]},
        "console": {"url": "http://h:6080/vnc_auto.html?path=%3Ftoken%3DT2K", "next": "https://h/x?page_token=2"},
        "proxy": "http://ann:T3K@h/",
        "credential": {"blob": '{"secret": "T4K"}'},
    }
    shown, count = mask_secrets(more)
    assert count == 6
    assert not re.search(r"T\dK|90210", json.dumps(shown))
    assert ("http://ann:***@h/" in json.dumps(shown), "page_token=2" in json.dumps(shown)) == (True, True)
    assert [is_secret(name) for name in ("X-Auth-Token", "OS-DCF:adminPass", "tokens_left")] == [True, True, False]


@pytest.mark.parametrize(
    ("answer", "ids"),
    [
        ({"servers": [{"id": "a"}, {"id": "b"}], "servers_links": [{"href": "x"}]}, ["a", "b"]),
        ({"count": 0, "servers": []}, []),
        ({"servers": []}, []),
        ({"server": {"id": "a", "name": "n"}}, ["a"]),
        ({"job_id": "j"}, ["j"]),
        ([{"uuid": "u"}], ["u"]),
        (None, []),
    ],
)
def test_the_rows_of_an_answer_are_its_list(answer: object, ids: list[str]) -> None:
    found = find_rows(answer)
    assert [table_of(found).ids(row) for row in found] == ids
