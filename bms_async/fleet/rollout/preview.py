"""Planning a rollout without sending anything: the servers are read and grouped as a run does it."""

from __future__ import annotations

import asyncio
import math
from datetime import UTC, datetime

import anyio.lowlevel

from bms_async.errors import InvalidRequestError
from bms_async.fleet.clock import Clock
from bms_async.fleet.outcome import OutcomeState
from bms_async.fleet.plan import Intake
from bms_async.fleet.source import Servers, read_all
from bms_async.fleet.walk import ServerSource
from bms_async.validation.common import is_number

from .forecast import Forecast, RolloutPlan
from .known import KnownServers, pop_all
from .planner import RolloutPlanner
from .rollout import Rollout


async def preview(
    servers: Servers,
    rollout: Rollout,
    source: ServerSource,
    *,
    seconds_each: float,
    start: datetime | None,
    wave_size: int | None,
    calls_a_minute: int | None,
    check: bool,
) -> RolloutPlan:
    """Return which waves a rollout will have.

    Args:
        servers: The servers.
        rollout: The rollout.
        source: Reads servers of which only the ids were given.
        seconds_each: Seconds from the asking of a server until it is well.
        start: When it begins; None for now.
        wave_size: How many servers may be in flight at once; None for no bound.
        calls_a_minute: The limit of the calls; None for none.
        check: Whether ids are checked against the reference.

    Raises:
        InvalidRequestError: An argument is invalid, or a server's group cannot be found out.
        CallError: The servers could not be read.
    """
    _check(rollout, seconds_each, wave_size)
    began = Clock(asyncio.get_running_loop()).now() if start is None else start
    if not isinstance(began, datetime) or began.utcoffset() is None:
        raise InvalidRequestError("start", start, "expected an aware datetime, such as datetime.now(UTC), or None")
    known = KnownServers(rollout)
    tracker = await read_all(servers, action="plan", check=check, on_server=known.note)
    planner = RolloutPlanner(
        canary=rollout.canary,
        max_unavailable=rollout.max_unavailable,
        max_groups=rollout.max_groups,
        settle=rollout.settle,
        max_in_flight=wave_size,
        abort_above=rollout.abort_above,
    )
    hidden = await _hand_over(tracker.intake, known, source, planner)

    def group_of(server_id: str) -> str:
        return known.group(server_id) or ""

    forecast = Forecast(
        planner,
        group_of,
        start=began.astimezone(UTC),
        seconds_each=seconds_each,
        window=rollout.window,
        calls_a_minute=calls_a_minute,
    )
    for _ in forecast.steps():
        await anyio.lowlevel.checkpoint()
    return forecast.result(skipped=hidden + tracker.by_state[OutcomeState.SKIPPED])


def _check(rollout: object, seconds_each: object, wave_size: object) -> None:
    if not isinstance(rollout, Rollout):
        raise InvalidRequestError("rollout", rollout, "expected a Rollout")
    if not (is_number(seconds_each) and 0 < seconds_each < math.inf):
        raise InvalidRequestError("seconds_each", seconds_each, "expected a number of seconds above 0")
    if wave_size is not None and (type(wave_size) is not int or wave_size < 1):
        raise InvalidRequestError("wave_size", wave_size, "expected 1 or more servers, or None for no bound")


async def _hand_over(intake: Intake, known: KnownServers, source: ServerSource, planner: RolloutPlanner) -> int:
    """Hand all servers to the planner; return how many the cloud does not show."""
    hidden = 0
    async for server_id, group in known.placed(await pop_all(intake), source):
        if group is None:
            hidden += 1
        else:
            planner.add(server_id, group)
    for _ in planner.sealing():
        await anyio.lowlevel.checkpoint()
    return hidden
