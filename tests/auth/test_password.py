"""PasswordAuth: one request for a token however many need one (R8), and a token that is always fresh."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import httpx
import pytest

from bms_async import (
    AuthenticationError,
    BmsClient,
    CallTimeoutError,
    ClientClosedError,
    ConfigurationError,
    PasswordAuth,
    PermissionDeniedError,
    RetryPolicy,
    ServerError,
    TransportError,
)
from bms_async.auth import RenewableAuth, ScopedAuth, SendingAuth
from tests.auth.keystone import DAY, PROJECT, FakeCloud, auth_of, opened, refuses
from tests.support.mocked import virtually
from tests.support.virtual_clock import advance


async def outcomes_of(calls: int, call: Callable[[], Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*(call() for _ in range(calls)), return_exceptions=True)


async def get(bms: BmsClient) -> str:
    return (await bms.servers.get("s-1")).id


def test_it_is_all_that_the_session_can_use() -> None:
    auth = auth_of()

    assert isinstance(auth, RenewableAuth)
    assert isinstance(auth, SendingAuth)
    assert isinstance(auth, ScopedAuth)


@virtually
async def test_r8_a_thousand_calls_without_a_token_ask_for_one() -> None:
    cloud = FakeCloud()
    async with opened(cloud, auth_of()) as bms:
        results = await outcomes_of(1000, lambda: get(bms))

    assert results == ["s-1"] * 1000
    assert len(cloud.asked) == 1
    assert cloud.urls == ["https://iam.example.com/v3/auth/tokens"]


@virtually
async def test_r8_a_thousand_calls_with_an_expired_token_ask_for_one_more() -> None:
    cloud = FakeCloud(lifetime=3600)
    async with opened(cloud, auth_of()) as bms:
        await get(bms)
        await advance(3600)
        cloud.revoke()
        results = await outcomes_of(1000, lambda: get(bms))

    assert results == ["s-1"] * 1000
    assert len(cloud.asked) == 2
    assert cloud.calls == 1001


@virtually
async def test_within_the_margin_calls_go_on_while_the_token_is_renewed() -> None:
    cloud = FakeCloud(lifetime=3600)
    async with opened(cloud, auth_of(margin=600)) as bms:
        await get(bms)
        await advance(2990)
        await get(bms)
        assert len(cloud.asked) == 1

        await advance(20)
        cloud.delay = 30
        begun = asyncio.get_running_loop().time()
        assert await outcomes_of(100, lambda: get(bms)) == ["s-1"] * 100
        assert asyncio.get_running_loop().time() - begun < 1
        await advance(31)
        cloud.good = {cloud.issued[-1]}
        await get(bms)

    assert len(cloud.asked) == 2


@virtually
async def test_a_token_that_lives_shorter_than_the_margin_is_not_renewed_at_every_call() -> None:
    cloud = FakeCloud(lifetime=300)
    async with opened(cloud, auth_of(margin=600)) as bms:
        for _ in range(14):
            await get(bms)
            await advance(10)
        assert len(cloud.asked) == 1
        await advance(20)
        await get(bms)
        await advance(2)

    assert len(cloud.asked) == 2


@virtually
async def test_a_failed_renewal_ahead_of_time_harms_nobody_and_is_tried_again_later() -> None:
    cloud = FakeCloud(lifetime=3600)
    async with opened(cloud, auth_of(margin=600)) as bms:
        await get(bms)
        await advance(3010)
        cloud.next_answers = [refuses(401)]
        for _ in range(25):
            await get(bms)
            await advance(1)
        assert len(cloud.asked) == 2
        await advance(30)
        await get(bms)
        await advance(2)

    assert len(cloud.asked) == 3


@pytest.mark.parametrize("years", [-30, 30])
def test_the_lifetime_is_told_by_the_clouds_clock_and_not_by_ours(monkeypatch: pytest.MonkeyPatch, years: int) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + years * 365 * DAY)

    @virtually
    async def check() -> None:
        cloud = FakeCloud(lifetime=DAY)
        async with opened(cloud, auth_of(margin=600)) as bms:
            await get(bms)
            await advance(DAY - 610)
            await get(bms)
            assert len(cloud.asked) == 1
            await advance(20)
            await get(bms)
            await advance(2)
        assert len(cloud.asked) == 2

    check()


@pytest.mark.parametrize(("fields", "lifetime"), [(("Date",), 7200), (("Date", "issued_at"), 3600), (("all",), 3600)])
@virtually
async def test_an_answer_without_its_times_still_brings_a_token(fields: tuple[str, ...], lifetime: float) -> None:
    cloud = FakeCloud(lifetime=7200)
    cloud.date = False

    def less(_: httpx.Request) -> httpx.Response:
        answer = cloud.grant()
        body = answer.json()
        for field in fields:
            body["token"].pop(field, None)
        return httpx.Response(201, headers=answer.headers, json={"token": {} if fields == ("all",) else body["token"]})

    cloud.next_answers = [less]
    async with opened(cloud, auth_of(margin=0)) as bms:
        await get(bms)
        await advance(lifetime - 5)
        await get(bms)
        assert len(cloud.asked) == 1
        await advance(10)
        await get(bms)

    assert len(cloud.asked) == 2


@virtually
async def test_r8_one_401_costs_one_renewal_however_many_hear_it() -> None:
    cloud = FakeCloud()
    async with opened(cloud, auth_of()) as bms:
        await get(bms)
        cloud.revoke()
        results = await outcomes_of(200, lambda: get(bms))

    assert results == ["s-1"] * 200
    assert len(cloud.asked) == 2


@virtually
async def test_a_second_401_is_an_error() -> None:
    cloud = FakeCloud()
    cloud.broken = 401
    async with opened(cloud, auth_of()) as bms:
        with pytest.raises(AuthenticationError) as caught:
            await get(bms)

    assert caught.value.operation == "servers.get"
    assert len(cloud.asked) == 2
    assert cloud.calls == 2


@virtually
async def test_a_403_is_not_worth_a_new_token() -> None:
    cloud = FakeCloud()
    cloud.broken = 403
    async with opened(cloud, auth_of()) as bms:
        with pytest.raises(PermissionDeniedError):
            await get(bms)

    assert len(cloud.asked) == 1
    assert cloud.calls == 1


@virtually
async def test_a_renewal_that_is_refused_tells_so_to_all_who_heard_a_401() -> None:
    cloud = FakeCloud()
    async with opened(cloud, auth_of()) as bms:
        await get(bms)
        cloud.revoke()
        cloud.next_answers = [refuses(401)]
        results = await outcomes_of(50, lambda: get(bms))
        assert {type(each) for each in results} == {AuthenticationError}
        assert {each.operation for each in results} == {"identity.create_token"}
        assert len(cloud.asked) == 2
        await advance(30)
        assert await get(bms) == "s-1"


@virtually
async def test_waiters_that_are_cancelled_do_not_cancel_the_others() -> None:
    cloud = FakeCloud(delay=10)
    async with opened(cloud, auth_of()) as bms:
        calls = [asyncio.ensure_future(get(bms)) for _ in range(20)]
        await advance(5)
        for call in calls[:10]:
            call.cancel()
        results = await asyncio.gather(*calls, return_exceptions=True)

    assert [type(each) for each in results[:10]] == [asyncio.CancelledError] * 10
    assert results[10:] == ["s-1"] * 10
    assert len(cloud.asked) == 1


@virtually
async def test_when_all_waiters_are_cancelled_the_token_comes_all_the_same() -> None:
    cloud = FakeCloud(delay=10)
    async with opened(cloud, auth_of()) as bms:
        with anyio.move_on_after(5):
            await outcomes_of(20, lambda: get(bms))
        assert cloud.issued == []
        await advance(6)
        assert len(cloud.issued) == 1
        assert await get(bms) == "s-1"

    assert len(cloud.asked) == 1


@virtually
async def test_failures_are_tried_again_with_growing_delays() -> None:
    cloud = FakeCloud(delay=0)
    cloud.next_answers = [httpx.ConnectError("down"), refuses(503), refuses(429, **{"Retry-After": "7"})]
    async with opened(cloud, auth_of()) as bms:
        assert await outcomes_of(100, lambda: get(bms)) == ["s-1"] * 100

    gaps = [later - before for before, later in zip(cloud.asked_at, cloud.asked_at[1:], strict=False)]
    assert len(gaps) == 3
    assert 0 < gaps[0] < 0.51
    assert 0 < gaps[1] < 1.01
    assert gaps[2] == pytest.approx(7, abs=0.01)


@pytest.mark.parametrize(
    ("answer", "kind", "named"),
    [
        (refuses(503), TransportError, "ServerError 503"),
        (refuses(429), TransportError, "RateLimitedError 429"),
        (httpx.ConnectError("down"), TransportError, "TransportError"),
        (httpx.ReadTimeout("slow"), CallTimeoutError, "CallTimeoutError"),
        (lambda _: httpx.Response(200, text="<html>"), TransportError, "DecodeError 200"),
        (lambda _: httpx.Response(201, headers={"X-Subject-Token": "T" * 40}, text="{"), TransportError, "DecodeError"),
    ],
)
@virtually
async def test_an_outage_is_told_to_all_who_wait_and_the_next_call_tries_anew(
    answer: Any, kind: type[TransportError], named: str
) -> None:
    cloud = FakeCloud()
    cloud.always = answer
    async with opened(cloud, auth_of()) as bms:
        results = await outcomes_of(100, lambda: get(bms))
        assert {type(each) for each in results} == {kind}
        assert len({id(each) for each in results}) == 100
        assert "identity.create_token: no token after 4 attempts" in str(results[0])
        assert named in str(results[0])
        # The call itself was never sent, so that even a reboot may be asked for again.
        assert not any(each.maybe_done for each in results)
        assert len(cloud.asked) == 4
        assert cloud.calls == 0
        cloud.always = None
        assert await get(bms) == "s-1"
    assert isinstance(results[0].__cause__, ServerError) or "503" not in named


@virtually
async def test_a_reboot_outlives_an_outage_of_the_identity_service_and_is_sent_once() -> None:
    cloud = FakeCloud()
    cloud.next_answers = [httpx.ReadError("cut")] * 5
    async with opened(cloud, auth_of(), retry=RetryPolicy(attempts=3)) as bms:
        with pytest.raises(Exception, match="cannot be read"):
            # The fake cloud answers a server to everything: that it was sent once is what counts here.
            await bms.servers.reboot(["s-1"])

    assert len(cloud.asked) == 6
    assert cloud.calls == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409])
@virtually
async def test_a_refusal_is_told_at_once_and_says_what_to_check(status: int) -> None:
    cloud = FakeCloud()
    cloud.next_answers = [refuses(status)]
    async with opened(cloud, auth_of()) as bms:
        results = await outcomes_of(10, lambda: get(bms))
        # Never of another class: a 404 would be read as "no such server".
        assert {type(each) for each in results} == {AuthenticationError}
        assert results[0].status == status
        assert results[0].operation == "identity.create_token"
        for word in ("requires authentication", "name", "password", "domain", "project"):
            assert word in str(results[0])
        assert len(cloud.asked) == 1
        await advance(30 if status == 401 else 0)
        assert await get(bms) == "s-1"
    assert len(cloud.asked) == 2


@virtually
async def test_a_wrong_password_is_not_sent_again_at_once_however_many_calls_fail_by_it() -> None:
    cloud = FakeCloud()
    cloud.always = refuses(401)
    async with opened(cloud, auth_of()) as bms:
        results = []
        for _ in range(100):
            results += await outcomes_of(1, lambda: get(bms))

    assert {type(each) for each in results} == {AuthenticationError}
    assert {(each.status, each.operation) for each in results} == {(401, "identity.create_token")}
    assert len({id(each) for each in results}) == 100
    assert len(cloud.asked) == 1
    assert "not asked again" not in str(results[0])
    for each in results[1:]:
        assert "requires authentication" in str(each)
        assert "not asked again, and will not be for 30.0 s: an account is locked after a few failed attempts" in str(
            each
        )


@virtually
async def test_the_longer_a_password_is_wrong_the_more_rarely_it_is_sent() -> None:
    cloud = FakeCloud(delay=0)
    cloud.always = refuses(401)
    async with opened(cloud, auth_of()) as bms:
        for _ in range(3600):
            assert isinstance((await outcomes_of(1, lambda: get(bms)))[0], AuthenticationError)
            await advance(1)

    gaps = [later - before for before, later in zip(cloud.asked_at, cloud.asked_at[1:], strict=False)]
    assert gaps[:2] == pytest.approx([30, 180], abs=1.1)
    assert gaps[2:] == pytest.approx([900] * len(gaps[2:]), abs=1.1)
    assert len(cloud.asked) == 6


@virtually
async def test_a_password_that_was_corrected_is_accepted_after_the_pause_and_the_next_pause_is_short_again() -> None:
    cloud = FakeCloud(delay=0)
    cloud.next_answers = [refuses(401)] * 3
    async with opened(cloud, auth_of()) as bms:
        for pause in (30, 180, 900):
            assert isinstance((await outcomes_of(1, lambda: get(bms)))[0], AuthenticationError)
            await advance(pause)
        assert await get(bms) == "s-1"
        cloud.revoke()
        cloud.next_answers = [refuses(401)]
        assert isinstance((await outcomes_of(1, lambda: get(bms)))[0], AuthenticationError)
        await advance(30)
        assert await get(bms) == "s-1"

    assert len(cloud.asked) == 6


@pytest.mark.parametrize("status", [400, 403, 404])
@virtually
async def test_a_refusal_that_is_not_of_the_password_is_asked_about_again(status: int) -> None:
    cloud = FakeCloud(delay=0)
    cloud.next_answers = [refuses(status)] * 3
    async with opened(cloud, auth_of()) as bms:
        for _ in range(3):
            assert isinstance((await outcomes_of(1, lambda: get(bms)))[0], AuthenticationError)

    assert len(cloud.asked) == 3


@virtually
async def test_a_redirect_is_not_followed_with_the_password() -> None:
    cloud = FakeCloud()
    cloud.always = lambda _: httpx.Response(307, headers={"Location": "https://evil.example.com/v3/auth/tokens"})
    async with opened(cloud, auth_of()) as bms:
        with pytest.raises(AuthenticationError, match="redirects"):
            await get(bms)

    assert cloud.urls == ["https://iam.example.com/v3/auth/tokens"]


@virtually
async def test_two_clients_share_one_token() -> None:
    cloud = FakeCloud()
    auth = auth_of()
    async with opened(cloud, auth) as one, opened(cloud, auth) as two:
        first, second = await asyncio.gather(outcomes_of(50, lambda: get(one)), outcomes_of(50, lambda: get(two)))

    assert first == second == ["s-1"] * 50
    assert len(cloud.asked) == 1


@virtually
async def test_the_client_that_is_open_does_the_sending() -> None:
    cloud = FakeCloud(lifetime=3600)
    auth = auth_of()
    async with opened(cloud, auth) as two:
        async with opened(cloud, auth) as one:
            await get(one)
        await advance(3600)
        assert await get(two) == "s-1"

    assert len(cloud.asked) == 2


@virtually
async def test_closing_one_client_hands_its_renewal_to_the_other() -> None:
    cloud = FakeCloud(delay=10)
    auth = auth_of()
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(opened(cloud, auth))
        async with opened(cloud, auth) as two:
            begun = asyncio.ensure_future(get(one))
            await advance(1)
            waiting = asyncio.ensure_future(get(two))
            await advance(1)
            await stack.aclose()
            with pytest.raises(ClientClosedError):
                await begun
            assert await waiting == "s-1"

    assert len(cloud.asked) == 2


@virtually
async def test_closing_the_only_client_ends_all_who_wait_for_a_token() -> None:
    cloud = FakeCloud(delay=10)
    auth = auth_of()
    async with opened(cloud, auth) as bms:
        calls = [asyncio.ensure_future(get(bms)) for _ in range(5)]
        await advance(1)
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert {type(each) for each in results} == {ClientClosedError}

    async with opened(cloud, auth) as bms:
        assert await get(bms) == "s-1"


async def test_without_an_open_client_there_is_no_token() -> None:
    with pytest.raises(ClientClosedError, match="no client that uses this PasswordAuth is open"):
        await auth_of().find_project_id()


def test_one_loop_after_the_other_may_use_it_and_two_at_once_may_not() -> None:
    cloud = FakeCloud(delay=0)
    auth = auth_of()

    async def use() -> None:
        async with opened(cloud, auth) as bms:
            await get(bms)

    asyncio.run(use())
    asyncio.run(use())
    assert len(cloud.asked) == 2

    async def use_both() -> None:
        async with opened(cloud, auth):
            await asyncio.to_thread(asyncio.run, use())

    with pytest.raises(ConfigurationError, match="another event loop"):
        asyncio.run(use_both())


@virtually
async def test_the_project_is_told_by_the_token() -> None:
    cloud = FakeCloud()
    async with opened(cloud, auth_of(), project_id=None) as bms:
        assert await get(bms) == "s-1"
        assert bms.project_id == PROJECT

    assert len(cloud.asked) == 1


@virtually
async def test_a_project_given_by_id_is_not_asked_for() -> None:
    cloud = FakeCloud()
    auth = auth_of(project_name=None, project_id="p-1")
    async with opened(cloud, auth, project_id=None):
        assert await auth.find_project_id() == "p-1"

    assert cloud.asked == []


@virtually
async def test_a_token_for_no_project_says_what_to_give() -> None:
    cloud = FakeCloud()

    def unscoped(_: httpx.Request) -> httpx.Response:
        return httpx.Response(201, headers=cloud.grant().headers, json={"token": {"project": None, "expires_at": 7}})

    cloud.always = unscoped
    async with opened(cloud, auth_of(), project_id=None) as bms:
        # The identity service is asked by name then; this one knows of no project.
        with pytest.raises(ConfigurationError, match="expected one project of this name, got none"):
            await get(bms)


@pytest.mark.parametrize(
    ("arguments", "user", "project"),
    [
        (
            {},
            {"name": "operator", "domain": {"name": "account"}},
            {"name": "ae-ad-1"},
        ),
        (
            {"username": None, "user_id": "u-1", "user_domain_name": None, "project_domain_name": "other"},
            {"id": "u-1"},
            {"name": "ae-ad-1", "domain": {"name": "other"}},
        ),
        (
            {"project_domain_id": "d-2"},
            {"name": "operator", "domain": {"name": "account"}},
            {"name": "ae-ad-1", "domain": {"id": "d-2"}},
        ),
        (
            {"user_domain_name": None, "user_domain_id": "d-1", "project_name": None, "project_id": "p-1"},
            {"name": "operator", "domain": {"id": "d-1"}},
            {"id": "p-1"},
        ),
    ],
)
@virtually
async def test_what_is_sent_is_as_documented(
    arguments: dict[str, Any], user: dict[str, Any], project: dict[str, Any]
) -> None:
    cloud = FakeCloud()
    auth: PasswordAuth = auth_of(password="pw-1", **arguments)
    async with opened(cloud, auth) as bms:
        await get(bms)

    identity = {"methods": ["password"], "password": {"user": {**user, "password": "pw-1"}}}
    assert cloud.asked == [{"auth": {"identity": identity, "scope": {"project": project}}}]
