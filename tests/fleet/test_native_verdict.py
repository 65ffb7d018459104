"""What the state of a server on a plain OpenStack cloud proves of an action, and what is known of the cloud's clock."""

from __future__ import annotations

import itertools
import math
from datetime import UTC, datetime
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async import OutcomeState, Server, ServerFaultError, ServerStateError
from bms_async.fleet.native.cloud_time import CloudTime
from bms_async.fleet.native.verdict import NativeState, Sight, add_sight, judge, timed_out, vanished

S = OutcomeState
START, STOP, REBOOT = "nova.servers.start", "nova.servers.stop", "nova.servers.reboot"
_NAMES = {"vm_state": "OS-EXT-STS:vm_state"}
ACCEPTED = datetime(2024, 1, 1, 12, 0, 30, tzinfo=UTC).timestamp()


def a_state(status: str | None, task: str | None = None, *, second: int = 0, **more: Any) -> NativeState:
    updated = f"2024-01-01T12:00:{second:02d}Z"
    fields = {"id": "s", "status": status, "OS-EXT-STS:task_state": task, "updated": updated}
    fields |= {_NAMES.get(name, name): value for name, value in more.items()}
    return msgspec.convert(fields, NativeState, strict=False)


def verdict(action: str, *states: NativeState) -> OutcomeState | None:
    seen = Sight.NOTHING
    for state in states:
        seen = add_sight(action, state, seen, accepted=ACCEPTED)
    found = judge(action, states[-1], seen)
    assert found is None or (found[1] is None) == found[0].is_success
    return None if found is None else found[0]


OLD_ON, OLD_OFF, OLD_ERROR = a_state("ACTIVE"), a_state("SHUTOFF"), a_state("ERROR")
NEW_ON, NEW_OFF, NEW_ERROR = (a_state(status, second=40) for status in ("ACTIVE", "SHUTOFF", "ERROR"))
REBOOTING = a_state("HARD_REBOOT", "reboot_started_hard", second=31)
POWERING_ON, POWERING_OFF = a_state("SHUTOFF", "powering-on"), a_state("ACTIVE", "powering-off")
REBUILDING = a_state("REBUILD", "rebuilding")


@pytest.mark.parametrize(
    ("action", "states", "expected"),
    [
        # A reboot that was seen, and one that was over between two readings.
        (REBOOT, [REBOOTING, OLD_ON], S.SUCCEEDED),
        (REBOOT, [a_state("REBOOT"), OLD_ON], S.SUCCEEDED),
        (REBOOT, [a_state("ACTIVE", "rebooting"), OLD_ON], S.SUCCEEDED),
        (REBOOT, [NEW_ON], S.SUCCEEDED),
        # A server that is as it was proves nothing: not even that the action arrived.
        (REBOOT, [OLD_ON], None),
        (REBOOT, [OLD_OFF], None),
        (REBOOT, [OLD_ON, OLD_ON], None),
        (REBOOT, [a_state("ACTIVE", second=30)], None),
        (REBOOT, [REBOOTING], None),
        (REBOOT, [REBOOTING, NEW_OFF], S.FAILED),
        (REBOOT, [NEW_OFF], S.FAILED),
        # It may have changed for the other task.
        (REBOOT, [REBUILDING, NEW_ON], S.UNKNOWN),
        (REBOOT, [REBUILDING, REBOOTING, NEW_ON], S.SUCCEEDED),
        (REBOOT, [REBUILDING], None),
        (START, [NEW_ON], S.SUCCEEDED),
        (START, [OLD_OFF, OLD_ON], S.SUCCEEDED),
        (START, [POWERING_ON, OLD_ON], S.SUCCEEDED),
        (START, [OLD_ON], S.UNCHANGED),
        (START, [POWERING_ON], None),
        (START, [OLD_OFF], None),
        (START, [NEW_OFF], S.FAILED),
        (START, [POWERING_ON, OLD_OFF], S.FAILED),
        (STOP, [POWERING_OFF, OLD_OFF], S.SUCCEEDED),
        (STOP, [OLD_OFF], S.UNCHANGED),
        (STOP, [OLD_ON], None),
        (STOP, [POWERING_OFF, OLD_ON], S.FAILED),
        (STOP, [REBUILDING, NEW_ON], S.FAILED),
        # ERROR: the old one of a server that is being stopped, and a new one.
        (STOP, [OLD_ERROR], None),
        (STOP, [a_state("ERROR", "powering-off")], None),
        (STOP, [NEW_ERROR], S.FAILED),
        (REBOOT, [REBOOTING, OLD_ERROR], S.FAILED),
        (REBOOT, [a_state("DELETED")], S.FAILED),
        (STOP, [POWERING_OFF, a_state("SOFT_DELETED")], S.FAILED),
        (STOP, [a_state("ACTIVE", "deleting", vm_state="deleted")], S.FAILED),
        # What is neither on nor off proves nothing.
        (REBOOT, [a_state("PAUSED", second=40)], None),
        (STOP, [a_state(None, second=40)], None),
        (STOP, [a_state("OF_A_LATER_RELEASE", second=40)], None),
        (START, [a_state("BUILD", second=40)], None),
    ],
)
def test_a_verdict_follows_from_what_was_seen(
    action: str, states: list[NativeState], expected: OutcomeState | None
) -> None:
    assert verdict(action, *states) is expected


@pytest.mark.parametrize("action", [START, STOP, REBOOT])
def test_what_was_seen_once_is_never_forgotten(action: str) -> None:
    readings = [OLD_ON, OLD_OFF, NEW_ON, NEW_OFF, REBOOTING, POWERING_ON, POWERING_OFF, REBUILDING, NEW_ERROR]
    for first, second in itertools.product(readings, repeat=2):
        seen = add_sight(action, first, Sight.NOTHING, accepted=ACCEPTED)
        assert add_sight(action, second, seen, accepted=ACCEPTED) & seen == seen


def test_no_reboot_succeeds_that_left_no_trace() -> None:
    without = [OLD_ON, OLD_OFF, OLD_ERROR, POWERING_ON, POWERING_OFF, REBUILDING, a_state("PAUSED")]
    for earlier in itertools.product(without, repeat=2):
        assert verdict(REBOOT, *earlier, OLD_ON) in (None, S.UNKNOWN)


def test_without_a_clock_of_the_cloud_only_what_was_seen_counts() -> None:
    seen = add_sight(REBOOT, NEW_ON, Sight.NOTHING, accepted=math.inf)
    assert judge(REBOOT, NEW_ON, seen) is None
    seen = add_sight(REBOOT, REBOOTING, seen, accepted=math.inf)
    assert judge(REBOOT, NEW_ON, seen) == (S.SUCCEEDED, None)


def test_errors_have_the_clouds_own_words() -> None:
    fault = {"message": "No route to the controller.", "code": 500}
    broken = a_state("ERROR", second=40, fault=fault, name="n")
    state, error = judge(REBOOT, broken, Sight.CHANGED) or (None, None)
    assert state is S.FAILED
    assert isinstance(error, ServerFaultError)
    assert (error.code, error.message, error.server.name) == (500, "No route to the controller.", "n")
    _, error = judge(STOP, a_state("ACTIVE", second=40, fault=fault), Sight.CHANGED) or (None, None)
    assert isinstance(error, ServerStateError)
    assert str(error).endswith("nothing is under way: it is ACTIVE: No route to the controller.")

    def hide(server: Server) -> Server:
        assert server.fault is not None
        return msgspec.structs.replace(server, fault=msgspec.structs.replace(server.fault, message="***"))

    for status in ("ERROR", "ACTIVE"):
        found = judge(STOP, a_state(status, second=40, fault=fault), Sight.CHANGED, mask=hide)
        assert found is not None
        assert "route" not in str(found[1])
        assert "***" in str(found[1])


def test_a_server_that_vanished_or_shows_nothing_is_told_apart() -> None:
    state, error = vanished(STOP, "s")
    assert (state, "it vanished" in str(error)) == (S.FAILED, True)
    state, error = timed_out(STOP, "s", None, 1800.0)
    assert state is S.UNKNOWN
    assert str(error).endswith("it was accepted, and for 1800 s nothing has shown how it ended: no reading showed it")
    state, error = timed_out(STOP, "s", POWERING_OFF, 1800.0)
    assert isinstance(error, ServerStateError)
    assert (error.status, error.task_state) == ("ACTIVE", "powering-off")


def test_an_unknown_clock_proves_nothing() -> None:
    time = CloudTime()
    assert not time.is_known
    assert (time.earliest(5.0), time.latest(5.0)) == (-math.inf, math.inf)


@given(
    offset=st.floats(-1e6, 1e6),
    trips=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 5), st.floats(0, 5)), min_size=1, max_size=20),
)
def test_the_clouds_clock_lies_between_its_bounds(offset: float, trips: list[tuple[float, float, float]]) -> None:
    time, now = CloudTime(), 0.0
    for pause, there, back in trips:
        now += pause
        time.learn(float(math.floor(now + there + offset)), sent=now, received=now + there + back)
        for at in (0.0, now, now + 1000):
            assert time.earliest(at) - 1e-6 <= at + offset <= time.latest(at) + 1e-6
        now += there + back


def test_a_clock_that_was_set_is_believed_from_then_on() -> None:
    time = CloudTime()
    time.learn(1000.0, sent=0.0, received=0.1)
    time.learn(5000.0, sent=10.0, received=10.1)
    assert time.earliest(10.0) == pytest.approx(4999.9)
    assert time.latest(10.0) == pytest.approx(5001.0)
