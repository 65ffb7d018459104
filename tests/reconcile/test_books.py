"""What the books hand out to be acted on, whatever happens in whatever order: judged by a record of its own."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bms_async import Backoff, ServerStatus
from bms_async.errors import SubJobFailedError
from bms_async.fleet.evidence import ServerState
from bms_async.fleet.outcome import OutcomeState, make_outcome
from bms_async.reconcile import books as books_module
from bms_async.reconcile.books import TARGETS, Books
from bms_async.reconcile.entries import Kind
from bms_async.reconcile.ledger import ACTIONS, RECHECK

ON, OFF = ServerStatus.ACTIVE, ServerStatus.SHUTOFF
RESYNC = 30.0
BACKOFF = Backoff(60.0, cap=240.0, jitter=0.0)
SERVERS = ("a", "b", "c")
FAULTY = ServerStatus.ERROR
REBOOT = ServerStatus.REBOOT


def state(status: ServerStatus, *, task: str | None = None, locked: bool = False) -> ServerState:
    return ServerState(id="", status=status, task_state=task, locked=locked)


def books_of(**wishes: ServerStatus) -> Books:
    books = Books(BACKOFF, resync=RESYNC, on_change=lambda name: None)
    for server_id, status in wishes.items():
        books.want(server_id, status, 0.0)
    return books


def see(books: Books, server_id: str, now: float, shown: ServerState | None, *, began_at: float | None = None) -> None:
    books.observe(server_id, shown, began_at=now if began_at is None else began_at, now=now, random=0.0)


def end(books: Books, server_id: str, now: float, how: OutcomeState = OutcomeState.SUCCEEDED) -> None:
    error = None if how.is_success else SubJobFailedError(server_id=server_id, job_id="j", code="BMS.3037", reason="no")
    books.on_outcome(make_outcome(server_id, how, error=error), now, 0.0)


def begin_all(books: Books, now: float) -> list[str]:
    return [each for action in tuple(books.ready) for each in books.begin(action, 100, now)]


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("wait"), st.sampled_from([0.1, 5.0, 11.0, 31.0, 70.0]), st.none()),
        st.tuples(st.just("want"), st.sampled_from(SERVERS), st.sampled_from([ON, OFF])),
        st.tuples(st.just("forget"), st.sampled_from(SERVERS), st.none()),
        st.tuples(st.just("switch"), st.sampled_from(SERVERS), st.sampled_from([ON, OFF, ON, OFF, FAULTY])),
        st.tuples(st.just("task"), st.sampled_from(SERVERS), st.sampled_from(["powering-off", None])),
        st.tuples(st.just("lock"), st.sampled_from(SERVERS), st.booleans()),
        st.tuples(st.just("hide"), st.sampled_from(SERVERS), st.booleans()),
        st.tuples(st.just("hold"), st.sampled_from(SERVERS), st.booleans()),
        st.sampled_from([("read", None, None), ("absorb", None, None), *[("turn", None, None)] * 4]),
        st.sampled_from([("look", None, None), *[("turn", None, None)] * 2, ("act", 1, None), ("act", 3, None)]),
        st.tuples(st.just("end"), st.sampled_from(SERVERS), st.sampled_from([*OutcomeState, OutcomeState.SUCCEEDED])),
        st.tuples(st.just("abandon"), st.sampled_from(SERVERS), st.none()),
    ),
    min_size=20,
    max_size=60,
)


class Play:
    """A cloud of some servers, the books of its reconciler, and a record of what these were shown."""

    def __init__(self) -> None:
        self.now = 0.0
        self.truth: dict[str, Any] = dict.fromkeys(SERVERS, ON)
        self.tasks: dict[str, str | None] = dict.fromkeys(SERVERS)
        self.locked: set[str] = set()
        self.hidden: set[str] = set()
        self.held: set[str] = set()
        self.reading: tuple[float, dict[str, ServerState | None]] | None = None
        self.changed: list[str] = []
        self.books = Books(BACKOFF, resync=RESYNC, on_change=self.changed.append)
        self.desired: dict[str, ServerStatus] = {}
        self.under_way: dict[str, ServerStatus] = {}
        # When something last became known that no earlier reading may undo; and the last thing that was shown, when.
        self.settled_at = dict.fromkeys(SERVERS, -math.inf)
        self.shown: dict[str, tuple[ServerState | None, float]] = {}
        for server_id in SERVERS:
            self.want(server_id, OFF)

    def step(self, what: str, which: Any, how: Any) -> None:
        self.now += 0.001
        getattr(self, what)(*(() if which is None else (which,) if how is None and what != "task" else (which, how)))
        self.check()

    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.books.pop_looks(self.now)

    def want(self, server_id: str, status: ServerStatus) -> None:
        if server_id not in self.desired:
            self.settled_at[server_id] = self.now
            self.shown.pop(server_id, None)
        self.desired[server_id] = status
        self.books.want(server_id, status, self.now)

    def forget(self, server_id: str) -> None:
        self.desired.pop(server_id, None)
        self.books.forget(server_id)

    def switch(self, server_id: str, status: ServerStatus) -> None:
        self.truth[server_id] = status

    def task(self, server_id: str, task: str | None) -> None:
        self.tasks[server_id] = task

    def lock(self, server_id: str, locked: bool) -> None:
        (self.locked.add if locked else self.locked.discard)(server_id)

    def hide(self, server_id: str, hidden: bool) -> None:
        (self.hidden.add if hidden else self.hidden.discard)(server_id)

    def hold(self, server_id: str, held: bool) -> None:
        if held and self.books.hold(f"job-{server_id}", (server_id,), self.now):
            self.held.add(server_id)
            self.shown.pop(server_id, None)
        elif not held and server_id in self.held:
            self.held.discard(server_id)
            self.books.release(f"job-{server_id}", (server_id,), self.now)
            if server_id not in self.under_way:
                self.settled_at[server_id] = self.now

    def read(self) -> None:
        self.reading = self.now, {server_id: self.view(server_id) for server_id in SERVERS}

    def look(self) -> None:
        self.read()
        self.now += 0.001
        self.absorb()

    def turn(self) -> None:
        self.look()
        self.act(3)

    def view(self, server_id: str) -> ServerState | None:
        if server_id in self.hidden:
            return None
        return state(self.truth[server_id], task=self.tasks[server_id], locked=server_id in self.locked)

    def absorb(self) -> None:
        if self.reading is None:
            return
        began_at, states = self.reading
        self.books.to_look.clear()
        for server_id in [*self.desired, *SERVERS]:
            shown = states[server_id]
            see(self.books, server_id, self.now, shown, began_at=began_at)
            if began_at > self.settled_at[server_id] and server_id not in self.under_way:
                self.shown[server_id] = shown, began_at

    def act(self, count: int) -> None:
        for action in ACTIONS.values():
            for server_id in self.books.begin(action, count, self.now):
                self.judge(server_id, TARGETS[action])
                self.under_way[server_id] = TARGETS[action]

    def judge(self, server_id: str, target: ServerStatus) -> None:
        """Say what is wrong with acting on a server now."""
        assert self.desired[server_id] == target
        assert server_id not in self.under_way
        assert server_id not in self.held
        shown, at = self.shown[server_id]
        assert self.now - at <= self.books.max_age
        assert shown is not None
        assert {shown.status, target} == {ON, OFF}
        assert not shown.task_state
        assert not shown.locked
        trouble = self.books.troubles.get(server_id)
        assert trouble is None or trouble.retry_at <= self.now

    def end(self, server_id: str, how: OutcomeState) -> None:
        target = self.under_way.pop(server_id, None)
        if target is None:
            return
        self.settled_at[server_id] = self.now
        self.shown.pop(server_id, None)
        if how.is_success:
            self.truth[server_id] = target
            self.shown[server_id] = state(target), self.now
        end(self.books, server_id, self.now, how)

    def abandon(self, server_id: str) -> None:
        if self.under_way.pop(server_id, None) is not None:
            self.settled_at[server_id] = self.now
            self.shown.pop(server_id, None)
        self.books.abandon((server_id,), self.now)

    def check(self) -> None:
        books = self.books
        assert set(books.ids) == set(self.desired)
        entries = {server_id: books.entries.get(server_id) for server_id in self.desired}
        of_kind = [entry.kind for entry in entries.values() if entry is not None]
        assert books.counts == [of_kind.count(kind) for kind in Kind]
        assert books.unsynced == len(of_kind) - of_kind.count(Kind.SYNCED)
        assert set(books.under_way) == set(self.under_way)
        waiting = [server_id for queue in books.ready.values() for server_id in queue]
        assert len(waiting) == len(set(waiting))
        assert not set(waiting) & set(books.under_way)
        assert set(waiting) <= set(self.desired)
        for server_id, entry in entries.items():
            assert entry is not None
            assert entry.desired == self.desired[server_id]
            if entry.kind is Kind.DEGRADED:
                assert books.troubles.get(server_id) is not None

    def settle(self) -> None:
        """Let nothing disturb any more, and play on as a reconciler does, until all is as desired."""
        for server_id in SERVERS:
            self.lock(server_id, False)
            self.hide(server_id, False)
            self.hold(server_id, False)
            self.tasks[server_id] = None
            if self.truth[server_id] == FAULTY:
                self.truth[server_id] = OFF
            self.end(server_id, OutcomeState.SUCCEEDED)
        # As many resyncs as the longest back-off takes, and some for doubts.
        for _ in range(4 + int(BACKOFF.cap / RESYNC) + 1):
            self.wait(RESYNC)
            self.read()
            self.absorb()
            self.act(100)
            self.wait(1.0)
            for server_id in SERVERS:
                self.end(server_id, OutcomeState.SUCCEEDED)
            self.check()


@settings(max_examples=150)
@given(STEPS)
def test_only_what_is_known_to_differ_and_to_be_idle_is_acted_on_and_all_ends_as_desired(steps: list[Any]) -> None:
    play = Play()
    for step in steps:
        play.step(*step)
    play.settle()
    assert play.books.unsynced == 0
    assert {server_id: play.truth[server_id] for server_id in play.desired} == play.desired


def test_a_reading_that_began_before_the_last_outcome_proves_nothing_against_it() -> None:
    def play(*, guarded: bool) -> bool:
        books = books_of(a=OFF)
        see(books, "a", 1.0, state(ON))
        assert begin_all(books, 1.0) == ["a"]
        end(books, "a", 20.0)
        entry = books.entries.get("a")
        assert entry is not None
        if not guarded:
            entry.outcome_at = -math.inf
        see(books, "a", 21.0, state(ON), began_at=19.0)
        return books.is_synced("a") and not books.doubts and begin_all(books, 22.0) == []

    assert play(guarded=True)
    assert not play(guarded=False)


def test_a_state_that_is_old_is_read_again_and_not_acted_on() -> None:
    books = books_of(a=OFF, b=OFF)
    for server_id in ("a", "b"):
        see(books, server_id, 1.0, state(ON))
    assert begin_all(books, 1.0 + 2 * RESYNC + 1.0) == []
    assert set(books.to_look) == {"a", "b"}
    assert begin_all(books, 1.0 + 2 * RESYNC + 2.0) == []
    # Control: without a bound they would be acted on.
    books.max_age = math.inf
    see(books, "a", 2.0, state(ON))
    assert begin_all(books, 1000.0) == ["a"]


def test_a_server_under_way_is_not_handed_out_whatever_is_seen_or_wished_meanwhile() -> None:
    books = books_of(a=OFF)
    see(books, "a", 1.0, state(ON))
    assert begin_all(books, 1.0) == ["a"]
    for moment, status in ((2.0, ON), (3.0, OFF)):
        books.want("a", status, moment)
        see(books, "a", moment, state(ON))
        see(books, "a", moment, state(OFF))
        assert begin_all(books, moment) == []
    # Control: it is handed out once it is not under way.
    books.abandon(["a"], 4.0)
    see(books, "a", 5.0, state(ON))
    assert begin_all(books, 5.0) == ["a"]


def test_a_state_that_contradicts_a_fresh_success_is_read_again_before_it_counts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def is_asked_again_at_once() -> bool:
        books = books_of(a=OFF)
        see(books, "a", 1.0, state(ON))
        begin_all(books, 1.0)
        end(books, "a", 20.0)
        see(books, "a", 21.0, state(ON))
        if begin_all(books, 21.0):
            return True
        assert books.is_synced("a")
        assert books.next_look == 21.0 + RECHECK
        books.pop_looks(31.0)
        assert list(books.to_look) == ["a"]
        see(books, "a", 25.0, state(ON))
        assert begin_all(books, 25.0) == []
        # It had lagged behind its job.
        see(books, "a", 31.5, state(OFF))
        assert books.is_synced("a")
        assert books.troubles.get("a") is None
        return bool(begin_all(books, 31.5))

    assert not is_asked_again_at_once()
    monkeypatch.setattr(books_module, "FRESH", 0.0)
    assert is_asked_again_at_once()


def asks_of_a_liar(hours: float) -> int:
    """How often a server is asked whose jobs succeed and which is shown unchanged."""
    books, asks, now = books_of(a=OFF), 0, 0.0
    while now < hours * 3600:
        now += RESYNC / 2
        books.pop_looks(now)
        see(books, "a", now, state(ON))
        asks += len(begin_all(books, now))
        if "a" in books.under_way:
            now += 5.0
            end(books, "a", now)
    return asks


def test_a_cloud_that_accepts_and_shows_another_state_is_asked_ever_less(monkeypatch: pytest.MonkeyPatch) -> None:
    assert asks_of_a_liar(1.0) <= 20
    monkeypatch.setattr(Books, "_is_repeated_claim", lambda self, server_id: False)
    assert asks_of_a_liar(1.0) > 60


def test_a_server_that_somebody_switches_again_and_again_is_brought_back_each_time() -> None:
    books, now, asks = books_of(a=OFF), 0.0, 0
    for _ in range(20):
        now += RESYNC
        see(books, "a", now, state(ON))
        asks += len(begin_all(books, now))
        end(books, "a", now + 5.0)
        now += RESYNC
        see(books, "a", now, state(OFF))
    assert asks == 20


def test_a_server_that_the_cloud_calls_busy_is_not_degraded_unless_it_says_so_for_long() -> None:
    books, now = books_of(a=OFF), 0.0
    kinds: list[Kind] = []
    while len(kinds) < 8:
        now += RESYNC
        see(books, "a", now, state(ON))
        if begin_all(books, now):
            error = SubJobFailedError(server_id="a", job_id="j", code="BMS.0036", reason="busy")
            books.on_outcome(make_outcome("a", OutcomeState.FAILED, error=error), now, 0.0)
            entry = books.entries.get("a")
            assert entry is not None
            kinds.append(entry.kind)
    assert kinds == [Kind.BUSY] * 5 + [Kind.DEGRADED] * 3
    assert now > 8 * RESYNC


def test_a_wish_for_another_status_ends_a_back_off() -> None:
    books = books_of(a=OFF)
    see(books, "a", 1.0, state(ON))
    begin_all(books, 1.0)
    end(books, "a", 10.0, OutcomeState.FAILED)
    assert books.next_try("a") == 70.0
    see(books, "a", 20.0, state(OFF))
    books.want("a", ON, 21.0)
    assert begin_all(books, 21.0) == ["a"]
    assert books.troubles.get("a") is None


def test_attempts_of_an_earlier_leader_count() -> None:
    books = books_of(a=OFF)
    books.remember("a", "BMS.3037", 3, 100.0, 1.0)
    see(books, "a", 2.0, state(ON))
    assert begin_all(books, 2.0) == []
    see(books, "a", 101.0, state(ON))
    assert begin_all(books, 101.0) == ["a"]
    end(books, "a", 110.0, OutcomeState.FAILED)
    trouble = books.troubles.get("a")
    assert trouble is not None
    assert (trouble.attempts, trouble.retry_at) == (4, 110.0 + BACKOFF.cap)


def test_an_attempt_that_was_noted_by_a_clock_far_ahead_delays_no_longer_than_the_longest_back_off() -> None:
    books = books_of(a=OFF)
    books.remember("a", "BMS.3037", 1, 86_400.0, 1.0)
    assert books.next_try("a") == 1.0 + BACKOFF.cap


@pytest.mark.parametrize(("held_at", "is_looked_at"), [(21.0, False), (20.0 + RESYNC, True)])
def test_a_server_that_was_only_just_brought_there_waits_for_a_reading_of_all_when_another_job_was_at_it(
    held_at: float, is_looked_at: bool
) -> None:
    books = books_of(a=OFF)
    see(books, "a", 1.0, state(ON))
    begin_all(books, 1.0)
    end(books, "a", 20.0)
    books.hold("j", ["a"], held_at)
    books.release("j", ["a"], held_at + 5.0)
    assert bool(books.to_look) is is_looked_at
    see(books, "a", held_at + 6.0, state(ON))
    assert begin_all(books, held_at + 6.0) == ["a"]


def test_a_server_at_which_another_job_is_shows_the_job_and_not_the_status_that_it_has_meanwhile() -> None:
    books = books_of(a=OFF)
    entry = books.entries.get("a")
    assert entry is not None
    books.hold("j", ["a"], 1.0)
    for shown, task in ((state(ON), "job j"), (state(ON, task="stopping"), "stopping"), (state(REBOOT), REBOOT)):
        see(books, "a", 2.0, shown)
        assert entry.why == f"something else is at work on it: {task}"


def test_servers_whose_jobs_are_lost_from_sight_are_released_some_at_a_time() -> None:
    books = books_of()
    ids = [str(number) for number in range(1200)]
    for server_id in ids:
        books.want(server_id, ON, 0.0)
        see(books, server_id, 1.0, state(ON))
    books.to_look.clear()
    books.hold("j", ids, 2.0)
    seen = []
    while books.release_some(3.0):
        seen.append(len(books.to_look))
    assert seen == [500, 1000, 1200]


def test_servers_that_are_under_way_are_abandoned_some_at_a_time() -> None:
    books = books_of()
    ids = [str(number) for number in range(1200)]
    for server_id in ids:
        books.want(server_id, ON, 0.0)
    books.adopt("servers.start", ids, 1.0)
    seen = []
    while books.abandon_some(2.0):
        seen.append(len(books.under_way))
    assert seen == [700, 200, 0]


def test_servers_whose_time_has_come_together_are_looked_at_some_at_a_time() -> None:
    books = books_of()
    for number in range(1200):
        books.want(str(number), ON, 0.0)
        books.looks.add(str(number), 9.5 + number % 2)
    books.to_look.clear()
    assert not books.pop_looks(9.0)
    seen = []
    while books.pop_looks(11.0):
        seen.append(len(books.to_look))
    assert seen == [500, 600, 1100, 1200]
    assert books.next_look is None


def test_a_server_that_was_forgotten_and_is_wanted_again_is_not_judged_by_an_earlier_reading() -> None:
    books = books_of(a=OFF)
    books.forget("a")
    books.want("a", ON, 10.0)
    see(books, "a", 11.0, state(ON), began_at=9.0)
    see(books, "a", 11.0, None, began_at=9.0)
    entry = books.entries.get("a")
    assert entry is not None
    assert entry.kind is Kind.NEW


def test_a_synced_server_takes_few_bytes() -> None:
    import tracemalloc

    ids = [f"{number:08x}-0000-4000-8000-000000000000" for number in range(20_000)]
    books = books_of()
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        for number, server_id in enumerate(ids):
            books.want(server_id, ON, float(number))
        for server_id in ids:
            see(books, server_id, 30_000.0, state(ON))
        books.to_look.clear()
        taken = tracemalloc.get_traced_memory()[0] - before
    finally:
        tracemalloc.stop()
    assert books.unsynced == 0
    assert taken / len(ids) < 400


def test_a_server_that_waits_is_before_those_that_are_tried_again() -> None:
    books = books_of(a=ON, b=ON, c=ON)
    for server_id in SERVERS:
        see(books, server_id, 1.0, state(OFF))
    assert books.begin("servers.start", 1, 1.0) == ("a",)
    end(books, "a", 2.0, OutcomeState.FAILED)
    for server_id in SERVERS:
        see(books, server_id, 100.0, state(OFF))
    assert books.begin("servers.start", 3, 100.0) == ("b", "c", "a")
