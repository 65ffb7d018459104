"""What changed since a moment, deleted servers included; and native actions that do not go well."""

from __future__ import annotations

from typing import Any

import pytest

from tests.simulator._helpers import TAGS, World, Worlds, native_code_of

SINCE_THE_START = {"changes-since": "2024-01-01T00:00:00Z"}


async def listed(world: World, **query: Any) -> list[dict[str, Any]]:
    answer = await world.nova.get("/servers/detail", params=query, headers=TAGS)
    assert answer.status_code == 200, answer.text
    found = answer.json()["servers"]
    assert isinstance(found, list)
    return found


async def names(world: World, **query: Any) -> list[str]:
    return [each["name"] for each in await listed(world, **query)]


async def act(world: World, server_id: str, body: Any) -> int:
    return (await world.nova.post(f"/servers/{server_id}/action", json=body)).status_code


async def delete(world: World, server_id: str) -> None:
    assert (await world.nova.delete(f"/servers/{server_id}")).status_code == 204
    world.hand.now += 100


async def test_a_deleted_server_is_among_the_changes_and_nowhere_else(world: Worlds) -> None:
    here = world()
    gone = here.ids[3]
    await delete(here, gone)
    assert "bms-000003" not in await names(here)
    [shown] = await listed(here, **SINCE_THE_START)
    assert (shown["id"], shown["status"], shown["OS-EXT-STS:vm_state"]) == (gone, "DELETED", "deleted")
    assert (shown["OS-EXT-STS:task_state"], shown["tags"], shown["addresses"]) == (None, [], {})
    assert shown["OS-SRV-USG:terminated_at"][:19] == shown["updated"][:19]
    assert await names(here, **SINCE_THE_START, tags="__type_baremetal") == []
    assert native_code_of(await here.nova.get(f"/servers/{gone}")) == (404, "itemNotFound")


async def test_a_deleted_server_that_was_made_here_is_shown_by_its_own_name(world: Worlds) -> None:
    here = world()
    wish = {
        "imageRef": "i", "flavorRef": "physical.o2.medium", "name": "of-mine", "availability_zone": "az-sim-1",
        "networks": [{"uuid": "u"}],
    }  # fmt: skip
    made = (await here.nova.post("/servers", json={"server": wish})).json()["server"]["id"]
    here.hand.now += 100
    await delete(here, made)
    assert [(each["id"], each["name"]) for each in await listed(here, **SINCE_THE_START)] == [(made, "of-mine")]


async def test_a_deleted_server_is_a_marker_like_any_other(world: Worlds) -> None:
    here = world()
    for server_id in here.ids[2:7]:
        await delete(here, server_id)
    whole = await names(here, **SINCE_THE_START)
    assert whole == [f"bms-00000{number}" for number in (6, 5, 4, 3, 2)]
    paged: list[str] = []
    query: dict[str, Any] = {**SINCE_THE_START, "limit": 2}
    while page := await listed(here, **query):
        paged += [each["name"] for each in page]
        query["marker"] = page[-1]["id"]
    assert paged == whole


@pytest.mark.parametrize("administrator", [True, False])
async def test_only_an_administrator_chooses_among_deleted_and_others(world: Worlds, administrator: bool) -> None:
    here = world(servers=3, administrator=administrator)
    await delete(here, here.ids[0])
    await here.nova.put(f"/servers/{here.ids[0]}", json={"server": {"name": "changed"}})
    gone, both, rest = ["bms-000000"], ["changed", "bms-000000"], ["bms-000002", "changed"]
    assert await names(here, **SINCE_THE_START) == both
    assert await names(here, deleted="true") == (gone if administrator else rest)
    assert await names(here, **SINCE_THE_START, deleted="true") == (gone if administrator else both)
    assert await names(here, **SINCE_THE_START, deleted="false") == (["changed"] if administrator else both)
    by_status = await here.nova.get("/servers/detail", params={"status": "deleted"})
    assert by_status.status_code == (200 if administrator else 403)


async def test_changes_are_compared_by_the_second(world: Worlds) -> None:
    here = world()
    here.hand.now += 10.9
    await here.nova.put(f"/servers/{here.ids[0]}", json={"server": {"name": "changed"}})
    assert await names(here, **{"changes-since": "2024-01-01T00:00:10Z"}) == ["changed"]
    assert await names(here, **{"changes-since": "2024-01-01T00:00:11Z"}) == []


async def test_a_locked_server_refuses_every_action(world: Worlds) -> None:
    here = world()
    here.cloud.servers[here.ids[0]].locked = True
    answer = await here.nova.post(f"/servers/{here.ids[0]}/action", json={"os-stop": {}})
    assert native_code_of(answer) == (409, "conflictingRequest")
    assert answer.json()["conflictingRequest"]["message"] == f"Instance {here.ids[0]} is locked"


async def test_an_action_may_break_its_server(world: Worlds) -> None:
    here = world(native_error_share=1.0, job_seconds=(10.0, 10.0))
    assert await act(here, here.ids[0], {"reboot": {"type": "HARD"}}) == 202
    here.hand.now += 5
    assert [each["status"] for each in await listed(here, **SINCE_THE_START)] == ["HARD_REBOOT"]
    here.hand.now += 10
    [broken] = await listed(here, **SINCE_THE_START)
    assert (broken["status"], broken["OS-EXT-STS:task_state"]) == ("ERROR", None)
    assert broken["fault"]["message"] == "The reboot operation failed."
    assert here.cloud.servers[here.ids[0]].reboots == 0


async def test_an_action_may_change_nothing_at_all(world: Worlds) -> None:
    here = world(native_ignored_share=1.0)
    assert await act(here, here.ids[0], {"os-stop": {}}) == 202
    here.hand.now += 1000
    assert await listed(here, **SINCE_THE_START) == []
    assert here.cloud.servers[here.ids[0]].status == "ACTIVE"


async def test_an_action_may_take_ten_times_as_long(world: Worlds) -> None:
    here = world(native_slow_share=1.0, job_seconds=(10.0, 10.0))
    assert await act(here, here.ids[0], {"os-stop": {}}) == 202
    here.hand.now += 99
    assert here.cloud.servers[here.ids[0]].task_state == "powering-off"
    here.hand.now += 2
    assert here.cloud.servers[here.ids[0]].status == "SHUTOFF"


async def test_a_server_may_be_deleted_in_the_middle_of_an_action(world: Worlds) -> None:
    here = world(native_vanish_share=1.0, job_seconds=(10.0, 10.0))
    first = here.ids[0]
    assert await act(here, first, {"os-stop": {}}) == 202
    here.hand.now += 4
    assert here.cloud.servers[first].task_state == "powering-off"
    here.hand.now += 2
    assert [each["status"] for each in await listed(here, **SINCE_THE_START)] == ["DELETED"]
    here.hand.now += 100
    assert first not in here.cloud.servers
