"""`docs/guides/celery-and-scripts.md`: what its client for code without async does, where the page only says so."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from importlib import import_module
from typing import Any

import pytest

from bms_async import BmsClient, InvalidRequestError, Limits
from bms_async.testing import CloudSettings, SimulatedCloud
from tests.docs.blocks import read_page

PAGE = "docs/guides/celery-and-scripts.md"


@pytest.fixture(scope="module", autouse=True)
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """The page's files in a folder from which they are imported."""
    folder = tmp_path_factory.mktemp("page")
    for block in read_page(PAGE):
        if block.file:
            (folder / block.file).write_text(block.text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(folder)
        yield


@pytest.fixture
def cloud() -> SimulatedCloud:
    return SimulatedCloud(CloudSettings(servers=30, rack_size=10, job_seconds=(0.0, 0.1)))


@pytest.fixture
def blocking(cloud: SimulatedCloud) -> Iterator[Any]:
    before = threading.enumerate()
    with import_module("blocking").BlockingClient(cloud.client(limits=Limits.unlimited())) as client:
        yield client
    assert threading.enumerate() == before


def test_wishes_of_many_threads_are_one_call(cloud: SimulatedCloud, blocking: Any) -> None:
    stop_server = import_module("views").stop_server
    with ThreadPoolExecutor(20) as threads:
        answers = list(threads.map(lambda server_id: stop_server(blocking, server_id), cloud.ids[:20]))
    assert answers == [({"state": "SUCCEEDED", "code": None}, 200)] * 20
    assert cloud.arrived("servers.stop") == 1
    body, status = stop_server(blocking, "no id [at] all")
    assert (status, "expected an id" in body["error"]) == (400, True)


def test_ctrl_c_cancels_what_is_waited_for_and_ends_a_run(cloud: SimulatedCloud, blocking: Any) -> None:
    runs: list[Any] = []

    async def stop_all(bms: BmsClient) -> None:
        async with bms.fleet.stop(cloud.ids, wave_size=1) as run:
            runs.append(run)
            async for _ in run:
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.Event().wait()

    with pytest.raises(KeyboardInterrupt):
        blocking.call(stop_all, blocking.bms)

    async def report_of(run: Any) -> Any:
        return await run

    assert blocking.call(report_of, runs[0]).cancelled


def test_an_error_reaches_the_caller_and_the_client_goes_on(cloud: SimulatedCloud, blocking: Any) -> None:
    with pytest.raises(InvalidRequestError):
        blocking.call(blocking.bms.servers.get, "no id [at] all")
    assert blocking.call(blocking.bms.servers.get, cloud.ids[0]).id == cloud.ids[0]


def test_results_can_be_pickled(cloud: SimulatedCloud, blocking: Any) -> None:
    report = blocking.call(blocking.bms.fleet.stop, [*cloud.ids, "no-such-server"])
    server = blocking.call(blocking.bms.servers.get, cloud.ids[0])
    assert pickle.loads(pickle.dumps(report)).to_json() == report.to_json()
    assert pickle.loads(pickle.dumps(server)) == server


def test_after_a_fork_the_client_says_so_and_does_not_hang(blocking: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as child:
        child.setattr(os, "getpid", lambda: 1)
        with pytest.raises(RuntimeError, match="opened before a fork; open one in each process"):
            blocking.call(blocking.bms.servers.get, "s-1")


def test_the_script_of_the_page_prints_the_servers_that_failed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cloud = SimulatedCloud(CloudSettings(servers=30, rack_size=10, job_seconds=(0.0, 0.1), fail_share=1))
    monkeypatch.setattr(BmsClient, "from_env", lambda: cloud.client(limits=Limits.unlimited()))
    import_module("night")
    assert len(capsys.readouterr().out.splitlines()) == 10
