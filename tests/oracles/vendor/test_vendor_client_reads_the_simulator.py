"""The vendor's own client drives the simulator, call by call, and finds in every answer what it expects there.

The simulator is what the SDK is tried with, and both were written from the same reading of the reference. The vendor's
client was not: it signs its requests, names its fields and reads its answers its own way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from huaweicloudsdkbms import v1 as vendor
from huaweicloudsdkcore.exceptions import exceptions

from tests.oracles.vendor._helpers import Simulator, finish, serving

SERVERS = 40
FLAGS = ["--servers", str(SERVERS), "--seed", "3", "--fail-share", "0.3"]
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z?")


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with serving(*FLAGS) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def bms(simulator: Simulator) -> Any:
    return simulator.client()


@pytest.fixture(scope="module")
def servers(bms: Any) -> list[Any]:
    listed = bms.list_bare_metal_servers(vendor.ListBareMetalServersRequest(limit=1000, offset=1)).servers
    assert isinstance(listed, list)
    return listed


def show(bms: Any, server_id: str) -> Any:
    return bms.list_bare_metal_server_details(vendor.ListBareMetalServerDetailsRequest(server_id=server_id)).server


def test_the_vendor_lists_all_servers(bms: Any, servers: list[Any]) -> None:
    assert len(servers) == SERVERS
    assert {type(server) for server in servers} == {vendor.ServerDetails}
    assert len({server.id for server in servers}) == SERVERS


def test_the_vendor_pages_by_number_and_size(bms: Any, servers: list[Any]) -> None:
    pages = [bms.list_bare_metal_servers(vendor.ListBareMetalServersRequest(limit=15, offset=n)) for n in (1, 2, 3, 4)]
    assert [page.count for page in pages] == [SERVERS] * 4
    assert [len(page.servers) for page in pages] == [15, 15, 10, 0]
    assert [server.id for page in pages for server in page.servers] == [server.id for server in servers]


def test_the_vendor_lists_25_servers_when_it_does_not_say_how_many(bms: Any) -> None:
    page = bms.list_bare_metal_servers(vendor.ListBareMetalServersRequest())
    assert (page.count, len(page.servers)) == (SERVERS, 25)


@pytest.mark.parametrize("field", ["name", "status", "flavor"])
def test_the_vendor_filters(bms: Any, servers: list[Any], field: str) -> None:
    wanted = servers[7].flavor.id if field == "flavor" else getattr(servers[7], field)
    found = bms.list_bare_metal_servers(vendor.ListBareMetalServersRequest(limit=1000, **{field: wanted}))
    assert servers[7].id in {server.id for server in found.servers}
    assert found.count == len(found.servers)


@pytest.mark.parametrize("shown", [False, True], ids=["listed", "shown"])
def test_the_vendor_reads_every_documented_field_of_a_server(bms: Any, servers: list[Any], shown: bool) -> None:
    server = show(bms, servers[0].id) if shown else servers[0]
    assert isinstance(server, vendor.ServerDetails)
    texts = [
        "id", "name", "user_id", "tenant_id", "host_id", "key_name", "status", "description", "host_status",
        "os_ext_st_svm_state", "os_ext_srv_att_rhost", "os_ext_srv_att_rinstance_name", "os_dc_fdisk_config",
        "os_ext_srv_att_rhypervisor_hostname", "os_ext_a_zavailability_zone", "os_ext_srv_att_rhostname",
        "os_ext_srv_att_rreservation_id", "os_ext_srv_att_rroot_device_name", "enterprise_project_id",
    ]  # fmt: skip
    assert {name: type(getattr(server, name)) for name in texts} == dict.fromkeys(texts, str)
    assert all(getattr(server, name) for name in texts)
    for name in ("created", "updated", "os_srv_us_glaunched_at"):
        assert MOMENT.fullmatch(getattr(server, name)), name
    for name in ("progress", "os_ext_st_spower_state", "os_ext_srv_att_rlaunch_index"):
        assert type(getattr(server, name)) is int, name
    assert server.locked is False
    assert "__type_baremetal" in server.tags
    ((network, addresses),) = server.addresses.items()
    assert isinstance(network, str)
    assert [type(address) for address in addresses] == [vendor.AddressInfo]
    assert (addresses[0].version, addresses[0].os_ext_ip_stype) == ("4", "fixed")
    assert addresses[0].addr.startswith("10.")
    assert addresses[0].os_ext_ips_ma_cmac_addr.startswith("fa:16:")
    assert isinstance(server.flavor, vendor.FlavorInfos)
    assert server.flavor.id.startswith("physical.")
    assert all(getattr(server.flavor, name).isdecimal() for name in ("disk", "vcpus", "ram"))
    assert isinstance(server.image, vendor.ImageInfo)
    assert server.image.id
    assert isinstance(server.metadata, vendor.MetadataList)
    assert server.metadata.metering_resourcetype == "__type_baremetal"
    assert server.metadata.vpc_id == network
    assert [type(each) for each in server.security_groups] == [vendor.SecurityGroupsList]
    assert [type(each) for each in server.sys_tags] == [vendor.SystemTags]
    assert isinstance(server.osscheduler_hints, vendor.SchedulerHints)


def batch(ids: list[str]) -> list[Any]:
    return [vendor.ServersList(id=each) for each in ids]


def order(bms: Any, action: str, ids: list[str]) -> Any:
    if action == "stop":
        body = vendor.OsStopBody(os_stop=vendor.OsStopBodyType(type="HARD", servers=batch(ids)))
        return bms.batch_stop_baremetal_servers(vendor.BatchStopBaremetalServersRequest(body=body))
    if action == "start":
        body = vendor.OsStartBody(os_start=vendor.StartServersInfo(servers=batch(ids)))
        return bms.batch_start_baremetal_servers(vendor.BatchStartBaremetalServersRequest(body=body))
    body = vendor.RebootBody(reboot=vendor.ServersInfoType(type="HARD", servers=batch(ids)))
    return bms.batch_reboot_baremetal_servers(vendor.BatchRebootBaremetalServersRequest(body=body))


def test_the_vendor_stops_starts_and_reboots_and_follows_the_jobs(bms: Any, servers: list[Any]) -> None:
    # Each works on those that the one before got through, for a server in the wrong state would be refused.
    ids = [server.id for server in servers[:20] if server.status == "ACTIVE"]
    for action, state in (("stop", "SHUTOFF"), ("start", "ACTIVE"), ("reboot", "ACTIVE")):
        job = finish(bms, order(bms, action, ids).job_id)
        assert isinstance(job.entities, vendor.Entities)
        subs = job.entities.sub_jobs
        assert {type(sub) for sub in subs} == {vendor.SubJobs}
        assert {type(sub.entities) for sub in subs} == {vendor.Entitie}
        assert job.entities.sub_jobs_total == len(subs) == len(ids)
        assert {sub.entities.server_id for sub in subs} == set(ids)
        assert {sub.status for sub in subs} <= {"SUCCESS", "FAIL"}
        failed = [sub for sub in subs if sub.status == "FAIL"]
        assert job.status == ("FAIL" if failed else "SUCCESS")
        for each in (job, *subs):
            assert isinstance(each.job_id, str)
            assert isinstance(each.job_type, str)
            assert MOMENT.fullmatch(each.begin_time)
            assert MOMENT.fullmatch(each.end_time)
            assert each.begin_time <= each.end_time
        for each in failed:
            assert re.fullmatch(r"BMS\.\d{4}", each.error_code)
            assert each.fail_reason
        if action == "stop":
            # On three in ten of the servers every operation fails, so both ends of a sub-job were read.
            assert 0 < len(failed) < len(ids)
        ids = [sub.entities.server_id for sub in subs if sub.status == "SUCCESS"]
        assert {show(bms, each).status for each in ids} == {state}


def test_the_vendor_reads_a_job_that_is_not_over(bms: Any, servers: list[Any]) -> None:
    accepted = order(bms, "reboot", [server.id for server in servers[20:]])
    assert isinstance(accepted, vendor.BatchRebootBaremetalServersResponse)
    assert re.fullmatch(r"[0-9a-f]{32}", accepted.job_id)
    job = bms.show_job_infos(vendor.ShowJobInfosRequest(job_id=accepted.job_id))
    assert isinstance(job, vendor.ShowJobInfosResponse)
    assert job.job_id == accepted.job_id
    assert job.status in ("INIT", "RUNNING", "SUCCESS", "FAIL")
    assert job.entities.sub_jobs_total == 20
    assert finish(bms, accepted.job_id).job_id == accepted.job_id


@pytest.mark.parametrize(
    ("ask", "status"),
    [
        (lambda bms: show(bms, "no-such-server"), 404),
        (lambda bms: bms.show_job_infos(vendor.ShowJobInfosRequest(job_id="no-such-job")), 404),
        (lambda bms: order(bms, "stop", []), 400),
        (lambda bms: bms.list_bare_metal_servers(vendor.ListBareMetalServersRequest(limit=1001)), 400),
    ],
    ids=["server", "job", "empty batch", "page too long"],
)
def test_the_vendor_reads_why_it_was_refused(bms: Any, ask: Any, status: int) -> None:
    with pytest.raises(exceptions.ClientRequestException) as caught:
        ask(bms)
    error = caught.value
    assert error.status_code == status
    assert re.fullmatch(r"BMS\.\d{4}", error.error_code)
    assert error.error_msg
    assert error.request_id


def test_the_vendor_reads_that_its_key_is_not_known(simulator: Simulator) -> None:
    with pytest.raises(exceptions.ClientRequestException) as caught:
        show(simulator.client(access_key="ANOTHERACCESSKEY"), "s-1")
    assert caught.value.status_code == 401
    assert caught.value.error_code
    assert caught.value.request_id


def refusal(bms: Any) -> Any:
    with pytest.raises(exceptions.ClientRequestException) as caught:
        order(bms, "stop", [])
    return caught.value


def test_the_vendor_reads_that_it_called_too_often(bms: Any) -> None:
    # An empty batch is counted like any other, and leaves the servers as they are.
    last = [refusal(bms) for _ in range(51)][-1]
    assert last.status_code == 429
    assert last.error_code in ("APIGW.0308", "APIG.0308")
    assert "limit:50,time:1 minute" in last.error_msg
    assert last.request_id
