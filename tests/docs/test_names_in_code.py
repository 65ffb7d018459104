"""The pages for contributors name modules, folders and names that exist: a rename that forgets a page fails here."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import bms_async
from tests.docs.blocks import ROOT

PACKAGE = Path(bms_async.__file__).parent
PAGES = (
    "CONTRIBUTING.md",
    "SECURITY.md",
    "docs/architecture.md",
    "docs/design.md",
    "tests/README.md",
    *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "docs" / "decisions").glob("*.md")),
)

SOURCES = (
    "bms_async", "tests", "benchmarks", "docs/_site",
    "Makefile", "noxfile.py", "pyproject.toml", ".pre-commit-config.yaml",
)  # fmt: skip
"""Where a name has to occur."""
OF_OTHERS = {"site/", "overLimit"}
"""What a command makes, and a word of the cloud's."""

_FENCED = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
_PATH = re.compile(r"(?:[\w.-]+/)+[\w.-]*|\w+\.(?:py|md|toml|txt|html)")
_PLACEHOLDER = re.compile(r"\bROOM\b|\*")


def code_in(text: str) -> Iterator[str]:
    """Yield what stands between backticks, but for blocks and for patterns such as ``tests/ROOM/test_*.py``."""
    for code in re.findall(r"`([^`]+)`", _FENCED.sub("", text)):
        if not _PLACEHOLDER.search(code):
            yield code


def is_there(path: str, folder: Path) -> bool:
    """Return whether a path exists, named from the root, the package or the page's folder, with or without ``.py``."""
    if any((root / name).exists() for root in (ROOT, PACKAGE, folder) for name in (path, f"{path}.py")):
        return True
    return "/" not in path and folder != ROOT and any(folder.rglob(path))


@cache
def words_of_the_sources() -> frozenset[str]:
    """Return every word of the code."""
    paths = [ROOT / name for name in SOURCES]
    files = [file for path in paths for file in ([path] if path.is_file() else path.rglob("*.py"))]
    # The names below are no proof that they exist anywhere else.
    files.remove(Path(__file__))
    return frozenset(word for file in files for word in re.findall(r"\w+", file.read_text(encoding="utf-8")))


def unknown(text: str, folder: Path = ROOT) -> set[str]:
    """Return the paths and names in code that exist nowhere."""
    missing: set[str] = set()
    for code in code_in(text):
        if not _PATH.fullmatch(code):
            missing |= set(re.findall(r"[A-Za-z_]\w+", code)) - words_of_the_sources()
        elif not is_there(code, folder):
            missing.add(code)
    return missing - OF_OTHERS


@pytest.mark.parametrize("page", PAGES)
def test_every_path_and_name_in_code_exists(page: str) -> None:
    path = ROOT / page

    assert unknown(path.read_text(encoding="utf-8"), path.parent) == set()


def test_what_does_not_exist_is_found() -> None:
    text = "`limits/window.py`, `limits/nowhere.py`, `Limits.snapshot()`, `Limits.hibernate()`, `tests/ROOM/test_*.py`"

    assert unknown(text) == {"limits/nowhere.py", "hibernate"}
