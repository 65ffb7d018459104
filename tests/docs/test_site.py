"""The site is built strictly, has every public name in it, and fetches nothing from anywhere."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import subprocess
import sys
import zlib
from pathlib import Path

import pytest

import bms_async
from bms_async import simulator, testing
from tests.docs.blocks import ROOT, pages
from tests.support.machine import patience

# To look for garbage again and again, of which there is next to none, would be a sixth of the time.
MKDOCS = "import gc, runpy; gc.disable(); runpy.run_module('mkdocs', run_name='__main__', alter_sys=True)"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build it whole, once: what is linked to from where is known of no part of it."""
    assert importlib.util.find_spec("material"), "the extra docs is not installed: make test installs it"
    folder = tmp_path_factory.mktemp("site")
    built = subprocess.run(
        [sys.executable, "-c", MKDOCS, "build", "--strict", "--quiet", "--site-dir", str(folder)],
        cwd=ROOT,
        # Its authors tell of its successor on every build.
        env=os.environ | {"NO_MKDOCS_2_WARNING": "1"},
        capture_output=True,
        text=True,
        timeout=patience(100.0),
        check=False,
    )
    assert (built.returncode, built.stdout, built.stderr) == (0, "", "")
    return folder


def shown(site: Path) -> list[Path]:
    return sorted(site.rglob("*.html"))


def test_every_page_is_there(site: Path) -> None:
    made = {str(path.relative_to(site).with_suffix(".md")) for path in shown(site)} - {"404.md"}
    assert made == {page.removeprefix("docs/") for page in pages() if page.startswith("docs/")}


def test_every_public_name_is_in_the_reference(site: Path) -> None:
    inventory = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    known = {line.split(" ", 1)[0] for line in zlib.decompress(inventory).decode().splitlines()}
    public = {f"bms_async.{name}" for name in bms_async.__all__ if name != "__version__"}
    public |= {f"bms_async.simulator.{name}" for name in simulator.__all__}
    public |= {f"bms_async.testing.{name}" for name in testing.__all__ if name not in simulator.__all__}
    assert public - known == set()


def test_nothing_is_fetched_from_elsewhere(site: Path) -> None:
    for path in [*shown(site), *site.rglob("*.css")]:
        text = path.read_text(encoding="utf-8")
        loaded = re.findall(r'<(?:script|link|img|iframe|source)\b[^>]*\b(?:src|href)="((?:https?:)?//[^"]*)"', text)
        assert loaded + re.findall(r"url\(['\"]?((?:https?:)?//[^)]*)\)", text) == [], path
        # What the theme's script would load from a CDN when a page asks for it.
        assert 'class="mermaid"' not in text, path


def test_the_search_finds_a_method_and_a_code(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    titles = {entry["title"] for entry in index["docs"]}
    assert {"FleetRun", "wave_size"} & titles == {"FleetRun"}
    assert any("BMS.0038" in entry["text"] for entry in index["docs"])


def test_no_docstring_shows_its_marks(site: Path) -> None:
    for path in shown(site):
        text = re.sub(r"<(pre|code)\b.*?</\1>", "", path.read_text(encoding="utf-8"), flags=re.DOTALL)
        assert not re.search(r"<p>::</p>|:::|``|\]\[bms_async", text), path
