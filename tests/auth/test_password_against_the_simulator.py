"""PasswordAuth against the simulator's identity service, which reads the reference on its own (R8, R5)."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest

from bms_async import AuthenticationError, BadRequestError, TransportError
from bms_async.simulator import Answer, CutAfter, Delay, Fault, Script, ScriptedFault
from tests.simulator.logged_in import logged_in, unauthorized
from tests.support.clouds import Simulated
from tests.support.mocked import virtually
from tests.support.virtual_clock import advance

TOKEN_CALL = "identity.create_token"


async def outcomes_of(calls: int, call: Callable[[], Awaitable[Any]]) -> list[Any]:
    return await asyncio.gather(*(call() for _ in range(calls)), return_exceptions=True)


def getting(sim: Simulated) -> Callable[[], Awaitable[str]]:
    """A call that answers the id of the first server."""
    server_id = sim.ids[0]

    async def get() -> str:
        return (await sim.bms.servers.get(server_id)).id

    return get


def goes_wrong(sim: Simulated, *faults: Fault) -> None:
    """The next calls for a token, from the first on."""
    script = [ScriptedFault(operation=TOKEN_CALL, nth=nth, fault=fault) for nth, fault in enumerate(faults, 1)]
    sim.cloud.faults.append(Script(script))


@virtually
async def test_r8_a_thousand_calls_with_an_expired_token_ask_for_one_and_all_succeed() -> None:
    async with logged_in(servers=3, latency=(0.05, 0.4)) as sim:
        get = getting(sim)
        await get()
        await advance(86400.0)
        results = await outcomes_of(1000, get)
        assert results == [sim.ids[0]] * 1000
        assert sim.arrived(TOKEN_CALL) == 2
        assert unauthorized(sim.cloud) == {}
        assert sim.cloud.call_counts().refused == 0


@virtually
async def test_r8_a_thousand_calls_at_a_revoked_token_ask_for_one_and_all_succeed() -> None:
    async with logged_in(servers=3, latency=(0.05, 0.4)) as sim:
        get = getting(sim)
        await get()
        await advance(61.0)
        assert sim.cloud.revoke_tokens() == 1
        results = await outcomes_of(1000, get)
        assert results == [sim.ids[0]] * 1000
        assert sim.arrived(TOKEN_CALL) == 2
        assert 1 <= unauthorized(sim.cloud)["servers.get"] <= 1000
        assert sim.cloud.call_counts().refused == 0


@virtually
async def test_r8_one_call_at_a_revoked_token_costs_one_renewal_and_one_more_try() -> None:
    async with logged_in(servers=3) as sim:
        get = getting(sim)
        await get()
        sim.cloud.revoke_tokens()
        assert await get() == sim.ids[0]
        assert (sim.arrived(TOKEN_CALL), sim.arrived("servers.get")) == (2, 3)
        assert unauthorized(sim.cloud) == {"servers.get": 1}


@pytest.mark.parametrize("skew", [0.0, 3e8, -3e8])
def test_a_token_renewed_ahead_of_time_in_a_long_run_costs_no_401_and_no_time_whatever_the_clouds_clock_shows(
    skew: float,
) -> None:
    @virtually
    async def check() -> None:
        async with logged_in(servers=3, token_lifetime=3600.0, clock_skew=skew, latency=(1.0, 1.0)) as sim:
            get, loop = getting(sim), asyncio.get_running_loop()
            await get()
            for _ in range(600):
                await advance(60.0)
                began = loop.time()
                assert await get() == sim.ids[0]
                # On the wire, and not a moment behind a request for a token.
                assert loop.time() - began == pytest.approx(1.0, abs=0.01)
            assert unauthorized(sim.cloud) == {}
            # Ten hours and more of tokens that are renewed after fifty minutes, by the first call from then on.
            assert 11 <= sim.arrived(TOKEN_CALL) <= 13

    check()


@virtually
async def test_the_project_is_the_one_of_the_token_when_only_its_name_is_given() -> None:
    async with logged_in(servers=3, other_projects={"elsewhere": "e15e"}) as sim:
        await getting(sim)()
        assert sim.bms.project_id == sim.cloud.settings.project_id
        assert [each.name for each in await sim.bms.identity.projects(name="elsewhere")] == ["elsewhere"]
        assert sim.arrived(TOKEN_CALL) == 1


@virtually
async def test_who_is_no_administrator_reads_his_own_projects() -> None:
    async with logged_in(servers=3, administrator=False, other_projects={"elsewhere": "e15e"}) as sim:
        assert [each.name for each in await sim.bms.identity.projects()] == ["simulated", "elsewhere"]
        assert [each.id for each in await sim.bms.identity.projects(name="elsewhere")] == ["e15e"]
        assert sim.arrived("identity.projects") == 4
        assert sim.arrived(TOKEN_CALL) == 1


@pytest.mark.parametrize(
    "wrong",
    [
        {"password": "Wr0ng-Pässword"},
        {"username": "nobody"},
        {"user_domain_name": "another"},
        {"project_name": "another"},
        {"project_name": None, "project_id": "an0ther"},
    ],
    ids=lambda wrong: next(reversed(wrong)),
)
def test_r5_wrong_credentials_end_in_an_error_that_names_what_to_check(
    wrong: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    @virtually
    async def check() -> None:
        async with logged_in(servers=3, auth=wrong) as sim:
            results = await outcomes_of(100, getting(sim))
            assert {type(error) for error in results} == {AuthenticationError}
            assert {error.status for error in results} == {401}
            for named in ("name", "password", "domain", "project", "auth_url"):
                assert named in str(results[0])
            assert results[0].operation == TOKEN_CALL
            assert sim.arrived(TOKEN_CALL) == 1
            assert sim.arrived("servers.get") == 0
            for secret in (sim.cloud.settings.password, "Wr0ng"):
                assert secret not in "".join(map(repr, results)) + caplog.text

    with caplog.at_level(logging.DEBUG, "bms_async"):
        check()


@virtually
async def test_r4_a_first_caller_who_is_cancelled_does_not_take_the_others_down() -> None:
    async with logged_in(servers=3, latency=(5.0, 5.0)) as sim:
        get = getting(sim)
        first = asyncio.ensure_future(get())
        await advance(1.0)
        others = asyncio.gather(*(get() for _ in range(20)))
        await advance(1.0)
        assert (sim.arrived(TOKEN_CALL), sim.arrived("servers.get")) == (1, 0)
        first.cancel()
        assert await others == [sim.ids[0]] * 20
        assert first.cancelled()
        assert (sim.arrived(TOKEN_CALL), sim.arrived("servers.get")) == (1, 20)


@virtually
async def test_an_identity_service_out_of_order_is_asked_again_and_calls_wait() -> None:
    async with logged_in(servers=3) as sim:
        html = Answer(status=502, body=b"<html>", headers={"Content-Type": "text/html"})
        goes_wrong(sim, html, CutAfter(), Delay(seconds=5.0))
        assert await getting(sim)() == sim.ids[0]
        assert sim.arrived(TOKEN_CALL) == 3
        assert unauthorized(sim.cloud) == {}


@virtually
async def test_an_identity_service_out_of_order_for_long_is_no_refusal() -> None:
    async with logged_in(servers=3) as sim:
        goes_wrong(sim, *[Answer(status=503)] * 4)
        with pytest.raises(TransportError, match="no token after 4 attempts") as caught:
            await sim.bms.servers.get(sim.ids[0])
        assert not caught.value.maybe_delivered
        assert sim.arrived("servers.get") == 0
        assert await getting(sim)() == sim.ids[0]


@virtually
async def test_r5_a_token_that_the_cloud_echoes_is_not_shown() -> None:
    async with logged_in(servers=3) as sim:
        get = getting(sim)
        await get()
        (token,) = sim.cloud._token_store._grants
        body = msgspec.json.encode({"error": {"code": "BMS.0001", "message": f"token {token} is odd"}})
        sim.cloud.faults.append(lambda *_: Answer(status=400, body=body))
        with pytest.raises(BadRequestError, match=r"token \*+ is odd") as caught:
            await get()
        assert token not in f"{caught.value!r} {sim.bms!r} {sim.bms._core.auth!r}"
