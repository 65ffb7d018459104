"""Histories of processes that share a limit: whatever happens, no window at the server holds more calls than allowed.

And of the histories themselves: they hold all that can go wrong, and a rule book that is broken on purpose is caught.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice

import pytest

from tests.limits.shared._histories import main, play
from tests.limits.shared._history_mutants import MUTANTS, Mutant, broken

FIRST, SEEDS = 1000, 120
YIELD_EVERY = 20

MOST = 30
"""How many histories may be played until a mutant is caught."""


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, YIELD_EVERY))
def test_no_window_holds_more_than_the_limit_and_all_calls_come_through(first: int) -> None:
    verdicts = [play(seed) for seed in range(first, first + YIELD_EVERY)]
    assert not [str(verdict) for verdict in verdicts if verdict.broken]


def test_some_hundred_histories_hold_all_that_can_go_wrong() -> None:
    counts: Counter[str] = Counter()
    for seed in range(40):
        counts.update(play(seed).counts)
    assert len(counts) == 17, sorted(counts)
    assert min(counts.values()) >= 2, counts
    assert counts["calls"] > 400


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_broken_rule_book_is_caught(mutant: Mutant) -> None:
    with broken(mutant):
        verdicts = map(play, range(mutant.first, mutant.first + MOST))
        caught = (each for each in verdicts if any(rule.startswith(mutant.rule) for rule in each.broken))
        verdict = next(islice(caught, 1), None)
    assert verdict is not None, f"{mutant.name} went unseen in {MOST} histories"
    assert not play(verdict.seed).broken


def test_a_seed_is_played_in_the_same_way_each_time() -> None:
    first, second = (play(7) for _ in range(2))
    assert first.counts["calls"] > 5
    assert first == second


def test_the_command_plays_one_history_and_says_what_became_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["3"]) == 0
    assert capsys.readouterr().out.endswith("python -m tests.limits.shared._histories 3\n  no rule is broken\n")
    with broken(next(mutant for mutant in MUTANTS if mutant.name == "one slot more than there is")):
        assert main(["1"]) == 1
    assert "R1 " in capsys.readouterr().out
