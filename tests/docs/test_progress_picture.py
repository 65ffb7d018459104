"""The picture of the progress shows what the command draws: it is drawn anew here, and compared."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from bms_async.testing import run_virtually
from docs._site import progress_picture


def test_the_picture_is_not_stale_and_fetches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = run_virtually(progress_picture.play)
    monkeypatch.setattr(progress_picture, "run_virtually", lambda _: lines)
    assert progress_picture.main(["--check"]) == 0, capsys.readouterr().err
    picture = progress_picture.PICTURE.read_text(encoding="utf-8")
    assert set(re.findall(r"https?://[^\"']*", picture)) == {"http://www.w3.org/2000/svg"}
    assert not re.search(r"@import|url\((?!#)|<script|<image", picture)

    other = tmp_path / "progress.svg"
    assert progress_picture.main(["--check"], path=other) == 1
    assert progress_picture.main([], path=other) == 0
    assert progress_picture.main(["--check"], path=other) == 0


def test_nothing_in_the_picture_is_wider_than_its_terminal() -> None:
    shown = re.findall(r'x="([\d.]+)"[^>]*textLength="([\d.]+)"', progress_picture.PICTURE.read_text(encoding="utf-8"))
    assert shown
    assert max(float(x) + float(length) for x, length in shown) <= 80 * 12.2
