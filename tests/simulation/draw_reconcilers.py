"""Reconcilers, drawn into a scenario that has none."""

from __future__ import annotations

from random import Random
from typing import Literal

import msgspec

from tests.simulation.dice import Dice
from tests.simulation.scenario import Close, Mishap, Scenario, Slow
from tests.simulation.wants import Drifted, Loss, Reconcile, Want, Wish

_SHARE = 0.15
_ALONE_SHARE = 0.7
_DURABLE_SHARE, _ROLLOUT_SHARE = 0.25, 0.15
_MAX_WAVES = 6
_OPERATIONS = ("servers.start", "servers.stop", "servers.list", "jobs.get")
_STATUSES: tuple[Literal["ACTIVE", "SHUTOFF"], ...] = ("ACTIVE", "SHUTOFF")


def with_reconcilers(scenario: Scenario, random: Random) -> Scenario:
    """Add a reconciler over servers of its own to some scenarios, most of which have nothing else then.

    Args:
        scenario: What was drawn before.
        random: What these are drawn from.
    """
    draw = _Draw(random)
    if 1.0 - draw.random.random() >= _SHARE:
        return scenario
    if draw.chance(_ALONE_SHARE):
        scenario = draw.emptied(scenario)
    return draw.with_reconciler(scenario)


def draw_reconciler(seed: int) -> Scenario:
    """Draw a scenario with a reconciler and nothing else, in which no call fails.

    Args:
        seed: What it is drawn from.
    """
    draw = _Draw(Random(f"a reconciler {seed}"))
    low = draw.seconds(0.1, 4)
    scenario = Scenario(
        seed=seed,
        stopped_share=draw.random.choice((0.0, 0.3, 1.0)),
        job_seconds=(low, low + draw.seconds(0, 20)),
        latency=draw.random.choice(((0.0, 0.0), (0.02, 0.3))),
        mishaps=tuple(draw.slow_readings()),
    )
    return draw.with_reconciler(scenario)


class _Draw(Dice):
    def emptied(self, scenario: Scenario) -> Scenario:
        """Leave nothing but the cloud and the network."""
        has_mishaps = self.chance(0.5)
        return msgspec.structs.replace(
            scenario,
            servers=self.number(0, 5),
            deeds=(Close(self.seconds(0, 150)),) if self.chance(0.15) else (),
            workers=0,
            deaths=(),
            limits=scenario.limits if self.chance(0.3) else {},
            latency=self.random.choice(((0.0, 0.0), (0.02, 0.3), (0.02, 0.3), scenario.latency)),
            stuck_share=0.0,
            stillborn_share=0.0,
            job_kept_seconds=None,
            foreign=scenario.foreign if self.chance(0.3) else (),
            mishaps=tuple(self.mishaps()) if has_mishaps else tuple(self.slow_readings()),
            state_lag=self.random.choice((0.0, 0.0, 3.0, 8.0)),
        )

    def mishaps(self) -> list[Mishap]:
        return [
            Mishap(self.random.choice(_OPERATIONS), self.number(1, 8), self.random.choice((1, 1, 2)), self.trouble())
            for _ in range(self.random.choice((1, 2, 4)))
        ]

    def slow_readings(self) -> list[Mishap]:
        """Draw readings whose answers come when more has happened."""
        return [
            Mishap("servers.list", self.number(1, 10), 1, Slow(back=self.seconds(2, 30)))
            for _ in range(self.random.choice((0, 0, 1, 3)))
        ]

    def with_reconciler(self, scenario: Scenario) -> Scenario:
        wanted = self.number(1, 10) if self.chance(0.8) else self.number(10, 50)
        count = wanted + self.number(0, 3)
        wave = max(self.random.choice((1, 3, 200)), -(wanted // -_MAX_WAVES))
        base = self.random.choice((2.0, 10.0))
        deed = Reconcile(
            at=0.0 if self.chance(0.5) else self.seconds(0, 30),
            first=scenario.servers,
            count=count,
            wanted=wanted,
            resync=self.random.choice((5.0, 15.0, 30.0)),
            backoff=(base, base * self.random.choice((1, 4))),
            wave_size=wave,
            wants=tuple(sorted(self.wants(wanted), key=lambda want: want.after)),
            drifts=tuple(self.drifts(count)),
            restarts=self.restarts(),
            wishes=tuple(self.wishes(wanted)) if self.chance(0.2) else (),
            stays=self.random.choice((0.0, 20.0, 70.0)),
        )
        if self.chance(_ROLLOUT_SHARE):
            deed = msgspec.structs.replace(deed, room=max(self.random.choice((1, 2)), -(wanted // -_MAX_WAVES)))
        # Each client has a token of its own.
        if scenario.auth != "password" and not scenario.foreign and self.chance(_DURABLE_SHARE):
            deed = self.durable(deed)
        deeds = tuple(sorted((*scenario.deeds, deed), key=lambda deed: deed.at))
        return msgspec.structs.replace(scenario, servers=scenario.servers + count, deeds=deeds)

    def durable(self, deed: Reconcile) -> Reconcile:
        """Have replicas keep the same states by a journal, and lose some of them."""
        replicas = self.random.choice((1, 2, 2, 3))
        losses = [
            Loss(
                self.seconds(0, 60),
                self.number(0, replicas - 1),
                self.random.choice(("killed", "killed", "closed", "stalls")),
                self.random.choice((1.0, 8.0, 25.0)),
            )
            for _ in range(self.random.choice((0, 1, 1, 2)))
        ]
        losses.sort(key=lambda loss: loss.after)
        return msgspec.structs.replace(deed, replicas=replicas, losses=tuple(losses), restarts=(), wishes=())

    def wants(self, wanted: int) -> list[Want]:
        split = self.number(0, wanted)
        first = self.random.choice(_STATUSES)
        other = _STATUSES[1 - _STATUSES.index(first)]
        found = [Want(0.0, first, 0, split), Want(0.0, other, split, wanted - split)]
        for _ in range(self.random.choice((0, 0, 1, 3))):
            place = self.number(0, wanted - 1)
            found.append(
                Want(
                    self.seconds(0, 120),
                    self.random.choice((*_STATUSES, *_STATUSES, None)),
                    place,
                    self.number(1, wanted - place),
                    replace=self.chance(0.2),
                )
            )
        return found

    def drifts(self, count: int) -> list[Drifted]:
        found = []
        for _ in range(self.random.choice((0, 0, count // 2, 2 * count))):
            after, server = self.seconds(0, 150), self.number(0, count - 1)
            seconds = self.seconds(1, 40) if self.chance(0.3) else 0.0
            if self.chance(0.1):
                found.append(Drifted(after, server, "ERROR", seconds))
                after += seconds + self.seconds(0, 60)
            found.append(Drifted(after, server, self.random.choice(_STATUSES), seconds))
        return sorted(found, key=lambda drift: drift.after)

    def restarts(self) -> tuple[tuple[float, float], ...]:
        if not self.chance(0.25):
            return ()
        first = self.seconds(0, 60)
        gap = self.random.choice((0.0, 5.0, 30.0))
        return ((first, gap),) if self.chance(0.7) else ((first, gap), (first + gap + self.seconds(1, 40), 0.0))

    def wishes(self, wanted: int) -> list[Wish]:
        actions: tuple[Literal["start", "stop", "reboot"], ...] = ("start", "stop", "reboot")
        found = [
            Wish(self.seconds(0, 120), self.number(0, wanted - 1), self.random.choice(actions))
            for _ in range(self.number(1, wanted))
        ]
        return sorted(found, key=lambda wish: wish.after)
