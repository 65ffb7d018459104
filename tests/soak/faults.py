"""What goes wrong, and when: by the seed and by which call of its operation it is, and by nothing else."""

from __future__ import annotations

from random import Random
from typing import Literal, get_args

from bms_async.simulator import Delay, Fault, GarbledJob, HalfBody, NotFoundJob, ScriptedFault, Throttled
from bms_async.simulator.core.faults import Garbling

Mishap = Literal[
    # The cloud never sees it.
    "reset before", "closed before", "bad gateway", "busy",
    # It does, and no answer, or another one, comes back.
    "reset after", "closed after", "half a head", "half a body", "bad gateway after", "error after", "no HTTP",
    # The answer comes, but when and how.
    "slow there", "slow back", "in pieces", "too slow", "too late",
    # It is a good one, and what follows is not.
    "closed when idle", "reset when idle", "one too many",
]  # fmt: skip
"""What the proxy does to one exchange."""

MISHAPS: tuple[Mishap, ...] = get_args(Mishap)

_LOGIN = frozenset[Mishap]({"reset before", "closed before", "busy", "reset after", "closed after", "slow back"})
"""An answer that makes no sense may stop all that waits for a token, and there would be little left to see."""

BINDING = "servers.list_interfaces"
"""The operation whose limit is low enough to be reached: it must not come to the cloud after it was given up."""

_AT_ONCE_COUNTED = frozenset(MISHAPS) - {"slow there", "too late"}
_GARBLINGS: tuple[Garbling, ...] = get_args(Garbling)
_MANY = 100_000
_REFUSED_FROM = (4, 40, 120, 300, 700, 1500, 3500, 8000, 18_000)
"""Each refusal takes a fifth of the capacity, which grows back by a call a minute: there can only be a few."""


def draw_mishap(seed: int, operation: str, nth: int, share: float) -> tuple[Mishap | None, float]:
    """Return what the proxy does to the nth call of an operation, and how much of it, from 0 to 1."""
    random = Random(f"{seed}/{operation}/{nth}")
    if random.random() >= share:
        return None, 0.0
    allowed: list[Mishap] = [
        each
        for each in MISHAPS
        if (operation != "identity.create_token" or each in _LOGIN)
        and (operation != BINDING or each in _AT_ONCE_COUNTED)
    ]
    return random.choice(allowed), random.random()


def draw_script(seed: int) -> list[ScriptedFault]:
    """Return what the cloud itself does wrong."""
    script = []
    for operation, share in (("jobs.get", 0.03), ("servers.list", 0.02), ("servers.get", 0.02)):
        random = Random(f"{seed}/script/{operation}")
        nth = 0
        while (nth := nth + 1 + int(random.expovariate(share))) < _MANY:
            script.append(ScriptedFault(operation=operation, nth=nth, fault=_draw_fault(random, operation)))
    for operation in ("jobs.get", "servers.list", "servers.start", "servers.stop", "servers.reboot"):
        random = Random(f"{seed}/refused/{operation}")
        taken = {each.nth for each in script if each.operation == operation}
        for about in _REFUSED_FROM:
            nth = next(each for each in range(about + random.randrange(about // 4), _MANY) if each not in taken)
            script.append(ScriptedFault(operation=operation, nth=nth, fault=Throttled(retry_after=1)))
    return script


def _draw_fault(random: Random, operation: str) -> Fault:
    if operation == "jobs.get" and random.random() < 0.6:
        if random.random() < 0.2:
            return NotFoundJob()
        return GarbledJob(how=(random.choice(_GARBLINGS),), seed=random.randrange(1000), share=random.random())
    return HalfBody(share=random.random()) if random.random() < 0.5 else Delay(seconds=random.uniform(0.01, 0.3))
