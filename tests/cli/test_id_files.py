"""What is read out of a file of servers, and how a text is refused that cannot be read."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from typing import TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bms_async.cli.selection.id_files import parse_servers
from bms_async.cli.selection.words import Word
from bms_async.cli.terminal.exit import UsageError

A = "0a000000-0000-4000-8000-00000000000a"
B = "0b000000-0000-4000-8000-00000000000b"
BOTH = [A, B]


def read(text: str | bytes) -> list[str]:
    return [word.text for word in parse_servers(text.encode() if isinstance(text, str) else text, "FILE")]


TABLE = f"""+------+------+----------+
| Name | ID | Networks |
+------+------+----------+
| web | {A} | net=10.0.0.1 |
|     |      | net=10.0.0.2 |
| db  | {B} | |
+------+------+----------+
"""


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(f"# tonight\n\n{A}  # the first\n  {B}\n", id="one a line, with comments"),
        pytest.param(f'# failed\n{A} # FAILED BMS.0040 a "b"\n"{B}" # FAILED\n', id="the list of what failed"),
        pytest.param(f'[{{"type": "plan"}},\n{{"type": "server", "id": "{A}"}},"{B}"]', id="a plan"),
        pytest.param(f"{A}, {B}\n", id="commas in one line"),
        pytest.param(f"{A} {B}\n", id="blanks in one line"),
        pytest.param(f"{A};{B}", id="semicolons in one line"),
        pytest.param(f"'{A}'\n'{B}'\n", id="single quotes"),
        pytest.param(f'"{A}"\n"{B}"\n', id="texts of JSON a line"),
        pytest.param(f"{A}\tweb\tACTIVE\tbig\taz-1\t10.0.0.1\n{B}\tdb\tSHUTOFF\t\t\t\n", id="servers list in a pipe"),
        pytest.param(
            f"ID     NAME   STATUS\n{A}   web 1   ACTIVE\n{B}   -   SHUTOFF\n", id="servers list on a terminal"
        ),
        pytest.param(f"NAME   ID\nweb 1   {A}\n-       {B}\n", id="its columns in another order"),
        pytest.param(f"{A}   web 1   ACTIVE\n{B}   -   ACTIVE\n", id="the same without its header"),
        pytest.param(f"id,name\n{A},web\n{B},db\n", id="CSV"),
        pytest.param(f"\ufeffid,name\r\n{A},web\r\n{B},db\r\n", id="CSV of Excel"),
        pytest.param(f"name;server_id\nweb;{A}\ndb;{B}\n", id="semicolons"),
        pytest.param(f"name\tServer ID\nweb\t{A}\ndb\t{B}\n", id="tabs with a header"),
        pytest.param(f"web,{A}\ndb,{B}\n", id="CSV without a header"),
        pytest.param(f'"ID","Name","Networks"\n"{A}","web","a=1, b=2"\n"{B}","d""b",""\n', id="openstack -f csv"),
        pytest.param(f'id,note\n{A},"two\nlines"\n{B},x\n', id="a cell of two lines"),
        pytest.param(f"{A} web ACTIVE net=10.0.0.1 image big\n{B} db ACTIVE\n", id="openstack -f value"),
        pytest.param(TABLE, id="the table of openstack"),
        pytest.param(json.dumps(BOTH), id="a list"),
        pytest.param(json.dumps([{"ID": A, "Name": "web"}, {"ID": B}], indent=2), id="openstack -f json"),
        pytest.param(json.dumps({"servers": [{"id": A}, {"id": B}], "count": 2}), id="a list in an object"),
        pytest.param(f'{{"id": "{A}"}}\n{{"server_id": "{B}"}}\n{{"type": "summary"}}\n', id="lines of JSON"),
        pytest.param(f'{{\n"id": "{A}"\n}}\n{{\n"id": "{B}"\n}}\n', id="jq without -c"),
        pytest.param(f'{A}\n{{"id": "{B}"}}\n', id="two outputs in one file"),
        pytest.param(f'["{A}"]\n["{B}"]\n', id="a list a line"),
        pytest.param(f"ID\n{A}\n{B}\n", id="a header above ids"),
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
def test_servers_are_read_out_of_what_people_have(text: str, encoding: str) -> None:
    assert read(text.removeprefix("\ufeff").encode(encoding)) == BOTH


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("web-1\nweb-2", ["web-1", "web-2"]),
        ("web-1, web-2", ["web-1", "web-2"]),
        ("name,zone\nweb 1,a\nRück,b", ["web 1", "Rück"]),
        ('"web 17"\nweb-2', ["web 17", "web-2"]),
        ('[{"Name": "web 17"}]', ["web 17"]),
        ("", []),
        ("# none\n\n", []),
        ("zone,name\na,web #3\n", ["web #3"]),
        ("NAME   ZONE\nweb #3   a\n", ["web #3"]),
        (f"id,name,status\n{A},web #3,ACTIVE\n", [A]),
        ("job,server,status\nj,web,FAIL\n", ["web"]),
        ('{"job_id": "j", "server": "web"}', ["web"]),
        ("id,name\n", []),
        ("[]", []),
        ('{"servers": []}', []),
    ],
)
def test_names_are_read_as_well_and_an_empty_file_has_none(text: str, names: list[str]) -> None:
    assert read(text) == names


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("a\nb\nx |y\n", "FILE, line 3: expected a server id or name, got '|y'"),
        ("# one\n<html>\n", "FILE, line 2: expected a server id or name, got '<html>'"),
        (f"id,name\n{A},web\n{B}\n", "FILE, line 3: expected the columns id, name, got '"),
        (f"id,name\n{A},web\n,db\n", "FILE, line 3: expected the columns id, name, got 'db'"),
        (f"{A},web\ndb,x\n", "FILE, line 2: expected one id, as in the lines before, got 'db x'"),
        (f"{A},web\n{A},{B}\n", "FILE, line 2: expected one id, as in the lines before"),
        (f"{A},web,{B}\n", "FILE, line 1: expected one id a line"),
        ("web#3\n", "FILE, line 1: expected a server id or name, got 'web#3'"),
        ("a, web#3\n", "FILE, line 1: expected a server id or name, got 'web#3'"),
        (f"{A}# the first\n", "FILE, line 1: expected a server id or name"),
        ("volume_id\tname\nv\tweb\n", "FILE, line 1: expected a header, or one id a line"),
        ("a\tb\n", "FILE, line 1: expected a header, or one id a line, got 'a b'"),
        ('id,name\na,"b\nc,d\n', "FILE, line 3: expected cells whose quotes are closed"),
        ("+--+\n| Name |\n+--+\n| x\n", "FILE, line 4: expected a row of the table, got '| x'"),
        ("+--+\n| Zone |\n+--+\n| x |\n", "FILE, line 2: expected a column ID or Name, got 'Zone'"),
        ('[\n{"id": "a"},\n{"id" "b"}\n]', "FILE, line 3: expected JSON, got '{\"id\" \"b\"}'"),
        ('{"id": "a"}\n{"id": 7}\n', "FILE, line 2: expected a server with its id in JSON, got '{\"id\": 7}'"),
        ('["a", null]', "FILE, item 2: expected a server id or name, got 'null'"),
        ('{"a": 1}', "FILE, line 1: expected a server with its id in JSON, or a list of these"),
        (b"\x7fELF\0\1", "FILE, line 1: expected text, got bytes that are none"),
        (b"a\nb\xff\n", "FILE, line 2: expected text in UTF-8, got other bytes"),
        (b"\xff\xfea\0\n", "FILE, line 1: expected text in UTF-8, got other bytes"),
        ("a\x1b[31m\n", "FILE, line 1: expected a server id or name, got 'a\N{REPLACEMENT CHARACTER}[31m'"),
        ("x|" * 100_000, "..."),
        ("[" * 100_000, "FILE, line 1: expected JSON, got '[[["),
        ('{"a":' * 50_000, "FILE, line 1: expected JSON"),
    ],
)  # fmt: skip
def test_one_line_that_cannot_be_read_refuses_all_with_its_number(text: str | bytes, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        read(text)
    assert told in str(refused.value)
    assert len(str(refused.value)) < 400


NAMES = st.text(st.sampled_from("abcXYZ019._-"), min_size=1, max_size=12).map(lambda text: f"w{text}")
CELLS = st.text(st.sampled_from("ab ,;\"'|#\té"), max_size=6).map(str.strip)


Form: TypeAlias = Callable[[Sequence[tuple[str, str]]], str]


def as_csv(delimiter: str) -> Form:
    def write(rows: Sequence[tuple[str, str]]) -> str:
        out = io.StringIO()
        csv.writer(out, delimiter=delimiter, quoting=csv.QUOTE_ALL).writerows([("note", "id"), *map(reversed, rows)])
        return out.getvalue()

    return write


FORMS: list[Form] = [
    as_csv(","),
    as_csv(";"),
    as_csv("\t"),
    lambda rows: json.dumps([{"id": name, "note": note} for name, note in rows], indent=1),
    lambda rows: "".join(json.dumps({"server_id": name, "note": note}) + "\n" for name, note in rows),
    lambda rows: ", ".join(name for name, _ in rows),
    lambda rows: "".join(f"{name}   # {note.replace(chr(34), '')}\n" for name, note in rows),
]


ROWS = st.sampled_from([st.uuids().map(str), NAMES]).flatmap(
    lambda servers: st.lists(st.tuples(servers, CELLS), min_size=1, max_size=5)
)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, form=st.sampled_from(FORMS))
def test_what_was_written_is_read_again(rows: list[tuple[str, str]], form: Form) -> None:
    assert read(form(rows)) == [name for name, _ in rows]


@settings(max_examples=200, deadline=None)
@given(st.text(st.sampled_from("a-1 ,;\t\n\r\"'|+#{}[]:\0é"), max_size=40).map(str.encode) | st.binary(max_size=30))
def test_whatever_comes_is_read_or_refused_in_few_words(data: bytes) -> None:
    told = ""
    words: list[Word] = []
    try:
        words = parse_servers(data, "FILE")
    except UsageError as error:
        told = str(error)
    assert len(told) < 400
    assert not told or told.startswith("FILE, ")
    assert all(word.may_be_name and word.where.startswith("FILE, ") for word in words)
