"""Scenarios drawn from one number."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from random import Random
from typing import Any, Literal

import msgspec

from bms_async.simulator import DroppedMarker, ShortPage
from tests.simulation.dice import Dice
from tests.simulation.draw_natives import with_natives
from tests.simulation.draw_reconcilers import with_reconcilers
from tests.simulation.draw_walks import with_walks
from tests.simulation.draw_wishes import with_wishes
from tests.simulation.scenario import (
    Action,
    Call,
    Close,
    Consumer,
    Death,
    Deed,
    Durable,
    Foreign,
    Listen,
    Mishap,
    Options,
    Read,
    Rename,
    Revoke,
    RunFleet,
    Scenario,
    Suspend,
    Trouble,
)


def draw_scenario(seed: int, random: Random | None = None, *, walks: bool = True) -> Scenario:
    """Draw a scenario.

    Args:
        seed: What all else is drawn from that the scenario itself does not say: job durations, latencies, jitter.
        random: What the scenario is drawn from, by default the same seed.
        walks: Whether runs have rollouts, are paused, make a call for each server, or are native ones, and whether
            there are wishes and reconcilers.
    """
    return _draw_by_number(seed) if random is None and walks else _draw(seed, random, walks=walks)


# Many tests look for what they need among the same first numbers.
@lru_cache(maxsize=1200)
def _draw_by_number(seed: int) -> Scenario:
    return _draw(seed, None, walks=True)


def _draw(seed: int, random: Random | None, *, walks: bool) -> Scenario:
    draw = _Draw(random or Random(f"scenario {seed}"))
    scenario = draw.with_bounds_and_renames(draw.with_listeners(draw.scenario(seed)))
    # Drawn apart, so that what a seed had before is what it has with these.
    scenario = _Draw(random or Random(f"shapes {seed}")).with_odd_shapes(scenario)
    draw = _Draw(random or Random(f"workers {seed}"))
    # Hypothesis takes 0 for the simplest number, which is to draw the simpler scenario.
    if 1.0 - draw.random.random() < _DURABLE_SHARE:
        scenario = draw.with_workers(scenario)
    if not walks:
        return scenario
    scenario = with_walks(scenario, random or Random(f"walks {seed}"))
    scenario = with_natives(scenario, random or Random(f"natives {seed}"))
    scenario = with_wishes(scenario, random or Random(f"wishes {seed}"))
    return with_reconcilers(scenario, random or Random(f"reconcilers {seed}"))


_OPERATIONS = ("servers.start", "servers.stop", "servers.reboot", "jobs.get", "servers.get", "servers.list")
_ACTIONS: tuple[Action, ...] = ("start", "stop", "reboot")
_MAX_BATCHES = 25
_FEW = 60
_DURABLE_SHARE = 0.15
_ENDLESS = 10_000


class _Draw(Dice):
    def size(self) -> int:
        """How many servers a deed is about: mostly few, and now and then thousands."""
        kind = self.random.random()
        if kind < 0.35:
            return self.number(1, 5)
        if kind < 0.9:
            return self.number(5, 40)
        return self.number(40, 250) if kind < 0.985 else self.number(1000, 3000)

    def scenario(self, seed: int) -> Scenario:
        deeds, servers = self.deeds()
        low = self.seconds(0.1, 8) if self.chance(0.7) else self.seconds(8, 60)
        limited = self.chance(0.7)
        password = self.chance(0.35)
        return Scenario(
            seed=seed,
            servers=servers,
            limits=self.limits() if limited else {},
            others=self.random.choice((0.5, 0.8)) if limited and self.chance(0.1) else 1.0,
            throttle=self.random.choice(("fixed", "sliding", "bucket")),
            shared_power_budget=self.chance(0.1),
            retry_after=self.chance(0.5),
            fail_share=self.random.choice((0.0, 0.0, 0.05, 0.3)),
            stopped_share=self.random.choice((0.0, 0.3, 0.6, 1.0)),
            locked_share=self.random.choice((0.0, 0.0, 0.0, 0.1)),
            job_seconds=(low, low + self.seconds(0, 30)),
            latency=self.random.choice(((0.0, 0.0), (0.02, 0.3), (0.1, 2.0), (0.5, 20.0))),
            refuse_batches=self.chance(0.2),
            shuffle_sub_jobs=self.chance(0.3),
            anonymous_failures=self.chance(0.25),
            job_hidden_seconds=self.random.choice((0.0, 0.0, 0.0, 3.0, 30.0)),
            job_kept_seconds=self.random.choice((None, None, None, None, 20.0, 2.0)),
            batch=max(self.random.choice((1, 3, 10, 10, 1000)), -(max(map(_servers_of, deeds)) // -_MAX_BATCHES)),
            auth="password" if password else self.random.choice(("token", "token", "keys")),
            token_lifetime=self.random.choice((86400.0, 300.0, 25.0)),
            margin=self.random.choice((600.0, 5.0)),
            clock_skew=self.random.choice((0.0, 0.0, 7200.0, -7200.0, 40.0)),
            carrier="httpx" if self.chance(0.15) else "direct",
            timeout=self.random.choice((60.0, 60.0, 10.0)),
            deeds=deeds,
            mishaps=self.mishaps(password=password),
        )

    def with_listeners(self, scenario: Scenario) -> Scenario:
        """Add those who subscribe to events."""
        listeners = [
            Listen(
                self.when(),
                self.seconds(1, 120),
                self.random.choice((1, 5, 10_000)),
                self.random.choice((0.0, 0.0, 1.0)),
            )
            for _ in range(self.random.choice((0, 0, 0, 1, 2)))
        ]
        return msgspec.structs.replace(scenario, deeds=(*scenario.deeds, *listeners))

    def with_bounds_and_renames(self, scenario: Scenario) -> Scenario:
        """Bound some runs, and have servers renamed while they are at them."""
        deeds = [self._bounded(deed) if isinstance(deed, RunFleet) else deed for deed in scenario.deeds]
        deeds += [
            Rename(self.when(), self.number(0, scenario.servers - 1)) for _ in range(self.random.choice((0, 0, 1, 5)))
        ]
        return msgspec.structs.replace(scenario, deeds=tuple(deeds))

    def _bounded(self, deed: RunFleet) -> RunFleet:
        if not self.chance(0.15):
            return deed
        options = msgspec.structs.replace(deed.options, total_timeout=self.seconds(1, 300))
        return msgspec.structs.replace(deed, options=options)

    def with_odd_shapes(self, scenario: Scenario) -> Scenario:
        """Add what clouds, machines and applications do that nobody expects of them."""
        deeds = tuple(self.with_odd_ways(deed) if isinstance(deed, RunFleet) else deed for deed in scenario.deeds)
        if self.chance(0.12):
            deeds = (*deeds, Suspend(self.when(), self.random.choice((5.0, 600.0, 7200.0))))
        is_stuck = self.chance(0.08)
        counts: tuple[Literal["all", "page", "none"], ...] = ("all", "all", "page", "none")
        list_count = self.random.choice(counts)
        return msgspec.structs.replace(
            scenario,
            early_failures=self.chance(0.25),
            stuck_share=self.random.choice((0.1, 0.5)) if is_stuck else 0.0,
            stillborn_share=self.random.choice((0.3, 1.0)) if self.chance(0.06) else 0.0,
            reason_place=self.random.choice(("sub_job", "sub_job", "entities", "job", "nowhere")),
            # An end is to be seen, also where the slowest server takes a minute and a half.
            no_news=self.random.choice((300.0, 900.0)) if is_stuck else 7200.0,
            # A cap that no cloud has, and a count that means the page, look like the whole of a small project.
            page_cap=self.random.choice((1000, 1000, 10, 25)) if scenario.servers <= _FEW else 1000,
            list_count=list_count,
            foreign=tuple(self.foreign("credentials", "transport", "hook") for _ in range(self.chance(0.12))),
            mishaps=(*scenario.mishaps, *self.short_pages(counted=list_count == "all")),
            deeds=tuple(sorted(deeds, key=lambda deed: deed.at)),
        )

    def with_workers(self, scenario: Scenario) -> Scenario:
        """Make the runs durable ones, and have workers die."""
        workers = self.random.choice((1, 1, 2, 3))
        deaths = [
            Death(
                self.seconds(0, 40),
                self.number(0, workers - 1),
                self.random.choice(("killed", "killed", "closed", "stalls")),
                self.random.choice((1.0, 8.0, 25.0)),
            )
            for _ in range(self.random.choice((0, 0, 1, 1, 2, 4)))
        ]
        return msgspec.structs.replace(
            scenario,
            workers=workers,
            deaths=tuple(sorted(deaths, key=lambda death: death.at)),
            deeds=tuple(self.durable(deed) if isinstance(deed, RunFleet) else deed for deed in scenario.deeds),
            # Each client has a token of its own, and hours of virtual time would be hours of looks at the journal.
            auth="keys" if scenario.auth == "password" else scenario.auth,
            stuck_share=0.0,
            no_news=7200.0,
            mishaps=tuple(each for each in scenario.mishaps if each.count < _ENDLESS),
        )

    def durable(self, deed: RunFleet) -> RunFleet:
        if self.chance(0.2):
            return deed
        foreign = deed.foreign if deed.foreign is not None and deed.foreign.where == "source" else None
        options = msgspec.structs.replace(deed.options, on_outcome=None, total_timeout=None)
        durable = Durable(
            detach=self.chance(0.2),
            pause_after=self.seconds(0, 20) if self.chance(0.25) else None,
            pause=self.seconds(0, 40),
        )
        return msgspec.structs.replace(deed, options=options, foreign=foreign, durable=durable, let_go=False)

    def with_odd_ways(self, deed: RunFleet) -> RunFleet:
        return msgspec.structs.replace(
            deed,
            spelling=self.random.choice(("plain", "plain", "plain", "capitals", "both")),
            foreign=self.foreign("on_outcome", "on_job", "source") if self.chance(0.12) else None,
        )

    def foreign(self, *where: Any) -> Foreign:
        return Foreign(
            self.random.choice(where),
            self.random.choice(("cancelled", "cancelled", "exit", "error")),
            self.number(1, 6),
            self.random.choice((0, 0, 1, 5)),
        )

    def short_pages(self, *, counted: bool) -> Iterator[Mishap]:
        """Pages of lists that are cut short, or are not the one that was asked for.

        There are none where nothing counts what is left out: the last page of such a list, cut short, is its end to
        whoever reads it.
        """
        if not counted:
            return
        for _ in range(self.random.choice((0, 0, 0, 1, 2))):
            trouble: Trouble = ShortPage(share=self.random.choice((0.0, 0.5)))
            if self.chance(0.2):
                trouble = DroppedMarker()
            yield Mishap("servers.list", self.number(1, 4), self.random.choice((1, 1, 2, 40)), trouble)

    def limits(self) -> dict[str, int]:
        power = self.number(1, 12)
        return {
            **dict.fromkeys(("servers.start", "servers.stop", "servers.reboot"), power),
            "jobs.get": self.random.choice((12, 60, 2000)),
            "servers.get": self.number(2, 60),
            "servers.list": self.number(2, 60),
        }

    def deeds(self) -> tuple[tuple[Deed, ...], int]:
        """What users do, and how many servers it takes; most of it is about servers of its own."""
        deeds: list[Deed] = []
        taken = 0
        for _ in range(self.random.choice((1, 1, 2, 2, 3))):
            first, taken = self.take(taken)
            deeds.append(self.run(first, taken - first))
        for _ in range(self.random.choice((0, 0, 1, 1, 2))):
            first, taken = self.take(taken)
            deeds.append(self.call(first, min(taken - first, 1000)))
        for _ in range(self.random.choice((0, 0, 1, 4))):
            leaves = self.seconds(0, 3) if self.chance(0.3) else None
            what: Literal["get", "list"] = "list" if self.chance(0.2) else "get"
            deeds.append(Read(self.when(), what, self.number(0, taken - 1), leaves))
        deeds += [Revoke(self.when()) for _ in range(self.random.choice((0, 0, 0, 1, 2)))]
        if self.chance(0.2):
            deeds.append(Close(self.seconds(0, 40)))
        return tuple(sorted(deeds, key=lambda deed: deed.at)), taken

    def take(self, taken: int) -> tuple[int, int]:
        """Return where a deed's servers begin, and how many servers there are then."""
        size = self.size()
        if taken and self.chance(0.15):
            first = self.number(0, taken - 1)
            return first, max(taken, first + size)
        return taken, taken + size

    def when(self) -> float:
        return 0.0 if self.chance(0.3) else self.seconds(0, 60)

    def consumer(self) -> Consumer:
        return Consumer(
            "iterate" if self.chance(0.5) else "await",
            self.seconds(0, 40) if self.chance(0.25) else None,
        )

    def run(self, first: int, count: int) -> RunFleet:
        sources: tuple[Literal["list", "iterator", "slow"], ...] = ("list", "list", "iterator", "slow")
        source = self.random.choice(sources)
        small = count <= 60
        return RunFleet(
            at=self.when(),
            action=self.random.choice(_ACTIONS),
            first=first,
            count=count,
            step=self.random.choice((1, 1, 2)),
            source=source if small or source != "slow" else "list",
            pause=self.random.choice((0.0, 0.3, 2.0)),
            odd=self.random.choice((0, 0, 0, 2)),
            unknown=self.random.choice((0, 0, 0, 0, 1)),
            cancel_after=self.seconds(0, 40) if self.chance(0.15) else None,
            let_go=self.chance(0.5),
            consumers=tuple(self.consumer() for _ in range(self.random.choice((0, 1, 1, 2)))),
            options=Options(
                wave_size=self.number(1, 2 * count) if self.chance(0.25) else None,
                abort_above=self.random.choice((0.0, 0.1, 0.5)) if self.chance(0.15) else None,
                abort_sample=self.random.choice((None, 20)),
                verify=self.chance(0.25),
                retry_transient=self.chance(0.6),
                on_outcome=self.random.choice(("sync", "async")) if self.chance(0.2) else None,
            ),
        )

    def call(self, first: int, count: int) -> Call:
        return Call(
            at=self.when(),
            action=self.random.choice(_ACTIONS),
            first=first,
            count=count,
            waiters=tuple(self.consumer() for _ in range(self.number(1, 4))),
            asked=self.number(0, 3),
            restored=self.chance(0.2),
        )

    def mishaps(self, *, password: bool) -> tuple[Mishap, ...]:
        if self.chance(0.25):
            return ()
        operations: tuple[str, ...] = (*_OPERATIONS[:3], "jobs.get", *_OPERATIONS)
        if password:
            operations += ("identity.create_token",)
        found = []
        for _ in range(self.random.choice((1, 1, 2, 3, 6))):
            operation = "*" if self.chance(0.1) else self.random.choice(operations)
            first = 1 if self.chance(0.3) else self.number(1, 12)
            count = self.random.choice((1, 1, 1, 2, 5, 40)) if operation == "jobs.get" else self.number(1, 2)
            if self.chance(0.02):
                count = 10_000
            found.append(Mishap(operation, first, count, self.trouble()))
        return tuple(found)


def _servers_of(deed: Deed) -> int:
    return deed.count if isinstance(deed, RunFleet) else 0
