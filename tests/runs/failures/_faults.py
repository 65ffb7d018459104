"""What is done besides the deaths of workers, and the scenarios in which one guard decides."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import msgspec

from bms_async.limits.shared.messages import Terms
from tests.runs.failures._guards import Guard
from tests.runs.failures._points import Fate
from tests.runs.failures._stage import Scenario, Stage
from tests.runs.failures._times import SHORT
from tests.runs.failures._worker import Budget
from tests.support.postgres import Postgres

_QUICK = msgspec.structs.replace(SHORT, job=(0.05, 0.2), latency=(0.001, 0.01))
"""Servers are done long before a lease is over."""


def lock_the_file(share: float = 1 / 4) -> Callable[[Stage], Awaitable[None]]:
    """Have a process stand still in the middle of a transaction, for longer than a lease, and die."""

    async def play(stage: Stage) -> None:
        await stage.until_obeyed(int(stage.scenario.servers * share))
        locker = stage.begin(locks_the_file=True)
        await locker.until("standing")
        await asyncio.sleep(1.5 * stage.scenario.times.lease)
        locker.kill()

    return play


def crash(server: Postgres, share: float = 1 / 3) -> Callable[[Stage], Awaitable[None]]:
    """Have the server of the journal crash, and come back after three seconds."""

    async def play(stage: Stage) -> None:
        await stage.until_obeyed(int(stage.scenario.servers * share))
        await asyncio.to_thread(server.stop)
        await asyncio.sleep(3.0)
        await asyncio.to_thread(server.start)

    return play


def one_guard(journal: str, guard: Guard, *, is_there: bool) -> Scenario:
    """A scenario in which servers are rebooted twice unless one guard is there.

    Args:
        journal: The address of the journal.
        guard: The guard.
        is_there: Whether the workers have it.
    """
    where: dict[Guard, dict[str, dict[int, Fate]]] = {
        "settling": {"answered": {0: "kill"}},
        "intent": {"read": {0: "kill"}},
        "fence": {"before sending": {0: "stop"}},
    }
    return Scenario(
        journal=journal,
        # One batch where answers are withheld: a worker that waits for that of another one takes nothing over.
        servers=8 if guard == "fence" else 24,
        times=_QUICK,
        fates=where[guard],
        without=None if is_there else guard,
        withholds=guard == "fence",
    )


def shared_budget(
    journal: str, store: str, *, servers: int = 160, batch: int = 8, calls: int = 12, terms: Terms | None = None
) -> Scenario:
    """Two workers that share a limit, of which one is killed in the middle.

    Args:
        journal: The address of the journal.
        store: Where the limit is counted.
        servers: How many servers there are.
        batch: How many of them a batch has.
        calls: Calls a window.
        terms: The times of the account; None for short ones.
    """
    terms = terms or Terms(window=3.0, lease=1.5, timeout=2.0)
    return Scenario(
        journal=journal,
        action="stop",
        servers=servers,
        batch=batch,
        times=_QUICK,
        workers=2,
        fates={"read": {servers // batch // 2: "kill"}},
        budget=Budget(store=store, calls=calls, terms=terms),
        bound=10 * terms.window * servers / batch / calls,
    )
