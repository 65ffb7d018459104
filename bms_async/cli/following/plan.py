"""What a power command would do, and what other processes use of its limit."""

from __future__ import annotations

import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from bms_async import BmsError
from bms_async.cli.access.account_usage import LimitView, read_account_in
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.output import write
from bms_async.cli.terminal.rows import write_record
from bms_async.cli.terminal.texts import duration, pluralize
from bms_async.limits.shared.limiter import SharedLimiter

from .estimate import time_of_last_call

if TYPE_CHECKING:
    from bms_async.cli.access.cloud import OpenClient

__all__ = ["note_usage", "print_plan"]

_PATIENCE = 2.0
"""Seconds for reading what other processes use, which is only shown."""


async def _read_usage(name: str, cloud: OpenClient) -> LimitView:
    """Return what all processes use of the limit of a call."""
    view = await read_account_in(cloud.settings)
    unused = LimitView(cloud.bms.limits[name].limit or sys.maxsize, (), 0.0, ())
    found = view.limits.get(name, unused)
    return found._replace(blocked_for=max(found.blocked_for, view.closed_for))


async def note_usage(action: str, cloud: OpenClient, *, operation: str | None = None) -> None:
    """Have the progress show what other processes use already, before the run has asked for anything.

    Args:
        action: What is done, in a word, such as ``stop``.
        cloud: The client.
        operation: The call that does it; by default the action of ``servers``.
    """
    name = operation or f"servers.{action}"
    limiter = cloud.bms.limits[name]
    if not isinstance(limiter, SharedLimiter):
        return
    # While the store does not answer, the run itself waits for it, and says so.
    with suppress(BmsError), anyio.move_on_after(_PATIENCE):
        limiter.note_others((await _read_usage(name, cloud)).spent)


async def print_plan(
    action: str,
    cloud: OpenClient,
    servers: int,
    *,
    wave: int | None,
    batch: int,
    output: OutputOptions,
    operation: str | None = None,
    note: str = "",
    calls: int | None = None,
) -> None:
    """Print how many calls a run takes, and for how long the limit makes it last.

    Args:
        action: What would be done, in a word, such as ``stop``.
        cloud: The client.
        servers: The number of servers.
        wave: How many servers are under way at once; None for any number.
        batch: How many servers one call takes at most.
        output: The form of the plan as a record; the usual one is text for people.
        operation: The call that would do it; by default the action of ``servers``.
        note: What else there is to say for people, a line.
        calls: How many calls there are, where a server takes more than one.
    """
    name = operation or f"servers.{action}"
    usage, limit = await _read_usage(name, cloud), cloud.bms.limits[name].limit
    calls, used = -(-servers // batch) if calls is None else calls, len(usage.spent)
    capacity = None if limit is None else usage.capacity
    least = time_of_last_call(calls, spent=usage.spent, capacity=capacity, blocked=usage.blocked_for)
    if not output.is_default:
        plan: dict[str, object] = {"type": "plan", "action": name, "servers": servers}
        plan |= {"wave": wave, "calls": calls, "limit": limit, "used": used, "least_seconds": round(least, 1)}
        write_record(plan, output)
        return
    write(
        f"would {action} {pluralize(servers, 'server')} of {cloud.where}: "
        f"{pluralize(calls, 'call')}{f' of {batch:,} servers at most' if batch > 1 else ''}\n"
        f"{_limits(limit, used)}; the last call can be sent "
        f"after {duration(least)} at the earliest, and then the servers take their time\n"
        f"{note}"
        "nothing was changed\n"
    )


def _limits(limit: int | None, used: int) -> str:
    if limit is None:
        return "no limit is documented for these calls"
    return f"the limit is {limit} calls a minute, of which {used} are used now"
