"""`examples/operator_kopf.py`: its handlers as kopf calls them, and all of it before a small Kubernetes."""

from __future__ import annotations

import asyncio
import copy
import json
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import Any

import anyio
import kopf
import pytest
import yaml
from kopf._core.intents.stoppers import DaemonStopper

from bms_async import BmsClient, ConfigurationError
from bms_async.testing import CloudSettings, SimulatedCloud
from tests.examples.first_screen import traced
from tests.examples.kubernetes import Kubernetes
from tests.examples.processes import ROOT, running, simulator
from tests.support.machine import patience
from tests.support.virtual_clock import run_virtually

FILE = ROOT / "examples" / "operator_kopf.py"


def load() -> Any:
    spec = spec_from_file_location("operator_kopf", FILE)
    assert spec
    assert spec.loader
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


operator = load()


class Thing:
    """An object of the cluster, whose handlers are called as kopf does."""

    def __init__(self, memo: kopf.Memo, name: str, server_id: str, power: str) -> None:
        self.spec = {"serverId": server_id, "power": power}
        self.status: dict[str, Any] = {}
        self.meta = {"generation": 1}
        self.patches = 0
        self._memo = copy.copy(memo)
        self._name = name
        self._changed = anyio.Event()
        self._stopper = DaemonStopper()

    async def handle(self, handler: Callable[..., Coroutine[Any, Any, None]]) -> None:
        patch = kopf.Patch()
        try:
            await handler(
                spec=self.spec,
                status=self.status,
                meta=self.meta,
                uid=self._name,
                memo=self._memo,
                patch=patch,
                stopped=self._stopper.async_waiter,
            )
        finally:
            self.patches += bool(patch)
            self.status |= patch.get("status", {})
            self.status = {key: value for key, value in self.status.items() if value is not None}
            self._changed.set()
            self._changed = anyio.Event()

    async def turn(self, power: str) -> None:
        self.spec["power"] = power
        self.meta["generation"] += 1
        await self.handle(operator.want)

    async def run_timer(self) -> None:
        while not self._stopper.is_set():
            await self.handle(operator.show)
            await anyio.sleep(1.0)

    def stop(self) -> None:
        self._stopper.set()

    async def until(self, **status: object) -> dict[str, Any]:
        """Wait until the status has these values, and return it."""
        while not status.items() <= self.status.items():
            await self._changed.wait()
        return self.status


class Cluster:
    """A running operator and its objects."""

    def __init__(self, cloud: SimulatedCloud, memo: kopf.Memo, tasks: anyio.abc.TaskGroup) -> None:
        self.cloud = cloud
        self.things: list[Thing] = []
        self._memo = memo
        self._tasks = tasks

    def add(self, server_id: str, power: str) -> Thing:
        thing = Thing(self._memo, f"uid-{len(self.things)}", server_id, power)
        self.things.append(thing)
        self._tasks.start_soon(thing.run_timer)
        return thing

    async def create(self, server_id: str, power: str) -> Thing:
        thing = self.add(server_id, power)
        await thing.handle(operator.want)
        return thing


@asynccontextmanager
async def operating(**settings: Any) -> AsyncIterator[Cluster]:
    cloud = SimulatedCloud(CloudSettings(**settings))
    memo = kopf.Memo()
    async with AsyncExitStack() as stack:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(BmsClient, "from_env", cloud.client)
            await operator.open_client(memo=memo)
        stack.push_async_callback(operator.close_client, memo=memo)
        cluster = Cluster(cloud, memo, await stack.enter_async_context(anyio.create_task_group()))
        yield cluster
        for thing in cluster.things:
            thing.stop()


def virtually(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    async def bounded() -> None:
        with anyio.fail_after(3600):
            await main()
        assert asyncio.all_tasks() == {asyncio.current_task()}

    run_virtually(bounded)


def test_five_hundred_objects_that_change_at_once_take_few_calls() -> None:
    async def main() -> None:
        async with operating(servers=600, job_seconds=(5.0, 15.0), seed=5) as cluster:
            ids = cluster.cloud.ids
            async with anyio.create_task_group() as tasks:
                for server_id in ids[:500]:
                    tasks.start_soon(cluster.create, server_id, "off")
            began = anyio.current_time()
            for thing in cluster.things:
                await thing.until(condition="Synced", observedGeneration=1)
            # No more than 200 are under way at once, and others follow as some end.
            assert cluster.cloud.arrived("servers.stop") <= 15
            assert cluster.cloud.arrived("servers.list") < 20
            assert cluster.cloud.arrived("servers.get") < 20
            assert anyio.current_time() - began < 300
            assert +Counter(cluster.cloud.statuses()) == {"SHUTOFF": 500, "ACTIVE": 100}
            # One patch for each condition, and one that says which wish it is about.
            assert max(thing.patches for thing in cluster.things) <= 5

    virtually(main)


def test_a_server_that_fails_shows_the_clouds_words_and_when_it_is_tried_again() -> None:
    async def main() -> None:
        async with operating(servers=2, job_seconds=(1.0, 2.0), fail_share=1) as cluster:
            thing = await cluster.create(cluster.cloud.ids[0], "off")
            first = dict(await thing.until(condition="Degraded", attempts=1))
            assert first["code"] == "BMS.0006"
            assert "BMS.0006" in first["message"]
            assert first["nextTry"] > first["since"]
            await thing.until(condition="Degraded", attempts=2)
            assert cluster.cloud.arrived("servers.stop") == 2

    virtually(main)


def test_what_somebody_else_has_changed_is_repaired_until_the_object_is_deleted() -> None:
    async def main() -> None:
        async with operating(servers=2, job_seconds=(1.0, 2.0)) as cluster:
            cloud, (server_id, _) = cluster.cloud, cluster.cloud.ids
            thing = await cluster.create(server_id, "on")
            await thing.until(condition="Synced")
            cloud.drift([(1, server_id, "SHUTOFF"), (300, server_id, "SHUTOFF")])
            await thing.until(condition="Progressing")
            assert set(await thing.until(condition="Synced")) == {"condition", "since", "observedGeneration"}
            assert cloud.arrived("servers.start") == 1
            thing.stop()
            await thing.handle(operator.forget)
            await anyio.sleep(600)
            assert cloud.server(server_id).status == "SHUTOFF"
            assert cloud.arrived("servers.start") == 1

    virtually(main)


def test_of_two_objects_for_one_server_the_second_waits_for_the_end_of_the_first() -> None:
    async def main() -> None:
        async with operating(servers=1, job_seconds=(1.0, 2.0)) as cluster:
            (server_id,) = cluster.cloud.ids
            first = await cluster.create(server_id, "on")
            second = cluster.add(server_id, "off")
            with pytest.raises(kopf.TemporaryError, match=f"another object has server {server_id}") as refused:
                await second.handle(operator.want)
            assert refused.value.delay == 60
            await first.until(condition="Synced")
            assert second.status["condition"] == "Conflict"
            # What the second does not have it does not let go either.
            await second.handle(operator.forget)
            first.stop()
            await first.handle(operator.forget)
            await second.handle(operator.want)
            await second.until(condition="Synced")
            assert +Counter(cluster.cloud.statuses()) == {"SHUTOFF": 1}

    virtually(main)


def test_a_changed_object_is_not_called_synced_before_it_is() -> None:
    async def main() -> None:
        async with operating(servers=1, job_seconds=(1.0, 2.0)) as cluster:
            thing = await cluster.create(cluster.cloud.ids[0], "on")
            await thing.until(condition="Synced", observedGeneration=1)
            await thing.turn("off")
            assert (thing.status["condition"], thing.status["observedGeneration"]) == ("Progressing", 2)
            await thing.until(condition="Synced", observedGeneration=2)
            assert +Counter(cluster.cloud.statuses()) == {"SHUTOFF": 1}

    virtually(main)


def test_an_operator_that_starts_again_asks_nothing_of_servers_that_are_as_desired() -> None:
    async def main() -> None:
        async with operating(servers=3, job_seconds=(1.0, 2.0)) as cluster:
            thing = cluster.add(cluster.cloud.ids[0], "on")
            thing.status |= {"condition": "Degraded", "code": "BMS.0006", "observedGeneration": 1}
            await thing.handle(operator.want)
            assert set(await thing.until(condition="Synced")) == {"condition", "since", "observedGeneration"}
            assert cluster.cloud.arrived("servers.start") == 0

    virtually(main)


def test_every_line_of_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def main() -> None:
        async with operating(servers=2, job_seconds=(1.0, 2.0), fail_share=1) as cluster:
            one, other = cluster.cloud.ids
            kept, failing, twin = (
                await cluster.create(one, "on"),
                await cluster.create(other, "off"),
                cluster.add(one, "on"),
            )
            with pytest.raises(kopf.TemporaryError):
                await twin.handle(operator.want)
            await kept.until(condition="Synced")
            await failing.until(condition="Degraded", attempts=1)
            kept.stop()
            await kept.handle(operator.forget)

    with traced("operator_kopf") as (module, lines):
        monkeypatch.setitem(globals(), "operator", module)
        virtually(main)
    assert lines.never_ran == []


def test_wrong_settings_end_the_operator_and_are_not_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BmsClient, "from_env", lambda: (_ for _ in ()).throw(ConfigurationError("not set: OS_TOKEN")))

    async def main() -> None:
        with pytest.raises(ConfigurationError):
            await operator.open_client(memo=kopf.Memo())

    virtually(main)
    (handler,) = (each for each in kopf.get_default_registry()._activities._handlers if each.fn is operator.open_client)
    assert handler.errors is kopf.ErrorsMode.PERMANENT


def test_the_kind_has_what_the_handlers_read_and_write() -> None:
    kind = yaml.safe_load(FILE.with_suffix(".yaml").read_text(encoding="utf-8"))["spec"]
    (version,) = kind["versions"]
    assert (kind["group"], version["name"], kind["names"]["plural"]) == operator.KIND
    schema = version["schema"]["openAPIV3Schema"]["properties"]
    assert set(schema["spec"]["properties"]["power"]["enum"]) == set(operator.STATUSES)
    assert set(schema["status"]["properties"]["condition"]["enum"]) == {"Synced", "Progressing", "Degraded", "Conflict"}
    assert operator.describe(None) == {}


async def test_kopf_runs_it_and_ends_it_cleanly(tmp_path: Path) -> None:
    kubernetes = Kubernetes()
    with simulator("--servers", "6", "--job-seconds", "0.1", "0.3", "--seed", "7", "--throttle", "none") as cloud:
        async with kubernetes.serving():
            config = {
                "clusters": [{"name": "here", "cluster": {"server": kubernetes.address}}],
                "users": [{"name": "me", "user": {}}],
                "contexts": [{"name": "this", "context": {"cluster": "here", "user": "me"}}],
                "current-context": "this",
            }
            (tmp_path / "config").write_text(json.dumps(config))
            for number, server_id in enumerate(cloud.ids()[:4]):
                kubernetes.create(f"web-{number}", {"serverId": server_id, "power": "off"})
            command = ("-m", "kopf", "run", "--all-namespaces", "--standalone", str(FILE))
            settings = {**cloud.settings, "KUBECONFIG": str(tmp_path / "config")}
            with running(*command, settings=settings) as program, anyio.fail_after(patience(60.0)):
                await kubernetes.wait_until(lambda: kubernetes.conditions() == {"Synced": 4})
                kubernetes.edit("web-0", {"power": "on"})
                await kubernetes.wait_until(lambda: kubernetes.status("web-0").get("observedGeneration") == 2)
                await kubernetes.wait_until(lambda: kubernetes.conditions() == {"Synced": 4})
                kubernetes.delete("web-1")
                await kubernetes.wait_until(lambda: "web-1" not in kubernetes.objects)
                assert await asyncio.to_thread(program.kill, signal.SIGTERM) == 0
        assert cloud.states() == Counter({"SHUTOFF": 3, "ACTIVE": 3})
        assert cloud.ask("calls")["operations"]["servers.stop"]["arrived"] == 1
    # What kopf says of a timer that does not know when it is to end.
    worse = ("Traceback", "did not exit in time", "is cancelled", "not executed")
    assert [line for line in program.errors if any(words in line for words in worse)] == []
