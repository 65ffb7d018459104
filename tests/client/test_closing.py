"""Closing a client works from wherever it is closed, and leaves nothing (R4)."""

from __future__ import annotations

import asyncio
import logging
import os
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest

from bms_async import BmsClient, ClientClosedError, FleetRun, HttpxTransport, Limits, Outcome, StaticToken
from bms_async._tasks import GRACE, BackgroundTasks
from bms_async.testing import CloudSettings, SimulatedCloud, SimulatorProcess, run_virtually
from bms_async.wire import HttpRequest, HttpResponse
from tests.support.machine import patience

SERVERS = 3


@contextmanager
def nothing_is_left() -> Iterator[None]:
    before = asyncio.all_tasks()
    yield
    assert asyncio.all_tasks() - before == set()


def closing_in(which: str, close: Callable[[BmsClient], Awaitable[object]]) -> FleetRun:
    """Play a run whose callback closes the client; return the run once it has ended."""

    async def main() -> FleetRun:
        cloud = SimulatedCloud(CloudSettings(servers=SERVERS))
        bms = cloud.client()

        async def leave(_: object) -> None:
            await close(bms)

        with nothing_is_left():
            await bms.__aenter__()
            callbacks: dict[str, Any] = {which: leave}
            run = bms.fleet.stop(cloud.ids, **callbacks)
            await asyncio.wait({asyncio.ensure_future(report_of(run))}, timeout=600)
            await bms.aclose()
        return run

    return run_virtually(main)


async def report_of(run: FleetRun) -> object:
    return await run


async def in_time(bms: BmsClient) -> None:
    async with asyncio.timeout(1):
        await bms.aclose()


async def in_a_task(bms: BmsClient) -> None:
    await asyncio.wait_for(bms.aclose(), 1)


async def in_a_group(bms: BmsClient) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(bms.aclose)


async def twice(bms: BmsClient) -> None:
    await bms.aclose()
    await bms.aclose()


@pytest.mark.parametrize("close", [BmsClient.aclose, in_time, in_a_task, in_a_group, twice])
@pytest.mark.parametrize("which", ["on_outcome", "on_job"])
def test_r4_a_callback_closes_the_client(which: str, close: Callable[[BmsClient], Awaitable[object]]) -> None:
    run = closing_in(which, close)

    assert run.report is not None
    assert len(run.report) == SERVERS


def test_r4_a_source_of_ids_closes_the_client() -> None:
    async def main() -> FleetRun:
        cloud = SimulatedCloud(CloudSettings(servers=SERVERS))
        bms = cloud.client()

        async def ids() -> AsyncIterator[str]:
            yield cloud.ids[0]
            await bms.aclose()
            await anyio.sleep_forever()

        with nothing_is_left():
            await bms.__aenter__()
            run = bms.fleet.stop(ids())
            await asyncio.wait({asyncio.ensure_future(report_of(run))}, timeout=600)
            await bms.aclose()
        return run

    run = run_virtually(main)
    assert run.report is not None
    assert [outcome.server_id for outcome in run.report.outcomes] == [run.report.outcomes[0].server_id]


def test_r4_a_transport_closes_its_client() -> None:
    clients: list[BmsClient] = []

    class Leaving:
        async def send(self, request: HttpRequest) -> HttpResponse:
            await clients[0].aclose()
            return HttpResponse(status=200, body=b"{}")

    async def main() -> None:
        with nothing_is_left():
            async with client_over(Leaving()) as bms:
                clients.append(bms)
                with pytest.raises(ClientClosedError):
                    await bms.servers.get("a")

    run_virtually(main)


def client_over(transport: Any, limits: Limits | None = None) -> BmsClient:
    auth = StaticToken("a-token-of-some-length")
    return BmsClient(endpoint="http://127.0.0.1:1", project_id="p", auth=auth, transport=transport, limits=limits)


class Silent:
    """A transport that never answers."""

    async def send(self, request: HttpRequest) -> HttpResponse:
        await anyio.sleep_forever()
        raise AssertionError("nobody waits that long")


def test_whoever_closes_a_client_that_is_being_closed_waits_for_the_same_end() -> None:
    async def main() -> None:
        bms = client_over(Silent())
        await bms.__aenter__()
        with nothing_is_left():
            call = asyncio.ensure_future(bms.servers.get("a"))
            await asyncio.sleep(1)
            await asyncio.gather(bms.aclose(), bms.aclose(), return_exceptions=True)
            assert call.done()
            with pytest.raises(ClientClosedError):
                await call

    run_virtually(main)


def test_r4_a_client_is_closed_after_somebody_has_cancelled_every_task() -> None:
    async def main() -> None:
        bms = client_over(Silent())
        with nothing_is_left():
            await bms.__aenter__()
            call = asyncio.ensure_future(bms.servers.get("a"))
            await asyncio.sleep(1)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.wait({call})
            await bms.aclose()
        with pytest.raises(ClientClosedError):
            await bms.servers.get("a")

    run_virtually(main)


def test_r4_what_refuses_to_be_cancelled_does_not_hold_the_closing_up(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> float:
        released = asyncio.Event()

        class Stubborn:
            async def send(self, request: HttpRequest) -> HttpResponse:
                while not released.is_set():
                    try:
                        await released.wait()
                    except asyncio.CancelledError:
                        continue
                return HttpResponse(status=200, body=b"{}")

        loop = asyncio.get_running_loop()
        with nothing_is_left():
            bms = client_over(Stubborn())
            await bms.__aenter__()
            call = asyncio.ensure_future(bms.servers.get("a"))
            await asyncio.sleep(1)
            begun = loop.time()
            await bms.aclose()
            took = loop.time() - begun
            released.set()
            with pytest.raises(ClientClosedError):
                await call
            await asyncio.sleep(1)
        return took

    with caplog.at_level(logging.ERROR, "bms_async"):
        assert GRACE <= run_virtually(main) <= 2 * GRACE
    assert "bms_async send does not end though it was cancelled" in caplog.text


def test_r4_ctrl_c_in_a_task_of_the_client_leaves_it_to_be_closed() -> None:
    loop = asyncio.new_event_loop()
    before = threading.active_count()

    class Interrupted:
        async def send(self, request: HttpRequest) -> HttpResponse:
            raise KeyboardInterrupt

    bms = client_over(Interrupted())
    try:
        loop.run_until_complete(bms.__aenter__())
        call = loop.create_task(bms.servers.get("a"))
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(call)
        loop.run_until_complete(bms.aclose())
        assert not asyncio.all_tasks(loop)
        assert isinstance(call.exception(), ClientClosedError)
    finally:
        loop.close()
    assert threading.active_count() == before


def test_r4_a_loop_that_is_driven_by_hand_closes_the_client() -> None:
    loop = asyncio.new_event_loop()
    bms = client_over(Silent())
    ended: list[BaseException | None] = []

    async def main() -> None:
        await bms.__aenter__()
        call = asyncio.ensure_future(bms.servers.get("a"))
        await asyncio.sleep(0)
        await bms.aclose()
        await asyncio.wait({call})
        ended.append(call.exception())

    try:
        task = loop.create_task(main())
        task.add_done_callback(lambda _: loop.stop())
        loop.run_forever()
        assert not asyncio.all_tasks(loop)
    finally:
        loop.close()
    assert isinstance(ended[0], ClientClosedError)


async def test_a_client_is_not_closed_from_the_loop_of_another_thread() -> None:
    refusals: list[BaseException] = []

    def close_elsewhere() -> None:
        try:
            asyncio.run(bms.aclose())
        except ClientClosedError as error:
            refusals.append(error)

    async with client_over(Silent()) as bms:
        thread = threading.Thread(target=close_elsewhere)
        thread.start()
        await anyio.to_thread.run_sync(thread.join)
        assert "another event loop" in str(refusals[0])
        assert repr(bms).startswith("<BmsClient open")


def test_a_client_whose_loop_is_gone_is_closed_in_silence() -> None:
    bms = client_over(Silent())

    asyncio.run(bms.__aenter__())
    asyncio.run(bms.aclose())

    assert repr(bms).startswith("<BmsClient closed")


def test_a_client_whose_loop_is_gone_is_closed_though_a_call_of_it_waits() -> None:
    bms = client_over(Silent(), Limits({"servers.get": 1}))
    loop = asyncio.new_event_loop()

    async def main() -> asyncio.Task[Any]:
        await bms.__aenter__()
        await bms.limits["servers.get"].acquire()
        call = asyncio.ensure_future(bms.servers.get("a"))
        await asyncio.sleep(0)
        return call

    call = loop.run_until_complete(main())
    loop.close()
    asyncio.run(bms.aclose())

    assert repr(bms).startswith("<BmsClient closed")
    assert not call.done()


def test_a_task_that_is_cleaning_up_is_not_cancelled_again() -> None:
    async def main() -> list[str]:
        seen: list[str] = []

        async def work() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                seen.append("begun")
                await asyncio.sleep(1)
                seen.append("ended")

        owner = BackgroundTasks("an owner")
        await owner.open()
        owner.start(work)
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0)
        await owner.aclose()
        return seen

    assert run_virtually(main) == ["begun", "ended"]


async def test_a_task_that_is_started_in_the_moment_of_closing_takes_its_first_step() -> None:
    seen: list[str] = []

    async def work() -> None:
        try:
            seen.append("begun")
            await asyncio.sleep(3600)
        finally:
            seen.append("ended")

    owner = BackgroundTasks("an owner")
    await owner.open()
    with nothing_is_left():
        owner.start(work)
        await owner.aclose()
    assert seen == ["begun", "ended"]


async def test_an_outcome_has_come_before_a_callback_is_asked() -> None:
    outcomes: list[Outcome] = []
    cloud = SimulatedCloud(CloudSettings(servers=1, job_seconds=(0.01, 0.02)))

    async def leave(outcome: Outcome) -> None:
        outcomes.append(outcome)
        await bms.aclose()

    async with cloud.client() as bms:
        run = bms.fleet.stop(cloud.ids, on_outcome=leave)
        with anyio.fail_after(60):
            await report_of(run)
    assert [outcome.server_id for outcome in outcomes] == list(cloud.ids)


@pytest.mark.parametrize("passes", range(1, 12))
def test_r4_a_client_that_is_closed_while_it_is_opened_is_closed(passes: int) -> None:
    async def main() -> BmsClient:
        cloud = SimulatedCloud(CloudSettings(servers=SERVERS))
        bms = cloud.client()
        with nothing_is_left():
            opening = asyncio.ensure_future(bms.__aenter__())
            for _ in range(passes):
                await asyncio.sleep(0)
            await bms.aclose()
            (result,) = await asyncio.gather(opening, return_exceptions=True)
            assert result is bms or isinstance(result, ClientClosedError)
            with pytest.raises(ClientClosedError):
                await bms.servers.get(cloud.ids[0])
        return bms

    assert repr(run_virtually(main)).startswith("<BmsClient closed")


@pytest.mark.parametrize("which", ["on_outcome", "on_job"])
def test_r4_callbacks_of_two_clients_close_the_other_one(which: str, caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> list[FleetRun]:
        cloud = SimulatedCloud(CloudSettings(servers=SERVERS))
        one, other = cloud.client(), cloud.client()

        async def close_one(_: object) -> None:
            await one.aclose()

        async def close_other(_: object) -> None:
            await other.aclose()

        callbacks: list[dict[str, Any]] = [{which: close_other}, {which: close_one}]
        with nothing_is_left():
            await one.__aenter__()
            await other.__aenter__()
            runs = [one.fleet.stop(cloud.ids, **callbacks[0]), other.fleet.stop(cloud.ids, **callbacks[1])]
            await asyncio.gather(*map(report_of, runs))
            await one.aclose()
            await other.aclose()
        return runs

    runs = run_virtually(main)
    assert [len(run.report or ()) for run in runs] == [SERVERS] * 2
    assert not caplog.records


@pytest.mark.parametrize("times", [1, 2])
@pytest.mark.parametrize("passes", range(8))
def test_r4_a_client_is_closed_after_somebody_has_cancelled_the_closing_too(passes: int, times: int) -> None:
    closed: list[None] = []

    class Watched(HttpxTransport):
        async def _close_connections(self) -> None:
            await super()._close_connections()
            closed.append(None)

    async def main() -> None:
        with nothing_is_left():
            bms = client_over(Watched(httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(500)))))
            await bms.__aenter__()
            job = bms.jobs.watch("j")
            closing = asyncio.ensure_future(bms.aclose())
            for _ in range(passes):
                await asyncio.sleep(0)
            for _ in range(times):
                for task in asyncio.all_tasks() - {asyncio.current_task()}:
                    task.cancel()
                await asyncio.sleep(0)
            await asyncio.gather(closing, return_exceptions=True)
            await bms.aclose()
            with pytest.raises(ClientClosedError):
                await job

    run_virtually(main)
    assert closed == [None]


@pytest.mark.parametrize("limits", [None, Limits.unlimited()], ids=["waiting for slots", "waiting for connections"])
def test_r9_closing_ends_many_calls_some_at_a_time(limits: Limits | None) -> None:
    many = 5_000

    async def main() -> list[int]:
        bms = client_over(Silent(), limits=limits)
        await bms.__aenter__()
        calls = [asyncio.ensure_future(bms.servers.get("a")) for _ in range(many)]
        await asyncio.sleep(1)
        closing = asyncio.ensure_future(bms.aclose())
        done = [0]
        while not closing.done():
            await asyncio.sleep(0)
            done.append(sum(call.done() for call in calls))
        assert {type(call.exception()) for call in calls} == {ClientClosedError}
        return done

    done = run_virtually(main)
    assert done[-1] == many
    assert max(later - before for before, later in pairwise(done)) < many / 10


DRIVEN_BY_HAND = """
import asyncio, os, sys, threading

import aiohttp
import anyio.to_thread

from bms_async import AiohttpTransport, BmsClient, Http1Transport, HttpxTransport, PasswordAuth

kind, cache_file = sys.argv[1:]
transports = {
    "aiohttp": lambda: AiohttpTransport(aiohttp.ClientSession()),
    "http1": Http1Transport,
    "httpx": HttpxTransport,
    "default": lambda: None,
}
auth = PasswordAuth(
    auth_url=os.environ["OS_AUTH_URL"],
    username=os.environ["OS_USERNAME"],
    password=os.environ["OS_PASSWORD"],
    user_domain_name=os.environ["OS_USER_DOMAIN_NAME"],
    project_id=os.environ["OS_PROJECT_ID"],
    cache_file=cache_file,
)


async def main():
    if kind == "a pool of anyio":
        await anyio.to_thread.run_sync(int)
    else:
        async with BmsClient(endpoint=os.environ["BMS_ENDPOINT"], auth=auth, transport=transports[kind]()) as bms:
            assert len([server async for server in bms.servers.list()]) == 3
    print(threading.active_count(), flush=True)
    loop.stop()


loop = asyncio.new_event_loop()
task = loop.create_task(main())
loop.run_forever()
"""


@pytest.fixture(scope="module")
def simulator() -> Iterator[SimulatorProcess]:
    with SimulatorProcess(CloudSettings(servers=SERVERS)) as process:
        yield process


def driven_by_hand(simulator: SimulatorProcess, folder: Path, kind: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", DRIVEN_BY_HAND, kind, str(folder / "tokens")],
        env={**os.environ, **simulator.environment("password")},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("kind", ["aiohttp", "http1", "httpx", "default"])
def test_r4_a_program_whose_loop_is_driven_by_hand_ends(simulator: SimulatorProcess, tmp_path: Path, kind: str) -> None:
    with driven_by_hand(simulator, tmp_path, kind) as program:
        output, errors = program.communicate(timeout=patience(60.0))

    assert (output, errors, program.returncode) == ("1\n", "", 0)
    assert (tmp_path / "tokens").exists()


def test_a_pool_of_threads_would_be_left_then(simulator: SimulatorProcess, tmp_path: Path) -> None:
    with driven_by_hand(simulator, tmp_path, "a pool of anyio") as program:
        assert program.stdout is not None
        assert program.stdout.readline() == "2\n"
        program.kill()
