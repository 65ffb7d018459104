"""The page of the architecture has the picture of the import contract, and the decisions are all alike."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import bms_async
from docs._site import rooms_picture
from tests.docs.blocks import ROOT

DECISIONS = ROOT / "docs" / "decisions"
PACKAGE = Path(bms_async.__file__).parent


def test_the_picture_is_not_stale(capsys: pytest.CaptureFixture[str]) -> None:
    assert rooms_picture.main(["--check"]) == 0, capsys.readouterr().err


def test_a_stale_picture_is_named_and_not_touched(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "rooms.svg"
    assert rooms_picture.main(["--check"], picture=picture) == 1
    picture.write_text("<svg/>", encoding="utf-8")
    assert rooms_picture.main(["--check"], picture=picture) == 1
    assert picture.read_text(encoding="utf-8") == "<svg/>"
    assert capsys.readouterr().err.count(rooms_picture.COMMAND) == 2
    assert rooms_picture.main([], picture=picture) == 0
    assert rooms_picture.main(["--check"], picture=picture) == 0


def test_every_room_is_in_the_picture_and_the_upper_ones_are_above() -> None:
    layers = rooms_picture.read_layers((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    rooms = {room for layer in layers for room in layer}
    folders = {each.name for each in PACKAGE.iterdir() if (each / "__init__.py").exists()}

    # The simulator has a contract of its own, and is no layer below or above the SDK.
    assert folders - rooms == {"simulator"}
    picture = rooms_picture.draw(layers)
    tops = {room: int(re.search(rf'y="(\d+)"[^>]*/><text[^>]*>{room}<', picture)[1]) for room in rooms}  # type: ignore[index]
    assert tops["cli"] < tops["client"] < tops["fleet"] < tops["jobs"] < tops["session"] < tops["wire"] < tops["models"]
    assert tops["limits"] == tops["auth"] == tops["transport"]


def test_a_name_of_a_room_cannot_break_the_picture() -> None:
    assert "<b>" not in rooms_picture.draw([["a<b>&"]])


def test_every_decision_is_in_the_list_and_has_its_four_parts() -> None:
    pages = sorted(DECISIONS.glob("0*.md"))
    listed = re.findall(r"\]\((\d{4}-[\w-]+\.md)\)", (DECISIONS / "index.md").read_text(encoding="utf-8"))

    assert [page.name for page in pages] == listed
    assert [int(page.name[:4]) for page in pages] == list(range(1, len(pages) + 1))
    for page in pages:
        text = page.read_text(encoding="utf-8")
        assert text.startswith(f"# {int(page.name[:4])}. "), page.name
        for part in ("Context", "Decision", "Consequences", "Rejected"):
            assert text.count(f"**{part}.** ") == 1, (page.name, part)
