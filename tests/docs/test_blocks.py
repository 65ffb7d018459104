"""The tests of the pages find every block and every fault; else they would prove nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.docs._player import look_up, play
from tests.docs.blocks import Kind, find_blocks, find_differences, matches
from tests.docs.snippets import run_snippets


def kinds(text: str) -> list[Kind]:
    return [block.kind for block in find_blocks(text, "page.md")]


def fenced(language: str, text: str, note: str = "") -> str:
    return (f"<!-- {note} -->\n" if note else "") + f"```{language}\n{text}\n```\n\n"


def test_a_block_knows_where_it_stands_and_what_stood_over_it() -> None:
    page = "# Page\n\n- a list\n\n    ```python\n    if True:\n        x = 1\n    ```\n\n" + fenced(
        "text", "y", "output"
    )
    code, shown = find_blocks(page, "page.md")
    assert (code.place, code.text) == ("page.md:6", "if True:\n    x = 1\n")
    assert (shown.place, shown.note, shown.kind) == ("page.md:12", "output", Kind.OUTPUT)


def test_a_fence_in_a_longer_fence_is_text() -> None:
    (block,) = find_blocks("````text\n```python\nx = 1\n```\n````\n", "page.md")
    assert block.text == "```python\nx = 1\n```\n"


def test_a_fence_that_is_not_closed_is_told() -> None:
    with pytest.raises(ValueError, match=r"page\.md:2"):
        kinds("text\n```python\nx = 1\n")


@pytest.mark.parametrize(
    ("language", "text", "kind"),
    [
        ("python", "import asyncio\nasyncio.run(main())", Kind.PROGRAM),
        ("python", "server = await bms.servers.get(server_id)", Kind.SNIPPET),
        ("python", "async for server in bms.servers.list():\n    pass", Kind.SNIPPET),
        ("python", "ids = [server.id async for server in bms.servers.list()]", Kind.SNIPPET),
        ("python", "x = 1", Kind.SNIPPET),
        ("python", "# test_fleet.py\ndef test_it(): ...", Kind.FILE),
        ("yaml", "# clouds.yaml\nclouds: {}", Kind.FILE),
        ("sh", "bms calls", Kind.COMMANDS),
        ("json", "{}", Kind.SHOWN),
    ],
)
def test_a_block_is_what_it_looks_like(language: str, text: str, kind: Kind) -> None:
    assert kinds(fenced(language, text)) == [kind]


def test_code_of_another_sdk_is_no_snippet_and_neither_is_what_goes_on_with_it() -> None:
    page = fenced("python", "import openstack") + fenced("python", "cloud.close()") + fenced("python", "await job")
    assert kinds(page) == [Kind.PART, Kind.PART, Kind.SNIPPET]


@pytest.mark.parametrize(
    ("expected", "printed", "same"),
    [("a ... c", "a b c\n", True), ("a ... c", "a b d\n", False), ("a.c", "abc", False), ("a\n...", "a\nb\nc", True)],
)
def test_three_dots_stand_for_anything(expected: str, printed: str, same: bool) -> None:
    assert matches(expected, printed) is same


def test_what_both_sides_print_is_compared_with_what_is_shown_below_them() -> None:
    page = fenced("python", "import openstack") + fenced("python", "await x") + fenced("text", "yes", "output")
    blocks = list(find_blocks(page, "page.md"))
    left, right, _ = (block.place for block in blocks)
    assert find_differences(blocks, {left: "yes\n", right: "yes\n"}) == []
    assert len(find_differences(blocks, {left: "no\n", right: "no\n"})) == 2


def test_a_snippet_that_breaks_says_in_which_line_of_the_page() -> None:
    blocks = list(
        find_blocks("# Page\n" + fenced("python", "x = 1") + fenced("python", "\nawait bms.nothing()"), "page.md")
    )
    with pytest.raises(AttributeError, match="nothing") as caught:
        run_snippets(blocks)
    assert caught.value.__notes__ == ["in the block at page.md:7"]
    assert caught.traceback[-1].lineno == 7


def test_a_program_a_command_and_a_test_that_fail_are_told(tmp_path: Path) -> None:
    page = (
        fenced("python", "import asyncio\nasync def main(): 1 / 0\nasyncio.run(main())")
        + fenced("sh", "pip install '.[nonsense]'\nmake nonsense\nwhatever\npython -m bms_async.nonsense")
        + fenced("python", "# test_wrong.py\ndef test_wrong():\n    assert False")
        + fenced("python", "import asyncio\nasync def main(): print(1)\nasyncio.run(main())")
        + fenced("text", "2", "output")
    )
    problems = play(list(find_blocks(page, "page.md")), tmp_path).problems
    told = "\n".join(problems)
    assert len(problems) == 7
    for each in (
        "ZeroDivisionError",
        "no extra nonsense",
        "nonsense",
        "teach them",
        "no such module",
        "1 failed",
        "not what",
    ):
        assert each in told, each
    assert 'File "page.md", line 3' in told


def test_a_command_gets_the_text_that_is_given_to_it_and_finds_the_clouds_that_the_page_has_started(
    tmp_path: Path,
) -> None:
    page = (
        fenced("sh", "python -m bms_async.simulator --servers 3 --port 8801 \\\n    --project-id one")
        + fenced("sh", "export WHERE=http://127.0.0.1:8801 KIND='two words'")
        + fenced("sh", "cat > known.txt <<END\nit's here: $KIND\nEND\ncat known.txt\necho $WHERE # and this is none")
        + fenced("text", "it's here: two words\nhttp://127.0.0.1:...", "output")
        + fenced("sh", "unset KIND\ncat nothing", "exits with 1")
        + fenced("sh", "python -m bms_async.simulator --port 8801")
    )
    played = play(list(find_blocks(page, "page.md")), tmp_path)
    assert played.problems == ["page.md:31: there is a cloud at http://127.0.0.1:8801 already"]
    assert "8801" not in "".join(played.printed.values())


def test_commands_that_are_only_looked_up_must_be_right() -> None:
    assert look_up(["pip", "install", ".[speedups,simulator]"]) is None
    assert look_up(["make", "lint"]) is None
    assert look_up(["python", "-m", "benchmarks.calls"]) is None
    assert look_up(["python", "examples/controller.py", "--help"]) is None
    assert look_up(["python", "examples/nothing.py"]) is not None
