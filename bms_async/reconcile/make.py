"""Making a reconciler of a client's parts."""

from __future__ import annotations

import asyncio
from random import Random

from bms_async.fleet import Fleet
from bms_async.fleet.clock import wall_clock
from bms_async.jobs import Watcher
from bms_async.session import Session

from .acting import ProcessActor, ProcessMemory
from .engine import Engine
from .looks import Looks
from .options import ReconcilerOptions
from .ports import Actor, Memory
from .reconciler import Reconciler
from .telling import DayTime


def make_reconciler(
    session: Session,
    watcher: Watcher,
    options: ReconcilerOptions,
    *,
    actor: Actor | None = None,
    memory: Memory | None = None,
) -> Reconciler:
    """Return a reconciler, which is not open yet.

    Args:
        session: The client's.
        watcher: The client's.
        options: The options.
        actor: What acts; None for runs of this client.
        memory: What remembers; None for nothing that outlives this process.

    Raises:
        ClientClosedError: The client is not open.
    """
    session.check_open()
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
        hooks=session.hooks,
    )
    return Reconciler(session, engine, name=options.name)
