"""Which of the idle pool takes a request, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable

import pytest

from bms_async.transport._client_pool import ClientPool
from tests.support.virtual_clock import advance, run_virtually


class Client:
    def __init__(self, route: Hashable) -> None:
        self.route = route
        self.closed = 0

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1


class Factory:
    def __init__(self) -> None:
        self.made: list[Client] = []

    async def __call__(self, route: Hashable) -> Client:
        self.made.append(Client(route))
        return self.made[-1]

    @property
    def closed(self) -> list[int]:
        return [client.closed for client in self.made]


def virtually(test: Callable[[Factory, ClientPool[Client]], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            make = Factory()
            await test(make, ClientPool(make, max_idle=3))

        run_virtually(main)

    run.__name__ = test.__name__
    return run


async def use(
    pool: ClientPool[Client], route: str = "here", *, replayable: bool = True, seconds: float = 0.0
) -> Client:
    async with pool.borrow(route, replayable=replayable) as client:
        await asyncio.sleep(seconds)
        return client


@virtually
async def test_the_one_used_last_is_used_first(make: Factory, pool: ClientPool[Client]) -> None:
    async with asyncio.TaskGroup() as group:
        for seconds in (3.0, 1.0, 2.0):
            group.create_task(use(pool, seconds=seconds))
    assert await use(pool) is make.made[0]
    assert len(make.made) == 3


@virtually
async def test_each_goes_its_own_way(make: Factory, pool: ClientPool[Client]) -> None:
    here, there = await use(pool, "here"), await use(pool, "there")
    assert (here.route, there.route) == ("here", "there")
    assert await use(pool, "here") is here


@virtually
async def test_what_must_not_be_repeated_goes_on_one_used_just_now_or_on_a_new_one(
    make: Factory, pool: ClientPool[Client]
) -> None:
    first = await use(pool)
    await advance(0.9)
    assert await use(pool, replayable=False) is first
    await advance(1.1)
    assert await use(pool, replayable=True) is first
    await advance(1.1)
    second = await use(pool, replayable=False)
    assert second is not first
    # What may be repeated can still use it.
    assert make.closed == [0, 0]


@virtually
async def test_one_that_failed_is_closed_and_not_used_again(make: Factory, pool: ClientPool[Client]) -> None:
    with pytest.raises(ValueError, match="no"):
        async with pool.borrow("here", replayable=True):
            raise ValueError("no")
    assert make.closed == [1]
    assert await use(pool) is make.made[1]


@virtually
async def test_one_whose_user_is_cancelled_is_closed(make: Factory, pool: ClientPool[Client]) -> None:
    using = asyncio.ensure_future(use(pool, seconds=10.0))
    await advance(1)
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    assert make.closed == [1]


@virtually
async def test_no_more_wait_than_are_wanted_whatever_way_they_go(make: Factory, pool: ClientPool[Client]) -> None:
    for route in ("a", "b", "c", "d"):
        await use(pool, route)
        await advance(0.1)
    assert make.closed == [1, 0, 0, 0]


@virtually
async def test_closing_closes_all_that_wait(make: Factory, pool: ClientPool[Client]) -> None:
    await use(pool, "a")
    await use(pool, "b")
    await pool.aclose()
    assert make.closed == [1, 1]


@virtually
async def test_those_that_have_waited_for_long_are_closed_while_others_are_used(
    make: Factory, pool: ClientPool[Client]
) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(use(pool, seconds=1.0))
    await advance(14)
    await use(pool)
    assert make.closed == [0, 0, 0]
    await advance(2)
    await use(pool)
    assert sorted(make.closed) == [0, 1, 1]
    await pool.aclose()
    assert make.closed == [1, 1, 1]
