"""Making a reconciler of a client's parts."""

from __future__ import annotations

import asyncio
from random import Random

from bms_async.fleet import Fleet
from bms_async.fleet.clock import wall_clock
from bms_async.fleet.rollout.rollout import Rollout
from bms_async.jobs import Watcher
from bms_async.session import Session

from .acting import ProcessActor, ProcessMemory
from .backoff import Backoff
from .engine import Engine, EngineOptions
from .looks import Looks
from .ports import Actor, Memory
from .reconciler import Reconciler, check_options
from .telling import DayTime


def make_reconciler(
    session: Session,
    watcher: Watcher,
    *,
    resync: float,
    backoff: Backoff,
    wave_size: int,
    rollout: Rollout | None,
    name: str,
    check: bool,
    random: Random,
    actor: Actor | None = None,
    memory: Memory | None = None,
) -> Reconciler:
    """Return a reconciler, which is not open yet.

    Args:
        session: The client's.
        watcher: The client's.
        resync: As for `ClientView.reconciler`, as are the four that follow.
        backoff: See there.
        wave_size: See there.
        rollout: See there.
        name: See there.
        check: Whether ids are checked against the reference.
        random: The source of jitter.
        actor: What acts; None for runs of this client.
        memory: What remembers; None for nothing that outlives this process.

    Raises:
        InvalidRequestError: An option is invalid.
        ClientClosedError: The client is not open.
    """
    check_options(resync=resync, backoff=backoff, wave_size=wave_size, rollout=rollout, name=name)
    session.check_open()
    loop = asyncio.get_running_loop()
    session = session.unbounded()
    engine = Engine(
        EngineOptions(
            name=name,
            resync=resync,
            backoff=backoff,
            wave_size=wave_size,
            one_run_at_a_time=rollout is not None,
            check=check,
        ),
        looks=Looks(session),
        actor=actor or ProcessActor(Fleet(session, watcher, check=check), rollout),
        memory=memory or ProcessMemory(),
        watcher=watcher,
        random=random,
        day_time=DayTime(loop.time, wall_clock(loop)),
        on_change=None,
        on_look=None,
    )
    return Reconciler(session, engine, name=name)
