"""Wishes for one server, in any order and with any of their waiters leaving: the laws of their order."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from bms_async.reconcile.wish import Wish, Wishes

SERVERS, ACTIONS = ("a", "b"), ("start", "stop", "reboot")

steps = st.lists(
    st.one_of(
        st.tuples(st.just("wish"), st.sampled_from(SERVERS), st.sampled_from(ACTIONS)),
        st.tuples(st.just("leave"), st.sampled_from(SERVERS), st.integers(0, 30)),
        st.tuples(st.just("send"), st.sampled_from(SERVERS), st.none()),
        st.tuples(st.just("end"), st.sampled_from(SERVERS), st.none()),
    ),
    max_size=60,
)


class Play:
    """Plays steps, and keeps what each waiter has wished for and not got."""

    def __init__(self) -> None:
        self.wishes: Wishes[int] = Wishes()
        self.open: dict[int, tuple[str, str]] = {}
        self.turns: dict[str, Wish[int]] = {}
        self.count = 0

    def wish(self, server: str, action: str) -> None:
        self.count += 1
        self.open[self.count] = (server, action)
        wish, is_new, is_turn = self.wishes.add(server, action, self.count)
        assert (wish.server_id, wish.action) == (server, action)
        assert is_turn == (server not in self.turns)
        assert is_new or not is_turn
        if is_turn:
            self.turns[server] = wish

    def leave(self, server: str, index: int) -> None:
        mine = [waiter for waiter, (of, _) in self.open.items() if of == server]
        if not mine:
            return
        waiter = mine[index % len(mine)]
        del self.open[waiter]
        abandoned = self.wishes.leave(server, waiter)
        if abandoned is not None:
            assert abandoned is self.turns[server]
            assert not abandoned.is_sent
            assert not abandoned.waiters
            self.end(server)

    def send(self, server: str) -> None:
        if server in self.turns:
            self.turns[server].is_sent = True

    def end(self, server: str) -> None:
        ended, following = self.wishes.pop(server)
        assert ended is self.turns.pop(server, None)
        if ended is not None:
            for waiter in ended.waiters:
                assert self.open.pop(waiter) == (server, ended.action)
        if following is not None:
            assert following.waiters
            self.turns[server] = following

    def check(self) -> None:
        """What waits is exactly what was wished for, and no two neighbours are for the same action."""
        waiting: dict[int, tuple[str, str]] = {}
        for server, first in self.turns.items():
            line = [first, *first.later]
            assert all(one.action != other.action for one, other in pairwise(line))
            assert all(wish.waiters for wish in first.later)
            waiting |= {waiter: (server, wish.action) for wish in line for waiter in wish.waiters}
        assert waiting == self.open
        assert len(self.wishes) == len(self.turns)


@given(steps)
def test_each_waiter_is_answered_by_the_end_of_what_it_wished_for_and_by_nothing_else(
    program: list[tuple[str, str, object]],
) -> None:
    play = Play()
    for step, server, argument in program:
        arguments = () if argument is None else (argument,)
        getattr(play, step)(server, *arguments)
        play.check()
    for server in SERVERS:
        while server in play.turns:
            play.end(server)
    assert not play.open
    assert not len(play.wishes)


@given(st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=20))
def test_of_wishes_that_come_one_after_the_other_only_changes_are_carried_out(actions: list[str]) -> None:
    wishes: Wishes[int] = Wishes()
    for waiter, action in enumerate(actions):
        wishes.add("a", action, waiter)
    done = []
    while wishes.get("a") is not None:
        ended, _ = wishes.pop("a")
        assert ended is not None
        done.append(ended.action)
    assert done == [action for before, action in zip([None, *actions], actions, strict=False) if action != before]


def test_a_wish_that_is_abandoned_between_two_equal_ones_joins_them() -> None:
    wishes: Wishes[str] = Wishes()
    first, _, _ = wishes.add("a", "start", "one")
    wishes.add("a", "stop", "two")
    wishes.add("a", "start", "three")
    wishes.leave("a", "two")
    assert list(first.waiters) == ["one", "three"]
    assert first.later == []
