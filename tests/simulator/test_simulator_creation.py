"""New servers: how they come to be, by both APIs, and how they go."""

from typing import Any

import pytest

from tests.simulator._helpers import TAGS, World, Worlds, code_of, native_code_of

WISH: dict[str, Any] = {
    "imageRef": "1a6635d8-afea-4f2b-abb6-27a202bad319",
    "flavorRef": "physical.o2.medium",
    "name": "made",
    "availability_zone": "az-sim-2",
    "vpcid": "0dae26c9-9a70-4392-93f3-87d53115d171",
    "nics": [{"subnet_id": "157ee789-03ea-45b1-a698-76c92660dd83"}],
    "key_name": "KeyPair-simulated",
}
NATIVE_WISH: dict[str, Any] = {
    "imageRef": "http://glance.test/images/1a6635d8-afea-4f2b-abb6-27a202bad319",
    "flavorRef": "physical.o2.medium",
    "name": "made",
    "availability_zone": "az-sim-2",
    "networks": [{"uuid": "8470310b-bfa2-4edf-8f64-d15196b2b2c9"}],
}


async def create(world: World, **more: Any) -> Any:
    wish = {name: value for name, value in {**WISH, **more}.items() if value is not None}
    return await world.bms.post("/baremetalservers", json={"server": wish})


async def create_natively(world: World, **more: Any) -> Any:
    wish = {name: value for name, value in {**NATIVE_WISH, **more}.items() if value is not None}
    return await world.nova.post("/servers", json={"server": wish})


async def test_a_batch_is_built_while_the_clock_runs(world: Worlds) -> None:
    here = world(job_seconds=(50.0, 100.0))
    before = here.ids
    accepted = await create(here, count=3, server_tags=[{"key": "team", "value": "red"}, {"key": "bare"}])
    assert set(accepted.json()) == {"order_id", "job_id"}
    path = f"/jobs/{accepted.json()['job_id']}"
    job = (await here.bms.get(path)).json()
    assert (job["status"], job["job_type"], job["entities"]) == ("INIT", "baremetalBatchCreate", {"sub_jobs_total": 3})
    made = [each for each in here.ids if each not in before]
    assert [(await here.server(each))["status"] for each in made] == ["BUILD"] * 3
    here.hand.now += 25
    job = (await here.bms.get(path)).json()
    assert {each["entities"]["server_id"] for each in job["entities"]["sub_jobs"]} == set(made)
    assert {each["job_type"] for each in job["entities"]["sub_jobs"]} == {"baremetalSingleCreate"}
    document = await here.server(made[0])
    assert (document["OS-EXT-STS:task_state"], document["OS-EXT-STS:vm_state"]) == ("scheduling", "building")
    assert (document["OS-EXT-STS:power_state"], document["OS-SRV-USG:launched_at"]) == (0, None)
    here.hand.now += 100
    assert (await here.bms.get(path)).json()["status"] == "SUCCESS"
    shown = [await here.server(each) for each in made]
    assert [each["name"] for each in shown] == ["made-0001", "made-0002", "made-0003"]
    assert {each["status"] for each in shown} == {"ACTIVE"}
    assert {each["OS-EXT-SRV-ATTR:reservation_id"] for each in shown} == {shown[0]["OS-EXT-SRV-ATTR:reservation_id"]}
    assert [each["OS-EXT-SRV-ATTR:launch_index"] for each in shown] == [0, 1, 2]
    assert shown[0]["tags"] == ["__type_baremetal", "team=red", "bare"]
    assert shown[0]["metadata"]["vpc_id"] == WISH["vpcid"]
    assert shown[0]["created"] < shown[0]["updated"]
    assert "fault" not in shown[0]


@pytest.mark.parametrize("native", [False, True])
async def test_one_that_cannot_be_built_says_why(world: Worlds, native: bool) -> None:
    here = world(fail_share=1.0)
    accepted = await (create_natively(here) if native else create(here))
    if native:
        server_id = accepted.json()["server"]["id"]
        here.hand.now += 1000
    else:
        job = await here.finish(accepted)
        [sub] = job["entities"]["sub_jobs"]
        assert (job["status"], sub["status"], sub["error_code"]) == ("FAIL", "FAIL", "BMS.3004")
        server_id = sub["entities"]["server_id"]
    server = await here.server(server_id)
    assert (server["status"], server["OS-EXT-STS:vm_state"], server["fault"]["code"]) == ("ERROR", "error", 500)
    assert server["fault"]["message"]
    assert here.cloud.count_servers()["ERROR"] == 1


async def test_new_servers_are_found_by_every_filter(world: Worlds) -> None:
    here = world(servers=90)
    await here.finish(await create(here, server_tags=[{"key": "team"}]))
    [made] = here.ids[90:]
    reservation = (await here.server(made))["OS-EXT-SRV-ATTR:reservation_id"]
    for query in ({"name": "made"}, {"tags": "team,__type_baremetal"}, {"reservation_id": reservation}):
        body = (await here.bms.get("/baremetalservers/detail", params=query)).json()
        assert (body["count"], [each["id"] for each in body["servers"]]) == (1, [made])
    body = (await here.bms.get("/baremetalservers/detail", params={"flavor": WISH["flavorRef"], "limit": 99})).json()
    assert [each["id"] for each in body["servers"]] == [here.ids[i] for i in (*range(0, 90, 3), 90)]
    # By its place it would be in this rack.
    assert (await here.bms.get("/baremetalservers/detail", params={"tags": "rack-2"})).json()["count"] == 10
    assert (await here.bms.get("/baremetalservers/detail")).json()["count"] == 91


async def test_what_is_asked_for_is_given(world: Worlds) -> None:
    here = world()
    job = await here.finish(
        await create(
            here,
            nics=[{"subnet_id": "s1", "ip_address": "192.168.7.9"}, {"subnet_id": "s2"}],
            metadata={"role": "db"},
            user_data="c2ltdWxhdGVk",
            security_groups=[{"id": "507ca48f-814c-4293-8706-300564d54620"}],
            data_volumes=[{"volumetype": "SAS", "size": 100}] * 2,
            flavorRef="physical.h2.large",
            root_volume={"volumetype": "SAS", "size": 100},
        )
    )
    server = await here.server(job["entities"]["sub_jobs"][0]["entities"]["server_id"])
    [(vpc, addresses)] = server["addresses"].items()
    assert (vpc, addresses[0]["addr"], len(addresses)) == (WISH["vpcid"], "192.168.7.9", 2)
    assert len({each["OS-EXT-IPS:port_id"] for each in addresses}) == 2
    assert server["metadata"]["role"] == "db"
    assert server["OS-EXT-SRV-ATTR:user_data"] == "c2ltdWxhdGVk"
    assert server["security_groups"][0]["id"] == "507ca48f-814c-4293-8706-300564d54620"
    disks = server["os-extended-volumes:volumes_attached"]
    assert [each["device"] for each in disks] == ["/dev/sda", "/dev/sdb", "/dev/sdc"]
    cards = (await here.bms.get(f"/baremetalservers/{server['id']}/os-interface")).json()["interfaceAttachments"]
    assert [each["fixed_ips"][0]["ip_address"] for each in cards] == [each["addr"] for each in addresses]
    assert [each["fixed_ips"][0]["subnet_id"] for each in cards] == ["s1", "s2"]


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ({"name": "bad name"}, "BMS.0206"),
        ({"flavorRef": "no.such"}, "BMS.0021"),
        ({"flavorRef": "s3.large.2"}, "BMS.0021"),
        ({"flavorRef": "physical.d1.large"}, "BMS.0054"),
        ({"flavorRef": "physical.d1.large", "availability_zone": "az-sim-3"}, "BMS.0054"),
        ({"availability_zone": "nowhere"}, "BMS.0208"),
        ({"imageRef": None}, "BMS.0010"),
        ({"vpcid": None}, "BMS.0246"),
        ({"nics": []}, "BMS.0201"),
        ({"nics": [{}]}, "BMS.3001"),
        ({"nics": [{"subnet_id": "s", "ip_address": "x"}]}, "BMS.0201"),
        ({"nics": [{"subnet_id": "s", "ip_address": "10.0.0.9"}], "count": 2}, "BMS.0207"),
        ({"count": 0}, "BMS.0205"),
        ({"count": 25}, "BMS.0205"),
        ({"key_name": None}, "BMS.0111"),
        ({"adminPass": "Simulated-1"}, "BMS.0111"),
        ({"key_name": None, "adminPass": "short"}, "BMS.3026"),
        ({"key_name": "unknown"}, "BMS.0049"),
        ({"user_data": "?"}, "BMS.0018"),
        ({"user_data": "AAAA" * 11000}, "BMS.0210"),
        ({"metadata": {"bad key": "x"}}, "BMS.0217"),
        ({"server_tags": [{"value": "x"}]}, "BMS.0089"),
        ({"data_volumes": [{"volumetype": "SAS"}, {"volumetype": "SSD"}]}, "BMS.0202"),
        ({"data_volumes": [7]}, "BMS.0203"),
        ({"data_volumes": [{"volumetype": "SAS"}] * 25}, "BMS.0204"),
        ({"root_volume": {}}, "BMS.0047"),
    ],
)
async def test_a_bad_wish_is_refused_and_makes_nothing(world: Worlds, more: dict[str, Any], code: str) -> None:
    here = world()
    assert code_of(await create(here, **more)) == (400, code)
    assert len(here.ids) == 12


@pytest.mark.parametrize(
    ("quotas", "code", "words"),
    [
        ({"quota_instances": 12}, "BMS.0025", "instances"),
        ({"quota_cores": 0}, "BMS.0026", "cores"),
        ({"quota_ram": 0}, "BMS.0027", "ram"),
        ({"quota_instances": 12, "quota_cores": 0}, "BMS.0028", "instances, cores"),
        ({"quota_instances": 12, "quota_ram": 0}, "BMS.0029", "instances, ram"),
        ({"quota_cores": 0, "quota_ram": 0}, "BMS.0030", "cores, ram"),
        ({"quota_instances": 12, "quota_cores": 0, "quota_ram": 0}, "BMS.0031", "instances, cores, ram"),
    ],
)
async def test_a_quota_is_kept(world: Worlds, quotas: dict[str, int], code: str, words: str) -> None:
    here = world(**quotas)
    assert code_of(await create(here)) == (400, code)
    natively = await create_natively(here)
    assert native_code_of(natively) == (403, "forbidden")
    assert f"for {words}:" in natively.json()["forbidden"]["message"]


async def test_quotas_count_what_comes_and_goes(world: Worlds) -> None:
    here = world(servers=2, quota_instances=3)

    async def used() -> tuple[int, int, int]:
        absolute = (await here.bms.get("/baremetalservers/limits")).json()["absolute"]
        return absolute["totalInstancesUsed"], absolute["totalCoresUsed"], absolute["totalRAMUsed"]

    assert await used() == (2, 64, 193047 + 131072)
    await here.finish(await create(here))
    assert await used() == (3, 96, 2 * 193047 + 131072)
    assert code_of(await create(here)) == (400, "BMS.0025")
    assert (await here.nova.delete(f"/servers/{here.ids[0]}")).status_code == 204
    here.hand.now += 1000
    assert len(here.ids) == 2
    assert await used() == (2, 64, 193047 + 131072)
    assert (await create(here)).status_code == 200


async def test_natively_progress_is_the_servers_own(world: Worlds) -> None:
    here = world(job_seconds=(50.0, 100.0))
    answer = await create_natively(here)
    body = answer.json()["server"]
    assert set(body) == {"id", "links", "OS-DCF:diskConfig", "security_groups", "adminPass"}
    path = f"/servers/{body['id']}"
    seen = []
    for _ in range(5):
        server = (await here.nova.get(path, headers=TAGS)).json()["server"]
        seen.append((server["status"], server["OS-EXT-STS:task_state"]))
        here.hand.now += 24
    assert seen[0] == ("BUILD", "scheduling")
    assert ("BUILD", "scheduling") in seen
    assert seen[-1] == ("ACTIVE", None)
    assert server["tags"] == []
    assert server["image"]["id"] == "1a6635d8-afea-4f2b-abb6-27a202bad319"
    assert (await here.bms.get(f"/baremetalservers/{body['id']}")).status_code == 200


async def test_a_password_is_only_told_to_who_has_no_key(world: Worlds) -> None:
    here = world()
    assert "adminPass" not in (await create_natively(here, key_name="KeyPair-simulated")).json()["server"]
    one, other = [(await create_natively(here)).json()["server"]["adminPass"] for _ in range(2)]
    assert one != other


@pytest.mark.parametrize(
    "more",
    [
        {"name": ""},
        {"flavorRef": "no.such"},
        {"imageRef": None},
        {"availability_zone": None},
        {"networks": None},
        {"networks": [{}]},
        {"networks": [{"uuid": "n"}] * 5},
        {"networks": [{"fixed_ip": "10.0.0.9"}]},
        {"key_name": "unknown"},
        {"user_data": "?"},
        {"metadata": {"a": 7}},
        {"max_count": 2},
        {"security_groups": [{}, {}]},
    ],
)
async def test_a_bad_native_wish_is_refused(world: Worlds, more: dict[str, Any]) -> None:
    here = world()
    assert native_code_of(await create_natively(here, **more)) == (400, "badRequest")


async def test_a_virtual_machine_is_no_bare_metal_server(world: Worlds) -> None:
    here = world()
    made = (await create_natively(here, flavorRef="s3.large.2")).json()["server"]["id"]
    here.hand.now += 1000
    assert (await here.nova.get(f"/servers/{made}")).json()["server"]["status"] == "ACTIVE"
    assert code_of(await here.bms.get(f"/baremetalservers/{made}")) == (404, "BMS.0040")
    assert len((await here.nova.get("/servers")).json()["servers"]) == 13


async def test_one_that_is_deleted_is_gone_after_a_while(world: Worlds) -> None:
    here = world(job_seconds=(50.0, 100.0))
    server_id = here.ids[3]
    stop = {"os-stop": {"servers": [{"id": server_id}, {"id": here.ids[4]}]}}
    accepted = await here.bms.post("/baremetalservers/action", json=stop)
    for _ in range(2):
        assert (await here.nova.delete(f"/servers/{server_id}")).status_code == 204
    here.hand.now += 25
    assert (await here.server(server_id))["OS-EXT-STS:task_state"] == "deleting"
    refused = await here.nova.post(f"/servers/{server_id}/action", json={"os-stop": {}})
    assert native_code_of(refused) == (409, "conflictingRequest")
    here.hand.now += 200
    assert code_of(await here.bms.get(f"/baremetalservers/{server_id}")) == (404, "BMS.0040")
    assert native_code_of(await here.nova.get(f"/servers/{server_id}")) == (404, "itemNotFound")
    assert native_code_of(await here.nova.delete(f"/servers/{server_id}")) == (404, "itemNotFound")
    body = (await here.bms.get("/baremetalservers/detail", params={"limit": 100})).json()
    assert body["count"] == len(body["servers"]) == 11
    assert server_id not in {each["id"] for each in body["servers"]}
    assert len((await here.nova.get("/servers")).json()["servers"]) == 11
    # The job that was to stop it does not bring it back.
    assert (await here.finish(accepted))["entities"]["sub_jobs_total"] == 2
    assert here.cloud.count_servers() == {"ACTIVE": 10, "SHUTOFF": 1, "HARD_REBOOT": 0}


async def test_equal_clouds_make_equal_servers(world: Worlds) -> None:
    made = []
    for _ in range(2):
        here = world(seed=4)
        answers = [await create(here, count=2), await create_natively(here)]
        here.hand.now += 1000
        made.append([each.json() for each in answers] + [await here.server(each) for each in here.ids[12:]])
    assert made[0] == made[1]
