"""A caller that is cancelled, in any pass of the loop: what began has its end, and no context is left behind."""

from __future__ import annotations

import asyncio
from collections import Counter

import pytest
from opentelemetry.context import get_current

from bms_async import (
    AttemptEnded,
    BmsError,
    CallEnded,
    CallStarted,
    Hook,
    RateLimited,
    RequestSent,
    RetryPolicy,
)
from bms_async.simulator import Answer, Throttled, Unauthorized
from tests.hooks._helpers import Ear, first, hooked, password_auth
from tests.support.virtual_clock import run_virtually
from tests.telemetry._helpers import Recorder

FAULTS = (Unauthorized(), Answer(status=503), Throttled(retry_after=9))


async def leave_after(passes: int, leaving: str, recorder: Recorder) -> bool:
    """Leave a call that needs two tokens and four attempts; return whether it waited for the last slot by then."""
    ear = Ear()
    auth = password_auth()
    hooks: list[Hook] = [ear, recorder.telemetry]
    async with hooked(hooks, servers=1, auth=auth, retry=RetryPolicy(initial_delay=0.0)) as sim:
        sim.cloud.faults.append(first("servers.get", *FAULTS))

        async def call() -> None:
            before = get_current()
            try:
                await sim.bms.servers.get(sim.ids[0])
            except BmsError:
                assert leaving == "closed"
            finally:
                assert get_current() is before

        task = asyncio.get_running_loop().create_task(call())
        for _ in range(passes):
            await asyncio.sleep(0)
        waits = bool(ear.heard(RateLimited))
        if leaving == "closed":
            await sim.bms.aclose()
        else:
            task.cancel()
        await asyncio.wait({task})
        assert task.cancelled() or task.exception() is None
    assert sorted(event.call for event in ear.heard(CallStarted)) == sorted(e.call for e in ear.heard(CallEnded))
    sent, tried = (
        Counter(event.call for event in events) for events in (ear.heard(RequestSent), ear.heard(AttemptEnded))
    )
    assert sent == tried == Counter({event.call: event.attempts for event in ear.heard(CallEnded) if event.attempts})
    assert repr(recorder.telemetry) == "<Telemetry: 0 spans open>"
    return waits


@pytest.mark.parametrize("leaving", ["cancelled", "closed"])
def test_a_call_that_is_left_in_any_pass_of_the_loop_tells_the_end_of_all_that_it_began(leaving: str) -> None:
    passes, recorder = 0, Recorder()
    while not run_virtually(lambda passes=passes: leave_after(passes, leaving, recorder)):  # type: ignore[misc]
        passes += 1
    assert passes > 10
