"""Slips of a first day: each error says what happened, and what to do instead."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from bms_async import (
    AuthenticationError,
    BmsClient,
    ClientClosedError,
    ConfigurationError,
    InvalidRequestError,
    Limits,
    OutcomeState,
    PasswordAuth,
    StaticToken,
)
from bms_async._tasks import _note_fork
from bms_async.testing import SimulatedCloud
from tests.support.clouds import Simulated, simulated
from tests.support.machine import patience

ELSEWHERE = "belongs to another event loop; from a thread, hand the coroutine to that loop by asyncio.run_coroutine"


@pytest.fixture
async def world() -> AsyncIterator[Simulated]:
    async with simulated(servers=3, job_seconds=(0.0, 0.1)) as world:
        yield world


async def in_a_loop_of_its_own(ask: Callable[[], Awaitable[object]]) -> object:
    async def asked() -> object:
        async with asyncio.timeout(patience(60.0)):
            return await ask()

    return await asyncio.to_thread(lambda: asyncio.run(asked()))


async def test_waiting_for_a_job_in_another_thread_is_refused_and_hangs_nobody(world: Simulated) -> None:
    job = await world.bms.servers.stop(world.ids)
    for ask in (
        job.result,
        lambda: anext(job.sub_jobs()),
        lambda: _awaited(job.sub_job(world.ids[0])),
    ):
        with pytest.raises(ClientClosedError, match=f"job {job.id} {ELSEWHERE}"):
            await in_a_loop_of_its_own(ask)
    assert (await job).is_final


async def test_waiting_for_a_run_in_another_thread_is_refused_and_does_not_end_the_run(world: Simulated) -> None:
    run = world.bms.fleet.stop(world.ids)
    for ask in (lambda: _awaited(run), lambda: anext(aiter(run))):
        with pytest.raises(ClientClosedError, match=f"the run {ELSEWHERE}"):
            await in_a_loop_of_its_own(ask)
    report = await run
    assert not report.cancelled
    assert len(report) == len(world.ids)


async def test_events_are_not_read_in_another_thread(world: Simulated) -> None:
    async with world.bms.jobs.events() as events:
        with pytest.raises(ClientClosedError, match=f"the subscription {ELSEWHERE}"):
            await in_a_loop_of_its_own(lambda: anext(events))


@pytest.mark.parametrize(
    "begin",
    [
        lambda bms: bms.fleet.stop(["s-1"]),
        lambda bms: bms.jobs.watch("j-1"),
        lambda bms: bms.jobs.events().__aenter__().send(None),
    ],
)
async def test_what_begins_at_once_is_refused_in_another_thread(
    world: Simulated, begin: Callable[[BmsClient], object]
) -> None:
    with pytest.raises(ClientClosedError, match=f"the client {ELSEWHERE}"):
        await asyncio.to_thread(begin, world.bms)


async def test_a_client_that_was_opened_before_a_fork_is_not_used_in_the_child(world: Simulated) -> None:
    # What happens in a child: no thread there runs the loops that it has from its parent.
    _note_fork()
    with pytest.raises(ClientClosedError, match="belongs to the process that this one was forked from; open a client"):
        await asyncio.to_thread(world.bms.fleet.stop, world.ids)


def test_a_run_of_a_client_that_is_not_open_is_refused_where_no_event_loop_runs() -> None:
    with pytest.raises(ClientClosedError, match="the client is not open; use it inside `async with`"):
        client().fleet.stop(["s-1"])


async def test_a_list_that_is_read_like_a_plain_one_says_how_it_is_read(world: Simulated) -> None:
    bms: Any = world.bms
    for servers in (bms.servers.list(), bms.nova.servers.list()):
        with pytest.raises(TypeError, match=r"expected `async for` over a .*List, which is read page by page"):
            list(servers)
        with pytest.raises(TypeError, match=r"expected `async for` over a .*List, which is read page by page"):
            await servers
    with pytest.raises(InvalidRequestError, match=r"\[server\.id async for server in \.\.\.\]"):
        await bms.servers.stop(bms.servers.list())


async def test_a_run_that_was_not_awaited_says_where_the_report_is(world: Simulated) -> None:
    run: Any = world.bms.fleet.stop(world.ids)
    with pytest.raises(AttributeError, match="no attribute 'by_code'; the report has it: report = await run"):
        _ = run.by_code
    with pytest.raises(AttributeError, match=r"no attribute 'by_cod'$"):
        _ = run.by_cod
    with pytest.raises(TypeError, match="use `async for`, or await it"):
        list(run)
    await run


async def test_a_server_in_the_place_of_its_id_is_named_in_the_error(world: Simulated) -> None:
    bms: Any = world.bms
    server = await bms.servers.get(world.ids[0])
    with pytest.raises(InvalidRequestError, match=r"expected an id; pass its \.id, not the Server"):
        await bms.servers.get(server)


async def test_a_fleet_run_takes_servers_in_the_place_of_their_ids(world: Simulated) -> None:
    report = await world.bms.fleet.stop(world.bms.servers.list())
    assert {outcome.server_id for outcome in report.outcomes} == set(world.ids)
    assert report.by_state[OutcomeState.SUCCEEDED] == len(world.ids)


def test_limits_in_a_plain_dict_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"^limits=dict: expected a Limits, such as Limits\(\{"):
        client(limits={"servers.stop": 20})


def test_the_last_part_of_an_operations_name_is_enough_for_a_hint() -> None:
    with pytest.raises(ConfigurationError, match=r"did you mean 'servers\.stop'\?"):
        Limits({"stop": 20})


@pytest.mark.parametrize("place", ["127.0.0.1:8800", "localhost:8800", "[::1]:8800"])
def test_an_address_of_this_machine_without_its_scheme_is_taken_for_http(place: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        client(endpoint=place)
    assert f"did you mean 'http://{place}'?" in str(caught.value)


@pytest.mark.parametrize("version", ["", "/", "/v1", "/v1/", f"/v1/{'0' * 32}"])
def test_the_version_at_the_end_of_the_address_is_taken_for_what_the_calls_bring_along(version: str) -> None:
    assert "http://localhost:1/bms," in repr(client(endpoint=f"http://localhost:1/bms{version}"))


@pytest.mark.parametrize("password", [" Sesame-7", "Sesame-7\n"])
async def test_a_password_with_a_trailing_blank_is_named_in_the_error_when_it_is_refused(password: str) -> None:
    auth = PasswordAuth(
        auth_url="https://bms.test/v3",
        username="operator",
        password=password,
        user_domain_name="simulated-account",
        project_name="simulated",
    )
    async with SimulatedCloud().client(auth=auth) as bms:
        with pytest.raises(AuthenticationError) as caught:
            await bms.quotas.get()
    assert str(caught.value).startswith("identity.create_token: 401: Nobody is known by these credentials; check the")
    assert "the password begins or ends with a blank" in str(caught.value)
    assert "Sesame" not in str(caught.value)


def client(**options: Any) -> BmsClient:
    return BmsClient(**{"endpoint": "http://localhost:1", "project_id": "p", "auth": StaticToken("t"), **options})


async def _awaited(what: Awaitable[object]) -> object:
    return await what
