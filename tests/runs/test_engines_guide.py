"""The guide's programs for other engines do what the guide says, with stand-ins for engines that are not installed."""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest

from bms_async import BatchResult, BmsClient, OutcomeState, Runs
from bms_async.testing import CloudSettings, SimulatedCloud
from tests.soak.hurry import hurried
from tests.support.guide import program_of

PAGE = "docs/guides/engines.md"


class World:
    """A cloud on the machine's clock, since each task of Celery has an event loop of its own."""

    def __init__(self, journal: Path) -> None:
        self.cloud = SimulatedCloud(CloudSettings(servers=30, job_seconds=(0.0, 0.05)), clock=time.monotonic)
        self.ids = list(self.cloud.cloud.servers)
        self.runs = f"sqlite://{journal}"

    def client(self, **_: object) -> BmsClient:
        return self.cloud.client(runs=Runs(self.runs))

    @property
    def most_reboots(self) -> int:
        return max(server.reboots for server in self.cloud.cloud.servers.values())


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path / "runs.db")
    with hurried(), patch.object(BmsClient, "from_env", made.client):
        yield made


@contextmanager
def installed(name: str, **names: object) -> Iterator[None]:
    module = ModuleType(name)
    module.__dict__.update(names)
    with patch.dict(sys.modules, {name: module}):
        yield


class Celery:
    """Runs a task at once; whoever delivers it again calls it again."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def task(self, *, acks_late: bool) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        assert acks_late

        def wrap(function: Callable[..., Any]) -> Callable[..., Any]:
            function.delay = function  # type: ignore[attr-defined]
            return function

        return wrap


def test_the_tasks_of_celery_may_be_delivered_twice(world: World) -> None:
    with installed("celery", Celery=Celery):
        tasks = program_of(PAGE, "tasks")
    tasks.__dict__["journal"] = lambda: Runs(world.runs)
    results = [BatchResult.from_json(tasks.send_batch("reboot", world.ids, "a")) for _ in range(2)]
    assert [result.counts.succeeded for result in results] == [len(world.ids)] * 2
    assert world.most_reboots == 1


def test_the_steps_of_dbos_may_be_run_again(world: World) -> None:
    same = SimpleNamespace(step=lambda: lambda function: function, workflow=lambda: lambda function: function)
    with installed("dbos", DBOS=same):
        flows = program_of(PAGE, "flows")

    async def twice() -> list[dict[str, int]]:
        async with world.client() as bms:
            flows.__dict__["bms"] = bms
            return [await flows.power("reboot", world.ids, "a") for _ in range(2)]

    assert asyncio.run(twice()) == [{"SUCCEEDED": len(world.ids)}] * 2
    assert world.most_reboots == 1


def test_a_program_of_cron_may_be_started_again(world: World) -> None:
    night = program_of(PAGE, "night")
    for _ in range(2):
        states = asyncio.run(night.main(world.ids, Runs(world.runs)))
        assert Counter(states.values()) == {OutcomeState.SUCCEEDED: len(world.ids)}
    assert world.most_reboots == 1
