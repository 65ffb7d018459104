"""What tests of rollouts on the simulated cloud have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from bms_async import FleetReport, FleetRun, Outcome, OutcomeState, Server
from bms_async.simulator import Fault
from tests.support.clouds import Simulated

MONTH = 31 * 86400.0


def well(sim: Simulated) -> Callable[[Server], Awaitable[bool]]:
    """A check that finds a server well as soon as the cloud says that it can be reached."""

    async def reachable(server: Server) -> bool:
        return sim.cloud.is_reachable(server.id)

    return reachable


async def ended(run: FleetRun, within: float = MONTH) -> FleetReport:
    """The report of a run; fails if the run does not end in so many virtual seconds."""
    async with asyncio.timeout(within):
        return await run


def of_state(outcomes: Sequence[Outcome], state: OutcomeState) -> list[Outcome]:
    return [outcome for outcome in outcomes if outcome.state is state]


def errors_of(outcomes: Sequence[Outcome], state: OutcomeState) -> set[type]:
    return {type(outcome.error) for outcome in of_state(outcomes, state)}


def asked(sim: Simulated) -> int:
    """How many servers a power action has reached."""
    return len(sim.cloud.availability.absences())


def nth_call(operation: str, nth: int, fault: Fault) -> Callable[[str, int, str], Fault | None]:
    """A hook that has one call of an operation fail."""
    return lambda name, number, path: fault if (name, number) == (operation, nth) else None
