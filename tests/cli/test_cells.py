"""Text as wide as a terminal shows it."""

from __future__ import annotations

import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async.cli.following.failures import Failures
from bms_async.cli.following.results import reason_line, reason_lines
from bms_async.cli.reading.servers import _describe
from bms_async.cli.terminal.cells import cell_len, fold, padded, wrap
from bms_async.cli.terminal.progress import Screen
from bms_async.cli.terminal.words import CloudMessage, shown_code
from bms_async.cli.terminal.writers import TextTable
from bms_async.models import Server

NAMES = ("db-1", "数据库-一号", "cafe\N{COMBINING ACUTE ACCENT}-3", "サーバー", "ｶﾀｶﾅ", "\N{ROCKET}-5", "서버", "")
ESCAPES = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
LETTERS = st.text(alphabet="ab-.数据库サé\N{COMBINING ACUTE ACCENT}\N{ROCKET}ｶ ", max_size=200)


def cells(text: str) -> int:
    """What a terminal takes for a text, reckoned by the tables of Unicode alone."""
    wide = sum(unicodedata.east_asian_width(each) in "WF" for each in text)
    return len(text) + wide - sum(bool(unicodedata.combining(each)) for each in text)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bms_async.cli.following.results.terminal_width", lambda: 60)


def rows_of(*rows: tuple[object, ...], names: tuple[str, ...], right: tuple[str, ...] = ()) -> list[str]:
    table = TextTable(names, header=True, right=frozenset(right), keep=1, width=lambda: 60)
    return "".join([*(table.add(list(row)) for row in rows), table.end()]).splitlines(keepends=True)


def test_columns_stand_below_each_other_whatever_names_are_made_of() -> None:
    rows = rows_of(*((name, "ACTIVE", 7) for name in NAMES), names=("name", "status", "used"), right=("used",))
    assert {cells(row[: row.index("ACTIVE")]) for row in rows[1:]} == {cells(rows[0][: rows[0].index("STATUS")])}
    assert {cells(row.rstrip("\n")) for row in rows} == {cells(rows[0].rstrip("\n"))}
    # Figures that are something else now and then end below each other all the same.
    rows = rows_of(("a", 50), ("b", "無制限"), names=("quota", "limit"), right=("limit",))
    assert {cells(row.rstrip("\n")) for row in rows} == {cells(rows[0].rstrip("\n"))}


def test_as_many_columns_are_shown_as_wide_names_leave_room_for() -> None:
    header, row = rows_of(("数" * 25, "ACTIVE", "zone"), names=("name", "status", "zone"))
    assert header.split() == ["NAME", "STATUS"]
    assert cells(row.rstrip("\n")) <= 60


@pytest.mark.usefixtures("terminal")
def test_reasons_are_wrapped_where_the_terminal_ends() -> None:
    failures = Failures()
    failures.add_reason(
        "错误", "电源控制器没有响应" * 9, "サーバー-1", CloudMessage("電源が入りません。" * 9, job_id="job-1")
    )
    lines = reason_lines(failures)
    assert max(map(cells, lines)) in {59, 60}
    assert all(line.startswith("  ") for line in lines)
    assert "電源が入りません。" * 9 in "".join("".join(lines).split())


def test_the_fields_of_a_server_stand_below_each_other() -> None:
    server = Server(id="s", metadata={"数据库": "one", "role": "two", "cafe\N{COMBINING ACUTE ACCENT}": "three"})
    lines = [line for line in _describe(server).splitlines() if line.rsplit(" ", 1)[-1] in {"one", "two", "three"}]
    assert len({cells(line.rsplit(" ", 1)[0]) for line in lines}) == 1
    assert len(lines) == 3


async def test_a_line_of_the_block_ends_before_a_wide_character_that_has_no_room(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    written: list[str] = []
    monkeypatch.setattr("bms_async.cli.terminal.progress._write", written.append)
    failures = Failures()
    failures.add_reason("BMS.0006", "", "s", CloudMessage("电源控制器没有响应" * 20))
    for columns in range(30, 34):
        screen = Screen()
        monkeypatch.setattr(type(screen), "width", columns)
        await screen.draw([reason_line(failures.reasons()[0])])
        drawn = ESCAPES.sub("", written.pop()).strip("\r")
        assert columns - 1 <= cells(drawn) <= columns
        assert drawn.endswith("…")
        assert set(drawn.partition("BMS.0006  ")[2]) <= set("电源控制器没有响应… ")


@given(text=LETTERS, width=st.integers(12, 80))
def test_text_that_is_wrapped_keeps_its_letters_and_the_width(text: str, width: int) -> None:
    lines = wrap(text, width, first="  ", rest="    ")
    assert all(cell_len(line) <= width for line in lines)
    assert "".join("".join(lines).split()) == "".join(text.split())
    # An accent stays with its letter; one that begins a word has none.
    alone = sum(word.startswith("\N{COMBINING ACUTE ACCENT}") for word in text.split())
    assert sum(line.strip().startswith("\N{COMBINING ACUTE ACCENT}") for line in lines) <= alone


@given(text=LETTERS, width=st.integers(0, 300), right=st.booleans())
def test_text_that_is_padded_is_as_wide_as_its_column(text: str, width: int, right: bool) -> None:
    told = padded(text, width, right=right)
    assert cell_len(told) == max(width, cell_len(text))
    assert text in told


def test_a_line_ends_between_words_and_what_is_pasted_stays_whole() -> None:
    path = f"/home/ann/{'x' * 60}"
    shown = fold(f"bms: 3 servers are not as asked; the list: {path}", 40, rest="     ")
    assert shown == f"bms: 3 servers are not as asked; the\n     list:\n     {path}"
    assert fold("  数据库 数据库 数据库", 16, rest="  ") == "  数据库 数据库\n    数据库"
    assert fold("a   b\n\n  c", 40) == "a   b\n\n  c"


def test_a_name_that_leaves_no_room_is_cut_and_an_id_is_not() -> None:
    table = TextTable(("id", "name", "status"), header=True, right=frozenset(), keep=3, width=lambda: 60, is_cut=True)
    lines = f"{table.add(['7' * 36, '数' * 20, 'ACTIVE'])}{table.end()}".splitlines()
    assert max(map(cells, lines)) <= 60
    assert lines[1].startswith("7" * 36)
    assert lines[1].endswith("ACTIVE")
    assert "数\N{HORIZONTAL ELLIPSIS}" in lines[1]


def test_reasons_have_no_names_of_classes() -> None:
    words = [shown_code(code) for code in ("SKIPPED", "NotReadyError", "GroupBlockedError", "BMS.0037", "Odd.Error")]
    assert words == ["skipped", "not ready", "group blocked", "BMS.0037", "Odd.Error"]
