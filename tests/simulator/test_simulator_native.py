"""The native calls for servers: lists, pages, orders, actions."""

import random
from collections.abc import Callable
from typing import Any

import pytest

from bms_async.simulator.core.servers import Filters
from tests.simulator._helpers import TAGS, World, Worlds, native_code_of


async def listed(world: World, path: str = "/servers/detail", **query: Any) -> list[dict[str, Any]]:
    answer = await world.nova.get(path, params=query, headers=TAGS)
    assert answer.status_code == 200, answer.text
    found = answer.json()["servers"]
    assert isinstance(found, list)
    return found


async def act(world: World, server_id: str, body: Any) -> Any:
    return await world.nova.post(f"/servers/{server_id}/action", json=body)


async def test_a_list_mixes_virtual_machines_in(world: Worlds) -> None:
    here = world(servers=12, virtual_machines=4)
    found = await listed(here)
    assert [each["name"] for each in found][:5] == [
        "bms-000011",
        "ecs-000003",
        "bms-000010",
        "bms-000009",
        "bms-000008",
    ]
    virtual = [each for each in found if each["name"].startswith("ecs-")]
    assert len(virtual) == 4
    assert all(each["tags"] == [] and not each["flavor"]["id"].startswith("physical.") for each in virtual)
    assert all("__type_baremetal" in each["tags"] for each in found if each not in virtual)
    assert len({each["id"] for each in found}) == len({str(each["addresses"]) for each in found}) == 16
    assert len(here.ids) == (await here.bms.get("/baremetalservers/limits")).json()["absolute"]["totalInstancesUsed"]
    one = (await here.nova.get(f"/servers/{virtual[0]['id']}")).json()["server"]
    assert (one["status"], one["metadata"]["os_type"]) == ("ACTIVE", "Linux")


@pytest.mark.parametrize("path", ["/servers", "/servers/detail"])
@pytest.mark.parametrize("query", [{}, {"sort_key": "uuid", "sort_dir": "asc"}, {"tags": "__type_baremetal"}])
@pytest.mark.parametrize("limit", [1, 5, 16, 1000])
async def test_pages_follow_their_markers(world: Worlds, path: str, query: dict[str, str], limit: int) -> None:
    here = world(servers=13, virtual_machines=3)
    whole = [each["id"] for each in await listed(here, path, **query)]
    assert len(whole) == (13 if "tags" in query else 16)
    paged: list[str] = []
    following = here.nova.build_request("GET", path, params={**query, "limit": limit}, headers=TAGS).url
    for _ in range(17):
        body = (await here.nova.get(following, headers=TAGS)).json()
        assert len(body["servers"]) <= limit
        paged += [each["id"] for each in body["servers"]]
        if "servers_links" not in body:
            break
        following = body["servers_links"][0]["href"]
        assert f"marker={paged[-1]}" in str(following)
    assert paged == whole


async def test_a_page_holds_a_thousand_at_most(world: Worlds) -> None:
    here = world(servers=1001)
    for query in ({}, {"limit": 5000}, {"limit": 0}):
        assert len(await listed(here, "/servers", **query)) == 1000


KEYS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "uuid": lambda each: each["id"],
    "display_name": lambda each: each["name"],
    "vm_state": lambda each: each["OS-EXT-STS:vm_state"],
    "task_state": lambda each: each["OS-EXT-STS:task_state"] or "",
    "power_state": lambda each: each["OS-EXT-STS:power_state"],
    "created_at": lambda each: each["created"],
    "updated_at": lambda each: each["updated"],
    "availability_zone": lambda each: each["OS-EXT-AZ:availability_zone"],
}


@pytest.mark.parametrize("direction", ["asc", "desc"])
@pytest.mark.parametrize("key", KEYS)
async def test_every_key_sorts(world: Worlds, key: str, direction: str) -> None:
    here = world(servers=90, stopped_share=0.3, virtual_machines=7)
    for server_id in here.ids[::9]:
        await here.nova.delete(f"/servers/{server_id}")
        here.hand.now += 2
    found = await listed(here, sort_key=key, sort_dir=direction)
    keys = [KEYS[key](each) for each in found]
    assert len(keys) == 97
    assert len(set(keys)) > 1 or key == "created_at"
    assert keys == sorted(keys, reverse=direction == "desc")


async def test_several_keys_sort_one_after_the_other(world: Worlds) -> None:
    here = world(servers=90, stopped_share=0.3)
    order: dict[str, Any] = {"sort_key": ["vm_state", "display_name"], "sort_dir": ["desc", "asc"]}
    found = [(each["OS-EXT-STS:vm_state"], each["name"]) for each in await listed(here, **order)]
    assert found == sorted(sorted(found), key=lambda pair: pair[0], reverse=True)
    assert len({state for state, _ in found}) == 2


async def test_a_list_is_narrowed_by_each_filter(world: Worlds) -> None:
    here = world(servers=90, stopped_share=0.2, virtual_machines=5)
    everybody = await listed(here)

    async def same(query: dict[str, str], fits: Any) -> None:
        assert await listed(here, **query) == [each for each in everybody if fits(each)]

    await same({"status": "shutoff"}, lambda each: each["status"] == "SHUTOFF")
    await same({"status": "NO_SUCH"}, lambda _: False)
    await same({"flavor": "s3.large.2"}, lambda each: each["flavor"]["id"] == "s3.large.2")
    await same({"name": "00000[3-5]$"}, lambda each: each["name"][-1] in "345" and each["name"][-6:-1] == "00000")
    await same({"tags": "rack-1,__type_baremetal"}, lambda each: "rack-1" in each["tags"])
    await same({"not-tags": "rack-1"}, lambda each: "rack-1" not in each["tags"])
    await same({"reservation_id": "r-rack2"}, lambda each: each["OS-EXT-SRV-ATTR:reservation_id"] == "r-rack2")
    await same({"changes-since": "2023-12-31T00:00:00Z"}, lambda _: False)
    await same({"changes-since": "2020-01-01T00:00:00"}, lambda _: True)
    # By image alone or not at all.
    await same({"image": everybody[0]["image"]["id"], "status": "SHUTOFF", "limit": "1"}, lambda _: True)
    await same({"image": "no-such-image"}, lambda _: False)
    # Filters by tag came with tags: before, nobody reads them.
    plain = (await here.nova.get("/servers", params={"tags": "nothing", "reservation_id": "none"})).json()
    assert len(plain["servers"]) == len(everybody)


async def test_what_changed_is_found_by_when_it_changed(world: Worlds) -> None:
    here = world()
    await here.nova.put(f"/servers/{here.ids[5]}", json={"server": {"name": "changed"}})
    here.hand.now += 3600
    assert [each["name"] for each in await listed(here, **{"changes-since": "2024-01-01T00:00:00Z"})] == ["changed"]
    assert await listed(here, **{"changes-since": "2024-01-01T00:30:00Z"}) == []


@pytest.mark.parametrize(
    "query",
    [
        {"limit": "x"},
        {"limit": "-1"},
        {"marker": "no-such-server"},
        {"sort_key": "colour"},
        {"sort_key": "uuid", "sort_dir": "up"},
        {"name": "("},
        {"changes-since": "yesterday"},
    ],
)
async def test_a_list_that_cannot_be_is_refused(world: Worlds, query: dict[str, str]) -> None:
    here = world()
    assert native_code_of(await here.nova.get("/servers/detail", params=query)) == (400, "badRequest")


async def test_a_hundred_thousand_servers_are_paged_without_being_gone_through(world: Worlds) -> None:
    here = world(servers=100_000)
    looked = 0
    attributes_of = here.cloud.attributes_of

    def counted(server: Any) -> Any:
        nonlocal looked
        looked += 1
        return attributes_of(server)

    here.cloud.attributes_of = counted  # type: ignore[method-assign]
    [first] = await listed(here, "/servers", tags="__type_baremetal", limit=1)
    assert first["name"] == "bms-099999"
    [after] = await listed(here, "/servers", marker=here.ids[50_000], limit=1)
    assert after["name"] == "bms-049999"
    assert looked < 20


async def test_a_field_shows_from_its_microversion_on(world: Worlds) -> None:
    here = world()
    path = f"/servers/{here.ids[0]}"

    async def shown(version: str | None) -> set[str]:
        headers = {} if version is None else {"OpenStack-API-Version": f"compute {version}"}
        return set((await here.nova.get(path, headers=headers)).json()["server"])

    plain = await shown(None)
    assert plain == await shown("2.1")
    assert await shown("2.3") - plain == {
        "OS-EXT-SRV-ATTR:" + name
        for name in (
            "hostname", "reservation_id", "launch_index", "kernel_id", "ramdisk_id", "root_device_name", "user_data",
        )
    }  # fmt: skip
    assert await shown("2.9") - await shown("2.8") == {"locked"}
    assert await shown("2.16") - await shown("2.15") == {"host_status"}
    assert await shown("2.19") - await shown("2.18") == {"description"}
    assert await shown("2.26") - await shown("2.25") == {"tags"}
    assert await shown("latest") == await shown("2.26")
    listed_too = {name for each in await listed(here) for name in each}
    assert listed_too - await shown("2.26") == {"sys_tags", "enterprise_project_id", "os:scheduler_hints"}


@pytest.mark.parametrize(("version", "code"), [("2.27", 406), ("3.0", 406), ("two", 400), ("2", 400)])
async def test_a_microversion_that_is_not_there_is_refused(world: Worlds, version: str, code: int) -> None:
    here = world()
    headers = {"X-OpenStack-Nova-API-Version": version}
    for path in ("/servers", f"/servers/{here.ids[0]}", "/os-keypairs", "/flavors/detail"):
        assert native_code_of(await here.nova.get(path, headers=headers))[0] == code


async def test_an_action_shows_on_the_server_and_on_no_job(world: Worlds) -> None:
    here = world(job_seconds=(50.0, 100.0))
    server_id = here.ids[0]
    for body, task, status in (
        ({"os-stop": {}}, "powering-off", "SHUTOFF"),
        ({"os-start": None}, "powering-on", "ACTIVE"),
        ({"reboot": {"type": "HARD"}}, "reboot_started_hard", "ACTIVE"),
        ({"reboot": {"type": "SOFT"}}, "reboot_started_hard", "ACTIVE"),
        ({"os-stop": {"type": "SOFT"}}, "powering-off", "SHUTOFF"),
    ):
        accepted = await act(here, server_id, body)
        assert (accepted.status_code, accepted.content) == (202, b"")
        assert native_code_of(await act(here, server_id, body)) == (409, "conflictingRequest")
        here.hand.now += 25
        assert (await here.server(server_id))["OS-EXT-STS:task_state"] == task
        here.hand.now += 100
        server = await here.server(server_id)
        assert (server["OS-EXT-STS:task_state"], server["status"]) == (None, status)
    one = here.cloud.servers[server_id]
    assert (one.stops, one.starts, one.reboots) == (2, 1, 2)
    assert native_code_of(await act(here, server_id, {"os-stop": {}})) == (409, "conflictingRequest")


async def test_an_action_that_fails_leaves_a_fault_until_the_next_one(world: Worlds) -> None:
    here = world(fail_share=1.0)
    server_id = here.ids[0]
    await act(here, server_id, {"os-stop": {}})
    here.hand.now += 1000
    server = (await here.nova.get(f"/servers/{server_id}")).json()["server"]
    assert (server["status"], server["OS-EXT-STS:task_state"], server["fault"]["code"]) == ("ACTIVE", None, 500)
    await act(here, server_id, {"os-stop": {}})
    assert "fault" not in (await here.server(server_id))


async def test_a_faulty_server_can_be_switched_off_but_not_on(world: Worlds) -> None:
    here = world(fail_share=1.0)
    wish = {
        "imageRef": "i", "flavorRef": "physical.o2.medium", "name": "n", "availability_zone": "az-sim-1",
        "networks": [{"uuid": "u"}],
    }  # fmt: skip
    made = (await here.nova.post("/servers", json={"server": wish})).json()["server"]["id"]
    assert native_code_of(await act(here, made, {"reboot": {"type": "HARD"}})) == (409, "conflictingRequest")
    here.hand.now += 1000
    here.cloud.servers[made].faulty = False
    assert (await here.server(made))["status"] == "ERROR"
    assert native_code_of(await act(here, made, {"os-start": {}})) == (409, "conflictingRequest")
    assert (await act(here, made, {"os-stop": {}})).status_code == 202
    here.hand.now += 1000
    assert (await here.server(made))["status"] == "SHUTOFF"


@pytest.mark.parametrize(
    "body",
    [None, {}, {"os-fly": {}}, {"os-stop": {}, "os-start": {}}, {"os-stop": []}, {"reboot": {}}, {"reboot": None}],
)
async def test_a_bad_action_is_refused(world: Worlds, body: Any) -> None:
    here = world()
    assert native_code_of(await act(here, here.ids[0], body)) == (400, "badRequest")


async def test_a_new_name_shows_and_the_host_keeps_its_own(world: Worlds) -> None:
    here = world()
    server_id = here.ids[0]
    renamed = (await here.nova.put(f"/servers/{server_id}", json={"server": {"name": "ein neuer Name"}})).json()[
        "server"
    ]
    assert renamed["name"] == "ein neuer Name"
    assert {"OS-EXT-STS:vm_state", "tags", "key_name"}.isdisjoint(renamed)
    [[address]] = renamed["addresses"].values()
    assert set(address) == {"version", "addr"}
    server = await here.server(server_id)
    assert (server["name"], server["OS-EXT-SRV-ATTR:hostname"]) == ("ein neuer Name", "bms-000000")
    assert server["updated"] > server["created"]
    by_name = await here.bms.get("/baremetalservers/detail", params={"name": "ein neuer Name"})
    assert by_name.json()["count"] == 1
    assert (await here.bms.get("/baremetalservers/detail", params={"name": "bms-000000"})).json()["count"] == 0
    for name in ("", " x", None, "n" * 256):
        refused = await here.nova.put(f"/servers/{server_id}", json={"server": {"name": name}})
        assert native_code_of(refused) == (400, "badRequest")


async def test_addresses_and_cards_agree_with_the_server(world: Worlds) -> None:
    here = world(virtual_machines=1)
    for each in await listed(here):
        path = f"/servers/{each['id']}"
        addresses = (await here.nova.get(f"{path}/ips")).json()["addresses"]
        [(vpc, [address])] = each["addresses"].items()
        assert addresses == {vpc: [{"version": 4, "addr": address["addr"]}]}
        assert (await here.nova.get(f"{path}/ips/{vpc}")).json() == addresses
        [card] = (await here.nova.get(f"{path}/os-interface")).json()["interfaceAttachments"]
        assert (card["mac_addr"], card["port_state"]) == (address["OS-EXT-IPS-MAC:mac_addr"], "ACTIVE")
        assert card["fixed_ips"][0]["ip_address"] == address["addr"]
        one = await here.nova.get(f"{path}/os-interface/{card['port_id']}")
        assert one.json() == {"interfaceAttachment": card}
        for missing in (f"{path}/ips/no-such-vpc", f"{path}/os-interface/no-such-port"):
            assert native_code_of(await here.nova.get(missing)) == (404, "itemNotFound")


async def test_the_endpoint_is_found_and_keeps_no_connection(world: Worlds) -> None:
    here = world()
    here.nova.headers.pop("X-Auth-Token")
    for address in ("http://bms.test/v2.1", "http://bms.test/v2.1/"):
        answer = await here.nova.get(address)
        version = answer.json()["version"]
        assert (version["id"], version["min_version"], version["version"]) == ("v2.1", "2.1", "2.26")
        assert answer.headers["Connection"] == "close"
    assert (await here.nova.get("/servers")).status_code == 401
    assert "Connection" not in (await here.bms.get("/baremetalservers/detail")).headers


async def test_another_project_is_refused(world: Worlds) -> None:
    here = world()
    assert native_code_of(await here.nova.get("http://bms.test/v2.1/another/servers")) == (400, "badRequest")


async def test_changed_servers_are_filtered_like_unchanged_ones(world: Worlds) -> None:
    here = world(servers=120, stopped_share=0.2)
    draw = random.Random(11)
    for server_id in draw.sample(here.ids, 40):
        path = f"/servers/{server_id}"
        await here.nova.put(f"{path}/tags", json={"tags": [draw.choice(["a", "rack-0", "rack-1"])]}, headers=TAGS)
        if draw.random() < 0.5:
            await here.nova.put(path, json={"server": {"name": f"bms-{draw.randrange(130):06d}"}})
        if draw.random() < 0.2:
            await here.nova.delete(path)
    here.hand.now += 1000
    everybody = [await here.server(each) for each in here.ids]

    async def check(**query: str) -> None:
        def fits(each: dict[str, Any]) -> bool:
            shown = {"status": each["status"], "name": each["name"], "flavor": each["flavor"]["id"]}
            wanted = {name: value for name, value in query.items() if name != "tags"}
            return wanted.items() <= shown.items() and query.get("tags", "") in ("", *each["tags"])

        count, found = await here.cloud.find(Filters(**query), 0, 1000)
        assert (count, [each.id for each in found]) == (len(found), [each["id"] for each in everybody if fits(each)])

    await check()
    await check(status="ACTIVE")
    for tag in ("a", "rack-0", "rack-1", "rack-2", "none"):
        await check(tags=tag)
        await check(tags=tag, status="SHUTOFF")
        await check(tags=tag, flavor="physical.s1.medium")
    for place in range(130):
        await check(name=f"bms-{place:06d}")


async def test_what_is_asked_for_shows_at_once_so_that_nobody_takes_it_for_done(world: Worlds) -> None:
    here = world(servers=1, job_seconds=(50.0, 100.0))
    path = f"/servers/{here.ids[0]}"
    for body, task in (({"reboot": {"type": "HARD"}}, "reboot_started_hard"), ({"os-stop": {}}, "powering-off")):
        assert (await act(here, here.ids[0], body)).status_code == 202
        assert (await here.nova.get(path)).json()["server"]["OS-EXT-STS:task_state"] == task
        refused = await act(here, here.ids[0], {"os-stop": {}})
        assert f"task_state {task}" in refused.text
        here.hand.now += 200
