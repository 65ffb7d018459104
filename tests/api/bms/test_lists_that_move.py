"""A list that changes while it is read: who is there all the time comes exactly once, whoever appears or vanishes."""

from __future__ import annotations

import asyncio
import itertools
import random
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, cast

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bms_async import BmsClient, Limits, Server
from bms_async.api.bms.server_list import ServerPage
from bms_async.models import decode
from bms_async.simulator import Cloud
from bms_async.simulator.core.attributes import CreationSpec
from bms_async.simulator.core.flavors import FLAVORS
from tests.support.clouds import simulated
from tests.support.mocked import DETAIL, mocked, sent, virtually
from tests.support.virtual_clock import advance, run_virtually


class MovingBook:
    """A cloud whose servers change before each answer.

    Args:
        ids: Who is there at first.
        change: Called with them before each call is answered, and with the number of the call.
        counted: Whether its pages have a count.
    """

    def __init__(self, ids: list[str], change: Callable[[list[str], int], None], *, counted: bool = True) -> None:
        self.ids = ids
        self.always = set(ids)
        self.calls = 0
        self._change = change
        self._counted = counted

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        self._change(self.ids, self.calls)
        self.always &= set(self.ids)
        size, number = int(request.url.params["limit"]), int(request.url.params["offset"])
        page = self.ids[(number - 1) * size : number * size]
        document: dict[str, Any] = {"servers": [{"id": server_id} for server_id in page]}
        return httpx.Response(200, json=document | ({"count": len(self.ids)} if self._counted else {}))


async def read(book: MovingBook, *, delays: Sequence[float] = (0.0,), **options: Any) -> list[str]:
    """Read a list of which each page comes so late, so that a later one may have been written before an earlier one."""
    waits = itertools.cycle(delays)

    async def answer(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(next(waits))
        return book(request)

    async with mocked(limits=Limits.unlimited()) as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)
        return [server.id async for server in bms.servers.list(**options)]


def assert_each_once(read_ids: list[str], book: MovingBook) -> None:
    assert [server_id for server_id, times in Counter(read_ids).items() if times > 1] == []
    assert book.always - set(read_ids) == set()


def numbered(count: int) -> list[str]:
    return [f"server-{number:05}" for number in range(count)]


@given(
    total=st.integers(0, 300),
    page_size=st.integers(20, 60),
    changes=st.lists(
        st.tuples(st.sampled_from(["vanish", "appear"]), st.floats(0, 1), st.integers(1, 80)), max_size=12
    ),
    counted=st.booleans(),
    delays=st.lists(st.floats(0, 3), min_size=1, max_size=5),
)
@settings(deadline=None, max_examples=100)
def test_whoever_is_there_all_the_time_comes_exactly_once(
    total: int, page_size: int, changes: list[tuple[str, float, int]], counted: bool, delays: list[float]
) -> None:
    born = iter(range(10**6))

    def change(ids: list[str], call: int) -> None:
        if call == 1 or call > len(changes) + 1:
            return
        what, where, number = changes[call - 2]
        place = int(where * len(ids))
        ids[place : place + number * (what == "vanish")] = (
            [] if what == "vanish" else [f"born-{next(born)}" for _ in range(number)]
        )

    async def scenario() -> None:
        book = MovingBook(numbered(total), change, counted=counted)
        assert_each_once(await read(book, delays=delays, page_size=page_size), book)

    run_virtually(scenario)


@pytest.mark.parametrize("vanished", [1, 9, 10, 63, 64, 500, 999, 1000, 3000, 6000])
@virtually
async def test_servers_that_vanish_before_the_reader_hide_nobody(vanished: int) -> None:
    def change(ids: list[str], call: int) -> None:
        if call == 8:
            del ids[:vanished]

    book = MovingBook(numbered(20_000), change)

    assert_each_once(await read(book), book)
    assert book.calls <= 21 + 20


@virtually
async def test_one_that_vanishes_and_one_that_appears_leave_the_count_as_it_was_and_hide_nobody() -> None:
    def change(ids: list[str], call: int) -> None:
        if call == 3:
            del ids[:20]
            ids.extend(f"born-{number}" for number in range(20))

    book = MovingBook(numbered(2000), change)

    assert_each_once(await read(book, page_size=300), book)


@virtually
async def test_servers_that_appear_at_the_front_bring_nobody_twice() -> None:
    def change(ids: list[str], call: int) -> None:
        ids[:0] = [f"born-{call}-{number}" for number in range(70)]

    book = MovingBook(numbered(3000), change)

    assert_each_once(await read(book, page_size=200), book)


@virtually
async def test_a_server_that_vanishes_costs_no_call_where_the_pages_still_overlap() -> None:
    def change(ids: list[str], call: int) -> None:
        if call == 4:
            del ids[17]

    still, moved = MovingBook(numbered(9000), lambda *_: None), MovingBook(numbered(9000), change)
    await read(still)
    await read(moved)

    assert moved.calls == still.calls


@virtually
async def test_a_cloud_that_keeps_no_order_is_read_to_an_end() -> None:
    shuffle = random.Random(7).shuffle
    book = MovingBook(numbered(5000), lambda ids, _: shuffle(ids))

    read_ids = await read(book, page_size=50)

    assert len(read_ids) == len(set(read_ids))
    assert book.calls < 300


@virtually
async def test_a_cloud_whose_pages_lie_elsewhere_than_asked_for_is_read_to_an_end() -> None:
    """It rounds the size down to whole hundreds, for the beginning of a page too."""
    ids = numbered(20_000)

    def answer(request: httpx.Request) -> httpx.Response:
        size = int(request.url.params["limit"]) // 100 * 100
        begin = (int(request.url.params["offset"]) - 1) * size
        page = [{"id": server_id} for server_id in ids[begin : begin + size]]
        return httpx.Response(200, json={"servers": page, "count": len(ids)})

    async with mocked(limits=Limits.unlimited()) as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)

        assert sorted([server.id async for server in bms.servers.list()]) == ids
        assert len(sent(cloud)) < 200


@virtually
async def test_a_cloud_with_pages_of_its_own_is_read_to_the_end() -> None:
    """It takes no size at all, so that its pages cannot be made to overlap."""
    ids = numbered(950)

    def answer(request: httpx.Request) -> httpx.Response:
        begin = (int(request.url.params["offset"]) - 1) * 100
        page = [{"id": server_id} for server_id in ids[begin : begin + 100]]
        return httpx.Response(200, json={"servers": page, "count": len(ids)})

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)

        assert [server.id async for server in bms.servers.list()] == ids


@virtually
async def test_a_cloud_that_cuts_pages_short_is_read_with_pages_of_that_size() -> None:
    ids = numbered(950)

    def answer(request: httpx.Request) -> httpx.Response:
        size = min(100, int(request.url.params["limit"]))
        begin = (int(request.url.params["offset"]) - 1) * size
        page = [{"id": server_id} for server_id in ids[begin : begin + size]]
        return httpx.Response(200, json={"servers": page, "count": len(ids)})

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)

        assert [server.id async for server in bms.servers.list()] == ids
        assert max(int(request.url.params["limit"]) for request in sent(cloud)[1:]) <= 100


def born(cloud: Cloud, number: int) -> str:
    """Have the simulator make one more server, and return its id."""
    birth = CreationSpec(
        at=cloud.now(),
        flavor=FLAVORS[0],
        image="image",
        zone="az",
        key_name=None,
        user_data="",
        networks=(),
        vpc="vpc",
        groups=(),
        reservation="r-born",
        launch_index=number,
    )
    server = cloud.create(birth, f"born-{number}")
    cloud.work("create", server)
    return server.id


@pytest.mark.parametrize("seed", range(5))
@virtually
async def test_the_simulators_servers_come_once_while_others_are_made_and_deleted(seed: int) -> None:
    draw = random.Random(seed)
    async with simulated(servers=2000, job_seconds=(0.5, 1.0), limits=Limits.unlimited(), throttle="none") as here:
        at_first = set(here.ids)
        deleted: set[str] = set()
        made: set[str] = set()
        read_ids: list[str] = []
        async for server in here.bms.servers.list(page_size=100):
            read_ids.append(server.id)
            if len(read_ids) % 97 == 0:
                victims = draw.sample(sorted(set(here.ids) - deleted - made), draw.choice([1, 5, 60]))
                for victim in victims:
                    here.cloud.delete(here.cloud.servers[victim])
                deleted.update(victims)
                made.update(born(here.cloud, len(made)) for _ in range(draw.choice([0, 3])))
                await advance(2.0)

        assert len(read_ids) == len(set(read_ids))
        assert (at_first - deleted) - set(read_ids) == set()
        assert deleted
        assert made


async def pages_ahead(bms: BmsClient, sent_so_far: Callable[[], int], **options: Any) -> int:
    """Read the first page and a few more servers, then wait; return how many prefetched pages are unread."""
    reading = cast("AsyncGenerator[Server]", bms.servers.list(**options).__aiter__())
    page_size = options["page_size"]
    for _ in range(5 * page_size):
        await anext(reading)
    await asyncio.sleep(10)
    ahead = sent_so_far() - 5
    await reading.aclose()
    return ahead


@virtually
async def test_pages_ahead_are_few_where_they_are_heavy() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        size, number = int(request.url.params["limit"]), int(request.url.params["offset"])
        page = [{"id": f"{number}-{each}", "name": "x" * 500_000} for each in range(size)]
        return httpx.Response(200, json={"servers": page, "count": 1000})

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)

        assert await pages_ahead(bms, lambda: len(sent(cloud)), page_size=8) == 3


@virtually
async def test_pages_ahead_take_no_slot_that_others_wait_for() -> None:
    book = MovingBook(numbered(1000), lambda *_: None)

    async with mocked(limits=Limits({"servers.list": 7})) as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=book)
        reading = cast("AsyncGenerator[Server]", bms.servers.list(page_size=10).__aiter__())
        for _ in range(5 * 10 + 1):
            await anext(reading)
        await asyncio.sleep(10)

        figures = bms.limits["servers.list"].statistics()
        assert figures.free == 0
        assert figures.waiting_interactive <= 1
        await reading.aclose()


@virtually
async def test_others_get_their_turn_while_pages_are_read_that_have_come() -> None:
    book = MovingBook(numbered(4000), lambda *_: None)
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=book)
        reading = cast("AsyncGenerator[Server]", bms.servers.list().__aiter__())
        await anext(reading)
        await asyncio.sleep(10)
        counting = asyncio.create_task(count_turns())

        for _ in range(1900):
            await anext(reading)

        counting.cancel()
        await reading.aclose()
    assert turns >= 1900 // 100


@pytest.mark.parametrize(("printed", "count"), [("5", 5), ('"5"', 5), ('""', None), ('"many"', None), ("null", None)])
def test_a_count_of_any_kind_leaves_the_servers_as_they_came(printed: str, count: int | None) -> None:
    body = b'{"servers": [{"id": "a",   "name": "b"}], "count": %b}' % printed.encode()

    page = decode(body, ServerPage)

    assert page.count == count
    assert [bytes(raw) for raw in page.servers or ()] == [b'{"id": "a",   "name": "b"}']
