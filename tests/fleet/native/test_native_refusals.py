"""What a server's state says of a call that was refused, or whose answer was lost."""

from __future__ import annotations

import re
from typing import Any

import pytest

from bms_async import CallError, ConflictError, OutcomeState, ServerStatus, TransportError
from bms_async.fleet.native.refusal import Next, judge_state
from bms_async.fleet.native.verdict import NativeState
from bms_async.models import Fault

S = OutcomeState
START, STOP, REBOOT = "nova.servers.start", "nova.servers.stop", "nova.servers.reboot"
REFUSED = ConflictError(status=409, message="Cannot do that", operation=STOP)
LOCKED = ConflictError(status=409, message="Instance s is locked", operation=STOP)
LOST = TransportError("no answer", maybe_delivered=True, operation=STOP)


def state(status: str | None, task: str | None = None, **fields: Any) -> NativeState:
    return NativeState(id="s", status=None if status is None else ServerStatus(status), task_state=task, **fields)


@pytest.mark.parametrize(
    ("action", "shown", "cause", "expected", "words"),
    [
        (STOP, None, REFUSED, (Next.END, S.FAILED), "it vanished"),
        (STOP, None, LOST, (Next.END, S.FAILED), "it vanished"),
        (STOP, state("DELETED"), REFUSED, (Next.END, S.FAILED), "it vanished"),
        (STOP, state("SHUTOFF"), REFUSED, (Next.END, S.UNCHANGED), None),
        (STOP, state("SHUTOFF"), LOCKED, (Next.END, S.UNCHANGED), None),
        (STOP, state("SHUTOFF"), LOST, (Next.END, S.UNCHANGED), None),
        (START, state("ACTIVE"), REFUSED, (Next.END, S.UNCHANGED), None),
        # Busy, whatever its status is.
        (
            START,
            state("ACTIVE", "powering-off"),
            REFUSED,
            (Next.AGAIN, S.FAILED),
            "in another task: it is ACTIVE, power",
        ),
        (STOP, state("ACTIVE", "powering-off"), REFUSED, (Next.AGAIN, S.FAILED), "in another task"),
        (STOP, state("ACTIVE", "powering-off"), LOST, (Next.FOLLOW, S.UNKNOWN), "no answer"),
        (STOP, state("ACTIVE", "rebooting"), LOST, (Next.AGAIN, S.UNKNOWN), "in another task"),
        # As asked is nothing that a reboot can be.
        (REBOOT, state("ACTIVE"), REFUSED, (Next.AGAIN, S.FAILED), "the cloud refused each time: it is ACTIVE"),
        (STOP, state("ACTIVE"), REFUSED, (Next.AGAIN, S.FAILED), "the cloud refused each time: it is ACTIVE"),
        (STOP, state("ACTIVE"), LOST, (Next.AGAIN, S.UNKNOWN), "its answer was lost: it is ACTIVE"),
        (STOP, state("ACTIVE"), LOCKED, (Next.END, S.FAILED), "it is locked: it is ACTIVE"),
        (START, state("ERROR", fault=Fault(message="No host")), REFUSED, (Next.END, S.FAILED), "got ERROR.*No host"),
        (START, state("ERROR"), LOST, (Next.END, S.UNKNOWN), "got ERROR"),
        (STOP, state("PAUSED"), REFUSED, (Next.END, S.FAILED), "its status does not allow that: it is PAUSED"),
        (STOP, state(None), REFUSED, (Next.END, S.FAILED), "it is without a status"),
    ],
)
def test_a_state_says_what_becomes_of_a_server(
    action: str, shown: NativeState | None, cause: CallError, expected: tuple[Next, S], words: str | None
) -> None:
    what, outcome, error = judge_state(action, "s", shown, cause, in_doubt=cause.maybe_done)
    assert (what, outcome) == expected
    if words is None:
        assert error is None
        return
    assert error is not None
    assert re.search(words, str(error))
    assert cause in {error, error.__cause__}
