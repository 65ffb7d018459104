"""Runs over a plain OpenStack cloud, and servers instead of ids, drawn into a scenario that has none."""

from __future__ import annotations

from random import Random

import msgspec

from tests.simulation.draw_walks import WalkDraw
from tests.simulation.scenario import Action, Consumer, Mishap, Options, RunFleet, Scenario

_SHARE = 0.15
_AS_SERVERS_SHARE = 0.1
_DURABLE_SHARE = 0.4
_SOON = 30
"""How many minutes its window may be closed."""
_FEW = 30
"""How many servers a durable rollout may have: each of its looks at the journal costs something."""
_ACTIONS: tuple[Action, ...] = ("start", "stop", "reboot", "reboot")


def with_natives(scenario: Scenario, random: Random) -> Scenario:
    """Add a run over servers of a plain OpenStack cloud to some scenarios, and hand servers to some runs.

    Args:
        scenario: What was drawn before.
        random: What these are drawn from.
    """
    draw = _Draw(random, scenario)
    if 1.0 - draw.random.random() < _SHARE:
        scenario = draw.with_native(scenario)
    had_walks = _has_walks(scenario)
    rolled = [draw.rolled_durably(deed) if isinstance(deed, RunFleet) else deed for deed in scenario.deeds]
    deeds = tuple(draw.handed(deed) if isinstance(deed, RunFleet) else deed for deed in rolled)
    scenario = msgspec.structs.replace(scenario, deeds=deeds)
    return draw.with_machines(scenario) if _has_walks(scenario) and not had_walks else scenario


def _has_walks(scenario: Scenario) -> bool:
    return any(isinstance(deed, RunFleet) and deed.walk is not None for deed in scenario.deeds)


class _Draw(WalkDraw):
    def handed(self, deed: RunFleet) -> RunFleet:
        """Return a run whose source may give servers."""
        is_so = 1.0 - self.random.random() < _AS_SERVERS_SHARE
        return msgspec.structs.replace(deed, as_servers=True) if is_so and deed.durable is None else deed

    def rolled_durably(self, deed: RunFleet) -> RunFleet:
        """Return a durable run with a rollout, for some; its check is one that any process can call."""
        if deed.durable is None or deed.count > _FEW or self._endless or not self.chance(_DURABLE_SHARE):
            return deed
        walk = self.walk(deed)
        # No port says that a server is off; and hours of a closed window would be hours of looks at the journal.
        soon = walk.hours if walk.hours and walk.hours[-1][0] - walk.hours[0][0] <= _SOON else ()
        walk = msgspec.structs.replace(walk, ready=walk.ready and deed.action != "stop", hours=soon)
        return msgspec.structs.replace(deed, walk=walk)

    def with_native(self, scenario: Scenario) -> Scenario:
        """Add a run over servers of its own, or over some of another's."""
        count = self.number(1, 10) if self.chance(0.7) else self.number(10, 40)
        shares = self.shares()
        # What is deleted, or in ERROR, is not what others expect of their servers.
        shared = self.chance(0.15) and not (shares["native_vanish_share"] or shares["native_error_share"])
        first = self.number(0, scenario.servers - 1) if shared else scenario.servers
        run = self.run(first, count)
        had_walks = _has_walks(scenario)
        limits = {**scenario.limits, run.operation: self.number(3, 40)} if scenario.limits else {}
        scenario = msgspec.structs.replace(
            scenario,
            servers=max(scenario.servers, first + count),
            limits=limits,
            deeds=tuple(sorted((*scenario.deeds, run), key=lambda deed: deed.at)),
            mishaps=(*scenario.mishaps, *self.native_mishaps(run.operation)),
            **shares,
        )
        return self.with_machines(scenario) if run.walk is not None and not had_walks else scenario

    def shares(self) -> dict[str, float]:
        """Return how often what goes wrong with native actions."""
        none = (0.0, 0.0, 0.0)
        return {
            "native_error_share": self.random.choice((*none, 0.1, 0.4)),
            "native_ignored_share": self.random.choice((*none, 0.1, 0.3)),
            "native_slow_share": self.random.choice((*none, 0.1, 0.5)),
            "native_vanish_share": self.random.choice((*none, 0.1, 0.3)),
        }

    def run(self, first: int, count: int) -> RunFleet:
        """Return a native run, with a rollout or without."""
        run = RunFleet(
            at=0.0 if self.chance(0.3) else self.seconds(0, 60),
            action=self.random.choice(_ACTIONS),
            native=True,
            first=first,
            count=count,
            source=self.random.choice(("list", "list", "iterator", "slow")),
            odd=self.random.choice((0, 0, 2)),
            unknown=self.random.choice((0, 0, 0, 1)),
            cancel_after=self.seconds(0, 40) if self.chance(0.15) else None,
            let_go=self.chance(0.5),
            consumers=(Consumer(self.random.choice(("await", "iterate"))),),
            spelling=self.random.choice(("plain", "plain", "capitals", "both")),
            options=Options(
                wave_size=self.number(1, 2 * count) if self.chance(0.2) else None,
                abort_above=self.random.choice((0.1, 0.5)) if self.chance(0.1) else None,
                retry_transient=self.chance(0.7),
                on_outcome=self.random.choice((None, None, "sync", "async")),
                total_timeout=self.seconds(1, 300) if self.chance(0.1) else None,
            ),
            foreign=self.foreign("on_outcome", "source") if self.chance(0.1) else None,
        )
        return self.walked(run)

    def native_mishaps(self, operation: str) -> tuple[Mishap, ...]:
        """Return what goes wrong with its calls, and with the readings of states."""
        return tuple(
            Mishap(
                self.random.choice((operation, operation, "nova.servers.list_details", "nova.servers.get")),
                self.number(1, 8),
                self.random.choice((1, 1, 2, 5)),
                self.trouble(),
            )
            for _ in range(self.random.choice((0, 1, 2, 3)))
        )
