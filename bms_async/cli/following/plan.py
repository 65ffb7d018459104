"""What a command would do to servers, and what other processes use of its limit."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

import anyio

from bms_async import BmsError
from bms_async.cli.access.account_usage import LimitView, read_account_in
from bms_async.cli.access.whoami import read_place
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.output import folded, write_aside
from bms_async.cli.terminal.texts import duration, pluralize
from bms_async.limits.shared.limiter import SharedLimiter

from .chosen import Chosen, write_planned
from .estimate import time_of_last_call

if TYPE_CHECKING:
    from bms_async.cli.access.cloud import OpenClient
    from bms_async.cli.access.place import Place

__all__ = ["SERVER_TAKES", "more_of", "note_usage", "place_fields", "print_plan"]

SERVER_TAKES = 300.0
"""Seconds that a server takes until it is well, where nobody says."""

_PATIENCE = 2.0
"""Seconds for reading what other processes use, which is only shown."""


async def _read_usage(name: str, cloud: OpenClient) -> LimitView:
    """Return what all processes use of the limit of a call."""
    view = await read_account_in(cloud.settings, cloud.bms)
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
    chosen: Chosen | None = None,
    server_takes: float | None = None,
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
        chosen: What is known of the servers.
        server_takes: Seconds that a server takes until it is done; 0 where nobody can say so.
    """
    name = operation or f"servers.{action}"
    usage, limit = await _read_usage(name, cloud), cloud.bms.limits[name].limit
    calls, used = -(-servers // batch) if calls is None else calls, len(usage.spent)
    capacity = None if limit is None else usage.capacity
    least = time_of_last_call(calls, spent=usage.spent, capacity=capacity, blocked=usage.blocked_for)
    takes = SERVER_TAKES if server_takes is None else server_takes
    seconds = max(least + takes, -(-servers // wave) * takes if wave else 0.0) if servers and takes else 0.0
    place = await read_place(cloud)
    if not output.is_default:
        plan: dict[str, object] = {"type": "plan", "action": name, "servers": servers}
        plan |= {"wave": wave, "calls": calls, "limit": limit, "used": used, "least_seconds": round(least, 1)}
        if seconds and (wave or server_takes):
            plan |= {"server_takes": takes, "seconds": round(seconds, 1)}
        await write_planned(plan | place_fields(place), cloud, chosen, output)
        return
    time = _time(least, seconds, takes, wave=wave, is_given=bool(server_takes))
    of_many = f" of {batch:,} servers at most" if batch > 1 else ""
    lines = [
        f"would {action} {pluralize(servers, 'server')} of {place.brief}: {pluralize(calls, 'call')}{of_many}",
        *more_of(place),
        *(() if chosen is None else chosen.lines),
        f"{_limits(limit, used)}; {time}",
    ]
    await write_aside(folded("\n".join(lines)) + f"\n{folded(note)}nothing was changed\n")


def more_of(place: Place) -> Sequence[str]:
    """Return a line with what a place in brief leaves out, if there is more."""
    return (str(place),) if str(place) != place.brief else ()


def place_fields(place: Place) -> dict[str, object]:
    """Return where a plan is for, in JSON."""
    fields: dict[str, object] = {"cloud": place.cloud, "project": place.project_id}
    return fields | {"project_name": place.project_name, "endpoint": place.endpoint, "user": place.user}


def _time(least: float, seconds: float, takes: float, *, wave: int | None, is_given: bool) -> str:
    if not seconds or (wave is None and not is_given):
        sent = "all calls can be sent at once" if least < 1 else f"the last call can be sent after {duration(least)}"
        return f"{sent}{'' if least < 1 else ' at the earliest'}, and then the servers take their time"
    at_once = "" if wave is None else f" with at most {pluralize(wave, 'server')} under way"
    asks = "" if is_given else ", which --server-takes changes"
    return f"it takes about {duration(seconds)}{at_once}, if one server takes {duration(takes)}{asks}"


def _limits(limit: int | None, used: int) -> str:
    if limit is None:
        return "no limit is documented for these calls"
    return f"the limit is {limit} calls a minute, of which {used} are used now"
