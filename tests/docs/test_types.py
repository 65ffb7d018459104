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

# With those that `make lint` has for the package, what it has found of that is known here, and takes no second look.
SETTINGS = """\
[mypy]
strict = True
python_version = 3.11
warn_unreachable = True
explicit_package_bases = True
"""
# Who copies ten lines does not annotate `main`.
SETTINGS_OF_A_MODULE = """\
[mypy-{}]
disallow_untyped_defs = False
disallow_untyped_calls = False
warn_unreachable = False
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
    settings = tmp_path / "mypy.ini"
    modules = [SETTINGS_OF_A_MODULE.format(path.stem) for path in code.iterdir()]
    settings.write_text("".join([SETTINGS, *modules]), encoding="utf-8")
    checked = subprocess.run(
        [
            *(sys.executable, "-m", "mypy", "--config-file", str(settings)),
            *("--cache-dir", str(ROOT / ".mypy_cache"), str(code)),
        ],
        env=os.environ | {"MYPYPATH": str(code)},
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=patience(100.0),
        check=False,
    )
    assert checked.returncode == 0, checked.stdout + checked.stderr
