"""The vendor's own client makes every call that it and the simulator both have, and reads every answer.

Which those are is looked up in its sources: each of its methods names an HTTP method and a path.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest
from huaweicloudsdkbms import v1 as vendor
from huaweicloudsdkcore.exceptions import exceptions
from starlette.routing import Route

from bms_async.simulator import Cloud, CloudSettings, create_app
from tests.oracles.vendor._helpers import Simulator, finish, serving

FLAGS = ["--servers", "12", "--seed", "5", "--windows-share", "0.25"]
VOLUME = "b53f23bd-ee8f-49ec-9420-d1acfeaf91d6"


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    with serving(*FLAGS) as simulator:
        yield simulator


class Recorder:
    """The client, which remembers what was called."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self.called: set[str] = set()

    def __getattr__(self, name: str) -> Any:
        self.called.add(name)
        return getattr(self._client, name)


@pytest.fixture(scope="module")
def bms(simulator: Simulator) -> Any:
    return Recorder(simulator.client())


@pytest.fixture(scope="module")
def servers(bms: Any) -> list[Any]:
    listed = bms.list_bare_metal_servers(vendor.ListBareMetalServersRequest(limit=1000, offset=1)).servers
    assert isinstance(listed, list)
    return listed


@pytest.fixture(scope="module")
def linux(servers: list[Any]) -> Any:
    """A server that boots from its own disks, which nobody touches before the test that asks for it."""
    return next(each for each in servers if each.flavor.id == "physical.o2.medium" and each.metadata.os_type == "Linux")


def show(bms: Any, server_id: str) -> Any:
    return bms.list_bare_metal_server_details(vendor.ListBareMetalServerDetailsRequest(server_id=server_id)).server


def refused(ask: Any) -> tuple[int, str]:
    with pytest.raises(exceptions.ClientRequestException) as caught:
        ask()
    return caught.value.status_code, caught.value.error_code


def power(bms: Any, action: str, server_id: str) -> None:
    ids = [vendor.ServersList(id=server_id)]
    if action == "stop":
        stop = vendor.OsStopBody(os_stop=vendor.OsStopBodyType(type="HARD", servers=ids))
        answer = bms.batch_stop_baremetal_servers(vendor.BatchStopBaremetalServersRequest(body=stop))
    elif action == "start":
        start = vendor.OsStartBody(os_start=vendor.StartServersInfo(servers=ids))
        answer = bms.batch_start_baremetal_servers(vendor.BatchStartBaremetalServersRequest(body=start))
    else:
        reboot = vendor.RebootBody(reboot=vendor.ServersInfoType(type="HARD", servers=ids))
        answer = bms.batch_reboot_baremetal_servers(vendor.BatchRebootBaremetalServersRequest(body=reboot))
    assert finish(bms, answer.job_id).status == "SUCCESS"


def test_it_reads_a_version(bms: Any) -> None:
    version = bms.show_specified_version(vendor.ShowSpecifiedVersionRequest(api_version="v1")).version
    assert (version.id, version.status) == ("v1", "CURRENT")
    assert isinstance(version.updated, datetime)
    assert version.links[0].rel == "self"


def test_it_renames_a_server_and_reads_the_native_shape_of_the_answer(bms: Any, linux: Any) -> None:
    body = vendor.ChangeBaremetalNameBody(server=vendor.ChangeBaremetalNameServer(name="new-name.1"))
    request = vendor.ChangeBaremetalServerNameRequest(server_id=linux.id, body=body)
    server = bms.change_baremetal_server_name(request).server
    assert (server.id, server.name, server.status) == (linux.id, "new-name.1", "ACTIVE")
    assert isinstance(server.created, datetime)
    assert isinstance(server.os_srv_us_glaunched_at, datetime)
    assert server.flavor.id == "physical.o2.medium"
    assert server.flavor.links[0].href
    assert server.os_ext_srv_att_rhostname == linux.os_ext_srv_att_rhostname
    assert (show(bms, linux.id).name, show(bms, linux.id).os_ext_srv_att_rhostname) == ("new-name.1", linux.name)
    body.server.name = "bad name"
    assert refused(lambda: bms.change_baremetal_server_name(request)) == (400, "BMS.0206")


def test_it_reads_flavors(bms: Any) -> None:
    request = vendor.ListBaremetalFlavorDetailExtendsRequest(availability_zone="az-sim-1")
    flavors = {each.id: each for each in bms.list_baremetal_flavor_detail_extends(request).flavors}
    assert {type(each) for each in flavors.values()} == {vendor.FlavorsResp}
    assert all(name.startswith("physical.") for name in flavors)
    one = flavors["physical.d1.large"]
    assert (one.vcpus, one.ram, one.disk) == ("48", 262144, "7200")
    assert one.os_extra_specs.condoperationaz == "az-sim-1(normal), az-sim-2(sellout)"
    assert one.os_extra_specs.condoperationstatus == "abandon"
    assert one.os_extra_specs.baremetal__support_evs is None
    assert flavors["physical.h2.large"].os_extra_specs.baremetalext_boot_type == "Volume"
    assert flavors["physical.h2.large"].os_extra_specs.baremetal__support_evs == "true"


def test_it_reads_network_cards(bms: Any, linux: Any) -> None:
    request = vendor.ShowBaremetalServerInterfaceAttachmentsRequest(server_id=linux.id)
    (card,) = bms.show_baremetal_server_interface_attachments(request).interface_attachments
    ((address,),) = linux.addresses.values()
    assert (card.port_state, card.mac_addr) == ("ACTIVE", address.os_ext_ips_ma_cmac_addr)
    assert card.port_id == address.os_ext_ip_sport_id
    assert [each.ip_address for each in card.fixed_ips] == [address.addr]


def volumes(bms: Any, server_id: str) -> list[tuple[str, str]]:
    request = vendor.ShowBaremetalServerVolumeInfoRequest(server_id=server_id)
    found = bms.show_baremetal_server_volume_info(request).volume_attachments
    assert all(each.server_id == server_id and each.id == each.volume_id for each in found)
    return [(each.volume_id, each.device) for each in found]


def test_it_attaches_and_detaches_a_disk(bms: Any, linux: Any) -> None:
    assert volumes(bms, linux.id) == []
    wish = vendor.VolumeAttachment(volume_id=VOLUME, device="")
    request = vendor.AttachBaremetalServerVolumeRequest(
        server_id=linux.id, body=vendor.AttachVolumeBody(volume_attachment=wish)
    )
    job = finish(bms, bms.attach_baremetal_server_volume(request).job_id)
    assert (job.status, job.job_type, job.entities.server_id) == ("SUCCESS", "baremetalAttachVolume", linux.id)
    assert (job.entities.sub_jobs_total, job.entities.sub_jobs) == (0, [])
    assert volumes(bms, linux.id) == [(VOLUME, "/dev/sdb")]
    assert refused(lambda: bms.attach_baremetal_server_volume(request)) == (400, "BMS.1009")
    away = vendor.DetachBaremetalServerVolumeRequest(server_id=linux.id, attachment_id=VOLUME)
    job = finish(bms, bms.detach_baremetal_server_volume(away).job_id)
    assert (job.status, job.job_type) == ("SUCCESS", "baremetalDetachVolume")
    assert volumes(bms, linux.id) == []
    assert refused(lambda: bms.detach_baremetal_server_volume(away)) == (400, "BMS.0114")


def test_it_updates_metadata(bms: Any, linux: Any) -> None:
    body = vendor.UpdateBaremetalServerMetadataReq(metadata={"colour": "red"})
    request = vendor.UpdateBaremetalServerMetadataRequest(server_id=linux.id, body=body)
    assert bms.update_baremetal_server_metadata(request).metadata["colour"] == "red"
    body.metadata = {"bad key": "x"}
    assert refused(lambda: bms.update_baremetal_server_metadata(request)) == (400, "BMS.0018")


def test_it_reads_quotas(bms: Any, servers: list[Any]) -> None:
    quotas = bms.show_tenant_quota(vendor.ShowTenantQuotaRequest()).absolute
    assert all(type(value) is int for value in quotas.to_dict().values())
    used = bms.list_bare_metal_servers(vendor.ListBareMetalServersRequest(limit=1000)).servers
    assert quotas.total_instances_used == len(used) >= len(servers)
    assert quotas.total_cores_used == sum(int(each.flavor.vcpus) for each in used)
    assert quotas.total_ram_used == sum(int(each.flavor.ram) for each in used)
    assert quotas.max_total_instances == quotas.max_total_cores == quotas.max_total_ram_size == -1


def test_it_reads_and_deletes_the_password_of_a_windows_server(bms: Any, servers: list[Any]) -> None:
    windows = [each for each in servers if each.metadata.os_type == "Windows"]
    assert len(windows) == 3
    ask = vendor.ShowWindowsBaremetalServerPwdRequest(server_id=windows[0].id)
    assert bms.show_windows_baremetal_server_pwd(ask).password
    forget = vendor.DeleteWindowsBareMetalServerPasswordRequest(server_id=windows[0].id)
    bms.delete_windows_bare_metal_server_password(forget)
    assert bms.show_windows_baremetal_server_pwd(ask).password == ""
    flag = bms.show_reset_pwd(vendor.ShowResetPwdRequest(server_id=windows[0].id))
    assert flag.resetpwd_flag == "False"


def test_it_resets_a_password(bms: Any, linux: Any) -> None:
    assert bms.show_reset_pwd(vendor.ShowResetPwdRequest(server_id=linux.id)).resetpwd_flag == "True"
    body = vendor.ResetPasswordBody(reset_password=vendor.ResetPassword(new_password="Simulated-1"))
    request = vendor.ResetPwdOneClickRequest(server_id=linux.id, body=body)
    bms.reset_pwd_one_click(request)
    body.reset_password.new_password = "short"
    assert refused(lambda: bms.reset_pwd_one_click(request)) == (400, "BMS.3039")


def test_it_reinstalls_the_system_of_a_server_that_is_off(bms: Any, linux: Any) -> None:
    body = vendor.OsReinstallBody(os_reinstall=vendor.OsReinstall(keyname="KeyPair-simulated"))
    request = vendor.ReinstallBaremetalServerOsRequest(server_id=linux.id, body=body)
    assert refused(lambda: bms.reinstall_baremetal_server_os(request)) == (400, "BMS.0018")
    power(bms, "stop", linux.id)
    job = finish(bms, bms.reinstall_baremetal_server_os(request).job_id)
    assert (job.status, job.job_type, job.entities.server_id) == ("SUCCESS", "baremetalReinstallOs", linux.id)
    assert show(bms, linux.id).status == "ACTIVE"
    power(bms, "stop", linux.id)
    power(bms, "start", linux.id)
    power(bms, "reboot", linux.id)


def test_it_creates_servers(bms: Any) -> None:
    wish = vendor.CreateServers(
        image_ref="1a6635d8-afea-4f2b-abb6-27a202bad319",
        flavor_ref="physical.o2.medium",
        name="made",
        availability_zone="az-sim-2",
        vpcid="0dae26c9-9a70-4392-93f3-87d53115d171",
        nics=[vendor.Nics(subnet_id="157ee789-03ea-45b1-a698-76c92660dd83")],
        key_name="KeyPair-simulated",
        count=2,
        security_groups=[vendor.SecurityGroupsInfo(id="507ca48f-814c-4293-8706-300564d54620")],
        server_tags=[vendor.SystemTags(key="team", value="red")],
    )
    body = vendor.CreateBaremetalServersBody(server=wish)
    request = vendor.CreateBareMetalServersRequest(body=body)
    answer = bms.create_bare_metal_servers(request)
    assert answer.order_id.startswith("CS")
    job = finish(bms, answer.job_id)
    assert (job.status, job.job_type, job.entities.sub_jobs_total) == ("SUCCESS", "baremetalBatchCreate", 2)
    assert {each.job_type for each in job.entities.sub_jobs} == {"baremetalSingleCreate"}
    made = [show(bms, each.entities.server_id) for each in job.entities.sub_jobs]
    assert [each.name for each in made] == ["made-0001", "made-0002"]
    assert {each.status for each in made} == {"ACTIVE"}
    assert made[0].tags == ["__type_baremetal", "team=red"]
    assert made[0].os_ext_srv_att_rreservation_id == made[1].os_ext_srv_att_rreservation_id
    assert list(made[0].addresses) == [wish.vpcid]
    wish.key_name = None
    assert refused(lambda: bms.create_bare_metal_servers(request)) == (400, "BMS.0111")


def vendor_calls() -> dict[str, tuple[str, str]]:
    """The client's methods, and the HTTP method and path of each."""
    calls = {}
    for name, function in inspect.getmembers(vendor.BmsClient):
        made = re.fullmatch(r"_(\w+)_http_info", name)
        if made:
            source = inspect.getsource(function)
            method, path = (re.search(rf'"{key}": "([^"]+)"', source) for key in ("method", "resource_path"))
            assert method
            assert path
            calls[made[1]] = method[1], re.sub(r"{\w+}", "{}", path[1])
    return calls


def served_calls() -> set[tuple[str, str]]:
    routes = [route for route in create_app(Cloud(CloudSettings(servers=1))).routes if isinstance(route, Route)]
    return {(method, re.sub(r"{[\w:]+}", "{}", route.path)) for route in routes for method in route.methods or ()}


def test_every_call_that_both_have_was_made(bms: Any, request: pytest.FixtureRequest) -> None:
    chosen = {item.name.partition("[")[0] for item in request.session.items}
    if not {name for name in globals() if name.startswith("test_")} <= chosen:
        pytest.skip("only some of this module's tests were run")
    calls, served = vendor_calls(), served_calls()
    shared = {name for name, call in calls.items() if call in served}
    assert shared - bms.called == set()
    # What the reference does not know is not served.
    assert {calls[name][1].rpartition("{}")[2] for name in calls.keys() - shared} == {
        "/nics", "/nics/delete", "/tags", "/tags/action", "/changeos", "/remote_console", "/metadata-options",
        "/baremetalservers/delete", "/baremetalservers/detail", "/baremetalservers/available_resource", "",
    }  # fmt: skip
