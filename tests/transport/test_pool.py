"""Which of the idle pool takes a request, on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Hashable

import pytest

from bms_async.transport._client_pool import ClientPool
from bms_async.transport._pool import IdlePool
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


class Idle:
    """Takes the place of a connection."""

    def __init__(self, *, idle_limit: float = 15.0, usable: bool = True) -> None:
        self.idle_limit = idle_limit
        self.usable = usable


class Pool(IdlePool[Idle]):
    """Remembers what it has dropped."""

    __slots__ = ("dropped",)

    def __init__(self) -> None:
        self.dropped: list[Idle] = []
        super().__init__(self.dropped.append)


@pytest.mark.parametrize(
    ("idle_limit", "seconds", "replayable", "taken"),
    [
        (15.0, 14.0, True, True),
        (15.0, 16.0, True, False),
        (15.0, 0.9, False, True),
        (15.0, 1.1, False, False),
        (1.0, 0.6, True, True),
        # Of a time that is short anyway, what must not be repeated has half.
        (1.0, 0.6, False, False),
        (1.0, 0.4, False, True),
        (0.0, 0.1, True, False),
    ],
)
def test_a_connection_is_taken_as_long_as_it_is_safe(
    idle_limit: float, seconds: float, replayable: bool, taken: bool
) -> None:
    pool, idle = Pool(), Idle(idle_limit=idle_limit)
    pool.put("here", idle, 100.0)
    assert pool.pop("here", 100.0 + seconds, replayable=replayable) is (idle if taken else None)
    assert pool.count + len(pool.dropped) == (not taken)
    assert bool(pool.dropped) is (seconds > idle_limit)


def test_one_that_has_become_unusable_is_dropped_and_the_one_before_it_is_taken() -> None:
    pool, (first, second) = Pool(), (Idle(), Idle(usable=False))
    pool.put("here", first, 1.0)
    pool.put("here", second, 2.0)
    assert pool.pop("there", 2.0, replayable=True) is None
    assert pool.pop("here", 2.0, replayable=True) is first
    assert (pool.dropped, pool.count) == ([second], 0)


def test_the_expired_and_the_unusable_are_dropped_and_the_others_stay_in_their_order() -> None:
    pool = Pool()
    idle = [Idle(), Idle(idle_limit=4.0), Idle(usable=False), Idle()]
    for moment, each in enumerate(idle):
        pool.put("here", each, float(moment))
    pool.put("there", Idle(idle_limit=1.0), 0.0)
    pool.drop_expired(6.0)
    assert (pool.dropped[:2], len(pool.dropped), pool.count) == (idle[1:3], 3, 2)
    assert [pool.pop("here", 6.0, replayable=True) for _ in range(3)] == [idle[3], idle[0], None]


def test_the_oldest_of_all_routes_is_dropped_first() -> None:
    pool, idle = Pool(), [Idle() for _ in range(3)]
    for route, moment, each in zip("aba", (2.0, 1.0, 3.0), idle, strict=True):
        pool.put(route, each, moment)
    for _ in range(4):
        pool.drop_oldest()
    assert (pool.dropped, pool.count) == ([idle[1], idle[0], idle[2]], 0)


def test_all_are_dropped_at_the_end() -> None:
    pool, idle = Pool(), [Idle(), Idle()]
    pool.put("a", idle[0], 1.0)
    pool.put("b", idle[1], 1.0)
    pool.drop_all()
    assert (pool.dropped, pool.count) == (idle, 0)
    assert pool.pop("a", 1.0, replayable=True) is None
