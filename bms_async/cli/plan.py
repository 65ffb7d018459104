"""What a power command would do, and what other processes use of its limit."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from bms_async import BmsError
from bms_async.limits.shared.limiter import SharedLimiter

from .account_usage import LimitView, read_account_in
from .estimate import time_of_last_call
from .output import json_line, write
from .texts import duration, pluralize

if TYPE_CHECKING:
    from .cloud import OpenClient

__all__ = ["note_usage", "print_plan"]

_PATIENCE = 2.0
"""Seconds for reading what other processes use, which is only shown."""


async def _read_usage(action: str, cloud: OpenClient) -> LimitView:
    """Return what all processes use of the limit."""
    name = f"servers.{action}"
    view = await read_account_in(cloud.settings)
    unused = LimitView(cloud.bms.limits[name].limit or sys.maxsize, (), 0.0, ())
    found = view.limits.get(name, unused)
    return found._replace(blocked_for=max(found.blocked_for, view.closed_for))


async def note_usage(action: str, cloud: OpenClient) -> None:
    """Have the progress show what other processes use already, before the run has asked for anything.

    Args:
        action: ``start``, ``stop`` or ``reboot``.
        cloud: The client.
    """
    limiter = cloud.bms.limits[f"servers.{action}"]
    if not isinstance(limiter, SharedLimiter):
        return
    # While the store does not answer, the run itself waits for it, and says so.
    with suppress(BmsError), anyio.move_on_after(_PATIENCE):
        limiter.note_others((await _read_usage(action, cloud)).spent)


async def print_plan(action: str, cloud: OpenClient, servers: int, *, batch: int, json: bool) -> None:
    """Print how many calls a run takes, and for how long the limit makes it last.

    Args:
        action: ``start``, ``stop`` or ``reboot``.
        cloud: The client.
        servers: The number of servers.
        batch: How many servers one call takes at most.
        json: Whether to print JSON.
    """
    usage, limit = await _read_usage(action, cloud), cloud.bms.limits[f"servers.{action}"].limit
    calls, used = -(-servers // batch), len(usage.spent)
    least = time_of_last_call(calls, spent=usage.spent, capacity=usage.capacity, blocked=usage.blocked_for)
    if json:
        plan: dict[str, object] = {"type": "plan", "action": f"servers.{action}", "servers": servers}
        plan |= {"calls": calls, "limit": limit, "used": used, "least_seconds": round(least, 1)}
        write(json_line(plan))
        return
    write(
        f"would {action} {pluralize(servers, 'server')} of {cloud.where}: "
        f"{pluralize(calls, 'call')} of {batch:,} servers at most\n"
        f"the limit is {limit} calls a minute, of which {used} are used now; the last call can be sent "
        f"after {duration(least)} at the earliest, and then the servers take their time\n"
        "nothing was changed\n"
    )
