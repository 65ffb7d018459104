"""Rollouts, pauses, and calls for each server, drawn into a scenario that has none."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec

from tests.simulation.dice import Dice
from tests.simulation.scenario import Consumer, Foreign, Mishap, Options, RunFleet, Scenario, SingleCall
from tests.simulation.walk import Walk

_FEW = 60
_WALKED_SHARE = 0.25
_EACH_SHARE = 0.15
_SERIAL = 15
"""How many servers may go one after the other: each takes its minute or two of virtual time."""
_ENDLESS = 20
_CALLS: tuple[SingleCall, ...] = ("rename", "tag", "reinstall")
_LIMITS = {"rename": "servers.rename", "tag": "nova.tags.add", "reinstall": "servers.reinstall_os"}
_ZONE = "Europe/Berlin"


def with_walks(scenario: Scenario, random: Random) -> Scenario:
    """Add rollouts to runs, pauses, and runs that make a call for each of some servers of their own.

    Args:
        scenario: What was drawn before.
        random: What these are drawn from.
    """
    draw = WalkDraw(random, scenario)
    if draw.chance(_EACH_SHARE):
        scenario = draw.with_each(scenario)
    deeds = tuple(draw.walked(deed) if isinstance(deed, RunFleet) else deed for deed in scenario.deeds)
    scenario = msgspec.structs.replace(scenario, deeds=deeds)
    return draw.with_machines(scenario) if any(map(_walk_of, deeds)) else scenario


def _walk_of(deed: object) -> Walk | None:
    return deed.walk if isinstance(deed, RunFleet) else None


class WalkDraw(Dice):
    """Draws rollouts.

    Args:
        random: What they are drawn from.
        scenario: What they are drawn for.
    """

    def __init__(self, random: Random, scenario: Scenario) -> None:
        super().__init__(random)
        # Where each server may take an hour, few may go one after the other; and where it never ends, none.
        self._endless = any(mishap.count > _ENDLESS for mishap in scenario.mishaps)
        self._slow = scenario.stuck_share > 0 or scenario.latency[1] > scenario.timeout
        self._epoch: datetime | None = scenario.epoch

    def with_each(self, scenario: Scenario) -> Scenario:
        call = self.random.choice(_CALLS)
        count = self.number(1, 12) if self.chance(0.6) else self.number(12, 40)
        run = RunFleet(
            at=0.0 if self.chance(0.3) else self.seconds(0, 60),
            action=call,
            first=scenario.servers,
            count=count,
            source=self.random.choice(("list", "list", "iterator")),
            odd=self.random.choice((0, 0, 2)),
            unknown=self.random.choice((0, 0, 1)),
            cancel_after=self.seconds(0, 40) if self.chance(0.15) else None,
            let_go=self.chance(0.5),
            consumers=(Consumer(self.random.choice(("await", "iterate"))),),
            options=Options(
                wave_size=self.number(1, 2 * count) if self.chance(0.2) else None,
                abort_above=self.random.choice((0.1, 0.5)) if self.chance(0.1) else None,
                retry_transient=self.chance(0.6),
                on_outcome=self.random.choice((None, None, "sync", "async")),
                total_timeout=self.seconds(1, 300) if self.chance(0.1) else None,
            ),
            foreign=self.foreign("call", "call", "on_outcome", "source") if self.chance(0.3) else None,
        )
        operation = _LIMITS[call]
        limits = {**scenario.limits, operation: self.number(3, 30)} if scenario.limits else {}
        mishaps = tuple(
            Mishap(operation, self.number(1, 8), self.random.choice((1, 1, 2, 5)), self.trouble())
            for _ in range(self.random.choice((0, 1, 2, 3)))
        )
        return msgspec.structs.replace(
            scenario,
            servers=scenario.servers + count,
            limits=limits,
            # Only a server that is off can be reinstalled.
            stopped_share=max(scenario.stopped_share, 0.6) if call == "reinstall" else scenario.stopped_share,
            deeds=tuple(sorted((*scenario.deeds, run), key=lambda deed: deed.at)),
            mishaps=(*scenario.mishaps, *mishaps),
        )

    def walked(self, deed: RunFleet) -> RunFleet:
        if deed.durable is not None:
            return deed
        if self.chance(0.2):
            pauses: tuple[tuple[float, float], ...] = ((self.seconds(0, 20), self.random.choice((5.0, 30.0, 90.0))),)
            if self.chance(0.3):
                pauses += ((pauses[0][0] + pauses[0][1] + self.seconds(1, 30), self.seconds(1, 40)),)
            deed = msgspec.structs.replace(deed, pauses=pauses)
        if deed.count > _FEW or self._endless or not self.chance(0.5 if deed.is_each else _WALKED_SHARE):
            return deed
        walk = self.walk(deed)
        foreign = deed.foreign
        if foreign is None and self.chance(0.15):
            asked = [
                name for name in ("ready", "order_by") if getattr(walk, name)
            ] + ["group_by"] * (walk.group is not None)  # fmt: skip
            foreign = self.foreign(*asked) if asked else None
        options = deed.options
        if options.verify and self.chance(0.7):
            options = msgspec.structs.replace(options, verify=False)
        return msgspec.structs.replace(deed, walk=walk, foreign=foreign, options=options)

    def walk(self, deed: RunFleet) -> Walk:
        groupings: tuple[Literal["rack", "zone", "flavor"] | None, ...] = (None, "rack", "rack", "zone", "flavor")
        group = self.random.choice(groupings)
        few = self.random.choice((1, 1, 2, 0.1, 0.29, 0.5, None))
        groups = self.random.choice((None, None, 1, 2))
        canary = self.random.choice((0, 0, 0, 1, 2, 5))
        if self._slow or deed.count > _SERIAL:
            groups = None
            few = self.random.choice((0.5, None)) if self._slow or group is None else few
        return Walk(
            canary=canary,
            group=group,
            max_unavailable=few,
            max_groups=groups,
            ready=self.chance(0.65) or deed.action == "reinstall",
            ready_timeout=self.random.choice((20.0, 60.0, 300.0)),
            settle=self.random.choice((0.0, 0.0, 5.0, 30.0)),
            hours=self.hours() if self.chance(0.25) else (),
            order_by=self.chance(0.2),
        )

    def hours(self) -> tuple[tuple[int, int], ...]:
        """Some short openings, and one that lasts; the clock may be put forward between them."""
        if self._epoch is None:
            day = self.random.choice((datetime(2024, 3, 31, tzinfo=UTC), datetime(2024, 1, 15, tzinfo=UTC)))
            self._epoch = day + timedelta(minutes=self.number(20, 70))
        at = self.random.choice((-5, 1, 2, 3))
        found = []
        for _ in range(self.random.choice((1, 1, 2, 3))):
            found.append((at, at + self.number(1, 4)))
            at = found[-1][1] + self.number(2, 6)
        # Who reads the hours by another zone's clock begins within this.
        found.append((found[-1][1] + 150, 20 * 60) if self.chance(0.6) else (at, 20 * 60))
        shown = tuple((self._minute(opens), self._minute(closes)) for opens, closes in found)
        return tuple(hours for hours in shown if hours[0] < hours[1])

    def _minute(self, after: int) -> int:
        """What the local clock shows so many minutes after the beginning, in minutes of the day."""
        assert self._epoch is not None
        local = (self._epoch + timedelta(minutes=after)).astimezone(ZoneInfo(_ZONE))
        return local.hour * 60 + local.minute

    def with_machines(self, scenario: Scenario) -> Scenario:
        """Have the servers boot, and stand in small racks."""
        return msgspec.structs.replace(
            scenario,
            rack_size=self.number(2, 10),
            boot_seconds=self.random.choice(((0.0, 0.0), (1.0, 10.0), (5.0, 40.0))),
            never_back_share=self.random.choice((0.0, 0.0, 0.05, 0.3)),
            epoch=self._epoch,
        )

    def foreign(self, *where: str) -> Foreign:
        return msgspec.convert(
            {
                "where": self.random.choice(where),
                "raised": self.random.choice(("cancelled", "exit", "error")),
                "nth": self.number(1, 6),
                "every": self.random.choice((0, 0, 1, 5)),
            },
            Foreign,
        )
