"""Calls that were counted out in other words than 429, and callers who cannot wait as long as the cloud asks."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import httpx
import pytest

from bms_async import BadRequestError, Limits, RateLimitedError, ServerError, WaitTooLongError
from tests.session.test_retries import GOOD, YES, answer_in_turn
from tests.support.mocked import ACTION, IDS, SERVER, SERVER_ID, mocked, sent, virtually

WORDS = "This request was rate-limited."
NATIVE = r".*/v2\.1/.*/servers/.*"


def over_limit(asked: object = "6", *, header: bool = True, words: str = WORDS) -> httpx.Response:
    error = {"code": 413, "message": words, "details": "Only 10 POST request(s) can be made to * every minute."}
    body = {"overLimit": error if asked is None else error | {"retryAfter": asked}}
    return httpx.Response(413, json=body, headers={"Retry-After": str(asked)} if header else {})


@pytest.mark.parametrize(
    "refusal",
    [
        over_limit(),
        over_limit(header=False),
        over_limit(6, header=False),
        httpx.Response(413, text="Too many", headers={"Retry-After": "6"}),
        httpx.Response(429, json={"error": {"message": "slow down", "retryAfter": 6.0}}),
    ],
)
@virtually
async def test_what_was_counted_out_goes_again_when_the_cloud_said_even_a_reboot(refusal: httpx.Response) -> None:
    async with mocked() as (bms, cloud):
        times = answer_in_turn(cloud.post(ACTION), refusal, refusal, YES)

        await bms.servers.reboot(IDS)

        assert [round(later - times[0], 1) for later in times] == [0, 6, 12]
        assert bms.limits["servers.reboot"].statistics().refused == 2


@virtually
async def test_all_calls_of_a_native_operation_wait_as_long_as_nova_asks() -> None:
    async with mocked() as (bms, cloud):
        times = answer_in_turn(cloud.post(url__regex=NATIVE), over_limit(), httpx.Response(202))

        async with asyncio.TaskGroup() as group:
            group.create_task(bms.nova.servers.stop(SERVER_ID))
            await asyncio.sleep(1)
            group.create_task(bms.nova.servers.stop("another"))

        assert len(times) == 3
        assert min(times[1:]) - times[0] >= 6


@virtually
async def test_a_413_without_a_word_of_waiting_is_about_size_and_is_not_sent_again() -> None:
    async with mocked() as (bms, cloud):
        cloud.post(ACTION).respond(413, json={"badRequest": {"code": 413, "message": "too large"}})

        with pytest.raises(BadRequestError):
            await bms.servers.stop(IDS)
        assert len(sent(cloud)) == 1


@virtually
async def test_a_quota_of_servers_is_no_limit_of_calls_though_nova_says_it_in_the_same_way() -> None:
    async with mocked() as (bms, cloud):
        words = "Quota exceeded for instances: Requested 1, but already used 10 of 10 instances"
        cloud.post(ACTION).mock(return_value=over_limit(0, words=words))

        with pytest.raises(BadRequestError, match="already used 10"):
            await bms.servers.stop(IDS)
        assert len(sent(cloud)) == 1


@virtually
async def test_a_cloud_that_is_out_of_order_until_later_is_no_limit() -> None:
    async with mocked() as (bms, cloud):
        times = answer_in_turn(cloud.get(SERVER), httpx.Response(503, headers={"Retry-After": "30"}), GOOD)

        await bms.servers.get(SERVER_ID)

        assert round(times[1] - times[0]) == 30
        assert bms.limits["servers.get"].statistics().refused == 0


@pytest.mark.parametrize("make", [Limits, Limits.unlimited])
@pytest.mark.parametrize(("max_wait", "deadline"), [(5.0, None), (None, 20.0)])
@virtually
async def test_a_call_that_cannot_wait_that_long_fails_at_once_with_the_wait_in_its_error(
    max_wait: float | None, deadline: float | None, make: Callable[[], Limits]
) -> None:
    refusal = httpx.Response(429, headers={"Retry-After": "600"})
    async with mocked(limits=make()) as (bms, cloud):
        times = answer_in_turn(cloud.post(ACTION), refusal, YES)
        began = asyncio.get_running_loop().time()

        with pytest.raises(WaitTooLongError, match=r"(599\.\d|600\.0) s") as caught:
            await bms.with_options(max_wait=max_wait, total_timeout=deadline).servers.stop(IDS)

        assert asyncio.get_running_loop().time() - began < 1
        assert [type(each) for each in caught.value.previous] == [RateLimitedError]
        assert len(times) == 1


@pytest.mark.parametrize(("max_wait", "deadline"), [(5.0, None), (None, 20.0)])
@virtually
async def test_who_cannot_wait_for_a_cloud_that_is_out_of_order_gets_its_answer_at_once(
    max_wait: float | None, deadline: float | None
) -> None:
    async with mocked() as (bms, cloud):
        cloud.get(SERVER).respond(503, headers={"Retry-After": "600"})
        began = asyncio.get_running_loop().time()

        with pytest.raises(ServerError) as caught:
            await bms.with_options(max_wait=max_wait, total_timeout=deadline).servers.get(SERVER_ID)

        assert asyncio.get_running_loop().time() - began < 1
        assert caught.value.retry_after == 600
