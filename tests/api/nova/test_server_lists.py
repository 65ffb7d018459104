"""The native lists: their filters, their pages, and how bare metal is distinguished from virtual machines."""

from __future__ import annotations

import asyncio
import random
from datetime import UTC, datetime, timedelta, timezone
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest
import respx

from bms_async import (
    BadRequestError,
    BmsClient,
    BriefServer,
    ClientClosedError,
    DecodeError,
    InvalidRequestError,
    Server,
)
from tests.api.nova._helpers import MICROVERSION, SERVERS, a_server
from tests.support.clouds import simulated
from tests.support.mocked import SERVER_ID, mocked, sent, virtually
from tests.support.virtual_clock import advance

DETAIL = f"{SERVERS}/detail"
NOTHING: dict[str, Any] = {"servers": [], "servers_links": []}
PHYSICAL: dict[str, Any] = {"flavor": {"id": "physical.83.medium"}}


def page(*ids: str, **more: Any) -> dict[str, Any]:
    return {"servers": [a_server(server_id=server_id, **PHYSICAL) for server_id in ids], **more}


def asked(cloud: respx.MockRouter) -> list[dict[str, list[str]]]:
    return [parse_qs(urlsplit(str(request.url)).query) for request in sent(cloud)]


def cloud_of(ids: list[str], *, cap: int = 1000) -> Any:
    """Answer as the compute service does: what comes after the marker, and no more than it likes to give."""

    def answer(request: httpx.Request) -> httpx.Response:
        query = request.url.params
        after = ids.index(query["marker"]) + 1 if "marker" in query else 0
        size = min(cap, int(query["limit"]))
        rest = ids[after : after + size]
        links = [{"rel": "next", "href": "https://x"}] if len(rest) == size else []
        return httpx.Response(200, json=page(*rest, servers_links=links))

    return answer


async def test_the_brief_list_asks_the_cloud_for_bare_metal() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(SERVERS).respond(
            json={
                "servers": [{"name": "bms", "links": [{"rel": "self", "href": "https://x"}], "id": SERVER_ID}],
                "servers_links": [],
            }
        )

        (server,) = [each async for each in bms.nova.servers.list()]

        (request,) = sent(cloud)
        assert str(request.url) == f"{SERVERS}?limit=1000&tags=__type_baremetal"
        assert request.headers[MICROVERSION] == "2.26"
        assert isinstance(server, BriefServer)
        assert (server.id, server.name, server.links[0].href) == (SERVER_ID, "bms", "https://x")


async def test_the_brief_list_of_everything_needs_no_microversion() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(SERVERS).respond(json=NOTHING)
        assert [each async for each in bms.nova.servers.list(bare_metal_only=False)] == []
        (request,) = sent(cloud)
        assert str(request.url) == f"{SERVERS}?limit=1000"
        assert MICROVERSION not in request.headers


@pytest.mark.parametrize(("method", "url"), [("list", SERVERS), ("list_details", DETAIL)])
async def test_every_documented_filter_is_sent(method: str, url: str) -> None:
    async with mocked() as (bms, cloud):
        cloud.get(url).respond(json=NOTHING)

        listed = getattr(bms.nova.servers, method)(
            changes_since=datetime(2013, 6, 9, 8, 42, 18, 999999, timezone(timedelta(hours=2))),
            flavor="physical.o2.medium",
            name="bms-test01",
            status="ACTIVE",
            tags=["__type_baremetal", "rack 7"],
            not_tags="old",
            reservation_id="r-08tuyo08v",
            sort_key=["display_name", "uuid"],
            sort_dir=["asc", "desc"],
            limit=2,
        )
        assert [each async for each in listed] == []

        (request,) = sent(cloud)
        assert str(request.url) == (
            f"{url}?changes-since=2013-06-09T06%3A42%3A18Z&flavor=physical.o2.medium&name=bms-test01&status=ACTIVE"
            "&limit=2&tags=__type_baremetal%2Crack%207&not-tags=old&reservation_id=r-08tuyo08v"
            "&sort_key=display_name&sort_key=uuid&sort_dir=asc&sort_dir=desc"
        )
        assert request.headers[MICROVERSION] == "2.26"


async def test_ones_own_tags_are_asked_for_beside_the_clouds() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(SERVERS).respond(json=NOTHING)
        assert [each async for each in bms.nova.servers.list(tags="rack-7")] == []
        assert asked(cloud) == [{"limit": ["1000"], "tags": ["__type_baremetal,rack-7"]}]


@pytest.mark.parametrize("filters", [{"tags": "a"}, {"not_tags": ["a", "b"]}, {"reservation_id": "r-1"}])
async def test_filters_that_earlier_versions_do_not_know_bring_their_microversion(filters: dict[str, Any]) -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).respond(json=NOTHING)
        servers = bms.nova.servers
        assert [each async for each in servers.list_details(bare_metal_only=False, **filters)] == []
        assert [
            each async for each in servers.list_details(bare_metal_only=False, microversion="2.60", **filters)
        ] == []
        assert [request.headers[MICROVERSION] for request in sent(cloud)] == ["2.26", "2.60"]
        with pytest.raises(InvalidRequestError, match=r"^microversion='2\.9': expected 2\.26 or later, for a filter"):
            servers.list_details(microversion="2.9", **filters)


async def test_details_pass_over_virtual_machines_by_tag_and_flavor() -> None:
    answer = {
        "servers": [
            a_server(server_id="by-flavor", **PHYSICAL),
            a_server(server_id="by-tag", flavor={"id": "odd"}, tags=["__type_baremetal"]),
            a_server(server_id="virtual", flavor={"id": "s6.small.1"}, tags=["a"]),
            a_server(server_id="unknown"),
        ],
        "servers_links": [],
    }
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).respond(json=answer)
        found = [server async for server in bms.nova.servers.list_details()]
        assert [server.id for server in found] == ["by-flavor", "by-tag"]
        assert all(isinstance(server, Server) for server in found)
        everything = [server.id async for server in bms.nova.servers.list_details(bare_metal_only=False)]
        assert everything == ["by-flavor", "by-tag", "virtual", "unknown"]
        bare, both = sent(cloud)
        assert str(bare.url) == str(both.url) == f"{DETAIL}?limit=1000"
        # Tags are shown from this version on.
        assert (bare.headers.get(MICROVERSION), both.headers.get(MICROVERSION)) == ("2.26", None)


async def test_a_list_is_paged_by_marker() -> None:
    ids = [f"s-{number}" for number in range(5)]
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=cloud_of(ids))
        assert [server.id async for server in bms.nova.servers.list_details(limit=2)] == ids
        assert [query.get("marker") for query in asked(cloud)] == [None, ["s-1"], ["s-3"]]


async def test_a_cloud_that_cuts_pages_short_is_read_to_the_end() -> None:
    ids = [f"s-{number}" for number in range(7)]
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=cloud_of(ids, cap=3))
        assert [server.id async for server in bms.nova.servers.list_details(limit=5)] == ids


async def test_one_page_is_fetched_ahead_and_no_more() -> None:
    ids = [f"s-{number}" for number in range(9)]
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=cloud_of(ids))
        reader = aiter(bms.nova.servers.list_details(limit=2))
        assert (await anext(reader)).id == "s-0"
        for _ in range(20):
            await asyncio.sleep(0)
        assert len(sent(cloud)) == 2
        await reader.aclose()  # type: ignore[attr-defined]


async def test_a_list_whose_marker_vanished_goes_on_after_the_server_before() -> None:
    ids = [f"s-{number}" for number in range(6)]
    whole = cloud_of(ids)

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.params.get("marker") == "s-2":
            body = {"badRequest": {"message": "marker [s-2] not found", "code": 400}}
            return httpx.Response(400, json=body)
        found: httpx.Response = whole(request)
        return found

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)
        assert [server.id async for server in bms.nova.servers.list_details(limit=3)] == ids


async def test_a_list_whose_markers_all_vanished_tells_so_after_a_few() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "marker" in request.url.params:
            body = {"badRequest": {"message": "marker not found", "code": 400}}
            return httpx.Response(400, json=body)
        return httpx.Response(200, json=page(*(f"s-{number}" for number in range(30))))

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)
        read: list[str] = []
        with pytest.raises(BadRequestError, match="marker not found"):
            await _read_into(read, bms)
        assert len(read) == 30
        assert [query["marker"] for query in asked(cloud)[1:]] == [
            ["s-29"], ["s-28"], ["s-26"], ["s-22"], ["s-14"], ["s-0"]
        ]  # fmt: skip


async def test_a_page_that_vanished_as_a_whole_is_passed_over_by_the_marker_of_the_one_before() -> None:
    ids = [f"s-{number:03}" for number in range(90)]
    there = list(ids)

    def answer(request: httpx.Request) -> httpx.Response:
        marker = request.url.params.get("marker")
        if marker is not None and marker not in there:
            body = {"badRequest": {"message": f"marker [{marker}] not found", "code": 400}}
            return httpx.Response(400, json=body)
        found: httpx.Response = cloud_of(there)(request)
        if marker == "s-029" and there == ids:
            there[30:60] = []
        return found

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)
        assert [server.id async for server in bms.nova.servers.list_details(limit=30)] == ids
        assert [query["marker"] for query in asked(cloud)[1:]] == [
            ["s-029"], ["s-059"], ["s-058"], ["s-056"], ["s-052"], ["s-044"], ["s-030"], ["s-029"], ["s-089"]
        ]  # fmt: skip


async def test_a_marker_that_has_moved_to_the_front_does_not_end_the_list() -> None:
    """What is changed while it is read moves to the front of a list that is sorted by ``updated_at``."""
    ids = [f"s-{number}" for number in range(12)]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.params.get("marker") == "s-5" and ids[0] != "s-5":
            ids.remove("s-5")
            ids.insert(0, "s-5")
        found: httpx.Response = cloud_of(ids)(request)
        return found

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)
        listed = bms.nova.servers.list_details(limit=3, sort_key="updated_at")
        assert [server.id async for server in listed] == [f"s-{number}" for number in range(12)]


async def test_a_list_sorted_by_what_changes_gives_no_server_twice_however_long_it_is() -> None:
    """The first server is changed, and so comes again as the last one."""
    ids = [f"s-{number}" for number in range(25_000)]

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.params.get("marker") == "s-23999":
            ids.append(ids.pop(0))
        found: httpx.Response = cloud_of(ids)(request)
        return found

    async with mocked() as (bms, cloud):
        cloud.get(SERVERS).mock(side_effect=answer)
        listed = bms.nova.servers.list(sort_key=["uuid", "updated_at"], sort_dir=["asc", "asc"])
        assert [server.id async for server in listed] == [f"s-{number}" for number in range(25_000)]


@pytest.mark.parametrize("seed", range(5))
@virtually
async def test_the_simulators_servers_come_once_while_markers_vanish(seed: int) -> None:
    draw = random.Random(seed)
    async with simulated(servers=600, job_seconds=(0.1, 0.2), throttle="none") as here:
        listed = [server.id async for server in here.bms.nova.servers.list_details()]
        at_first, deleted = set(listed), set[str]()
        assert at_first == set(here.ids)
        read: list[str] = []
        async for server in here.bms.nova.servers.list_details(limit=20):
            read.append(server.id)
            if len(read) % 13 == 0:
                # Those around the reader: the last ones of his page are the markers of the next.
                place = listed.index(server.id)
                victims = [each for each in listed[place - 5 : place + 50] if each in here.cloud.servers]
                for victim in draw.sample(victims, min(len(victims), draw.choice([1, 5, 40]))):
                    here.cloud.delete(here.cloud.servers[victim])
                    deleted.add(victim)
                await advance(1.0)

        assert len(read) == len(set(read))
        assert (at_first - deleted) - set(read) == set()
        assert deleted


async def test_a_page_whose_servers_have_no_id_asks_for_no_more() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).respond(json={"servers": [{"name": "a"}, {"name": "b"}]})
        with pytest.raises(DecodeError, match="cannot be read as Server"):
            await anext(aiter(bms.nova.servers.list_details(limit=2)))
        assert len(sent(cloud)) == 1


async def test_others_get_their_turn_while_a_long_page_is_read() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).respond(json=page(*(f"s-{number}" for number in range(999))))
        reader = aiter(bms.nova.servers.list_details())
        await anext(reader)
        turns = 0

        async def count_turns() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        counting = asyncio.ensure_future(count_turns())
        assert len([server async for server in reader]) == 998
        counting.cancel()
        assert turns >= 15


async def _read_into(read: list[str], bms: BmsClient) -> None:
    async for server in bms.nova.servers.list_details(limit=30):
        read.append(server.id)  # noqa: PERF401 - what came before the error counts


async def test_another_refusal_of_a_page_is_the_readers() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(
            side_effect=[httpx.Response(200, json=page("a")), httpx.Response(400, json={"badRequest": {"code": 400}})]
        )
        reader = aiter(bms.nova.servers.list_details(limit=1))
        assert (await anext(reader)).id == "a"
        with pytest.raises(BadRequestError):
            await anext(reader)


@pytest.mark.parametrize("links", [{}, {"servers_links": [{"rel": "next", "href": "https://x"}]}])
@virtually
async def test_a_cloud_that_drops_the_marker_is_asked_again_and_then_is_an_error(links: dict[str, Any]) -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).respond(json=page("a", "b", **links))
        read: list[str] = []

        async def read_all() -> None:
            async for server in bms.nova.servers.list_details(limit=2):
                read.append(server.id)  # noqa: PERF401 - what came before the error counts

        with pytest.raises(
            DecodeError,
            match=r"nova\.servers\.list_details: expected more servers after b, as the cloud announces, "
            r"got only servers that were listed before 4 times; 2 were read; list them again later",
        ):
            await read_all()
        assert read == ["a", "b"]
        assert [query.get("marker") for query in asked(cloud)] == [None, ["b"], ["b"], ["b"], ["b"]]


@pytest.mark.parametrize("dropped", [(2,), (4,), (2, 3, 4), (3, 6)])
@virtually
async def test_a_marker_that_is_dropped_for_a_while_costs_some_calls_and_no_server(dropped: tuple[int, ...]) -> None:
    ids = [f"s-{number}" for number in range(9)]

    def answer(request: httpx.Request) -> httpx.Response:
        number = len(cloud.calls) + 1
        found: httpx.Response = cloud_of(ids)(
            httpx.Request("GET", f"{DETAIL}?limit=2") if number in dropped else request
        )
        return found

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)
        assert [server.id async for server in bms.nova.servers.list_details(limit=2)] == ids


@pytest.mark.parametrize("empty", [(1,), (2,), (4,), (2, 5)])
@pytest.mark.parametrize("linked", [True, False])
@virtually
async def test_a_page_that_comes_empty_once_does_not_end_the_list(empty: tuple[int, ...], linked: bool) -> None:
    ids = [f"s-{number}" for number in range(9)]

    def answer(request: httpx.Request) -> httpx.Response:
        document = cloud_of(ids)(request).json()
        if len(cloud.calls) + 1 in empty:
            document = {"servers": [], "servers_links": document["servers_links"]}
        # As the compute service does it: what has no link has no list of links.
        links = {"servers_links": document["servers_links"]} if linked and document["servers_links"] else {}
        return httpx.Response(200, json={"servers": document["servers"], **links})

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)
        assert [server.id async for server in bms.nova.servers.list_details(limit=2)] == ids


@virtually
async def test_a_page_that_links_to_a_next_one_and_stays_empty_is_an_error() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).respond(json=page(servers_links=[{"rel": "next", "href": "https://x"}]))

        with pytest.raises(
            DecodeError, match=r"expected more servers on the first page, .* got none 4 times; 0 were read"
        ):
            await _read(bms)


@pytest.mark.parametrize(("total", "calls"), [(250, 4), (200, 4), (99, 2), (1, 2), (0, 2)])
@virtually
async def test_a_cloud_that_gives_a_hundred_at_once_and_no_links_is_read_to_the_end(total: int, calls: int) -> None:
    ids = [f"s-{number:03}" for number in range(total)]

    def answer(request: httpx.Request) -> httpx.Response:
        found = cloud_of(ids, cap=100)(request).json()
        return httpx.Response(200, json={"servers": found["servers"]})

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)
        assert await _read(bms) == ids
        assert len(sent(cloud)) == calls


async def test_a_short_page_ends_a_list_whose_other_pages_link_to_the_next() -> None:
    ids = [f"s-{number}" for number in range(5)]

    def answer(request: httpx.Request) -> httpx.Response:
        found = cloud_of(ids)(request).json()
        return httpx.Response(200, json={name: value for name, value in found.items() if value})

    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).mock(side_effect=answer)
        assert [server.id async for server in bms.nova.servers.list_details(limit=2)] == ids
        assert len(sent(cloud)) == 3


async def test_a_cloud_that_has_no_pages_at_all_is_read_once_and_asked_once_more() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).respond(json=page("a", "b", "c"))
        assert await _read(bms) == ["a", "b", "c"]
        assert [query.get("marker") for query in asked(cloud)] == [None, ["c"]]


async def test_an_answer_without_servers_is_no_page() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).respond(json={})
        with pytest.raises(DecodeError, match="servers"):
            await _read(bms)


async def test_an_image_goes_alone_and_has_one_page() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).respond(json=page(*(f"s-{number}" for number in range(1000))))
        assert len([server async for server in bms.nova.servers.list_details(image="i-1")]) == 1000
        assert asked(cloud) == [{"image": ["i-1"]}]
        for more in ({"flavor": "f"}, {"limit": 10}, {"status": "ACTIVE"}, {"tags": "a"}):
            with pytest.raises(InvalidRequestError, match="expected no filter, order or page size beside an image"):
                bms.nova.servers.list_details(image="i-1", **more)
        with pytest.raises(InvalidRequestError, match="use list_details"):
            bms.nova.servers.list(image="i-1")


async def test_an_image_in_the_brief_list_finds_everything() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(SERVERS).respond(json={"servers": [{"id": "a"}]})
        assert [each.id async for each in bms.nova.servers.list(image="i-1", bare_metal_only=False)] == ["a"]
        assert asked(cloud) == [{"image": ["i-1"]}]


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("changes_since", datetime(2013, 6, 9)),  # noqa: DTZ001 - that is what is refused
        ("changes_since", "2013-06-09T06:42:18Z"),
        ("flavor", " "),
        ("name", ""),
        ("status", "STOPPED"),
        ("tags", ""),
        ("tags", []),
        ("tags", ["a,b"]),
        ("tags", 5),
        ("not_tags", ".a"),
        ("sort_key", "name"),
        ("sort_dir", "up"),
        ("sort_dir", ["asc", "desc"]),
        ("limit", 0),
        ("limit", 1001),
        ("limit", True),
        ("microversion", "2"),
        ("microversion", "2.26\r\nX-Evil: 1"),
        ("image", ""),
    ],
)
async def test_an_invalid_filter_is_refused_before_anything_is_sent(argument: str, value: Any) -> None:
    async with mocked() as (bms, cloud):
        with pytest.raises(InvalidRequestError) as caught:
            bms.nova.servers.list_details(**{argument: value})
        assert caught.value.argument == argument
        assert sent(cloud) == []


async def test_without_checks_everything_is_sent_as_it_is() -> None:
    async with mocked(check=False) as (bms, cloud):
        cloud.get(SERVERS).respond(json=NOTHING)
        listed = bms.nova.servers.list(status="STOPPED", sort_dir="asc", microversion="2.1")
        assert [each async for each in listed] == []
        assert asked(cloud) == [
            {"status": ["STOPPED"], "limit": ["1000"], "tags": ["__type_baremetal"], "sort_dir": ["asc"]}
        ]


async def test_closing_the_client_ends_a_list() -> None:
    async with mocked() as (bms, cloud):
        never = asyncio.Event()

        async def hang(request: httpx.Request) -> httpx.Response:
            await never.wait()
            return httpx.Response(200, json=page())

        cloud.get(DETAIL).mock(side_effect=hang)
        reading = asyncio.ensure_future(_read(bms))
        for _ in range(20):
            await asyncio.sleep(0)
        await bms.aclose()
        with pytest.raises(ClientClosedError):
            await reading


async def _read(bms: BmsClient) -> list[str]:
    return [server.id async for server in bms.nova.servers.list_details()]


def test_a_moment_is_written_in_utc() -> None:
    from bms_async.validation.native import format_datetime

    assert format_datetime(datetime(2019, 5, 22, 3, 30, 52, tzinfo=UTC)) == "2019-05-22T03:30:52Z"
