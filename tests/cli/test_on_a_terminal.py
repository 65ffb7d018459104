"""What is to be seen on a terminal."""

from __future__ import annotations

import logging
import re

import pytest

from bms_async.cli.terminal.logs import NOTES, begin_logging
from bms_async.cli.terminal.progress import Screen
from tests.cli._helpers import NO_SERVER, Bms, Terminal

ESCAPES = re.compile(rb"\x1b\[([0-9;]*)m")


def block(terminal: Terminal, word: str) -> list[str]:
    """The lines that begin with the bar."""
    return [line for line in terminal.shown if re.match(rf"{word}  [━─#-]", line)]


@pytest.mark.parametrize("columns", [80, 200, 40])
def test_the_bar_has_the_width_of_the_terminal_and_stays_in_its_place(slow_cloud: Bms, columns: int) -> None:
    with slow_cloud.on_a_terminal("reboot", "--tag", "rack-3", "-y", columns=columns) as terminal:
        terminal.wait_for_text("40 asked")
        [bar] = block(terminal, "reboot")
        assert "/40" in bar
        assert columns - 12 <= len(bar) < columns
        assert terminal.end() == 0
        [bar] = block(terminal, "reboot")
        assert "40/40" in bar
        assert "40 succeeded" in " ".join(terminal.text.split())
        # Nothing of what was drawn before is left, and the cursor is to be seen again.
        assert not terminal.screen.cursor.hidden
    assert terminal.received.startswith(b"\x1b[?25l") or b"\x1b[?25l" in terminal.received


def test_the_question_is_asked_and_a_yes_is_enough(healthy_cloud: Bms) -> None:
    with healthy_cloud.on_a_terminal("reboot", "--tag", "rack-4", columns=150) as terminal:
        terminal.wait_for_text("reboot 40 servers of project")
        terminal.send("y\n")
        assert terminal.end() == 0
        assert "40 succeeded" in terminal.text


def test_a_terminal_that_is_made_narrower_keeps_one_bar_and_what_was_above(slow_cloud: Bms) -> None:
    with slow_cloud.on_a_terminal("reboot", "--tag", "rack-5", NO_SERVER, columns=150) as terminal:
        assert terminal.end() == 2
    ids = slow_cloud.ids("rack-5")
    with slow_cloud.on_a_terminal("reboot", *ids, NO_SERVER, "-y", columns=150) as terminal:
        terminal.wait_for_text(f"{NO_SERVER} BMS.0040")
        terminal.wait_for_text("41 asked")
        terminal.resize(70, 24)
        terminal.wait_for(lambda: any(len(line) < 70 for line in block(terminal, "reboot")))
        terminal.end()
        assert len(block(terminal, "reboot")) == 1
        assert f"{NO_SERVER} BMS.0040" in terminal.text


def test_without_colours_there_are_none_and_the_bar_can_be_read(healthy_cloud: Bms) -> None:
    with healthy_cloud.on_a_terminal("reboot", "--tag", "rack-6", "-y", NO_COLOR="1") as terminal:
        assert terminal.end() == 0
        [bar] = block(terminal, "reboot")
    assert "━━━" in bar
    colours = {int(code) for codes in ESCAPES.findall(terminal.received) for code in codes.split(b";") if code}
    assert not colours & {*range(30, 50), *range(90, 108)}


def test_on_a_dumb_terminal_there_are_plain_lines(slow_cloud: Bms) -> None:
    with slow_cloud.on_a_terminal("start", "--tag", "rack-7", "-y", columns=150, TERM="dumb") as terminal:
        terminal.end()
    assert b"\x1b" not in terminal.received
    assert re.search(rb"\dZ start: 20 of 20, .*, ended; 20 asked", terminal.received)


def test_where_only_ascii_can_be_shown_the_bar_is_ascii(slow_cloud: Bms) -> None:
    with slow_cloud.on_a_terminal("start", "--tag", "rack-7", "-y", PYTHONIOENCODING="ascii") as terminal:
        terminal.end()
        assert "####" in block(terminal, "start")[0]
    assert terminal.received.isascii()


def test_jobs_are_followed_with_a_bar(healthy_cloud: Bms) -> None:
    job_id = healthy_cloud("reboot", "--tag", "rack-0", "-y", "--json").json[0]["job_id"]
    with healthy_cloud.on_a_terminal("jobs", "watch", job_id) as terminal:
        assert terminal.end() == 0
        assert "40/40  1/1 job" in terminal.text
        assert "1 of 1 job ended: 40 servers, 0 failed" in terminal.text


def test_servers_are_aligned_under_a_header(slow_cloud: Bms) -> None:
    with slow_cloud.on_a_terminal(
        "servers", "list", "-n", "3", "--columns", "name,status,power", columns=60
    ) as terminal:
        assert terminal.end() == 0
        header, *rows = terminal.shown
    assert header.split() == ["NAME", "STATUS", "POWER"]
    assert len(rows) == 3
    assert {row.index(row.split()[1]) for row in rows} == {header.index("STATUS")}


@pytest.mark.parametrize(("columns", "widest"), [(30, 29), (40, 39), (80, 79), (200, 100)])
def test_help_is_as_wide_as_the_terminal_up_to_what_can_be_read(nowhere: Bms, columns: int, widest: int) -> None:
    with nowhere.on_a_terminal("stop", "--help", columns=columns, lines=400) as terminal:
        assert terminal.end() == 0
        shown = terminal.shown
    assert widest - 12 <= max(map(len, shown)) <= widest
    assert [line for line in shown if re.fullmatch(r"[A-Z][a-z]+:", line)] == [
        "Servers:",
        "Run:",
        "Rollout:",
        "Output:",
        "Options:",
    ]
    # Each description is whole, and begins in one column unless its name is too long for that.
    words = " ".join(" ".join(shown).split())
    assert "--enterprise-project ID Servers of this enterprise project." in words
    assert "A cloud of clouds.yaml; default: OS_CLOUD." in words
    named = [re.match(r"  (-\S.*?)  +(\S)", line) for line in shown]
    assert len({each.start(2) for each in named if each}) == 1


@pytest.mark.parametrize(("changes", "is_styled"), [({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)])
def test_help_has_colours_where_they_are_wanted(nowhere: Bms, changes: dict[str, str], is_styled: bool) -> None:
    with nowhere.on_a_terminal("--help", columns=80, lines=100, **changes) as terminal:
        assert terminal.end() == 0
        assert "simulator" in terminal.text
    assert bool(ESCAPES.findall(terminal.received)) is is_styled
    assert b"\x1b" not in nowhere.in_a_process("--help").out.encode()


def test_what_the_cloud_says_moves_no_cursor() -> None:
    from bms_async.cli.terminal.texts import strip_control_chars

    assert (
        strip_control_chars("name\x1b[2J\tx\n")
        == "name\N{REPLACEMENT CHARACTER}[2J\N{REPLACEMENT CHARACTER}x\N{REPLACEMENT CHARACTER}"
    )
    assert strip_control_chars("Straße ✓") == "Straße ✓"


def test_what_is_logged_before_anything_is_drawn_is_told_at_once(capsys: pytest.CaptureFixture[str]) -> None:
    begin_logging(0)()
    with Screen() as screen:
        NOTES.handle(logging.makeLogRecord({"levelno": logging.WARNING, "levelname": "WARNING", "msg": "it waits"}))
        assert "it waits" in capsys.readouterr().err
        screen.print_above("a last word")
    assert capsys.readouterr().err == "a last word\n"
