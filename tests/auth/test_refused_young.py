"""A cloud that issues tokens or keys and refuses all of them: the lockout guard keeps further requests back."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from bms_async import AkSkAuth, AuthenticationError, BmsClient, HttpxTransport, Limits
from bms_async.auth._lockout_guard import YOUNG
from tests.auth.keystone import ENDPOINT, PROJECT, FakeCloud, auth_of, opened
from tests.support.mocked import virtually
from tests.support.virtual_clock import advance

SIX_MINUTES = 360


@virtually
async def test_r8_tokens_that_are_all_refused_are_asked_for_ever_more_rarely() -> None:
    cloud = FakeCloud(delay=0.1)
    cloud.broken = 401
    errors: list[object] = []
    async with opened(cloud, auth_of()) as bms:
        for _ in range(SIX_MINUTES):
            errors += await asyncio.gather(*(bms.servers.get("s-1") for _ in range(5)), return_exceptions=True)
            await advance(1)

    assert {type(error) for error in errors} == {AuthenticationError}
    # One for the first call, one after its 401, and then after 30 seconds and after 3 minutes.
    assert len(cloud.asked) == 4
    gaps = [later - earlier for earlier, later in zip(cloud.asked_at[1:], cloud.asked_at[2:], strict=False)]
    assert gaps[0] >= 30.0
    assert gaps[1] >= 180.0


@virtually
async def test_a_cloud_that_takes_no_token_for_an_hour_is_asked_for_one_each_quarter() -> None:
    cloud = FakeCloud(delay=0.1)
    cloud.broken = 401
    async with opened(cloud, auth_of()) as bms:
        for _ in range(SIX_MINUTES):
            with pytest.raises(AuthenticationError):
                await bms.servers.get("s-1")
            await advance(10)

    assert len(cloud.asked) == 7


@virtually
async def test_calls_during_the_pause_get_the_refusal_and_send_nothing() -> None:
    cloud = FakeCloud()
    cloud.broken = 401
    async with opened(cloud, auth_of()) as bms:
        with pytest.raises(AuthenticationError) as first:
            await bms.servers.get("s-1")
        with pytest.raises(AuthenticationError) as second:
            await bms.servers.get("s-2")
        with pytest.raises(AuthenticationError) as later:
            await bms.servers.get("s-3")

    assert first.value.operation == second.value.operation == "servers.get"
    assert later.value.operation == "identity.create_token"
    assert "servers.get was refused with a new token" in str(later.value)
    assert "will not be for " in str(later.value)
    assert len(cloud.asked) == 2


@virtually
async def test_a_cloud_that_takes_tokens_again_is_served_once_the_pause_is_over() -> None:
    cloud = FakeCloud()
    cloud.broken = 401
    async with opened(cloud, auth_of()) as bms:
        for _ in range(2):
            with pytest.raises(AuthenticationError):
                await bms.servers.get("s-1")
        cloud.revoke()
        cloud.broken = None
        await advance(31)
        assert (await bms.servers.get("s-1")).id == "s-1"

    assert len(cloud.asked) == 3


@virtually
async def test_a_call_that_is_refused_with_every_token_stops_no_other_call() -> None:
    cloud = FakeCloud()
    errors: list[object] = []
    async with opened(cloud, auth_of()) as bms:
        for _ in range(SIX_MINUTES):
            cloud.broken = 401
            errors += await asyncio.gather(bms.servers.get("s-1"), return_exceptions=True)
            cloud.broken = None
            assert (await bms.servers.get("s-2")).id
            await advance(1)

    assert {type(error) for error in errors} == {AuthenticationError}
    assert len(cloud.asked) == 4


@virtually
async def test_r8_one_401_of_an_old_token_costs_one_token_every_time() -> None:
    cloud = FakeCloud()
    async with opened(cloud, auth_of()) as bms:
        for _ in range(5):
            await asyncio.gather(*(bms.servers.get("s-1") for _ in range(20)))
            await advance(YOUNG + 1)
            cloud.revoke()
        await bms.servers.get("s-1")

    assert len(cloud.asked) == 6


@pytest.mark.parametrize("changing", [True, False], ids=["other keys each time", "the same keys again"])
def test_a_provider_whose_keys_are_all_refused_is_asked_ever_more_rarely(changing: bool) -> None:
    fetched = 0

    async def provide() -> tuple[str, str, str | None]:
        nonlocal fetched
        fetched += 1
        return f"AK{fetched if changing else ''}", "secret-key", None

    async def refuse(_: httpx.Request) -> httpx.Response:
        return httpx.Response(401, json={"error_code": "APIGW.0301", "error_msg": "no"})

    @virtually
    async def use() -> None:
        transport = HttpxTransport(httpx.AsyncClient(transport=httpx.MockTransport(refuse)))
        auth = AkSkAuth(provider=provide)
        bms = BmsClient(
            endpoint=ENDPOINT, project_id=PROJECT, auth=auth, transport=transport, limits=Limits.unlimited(), retry=None
        )
        async with bms:
            for _ in range(SIX_MINUTES):
                await asyncio.gather(*(bms.servers.get("s-1") for _ in range(5)), return_exceptions=True)
                await advance(1)

    use()
    assert 2 <= fetched <= 5
