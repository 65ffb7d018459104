"""The pure parts of a run: who may go when, when a run is aborted, and what a state proves."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async import OutcomeState, ServerStatus
from bms_async.fleet.evidence import (
    Evidence,
    RefusalCause,
    ServerState,
    evidence_of,
    find_cause,
    infer_outcome,
    partition_by_cause,
    recheck_outcome,
)
from bms_async.fleet.plan import REFILL_TIMEOUT, AbortRule, DelayQueue, Intake, WaveLimit
from bms_async.validation.aborting import count_tolerated, find_wave, why_abort

S = OutcomeState
ACTIONS = st.sampled_from(["servers.start", "servers.stop", "servers.reboot"])
STATES = st.builds(
    ServerState,
    id=st.just("a"),
    status=st.one_of(st.none(), st.sampled_from(list(ServerStatus))),
    task_state=st.sampled_from([None, "", "powering-off", "powering-on", "reboot_started_hard", "migrating"]),
    locked=st.sampled_from([None, False, True]),
)


@given(
    wave=st.one_of(st.none(), st.integers(1, 3000)),
    arrivals=st.lists(st.integers(0, 1500), max_size=20),
    steps=st.lists(st.tuples(st.floats(0, 7), st.floats(0, 1)), max_size=60),
)
def test_a_wave_is_never_too_large_no_batch_is_and_everybody_goes_in_the_end(
    wave: int | None, arrivals: list[int], steps: list[tuple[float, float]]
) -> None:
    waves, ready, in_flight, waited = WaveLimit(wave), 0, 0, 0.0
    for arrival, (passed, share) in zip([*arrivals, *[0] * len(steps)], steps, strict=False):
        ready += arrival
        complete = arrival == 0
        number = waves.next_batch_size(ready=ready, in_flight=in_flight, complete=complete, waited=waited)
        assert 0 <= number <= min(ready, waves.size)
        assert wave is None or in_flight + number <= max(wave, in_flight)
        if complete and waited >= REFILL_TIMEOUT and ready and waves.room(in_flight):
            assert number > 0
        ready, in_flight = ready - number, in_flight + number
        waited = 0.0 if number else waited + passed
        in_flight -= int(in_flight * share)
    for _ in range(100_000):
        if not ready:
            break
        number = waves.next_batch_size(ready=ready, in_flight=0, complete=True, waited=REFILL_TIMEOUT)
        assert number > 0
        ready -= number
    assert ready == 0


@given(
    items=st.lists(st.tuples(st.floats(0, 1000), st.sampled_from([5.0, 10.0, 300.0]))),
    most=st.integers(1, 5),
)
def test_what_is_put_off_comes_back_once_not_too_early_and_not_much_too_late(
    items: list[tuple[float, float]], most: int
) -> None:
    later: DelayQueue[int] = DelayQueue()
    for number, (now, delay) in enumerate(items):
        later.add(number, now, delay)
    assert len(later) == len(items)
    back: list[int] = []
    now = 0.0
    while (due := later.next_due) is not None:
        now = max(now, due)
        taken = later.pop_due(now, most)
        assert 1 <= len(taken) <= most
        for number in taken:
            began, delay = items[number]
            assert began + delay <= due + 1e-6
            assert due <= began + 2 * delay + 1e-6
        back += taken
    assert sorted(back) == list(range(len(items)))
    assert later.pop_due(1e9, 1) == []


@given(above=st.floats(0, 1), sample=st.integers(1, 100), bad=st.integers(0, 200), good=st.integers(0, 200))
def test_a_run_is_aborted_only_by_enough_servers_and_only_above_the_share(
    above: float, sample: int, bad: int, good: int
) -> None:
    why = AbortRule(above, sample).reason_to_abort(failed=bad, ended=bad + good)
    assert (why is not None) == (bad + good >= sample and bad > Fraction(repr(above)) * (bad + good))
    assert AbortRule(None, sample).reason_to_abort(failed=bad, ended=bad + good) is None


@given(share=st.floats(0, 1), servers=st.integers(0, 10**6))
def test_what_is_tolerated_never_exceeds_the_share_and_one_more_would(share: float, servers: int) -> None:
    exact, tolerated = Fraction(repr(share)), count_tolerated(share, servers)
    assert tolerated <= exact * servers < tolerated + 1


@given(share=st.floats(0, 1), servers=st.integers(0, 10**6))
def test_a_wave_that_follows_from_a_share_is_what_may_fail_and_one_at_least(share: float, servers: int) -> None:
    wave = find_wave(None, share, servers)
    if share == 1:
        assert wave is None
    else:
        assert wave is not None
        assert wave == max(1, count_tolerated(share, servers))
        # All of the wave may fail at once, at the very end, and the run is still within its share.
        assert why_abort(share, 1, failed=wave, ended=servers) is None or wave == 1


@pytest.mark.parametrize(
    ("share", "servers", "wave"),
    [(0, 19, 1), (0.02, 50, 1), (0.02, 100_000, 2_000), (0.29, 100, 29), (0.02, 0, 1), (0.999, 10, 9), (1.0, 10, None)],
)
def test_a_wave_is_counted_by_the_share_as_it_is_written(share: float, servers: int, wave: int | None) -> None:
    assert find_wave(None, share, servers) == wave
    assert find_wave(7, share, servers) == 7
    assert find_wave(None, None, servers) is None


@given(st.lists(st.sampled_from(["a", "b", "c", "d"])), st.lists(st.sampled_from(["b", "d", "e"]), unique=True))
def test_each_id_is_taken_once_and_settled_once_whoever_brings_it(ids: list[str], adopted: list[str]) -> None:
    intake = Intake(size=2)
    new = intake.adopt(tuple(adopted))
    assert new == tuple(adopted)
    for server_id in ids:
        assert intake.admit(server_id) is None
    taken = [*new]
    while batch := intake.pop_batch():
        assert len(batch) <= 2
        taken += batch
    assert sorted(taken) == sorted({*ids, *adopted})
    assert intake.admitted == len(taken)
    for server_id in taken:
        assert intake.mark_done(server_id) == server_id
        assert intake.mark_done(server_id) is None
    assert intake.mark_done("never came") is None


@given(ACTIONS, st.lists(st.one_of(st.none(), STATES), max_size=20))
def test_every_server_of_a_refused_batch_is_either_clear_or_suspected_of_one_thing(
    action: str, server_states: list[ServerState | None]
) -> None:
    ids = [str(number) for number in range(len(server_states))]
    shown = {
        server_id: server_state
        for server_id, server_state in zip(ids, server_states, strict=True)
        if server_state is not None
    }
    clear, by_cause = partition_by_cause(action, ids, shown)
    assert sorted(clear + [each for group in by_cause.values() for each in group]) == sorted(ids)
    for server_id in clear:
        server_state = shown[server_id]
        assert not server_state.is_busy
        assert not server_state.locked
    assert RefusalCause.ALREADY_SO not in by_cause or action != "servers.reboot"


SEEN = st.builds(
    lambda at_it, otherwise: at_it | otherwise, *(st.sampled_from([Evidence.NOTHING, each]) for each in Evidence)
)


@given(ACTIONS, STATES, SEEN)
def test_a_state_proves_no_success_that_it_does_not_show(
    action: str, server_state: ServerState, seen: Evidence
) -> None:
    state = infer_outcome(action, server_state, seen)
    wanted = "SHUTOFF" if action == "servers.stop" else "ACTIVE"
    if state is not None:
        assert not server_state.is_busy
        assert state.is_success == (server_state.status == wanted)
        assert seen or state is S.UNCHANGED
    if action == "servers.reboot" and Evidence.IN_PROGRESS not in seen:
        assert state is None


AT_IT, OTHERWISE, NOTHING = Evidence.IN_PROGRESS, Evidence.NOT_AS_ASKED, Evidence.NOTHING


@pytest.mark.parametrize(
    ("action", "seen", "status", "proved"),
    [
        ("reboot", AT_IT, "ACTIVE", S.SUCCEEDED),
        ("reboot", AT_IT | OTHERWISE, "ACTIVE", S.SUCCEEDED),
        ("reboot", AT_IT, "SHUTOFF", S.FAILED),
        ("reboot", AT_IT, "ERROR", S.FAILED),
        # It was off, and is on now: a start does that, too.
        ("reboot", OTHERWISE, "ACTIVE", None),
        ("reboot", OTHERWISE, "SHUTOFF", None),
        ("reboot", NOTHING, "ACTIVE", None),
        ("start", AT_IT, "ACTIVE", S.SUCCEEDED),
        ("start", AT_IT, "ERROR", S.FAILED),
        ("start", OTHERWISE, "ACTIVE", S.SUCCEEDED),
        ("start", OTHERWISE, "SHUTOFF", None),
        ("start", OTHERWISE, "ERROR", None),
        ("start", NOTHING, "ACTIVE", S.UNCHANGED),
        ("stop", AT_IT, "SHUTOFF", S.SUCCEEDED),
        ("stop", AT_IT, "ACTIVE", S.FAILED),
        ("stop", OTHERWISE, "SHUTOFF", S.SUCCEEDED),
        ("stop", OTHERWISE, "ACTIVE", None),
        ("stop", NOTHING, "SHUTOFF", S.UNCHANGED),
        # What is no rest, or is not known, proves nothing yet.
        ("start", AT_IT, "REBOOT", None),
        ("stop", AT_IT, "MIGRATING", None),
        ("reboot", AT_IT, None, None),
    ],
)
def test_what_proves_what(action: str, seen: Evidence, status: str | None, proved: OutcomeState | None) -> None:
    shown = None if status is None else ServerStatus(status)
    assert infer_outcome(f"servers.{action}", ServerState(id="a", status=shown), seen) is proved


@pytest.mark.parametrize(
    ("action", "status", "task", "seen"),
    [
        ("reboot", "REBOOT", None, AT_IT | OTHERWISE),
        ("reboot", "HARD_REBOOT", None, AT_IT | OTHERWISE),
        ("reboot", "ACTIVE", "reboot_started_hard", AT_IT),
        ("reboot", "ACTIVE", "powering-off", NOTHING),
        ("reboot", "ACTIVE", "rebuilding", NOTHING),
        ("reboot", "ACTIVE", None, NOTHING),
        ("reboot", "SHUTOFF", None, OTHERWISE),
        ("stop", "ACTIVE", "powering-off", AT_IT | OTHERWISE),
        ("stop", "ACTIVE", "reboot_started", OTHERWISE),
        ("stop", "SHUTOFF", "powering-on", NOTHING),
        ("stop", "SHUTOFF", "migrating", NOTHING),
        ("start", "SHUTOFF", "powering-on", AT_IT | OTHERWISE),
        ("start", "ACTIVE", "reboot_started", NOTHING),
        ("start", None, None, NOTHING),
    ],
)
def test_what_one_look_shows(action: str, status: str | None, task: str | None, seen: Evidence) -> None:
    shown = None if status is None else ServerStatus(status)
    assert evidence_of(f"servers.{action}", ServerState(id="a", status=shown, task_state=task)) == seen


@given(
    ACTIONS,
    st.sampled_from([S.SUCCEEDED, S.UNCHANGED, S.UNKNOWN]),
    st.one_of(st.none(), STATES),
    SEEN,
    st.booleans(),
)
def test_what_is_verified_as_good_is_shown_to_be_so_and_the_last_look_decides(
    action: str, known: OutcomeState, server_state: ServerState | None, seen: Evidence, last: bool
) -> None:
    state = recheck_outcome(action, known, server_state, seen, last=last)
    wanted = "SHUTOFF" if action == "servers.stop" else "ACTIVE"
    assert state is not None or not last
    if state is not None and state.is_success:
        assert server_state is not None
        assert server_state.status == wanted
        assert not server_state.is_busy
    if state is S.FAILED:
        assert server_state is not None
        assert server_state.status != wanted
    if action == "servers.reboot" and known is S.UNKNOWN and Evidence.IN_PROGRESS not in seen:
        assert state in (S.UNKNOWN, None)


@pytest.mark.parametrize(
    ("task", "status", "code"),
    [
        ("powering-off", ServerStatus.ACTIVE, "BMS.0036"),
        ("powering-on", ServerStatus.SHUTOFF, "BMS.0035"),
        ("reboot_started_hard", ServerStatus.ACTIVE, "BMS.0037"),
        (None, ServerStatus.HARD_REBOOT, "BMS.0037"),
        ("rebuilding", ServerStatus.ACTIVE, "BMS.1001"),
    ],
)
def test_what_a_busy_server_is_at_has_a_code(task: str | None, status: ServerStatus, code: str) -> None:
    server_state = ServerState(id="a", task_state=task, status=status)
    assert server_state.busy_code == code
    assert find_cause("servers.stop", server_state) is RefusalCause.BUSY
