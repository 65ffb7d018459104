"""The fenced blocks of README.md and of the pages below docs/, and what each of them is.

What is to be done with a block follows from its language and its text. A comment in the line before its fence says what
does not: ``<!-- output -->`` over a ``text`` or ``json`` block has it compared with what the block before it prints,
where ``...`` stands for anything, and ``<!-- exits with 1 -->`` over a ``sh`` block or a program says how it ends.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
LANGUAGES = frozenset({"python", "sh", "text", "json", "yaml", "toml"})
FOREIGN = ("huaweicloudsdk", "openstack")
"""Packages whose code waits without ``await``: it has a process and a cloud of its own."""

_FENCE = re.compile(r"(?P<indent> *)(?P<fence>`{3,})(?P<language>[^\s`{]*)(?P<more>[^`]*)")
_FILE = re.compile(r"# (\w+\.\w+)")


class Kind(StrEnum):
    """What is done with a block."""

    FILE = "file"
    """Written into a folder, where pytest runs what is called test_*.py."""
    PROGRAM = "program"
    """Run in a process of its own, with the page's cloud in its environment."""
    PART = "part"
    """Run with all other parts of its page in one process, in their order: code of other SDKs."""
    SNIPPET = "snippet"
    """Run in one coroutine with all other snippets of its page, on the virtual clock."""
    COMMANDS = "commands"
    """Run, or looked up, in the order of the page's programs."""
    OUTPUT = "output"
    """What the block before it prints."""
    SHOWN = "shown"
    """Only looked at."""


class Block(NamedTuple):
    """A fenced block.

    Attributes:
        page: The page, by its path from the checkout's root.
        line: Where its first line stands in the page, from 1.
        language: What the fence says.
        text: What is in it, without the fence's own indent.
        note: The comment in the line before the fence, or "".
        kind: What is done with it.
    """

    page: str
    line: int
    language: str
    text: str
    note: str
    kind: Kind

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def file(self) -> str | None:
        """The file that its first line names."""
        found = _FILE.fullmatch(self.text.partition("\n")[0])
        return found[1] if found else None

    @property
    def exit_code(self) -> int:
        found = re.fullmatch(r"exits with (\d+)", self.note)
        return int(found[1]) if found else 0

    @property
    def placed(self) -> str:
        """The text at the lines that it has in its page, so that a traceback names those."""
        return "\n" * (self.line - 1) + self.text


def pages() -> list[str]:
    """Return all pages, the README first."""
    return ["README.md", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md"))]


def read_page(page: str) -> list[Block]:
    return list(find_blocks((ROOT / page).read_text(encoding="utf-8"), page))


def find_blocks(text: str, page: str) -> Iterator[Block]:
    """Find the blocks of a page.

    Raises:
        ValueError: A fence is not closed.
    """
    lines = text.splitlines()
    foreign = any(f"import {name}" in text or f"from {name}" in text for name in FOREIGN)
    at = 0
    while at < len(lines):
        opened = _FENCE.fullmatch(lines[at])
        if not opened:
            at += 1
            continue
        end = next(
            (n for n in range(at + 1, len(lines)) if lines[n].strip() == opened["fence"]),
            None,
        )
        if end is None:
            raise ValueError(f"{page}:{at + 1}: a fence is opened and not closed")
        body = "".join(f"{line.removeprefix(opened['indent'])}\n" for line in lines[at + 1 : end])
        comment = re.fullmatch(r" *<!-- (.*) -->", lines[at - 1]) if at else None
        note = comment[1] if comment else ""
        kind = _kind(opened["language"], body, note, foreign=foreign)
        yield Block(page, at + 2, opened["language"], body, note, kind)
        at = end + 1


def _kind(language: str, text: str, note: str, *, foreign: bool) -> Kind:
    if _FILE.fullmatch(text.partition("\n")[0]):
        return Kind.FILE
    if language == "sh":
        return Kind.COMMANDS
    if language != "python":
        return Kind.OUTPUT if note == "output" else Kind.SHOWN
    if re.search(r"^(asyncio|uvloop)\.run\(", text, re.MULTILINE):
        return Kind.PROGRAM
    return Kind.PART if foreign and not awaits(text) else Kind.SNIPPET


def awaits(text: str) -> bool:
    """Tell whether code awaits outside any function."""
    inside = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
    left: list[ast.AST] = [ast.parse(text)]
    while left:
        node = left.pop()
        if isinstance(node, ast.Await | ast.AsyncFor | ast.AsyncWith):
            return True
        if isinstance(node, ast.comprehension) and node.is_async:
            return True
        left += [each for each in ast.iter_child_nodes(node) if not isinstance(each, inside)]
    return False


def outputs(blocks: Sequence[Block]) -> Iterator[tuple[Block, Block]]:
    """Return each block of output with what prints it; under code side by side it is what both sides print."""
    for number, block in enumerate(blocks):
        if block.kind is Kind.OUTPUT and number:
            yield block, blocks[number - 1]
            if number > 1 and blocks[number - 2].kind is Kind.PART:
                yield block, blocks[number - 2]


def find_differences(blocks: Sequence[Block], printed: Mapping[str, str]) -> list[str]:
    """Say which of the blocks that were run print something else than is shown.

    Args:
        blocks: Those of a page.
        printed: What was printed, by the place of the block.
    """
    return [
        f"{shown.place}: not what {source.place} prints:\n{printed[source.place]}"
        for shown, source in outputs(blocks)
        if source.place in printed and not matches(shown.text, printed[source.place])
    ]


def matches(expected: str, printed: str) -> bool:
    """Tell whether output is as shown, where ``...`` stands for anything."""
    pattern = ".*".join(re.escape(part) for part in expected.strip().split("..."))
    return re.fullmatch(pattern, printed.strip(), re.DOTALL) is not None
