"""What is always true of the rule book of shared limits, whatever it is asked, even by a holder that is in error."""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import pairwise
from types import ModuleType
from typing import Any, NamedTuple

import msgspec
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bms_async.limits.shared import ledger as whole
from bms_async.limits.shared.ledger import Dealt, count_used, deal, open_account
from bms_async.limits.shared.messages import CLOCK_DRIFT, VERSION, Account, Answer, Ledger, Question, Refusal, Terms
from bms_async.limits.shared.store import decode_account, decode_ledger, encode
from tests.limits.shared._history_mutants import changed

TERMS = Terms()
OPENED = 1.8e9
"""A time as stores have it: the seconds of this century leave few digits for their parts."""


class Desk:
    """Asks a rule book as several holders, each with the next number, and keeps what it says as bytes."""

    def __init__(self, rule_book: ModuleType = whole, *, limit: int = 4, now: float = OPENED) -> None:
        self.rule_book, self.limit, self.now = rule_book, limit, now
        self.account: bytes = encode(open_account(None, now=now, life="one"))
        self.ledger: bytes | None = None
        self.life = "one"
        self.name = "stop"
        self.last: dict[str, Question] = {}

    def ask(self, holder: str = "a", **said: Any) -> Answer:
        """Ask the next question of a holder."""
        seq = self.last[holder].seq + 1 if holder in self.last else 1
        return self.put(Question(**{"holder": holder, "seq": seq, "terms": TERMS, "limit": self.limit, **said}))

    def put(self, question: Question) -> Answer:
        """Have a question dealt with."""
        self.last[question.holder] = question
        dealt: Dealt = self.rule_book.deal(
            decode_account(self.account),
            decode_ledger(self.ledger),
            question,
            name=self.name,
            now=self.now,
            life=self.life,
        )
        self.account, self.ledger = encode(dealt.account), encode(dealt.ledger)
        return dealt.answer

    def use_all(self) -> None:
        """Use all slots, so that all come back a window later."""
        self.ask("used", interactive=self.limit)
        self.ask("used", ended=((0.0, self.limit),), leaving=True)

    @property
    def state(self) -> Ledger:
        """What is kept of the limit."""
        ledger = decode_ledger(self.ledger)
        assert ledger is not None
        return ledger

    @property
    def used(self) -> int:
        """How many slots are used."""
        return count_used(self.state)


class Step(NamedTuple):
    """A question, so many seconds after the one before."""

    after: float
    holder: str
    repeats: bool
    said: dict[str, Any]


AGES = st.sampled_from((0.0, 0.25, 1.0, 20.0, 70.0, -3.0, 1e300, math.inf, -math.inf, math.nan))
COUNTS = st.integers(-2, 9)
SAID = st.fixed_dictionaries(
    {},
    optional={
        "interactive": COUNTS,
        "bulk": COUNTS,
        "ahead": COUNTS,
        "unused": COUNTS,
        "spare": COUNTS,
        "reserve": COUNTS,
        "ended": st.lists(st.tuples(AGES, COUNTS), max_size=3).map(tuple),
        "leaving": st.booleans(),
        "jumped": st.sampled_from((False, False, False, True)),
    },
)
LESS = st.fixed_dictionaries(
    {},
    optional={
        "adopted": COUNTS,
        "refusals": st.sampled_from(((), (Refusal(),), (Refusal((2.0,), (2.0, 60.0)),), (Refusal((), (1.0, 3600.0)),))),
        "limit": st.integers(1, 6),
    },
)
SECONDS = st.sampled_from((0.0, 0.01, 0.1, 0.3, 1.0, 5.0, 15.0, 60.05, 80.0, -0.01, -100.0))


def steps(said: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[list[Step]]:
    """Draw what is asked."""
    return st.lists(st.builds(Step, SECONDS, st.sampled_from("abc"), st.booleans(), said), max_size=25)


def take(desk: Desk, step: Step) -> Answer:
    """Ask what a step says."""
    desk.now += step.after
    if step.repeats and step.holder in desk.last:
        return desk.put(desk.last[step.holder])
    return desk.ask(step.holder, **step.said)


@settings(max_examples=60)
@given(steps(SAID))
def test_no_more_is_granted_than_is_free(drawn: list[Step]) -> None:
    desk = Desk()
    for step in drawn:
        answer = take(desk, step)
        assert answer.granted >= 0
        assert 0 <= desk.used <= 4
        assert not answer.known or (answer.used, answer.capacity) == (desk.used, 4)


@settings(max_examples=60)
@given(steps(st.builds(lambda one, other: one | other, SAID, LESS)))
def test_what_is_kept_is_in_order_and_finite_and_who_waits_is_to_ask_again_soon(drawn: list[Step]) -> None:
    desk = Desk()
    for step in drawn:
        before = desk.used if desk.ledger else 0
        answer = take(desk, step)
        state = desk.state
        assert all(one[0] < other[0] for one, other in pairwise(state.cooldowns))
        assert all(math.isfinite(ended) and count > 0 for ended, count in state.cooldowns)
        assert all(min(each.held, each.interactive, each.bulk, each.spare) >= 0 for each in state.holders)
        assert len(state.holders) <= 3
        if answer.granted and answer.used > before:
            assert answer.used <= max(answer.capacity, before + step.said.get("adopted", 0))
        for holder in state.holders:
            if answer.known and holder.id == step.holder and holder.interactive + holder.bulk:
                assert 0.01 <= answer.again <= TERMS.lease / 3


@settings(max_examples=40)
@given(steps(SAID), st.sampled_from((0.0, 0.01, 1.0, 14.0)))
def test_a_question_that_is_repeated_gets_the_same_grant_and_moves_no_slot(drawn: list[Step], after: float) -> None:
    desk = Desk()
    for step in drawn:
        take(desk, step)
    first = desk.ask("d", interactive=3, unused=1, ended=((0.5, 1),))
    held = {each.id: each.held for each in desk.state.holders}
    desk.now += after
    again = desk.put(desk.last["d"])
    assert again.known
    assert again.granted == first.granted
    left = {each.id: each.held for each in desk.state.holders}
    assert left == {name: count for name, count in held.items() if name in left}


@settings(max_examples=40)
@given(steps(SAID))
def test_the_same_state_and_question_give_the_same_answer(drawn: list[Step]) -> None:
    desk = Desk()
    for step in drawn:
        take(desk, step)
    question = Question(holder="a", seq=99, terms=TERMS, limit=4, interactive=2, bulk=2, ended=((0.1, 1),))
    outcomes = [
        deal(
            decode_account(desk.account),
            decode_ledger(desk.ledger),
            question,
            name=desk.name,
            now=desk.now + 1,
            life="one",
        )
        for _ in range(2)
    ]
    assert outcomes[0] == outcomes[1]
    assert encode(outcomes[0].ledger) == encode(outcomes[1].ledger)


@given(st.integers(1, 6), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9), st.integers(0, 9))
def test_interactive_calls_of_all_go_before_bulk_calls_of_all(
    limit: int, interactive: int, bulk: int, other_interactive: int, other_bulk: int
) -> None:
    desk = Desk(limit=limit)
    desk.use_all()
    # Both wait, so that both are to come when the slots return.
    for _ in range(13):
        desk.ask("a", interactive=interactive, bulk=bulk)
        desk.ask("b", interactive=other_interactive, bulk=other_bulk)
        desk.now += 4.62
    granted = desk.ask("a", interactive=interactive, bulk=bulk).granted
    assert granted >= min(interactive, limit // 2)
    if granted > interactive:
        assert granted - interactive <= max(0, limit - interactive - other_interactive)


def test_the_holder_that_waits_longest_has_its_turn_first() -> None:
    desk = Desk(limit=1)
    desk.use_all()
    names = ["late", "early", "middle"]
    for name in names:
        desk.ask(name, interactive=1)
        desk.now += 1
    served: list[str] = []
    for _ in range(1000):
        desk.now += 0.2
        for name in sorted({*names} - {*served}):
            if desk.ask(name, interactive=1).granted:
                served.append(name)
                desk.ask(name, ended=((0.0, 1),), leaving=True)
    assert served == names


def test_a_slot_is_kept_for_the_holder_whose_turn_it_is_for_a_moment_only() -> None:
    desk = Desk(limit=1)
    desk.use_all()
    desk.ask("first", interactive=1)
    desk.now += 1
    while (again := desk.ask("first", interactive=1).again) >= 5:
        desk.ask("second", interactive=1)
        desk.now += again
    desk.ask("second", interactive=1)
    desk.now += again
    assert desk.ask("second", interactive=1).granted == 0
    desk.now += 0.31
    assert desk.ask("second", interactive=1).granted == 1


@given(st.integers(2, 40))
def test_nothing_that_an_unknown_holder_says_is_used(seq: int) -> None:
    desk = Desk()
    desk.ask("a", interactive=4)
    answer = desk.put(
        Question(holder="gone", seq=seq, terms=TERMS, limit=1, unused=4, ended=((50.0, 4),), adopted=9, interactive=4)
    )
    assert not answer.known
    assert (answer.granted, desk.used, len(desk.state.holders)) == (0, 4, 1)
    assert desk.state.adaptive.capacity == 4


def test_a_holder_that_dies_gives_its_slots_back_after_lease_timeout_and_window_on_a_fast_clock_too() -> None:
    def wait(rule_book: ModuleType) -> float:
        desk = Desk(rule_book, limit=1)
        desk.ask("dead", interactive=1)
        while not desk.ask("heir", interactive=1).granted:
            desk.now += 0.001 if desk.now > OPENED + 134.9 else 5
        return desk.now - OPENED

    fast = 1 + 500e-6
    needed = TERMS.lease + TERMS.timeout + TERMS.window
    assert needed <= wait(whole) / fast <= needed + 0.1
    assert wait(changed(("holder.ends + terms.timeout + CLOCK_DRIFT", "holder.ends + terms.timeout"))) / fast < needed
    assert needed < TERMS.closed / fast < needed + 0.1
    assert (TERMS.closed - CLOCK_DRIFT) / fast < needed


def _again_at_the_moment_of_return(rule_book: ModuleType) -> float:
    """Return the smallest time to ask again that a holder hears at the very moment at which a slot returns."""
    answers = []
    # Where the sum is above a power of two, and the time at which the call ended is below it.
    for part in range(100):
        desk = Desk(rule_book, limit=1, now=3 + part / 100)
        desk.use_all()
        desk.now = desk.state.cooldowns[0][0] + desk.state.adaptive.window
        answer = desk.ask("waits", interactive=1)
        if not answer.granted:
            answers.append(answer.again)
    assert answers
    return min(answers)


def test_rounding_never_has_a_holder_wait_without_asking_again() -> None:
    assert _again_at_the_moment_of_return(whole) >= 0.01
    assert _again_at_the_moment_of_return(changed(("max(1 / _GRAINS, min(", "max(-1.0, min("))) <= 0


@example(limit=4, reserve=4)
@given(limit=st.integers(1, 5), reserve=st.integers(-3, 9))
def test_bulk_calls_get_one_slot_at_least_whatever_the_reserve_and_never_more_than_are_free(
    limit: int, reserve: int
) -> None:
    assert 1 <= Desk(limit=limit).ask(bulk=9, reserve=reserve).granted <= limit


def test_without_that_a_reserve_that_is_too_large_stops_bulk_calls_and_a_negative_one_breaks_the_limit() -> None:
    before = changed(("max(0, min(question.reserve, ledger.adaptive.capacity - 1))", "question.reserve"))
    assert Desk(before).ask(bulk=9, reserve=4).granted == 0
    assert Desk(before).ask(bulk=9, reserve=-2).granted == 6


Wrong = Callable[[Desk], object]
WRONG: dict[str, tuple[dict[str, Any], tuple[str, str]]] = {
    "a negative number of adopted slots": ({"adopted": -3}, ("max(0, question.adopted)", "question.adopted")),
    "a negative number of unused slots": (
        {"unused": -3},
        ("max(0, min(question.unused, holder.held))", "min(question.unused, holder.held)"),
    ),
    "a negative number of ended calls": (
        {"ended": ((0.0, -3),)},
        ("max(0, min(count, holder.held))", "min(count, holder.held)"),
    ),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_a_number_that_is_in_error_moves_no_slot(wrong: str) -> None:
    said, change = WRONG[wrong]
    desk, before = Desk(), Desk(changed(change))
    for each in (desk, before):
        each.ask("a", interactive=4)
        each.ask("b", **said)
        each.ask("a", **said)
    assert desk.used == 4
    assert before.used != 4


@pytest.mark.parametrize("age", [math.nan, -math.inf, -5.0])
def test_an_age_that_is_none_keeps_the_slot_for_a_window(age: float) -> None:
    desk = Desk()
    desk.ask(interactive=4)
    desk.ask(ended=((age, 4),))
    desk.now += 60
    assert desk.ask(interactive=1).granted == 0
    desk.now += 0.1
    assert desk.ask("b", interactive=1).granted == 1


@pytest.mark.parametrize("age", [math.inf, 1e300, 61.0])
def test_an_age_longer_than_a_window_is_as_good_as_one(age: float) -> None:
    desk = Desk()
    desk.ask(interactive=4)
    desk.ask(ended=((age, 4),))
    desk.now += 0.01
    assert desk.ask(interactive=4).granted == 4


def test_only_those_come_at_an_opening_for_which_slots_are_known_to_come_back() -> None:
    def comers(rule_book: ModuleType) -> int:
        desk = Desk(rule_book, limit=50)
        desk.ask("busy", interactive=50)
        desk.ask("busy", ended=((0.0, 10),), refusals=(Refusal((3.0,)),), spare=1)
        opening = desk.now + 3
        for number in range(100):
            desk.ask(f"{number:03}", interactive=1)
        return sum(each.due == pytest.approx(opening, rel=0, abs=0.01) for each in desk.state.holders)

    assert comers(whole) == 0
    known = "max(now, opens) + pause if due == math.inf else max(due, opens)"
    assert comers(changed((known, "max(now + pause if due == math.inf else due, opens)"))) > 50


def test_holders_that_came_and_went_leave_nothing_behind() -> None:
    desk = Desk(limit=4)
    for number in range(300):
        desk.ask(f"{number}", interactive=number % 3, adopted=number % 2)
        desk.now += 1
    assert len(desk.state.holders) < 40
    desk.now += 200
    desk.ask("last", interactive=1)
    assert len(desk.state.holders) == 1
    assert desk.state.cooldowns == []
    assert len(desk.ledger or b"") < 200


def test_the_account_of_an_earlier_life_has_no_say() -> None:
    desk = Desk()
    desk.ask("a", interactive=4)
    desk.life = "two"
    answer = desk.ask("b", interactive=1)
    assert answer.granted == 0
    assert answer.closed_for == pytest.approx(TERMS.closed)
    account = decode_account(desk.account)
    assert account == Account(VERSION, "two", desk.now, desk.now + TERMS.closed, (desk.name,))


def lose_the_limit_alone(rule_book: ModuleType = whole) -> Answer:
    desk = Desk(rule_book)
    desk.use_all()
    desk.ledger = None
    return desk.ask("b", interactive=1)


def test_a_limit_that_was_lost_alone_closes_the_account_and_a_new_one_does_not() -> None:
    assert (lost := lose_the_limit_alone()).granted == 0
    assert lost.closed_for == pytest.approx(TERMS.closed)
    desk = Desk()
    desk.use_all()
    desk.ledger, desk.name = None, "start"
    assert desk.ask("b", interactive=1).granted == 1


def test_without_the_names_of_the_limits_it_would_be_taken_for_a_new_one() -> None:
    assert lose_the_limit_alone(changed(("if name in account.limits:", "if False:"))).granted == 1


def test_a_limit_that_was_lost_closes_the_account_once_and_an_operator_may_open_it() -> None:
    desk = Desk()
    desk.use_all()
    desk.ledger = None
    desk.ask("b", interactive=1)
    desk.now += 100
    answer = desk.ask("b", interactive=1)
    assert not answer.known
    assert desk.ask("c", interactive=1).closed_for == pytest.approx(TERMS.closed - 100)
    desk.account = encode(open_account(decode_account(desk.account), now=desk.now, life=desk.life))
    assert desk.ask("c", interactive=1).granted == 1


def test_limits_that_were_lost_together_close_the_account_once() -> None:
    desk = Desk()
    for desk.name in ("stop", "start"):
        desk.last, desk.ledger = {}, None
        desk.use_all()
    desk.last, desk.ledger = {}, None
    assert desk.ask("a").closed_for == pytest.approx(TERMS.closed)
    desk.name, desk.now = "stop", desk.now + TERMS.closed
    desk.last, desk.ledger = {}, None
    assert desk.ask("a", interactive=1).granted == 1
    desk.last, desk.ledger = {}, None
    assert desk.ask("a", interactive=1).granted == 0


def test_msgpack_keeps_what_the_rule_book_may_write() -> None:
    desk = Desk()
    desk.ask("a", interactive=9)
    state = desk.state
    assert msgspec.msgpack.decode(encode(state), type=Ledger) == state
