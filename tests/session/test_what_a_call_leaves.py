"""What a call that ended early says of itself, and what it leaves to the others."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager

import anyio
import httpx
import pytest

from bms_async import (
    BmsClient,
    BmsError,
    CallError,
    CallTimeoutError,
    FleetReport,
    HttpxTransport,
    Limits,
    OutcomeState,
    ServerError,
    TransportError,
    WaitTooLongError,
)
from bms_async.simulator import Answer, Fault, Throttled
from bms_async.wire import HttpRequest, HttpResponse
from tests.support.clouds import simulated
from tests.support.mocked import ENDPOINT, IDS, PROJECT, SERVER, SERVER_ID, mocked, virtually
from tests.support.virtual_clock import advance, run_virtually


class SlowCredentials:
    """Credentials that come at once so many times, and then never."""

    def __init__(self, *, good: int = 0) -> None:
        self.good = good

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        del request
        self.good -= 1
        if self.good < 0:
            await asyncio.Event().wait()
        return {"X-Auth-Token": "token"}

    def redact(self, text: str) -> str:
        return text


@asynccontextmanager
async def client_with(
    auth: SlowCredentials, *answers: httpx.Response, connections: int = 8, limits: Limits | None = None
) -> AsyncIterator[BmsClient]:
    """Yield a client whose cloud gives these answers, and then none."""
    left = list(answers)

    async def cloud(_: httpx.Request) -> httpx.Response:
        if not left:
            await asyncio.Event().wait()
        return left.pop(0)

    carrier = HttpxTransport(httpx.AsyncClient(transport=httpx.MockTransport(cloud)), connections=connections)
    async with BmsClient(endpoint=ENDPOINT, project_id=PROJECT, auth=auth, transport=carrier, limits=limits) as bms:
        yield bms


@virtually
async def test_a_deadline_that_comes_while_a_refused_call_waits_for_its_next_credentials_has_sent_nothing() -> None:
    refused = httpx.Response(429, headers={"Retry-After": "2"})
    async with client_with(SlowCredentials(good=1), refused) as bms:
        with pytest.raises(CallTimeoutError) as caught:
            await bms.with_options(total_timeout=10.0).servers.stop(IDS)
        assert not caught.value.maybe_delivered
        assert not caught.value.maybe_done
        assert bms.statistics().session.failed == 1


@virtually
async def test_a_deadline_that_comes_while_a_call_waits_for_a_connection_has_sent_nothing() -> None:
    async with client_with(SlowCredentials(good=2), connections=1) as bms, anyio.create_task_group() as others:
        others.start_soon(bms.servers.get, SERVER_ID)
        await advance(1)
        with pytest.raises(CallTimeoutError) as caught:
            await bms.with_options(total_timeout=5.0).servers.stop(IDS)
        assert not caught.value.maybe_delivered
        others.cancel_scope.cancel()


@virtually
async def test_a_call_that_is_cancelled_while_it_waits_for_credentials_gives_its_slot_back() -> None:
    async with client_with(SlowCredentials(), limits=Limits({"servers.get": 1})) as bms:
        with anyio.move_on_after(1):
            await bms.servers.get(SERVER_ID)
        assert bms.limits["servers.get"].statistics().used == 0


@virtually
async def test_an_error_comes_at_once_when_the_delay_before_the_next_try_would_outlast_the_deadline() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(SERVER).mock(return_value=httpx.Response(503, headers={"Retry-After": "50"}))
        begun = anyio.current_time()
        with pytest.raises(ServerError):
            await bms.with_options(total_timeout=10.0).servers.get(SERVER_ID)
        assert anyio.current_time() - begun < 1.0


@pytest.mark.parametrize(("max_wait", "deadline"), [(5.0, 100.0), (100.0, 5.0)])
@virtually
async def test_a_call_waits_for_its_slot_until_the_earlier_of_two_ends(max_wait: float, deadline: float) -> None:
    async with mocked(limits=Limits({"servers.get": 1})) as (bms, _):
        (await bms.limits["servers.get"].acquire()).release()
        with pytest.raises(WaitTooLongError) as caught:
            await bms.with_options(max_wait=max_wait, total_timeout=deadline).servers.get(SERVER_ID)
        assert caught.value.max_wait == pytest.approx(5.0, abs=0.1)


def test_a_run_that_lets_go_does_not_know_of_a_batch_that_may_have_been_done_before_it_was_refused() -> None:
    def fault(operation: str, nth: int, _: str) -> Fault | None:
        if operation != "servers.stop":
            return None
        return Answer(status=503, acted=True) if nth == 1 else Throttled(retry_after=30)

    async def main() -> FleetReport:
        async with simulated(servers=2) as sim:
            sim.cloud.faults.append(fault)
            run = sim.bms.fleet.stop(sim.ids)
            await advance(10)
            assert sim.arrived("servers.stop") == 2
            run.cancel(detach=True)
            return await run

    assert run_virtually(main).by_state[OutcomeState.UNKNOWN] == 2


class Renewing(SlowCredentials):
    """Credentials that cannot be renewed."""

    async def renew(self, request: HttpRequest, response: HttpResponse) -> bool:
        del request, response
        raise TransportError("no token", maybe_delivered=False)


@pytest.mark.parametrize("has_hooks", [False, True])
@pytest.mark.parametrize("runs_in_a_task", [False, True])
@pytest.mark.parametrize(
    "cloud",
    [
        lambda _: httpx.Response(404),
        lambda _: httpx.Response(401),
        lambda _: httpx.Response(429, headers={"Retry-After": "1"}),
        lambda _: httpx.Response(503),
        lambda _: httpx.Response(200, content=b"{"),
    ],
    ids=["not found", "not authorized", "rate-limited", "unavailable", "unreadable"],
)
@virtually
async def test_an_error_of_a_call_is_freed_without_the_garbage_collector(
    cloud: Callable[[httpx.Request], httpx.Response], *, runs_in_a_task: bool, has_hooks: bool
) -> None:
    carrier = HttpxTransport(httpx.AsyncClient(transport=httpx.MockTransport(cloud)))
    client = BmsClient(
        endpoint=ENDPOINT,
        project_id=PROJECT,
        auth=Renewing(good=100),
        transport=carrier,
        hooks=[lambda _: None] if has_hooks else (),
    )

    async def fail() -> list[weakref.ref[BmsError]]:
        try:
            await (
                asyncio.ensure_future(client.servers.get(SERVER_ID))
                if runs_in_a_task
                else client.servers.get(SERVER_ID)
            )
        except CallError as error:
            return [weakref.ref(each) for each in (error, *error.previous)]
        raise AssertionError

    async with client:
        # What is imported on first use leaves garbage of its own.
        await fail()
        gc.collect()
        gc.disable()
        try:
            errors = await fail()
            await asyncio.sleep(0)
            assert [error() for error in errors] == [None] * len(errors)
        finally:
            gc.enable()
