"""Each command of ``bms`` that a page shows exists, and has the options that it is shown with; most are not run."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from bms_async.cli.app import app
from tests.docs.blocks import ROOT, find_blocks, pages

_OTHER_PARSER = "simulator"
_ENDS = {"|", "||", "&&", ";", ">", "<", "&"}


def shown_commands(text: str, page: str) -> Iterator[str]:
    """Find the commands in blocks, by their prompt where they are only shown, and in the text between."""
    for block in find_blocks(text, page):
        prompt = "" if block.language == "sh" else r"\$ "
        for line in block.text.replace("\\\n", " ").splitlines():
            if re.match(rf"{prompt}.*\bbms ", line):
                yield from (f"bms {rest}" for rest in re.split(r"(?:^|[|(;]|\$ )\s*bms ", line)[1:])
    for code in re.findall(r"`([^`]+)`", re.sub(r"```.*?```", "", text, flags=re.DOTALL)):
        if code.startswith("bms "):
            yield " ".join(code.split())


def find_problem(command: str) -> str | None:
    """Return what is wrong with a command; None where nothing is."""
    lexer = shlex.shlex(command, posix=True, punctuation_chars="|;<>&")
    lexer.whitespace_split, lexer.commenters = True, "#"
    found: click.Command = app
    known = _options(app)
    words = iter(list(lexer)[1:])
    for word in words:
        if word in _ENDS:
            break
        if word.startswith("-") and len(word) > 1:
            option = known.get(word.split("=")[0])
            if option is None and word.startswith("--"):
                return f"{found.name} has no {word}"
            if option is not None and "=" not in word and not option.is_flag and not option.count:
                next(words, None)
        elif (whole := f"{found.name} {word}") in app.commands:
            found, known = app.commands[whole], known | _options(app.commands[whole])
        elif isinstance(found, click.Group) and re.fullmatch(r"[a-z][a-z-]*", word):
            inner = found.get_command(_context(found), word)
            if inner is not None:
                found, known = inner, known | _options(inner)
            elif not found.invoke_without_command:
                return f"{found.name} has no command {word}"
        if found.name == _OTHER_PARSER:
            break
    return None


def _context(command: click.Command) -> click.Context:
    # click makes the option for help once, by the first context that asks for it.
    return click.Context(command, help_option_names=["-h", "--help"])


def _options(command: click.Command) -> dict[str, click.Option]:
    options = [each for each in command.get_params(_context(command)) if isinstance(each, click.Option)]
    return {name: each for each in options for name in (*each.opts, *each.secondary_opts)}


@pytest.mark.parametrize("page", [page for page in pages() if "bms " in (ROOT / page).read_text(encoding="utf-8")])
def test_commands_that_a_page_shows_have_the_options_that_it_shows(page: str) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")
    problems = {command: find_problem(command) for command in shown_commands(text, page)}
    assert {command: problem for command, problem in problems.items() if problem} == {}


@pytest.mark.parametrize(
    "command",
    ["bms stop --tga rack-1", "bms servers tga blue", "bms runs lst --open", "bms reboot web-1 --journel sqlite:///x"],
)
def test_a_command_with_a_name_that_does_not_exist_is_found(command: str) -> None:
    assert find_problem(command) is not None
