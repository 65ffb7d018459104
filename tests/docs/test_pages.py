"""All code of README.md and of the pages below docs/ does what they say."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.docs._player import Played, play
from tests.docs.blocks import LANGUAGES, Kind, pages, read_page
from tests.docs.snippets import run_snippets

PLAYED = {Kind.PROGRAM, Kind.PART, Kind.FILE, Kind.COMMANDS}
README = "README.md"
TO_PLAY = [page for page in pages() if page != README and any(block.kind in PLAYED for block in read_page(page))]
WITH_SNIPPETS = [page for page in pages() if any(block.kind is Kind.SNIPPET for block in read_page(page))]

Player = Callable[[str], Played]


@pytest.fixture(scope="session")
def player(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Player]:
    """Plays a page. Pages mostly wait, so those that tests were chosen for are played two at a time, ahead."""

    chosen = {each.callspec.params.get("played") for each in request.session.items if hasattr(each, "callspec")}
    with ThreadPoolExecutor(2) as pool:

        def begin(page: str) -> Future[Played]:
            # The folder is made here and not in the thread: pytest makes its own first one when it is asked for.
            return pool.submit(play, read_page(page), tmp_path_factory.mktemp("page"))

        plays = {page: begin(page) for page in (README, *TO_PLAY) if page in chosen}
        yield lambda page: (plays.get(page) or begin(page)).result()


@pytest.mark.parametrize("page", pages())
def test_every_block_says_what_it_is_and_is_closed(page: str) -> None:
    for block in read_page(page):
        assert block.language in LANGUAGES, f"{block.place}: a fence with the language {block.language!r}"


@pytest.mark.parametrize("played", TO_PLAY)
def test_the_programs_and_commands_of_a_page_run_as_printed(played: str, player: Player) -> None:
    assert player(played).problems == []


@pytest.mark.parametrize("played", [README])
def test_the_first_program_of_the_readme_is_ten_lines_and_stops_everything(played: str, player: Player) -> None:
    (first,) = (block for block in read_page(played) if block.kind is Kind.PROGRAM)
    printed, problems = player(played)
    assert problems == []
    assert len([line for line in first.text.splitlines() if line.strip()]) <= 10
    assert re.fullmatch(
        r"<FleetReport servers\.stop of 100 servers: 95 SUCCEEDED, 5 FAILED in .* s> \{'BMS\.0006': 5\}\n",
        printed[first.place],
    )


@pytest.mark.parametrize("page", WITH_SNIPPETS)
def test_the_snippets_of_a_page_run_one_after_another(
    page: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_snippets(read_page(page)) == []
