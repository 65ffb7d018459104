"""A call that failed: sent again where that can help and can do no harm, and never otherwise. On a virtual clock."""

from __future__ import annotations

import asyncio
import itertools

import httpx
import pytest
import respx

from bms_async import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    CallError,
    DecodeError,
    Limits,
    RateLimitedError,
    RetryPolicy,
    ServerError,
    TransportError,
)
from tests.support.mocked import ACCEPTED, ACTION, IDS, JOB, SERVER, SERVER_ID, error, mocked, sent, virtually

GOOD = httpx.Response(200, json={"server": {"id": SERVER_ID}})
FLAVORS: dict[str, object] = {"flavors": []}
YES = httpx.Response(200, json=ACCEPTED)
THROTTLED = {
    "error_code": "APIGW.0308",
    "error_msg": "The throttling threshold has been reached: policy user over ratelimit,limit:50,time:1 minute",
}


def now() -> float:
    return asyncio.get_running_loop().time()


def answer_in_turn(route: respx.Route, *answers: httpx.Response | type[Exception]) -> list[float]:
    """Answer with one after the other, the last one for ever; return when each was asked for, as it fills."""
    left = list(answers)
    times: list[float] = []

    def answer(request: httpx.Request) -> httpx.Response:
        times.append(now())
        current = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(current, httpx.Response):
            return httpx.Response(current.status_code, headers=current.headers, content=current.content)
        raise current("gone")

    route.mock(side_effect=answer)
    return times


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
@virtually
async def test_a_read_is_tried_again_after_the_cloud_failed(status: int) -> None:
    async with mocked() as (bms, cloud):
        times = answer_in_turn(cloud.get(SERVER), httpx.Response(status), GOOD)

        assert (await bms.servers.get(SERVER_ID)).id == SERVER_ID
        assert len(times) == 2
        assert times[1] - times[0] <= 0.51


@pytest.mark.parametrize("failure", [httpx.ReadError, httpx.ConnectError, httpx.ReadTimeout, httpx.RemoteProtocolError])
@virtually
async def test_a_read_is_tried_again_when_no_answer_came(failure: type[Exception]) -> None:
    async with mocked() as (bms, cloud):
        times = answer_in_turn(cloud.get(SERVER), failure, failure, GOOD)

        assert (await bms.servers.get(SERVER_ID)).id == SERVER_ID
        assert len(times) == 3


@virtually
async def test_a_read_is_tried_again_when_half_an_answer_came() -> None:
    async with mocked() as (bms, cloud):
        half = httpx.Response(200, content=GOOD.content[:9])
        times = answer_in_turn(cloud.get(SERVER), half, GOOD)

        assert (await bms.servers.get(SERVER_ID)).id == SERVER_ID
        assert len(times) == 2


@pytest.mark.parametrize("action", ["start", "stop"])
@virtually
async def test_start_and_stop_are_sent_again_after_a_lost_answer(action: str) -> None:
    async with mocked() as (bms, cloud):
        times = answer_in_turn(cloud.post(ACTION), httpx.ReadError, YES)

        job = await getattr(bms.servers, action)(IDS)

        assert job.id == ACCEPTED["job_id"]
        assert len(times) == 2
        first, second = sent(cloud, to=ACTION)
        assert first.content == second.content


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ReadError,
        httpx.WriteError,
        httpx.ReadTimeout,
        httpx.WriteTimeout,
        httpx.RemoteProtocolError,
        httpx.CloseError,
        ValueError,
    ],
)
@virtually
async def test_a_reboot_is_never_sent_again_when_it_may_have_been_delivered(failure: type[Exception]) -> None:
    def fail(request: httpx.Request) -> httpx.Response:
        raise failure("gone")

    async with mocked() as (bms, cloud):
        cloud.post(ACTION).mock(side_effect=fail)

        with pytest.raises(TransportError) as caught:
            await bms.servers.reboot(IDS)

        assert caught.value.maybe_delivered
        assert caught.value.maybe_done
        assert caught.value.operation == "servers.reboot"
        assert len(sent(cloud)) == 1


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
@virtually
async def test_a_reboot_is_never_sent_again_after_the_cloud_failed(status: int) -> None:
    async with mocked() as (bms, cloud):
        cloud.post(ACTION).respond(status)

        with pytest.raises(ApiError) as caught:
            await bms.servers.reboot(IDS)

        assert caught.value.maybe_done
        assert len(sent(cloud)) == 1


@virtually
async def test_a_reboot_whose_yes_cannot_be_read_is_not_asked_for_again() -> None:
    async with mocked() as (bms, cloud):
        cloud.post(ACTION).respond(200, content=b'{"job_id": "70a5')

        with pytest.raises(DecodeError) as caught:
            await bms.servers.reboot(IDS)

        assert caught.value.maybe_done
        assert len(sent(cloud)) == 1


@pytest.mark.parametrize("failure", [httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout])
@virtually
async def test_a_reboot_is_sent_again_when_it_surely_never_arrived(failure: type[Exception]) -> None:
    async with mocked() as (bms, cloud):
        times = answer_in_turn(cloud.post(ACTION), failure, YES)

        assert (await bms.servers.reboot(IDS)).id == ACCEPTED["job_id"]
        assert len(times) == 2


@pytest.mark.parametrize("refusal", [httpx.Response(429, json=THROTTLED), httpx.Response(400, json=error("BMS.0212"))])
@virtually
async def test_a_reboot_that_was_counted_out_is_sent_again(refusal: httpx.Response) -> None:
    async with mocked() as (bms, cloud):
        times = answer_in_turn(cloud.post(ACTION), refusal, YES)

        assert (await bms.servers.reboot(IDS)).id == ACCEPTED["job_id"]
        assert len(times) == 2


@virtually
async def test_a_refused_operation_stands_still_as_long_as_retry_after_says_and_then_goes_on() -> None:
    refusal = httpx.Response(429, json=THROTTLED, headers={"Retry-After": "7"})
    async with mocked() as (bms, cloud):
        times = answer_in_turn(cloud.post(ACTION), refusal, YES)

        await bms.servers.stop(IDS)

        assert len(times) == 2
        assert 7 <= times[1] - times[0] < 7.1


@pytest.mark.parametrize(("asked", "waited"), [("600", 600), ("3600", 3600), ("86400", 3600)])
@virtually
async def test_what_retry_after_asks_for_is_obeyed_up_to_an_hour(asked: str, waited: float) -> None:
    refusal = httpx.Response(429, json=THROTTLED, headers={"Retry-After": asked})
    async with mocked(retry=RetryPolicy(max_delay=1)) as (bms, cloud):
        times = answer_in_turn(cloud.post(ACTION), refusal, YES)

        await bms.servers.stop(IDS)

        assert waited <= times[1] - times[0] < waited + 0.1


@virtually
async def test_a_refused_operation_stands_still_for_a_window_when_nothing_says_how_long() -> None:
    async with mocked() as (bms, cloud):
        times = answer_in_turn(cloud.post(ACTION), httpx.Response(429, json=THROTTLED), YES)

        await bms.servers.stop(IDS)

        assert len(times) == 2
        assert 60 <= times[1] - times[0] < 60.2


@virtually
async def test_others_who_ask_for_a_refused_operation_wait_with_it_and_other_operations_go_on() -> None:
    refusal = httpx.Response(429, headers={"Retry-After": "20"})
    async with mocked() as (bms, cloud):
        times = answer_in_turn(cloud.post(ACTION), refusal, YES)
        reads = answer_in_turn(cloud.get(SERVER), GOOD)

        async with asyncio.TaskGroup() as group:
            group.create_task(bms.servers.stop(IDS))
            await asyncio.sleep(1)
            group.create_task(bms.servers.stop(["another"]))
            await bms.servers.get(SERVER_ID)

        assert len(times) == 3
        assert min(times[1:]) - times[0] >= 20
        assert reads[0] < 2


@virtually
async def test_refusals_are_no_failures_and_have_their_own_patience() -> None:
    policy = RetryPolicy(attempts=1, rate_limit_attempts=3)
    async with mocked(retry=policy) as (bms, cloud):
        cloud.get(SERVER).respond(429, headers={"Retry-After": "1"})

        with pytest.raises(RateLimitedError) as caught:
            await bms.servers.get(SERVER_ID)

        assert len(sent(cloud)) == 4
        assert [type(earlier) for earlier in caught.value.previous] == [RateLimitedError] * 3


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(400, json=error("BMS.0001")), BadRequestError),
        (httpx.Response(401, json={"error_code": "APIGW.0301"}), AuthenticationError),
        (httpx.Response(403), ApiError),
        (httpx.Response(404), ApiError),
        (httpx.Response(409), ApiError),
        (httpx.Response(501), ServerError),
    ],
)
@virtually
async def test_what_would_be_refused_again_is_not_sent_again(answer: httpx.Response, kind: type[ApiError]) -> None:
    async with mocked() as (bms, cloud):
        times = answer_in_turn(cloud.get(SERVER), answer)

        with pytest.raises(kind) as caught:
            await bms.servers.get(SERVER_ID)

        assert len(times) == 1
        assert caught.value.previous == ()


@pytest.mark.parametrize("failure", [httpx.Response(503), httpx.Response(429), httpx.ReadError, httpx.ConnectError])
@virtually
async def test_without_a_policy_nothing_is_sent_again(failure: httpx.Response | type[Exception]) -> None:
    async with mocked(retry=None) as (bms, cloud):
        times = answer_in_turn(cloud.get(SERVER), failure)

        with pytest.raises(CallError):
            await bms.servers.get(SERVER_ID)

        assert len(times) == 1


@virtually
async def test_the_last_error_lists_the_earlier_ones_oldest_first() -> None:
    busy = httpx.Response(429, headers={"Retry-After": "1"})
    async with mocked() as (bms, cloud):
        answer_in_turn(
            cloud.get(SERVER), httpx.ReadError, httpx.Response(502), busy, httpx.ConnectError, httpx.Response(503)
        )

        with pytest.raises(ServerError) as caught:
            await bms.servers.get(SERVER_ID)

        assert caught.value.status == 503
        assert [type(earlier) for earlier in caught.value.previous] == [
            TransportError,
            ServerError,
            RateLimitedError,
            TransportError,
        ]
        assert caught.value.maybe_done


@virtually
async def test_an_error_of_a_second_attempt_still_says_what_the_first_may_have_done() -> None:
    async with mocked() as (bms, cloud):
        answer_in_turn(cloud.post(ACTION), httpx.ReadError, httpx.Response(400, json=error("BMS.0039")))

        with pytest.raises(BadRequestError) as caught:
            await bms.servers.stop(IDS)

        assert caught.value.code == "BMS.0039"
        assert caught.value.maybe_done


@virtually
async def test_retry_after_of_a_failure_is_obeyed_whatever_the_cap_up_to_an_hour() -> None:
    policy = RetryPolicy(attempts=4, max_delay=30)
    async with mocked(retry=policy) as (bms, cloud):
        responses = (httpx.Response(503, headers={"Retry-After": after}) for after in ("12", "600", "7200"))
        times = answer_in_turn(cloud.get(SERVER), *responses, GOOD)

        await bms.servers.get(SERVER_ID)

        assert [round(later - earlier) for earlier, later in itertools.pairwise(times)] == [12, 600, 3600]


@virtually
async def test_in_an_outage_retries_draw_on_one_budget_and_do_not_multiply_the_traffic() -> None:
    async with mocked() as (bms, cloud):
        route = cloud.get(SERVER).respond(503)

        failures = await asyncio.gather(*(bms.servers.get(SERVER_ID) for _ in range(300)), return_exceptions=True)

        assert all(isinstance(failure, ServerError) for failure in failures)
        assert route.call_count == 300 + 500
        assert bms.statistics().session.retries_left == 0


@virtually
async def test_after_an_outage_successes_earn_retries_back() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(SERVER).respond(503)
        await asyncio.gather(*(bms.servers.get(SERVER_ID) for _ in range(170)), return_exceptions=True)
        cloud.get(SERVER).mock(return_value=GOOD)
        for _ in range(11):
            await bms.servers.get(SERVER_ID)
        times = answer_in_turn(cloud.get(SERVER), httpx.Response(503), GOOD)

        assert (await bms.servers.get(SERVER_ID)).id == SERVER_ID
        assert len(times) == 2


@virtually
async def test_a_job_is_read_again_like_everything_else() -> None:
    async with mocked() as (bms, cloud):
        address = SERVER.replace(f"baremetalservers/{SERVER_ID}", f"jobs/{JOB['job_id']}")
        times = answer_in_turn(cloud.get(address), httpx.Response(503), httpx.Response(200, json=JOB))

        assert (await bms.jobs.get(JOB["job_id"])).status == "SUCCESS"
        assert len(times) == 2


@virtually
async def test_a_refused_call_without_a_limit_of_its_own_waits_as_long_as_retry_after_says() -> None:
    refusal = httpx.Response(429, headers={"Retry-After": "7"})
    async with mocked() as (bms, cloud):
        times = answer_in_turn(cloud.get(url__regex=r".*/flavors.*"), refusal, httpx.Response(200, json=FLAVORS))

        await bms.nova.flavors.list()
        assert times[1] - times[0] == pytest.approx(7, abs=0.1)


@virtually
async def test_a_refused_call_without_a_limit_of_its_own_is_sent_again_ever_later() -> None:
    async with mocked(limits=Limits.unlimited()) as (bms, cloud):
        times = answer_in_turn(cloud.get(SERVER), httpx.Response(429))
        bms._core.random.seed(7)

        with pytest.raises(RateLimitedError):
            await bms.servers.get(SERVER_ID)
        assert len(times) == 11
        assert times[-1] - times[0] > 10
        assert max(later - earlier for earlier, later in itertools.pairwise(times)) <= 120.1
