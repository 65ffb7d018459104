"""Disks: what is attached, what is refused, and when a job shows."""

from typing import Any

import httpx
import pytest

from tests.simulator._helpers import World, Worlds, code_of, native_code_of

VOLUMES = [f"b53f23bd-ee8f-49ec-9420-{n:012x}" for n in range(60)]


def attachment(volume_id: Any, **more: Any) -> dict[str, Any]:
    return {"volumeAttachment": {"volumeId": volume_id, **more}}


async def attach(world: World, server_id: str, volume_id: Any, **more: Any) -> httpx.Response:
    body = attachment(volume_id, **more)
    return await world.bms.post(f"/baremetalservers/{server_id}/attachvolume", json=body)


async def detach(world: World, server_id: str, volume_id: str) -> httpx.Response:
    return await world.bms.delete(f"/baremetalservers/{server_id}/detachvolume/{volume_id}")


async def listed(world: World, server_id: str) -> list[tuple[str, str]]:
    """What both APIs list, which must be the same."""
    answers = [
        await world.bms.get(f"/baremetalservers/{server_id}/os-volume_attachments"),
        await world.nova.get(f"/servers/{server_id}/os-volume_attachments"),
    ]
    assert answers[0].json() == answers[1].json()
    found = answers[0].json()["volumeAttachments"]
    assert all(each["id"] == each["volumeId"] and each["serverId"] == server_id for each in found)
    shown = (await world.server(server_id))["os-extended-volumes:volumes_attached"]
    assert [(each["id"], each["device"]) for each in shown] == [(each["id"], each["device"]) for each in found]
    return [(each["id"], each["device"]) for each in found]


async def test_a_disk_shows_when_its_job_has_ended_and_goes_the_same_way(world: Worlds) -> None:
    here = world()
    server_id = here.ids[0]
    accepted = await attach(here, server_id, VOLUMES[0], device="")
    assert accepted.status_code == 202
    assert await listed(here, server_id) == []
    early = (await here.bms.get(f"/jobs/{accepted.json()['job_id']}")).json()
    assert (early["status"], early["end_time"]) == ("INIT", None)
    job = await here.finish(accepted)
    assert job["job_type"] == "baremetalAttachVolume"
    assert job["entities"] == {"server_id": server_id, "volume_id": VOLUMES[0], "sub_jobs_total": 0, "sub_jobs": []}
    assert (job["status"], job["error_code"], job["fail_reason"]) == ("SUCCESS", None, None)
    assert await listed(here, server_id) == [(VOLUMES[0], "/dev/sdb")]
    accepted = await detach(here, server_id, VOLUMES[0])
    assert (accepted.status_code, await listed(here, server_id)) == (202, [(VOLUMES[0], "/dev/sdb")])
    assert code_of(await detach(here, server_id, VOLUMES[0])) == (400, "BMS.1011")
    assert (await here.finish(accepted))["job_type"] == "baremetalDetachVolume"
    assert await listed(here, server_id) == []


async def test_devices_come_in_order_and_gaps_are_filled(world: Worlds) -> None:
    here = world()
    server_id = here.ids[0]
    for volume in VOLUMES[:3]:
        await here.finish(await attach(here, server_id, volume))
    assert [device for _, device in await listed(here, server_id)] == ["/dev/sdb", "/dev/sdc", "/dev/sdd"]
    await here.finish(await detach(here, server_id, VOLUMES[1]))
    for device in ("/dev/sdb", "/dev/sde", "/dev/vdb", "sdc", 7):
        assert code_of(await attach(here, server_id, VOLUMES[3], device=device)) == (400, "BMS.0105")
    assert code_of(await attach(here, server_id, VOLUMES[3], device="/dev/sda")) == (400, "BMS.0104")
    await here.finish(await attach(here, server_id, VOLUMES[3], device="/dev/sdc"))
    assert dict(await listed(here, server_id))[VOLUMES[3]] == "/dev/sdc"


async def test_a_disk_is_on_one_server_and_once(world: Worlds) -> None:
    here = world()
    one, other = here.ids[0], here.ids[1]
    await attach(here, one, VOLUMES[0])
    assert code_of(await attach(here, one, VOLUMES[0])) == (400, "BMS.1011")
    assert code_of(await attach(here, other, VOLUMES[0])) == (400, "BMS.1003")
    here.hand.now += 1000
    assert code_of(await attach(here, one, VOLUMES[0])) == (400, "BMS.1009")
    assert code_of(await attach(here, other, VOLUMES[0])) == (400, "BMS.1003")
    assert code_of(await detach(here, other, VOLUMES[0])) == (400, "BMS.0114")
    await here.finish(await detach(here, one, VOLUMES[0]))
    assert (await here.finish(await attach(here, other, VOLUMES[0])))["status"] == "SUCCESS"


async def test_a_server_has_forty_disks_at_most(world: Worlds) -> None:
    here = world()
    server_id = here.ids[0]
    for volume in VOLUMES[:40]:
        assert (await attach(here, server_id, volume)).status_code == 202
    assert code_of(await attach(here, server_id, VOLUMES[40])) == (400, "BMS.1002")
    here.hand.now += 1000
    devices = {device for _, device in await listed(here, server_id)}
    assert len(devices) == 40
    assert {"/dev/sdz", "/dev/sdaa", "/dev/sdao"} <= devices
    refused = await here.nova.post(f"/servers/{server_id}/os-volume_attachments", json=attachment(VOLUMES[40]))
    assert native_code_of(refused) == (403, "forbidden")


async def test_a_system_disk_leaves_only_a_server_that_is_off(world: Worlds) -> None:
    here = world()
    server_id = here.ids[2]
    [(root, device)] = await listed(here, server_id)
    assert device == "/dev/sda"
    assert code_of(await detach(here, server_id, root)) == (400, "BMS.0047")
    native = f"/servers/{server_id}/os-volume_attachments/{root}"
    assert native_code_of(await here.nova.delete(native)) == (409, "conflictingRequest")
    stop = {"os-stop": {"servers": [{"id": server_id}]}}
    await here.finish(await here.bms.post("/baremetalservers/action", json=stop))
    assert (await here.finish(await detach(here, server_id, root)))["status"] == "SUCCESS"
    assert await listed(here, server_id) == []


async def test_a_faulty_server_fails_the_job_and_lets_the_disk_go(world: Worlds) -> None:
    here = world(fail_share=1.0)
    job = await here.finish(await attach(here, here.ids[0], VOLUMES[0]))
    assert (job["status"], job["error_code"]) == ("FAIL", "BMS.3019")
    assert job["fail_reason"]
    assert await listed(here, here.ids[0]) == []
    assert (await attach(here, here.ids[1], VOLUMES[0])).status_code == 202


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (None, "BMS.0001"),
        ({}, "BMS.0001"),
        ({"volumeAttachment": []}, "BMS.0001"),
        (attachment(None), "BMS.0103"),
        (attachment("no-disk"), "BMS.0103"),
    ],
)
async def test_a_bad_wish_is_refused(world: Worlds, body: Any, code: str) -> None:
    here = world()
    answer = await here.bms.post(f"/baremetalservers/{here.ids[0]}/attachvolume", json=body)
    assert code_of(answer) == (400, code)


async def test_natively_it_happens_at_once(world: Worlds) -> None:
    here = world()
    server_id = here.ids[0]
    path = f"/servers/{server_id}/os-volume_attachments"
    made = await here.nova.post(path, json=attachment(VOLUMES[0], device="/dev/sdb"))
    document = {"device": "/dev/sdb", "id": VOLUMES[0], "serverId": server_id, "volumeId": VOLUMES[0]}
    assert (made.status_code, made.json()) == (200, {"volumeAttachment": document})
    # A place out of turn is not refused here, but chosen anew; one that is taken is.
    other = await here.nova.post(path, json=attachment(VOLUMES[1], device="/dev/sdx"))
    assert other.json()["volumeAttachment"]["device"] == "/dev/sdc"
    taken = await here.nova.post(path, json=attachment(VOLUMES[2], device="/dev/sdc"))
    assert native_code_of(taken) == (409, "conflictingRequest")
    assert native_code_of(await here.nova.post(path, json=attachment(VOLUMES[0]))) == (400, "badRequest")
    assert native_code_of(await here.nova.post(path, json=attachment(7))) == (400, "badRequest")
    assert native_code_of(await here.nova.post(path, json=attachment("no-disk"))) == (404, "itemNotFound")
    assert (await here.nova.get(f"{path}/{VOLUMES[0]}")).json() == {"volumeAttachment": document}
    gone = await here.nova.delete(f"{path}/{VOLUMES[0]}")
    assert (gone.status_code, gone.content) == (200, b"")
    for ask in (here.nova.get, here.nova.delete):
        assert native_code_of(await ask(f"{path}/{VOLUMES[0]}")) == (404, "itemNotFound")
    assert await listed(here, server_id) == [(VOLUMES[1], "/dev/sdc")]
