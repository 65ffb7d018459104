"""The code of the pages is right for a type checker too: what users are shown is what they copy."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

from tests.docs.blocks import ROOT, Block, Kind, pages, read_page
from tests.support.machine import patience

HEAD = """\
from bms_async import BmsClient


async def main(bms: BmsClient, ids: list[str], server_id: str, job_id: str) -> None:
"""


def module_of(page: str, line: int | str) -> str:
    return f"{page.replace('/', '_').replace('-', '_').removesuffix('.md')}_{line}.py"


def write_snippets(blocks: list[Block], place: Path) -> None:
    """Write them as the body of one function, for that is where they can await."""
    text = "\n".join(f"# {block.place}\n{block.text}" for block in blocks)
    place.write_text(HEAD + textwrap.indent(text, "    "), encoding="utf-8")


def test_programs_and_snippets_pass_a_type_checker(tmp_path: Path) -> None:
    code = tmp_path / "code"
    code.mkdir()
    for page in pages():
        blocks = read_page(page)
        for block in blocks:
            if block.kind is Kind.PROGRAM:
                (code / module_of(page, block.line)).write_text(block.text, encoding="utf-8")
        if snippets := [block for block in blocks if block.kind is Kind.SNIPPET]:
            write_snippets(snippets, code / module_of(page, "snippets"))
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--strict", "--python-version", "3.11", "--config-file", os.devnull),
            # Who copies ten lines does not annotate `main`.
            *("--allow-untyped-defs", "--allow-untyped-calls"),
            *("--cache-dir", str(tmp_path / "cache"), str(code)),
        ],
        env=os.environ | {"MYPYPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=patience(100.0),
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
