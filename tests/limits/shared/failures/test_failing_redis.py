"""What happens to a server of Redis or Valkey, and the limit that is kept all the same; each has servers of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial

import pytest

from tests.limits.shared._servers import Server, find_programs, running
from tests.limits.shared.failures._proxy import Proxy
from tests.limits.shared.failures._stage import LIMIT, Outcome, Scenario, Stage, control, eventually, guarded

_CLOCK = "clock"


@pytest.fixture(scope="module")
def start() -> Iterator[Callable[[], Server]]:
    """Start one more server."""
    program = find_programs()["valkey"]
    with ExitStack() as stack:
        yield lambda: stack.enter_context(running(program, "--repl-diskless-sync-delay", "0"))


@pytest.fixture(scope="module")
def scenarios(start: Callable[[], Server]) -> dict[str, Scenario]:
    async def scripts_and_connections_are_lost(stage: Stage) -> None:
        server = await asyncio.to_thread(start)
        await stage.begin_four(server.url)
        for calls in (3, 11, 13, 17, 25):
            await stage.until_arrived(calls)
            server.command("SCRIPT", "FLUSH")
            server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        await stage.until_over()

    async def everything_is_deleted(stage: Stage) -> None:
        server = await asyncio.to_thread(start)
        await stage.begin_four(server.url)
        await stage.until_arrived(LIMIT)
        server.command("FLUSHALL")
        if stage.is_control:
            await stage.open_account(server.url)
        await stage.until_over()

    async def it_is_started_again_without_its_data(stage: Stage) -> None:
        server = await asyncio.to_thread(start)
        await stage.begin_four(server.url)
        await stage.until_arrived(LIMIT)
        await asyncio.to_thread(server.kill)
        await asyncio.to_thread(server.start)
        if stage.is_control:
            await stage.open_account(server.url)
        await stage.until_over()

    async def a_stale_replica_takes_over(stage: Stage) -> None:
        first, second = await asyncio.gather(asyncio.to_thread(start), asyncio.to_thread(start))
        async with Proxy(first.port) as link, Proxy(first.port) as address:
            url = f"redis://127.0.0.1:{address.port}/0"
            await stage.open_account(url)
            second.command("REPLICAOF", "127.0.0.1", link.port)
            with second.client() as client:
                await eventually(lambda: client.info("replication")["master_link_status"] == "up")
            link.hold()
            await stage.begin_four(url)
            await stage.until_arrived(LIMIT)
            second.command("REPLICAOF", "NO", "ONE")
            address.switch(second.port)
            await asyncio.to_thread(first.kill)
            await stage.until_over()

    async def it_stands_still(stage: Stage) -> None:
        server = await asyncio.to_thread(start)
        await stage.begin_four(server.url)
        await stage.until_arrived(LIMIT)
        await stage.until_all("asked")
        server.pause()
        await stage.until_all("lost", once_more=True)
        server.resume()
        await stage.until_over()

    async def its_clock_is_set(stage: Stage, seconds: float) -> None:
        server = await asyncio.to_thread(start)
        await stage.begin_four(server.url, clock=_CLOCK)
        await stage.until_arrived(LIMIT)
        # Who has not seen the clock before it was set cannot see that it was.
        await stage.until_all("asked")
        server.command("SET", _CLOCK, str(seconds))
        await stage.until_over()

    ahead, back = partial(its_clock_is_set, seconds=1000.0), partial(its_clock_is_set, seconds=-3600.0)
    return {
        "scripts and connections": guarded(scripts_and_connections_are_lost),
        "deleted": guarded(everything_is_deleted),
        "deleted, opened": control(everything_is_deleted),
        "started again": guarded(it_is_started_again_without_its_data),
        "started again, opened": control(it_is_started_again_without_its_data),
        "replica": guarded(a_stale_replica_takes_over),
        "replica, taken for the same": control(a_stale_replica_takes_over, without="life"),
        "still": guarded(it_stands_still),
        "ahead": guarded(ahead),
        "ahead, not looked at": control(ahead, without="clock"),
        "back": guarded(back),
    }


@pytest.mark.parametrize(
    "what",
    [
        pytest.param("scripts and connections", id="its scripts and connections are lost"),
        pytest.param("deleted", id="all of its keys are deleted"),
        pytest.param("started again", id="it is started again without its data"),
        pytest.param("replica", id="a stale replica takes over"),
        pytest.param("still", id="it stands still for longer than a lease"),
        pytest.param("ahead", id="its clock is set forward"),
        pytest.param("back", id="its clock is set back"),
    ],
)
def test_nobody_is_refused_when(outcome_of: Callable[[str], Outcome], what: str) -> None:
    outcome = outcome_of(what)
    assert (outcome.refused, outcome.answered) == (0, 36), outcome.summary


@pytest.mark.parametrize(
    "what",
    [
        pytest.param("deleted, opened", id="the account is opened after all keys were deleted"),
        pytest.param("started again, opened", id="the account is opened after a start without data"),
        pytest.param("replica, taken for the same", id="a stale replica is taken for the server before it"),
        pytest.param("ahead, not looked at", id="nobody looks whether the clock was set forward"),
    ],
)
def test_somebody_is_refused_when(outcome_of: Callable[[str], Outcome], what: str) -> None:
    assert outcome_of(what).refused > 0
