"""Lists as clouds give them that leave something out: smaller pages, no count, no links, empty pages, no place."""

from __future__ import annotations

from typing import Any

import pytest

from bms_async.simulator import CloudSettings, DroppedMarker, Script, ScriptedFault, ShortPage
from bms_async.simulator.core.faults import Fault
from tests.simulator._helpers import World, Worlds

LIST = "/baremetalservers/detail"


def at(world: World, nth: int, fault: Fault, *, operation: str = "servers.list") -> None:
    world.cloud.faults.append(Script([ScriptedFault(operation=operation, nth=nth, fault=fault)]))


async def read(world: World, **query: Any) -> dict[str, Any]:
    answer = await world.bms.get(LIST, params=query)
    assert answer.status_code == 200
    document: dict[str, Any] = answer.json()
    return document


def ids(document: dict[str, Any]) -> list[str]:
    return [server["id"] for server in document["servers"]]


async def test_pages_are_no_larger_than_the_cap_whatever_is_asked_for(world: Worlds) -> None:
    capped = world(servers=25, page_cap=10)

    pages = [await read(capped, limit=1000, offset=number) for number in (1, 2, 3, 4)]

    assert [ids(page) for page in pages] == [capped.ids[:10], capped.ids[10:20], capped.ids[20:], []]
    assert [page["count"] for page in pages] == [25] * 4
    assert len(ids(await read(capped, limit=4))) == 4
    native = (await capped.nova.get("/servers/detail", params={"limit": 1000})).json()
    assert len(native["servers"]) == 10
    assert native["servers_links"][0]["rel"] == "next"


@pytest.mark.parametrize(("counts", "counted"), [("all", [25, 25]), ("page", [10, 5]), ("none", [None, None])])
async def test_a_count_is_that_of_the_list_or_of_the_page_or_missing(
    world: Worlds, counts: str, counted: list[int | None]
) -> None:
    opened = world(servers=25, list_count=counts)

    assert [(await read(opened, limit=10, offset=number)).get("count") for number in (1, 3)] == counted


async def test_native_pages_need_not_link_to_the_next(world: Worlds) -> None:
    opened = world(servers=5, list_links=False)

    assert "servers_links" not in (await opened.nova.get("/servers", params={"limit": 2})).json()


@pytest.mark.parametrize(("share", "shown"), [(0.0, 0), (0.5, 6), (0.99, 11)])
async def test_a_short_page_shows_the_first_of_its_servers_once(world: Worlds, share: float, shown: int) -> None:
    opened = world(servers=12)
    at(opened, 1, ShortPage(share=share))

    first, second = await read(opened), await read(opened)

    assert ids(first) == opened.ids[:shown]
    assert first["count"] == 12
    assert ids(second) == opened.ids


async def test_a_short_page_may_leave_out_its_count_and_its_links(world: Worlds) -> None:
    opened = world(servers=12)
    at(opened, 1, ShortPage(counted=False))
    at(opened, 1, ShortPage(linked=False), operation="nova.servers.list")

    assert await read(opened) == {"servers": []}
    assert (await opened.nova.get("/servers", params={"limit": 2})).json() == {"servers": []}
    assert (await opened.nova.get("/servers", params={"limit": 2})).json()["servers_links"]


async def test_what_is_no_list_stays_as_it_is(world: Worlds) -> None:
    opened = world(servers=1)
    at(opened, 1, ShortPage(), operation="servers.get")

    assert (await opened.bms.get(f"/baremetalservers/{opened.ids[0]}")).json()["server"]["id"] == opened.ids[0]


async def test_where_the_marker_is_dropped_the_first_page_comes_again(world: Worlds) -> None:
    opened = world(servers=6)
    at(opened, 2, DroppedMarker())
    at(opened, 2, DroppedMarker(), operation="nova.servers.list")

    assert [ids(await read(opened, limit=3, offset=number)) for number in (1, 2, 2)] == [
        opened.ids[:3], opened.ids[:3], opened.ids[3:]
    ]  # fmt: skip
    first = (await opened.nova.get("/servers", params={"limit": 3})).json()
    marker: dict[str, str | int] = {"limit": 3, "marker": ids(first)[-1]}
    assert ids((await opened.nova.get("/servers", params=marker)).json()) == ids(first)
    assert not set(ids((await opened.nova.get("/servers", params=marker)).json())) & set(ids(first))


@pytest.mark.parametrize("settings", [{"page_cap": 0}, {"list_count": "some"}])
def test_a_cloud_that_cannot_be_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        CloudSettings(**settings)
