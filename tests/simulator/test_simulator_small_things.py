"""Metadata, tags, key pairs, flavors, passwords, fresh systems, projects, and how all calls are counted."""

import re
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from bms_async.simulator import DOCUMENTED_LIMITS, OPERATIONS, Cloud, CloudSettings, Throttled, create_app
from tests.simulator._helpers import TAGS, World, Worlds, code_of, native_code_of


async def metadata(world: World, server_id: str) -> dict[str, str]:
    """What both APIs say, which must be the same."""
    found = (await world.nova.get(f"/servers/{server_id}/metadata")).json()["metadata"]
    assert (await world.server(server_id))["metadata"] == found
    assert isinstance(found, dict)
    return found


async def test_metadata_is_merged_set_and_deleted(world: Worlds) -> None:
    here = world()
    server_id = here.ids[0]
    bms, native = f"/baremetalservers/{server_id}/metadata", f"/servers/{server_id}/metadata"
    before = await metadata(here, server_id)
    assert before["os_type"] == "Linux"
    answer = await here.bms.post(bms, json={"metadata": {"a": "1", "b.c:d-e_f": "ä"}})
    assert answer.json() == {"metadata": before | {"a": "1", "b.c:d-e_f": "ä"}}
    answer = await here.nova.post(native, json={"metadata": {"a": "2"}})
    assert answer.json()["metadata"]["a"] == "2"
    answer = await here.nova.put(f"{native}/z", json={"meta": {"z": ""}})
    assert answer.json() == {"meta": {"z": ""}}
    assert await metadata(here, server_id) == before | {"a": "2", "b.c:d-e_f": "ä", "z": ""}
    assert (await here.bms.post(bms, json={"metadata": {}})).json()["metadata"] == await metadata(here, server_id)
    for key in ("a", "b.c:d-e_f", "z"):
        assert (await here.nova.delete(f"{native}/{key}")).status_code == 204
        assert native_code_of(await here.nova.delete(f"{native}/{key}")) == (404, "itemNotFound")
    assert await metadata(here, server_id) == before
    assert await metadata(here, here.ids[3]) == {
        **before,
        "baremetalPortIDList": (await metadata(here, here.ids[3]))["baremetalPortIDList"],
    }


@pytest.mark.parametrize("given", [{"": "x"}, {"a b": "x"}, {"k" * 256: "x"}, {"k": "v" * 256}, {"k": 7}, {"k": None}])
async def test_bad_metadata_is_refused_by_both(world: Worlds, given: dict[str, Any]) -> None:
    here = world()
    body = {"metadata": given}
    assert code_of(await here.bms.post(f"/baremetalservers/{here.ids[0]}/metadata", json=body)) == (400, "BMS.0018")
    native = f"/servers/{here.ids[0]}/metadata"
    assert native_code_of(await here.nova.post(native, json=body)) == (400, "badRequest")
    assert native_code_of(await here.nova.put(f"{native}/k", json={"meta": given})) == (400, "badRequest")


async def test_metadata_needs_a_server_that_is_on_or_off_and_has_an_end(world: Worlds) -> None:
    here = world()
    path = f"/servers/{here.ids[0]}/metadata"
    assert native_code_of(await here.nova.put(f"{path}/a", json={"meta": {"b": "1"}})) == (400, "badRequest")
    many = {"metadata": {f"k{n}": "v" for n in range(128)}}
    assert native_code_of(await here.nova.post(path, json=many)) == (403, "forbidden")
    assert code_of(await here.bms.post(f"/baremetalservers/{here.ids[0]}/metadata", json=many)) == (400, "BMS.0018")
    wish = {
        "imageRef": "i", "flavorRef": "physical.o2.medium", "name": "n", "availability_zone": "az-sim-1",
        "networks": [{"uuid": "u"}],
    }  # fmt: skip
    made = (await here.nova.post("/servers", json={"server": wish})).json()["server"]["id"]
    body = {"metadata": {"a": "1"}}
    assert native_code_of(await here.nova.post(f"/servers/{made}/metadata", json=body)) == (409, "conflictingRequest")
    assert code_of(await here.bms.post(f"/baremetalservers/{made}/metadata", json=body)) == (400, "BMS.1006")


async def test_tags_are_replaced_added_removed_and_cleared(world: Worlds) -> None:
    here = world()
    here.nova.headers.update(TAGS)
    tags = f"/servers/{here.ids[0]}/tags"

    async def now() -> list[str]:
        found = (await here.nova.get(tags)).json()["tags"]
        assert (await here.server(here.ids[0]))["tags"] == found
        assert isinstance(found, list)
        return found

    assert await now() == ["__type_baremetal", "rack-0"]
    assert (await here.nova.put(tags, json={"tags": ["b", "a", "b"]})).json() == {"tags": ["a", "b"]}
    assert native_code_of(await here.nova.put(f"{tags}/a%2Fb")) == (400, "badRequest")
    assert [(await here.nova.put(f"{tags}/k=50%25%20%C3%BC%3F")).status_code for _ in range(2)] == [201, 204]
    assert await now() == ["a", "b", "k=50% ü?"]
    assert (await here.nova.get(f"{tags}/k=50%25%20%C3%BC%3F")).status_code == 204
    assert (await here.nova.delete(f"{tags}/a")).status_code == 204
    for ask in (here.nova.get, here.nova.delete):
        missing = await ask(f"{tags}/a")
        assert native_code_of(missing) == (404, "itemNotFound")
        assert "has no tag 'a'" in missing.json()["itemNotFound"]["message"]
    assert (await here.nova.delete(tags)).status_code == 204
    assert await now() == []


async def test_tags_have_their_limits(world: Worlds) -> None:
    here = world()
    here.nova.headers.update(TAGS)
    tags = f"/servers/{here.ids[0]}/tags"
    for bad in ({}, {"tags": "a"}, {"tags": ["a" * 81]}, {"tags": [""]}, {"tags": [".a"]}, {"tags": [7]},
                {"tags": [f"t{n}" for n in range(51)]}):  # fmt: skip
        assert native_code_of(await here.nova.put(tags, json=bad)) == (400, "badRequest")
    fifty = ["a" * 80, *(f"t{n}" for n in range(49))]
    assert (await here.nova.put(tags, json={"tags": fifty})).status_code == 200
    assert native_code_of(await here.nova.put(f"{tags}/one-more")) == (400, "badRequest")
    assert (await here.nova.put(f"{tags}/t1")).status_code == 204


async def test_tags_are_not_there_before_their_microversion(world: Worlds) -> None:
    here = world()
    tags = f"/servers/{here.ids[0]}/tags"
    calls = [here.nova.get(tags), here.nova.put(tags, json={"tags": []}), here.nova.delete(tags),
             here.nova.get(f"{tags}/a"), here.nova.put(f"{tags}/a"), here.nova.delete(f"{tags}/a")]  # fmt: skip
    for call in calls:
        assert native_code_of(await call) == (404, "itemNotFound")
    old = {"X-OpenStack-Nova-API-Version": "2.25"}
    assert native_code_of(await here.nova.get(tags, headers=old)) == (404, "itemNotFound")


async def test_key_pairs_are_made_brought_and_deleted(world: Worlds) -> None:
    here = world(quota_keypairs=3)
    made = (await here.nova.post("/os-keypairs", json={"keypair": {"name": "one"}})).json()["keypair"]
    assert set(made) == {"name", "public_key", "fingerprint", "private_key", "user_id"}
    assert "SIMULATED" in made["private_key"]
    assert re.fullmatch(r"([0-9a-f]{2}:){15}[0-9a-f]{2}", made["fingerprint"])
    wish = {"keypair": {"name": "two", "public_key": made["public_key"]}}
    brought = (await here.nova.post("/os-keypairs", json=wish)).json()["keypair"]
    assert brought == {name: value for name, value in made.items() if name != "private_key"} | {"name": "two"}
    assert native_code_of(await here.nova.post("/os-keypairs", json=wish)) == (409, "conflictingRequest")
    full = await here.nova.post("/os-keypairs", json={"keypair": {"name": "three"}})
    assert native_code_of(full) == (403, "forbidden")
    pairs = (await here.nova.get("/os-keypairs", headers=TAGS)).json()["keypairs"]
    assert [each["keypair"]["name"] for each in pairs] == ["KeyPair-simulated", "one", "two"]
    assert {each["keypair"]["type"] for each in pairs} == {"ssh"}
    one = (await here.nova.get("/os-keypairs/one")).json()["keypair"]
    assert (one["id"], one["deleted"], one["deleted_at"]) == (2, False, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}", one["created_at"])
    assert (await here.nova.delete("/os-keypairs/one")).status_code == 204
    for ask in (here.nova.get, here.nova.delete):
        assert native_code_of(await ask("/os-keypairs/one")) == (404, "itemNotFound")


@pytest.mark.parametrize(
    "pair",
    [
        {},
        {"name": ""},
        {"name": 7},
        {"name": "a/b"},
        {"name": "n", "public_key": "ssh-rsa"},
        {"name": "n", "public_key": "ssh-rsa AAAA"},
        {"name": "n", "public_key": "ssh-rsa ????"},
        {"name": "n", "public_key": 7},
        {"name": "n", "public_key": "ssh-rsa " + "A" * 1020},
    ],
)
async def test_a_bad_key_pair_is_refused(world: Worlds, pair: dict[str, Any]) -> None:
    here = world()
    assert native_code_of(await here.nova.post("/os-keypairs", json={"keypair": pair})) == (400, "badRequest")


async def test_flavors_are_shown_by_both(world: Worlds) -> None:
    here = world()
    flavors = (await here.bms.get("/baremetalservers/flavors")).json()["flavors"]
    native = {each["id"]: each for each in (await here.nova.get("/flavors/detail")).json()["flavors"]}
    assert len(flavors) == 5
    assert len(native) == 7
    for flavor in flavors:
        other = native[flavor["id"]]
        assert (int(flavor["vcpus"]), flavor["ram"], int(flavor["disk"])) == (
            other["vcpus"],
            other["ram"],
            other["disk"],
        )
        assert isinstance(flavor["vcpus"], str)
        assert (await here.nova.get(f"/flavors/{flavor['id']}")).json() == {"flavor": other}
        specs = (await here.nova.get(f"/flavors/{flavor['id']}/os-extra_specs")).json()
        assert specs == {"extra_specs": flavor["os_extra_specs"]}
    [limited] = [each["os_extra_specs"] for each in flavors if "cond:operation:az" in each["os_extra_specs"]]
    assert "baremetal:__support_evs" not in limited
    refused = await here.bms.get("/baremetalservers/flavors", params={"availability_zone": "nowhere"})
    assert code_of(refused) == (400, "BMS.0208")
    assert native_code_of(await here.nova.get("/flavors/none")) == (404, "itemNotFound")
    assert native_code_of(await here.nova.get("/flavors/none/os-extra_specs")) == (404, "itemNotFound")


async def test_native_flavors_are_narrowed_and_sorted(world: Worlds) -> None:
    here = world()

    async def found(**query: Any) -> list[dict[str, Any]]:
        answer = (await here.nova.get("/flavors/detail", params=query)).json()["flavors"]
        assert isinstance(answer, list)
        return answer

    everybody = await found()
    assert [each["id"] for each in everybody] == sorted(each["id"] for each in everybody)
    assert {each["id"] for each in await found(minRam=200_000)} == {
        each["id"] for each in everybody if each["ram"] >= 200_000
    }
    assert {each["id"] for each in await found(minDisk=1000)} == {
        each["id"] for each in everybody if each["disk"] >= 1000
    }
    names = {"name": "name", "memory_mb": "ram", "vcpus": "vcpus", "root_gb": "disk", "flavorid": "id"}
    for key, field in names.items():
        values = [each[field] for each in await found(sort_key=key, sort_dir="desc")]
        assert values == sorted(values, reverse=True)
    for query in ({"sort_key": "colour"}, {"sort_dir": "up"}, {"minRam": "x"}, {"marker": "none"}):
        assert native_code_of(await here.nova.get("/flavors/detail", params=query)) == (400, "badRequest")


async def test_the_password_of_windows_is_read_and_deleted(world: Worlds) -> None:
    here = world(servers=20, windows_share=0.2)
    servers = [await here.server(each) for each in here.ids]
    windows = [each["id"] for each in servers if each["metadata"]["os_type"] == "Windows"]
    linux = [each["id"] for each in servers if each["metadata"]["os_type"] == "Linux"]
    assert (len(windows), len(linux)) == (4, 16)

    async def password(server_id: str) -> str:
        return str((await here.bms.get(f"/baremetalservers/{server_id}/os-server-password")).json()["password"])

    assert len({await password(each) for each in windows}) == 4
    assert {await password(each) for each in linux} == {""}
    gone = await here.bms.delete(f"/baremetalservers/{windows[0]}/os-server-password")
    assert (gone.status_code, gone.content) == (202, b"")
    assert [bool(await password(each)) for each in windows] == [False, True, True, True]
    flags = [
        (await here.bms.get(f"/baremetalservers/{each}/os-resetpwd-flag")).json() for each in (windows[0], linux[0])
    ]
    assert flags == [{"resetpwd_flag": "False"}, {"resetpwd_flag": "True"}]
    body = {"reset-password": {"new_password": "Simulated-1"}}
    answers = [
        await here.bms.put(f"/baremetalservers/{each}/os-reset-password", json=body) for each in (windows[0], linux[0])
    ]
    assert [each.status_code for each in answers] == [400, 204]


@pytest.mark.parametrize("password", ["Short-1", "simulated", "Simulated-1" * 3, "aRoot-12345", "toor-A-1234", None, 7])
async def test_a_weak_password_is_refused_and_not_repeated(world: Worlds, password: Any) -> None:
    here = world()
    body = {"reset-password": {"new_password": password}}
    answer = await here.bms.put(f"/baremetalservers/{here.ids[0]}/os-reset-password", json=body)
    assert code_of(answer) == (400, "BMS.3039")
    assert str(password) not in answer.text


async def reinstall(world: World, server_id: str, **wish: Any) -> httpx.Response:
    return await world.bms.post(f"/baremetalservers/{server_id}/reinstallos", json={"os-reinstall": wish})


@pytest.mark.parametrize(("place", "kind"), [(0, "baremetalReinstallOs"), (2, "baremetalVolumeBootReinstallOs")])
async def test_a_system_is_reinstalled_on_a_server_that_is_off(world: Worlds, place: int, kind: str) -> None:
    here = world(stopped_share=1.0, job_seconds=(50.0, 100.0))
    server_id = here.ids[place]
    accepted = await reinstall(here, server_id, keyname="KeyPair-simulated")
    assert accepted.status_code == 200
    assert code_of(await reinstall(here, server_id, keyname="KeyPair-simulated")) == (400, "BMS.0006")
    here.hand.now += 25
    server = await here.server(server_id)
    assert (server["status"], server["OS-EXT-STS:task_state"]) == ("SHUTOFF", "rebuilding")
    job = await here.finish(accepted)
    assert (job["status"], job["job_type"], job["entities"]["server_id"]) == ("SUCCESS", kind, server_id)
    assert (await here.server(server_id))["status"] == "ACTIVE"
    assert code_of(await reinstall(here, server_id, keyname="KeyPair-simulated")) == (400, "BMS.0018")


async def test_a_reinstallation_can_fail(world: Worlds) -> None:
    here = world(stopped_share=1.0, fail_share=1.0)
    job = await here.finish(await reinstall(here, here.ids[0], adminpass="Simulated-1"))
    assert (job["status"], job["error_code"]) == ("FAIL", "BMS.3037")
    assert (await here.server(here.ids[0]))["status"] == "SHUTOFF"
    assert (await reinstall(here, here.ids[0], metadata={"user_data": "c2lt"})).status_code == 200


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({}, "BMS.0111"),
        ({"adminpass": "Simulated-1", "keyname": "KeyPair-simulated"}, "BMS.0111"),
        ({"adminpass": "weak"}, "BMS.3039"),
        ({"keyname": "unknown"}, "BMS.0049"),
        ({"metadata": {"user_data": "?"}}, "BMS.0018"),
    ],
)
async def test_a_bad_reinstallation_is_refused(world: Worlds, wish: dict[str, Any], code: str) -> None:
    here = world(stopped_share=1.0)
    assert code_of(await reinstall(here, here.ids[0], **wish)) == (400, code)


async def test_projects_are_listed_and_not_to_everybody(world: Worlds) -> None:
    here = world(project_name="mine")
    for path in ("/v3/projects", "/v3/auth/projects"):
        body = (await here.bms.get(f"http://bms.test{path}")).json()
        assert [(each["id"], each["name"]) for each in body["projects"]] == [(here.cloud.settings.project_id, "mine")]
        assert body["links"]["self"].endswith(path)
        other = await here.bms.get(f"http://bms.test{path}", params={"name": "other"})
        assert other.json()["projects"] == []
    plain = world(administrator=False)
    refused = await plain.bms.get("http://bms.test/v3/projects")
    assert refused.status_code == 403
    assert refused.json()["error"]["title"] == "Forbidden"
    assert (await plain.bms.get("http://bms.test/v3/auth/projects")).status_code == 200


async def test_every_call_of_an_unknown_server_is_refused(world: Worlds) -> None:
    here = world()
    routes = [each for each in create_app(here.cloud).routes if isinstance(each, Route) and "{server_id}" in each.path]
    assert len(routes) > 30
    for route in routes:
        [method] = (route.methods or set()) - {"HEAD"}
        names = dict.fromkeys(re.findall(r"{(\w+)", route.path), "x")
        path = re.sub(r":path}", "}", route.path).format(**names | {"project_id": here.cloud.settings.project_id})
        answer = await here.bms.request(method, f"http://bms.test{path}", json={}, headers=TAGS)
        expected = (404, "BMS.0040") if path.startswith("/v1/") else (404, "itemNotFound")
        assert (code_of if path.startswith("/v1/") else native_code_of)(answer) == expected, path


async def test_documented_limits_hold_and_native_calls_are_only_counted(world: Worlds) -> None:
    here = world()
    path = f"/baremetalservers/{here.ids[0]}"
    for _ in range(51):
        last = await here.bms.get(f"{path}/os-server-password")
    assert code_of(last) == (429, "APIGW.0308")
    assert "limit:50,time:1 minute" in last.json()["error_msg"]
    for _ in range(1500):
        assert (await here.nova.get(f"/servers/{here.ids[0]}/metadata")).status_code == 200
    books = here.cloud.call_counts().operations
    assert (books["nova.metadata.get"].limit, books["nova.metadata.get"].arrived) == (None, 1500)
    assert (books["servers.get_windows_password"].limit, books["servers.get_windows_password"].refused) == (50, 1)


async def test_native_calls_can_be_limited_one_by_one_and_together(world: Worlds) -> None:
    here = world(limits={"nova.servers.get": 2})
    answers = [await here.nova.get(f"/servers/{here.ids[0]}") for _ in range(3)]
    answers.append(await here.nova.get("/servers"))
    assert [each.status_code for each in answers] == [200, 200, 429, 200]
    together = world(limits={"nova": 2})
    answers = [await together.nova.get(path) for path in ("/servers", "/os-keypairs", "/flavors/detail")]
    assert [each.status_code for each in answers] == [200, 200, 429]
    assert together.cloud.call_counts().operations["nova"].worst_minute == 3


async def test_a_call_without_a_limit_can_be_throttled_by_others(world: Worlds) -> None:
    here = world()
    here.cloud.faults.append(lambda *_: Throttled(retry_after=1))
    assert code_of(await here.nova.get("/servers")) == (429, "APIGW.0308")


def test_operations_are_the_documented_ones() -> None:
    assert len(OPERATIONS) == len(set(OPERATIONS))
    assert set(DOCUMENTED_LIMITS) < set(OPERATIONS)
    assert len([name for name in OPERATIONS if name.startswith("nova.")]) == 34 + len(
        ["nova.versions", "nova.servers.action"]
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"virtual_machines": -1},
        {"windows_share": 2.0},
        {"quota_cores": -2},
        {"limits": {"nova.fly": 3}},
        {"project_name": ""},
    ],
)
def test_a_cloud_that_cannot_be_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        Cloud(CloudSettings(**settings))
