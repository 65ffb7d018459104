"""Calls made in another way than the client's others: deadlines, short waits, other retries; on a virtual clock."""

from __future__ import annotations

import asyncio
from typing import Any

import anyio
import httpx
import pytest

from bms_async import (
    BmsClient,
    CallTimeoutError,
    ClientClosedError,
    ConfigurationError,
    InvalidRequestError,
    Lane,
    Limits,
    OutcomeState,
    RetryPolicy,
    ServerError,
    StaticToken,
    WaitTooLongError,
)
from tests.support.clouds import simulated
from tests.support.mocked import SERVER, SERVER_ID, client_of, error, mocked, sent, virtually

GOOD = httpx.Response(200, json={"server": {"id": SERVER_ID}})
BUSY = httpx.Response(503, json=error("BMS.0001"))


def now() -> float:
    return asyncio.get_running_loop().time()


def slow(seconds: float, response: httpx.Response = GOOD) -> Any:
    async def answer(_: httpx.Request) -> httpx.Response:
        await anyio.sleep(seconds)
        return httpx.Response(response.status_code, content=response.content)

    return answer


@virtually
async def test_a_view_shares_everything_with_its_client_but_the_way_of_its_calls() -> None:
    async with mocked(limits=Limits({"servers.get": 2})) as (bms, cloud):
        cloud.get(SERVER).mock(return_value=GOOD)
        view = bms.with_options(timeout=5.0)
        await bms.servers.get(SERVER_ID)
        await view.servers.get(SERVER_ID)

        assert view.limits is bms.limits
        assert view.project_id == bms.project_id
        assert bms.limits["servers.get"].statistics().used == 2
        assert bms.statistics().session.calls == 2
        timeouts = [request.extensions["timeout"]["read"] for request in sent(cloud)]
        assert timeouts == [60.0, 5.0]
    with pytest.raises(ClientClosedError):
        await view.servers.get(SERVER_ID)


@virtually
async def test_views_of_views_keep_what_they_do_not_change_and_none_takes_it_back() -> None:
    async with mocked(limits=Limits({"servers.get": 1})) as (bms, cloud):
        cloud.get(SERVER).mock(return_value=GOOD)
        impatient = bms.with_options(max_wait=1.0)
        await impatient.servers.get(SERVER_ID)
        with pytest.raises(WaitTooLongError):
            await impatient.with_options(timeout=3.0).servers.get(SERVER_ID)
        await impatient.with_options(max_wait=None).servers.get(SERVER_ID)
        assert now() == pytest.approx(60, abs=0.1)


@virtually
async def test_a_call_that_would_wait_too_long_fails_at_once_and_says_how_long() -> None:
    async with mocked(limits=Limits({"servers.get": 1})) as (bms, cloud):
        cloud.get(SERVER).mock(return_value=GOOD)
        await bms.servers.get(SERVER_ID)
        with pytest.raises(WaitTooLongError, match=r"servers\.get") as caught:
            await bms.with_options(max_wait=2.0).servers.get(SERVER_ID)
        assert now() < 0.1
        assert caught.value.wait == pytest.approx(60, abs=0.1)
        assert len(sent(cloud)) == 1
        assert bms.statistics().session.failed == 1


@virtually
async def test_a_deadline_counts_all_tries_and_their_delays() -> None:
    async with mocked(retry=RetryPolicy(attempts=10, initial_delay=3.0, max_delay=3.0)) as (bms, cloud):
        cloud.get(SERVER).mock(side_effect=slow(1.0, BUSY))
        with pytest.raises((ServerError, CallTimeoutError)) as caught:
            await bms.with_options(total_timeout=8.0).servers.get(SERVER_ID)
        assert now() <= 8.1
        assert 1 <= len(caught.value.previous) <= 7
        assert {type(each) for each in caught.value.previous} == {ServerError}


@virtually
async def test_a_deadline_that_comes_before_the_answer_says_that_the_call_may_have_arrived() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(SERVER).mock(side_effect=slow(30.0))
        with pytest.raises(CallTimeoutError, match=r"within 5\.0 s, all waiting included") as caught:
            await bms.with_options(total_timeout=5.0).servers.get(SERVER_ID)
        assert now() == pytest.approx(5, abs=0.1)
        assert caught.value.maybe_delivered
        # The cloud has counted the call, whether somebody waits for its answer or not.
        assert bms.limits["servers.get"].statistics().used == 1


@virtually
async def test_a_deadline_that_comes_while_it_waits_for_its_slot_has_sent_nothing() -> None:
    async with mocked(limits=Limits({"servers.get": 1})) as (bms, cloud):
        cloud.get(SERVER).mock(side_effect=slow(50.0))
        async with anyio.create_task_group() as group:
            group.start_soon(bms.servers.get, SERVER_ID)
            await anyio.sleep(1)
            with pytest.raises(WaitTooLongError) as caught:
                await bms.with_options(total_timeout=20.0).servers.get(SERVER_ID)
            assert not caught.value.maybe_done
        assert len(sent(cloud)) == 1


@virtually
async def test_the_error_has_a_note_for_every_attempt() -> None:
    async with mocked(retry=RetryPolicy(attempts=3, initial_delay=0.1)) as (bms, cloud):
        cloud.get(SERVER).mock(side_effect=[BUSY, httpx.ConnectError("no"), BUSY])
        with pytest.raises(ServerError) as caught:
            await bms.servers.get(SERVER_ID)
    assert [type(each).__name__ for each in caught.value.previous] == ["ServerError", "TransportError"]
    first, second = caught.value.__notes__
    assert first.startswith("attempt 1: servers.get: 503 BMS.0001")
    assert second.startswith("attempt 2: servers.get: ConnectError")


@virtually
async def test_a_view_without_retries_tries_once() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(SERVER).mock(return_value=BUSY)
        with pytest.raises(ServerError):
            await bms.with_options(retry=None).servers.get(SERVER_ID)
        assert len(sent(cloud)) == 1


@virtually
async def test_a_view_of_a_lane_makes_its_calls_in_that_lane() -> None:
    async with mocked(limits=Limits({"servers.get": 2}, reserve=0.5)) as (bms, cloud):
        cloud.get(SERVER).mock(return_value=GOOD)
        bulk = bms.with_options(lane=Lane.BULK)
        await bulk.servers.get(SERVER_ID)
        with pytest.raises(WaitTooLongError):
            await bulk.with_options(max_wait=0.0).servers.get(SERVER_ID)
        await bms.with_options(max_wait=0.0).servers.get(SERVER_ID)


@virtually
async def test_a_client_may_have_a_shortest_patience_of_its_own_and_its_fleet_still_waits() -> None:
    async with simulated(servers=3000, limits=Limits({"servers.stop": 1}), job_seconds=(2, 8)) as sim:
        report = await sim.bms.with_options(max_wait=0.5, total_timeout=5.0).fleet.stop(sim.ids)
        assert report.by_state[OutcomeState.SUCCEEDED] == 3000
        assert now() > 120


@virtually
async def test_the_watcher_waits_for_its_polls_whatever_the_client_says() -> None:
    async with simulated(servers=10, job_seconds=(20, 30)) as sim:
        impatient = sim.bms.with_options(max_wait=0.0, total_timeout=1.0)
        job = await impatient.servers.stop(sim.ids)
        assert (await job).status == "SUCCESS"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"timeout": 0}, "timeout=0: expected a number of seconds, above 0"),
        ({"timeout": None}, "timeout=None: expected a number of seconds, above 0"),
        ({"timeout": "5"}, "timeout='5': expected a number of seconds, above 0"),
        ({"total_timeout": -1.0}, "total_timeout=-1.0: expected a number of seconds, above 0"),
        ({"max_wait": -0.1}, "max_wait=-0.1: expected a number of seconds, 0 or more"),
        ({"max_wait": float("nan")}, "max_wait=nan"),
        ({"retry": 3}, "retry=3: expected a RetryPolicy"),
        ({"lane": 0}, "lane=0: expected Lane.INTERACTIVE or Lane.BULK"),
    ],
)
async def test_options_that_cannot_be_are_refused(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRequestError, match=message):
        client_of().with_options(**options)


@pytest.mark.parametrize("name", ["timeout", "total_timeout", "max_wait"])
async def test_a_client_with_such_options_is_refused_as_well(name: str) -> None:
    options: dict[str, Any] = {name: -1.0}
    with pytest.raises(ConfigurationError, match=rf"{name}=-1\.0"):
        BmsClient(endpoint="https://bms.example.com", project_id="p", auth=StaticToken("t"), **options)


@virtually
async def test_a_cancelled_call_leaves_and_its_request_flies_on_and_keeps_its_slot() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(SERVER).mock(side_effect=slow(10.0))
        with anyio.move_on_after(3.0):
            await bms.servers.get(SERVER_ID)
        used = bms.limits["servers.get"].statistics()
        assert (used.used, used.next_slot) == (1, None)
        await anyio.sleep(10.0)
        # The answer came to nobody at 10 s, and the slot comes back a window after that.
        left = bms.limits["servers.get"].statistics()
        assert left.used == 1
        await anyio.sleep(61.0)
        assert bms.limits["servers.get"].statistics().used == 0
