"""docs/calls.md is what the table of operations makes of it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

from bms_async.api import operations
from bms_async.wire import Operation, Safety
from docs._site import calls_page
from tests.support.machine import patience


def call(chapter: str = "4.3.1", **changes: object) -> Operation[None]:
    plain = Operation(
        name="servers.get",
        method="GET",
        path="/v1/{project_id}/x",
        result=type(None),
        safety=Safety.READ,
        chapter=chapter,
        title="Read",
    )
    return msgspec.structs.replace(plain, **changes)


def test_the_page_is_not_stale(capsys: pytest.CaptureFixture[str]) -> None:
    assert calls_page.main(["--check"]) == 0, capsys.readouterr().err


def name_of(operation: Operation[Any]) -> str:
    if operation.name == "identity.create_token":
        return "`identity.create_token`, by `PasswordAuth`"
    return f"`bms.{operation.name}`"


def test_every_call_has_one_row_with_all_that_is_known_of_it() -> None:
    rows = [line for line in calls_page.PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    told = {cells[2]: cells for row in rows if (cells := re.split(r" ?(?<!\\)\| ?", row))[2].startswith("`")}

    of_the_token, *others = operations()
    assert set(told) == {name_of(each) for each in operations()}
    assert [name for name in told if name != name_of(of_the_token)] == [name_of(each) for each in others]
    for each in operations():
        assert told[name_of(each)] == [
            "",
            each.title,
            name_of(each),
            f"`{each.method} {each.path}`",
            str(each.limit or ""),
            each.safety,
            each.chapter,
            f"`{each.permission}`" if each.permission else "",
            "",
        ]


def test_tables_are_those_of_the_chapters_and_empty_ones_are_left_out() -> None:
    page = calls_page.render([call("A.1"), call("3.2"), call("4.3.1"), call("5.2.1"), call("4.3.2")])

    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == ["BMS calls", "Native OpenStack calls", "Identity calls"]
    assert re.findall(r"\| ([A\d][.\d]+) \|", page) == ["4.3.1", "4.3.2", "5.2.1", "A.1", "3.2"]
    assert "All 5 calls" in page


def test_a_call_of_another_chapter_is_not_left_out_in_silence() -> None:
    with pytest.raises(ValueError, match=r"chapter 9\.1 has no table"):
        calls_page.render([call("9.1")])


def test_a_bar_in_a_title_does_not_open_a_column() -> None:
    assert "| Start \\| stop |" in calls_page.render([call(title="Start | stop")])


def test_a_stale_page_is_told_and_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    page = tmp_path / "calls.md"
    page.write_text(calls_page.render(operations()).replace("Every call", "Some calls"), encoding="utf-8")
    before = page.read_text(encoding="utf-8")

    assert calls_page.main(["--check"], page=page) == 1
    assert page.read_text(encoding="utf-8") == before
    told = capsys.readouterr().err
    assert "is stale (from line 1 on)" in told
    assert "python -m docs._site.calls_page" in told


def test_a_page_that_is_not_there_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert calls_page.main(["--check"], page=tmp_path / "calls.md") == 1
    assert "does not exist; write it with:" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_without_docs_it_says_where_to_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert calls_page.main([], page=tmp_path / "docs" / "calls.md") == 2
    assert "run this in a checkout" in capsys.readouterr().err


def test_it_is_written_whole_and_then_is_not_stale(tmp_path: Path) -> None:
    page = tmp_path / "calls.md"

    assert calls_page.main([], page=page) == 0
    assert calls_page.main(["--check"], page=page) == 0
    assert page.read_text(encoding="utf-8") == calls_page.render(operations())
    assert page.stat().st_mode & 0o777 == 0o644
    assert list(tmp_path.iterdir()) == [page]


def test_a_page_that_cannot_be_written_stays_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "calls.md"
    page.write_text("before", encoding="utf-8")

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        calls_page.main([], page=page)
    assert page.read_text(encoding="utf-8") == "before"
    assert list(tmp_path.iterdir()) == [page]


def test_it_runs_as_a_command() -> None:
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-m", "docs._site.calls_page", "--check"],
        cwd=calls_page.PAGE.parents[1],
        capture_output=True,
        text=True,
        timeout=patience(60.0),
        check=False,
    )

    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_the_page_reads_as_markdown_tables() -> None:
    for table in re.findall(r"(?:^\|.*\n)+", calls_page.PAGE.read_text(encoding="utf-8"), re.MULTILINE):
        head, rule, *rows = table.splitlines()
        assert set(rule) <= set("|- ")
        assert {len(re.findall(r"(?<!\\)\|", row)) for row in (head, rule, *rows)} == {8}
        assert rows
