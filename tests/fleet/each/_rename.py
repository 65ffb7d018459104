"""What tests of `bms.fleet.each` have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from bms_async import BmsClient, Outcome, OutcomeState
from tests.fleet._helpers import assert_one_outcome_each
from tests.support.clouds import Simulated

S = OutcomeState


def rename(bms: BmsClient) -> Callable[[str], Awaitable[object]]:
    """A function that makes one call, which is harmless if it is made twice."""
    return lambda server_id: bms.servers.rename(server_id, f"n-{server_id[:8]}")


def reboot(bms: BmsClient) -> Callable[[str], Awaitable[object]]:
    """A function that makes one call, which must not be made twice, and returns its job."""
    return lambda server_id: bms.servers.reboot([server_id])


async def outcomes_of(sim: Simulated, call: Callable[[str], object], ids: list[str] | None = None) -> list[Outcome]:
    """Run a function for servers; return their outcomes in the order of the ids."""
    ids = sim.ids if ids is None else ids
    report = await sim.bms.fleet.each(ids, call)  # type: ignore[arg-type]  # also what it should not be
    assert_one_outcome_each(ids, report.outcomes)
    return sorted(report.outcomes, key=lambda outcome: ids.index(outcome.server_id))


async def outcome_of(sim: Simulated, call: Callable[[str], object]) -> Outcome:
    """Run a function for one server, beside others for which it returns at once; return its outcome."""
    first, *others = sim.ids

    async def for_the_first(server_id: str) -> object:
        if server_id != first:
            return None
        called = call(server_id)
        return await called if isinstance(called, Awaitable) else called

    outcome, *rest = await outcomes_of(sim, for_the_first, [first, *others])
    assert {each.state for each in rest} <= {S.SUCCEEDED}
    return outcome


def tasks_of_runs() -> list[str]:
    """The names of the tasks of fleet runs and their workers that are left."""
    names = [task.get_name() for task in asyncio.all_tasks()]
    return [name for name in names if "fleet" in name or "worker" in name]
