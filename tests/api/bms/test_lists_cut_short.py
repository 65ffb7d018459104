"""No end of a list is concluded from what the cloud leaves out: it is asked again, and then it is an error."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import Any, Literal

import httpx
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from bms_async import DecodeError, Limits
from tests.support.mocked import DETAIL, mocked, virtually
from tests.support.virtual_clock import run_virtually

Count = Literal["list", "page", "none"]


@dataclasses.dataclass
class Shelf:
    """A cloud whose pages are not what was asked for.

    Args:
        total: How many servers there are.
        cap: How many it gives at once, None for as many as are asked for.
        own: Whether its pages are as large as that whatever is asked for.
        count: What its count counts.
        empty: The calls that it answers with an empty page.
        short: The calls that it answers with half of a page.
        uncounted: The calls that it answers without a count.
        counts: What it counts at some calls instead.
        stuck: Whether it gives its first page for any.
        dropped: The calls that it answers with its first page.
    """

    total: int
    cap: int | None = None
    own: bool = False
    count: Count = "list"
    empty: tuple[int, ...] = ()
    short: tuple[int, ...] = ()
    uncounted: tuple[int, ...] = ()
    counts: dict[int, int] = dataclasses.field(default_factory=dict)
    stuck: bool = False
    dropped: tuple[int, ...] = ()
    calls: int = 0
    at: list[float] = dataclasses.field(default_factory=list)

    @property
    def ids(self) -> list[str]:
        return [f"server-{number:05}" for number in range(self.total)]

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.calls += 1
        self.at.append(asyncio.get_running_loop().time())
        size, number = int(request.url.params["limit"]), int(request.url.params["offset"])
        size = (self.cap or size) if self.own else min(size, self.cap or size)
        begin = 0 if self.stuck or self.calls in self.dropped else (number - 1) * size
        page = self.ids[begin : begin + size]
        if self.calls in self.short:
            page = page[: len(page) // 2]
        if self.calls in self.empty:
            page = []
        document: dict[str, Any] = {"servers": [{"id": server_id} for server_id in page]}
        if self.count != "none" and self.calls not in self.uncounted:
            counted = self.total if self.count == "list" else len(page)
            document["count"] = self.counts.get(self.calls, counted)
        return httpx.Response(200, json=document)

    async def read(self, page_size: int = 1000) -> list[str]:
        async with mocked(limits=Limits.unlimited()) as (bms, cloud):
            cloud.get(DETAIL).mock(side_effect=self)
            return [server.id async for server in bms.servers.list(page_size=page_size)]


@pytest.mark.parametrize("empty", [(1,), (2,), (4,), (1, 2), (2, 3, 4)])
@pytest.mark.parametrize("page_size", [1000, 100, 10])
@virtually
async def test_a_page_that_comes_empty_for_a_while_is_asked_for_again(empty: tuple[int, ...], page_size: int) -> None:
    shelf = Shelf(5 * page_size, empty=empty)

    assert await shelf.read(page_size) == shelf.ids


@pytest.mark.parametrize("dropped", [(2,), (3,), (4,)])
@pytest.mark.parametrize("count", ["list", "page", "none"])
@virtually
async def test_a_page_that_is_another_than_was_asked_for_hides_nobody(dropped: tuple[int, ...], count: Count) -> None:
    shelf = Shelf(49, cap=10, count=count, dropped=dropped)
    assert await shelf.read() == shelf.ids


@virtually
async def test_a_page_that_is_cut_short_and_then_another_one_hides_nobody() -> None:
    shelf = Shelf(49, cap=10, short=(2,), dropped=(3,))
    assert await shelf.read() == shelf.ids


@pytest.mark.parametrize(
    "shelf",
    [
        pytest.param(Shelf(35, cap=10, dropped=(3, 4)), id="another page, twice in a row"),
        pytest.param(Shelf(72, short=tuple(range(1, 27))), id="page after page cut short"),
    ],
)
@virtually
async def test_servers_that_the_cloud_counts_and_never_shows_are_an_error(shelf: Shelf) -> None:
    with pytest.raises(DecodeError, match=rf"expected {shelf.total} servers, as the cloud counts them, got \d+: pages"):
        await dataclasses.replace(shelf).read()


@virtually
async def test_an_empty_page_that_counts_less_than_was_read_is_asked_for_again() -> None:
    shelf = Shelf(46, cap=25, count="page", empty=(2,), counts={2: 21})
    assert await shelf.read() == shelf.ids


@virtually
async def test_who_asks_again_waits_longer_each_time() -> None:
    shelf = Shelf(15, empty=(1, 2, 3))

    assert await shelf.read(10) == shelf.ids
    assert [round(late - early) for early, late in zip(shelf.at, shelf.at[1:4], strict=False)] == [1, 2, 4]


@pytest.mark.parametrize(("page_size", "got"), [(1000, 2955), (10, 30)])
@virtually
async def test_a_page_that_stays_empty_is_an_error_that_says_what_came_and_what_is_missing(
    page_size: int, got: int
) -> None:
    shelf = Shelf(5 * page_size, empty=tuple(range(4, 100)))

    with pytest.raises(
        DecodeError,
        match=rf"servers\.list: expected {shelf.total} servers, as the cloud counts them, got {got}: "
        r"page 4 of \d+ servers had nothing new 4 times; list them again later",
    ):
        await shelf.read(page_size)
    assert shelf.calls < 20


@pytest.mark.parametrize("own", [True, False])
@pytest.mark.parametrize("count", ["list", "page", "none"])
@pytest.mark.parametrize("total", [250, 300, 100, 99, 1, 0])
@virtually
async def test_a_cloud_that_gives_a_hundred_at_once_is_read_to_the_end(total: int, count: Count, own: bool) -> None:
    shelf = Shelf(total, cap=100, own=own, count=count)

    assert await shelf.read() == shelf.ids
    assert shelf.calls <= 12


@pytest.mark.parametrize("total", [0, 1, 99, 999])
@virtually
async def test_a_list_that_says_that_it_is_whole_costs_one_call(total: int) -> None:
    shelf = Shelf(total)

    assert await shelf.read() == shelf.ids
    assert shelf.calls == 1


@pytest.mark.parametrize(("total", "calls"), [(1000, 2), (9500, 10)])
@virtually
async def test_full_pages_with_a_count_cost_no_further_call(total: int, calls: int) -> None:
    shelf = Shelf(total)

    assert await shelf.read() == shelf.ids
    assert shelf.calls == calls


@virtually
async def test_a_list_without_a_count_costs_one_call_more() -> None:
    shelf = Shelf(1500, count="none")

    assert await shelf.read() == shelf.ids
    assert shelf.calls == 3


@pytest.mark.parametrize("short", [(1,), (2,), (3,), (2, 3)])
@pytest.mark.parametrize("count", ["list", "none"])
@pytest.mark.parametrize("page_size", [40, 10])
@virtually
async def test_a_page_that_is_cut_short_hides_nobody(page_size: int, count: Count, short: tuple[int, ...]) -> None:
    shelf = Shelf(5 * page_size, count=count, short=short)

    assert sorted(await shelf.read(page_size)) == shelf.ids


@pytest.mark.parametrize("counted", [0, -1, -(10**9), 3])
@virtually
async def test_a_count_that_cannot_be_one_says_nothing(counted: int) -> None:
    shelf = Shelf(250, cap=100, counts=dict.fromkeys(range(1, 100), counted))

    assert await shelf.read() == shelf.ids


@virtually
async def test_a_count_beyond_all_that_comes_is_an_error_and_not_a_list_without_end() -> None:
    shelf = Shelf(1500, counts=dict.fromkeys(range(1, 100), 10**9))

    with pytest.raises(DecodeError, match=r"expected 1000000000 servers.*got 1500"):
        await shelf.read()
    assert shelf.calls < 40


@pytest.mark.parametrize("page_size", [1000, 10])
@virtually
async def test_a_count_that_falls_to_nothing_once_does_not_end_the_list(page_size: int) -> None:
    shelf = Shelf(5 * page_size, empty=(3,), counts={3: 0})

    assert await shelf.read(page_size) == shelf.ids


@virtually
async def test_a_count_that_one_page_leaves_out_is_the_one_before() -> None:
    shelf = Shelf(50, empty=(3,), uncounted=(3,))

    assert await shelf.read(10) == shelf.ids


@pytest.mark.parametrize("own", [True, False])
@virtually
async def test_a_cloud_that_gives_its_first_page_for_any_is_an_error(own: bool) -> None:
    shelf = Shelf(250, cap=100, own=own, stuck=True)

    with pytest.raises(DecodeError):
        await shelf.read()
    assert shelf.calls < 300


@pytest.mark.parametrize("page_size", [30, 10])
@virtually
async def test_a_server_that_another_page_spells_in_capitals_comes_once(page_size: int) -> None:
    ids = [f"{number:08x}-aaaa-4222-8333-123456789abc" for number in range(4 * page_size)]
    calls = 0

    def answer(request: httpx.Request) -> httpx.Response:
        nonlocal calls
        calls += 1
        size, number = int(request.url.params["limit"]), int(request.url.params["offset"])
        # A server appears at the front, so that pages without an overlap hold the last one of the page before.
        page = ids[max(0, (number - 1) * size - (calls > 1)) : number * size - (calls > 1)]
        shown = [{"id": each.upper() if calls % 2 else each} for each in page]
        return httpx.Response(200, json={"servers": shown, "count": len(ids) + (calls > 1)})

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)
        read = [server.id async for server in bms.servers.list(page_size=page_size)]

    assert sorted(each.lower() for each in read) == ids


@virtually
async def test_an_answer_without_servers_is_no_page() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).respond(json={"count": 5})

        with pytest.raises(DecodeError, match="servers"):
            [server async for server in bms.servers.list()]


SHELVES = st.builds(
    Shelf,
    st.integers(0, 260),
    cap=st.none() | st.integers(1, 60),
    own=st.booleans(),
    count=st.sampled_from(["list", "none"]),
    empty=st.lists(st.integers(1, 8), max_size=1).map(tuple),
    short=st.lists(st.integers(1, 8), max_size=1).map(tuple),
    uncounted=st.lists(st.integers(1, 8), max_size=2).map(tuple),
)


@given(shelf=SHELVES, page_size=st.integers(1, 50))
@example(shelf=Shelf(30, cap=10, count="page"), page_size=50)
@settings(deadline=None, max_examples=60)
def test_every_server_comes_once_or_the_list_is_an_error(shelf: Shelf, page_size: int) -> None:
    # Where nothing counts them, the last page may as well be all that there is.
    assume(not shelf.short or (shelf.count == "list" and not shelf.uncounted))

    async def scenario() -> None:
        try:
            read = await shelf.read(page_size)
        except DecodeError:
            return
        assert sorted(read) == shelf.ids

    run_virtually(scenario)
