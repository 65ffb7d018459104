"""A list of ids: what `servers.list` lists, with its errors, for a fraction of the work."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any
from unittest.mock import patch

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bms_async import ApiError, BmsClient, DecodeError, InvalidRequestError, Limits
from bms_async.api.bms import server_ids, server_list
from bms_async.models import Server
from bms_async.wire import read_fragment
from tests.api.bms.test_lists_cut_short import Shelf
from tests.support.mocked import DETAIL, mocked, sent, virtually
from tests.support.virtual_clock import run_virtually

# Without faults at certain calls: how many pages are fetched ahead by then depends on how fast the reader is.
shelves = st.builds(
    Shelf,
    total=st.integers(0, 130),
    cap=st.none() | st.integers(1, 60),
    own=st.booleans(),
    count=st.sampled_from(["list", "page", "none"]),
    stuck=st.booleans(),
)


async def whole(bms: BmsClient, page_size: int) -> list[str]:
    return [server.id async for server in bms.servers.list(page_size=page_size)]


async def ids_only(bms: BmsClient, page_size: int) -> list[str]:
    return [server_id async for ids in bms.servers._list_ids(page_size=page_size) for server_id in ids]


@given(shelf=shelves, page_size=st.sampled_from([5, 20, 50, 1000]))
@settings(deadline=None, max_examples=12)
def test_the_same_ids_come_by_the_same_calls_with_the_same_errors(shelf: Shelf, page_size: int) -> None:
    async def scenario() -> None:
        told: list[tuple[object, int]] = []
        for read in (whole, ids_only):
            cloud_of_its_own = dataclasses.replace(shelf, calls=0, at=[])
            # A cloud that has nothing new is given up sooner than after the 4000 calls that pages of five would take.
            given_up_soon = patch.object(server_list, "_MAX_SKIPPED", 1000)
            async with mocked(limits=Limits.unlimited()) as (bms, cloud):
                cloud.get(DETAIL).mock(side_effect=cloud_of_its_own)
                try:
                    with given_up_soon:
                        found: object = await read(bms, page_size)
                except DecodeError as error:
                    found = str(error)
            told.append((found, cloud_of_its_own.calls))
        assert told[0] == told[1]

    run_virtually(scenario)


ODD_SERVERS = st.sampled_from(
    [{"id": 7}, {"id": ""}, {"id": None}, {"id": ["a"]}, {}, None, "a", 5, [], [{"id": "a"}], {"id": "b", "links": 5}]
)
SERVERS = st.integers(0, 40).map(lambda number: {"id": f"server-{number}"})


def pages_of(servers: list[Any], cap: int, count: object) -> Callable[[httpx.Request], httpx.Response]:
    """A cloud that lists anything, and counts as it likes."""

    def answer(request: httpx.Request) -> httpx.Response:
        size = min(int(request.url.params["limit"]), cap)
        begin = (int(request.url.params["offset"]) - 1) * size
        return httpx.Response(200, json={"servers": servers[begin : begin + size], "count": count})

    return answer


@given(
    servers=st.lists(SERVERS, max_size=80) | st.lists(SERVERS | ODD_SERVERS, max_size=30),
    cap=st.sampled_from([3, 20, 50, 1000]),
    count=st.none() | st.integers(0, 90) | st.sampled_from(["many", "7", -1]),
    page_size=st.sampled_from([5, 20, 1000]),
)
@settings(deadline=None, max_examples=30)
def test_ids_that_come_before_an_error_are_those_of_the_servers_before_it(
    servers: list[Any], cap: int, count: object, page_size: int
) -> None:
    async def scenario() -> None:
        told: list[tuple[list[str], str | None]] = []
        for reads_ids in (False, True):
            found: list[str] = []
            said = None
            async with mocked(limits=Limits.unlimited()) as (bms, cloud):
                cloud.get(DETAIL).mock(side_effect=pages_of(servers, cap, count))
                try:
                    if reads_ids:
                        async for ids in bms.servers._list_ids(page_size=page_size):
                            found += ids
                    else:
                        async for server in bms.servers.list(page_size=page_size):
                            found.append(server.id)
                except DecodeError as error:
                    said = str(error).replace("ServerId", "Server")
            told.append((found, said))
        assert told[0] == told[1]

    run_virtually(scenario)


@virtually
async def test_nothing_but_the_id_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[type] = []

    def noted(name: str, part: bytes | msgspec.Raw, into: type[Any]) -> Any:
        read.append(into)
        return read_fragment(name, part, into)

    monkeypatch.setattr(server_list, "read_fragment", noted)
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=Shelf(30))
        assert len(await ids_only(bms, 20)) == 30
        assert read == []
        # The control: servers are decoded one by one.
        assert len(await whole(bms, 20)) == 30
        assert read == [Server] * 31


@pytest.mark.parametrize(
    "odd", [{"id": 7}, {"id": "ab", "links": 5}, {"name": "without an id"}, "no object", ["id"], None]
)
@virtually
async def test_an_odd_server_is_what_it_is_in_a_list_of_servers(odd: Any) -> None:
    told: list[tuple[object, int]] = []
    for read in (whole, ids_only):
        async with mocked() as (bms, cloud):
            document = {"servers": [{"id": "first"}, odd, {"id": "last"}], "count": 3}
            cloud.get(DETAIL).mock(return_value=httpx.Response(200, json=document))
            try:
                found: object = await read(bms, 1000)
            except DecodeError as error:
                found = str(error).replace("ServerId", "Server")
            told.append((found, len(sent(cloud))))
    (expected, calls), (found, more_calls) = told
    assert found == expected
    # A page that cannot be read as ids is fetched again, once.
    assert more_calls in (calls, calls + 1)


@pytest.mark.parametrize(
    "answer",
    [
        {"text": "<html>"},
        {"json": {}},
        {"json": {"servers": 5}},
        {"content": b""},
        {"content": b'{"servers": [{"id": "\xff"}]}'},
    ],
)
@virtually
async def test_a_page_that_cannot_be_read_is_the_same_error(answer: Mapping[str, Any]) -> None:
    told = []
    for read in (whole, ids_only):
        async with mocked() as (bms, cloud):
            cloud.get(DETAIL).mock(return_value=httpx.Response(200, headers={"X-Request-Id": "req-1"}, **answer))
            with pytest.raises(DecodeError) as caught:
                await read(bms, 1000)
            told.append((str(caught.value).replace("ServerId", "Server"), caught.value.request_id))
    assert told[0] == told[1]


@virtually
async def test_a_refusal_and_a_blank_filter_are_errors_before_the_first_id() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(return_value=httpx.Response(403, json={"error": {"code": "BMS.0001", "message": "no"}}))
        with pytest.raises(ApiError):
            await ids_only(bms, 1000)
        asked = len(sent(cloud))
        with pytest.raises(InvalidRequestError):
            bms.servers._list_ids(tags=" ")
        assert len(sent(cloud)) == asked


def test_a_page_of_ids_keeps_nothing_of_the_body() -> None:
    body = b'{"count": 1, "servers": [{"id": "a", "name": "%b"}]}' % (b"x" * 1000)
    page = server_ids.read_page(body)
    assert page is not None
    assert (page.servers, page.count, page.size) == ((server_list.ServerId(id="a"),), 1, len(body))
    assert not any(isinstance(getattr(page, field), bytes | memoryview) for field in ("servers", "count", "size"))


@pytest.mark.parametrize(
    "odd",
    [
        {},
        {"name": "数据库", "status": "SHUTOFF", "OS-EXT-AZ:availability_zone": "az-1", "tags": ["rack-1", "x"]},
        {"flavor": {"id": "physical.s1", "links": [{"rel": "self"}]}, "image": "", "status": "NEVER_HEARD_OF"},
        {"name": None, "tags": None, "flavor": None},
        {"name": "", "tags": "", "flavor": "", "status": ""},
        {"name": 7, "flavor": {"id": 8}},
    ],
)
@virtually
async def test_a_short_list_has_the_fields_that_servers_are_chosen_by_as_the_list_has_them(odd: Any) -> None:
    async with mocked() as (bms, cloud):
        servers = [{"id": "a", "name": "first"}, {"id": "b", **odd}]
        cloud.get(DETAIL).mock(return_value=httpx.Response(200, json={"count": 2, "servers": servers}))
        listed = [fields_of(server) async for server in bms.servers.list()]
        short = [fields_of(server) async for page in bms.servers._list_short() for server in page]
    assert short == listed


def fields_of(server: Server | server_ids.ShortServer) -> tuple[object, ...]:
    flavor = server.flavor and (server.flavor.id, server.flavor.name)
    return server.id, server.name, server.status, server.availability_zone, server.tags, flavor
