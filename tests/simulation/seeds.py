"""From a seed to a verdict, and from a scenario that breaks a rule to a smaller one that breaks it too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from tests.simulation.draw import draw_scenario
from tests.simulation.rules import broken_rules
from tests.simulation.scenario import Call, Mishap, RunFleet, Scenario
from tests.simulation.world import play

T = TypeVar("T")


@dataclass(slots=True)
class Verdict:
    """What a scenario came to.

    Attributes:
        broken: The rules it broke; none if all is well.
        counts: What happened in it, by what it is.
    """

    scenario: Scenario
    broken: list[str]
    counts: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def __str__(self) -> str:
        lines = "\n".join(f"  {each}" for each in self.broken[:10])
        more = f"\n  and {len(self.broken) - 10} more" if len(self.broken) > 10 else ""
        return f"{replay_line(self.scenario)}\n{lines}{more}"


def replay_line(scenario: Scenario) -> str:
    """The one line that plays a scenario again."""
    if scenario == draw_scenario(scenario.seed):
        return f"python -m tests.simulation {scenario.seed}"
    return f"python -m tests.simulation '{msgspec.json.encode(scenario).decode()}'"


def try_scenario(scenario: Scenario) -> Verdict:
    """Play a scenario and judge it."""
    try:
        played = play(scenario)
    except Exception as error:  # noqa: BLE001 - a scenario that breaks everything must be told by its seed, too
        # The virtual clock's loop raises when everybody waits and no timer is left.
        return Verdict(scenario, [f"it cannot be played to its end: {error!r}"])
    counts: Counter[str] = Counter()
    for ran in played.done.runs:
        counts.update(outcome.state.value for outcome in ran.outcomes)
    counts.update(played.ledger.fired)
    counts["calls"] = len(played.exchanges)
    counts["fleet runs"] = len(played.done.runs)
    counts["power calls"] = len(played.done.calls)
    return Verdict(scenario, broken_rules(played), counts, played.ended_at)


def try_seed(seed: int) -> Verdict:
    """Draw, play and judge."""
    return try_scenario(draw_scenario(seed))


def shrink(verdict: Verdict, *, rule: str | None = None, mutant: AbstractContextManager[None] | None = None) -> Verdict:
    """Make a scenario smaller, step by step, for as long as it breaks the same rule."""
    wanted = rule or verdict.broken[0][:12]
    with mutant or nullcontext():
        smaller = True
        while smaller:
            smaller = False
            for candidate in _smaller(verdict.scenario):
                found = try_scenario(candidate)
                if any(each.startswith(wanted) for each in found.broken):
                    verdict, smaller = found, True
                    break
    return verdict


def _smaller(scenario: Scenario) -> Iterator[Scenario]:
    def changed(**values: object) -> Scenario:
        return msgspec.structs.replace(scenario, **values)

    yield from (changed(mishaps=rest) for rest in _without_one(scenario.mishaps))
    yield from (changed(deeds=rest) for rest in _without_one(scenario.deeds))
    yield from (changed(mishaps=less) for less in _with_less(scenario.mishaps))
    yield from (changed(deeds=less) for less in _with_less(scenario.deeds))
    defaults = Scenario(seed=0)
    for name in Scenario.__struct_fields__:
        plain = getattr(defaults, name)
        if name not in ("seed", "servers", "deeds", "mishaps") and getattr(scenario, name) != plain:
            yield changed(**{name: plain})


def _without_one(items: tuple[T, ...]) -> Iterable[tuple[T, ...]]:
    return (items[:place] + items[place + 1 :] for place in range(len(items)))


def _with_less(items: tuple[T, ...]) -> Iterator[tuple[T, ...]]:
    """Halve how many calls a mishap, and how many servers a deed is about."""
    for place, item in enumerate(items):
        if isinstance(item, Mishap | RunFleet | Call) and item.count > 1:
            yield (*items[:place], msgspec.structs.replace(item, count=item.count // 2), *items[place + 1 :])
