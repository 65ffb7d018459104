"""What else is done with a server: each call sends the reference's example and reads the reference's answer."""

from __future__ import annotations

import json
from base64 import b64encode
from typing import Any

import httpx
import pytest
import respx

from bms_async import (
    ApiError,
    BmsClient,
    DecodeError,
    FixedIp,
    Interface,
    JobFailedError,
    JobHandle,
    PortState,
    Server,
    TransportError,
    VolumeAttachment,
    WindowsPassword,
)
from tests.support.mocked import BASE, TOKEN, error, mocked, sent, virtually

SERVER_ID = "cf2a8b97-b5c6-47ef-9714-eb27adf26e5b"
SERVER = f"{BASE}/baremetalservers/{SERVER_ID}"
JOB_ID = "70a599e0-31e7-49b7-b260-868f441e862b"
ACCEPTED = {"job_id": JOB_ID}
VOLUME = "b53f23bd-ee8f-49ec-9420-d1acfef91d6"
ATTACHMENT = "6b604cef-9bd8-4f5a-ae56-45839e6e1f0a"
PASSWORD = "Sesame!Open77"
CIPHERTEXT = "UHC9+YW1xDC1Yu8Mg9n+tnOp7euEO/cW//9KgdJKWhr5w=="


def only(cloud: respx.MockRouter) -> httpx.Request:
    (request,) = sent(cloud)
    assert request.headers["X-Auth-Token"] == TOKEN
    assert request.headers["Accept"] == "application/json"
    assert ("Content-Type" in request.headers) == bool(request.content)
    return request


def line(request: httpx.Request) -> tuple[str, str, Any]:
    return request.method, str(request.url), json.loads(request.content) if request.content else None


async def test_a_server_is_renamed() -> None:
    async with mocked() as (bms, cloud):
        cloud.put(SERVER).respond(json={"server": {"id": SERVER_ID, "name": "new-server-test", "status": "ACTIVE"}})

        server = await bms.servers.rename(SERVER_ID, "new-server-test")

        assert line(only(cloud)) == ("PUT", SERVER, {"server": {"name": "new-server-test"}})
        assert server == Server(id=SERVER_ID, name="new-server-test", status=server.status)
        assert server.status == "ACTIVE"


async def test_a_system_is_installed_anew_with_a_key_pair() -> None:
    async with mocked() as (bms, cloud):
        cloud.post(f"{SERVER}/reinstallos").respond(json=ACCEPTED)

        job = await bms.servers.reinstall_os(
            SERVER_ID, key_name="KeyPair-350b", user_id="7e25b1da389f4697a79df3a0e5bd494e", user_data=""
        )

        wanted = {
            "keyname": "KeyPair-350b",
            "userid": "7e25b1da389f4697a79df3a0e5bd494e",
            "metadata": {"user_data": ""},
        }
        assert line(only(cloud)) == ("POST", f"{SERVER}/reinstallos", {"os-reinstall": wanted})
        assert (job.id, job.servers, job.action) == (JOB_ID, (SERVER_ID,), "servers.reinstall_os")


@pytest.mark.parametrize("data", ["#!/bin/sh\necho ä", "#!/bin/sh\necho ä".encode()])
async def test_a_system_is_installed_anew_with_a_script_that_is_made_base64(data: str | bytes) -> None:
    async with mocked() as (bms, cloud):
        cloud.post(f"{SERVER}/reinstallos").respond(json=ACCEPTED)

        await bms.servers.reinstall_os(SERVER_ID, user_data=data)

        raw = data if isinstance(data, bytes) else data.encode()
        assert line(only(cloud))[2] == {"os-reinstall": {"metadata": {"user_data": b64encode(raw).decode()}}}


async def test_a_system_is_installed_anew_with_a_password() -> None:
    async with mocked() as (bms, cloud):
        cloud.post(f"{SERVER}/reinstallos").respond(json=ACCEPTED)

        await bms.servers.reinstall_os(SERVER_ID, admin_password=PASSWORD)

        assert line(only(cloud))[2] == {"os-reinstall": {"adminpass": PASSWORD}}


async def test_nics_are_listed() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(f"{SERVER}/os-interface").respond(
            json={
                "interfaceAttachments": [
                    {
                        "port_state": "ACTIVE",
                        "fixed_ips": [
                            {"subnet_id": "a5052101-11e1-4f3d-a5fa-f6ba6791219c", "ip_address": "192.168.1.147"}
                        ],
                        "net_id": "ad0fadbf-4bc1-472c-a030-5310e53b3818",
                        "port_id": "bb585b04-f2a2-4528-9064-fd0aeb4e15a9",
                        "mac_addr": "fa:16:3e:3b:58:fc",
                    },
                    {"port_state": "MELTING", "fixed_ips": None, "driver_mode": "hnic", "pci_address": "0000:04:10.0"},
                ]
            }
        )

        first, second = await bms.servers.list_interfaces(SERVER_ID)

        assert line(only(cloud)) == ("GET", f"{SERVER}/os-interface", None)
        assert first == Interface(
            port_state=PortState.ACTIVE,
            fixed_ips=(FixedIp(subnet_id="a5052101-11e1-4f3d-a5fa-f6ba6791219c", ip_address="192.168.1.147"),),
            net_id="ad0fadbf-4bc1-472c-a030-5310e53b3818",
            port_id="bb585b04-f2a2-4528-9064-fd0aeb4e15a9",
            mac_address="fa:16:3e:3b:58:fc",
        )
        assert isinstance(second.port_state, PortState)
        assert (second.port_state.value, second.fixed_ips) == ("MELTING", ())
        assert (second.driver_mode, second.pci_address) == ("hnic", "0000:04:10.0")


DISK = {
    "device": "/dev/sdd",
    "id": "a26887c6-c47b-4654-abb5-dfadf7d3f803",
    "serverId": SERVER_ID,
    "volumeId": "a26887c6-c47b-4654-abb5-dfadf7d3f803",
}


@pytest.mark.parametrize(
    ("entries", "count"), [([DISK, {**DISK, "id": "b"}], 2), (DISK, 1), ([], 0), (None, 0)], ids=str
)
async def test_disks_are_listed(entries: object, count: int) -> None:
    async with mocked() as (bms, cloud):
        cloud.get(f"{SERVER}/os-volume_attachments").respond(json={"volumeAttachments": entries})

        disks = await bms.servers.list_volumes(SERVER_ID)

        assert line(only(cloud)) == ("GET", f"{SERVER}/os-volume_attachments", None)
        assert len(disks) == count
        if count:
            assert disks[0] == VolumeAttachment(
                id=DISK["id"], device="/dev/sdd", server_id=SERVER_ID, volume_id=DISK["volumeId"]
            )


@pytest.mark.parametrize(("device", "sent_device"), [(None, ""), ("", ""), ("/dev/sdb", "/dev/sdb")])
async def test_a_disk_is_attached(device: str | None, sent_device: str) -> None:
    async with mocked() as (bms, cloud):
        cloud.post(f"{SERVER}/attachvolume").respond(202, json=ACCEPTED)

        job = await bms.servers.attach_volume(SERVER_ID, VOLUME, device=device)

        body = {"volumeAttachment": {"volumeId": VOLUME, "device": sent_device}}
        assert line(only(cloud)) == ("POST", f"{SERVER}/attachvolume", body)
        assert (job.id, job.servers, job.action) == (JOB_ID, (SERVER_ID,), "servers.attach_volume")


async def test_a_disk_is_detached() -> None:
    async with mocked() as (bms, cloud):
        cloud.delete(f"{SERVER}/detachvolume/{ATTACHMENT}").respond(202, json=ACCEPTED)

        job = await bms.servers.detach_volume(SERVER_ID, ATTACHMENT)

        assert line(only(cloud)) == ("DELETE", f"{SERVER}/detachvolume/{ATTACHMENT}", None)
        assert (job.id, job.servers, job.action) == (JOB_ID, (SERVER_ID,), "servers.detach_volume")


@pytest.mark.parametrize("answer", [{"metadata": {"key": "value"}}, {"metadata": {"key": "value", "gone": None}}])
async def test_metadata_is_updated(answer: dict[str, Any]) -> None:
    async with mocked() as (bms, cloud):
        cloud.post(f"{SERVER}/metadata").respond(json=answer)

        assert await bms.servers.update_metadata(SERVER_ID, {"key": "value"}) == {"key": "value"}

        assert line(only(cloud)) == ("POST", f"{SERVER}/metadata", {"metadata": {"key": "value"}})


async def test_the_password_of_a_windows_server_is_read_and_shown_to_nobody() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(f"{SERVER}/os-server-password").respond(json={"password": CIPHERTEXT})

        password = await bms.servers.get_windows_password(SERVER_ID)

        assert line(only(cloud)) == ("GET", f"{SERVER}/os-server-password", None)
        assert password == WindowsPassword(password=CIPHERTEXT)
        assert password.is_set
        assert CIPHERTEXT not in f"{password!r} {password} {password.__rich_repr__()}"
        assert repr(password) == "WindowsPassword(password='***')"


@pytest.mark.parametrize("answer", [{"password": ""}, {"password": None}, {}])
async def test_a_server_without_such_a_password_has_none(answer: dict[str, Any]) -> None:
    async with mocked() as (bms, cloud):
        cloud.get(f"{SERVER}/os-server-password").respond(json=answer)

        assert not (await bms.servers.get_windows_password(SERVER_ID)).is_set


async def test_the_password_of_a_windows_server_is_forgotten() -> None:
    async with mocked() as (bms, cloud):
        cloud.delete(f"{SERVER}/os-server-password").respond(202)

        await bms.servers.delete_windows_password(SERVER_ID)

        assert line(only(cloud)) == ("DELETE", f"{SERVER}/os-server-password", None)


@pytest.mark.parametrize(
    ("answer", "can"),
    [
        ({"resetpwd_flag": "True"}, True),
        ({"resetpwd_flag": "False"}, False),
        ({"resetpwd_flag": True}, True),
        ({"resetpwd_flag": None}, False),
        ({"resetpwd_flag": ""}, False),
        ({}, False),
    ],
)
async def test_whether_a_password_can_be_reset_is_asked(answer: dict[str, Any], *, can: bool) -> None:
    async with mocked() as (bms, cloud):
        cloud.get(f"{SERVER}/os-resetpwd-flag").respond(json=answer)

        assert await bms.servers.can_reset_password(SERVER_ID) is can

        assert line(only(cloud)) == ("GET", f"{SERVER}/os-resetpwd-flag", None)


async def test_a_password_is_reset() -> None:
    async with mocked() as (bms, cloud):
        cloud.put(f"{SERVER}/os-reset-password").respond(204)

        await bms.servers.reset_password(SERVER_ID, PASSWORD)

        body = {"reset-password": {"new_password": PASSWORD}}
        assert line(only(cloud)) == ("PUT", f"{SERVER}/os-reset-password", body)


def job_answer(status: str, **more: Any) -> dict[str, Any]:
    return {"job_id": JOB_ID, "status": status, "entities": {"server_id": SERVER_ID}, **more}


async def begin(bms: BmsClient, call: str) -> JobHandle:
    if call == "attachvolume":
        return await bms.servers.attach_volume(SERVER_ID, VOLUME)
    if call == "reinstallos":
        return await bms.servers.reinstall_os(SERVER_ID, key_name="k")
    return await bms.servers.detach_volume(SERVER_ID, ATTACHMENT)


@pytest.mark.parametrize("call", ["attachvolume", "reinstallos", f"detachvolume/{ATTACHMENT}"])
def test_a_job_is_watched_to_its_end(call: str) -> None:
    @virtually
    async def run() -> None:
        async with mocked() as (bms, cloud):
            cloud.route(url=f"{SERVER}/{call}").respond(json=ACCEPTED)
            cloud.get(f"{BASE}/jobs/{JOB_ID}").mock(
                side_effect=[httpx.Response(200, json=job_answer(status)) for status in ("INIT", "RUNNING", "SUCCESS")]
            )

            job = await begin(bms, call)
            done = await job

            assert done.status == "SUCCESS"
            # The job shows no sub-jobs, and is still about the one server.
            assert (await job.sub_job(SERVER_ID)).status == "SUCCESS"

    run()


@virtually
async def test_a_job_that_fails_says_why() -> None:
    async with mocked() as (bms, cloud):
        cloud.post(f"{SERVER}/attachvolume").respond(json=ACCEPTED)
        cloud.get(f"{BASE}/jobs/{JOB_ID}").respond(
            json=job_answer("FAIL", error_code="BMS.0029", fail_reason="the disk is taken")
        )

        job = await bms.servers.attach_volume(SERVER_ID, VOLUME)

        with pytest.raises(JobFailedError, match=r"BMS\.0029: the disk is taken"):
            await job
        assert (await job.sub_job(SERVER_ID)).error_code == "BMS.0029"


@pytest.mark.parametrize("call", ["attachvolume", "reinstallos", f"detachvolume/{ATTACHMENT}"])
async def test_an_answer_without_a_job_cannot_be_read(call: str) -> None:
    async with mocked() as (bms, cloud):
        cloud.route(url=f"{SERVER}/{call}").respond(json={"job_id": ""})

        with pytest.raises(DecodeError, match="expected the id of a job, got none"):
            await begin(bms, call)


@pytest.mark.parametrize(
    ("call", "tries"), [("attachvolume", 1), ("reinstallos", 1), (f"detachvolume/{ATTACHMENT}", 1)]
)
def test_what_would_be_done_twice_is_not_sent_twice(call: str, tries: int) -> None:
    @virtually
    async def run() -> None:
        async with mocked() as (bms, cloud):
            cloud.route(url=f"{SERVER}/{call}").mock(side_effect=httpx.ReadError("cut"))

            with pytest.raises(TransportError) as caught:
                await begin(bms, call)

            assert caught.value.maybe_done
            assert len(sent(cloud)) == tries

    run()


@pytest.mark.parametrize("cut", [0, 3, 200])
async def test_a_refusal_that_echoes_a_secret_is_told_without_it(cut: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    data = "#!/bin/sh\necho root:Sesame!Open77 | chpasswd\n"
    encoded = b64encode(data.encode()).decode()
    async with mocked() as (bms, cloud):
        # The error keeps 256 characters, wherever in the secret that may be.
        padding = "x" * cut
        cloud.put(f"{SERVER}/os-reset-password").respond(
            400, json=error("BMS.0001", f"{padding}the password {PASSWORD} is weak")
        )
        cloud.post(f"{SERVER}/reinstallos").respond(400, json=error("BMS.0001", f"{padding} {encoded * 5} is bad"))

        with pytest.raises(ApiError) as reset:
            await bms.servers.reset_password(SERVER_ID, PASSWORD)
        with pytest.raises(ApiError) as reinstalled:
            await bms.servers.reinstall_os(SERVER_ID, user_data=data)

    for caught in (reset.value, reinstalled.value):
        shown = f"{caught} {caught!r} {caught.message} {caught.__dict__} {caplog.text}"
        assert PASSWORD not in shown
        assert encoded[:8] not in shown
        assert "***" in str(caught)
        assert caught.code == "BMS.0001"
