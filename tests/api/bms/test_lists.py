"""A list: pages come ahead of the reader and in order, each server once, and leaving early leaves nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, cast

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bms_async import BmsClient, ClientClosedError, DecodeError, NotFoundError, Server, ServerError
from bms_async.api.bms._page_planner import USUAL_CAPS
from tests.support.mocked import DETAIL, client_of, error, mocked, sent, virtually
from tests.support.virtual_clock import run_virtually

Answer = Callable[[httpx.Request], httpx.Response]

NO_COUNT = object()


def page_number(request: httpx.Request) -> int:
    return int(request.url.params["offset"])


def page_of(ids: Sequence[str], count: object = NO_COUNT) -> httpx.Response:
    document: dict[str, Any] = {"servers": [{"id": server_id, "name": f"name of {server_id}"} for server_id in ids]}
    if count is not NO_COUNT:
        document["count"] = count
    return httpx.Response(200, json=document)


def book_of(ids: Sequence[str], *, counted: bool = True, write_count: Callable[[int], object] = int) -> Answer:
    """A cloud with these servers, which cuts them into the pages that it is asked for."""

    def answer(request: httpx.Request) -> httpx.Response:
        size = int(request.url.params["limit"])
        begin = (page_number(request) - 1) * size
        return page_of(ids[begin : begin + size], write_count(len(ids)) if counted else NO_COUNT)

    return answer


def numbered(count: int) -> list[str]:
    return [f"server-{number:04}" for number in range(count)]


async def ids_of(bms: BmsClient, **filters: Any) -> list[str]:
    return [server.id async for server in bms.servers.list(**filters)]


@given(total=st.integers(0, 40), page_size=st.integers(1, 12), counted=st.booleans(), as_text=st.booleans())
@settings(deadline=None, max_examples=30)
def test_every_server_comes_once_and_in_order_whatever_the_page_size(
    total: int, page_size: int, counted: bool, as_text: bool
) -> None:
    async def scenario() -> None:
        async with mocked() as (bms, cloud):
            write_count: Callable[[int], object] = str if as_text else int
            cloud.get(DETAIL).mock(side_effect=book_of(numbered(total), counted=counted, write_count=write_count))

            assert await ids_of(bms, page_size=page_size) == numbered(total)

            pages = sorted({page_number(request) for request in sent(cloud)})
            assert pages == list(range(1, len(pages) + 1))
            if counted:
                # A full last page has one more asked for, since a count may mean the page.
                assert len(sent(cloud)) == total // page_size + 1 + (total < page_size and total in USUAL_CAPS)

    run_virtually(scenario)


def tasks_but_senders() -> set[asyncio.Task[object]]:
    """Return the tasks, but for the transport's senders, which wait for the next call."""
    return {task for task in asyncio.all_tasks() if task.get_name() != "bms_async send"}


@virtually
async def test_servers_are_whole() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=book_of(["a"]))

        (server,) = [server async for server in bms.servers.list()]

        assert isinstance(server, Server)
        assert (server.id, server.name) == ("a", "name of a")


@virtually
async def test_nothing_is_asked_for_before_the_first_server_is_wanted() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=book_of(["a"]))

        listed = bms.servers.list()
        await asyncio.sleep(10)

        assert sent(cloud) == []
        assert [server.id async for server in listed] == ["a"]


@virtually
async def test_each_iteration_asks_anew() -> None:
    async with mocked() as (bms, cloud):
        route = cloud.get(DETAIL).mock(side_effect=book_of(["a"]))
        listed = bms.servers.list()
        assert [server.id async for server in listed] == ["a"]
        route.mock(side_effect=book_of(["a", "b"]))

        assert [server.id async for server in listed] == ["a", "b"]


@virtually
async def test_pages_come_ahead_of_the_reader_but_not_all_of_them() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=book_of(numbered(100)))
        reading = bms.servers.list(page_size=10).__aiter__()

        assert (await anext(reading)).id == "server-0000"
        await asyncio.sleep(10)

        assert [page_number(request) for request in sent(cloud)] == [1, 2, 3]
        await cast("AsyncGenerator[Server]", reading).aclose()


@virtually
async def test_pages_that_come_in_another_order_are_read_in_theirs() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(10 - page_number(request))
        return book_of(numbered(40))(request)

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)

        assert await ids_of(bms, page_size=10) == numbered(40)


@virtually
async def test_a_server_that_moves_to_another_page_meanwhile_comes_once() -> None:
    """A server appears at the head of the list after page 1 was read, which pushes the last one of it to page 2."""
    pages = {1: ["b", "c"], 2: ["c", "d"], 3: ["e"]}

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=lambda request: page_of(pages.get(page_number(request), []), 5))

        assert await ids_of(bms, page_size=2) == ["b", "c", "d", "e"]


@pytest.mark.parametrize("count", [NO_COUNT, None])
@virtually
async def test_without_a_count_a_page_that_is_not_full_has_one_more_asked_for(count: object) -> None:
    async with mocked() as (bms, cloud):
        pages = {1: ["a", "b"], 2: ["c", "d"], 3: ["e"]}
        cloud.get(DETAIL).mock(side_effect=lambda request: page_of(pages.get(page_number(request), []), count))

        assert await ids_of(bms, page_size=2) == ["a", "b", "c", "d", "e"]
        assert [page_number(request) for request in sent(cloud)] == [1, 2, 3, 4]


@virtually
async def test_without_a_count_an_empty_page_after_a_full_one_is_the_last_if_it_stays_empty() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=book_of(numbered(4), counted=False))

        assert await ids_of(bms, page_size=2) == numbered(4)
        assert [page_number(request) for request in sent(cloud)] == [1, 2, 3, 3]


@virtually
async def test_an_empty_list_that_is_counted_asks_for_no_more() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).respond(json={"servers": [], "count": 0})

        assert await ids_of(bms) == []
        assert len(sent(cloud)) == 1


@pytest.mark.parametrize("servers", [None, "", []])
@virtually
async def test_an_empty_list_that_nobody_counts_is_asked_for_twice(servers: object) -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).respond(json={"servers": servers})

        assert await ids_of(bms) == []
        assert len(sent(cloud)) == 2


@virtually
async def test_a_cloud_that_gives_smaller_pages_than_asked_for_is_read_to_the_end() -> None:
    """The pages are as large as the cloud likes, and the count says how many there are."""
    ids = numbered(9)

    def answer(request: httpx.Request) -> httpx.Response:
        begin = (page_number(request) - 1) * 2
        return page_of(ids[begin : begin + 2], len(ids))

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)

        assert await ids_of(bms, page_size=1000) == ids


@virtually
async def test_breaking_out_early_leaves_no_task_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=book_of(numbered(100)))
        before = tasks_but_senders()

        async for server in bms.servers.list(page_size=10):
            if server.id == "server-0003":
                break
        await asyncio.sleep(5)

        assert tasks_but_senders() == before
        assert len(sent(cloud)) <= 3
    assert caplog.records == [record for record in caplog.records if record.levelname in {"DEBUG", "INFO"}]


@virtually
async def test_breaking_out_while_pages_are_on_their_way_calls_them_off() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0 if page_number(request) == 1 else 1000)
        return book_of(numbered(100))(request)

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)
        async for _ in bms.servers.list(page_size=10):
            await asyncio.sleep(1)
            break
        await asyncio.sleep(1)

        assert bms.statistics().session.open_calls == 0


@virtually
async def test_an_error_on_page_three_is_raised_after_pages_one_and_two_were_read() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if page_number(request) == 3:
            return httpx.Response(404, json=error("BMS.0001"))
        return book_of(numbered(50))(request)

    read: list[str] = []
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)

        async def read_on() -> None:
            async for server in bms.servers.list(page_size=10):
                read.append(server.id)  # noqa: PERF401 - what was read before the error counts

        with pytest.raises(NotFoundError) as caught:
            await read_on()

        assert read == numbered(20)
        assert caught.value.operation == "servers.list"
        # The client is as good as before.
        cloud.get(DETAIL).mock(side_effect=book_of(numbered(3)))
        assert await ids_of(bms) == numbered(3)


@virtually
async def test_a_page_is_tried_again_like_every_read() -> None:
    answers = [httpx.Response(503), page_of(["a"], 1)]

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answers)

        assert await ids_of(bms) == ["a"]


@virtually
async def test_a_page_that_cannot_be_read_is_a_decode_error() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).respond(200, html="<html></html>")

        with pytest.raises(DecodeError, match=r"servers\.list: answered 200 with an HTML page"):
            await ids_of(bms)


@virtually
async def test_an_outage_ends_a_list_with_the_error() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).respond(503)

        with pytest.raises(ServerError) as caught:
            await ids_of(bms)

        assert len(caught.value.previous) == 3


@pytest.mark.parametrize("count", ["", "many", None, 1.0, "1"])
@virtually
async def test_a_count_that_is_no_number_is_no_count(count: object) -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=lambda _: page_of(["a"], count))

        assert await ids_of(bms) == ["a"]


@virtually
async def test_a_server_that_cannot_be_read_is_a_decode_error_after_those_before_it() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).respond(json={"servers": [{"id": "a"}, {"name": "no id"}], "count": 2})
        reading = bms.servers.list().__aiter__()

        assert (await anext(reading)).id == "a"
        with pytest.raises(DecodeError, match=r"servers\.list: answered with a part that cannot be read as Server"):
            await anext(reading)


@virtually
async def test_a_reader_may_be_cancelled_at_any_moment_and_the_client_lives_on() -> None:
    """Also in the very turn of the loop in which his page comes."""
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=book_of(numbered(4)))
        for turns in range(60):
            reading = asyncio.create_task(ids_of(bms, page_size=2))
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await reading

        assert await ids_of(bms) == numbered(4)


@virtually
async def test_two_lists_at_once_do_not_touch_each_other() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=book_of(numbered(30)))

        first, second = await asyncio.gather(ids_of(bms, page_size=4), ids_of(bms, page_size=7))

        assert first == second == numbered(30)


@virtually
async def test_a_reader_who_is_cancelled_leaves_no_call_behind() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(1000)
        return page_of([], 0)

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(5):
                await ids_of(bms)
        await asyncio.sleep(1)

        assert bms.statistics().session.open_calls == 0


@virtually
async def test_closing_the_client_ends_a_list_with_a_word() -> None:
    async def answer(request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(1000)
        return page_of([], 0)

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)
        reading = asyncio.create_task(ids_of(bms))
        await asyncio.sleep(1)
        await bms.aclose()

        with pytest.raises(ClientClosedError):
            await reading


@virtually
async def test_a_list_of_a_client_that_is_not_open_says_so() -> None:
    with pytest.raises(ClientClosedError, match="not open"):
        await ids_of(client_of())


@pytest.mark.parametrize("count", [NO_COUNT, 10**9])
@virtually
async def test_a_cloud_that_gives_the_same_page_for_ever_is_an_error_and_not_a_list_without_end(count: object) -> None:
    def first_page_again(request: httpx.Request) -> httpx.Response:
        return page_of(numbered(int(request.url.params["limit"])), count)

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=first_page_again)
        read: list[str] = []

        async def read_all() -> None:
            async for server in bms.servers.list():
                read.append(server.id)  # noqa: PERF401 - what came before the error counts

        with pytest.raises(DecodeError, match="the same servers"):
            await read_all()
        assert read == numbered(1000)
        assert cloud.calls.call_count < 40
