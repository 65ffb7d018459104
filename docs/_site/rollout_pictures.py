"""The pictures of rollouts, ``docs/assets/rollout-*.svg``, drawn from runs against the simulated cloud.

What a picture shows has happened: its runs are carried out on the virtual clock, and when a server was away is what the
cloud has noted, not what the run thinks.

::

    python -m docs._site.rollout_pictures            # draw them anew
    python -m docs._site.rollout_pictures --check    # end with 1 when one is stale
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

import anyio
import msgspec

from bms_async import FleetReport, NotReadyError, OutcomeState, Rollout
from bms_async.testing import CloudSettings, SimulatedCloud, run_virtually
from docs._site.generated import update

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "docs" / "assets"

COMMAND = "python -m docs._site.rollout_pictures"

SETTINGS = CloudSettings(servers=24, rack_size=8, seed=3, job_seconds=(40.0, 70.0), boot_seconds=(60.0, 120.0))

_LEFT = 70
_RIGHT = 20
_TOP = 44
_WIDTH = 760
_ROW = 9
_BETWEEN = 12
_LEGEND_GAP = 45
_LETTER = 6
_MAX_MARKS = 12
_STYLE = (
    "text { font: 12px sans-serif; fill: #1c2b2a; } .words { font-size: 11px; fill: #51605f; }"
    " .line { stroke: #c3cfcd; } .away { fill: #00796b; } .canary { fill: #c77700; } .settle { fill: #a8d5ce; }"
    " .lost { fill: #c62828; } .skipped { fill: #c3cfcd; } .closed { fill: #9aa5a4; opacity: 0.25; }"
    " @media (prefers-color-scheme: dark) { text { fill: #e3ecea; } .words { fill: #a9b8b6; }"
    " .line { stroke: #3c4a48; } .away { fill: #4db6ac; } .canary { fill: #ffb74d; } .settle { fill: #24574f; }"
    " .lost { fill: #ef5350; } .skipped { fill: #3c4a48; } }"
)
_LEGEND: Mapping[str, str] = {
    "canary": "a canary, away",
    "away": "away",
    "settle": "settles",
    "lost": "lost: not ready in time",
    "skipped": "skipped",
}


class Stretch(NamedTuple):
    """A stretch of a server's lane.

    Attributes:
        kind: What it is, a key of the legend.
        start: Seconds from the beginning of the run.
        end: Likewise; infinity for the end of the run.
    """

    kind: str
    start: float
    end: float


class Told(NamedTuple):
    """What a picture shows.

    Attributes:
        title: What it is.
        lanes: The stretches of each server, by its group and its id.
        closed: When nothing could begin, with the reason.
        seconds: How long the run took.
    """

    title: str
    lanes: Mapping[str, Mapping[str, Sequence[Stretch]]]
    closed: Sequence[tuple[float, float, str]]
    seconds: float


async def roll(
    title: str, rollout: Rollout, *, hanging: Sequence[int] = (), pause: tuple[float, float] | None = None
) -> Told:
    """Reboot the racks of a simulated cloud, and return what has happened.

    Args:
        title: What the picture is.
        rollout: The rollout, without a check.
        hanging: The numbers of the servers that never come back.
        pause: When the run is paused and when it goes on, in seconds from its beginning.
    """
    cloud = SimulatedCloud(SETTINGS)
    async with cloud.client() as bms:
        servers = [server async for server in bms.servers.list()]
        racks = {server.id: next(tag for tag in server.tags if tag.startswith("rack-")) for server in servers}
        cloud.hang(*(cloud.ids[number] for number in hanging))
        began = cloud.now()
        run = bms.fleet.reboot(servers, rollout=msgspec.structs.replace(rollout, ready=cloud.reachable))
        if pause is not None:
            await anyio.sleep(pause[0])
            run.pause()
            await anyio.sleep(pause[1] - pause[0])
            run.resume()
        report = await run
        seconds = cloud.now() - began
    closed = [] if pause is None else [(*pause, "paused")]
    return Told(title, _lanes(cloud, report, racks, rollout, began), closed, seconds)


def _lanes(
    cloud: SimulatedCloud, report: FleetReport, racks: Mapping[str, str], rollout: Rollout, began: float
) -> dict[str, dict[str, list[Stretch]]]:
    """Return the stretches of each server.

    Args:
        cloud: Knows when which server was away.
        report: When each outcome became known, and what it is.
        racks: The group of each server, in the order in which they were given.
        rollout: The rollout.
        began: When the run began, by the cloud's clock.
    """
    canaries = set(list(racks)[: rollout.canary])
    outcomes = {outcome.server_id: outcome for outcome in report.outcomes}
    lanes: dict[str, dict[str, list[Stretch]]] = {rack: {} for rack in sorted(set(racks.values()))}
    for server_id, rack in racks.items():
        lanes[rack][server_id] = []
    for absence in cloud.availability.absences():
        outcome = outcomes[absence.server_id]
        known = 0.0 if outcome.ended is None else (outcome.ended - report.started).total_seconds()
        stretches = lanes[racks[absence.server_id]][absence.server_id]
        kind = "canary" if absence.server_id in canaries else "away"
        stretches.append(Stretch(kind, absence.asked - began, min(absence.back - began, known)))
        if isinstance(outcome.error, NotReadyError):
            stretches.append(Stretch("lost", known, math.inf))
        else:
            stretches.append(Stretch("settle", absence.back - began, known + rollout.settle))
    for outcome in report.outcomes:
        if outcome.state is OutcomeState.SKIPPED and outcome.ended is not None:
            known = (outcome.ended - report.started).total_seconds()
            lanes[racks[outcome.server_id]][outcome.server_id].append(Stretch("skipped", known, math.inf))
    return lanes


def draw(told: Told) -> str:
    """Return the picture of a run."""
    minutes = math.ceil(told.seconds / 60)
    scale = (_WIDTH - _LEFT - _RIGHT) / (minutes * 60)

    def x(seconds: float) -> int:
        return round(_LEFT + min(seconds, told.seconds) * scale)

    parts: list[str] = []
    top = _TOP
    for group, lanes in told.lanes.items():
        middle = top + len(lanes) * _ROW // 2 + 4
        parts.append(f'<text x="{_LEFT - 10}" y="{middle}" text-anchor="end">{escape(group)}</text>')
        for number, stretches in enumerate(lanes.values()):
            y = top + number * _ROW
            parts.append(f'<line class="line" x1="{_LEFT}" y1="{y + 3}" x2="{x(told.seconds)}" y2="{y + 3}"/>')
            parts += [
                f'<rect class="{each.kind}" x="{x(each.start)}" y="{y}" width="{x(each.end) - x(each.start)}"'
                f' height="{_ROW - 2}"/>'
                for each in stretches
                if x(each.end) > x(each.start)
            ]
        top += len(lanes) * _ROW + _BETWEEN
    bottom = top - _BETWEEN + 4
    for start, end, reason in told.closed:
        parts.append(
            f'<rect class="closed" x="{x(start)}" y="{_TOP - 4}" width="{x(end) - x(start)}"'
            f' height="{bottom - _TOP + 4}"/><text class="words" x="{x((start + end) / 2)}" y="{_TOP - 8}"'
            f' text-anchor="middle">{escape(reason)}</text>'
        )
    every = next(step for step in (1, 2, 5, 10, 20, 50, 100) if minutes / step <= _MAX_MARKS)
    for minute in range(0, minutes + 1, every):
        if minute * 60 <= told.seconds:
            parts.append(
                f'<text class="words" x="{x(minute * 60)}" y="{bottom + 14}" text-anchor="middle">{minute} min</text>'
            )
    kinds = {each.kind for lanes in told.lanes.values() for stretches in lanes.values() for each in stretches}
    left = _LEFT
    for kind, words in _LEGEND.items():
        if kind in kinds:
            parts.append(
                f'<rect class="{kind}" x="{left}" y="8" width="12" height="12"/>'
                f'<text class="words" x="{left + 17}" y="18">{words}</text>'
            )
            left += _LEGEND_GAP + _LETTER * len(words)
    head = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {bottom + 22}" role="img">',
        f"<title>{escape(told.title)}</title>",
        f"<style>{_STYLE}</style>",
    ]
    return "\n".join([*head, *parts, "</svg>", ""])


async def well() -> Told:
    """All is well: two canaries, two servers of a rack at a time, and a pause."""
    rollout = Rollout(canary=2, group_by="tag:rack", max_unavailable=2, settle=30)
    return await roll("A rollout over three racks, with canaries and a pause", rollout, pause=(420.0, 600.0))


async def blocked() -> Told:
    """Two servers of one rack never come back."""
    rollout = Rollout(group_by="tag:rack", max_unavailable=2, ready_timeout=300, settle=30)
    return await roll("A rollout in which two servers of one rack never come back", rollout, hanging=(18, 19))


PICTURES = {"rollout-well.svg": well, "rollout-blocked.svg": blocked}
"""What makes each picture."""


def tell(name: str) -> Told:
    """Return what a picture shows, by its name."""
    return run_virtually(PICTURES[name])


def main(arguments: Sequence[str] | None = None, *, folder: Path = FOLDER) -> int:
    """Draw the pictures, or check those that are there.

    Returns:
        1 if one is stale or missing, otherwise 0.
    """
    parser = argparse.ArgumentParser(prog=COMMAND, description="Draw docs/assets/rollout-*.svg from simulated runs.")
    parser.add_argument("--check", action="store_true", help="change nothing, and end with 1 when one is stale")
    check = parser.parse_args(arguments).check
    drawn = {name: draw(tell(name)) for name in PICTURES}
    return max(update(folder / name, text, check=check, command=COMMAND) for name, text in drawn.items())


if __name__ == "__main__":
    sys.exit(main())
