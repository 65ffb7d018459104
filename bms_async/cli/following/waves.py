"""What a rollout would do, and when."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime, tzinfo
from typing import TYPE_CHECKING, Literal

from bms_async import PlannedWave, Rollout, RolloutPlan, Server
from bms_async.cli.access.whoami import read_place
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.output import folded, write_aside
from bms_async.cli.terminal.texts import duration, pluralize, strip_control_chars
from bms_async.errors.fleet import shown_group

from .chosen import Chosen, write_planned
from .plan import SERVER_TAKES, more_of, place_fields, print_plan

if TYPE_CHECKING:
    from bms_async.cli.access.cloud import OpenClient

__all__ = ["print_whole_plan"]

_MAX_NAMED = 3


async def print_whole_plan(
    action: Literal["start", "stop", "reboot"],
    cloud: OpenClient,
    servers: Iterable[str | Server],
    count: int,
    *,
    rollout: Rollout | None,
    wave: int | None,
    batch: int,
    server_takes: float | None,
    output: OutputOptions,
    chosen: Chosen,
    note: str | None = None,
) -> None:
    """Print what a run would do: the waves of a rollout, or else how many calls there are.

    Args:
        action: What it does.
        cloud: The client.
        servers: The servers.
        count: How many there are.
        rollout: How they are walked through; None for all at once.
        wave: How many may be under way at once.
        batch: How many servers a call has where there is no rollout.
        server_takes: Seconds that a server takes until it is well.
        output: The form.
        chosen: What is known of the servers.
        note: What bounds the run, for people.
    """
    if rollout is not None:
        await _print_waves(
            action,
            cloud,
            servers,
            rollout,
            wave=wave,
            server_takes=server_takes,
            output=output,
            chosen=chosen,
            note=note,
        )
        return
    await print_plan(
        action,
        cloud,
        count,
        wave=wave,
        batch=batch,
        output=output,
        note=f"{note}\n" if note else "",
        chosen=chosen,
        server_takes=server_takes,
    )


async def _print_waves(
    action: Literal["start", "stop", "reboot"],
    cloud: OpenClient,
    servers: Iterable[str | Server],
    rollout: Rollout,
    *,
    wave: int | None,
    server_takes: float | None,
    output: OutputOptions,
    chosen: Chosen,
    note: str | None = None,
) -> None:
    """Print which waves a rollout has, and when its end is to be expected.

    Args:
        action: What is to be done to the servers.
        cloud: The client.
        servers: The servers.
        rollout: The rollout.
        wave: How many servers may be in flight at once.
        server_takes: Seconds that a server takes until it is well.
        output: The form of the plan as a record; the usual one is text for people.
        chosen: What is known of the servers.
        note: What else there is to say for people; None for nothing.

    Raises:
        InvalidRequestError: The group of a server cannot be found out.
        CallError: The servers could not be read.
    """
    takes = server_takes or SERVER_TAKES
    plan = await cloud.bms.fleet.plan(servers, rollout, seconds_each=takes, action=action, wave_size=wave)
    place = await read_place(cloud)
    if not output.is_default:
        fields: dict[str, object] = {
            "type": "plan",
            "action": f"servers.{action}",
            "limit": cloud.bms.limits[f"servers.{action}"].limit,
        }
        fields |= _describe(plan) | {"server_takes": takes} | place_fields(place)
        await write_planned(fields, cloud, chosen, output)
        return
    zone = None if rollout.window is None else rollout.window.tzinfo
    groups = f" in {pluralize(plan.groups, 'group')}" if rollout.group_by is not None else ""
    head = (
        f"would {action} {pluralize(plan.servers, 'server')}{groups} of {place.brief}: {pluralize(plan.calls, 'call')}"
    )
    assumed = f"if each server takes {duration(takes)} until it is well (--server-takes)"
    lines = [f"{head} in {pluralize(plan.waves, 'wave')}, {assumed}", *more_of(place), *chosen.lines]
    lines += [] if note is None else [note]
    lines += [_line(wave, zone, names_groups=bool(groups)) for wave in plan.first_waves]
    if plan.waves > len(plan.first_waves):
        lines.append(f"  and {pluralize(plan.waves - len(plan.first_waves), 'wave')} more")
    if plan.skipped:
        lines.append(f"{pluralize(plan.skipped, 'server')} would be skipped: the cloud does not show them")
    if plan.ends is not None:
        lines.append(f"the end is expected at {_time(plan.ends, zone)}")
    elif plan.servers:
        lines.append("the end is more than a year away; allow more at once, or a wider window")
    await write_aside(folded("\n".join([*lines, "nothing was changed"])) + "\n")


def _line(wave: PlannedWave, zone: tzinfo | None, *, names_groups: bool) -> str:
    what = f"{wave.servers:>9,} {'canar' if wave.is_canary else 'server'}"
    many = ("y" if wave.servers == 1 else "ies") if wave.is_canary else "" if wave.servers == 1 else "s"
    calls = "" if wave.calls == 1 else f" in {wave.calls} calls"
    groups = ""
    if names_groups:
        named = ", ".join(shown_group(strip_control_chars(name)) for name in wave.first_groups[:_MAX_NAMED])
        groups = f" of {named}" if wave.groups <= _MAX_NAMED else f" of {pluralize(wave.groups, 'group')}: {named}, ..."
    return f"  {_time(wave.begins, zone)}  {what}{many}{calls}{groups}"


def _time(at: datetime, zone: tzinfo | None) -> str:
    # Without a zone it is that of this machine.
    return f"{at.astimezone(zone):%a %Y-%m-%d %H:%M %Z}"


def _describe(plan: RolloutPlan) -> dict[str, object]:
    return {
        "servers": plan.servers,
        "skipped": plan.skipped,
        "groups": plan.groups,
        "calls": plan.calls,
        "wave": plan.wave_size,
        "waves": plan.waves,
        "first_waves": [
            {
                "begins": wave.begins.isoformat(),
                "servers": wave.servers,
                "calls": wave.calls,
                "groups": wave.groups,
                "first_groups": list(wave.first_groups),
                "canary": wave.is_canary,
            }
            for wave in plan.first_waves
        ],
        "begins": None if plan.begins is None else plan.begins.isoformat(),
        "ends": None if plan.ends is None else plan.ends.isoformat(),
        "left": plan.left,
    }
