"""The manual pages: one for each command, with each of its options, and no text that roff takes for a request."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest

from bms_async.cli.app import app
from bms_async.cli.app_help import all_commands
from bms_async.cli.guides import TOPICS
from bms_async.cli.manual import main, pages, roff

PAGES = dict(pages())
REQUESTS = {"TH", "SH", "SS", "PP", "TP"}


@pytest.mark.parametrize(
    ("text", "escaped"),
    [
        (".SH is no heading", r"\&.SH is no heading"),
        ("'tis no request", r"\(aqtis no request"),
        (r"a \fB is no font", r"a \efB is no font"),
        ("--dry-run", r"\-\-dry\-run"),
        ("see `bms login -h`", r"see \fBbms login \-h\fR"),
        ("~/.ssh ^C ` alone", r"\(ti/.ssh \(haC \(ga alone"),
        ("one\n.two", "one .two"),
        ("Zürich", r"Z\[u00FC]rich"),
    ],
)
def test_a_text_is_escaped(text: str, escaped: str) -> None:
    assert roff(text) == escaped


def test_each_command_has_a_page() -> None:
    commands = all_commands(app.make_context("bms", [], resilient_parsing=True))
    paths = {context.command_path for context in commands}
    assert {"bms", "bms reboot", "bms servers list", "bms limits open"} <= paths
    assert set(PAGES) == {f"{path.replace(' ', '-')}.1" for path in paths}


def test_each_option_and_argument_of_a_command_is_in_its_page() -> None:
    for context in all_commands(app.make_context("bms", [], resilient_parsing=True)):
        page = PAGES[f"{context.command_path.replace(' ', '-')}.1"]
        for parameter in context.command.get_params(context):
            if isinstance(parameter, click.Option) and parameter.hidden:
                continue
            names = [*parameter.opts, *parameter.secondary_opts] if isinstance(parameter, click.Option) else ["TP"]
            assert [name for name in names if roff(name) not in page] == [], context.command_path


def test_the_first_page_has_all_settings_exit_codes_and_how_the_pages_are_installed() -> None:
    page = PAGES["bms.1"]
    for topic in TOPICS.values():
        for rows in topic.rows.values():
            assert [name for name, _ in rows if rf"\fB{roff(name)}\fR" not in page] == []
    assert roff("/usr/local/share/man/man1") in page
    assert r"\fBbms\-servers\fR(1)" in page


def test_only_requests_that_are_meant_begin_a_line_and_all_is_ascii() -> None:
    for name, page in PAGES.items():
        assert page.isascii(), name
        assert page.startswith('.TH "BMS'), name
        begun = [line for line in page.splitlines() if line.startswith((".", "'"))]
        assert {re.split(r"[. ]", line)[1] for line in begun} <= REQUESTS, name
        # Each hyphen is one that can be typed again.
        assert re.search(r"(?<!\\)-", page) is None, name


def test_pages_are_written_into_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path / "man")]) == 0
    assert {path.name for path in (tmp_path / "man").iterdir()} == set(PAGES)
    assert main([]) == 2
    assert "FOLDER" in capsys.readouterr().err
