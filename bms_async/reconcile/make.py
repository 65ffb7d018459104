"""Making a reconciler of a client's parts."""

from __future__ import annotations

import asyncio
from random import Random
from typing import TYPE_CHECKING

from bms_async.fleet import Fleet
from bms_async.fleet.clock import wall_clock
from bms_async.jobs import Watcher
from bms_async.limits import Lane
from bms_async.session import Session

from .acting import ProcessActor, ProcessMemory
from .engine import Engine
from .looks import Looks
from .options import ReconcilerOptions
from .ports import Actor, Memory
from .reconciler import Reconciler
from .telling import DayTime

if TYPE_CHECKING:
    from bms_async.runs import DurableRuns


def make_reconciler(
    session: Session,
    watcher: Watcher,
    options: ReconcilerOptions,
    *,
    runs: DurableRuns | None = None,
    actor: Actor | None = None,
    memory: Memory | None = None,
) -> Reconciler:
    """Return a reconciler, which is not open yet.

    Args:
        session: The client's.
        watcher: The client's.
        options: The options.
        runs: The client's durable runs, by whose journal it outlives the process; None without a journal.
        actor: What acts; None for runs of this client, durable ones with a journal.
        memory: What remembers; None for the journal, and without one for nothing that outlives this process.

    Raises:
        InvalidRequestError: With a journal, `ready` of the rollout is one that only this process can call.
        ClientClosedError: The client is not open.
    """
    session.check_open()
    if runs is not None:
        from .durable_actor import make_actor  # noqa: PLC0415 - most programs have no journal
        from .durable_memory import DurableMemory  # noqa: PLC0415

        led = runs.led_by(options.name)
        actor, memory = actor or make_actor(led, options), memory or DurableMemory(led)
    loop = asyncio.get_running_loop()
    session = session.unbounded()
    engine = Engine(
        options,
        looks=Looks(session),
        actor=actor or ProcessActor(Fleet(session, watcher, check=options.check), options.rollout),
        memory=memory or ProcessMemory(),
        watcher=watcher,
        # One of its own, so that what it draws depends on nothing else.
        random=Random(session.random.random()),  # noqa: S311 - jitter, not a secret
        day_time=DayTime(loop.time, wall_clock(loop)),
        wait_for_call=lambda action: session.limits[action].estimate_wait(Lane.BULK),
        hooks=session.hooks,
    )
    return Reconciler(session, engine, name=options.name)
