"""What is done to the workers of a run, drawn from a seed."""

from __future__ import annotations

from random import Random

from bms_async.simulator.core.servers import PowerAction
from tests.runs.failures._points import POINTS, Fate
from tests.runs.failures._stage import Scenario
from tests.runs.failures._times import SHORT, Times

_SEEDS_A_DEAL = 5
"""So many seeds one after the other have all points between them."""

_POINTS_A_SEED = 4
_LEAVE_A_DOUBT = ("after the commit of sending", "read", "answered", "before the commit of watching")
_MAY_STAND = ("before sending", "after the commit of sending", "answered", "while watching")
"""Outside of transactions: a process that stands still inside one is a scenario of its own."""

_FIRST = ("while settling", "between a refusal and its log", "merging")
"""What is passed a few times at most."""


def draw_rollout(
    seed: int, journal: str, *, servers: int = 96, away: int = 16, times: Times = SHORT, bound: float = 60.0
) -> Scenario:
    """Draw a rollout in which whoever plans it dies twice, and stands still for longer than its lease.

    Args:
        seed: What it is drawn from.
        journal: The address of the journal.
        servers: How many there are.
        away: How many of them may be away at once.
        times: The times that workers go by.
        bound: The seconds within which it is over, several times over.
    """
    random = Random(f"rollouts/{seed}")
    before, *after = random.sample(range(6), 3)
    return Scenario(
        journal=journal,
        seed=seed,
        servers=servers,
        away=away,
        fates={
            "before the commit of a release": {before: "kill"},
            "after the commit of a release": {after[0]: "kill", after[1]: "stop"},
            "while watching": {random.randrange(5, 15): "kill"},
        },
        times=times,
        bound=bound,
    )


def draw(
    seed: int,
    journal: str,
    *,
    action: PowerAction = "reboot",
    servers: int = 160,
    batches: int = 20,
    points: int = _POINTS_A_SEED,
    times: Times = SHORT,
    bound: float = 60.0,
) -> Scenario:
    """Draw a scenario with deaths at several points, and one process that stands still for longer than its lease.

    Args:
        seed: What it is drawn from.
        journal: The address of the journal.
        action: What the run does.
        servers: How many there are.
        batches: How many batches they make.
        points: At how many points somebody dies.
        times: The times that workers go by.
        bound: The seconds within which it is over, several times over.
    """
    random = Random(f"kills/{seed}")
    deal = list(POINTS)
    Random(f"deal/{seed // _SEEDS_A_DEAL}").shuffle(deal)
    first = seed % _SEEDS_A_DEAL * len(deal) // _SEEDS_A_DEAL
    chosen = [deal[(first + index) % len(deal)] for index in range(min(points, len(deal)))]
    if "while settling" in chosen and not set(chosen) & set(_LEAVE_A_DOUBT):
        chosen.append(random.choice(_LEAVE_A_DOUBT))
    if action != "reboot" and "merging" not in chosen:
        # Whatever is in doubt is asked for again, so that there is always something to be merged.
        chosen.append("merging")
    fates: dict[str, dict[int, Fate]] = {
        point: {0 if point in _FIRST else random.randrange(batches // 3): "kill"} for point in chosen
    }
    stands = fates.setdefault(random.choice(_MAY_STAND), {})
    stands[next(number for number in random.sample(range(batches // 3), 2) if number not in stands)] = "stop"
    return Scenario(
        journal=journal,
        action=action,
        seed=seed,
        servers=servers,
        batch=servers // batches,
        wave=random.choice((None, servers * 2 // 5)),
        busy=batches,
        # Enough of them: whoever is refused may die before it has read that.
        refusals=tuple(random.sample(range(2, batches // 2), 4)),
        fates=fates,
        times=times,
        bound=bound,
    )
