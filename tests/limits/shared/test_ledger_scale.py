"""How fast, how fair and how quiet the rule book is with many holders; `_scale.py` measures more of the same."""

from __future__ import annotations

import pytest

from tests.limits.shared._history_mutants import changed
from tests.limits.shared._scale import PERIOD, Load, main, measure


def test_160_calls_of_four_holders_end_a_hundredth_after_the_bound_at_most() -> None:
    figures = measure(Load(4, 50, waiting=40, calls=40, is_open=True))
    assert 180 <= figures.last <= 1.01 * 180
    assert figures.totals == (40, 40)


def test_thirteen_holders_that_always_wait_get_a_fair_part_of_each_window() -> None:
    figures = measure(Load(13, 50, windows=8))
    assert figures.fewest >= 3
    assert figures.most <= 5


def test_sixteen_holders_get_a_fair_part_of_a_large_limit() -> None:
    figures = measure(Load(16, 2000, waiting=500, windows=5))
    assert figures.totals[0] >= 0.85 * figures.totals[1]


@pytest.mark.parametrize("limit", [50, 2000])
@pytest.mark.parametrize("holders", [4, 13, 16])
def test_a_hundredth_of_the_speed_is_lost_at_most(holders: int, limit: int) -> None:
    figures = measure(Load(holders, limit, windows=6))
    assert figures.bound == pytest.approx(5 * PERIOD)
    assert figures.speed >= 0.99


def test_four_hundred_holders_ask_fifty_questions_a_second_at_most() -> None:
    figures = measure(Load(400, 50, windows=1))
    assert figures.questions <= 50
    assert figures.busiest <= 200
    assert (figures.fewest, figures.most) == (0, 1)
    assert figures.state < 32_000


def test_without_slots_that_return_soon_one_holder_gets_most_of_them() -> None:
    before = changed(("min(kept, ledger.ended[0] + ledger.adaptive.window) if ledger.ended else kept", "kept"))
    load = Load(4, 2000, waiting=500, windows=3, is_open=True)
    assert measure(load, before).most > 1800
    assert measure(load).most < 1500


def test_before_the_opening_was_known_to_all_some_came_too_late_for_it() -> None:
    load = Load(13, 50, windows=1)
    assert measure(load, changed(("opens if now < opens else now + _KEPT", "now + _KEPT"))).fewest == 0
    assert measure(load).fewest >= 3


def test_the_command_prints_the_figures_of_one_load(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--holders", "4", "--limit", "8", "--windows", "2"]) == 0
    assert "4 holders at    8 a minute:  99." in capsys.readouterr().out
