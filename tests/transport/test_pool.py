"""Which of the idle carriers takes a request, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable

import pytest

from bms_async.transport._pool import ClientPool
from tests.support.virtual_clock import advance, run_virtually


class Carrier:
    def __init__(self, way: Hashable) -> None:
        self.way = way
        self.closed = 0

    async def aclose(self) -> None:
        await asyncio.sleep(0)
        self.closed += 1


class Factory:
    def __init__(self) -> None:
        self.made: list[Carrier] = []

    async def __call__(self, way: Hashable) -> Carrier:
        self.made.append(Carrier(way))
        return self.made[-1]

    @property
    def closed(self) -> list[int]:
        return [carrier.closed for carrier in self.made]


def virtually(test: Callable[[Factory, ClientPool[Carrier]], Awaitable[None]]) -> Callable[[], None]:
    def run() -> None:
        async def main() -> None:
            make = Factory()
            await test(make, ClientPool(make, most=3))

        run_virtually(main)

    run.__name__ = test.__name__
    return run


async def use(carriers: ClientPool[Carrier], way: str = "here", *, once: bool = False, seconds: float = 0.0) -> Carrier:
    async with carriers.borrow(way, once=once) as carrier:
        await asyncio.sleep(seconds)
        return carrier


@virtually
async def test_the_one_used_last_is_used_first(make: Factory, carriers: ClientPool[Carrier]) -> None:
    async with asyncio.TaskGroup() as group:
        for seconds in (3.0, 1.0, 2.0):
            group.create_task(use(carriers, seconds=seconds))
    assert await use(carriers) is make.made[0]
    assert len(make.made) == 3


@virtually
async def test_each_goes_its_own_way(make: Factory, carriers: ClientPool[Carrier]) -> None:
    here, there = await use(carriers, "here"), await use(carriers, "there")
    assert (here.way, there.way) == ("here", "there")
    assert await use(carriers, "here") is here


@virtually
async def test_what_must_not_be_repeated_goes_on_one_used_just_now_or_on_a_new_one(
    make: Factory, carriers: ClientPool[Carrier]
) -> None:
    first = await use(carriers)
    await advance(0.9)
    assert await use(carriers, once=True) is first
    await advance(1.1)
    assert await use(carriers, once=False) is first
    await advance(1.1)
    second = await use(carriers, once=True)
    assert second is not first
    assert make.closed == [1, 0]


@virtually
async def test_one_that_failed_is_closed_and_not_used_again(make: Factory, carriers: ClientPool[Carrier]) -> None:
    with pytest.raises(ValueError, match="no"):
        async with carriers.borrow("here", once=False):
            raise ValueError("no")
    assert make.closed == [1]
    assert await use(carriers) is make.made[1]


@virtually
async def test_one_whose_user_is_cancelled_is_closed(make: Factory, carriers: ClientPool[Carrier]) -> None:
    using = asyncio.ensure_future(use(carriers, seconds=10.0))
    await advance(1)
    using.cancel()
    with pytest.raises(asyncio.CancelledError):
        await using
    assert make.closed == [1]


@virtually
async def test_no_more_wait_than_are_wanted_whatever_way_they_go(make: Factory, carriers: ClientPool[Carrier]) -> None:
    for way in ("a", "b", "c", "d"):
        await use(carriers, way)
        await advance(0.1)
    assert make.closed == [1, 0, 0, 0]


@virtually
async def test_closing_closes_all_that_wait(make: Factory, carriers: ClientPool[Carrier]) -> None:
    await use(carriers, "a")
    await use(carriers, "b")
    await carriers.aclose()
    assert make.closed == [1, 1]


@virtually
async def test_those_that_have_waited_for_long_are_closed_while_others_are_used(
    make: Factory, carriers: ClientPool[Carrier]
) -> None:
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(use(carriers, seconds=1.0))
    await advance(14)
    await use(carriers)
    assert make.closed == [0, 0, 0]
    await advance(2)
    await use(carriers)
    assert sorted(make.closed) == [0, 1, 1]
    await carriers.aclose()
    assert make.closed == [1, 1, 1]
