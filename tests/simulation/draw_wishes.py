"""Wishes for single servers, drawn into a scenario that has none."""

from __future__ import annotations

from random import Random

import msgspec

from tests.simulation.dice import Dice
from tests.simulation.scenario import Action, Mishap, Scenario
from tests.simulation.wants import Wish, WishMany

_SHARE = 0.15
_ACTIONS: tuple[Action, ...] = ("start", "stop", "stop", "reboot")


def with_wishes(scenario: Scenario, random: Random) -> Scenario:
    """Add tasks that wish something for servers of their own to some scenarios.

    Args:
        scenario: What was drawn before.
        random: What these are drawn from.
    """
    draw = _Draw(random)
    return draw.with_wishes(scenario) if 1.0 - draw.random.random() < _SHARE else scenario


def draw_wishes(seed: int) -> Scenario:
    """Draw a scenario with wishes and nothing else.

    Args:
        seed: What it is drawn from.
    """
    draw = _Draw(Random(f"wishes alone {seed}"))
    scenario = Scenario(seed=seed, stopped_share=0.3, latency=draw.random.choice(((0.0, 0.0), (0.02, 0.3))))
    return draw.with_wishes(scenario)


class _Draw(Dice):
    def with_wishes(self, scenario: Scenario) -> Scenario:
        count = self.number(1, 12) if self.chance(0.8) else self.number(12, 60)
        actions = self.random.choice((_ACTIONS, ("stop", "start"), ("reboot",)))
        burst = self.random.choice((0.0, 0.2, 5.0, 60.0))
        wishes = [
            Wish(
                self.seconds(0, burst),
                self.number(0, count - 1),
                self.random.choice(actions),
                self.random.choice((0.0, 0.02, 0.06, self.seconds(0, 30))) if self.chance(0.3) else None,
                self.chance(0.1),
            )
            for _ in range(self.number(count, 3 * count))
        ]
        deed = WishMany(
            self.seconds(0, 40), scenario.servers, count, tuple(sorted(wishes, key=lambda wish: wish.after))
        )
        mishaps = tuple(
            Mishap(f"servers.{self.random.choice(actions)}", self.number(1, 6), 1, self.trouble())
            for _ in range(self.random.choice((0, 0, 1, 2)))
        )
        return msgspec.structs.replace(
            scenario,
            servers=scenario.servers + count,
            wish_window=self.random.choice((0.05, 0.05, 0.0, 1.0)),
            deeds=tuple(sorted((*scenario.deeds, deed), key=lambda deed: deed.at)),
            mishaps=(*scenario.mishaps, *mishaps),
        )
