"""The pictures of rollouts show what has happened: they are drawn anew here, and compared."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from bms_async.testing import run_virtually
from docs._site import rollout_pictures
from docs._site.rollout_pictures import Stretch, Told


@pytest.fixture(scope="module")
def well() -> Told:
    return run_virtually(rollout_pictures.well)


@pytest.fixture(scope="module")
def blocked() -> Told:
    return run_virtually(rollout_pictures.blocked)


def stretches(told: Told, *kinds: str) -> Iterator[Stretch]:
    for lanes in told.lanes.values():
        for lane in lanes.values():
            yield from (each for each in lane if each.kind in kinds)


def most_at_once(lanes: Sequence[Sequence[Stretch]], *kinds: str) -> int:
    """Return how many servers of a group have a stretch of these kinds at once at most."""
    found = [each for lane in lanes for each in lane if each.kind in kinds]
    # The times of outcomes are exact to the millisecond.
    return max(sum(other.start <= each.start < other.end - 0.002 for other in found) for each in found)


def test_the_pictures_are_not_stale(
    well: Told, blocked: Told, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = {"rollout-well.svg": well, "rollout-blocked.svg": blocked}
    assert made.keys() == rollout_pictures.PICTURES.keys()
    monkeypatch.setattr(rollout_pictures, "tell", made.__getitem__)
    assert rollout_pictures.main(["--check"]) == 0, capsys.readouterr().err

    assert rollout_pictures.main(["--check"], folder=tmp_path) == 1
    assert rollout_pictures.main([], folder=tmp_path) == 0
    assert rollout_pictures.main(["--check"], folder=tmp_path) == 0


def test_two_servers_of_a_rack_are_away_at_most(well: Told, blocked: Told) -> None:
    for told in (well, blocked):
        for lanes in told.lanes.values():
            assert most_at_once([*lanes.values()], "canary", "away", "settle", "lost") == 2


def test_canaries_are_alone_and_nothing_begins_in_the_pause(well: Told) -> None:
    first = min(each.start for each in stretches(well, "away"))
    assert max(each.end for each in stretches(well, "canary")) < first
    ((start, end, _),) = well.closed
    assert not [each for each in stretches(well, "away") if start < each.start < end]
    assert [each for each in stretches(well, "away") if each.start < start < each.end]


def test_a_blocked_rack_shows_what_was_lost_and_what_was_skipped(blocked: Told) -> None:
    assert len([*stretches(blocked, "lost")]) == 2
    skipped = [*stretches(blocked, "skipped")]
    assert skipped
    assert min(each.start for each in skipped) >= max(each.start for each in stretches(blocked, "lost"))
    assert all(math.isinf(each.end) for each in skipped)


def test_a_name_of_a_group_cannot_break_the_picture() -> None:
    assert "<b>" not in rollout_pictures.draw(Told("a<b>&", {"a<b>&": {"1": []}}, [], 60.0))
