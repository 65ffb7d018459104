"""Ordering servers: what is sent, and the job down to the new servers' ids."""

from __future__ import annotations

import json
from base64 import b64encode
from types import MappingProxyType
from typing import Any

import httpx
import pytest

from bms_async import (
    Bandwidth,
    BmsClient,
    CreationJob,
    DataVolume,
    EipExtendParam,
    ExtendParam,
    InvalidRequestError,
    JobHandle,
    NewEip,
    Nic,
    PublicIp,
    RootVolume,
    TransportError,
)
from tests.support.mocked import BASE, error, mocked, sent, virtually

SERVERS = f"{BASE}/baremetalservers"
ORDERED = {"order_id": "CS2009141523OQSEQ", "job_id": "ff80801748b760c01748b7f80370003"}
JOB = f"{BASE}/jobs/{ORDERED['job_id']}"
PASSWORD = "Sesame!Open77"
LEAST: dict[str, Any] = {
    "name": "rack-7",
    "image_id": "1a6635d8-afea-4f2b-abb6-27a202bad319",
    "flavor_id": "physical.o2.medium",
    "availability_zone": "az-dc-1",
    "vpc_id": "0dae26c9-9a70-4392-93f3-87d53115d171",
    "nics": [Nic(subnet_id="157ee789-03ea-45b1-a698-76c92660dd83")],
}
LEAST_SENT: dict[str, Any] = {
    "name": "rack-7",
    "imageRef": "1a6635d8-afea-4f2b-abb6-27a202bad319",
    "flavorRef": "physical.o2.medium",
    "availability_zone": "az-dc-1",
    "vpcid": "0dae26c9-9a70-4392-93f3-87d53115d171",
    "nics": [{"subnet_id": "157ee789-03ea-45b1-a698-76c92660dd83"}],
}


async def create(bms: BmsClient, **more: Any) -> CreationJob:
    return await bms.servers.create(**{**LEAST, **more})


async def test_the_least_that_a_server_needs() -> None:
    async with mocked() as (bms, cloud):
        cloud.post(SERVERS).respond(json=ORDERED)

        job = await create(bms)

        (request,) = sent(cloud)
        assert (request.method, str(request.url)) == ("POST", SERVERS)
        assert json.loads(request.content) == {"server": LEAST_SENT}
        assert isinstance(job, JobHandle)
        assert (job.id, job.order_id, job.action) == (ORDERED["job_id"], ORDERED["order_id"], "servers.create")
        assert job.server_ids == ()


async def test_everything_that_a_server_can_have() -> None:
    eip = NewEip(
        type="5_bgp",
        bandwidth=Bandwidth(share_type="PER", size=10, charge_mode="traffic", name="bw"),
        extend_param=EipExtendParam(charging_mode="postPaid"),
    )
    async with mocked() as (bms, cloud):
        cloud.post(SERVERS).respond(202, json=ORDERED)

        await create(
            bms,
            nics=(Nic(subnet_id="net-a", ip_address="192.168.0.4"), Nic(subnet_id="net-b")),
            count=2,
            key_name="ops key",
            metadata=MappingProxyType({"op_svc_userid": "u"}),
            user_data=b"#!/bin/sh\n",
            security_groups=["group-a", "group-b"],
            public_ip=PublicIp(eip=eip),
            root_volume=RootVolume(type="SSD", size=40, metadata={"__system__encrypted": "0"}),
            data_volumes=[
                DataVolume(type="SAS", size=100, shareable=True),
                DataVolume(type="SAS", size=10, cluster_id="pool", cluster_type="DSS"),
            ],
            extend_param=ExtendParam(
                charging_mode="prePaid",
                region_id="region",
                period_type="month",
                period_num=1,
                auto_renew=False,
                auto_pay=True,
                enterprise_project_id="0",
            ),
            placement="dedicate",
            server_tags={"rack": "7", "empty": ""},
        )

        assert json.loads(sent(cloud)[0].content)["server"] == {
            **LEAST_SENT,
            "nics": [{"subnet_id": "net-a", "ip_address": "192.168.0.4"}, {"subnet_id": "net-b"}],
            "count": 2,
            "key_name": "ops key",
            "metadata": {"op_svc_userid": "u"},
            "user_data": b64encode(b"#!/bin/sh\n").decode(),
            "security_groups": [{"id": "group-a"}, {"id": "group-b"}],
            "publicip": {
                "eip": {
                    "iptype": "5_bgp",
                    "bandwidth": {"sharetype": "PER", "size": 10, "chargemode": "traffic", "name": "bw"},
                    "extendparam": {"chargingMode": "postPaid"},
                }
            },
            "root_volume": {"volumetype": "SSD", "size": 40, "metadata": {"__system__encrypted": "0"}},
            "data_volumes": [
                {"volumetype": "SAS", "size": 100, "shareable": True},
                {"volumetype": "SAS", "size": 10, "cluster_id": "pool", "cluster_type": "DSS"},
            ],
            "extendparam": {
                "chargingMode": "prePaid",
                "regionID": "region",
                "periodType": "month",
                "periodNum": 1,
                "isAutoRenew": "false",
                "isAutoPay": "true",
                "enterprise_project_id": "0",
            },
            "schedulerHints": {"dec_baremetal": "dedicate"},
            "server_tags": [{"key": "rack", "value": "7"}, {"key": "empty", "value": ""}],
        }


async def test_a_password_is_sent_in_place_of_a_key_pair() -> None:
    async with mocked() as (bms, cloud):
        cloud.post(SERVERS).respond(json={"job_id": "j"})

        job = await create(bms, admin_password=PASSWORD)

        assert json.loads(sent(cloud)[0].content)["server"] == {**LEAST_SENT, "adminPass": PASSWORD}
        assert job.order_id is None
        assert PASSWORD not in f"{job!r} {job.to_json()}"


def created(status: str, *servers: str | None) -> httpx.Response:
    subs = [{"status": status, "entities": {"server_id": server}} for server in servers]
    entities = {"sub_jobs_total": 2, "sub_jobs": subs}
    return httpx.Response(200, json={"job_id": ORDERED["job_id"], "status": status, "entities": entities})


@virtually
async def test_the_job_is_watched_down_to_the_new_servers() -> None:
    async with mocked() as (bms, cloud):
        cloud.post(SERVERS).respond(json=ORDERED)
        cloud.get(JOB).mock(
            side_effect=[created("INIT"), created("RUNNING", "new-a", None), created("SUCCESS", "new-b", "new-a")]
        )

        job = await create(bms, count=2)
        ids = [sub.server_id async for sub in job.sub_jobs()]
        done = await job

        assert sorted(filter(None, ids)) == ["new-a", "new-b"]
        assert done.status == "SUCCESS"
        assert job.server_ids == ("new-b", "new-a")
        assert (await job.sub_job("new-a")).status == "SUCCESS"


@virtually
async def test_a_single_server_may_be_named_by_the_job_itself() -> None:
    async with mocked() as (bms, cloud):
        cloud.post(SERVERS).respond(json=ORDERED)
        cloud.get(JOB).respond(
            json={"job_id": ORDERED["job_id"], "status": "SUCCESS", "entities": {"server_id": "new-a"}}
        )

        job = await create(bms)
        await job

        assert job.server_ids == ("new-a",)


@virtually
async def test_an_order_is_never_sent_twice() -> None:
    async with mocked() as (bms, cloud):
        cloud.post(SERVERS).mock(side_effect=httpx.ReadTimeout("late"))

        with pytest.raises(TransportError) as caught:
            await create(bms)

        assert caught.value.maybe_delivered
        assert len(sent(cloud)) == 1


@pytest.mark.parametrize(
    "secret",
    [
        {"admin_password": PASSWORD},
        {"user_data": PASSWORD},
        {"metadata": {"admin_pass": PASSWORD}},
    ],
    ids=lambda secret: next(iter(secret)),
)
async def test_a_refusal_that_echoes_the_request_is_told_without_secrets(secret: dict[str, Any]) -> None:
    async with mocked() as (bms, cloud):
        cloud.post(SERVERS).mock(
            side_effect=lambda request: httpx.Response(400, json=error("BMS.0001", request.content.decode()[-200:]))
        )

        with pytest.raises(Exception, match=r"BMS\.0001") as caught:
            await create(bms, **secret)

        shown = f"{caught.value} {caught.value!r} {vars(caught.value)}"
        assert PASSWORD not in shown
        assert b64encode(PASSWORD.encode()).decode() not in shown


MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"name": ""}, "name"),
    ({"name": "x" * 256}, "name"),
    ({"image_id": "a b"}, "image_id"),
    ({"flavor_id": ""}, "flavor_id"),
    ({"availability_zone": None}, "availability_zone"),
    ({"vpc_id": "a/b"}, "vpc_id"),
    ({"nics": []}, "nics"),
    ({"nics": Nic(subnet_id="a")}, "nics"),
    ({"nics": [{"subnet_id": "a"}]}, "nics"),
    ({"nics": [Nic(subnet_id="a"), Nic(subnet_id="")]}, "nics[1].subnet_id"),
    ({"count": 0}, "count"),
    ({"count": True}, "count"),
    ({"count": 1.5}, "count"),
    ({"key_name": "k", "admin_password": PASSWORD}, "key_name"),
    ({"key_name": " "}, "key_name"),
    ({"metadata": {"": "a"}}, "metadata"),
    ({"metadata": {"a": "\ud800"}}, "metadata['a']"),
    ({"user_data": "x" * 32769}, "user_data"),
    ({"user_data": 5}, "user_data"),
    ({"security_groups": ["a", "b c"]}, "security_groups[1]"),
    ({"data_volumes": [RootVolume(type="SAS", size=1)]}, "data_volumes"),
    ({"server_tags": ["a"]}, "server_tags"),
    ({"server_tags": {"": "a"}}, "server_tags"),
    ({"server_tags": {"a": 7}}, "server_tags"),
]


@pytest.mark.parametrize(("change", "argument"), MISTAKES, ids=str)
async def test_a_mistake_is_refused_before_anything_is_sent(change: dict[str, Any], argument: str) -> None:
    async with mocked() as (bms, cloud):
        with pytest.raises(InvalidRequestError) as caught:
            await create(bms, **change)

        assert sent(cloud) == []
        assert caught.value.argument == argument
        assert str(caught.value).startswith(f"{argument}=")
        assert str(caught.value).endswith(f": {caught.value.rule}")


@pytest.mark.parametrize("secret", ["short", "x" * 27, "alllowercase", "Root12345!", "Toor12345!", "Abc123!\udfff!", 7])
async def test_an_invalid_password_is_refused_and_not_told(secret: Any) -> None:
    async with mocked() as (bms, cloud):
        for refused in (
            lambda: create(bms, admin_password=secret),
            lambda: bms.servers.reset_password("a", secret),
            lambda: bms.servers.reinstall_os("a", admin_password=secret),
        ):
            with pytest.raises(InvalidRequestError) as caught:
                await refused()
            assert caught.value.value is None
            assert str(secret) not in f"{caught.value!r} {vars(caught.value)}"
            assert caught.value.__cause__ is caught.value.__context__ is None

        assert sent(cloud) == []
