"""Fifty seeds at full size on both stores, the takeover at full length, and a shared budget over 100,000 servers.

python -m tests.runs.failures                               all of it, for hours; `make soak-runs`
python -m tests.runs.failures --seeds 5 --only kills        some of it
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from bms_async.limits.shared.messages import Terms
from bms_async.simulator.core.servers import PowerAction
from tests.runs.failures._faults import crash, lock_the_file, shared_budget
from tests.runs.failures._judge import judge, judge_rollout
from tests.runs.failures._plans import draw, draw_rollout
from tests.runs.failures._points import POINTS
from tests.runs.failures._stage import Result, Scenario, play_all
from tests.runs.failures._times import FULL
from tests.runs.failures._worker import Part
from tests.support.nursery import Nursery, nursery
from tests.support.postgres import Postgres, running_postgres

_SERVERS = 6000
_BATCHES = 60
_BUDGET = 100_000
_PARTS = ("kills", "rollouts", "takeover", "budget")


class _Soak:
    def __init__(self, folder: Path, server: Postgres, workers: Nursery[Part], *, at_once: int) -> None:
        self._folder, self._server, self._workers, self._at_once = folder, server, workers, at_once
        self._journals = 0
        self.is_broken = False

    def kills(self, first: int, seeds: int, servers: int) -> None:
        """Kill at all points, seed after seed, on both stores; every fifth run is a stop, and every fifth a start."""
        kinds: Mapping[int, PowerAction] = {3: "stop", 4: "start"}
        for start in range(first, first + seeds, self._at_once):
            scenarios: dict[str, Scenario] = {}
            for seed in range(start, min(start + self._at_once, first + seeds)):
                action = kinds.get(seed % 5, "reboot")
                for store, journal in (("sqlite", self._file()), ("postgres", self._database())):
                    scenario = draw(
                        seed,
                        journal,
                        action=action,
                        servers=servers,
                        batches=_BATCHES,
                        points=len(POINTS),
                        bound=300.0,
                    )
                    if store == "sqlite" and seed % 5 == 1:
                        scenario = msgspec.structs.replace(scenario, play=lock_the_file())
                    scenarios[f"{store}, seed {seed}, {action}"] = scenario
            self._play(scenarios)
        with running_postgres() as server:
            scenario = draw(first, server.url(), servers=servers, batches=_BATCHES, points=3, bound=300.0)
            self._play({"postgres crashed": msgspec.structs.replace(scenario, play=crash(server))})

    def rollouts(self, first: int, seeds: int, servers: int) -> None:
        """Kill whoever plans a rollout, seed after seed, on both stores."""
        for seed in range(first, first + seeds):
            self._play(
                {
                    f"rollout, {store}, seed {seed}": draw_rollout(
                        seed, journal, servers=servers, away=servers // 8, bound=300.0
                    )
                    for store, journal in (("sqlite", self._file()), ("postgres", self._database()))
                }
            )

    def takeover(self, servers: int) -> None:
        """Kill workers that watch, with leases of full length."""
        scenarios = {
            f"takeover, {store}": Scenario(
                journal=journal,
                servers=servers,
                batch=servers // _BATCHES,
                wave=servers // 2,
                times=msgspec.structs.replace(FULL, job=(30.0, 90.0)),
                fates={"while watching": {20: "kill", 60: "kill"}, "writing outcomes": {10: "kill"}},
                bound=900.0,
            )
            for store, journal in (("sqlite", self._file()), ("postgres", self._database()))
        }
        self._play(scenarios)

    def budget(self, servers: int) -> None:
        """Kill one of two that share a real limit."""
        scenario = shared_budget(self._file(), self._file(), servers=servers, batch=1000, calls=50, terms=Terms())
        self._play({"budget": scenario})

    def _play(self, scenarios: Mapping[str, Scenario]) -> None:
        results = asyncio.run(play_all(scenarios, self._workers, at_once=self._at_once))
        for name, result in results.items():
            away = scenarios[name].away
            wrong = judge(result, scenarios[name].action) if away is None else judge_rollout(result, away)
            if result.refused:
                wrong.append(f"{result.refused} calls were refused")
            self._tell(name, result, wrong)

    def _tell(self, name: str, result: Result, wrong: list[str]) -> None:
        self.is_broken = self.is_broken or bool(wrong)
        print(f"{name}: {result}; passed {len(result.passed)} points; {wrong or 'nothing wrong'}", flush=True)  # noqa: T201

    def _file(self) -> str:
        self._journals += 1
        return f"sqlite://{self._folder}/{self._journals}.db"

    def _database(self) -> str:
        self._journals += 1
        asyncio.run(self._server.run(f"CREATE DATABASE soak_{self._journals}"))
        return self._server.url(f"soak_{self._journals}")


@contextmanager
def _soak(at_once: int) -> Iterator[_Soak]:
    with ExitStack() as stack:
        workers = stack.enter_context(nursery(Part))
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bms_async-soak-"))
        yield _Soak(Path(folder), stack.enter_context(running_postgres()), workers, at_once=at_once)


def main(arguments: Sequence[str] | None = None) -> int:
    """Play, and print what came of it; 1 if anything was not as promised."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.runs.failures", description=(__doc__ or "").partition("\n")[0]
    )
    parser.add_argument("--seeds", type=int, default=50)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--servers", type=int, default=_SERVERS)
    parser.add_argument("--budget", type=int, default=_BUDGET, help="servers of the run on a shared budget")
    parser.add_argument("--at-once", type=int, default=2, help="seeds at once")
    parser.add_argument("--only", choices=_PARTS, action="append")
    given = parser.parse_args(arguments)
    parts = given.only or _PARTS
    with _soak(given.at_once) as soak:
        if "kills" in parts:
            soak.kills(given.first, given.seeds, given.servers)
        if "rollouts" in parts:
            soak.rollouts(given.first, given.seeds, given.servers)
        if "takeover" in parts:
            soak.takeover(given.servers)
        if "budget" in parts:
            soak.budget(given.budget)
        return int(soak.is_broken)


if __name__ == "__main__":
    sys.exit(main())
