"""Every example that the reference prints: answers are read, requests are what we send."""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from ipaddress import ip_address
from typing import Any, NamedTuple, TypeAlias

import httpx
import msgspec
import pytest
import respx

import bms_async.api
from bms_async import BmsClient
from bms_async.errors import ApiError, NotFoundError
from bms_async.models import BriefServer, Flavor, Network, Server, VolumeAttachment, decode
from bms_async.wire import HttpResponse, Operation, read_error, read_response
from tests.api.every_call.calls import shape_of
from tests.reference import examples as printed
from tests.reference.examples import EXAMPLES, Example, repair
from tests.support.mocked import ENDPOINT, PROJECT, mocked, virtually

SERVER_ID = "53206ed0-56de-4d6b-b7ee-ffc62ca26f43"
OTHER_ID = "95bf2490-5428-432c-ad9b-5e3406f869dd"
VPC = "08a7715f-7de6-4ff9-a343-95ba4209f24a"


class Answer(NamedTuple):
    """An example of an answer: the operation that brings it, and what of it is looked at."""

    example: Example
    operation: str
    look: Callable[[Any], tuple[object, ...]]
    expected: tuple[object, ...]


def moment(*parts: int) -> datetime:
    return datetime(*parts, tzinfo=UTC)  # type: ignore[misc,arg-type]


def page(answer: Any, into: type[Any]) -> list[Any]:
    """Read the rows of a page, which are decoded when the reader comes to them."""
    return [decode(raw, into) for raw in answer.servers]


def look_at_native_server(server: Server) -> tuple[object, ...]:
    (address,) = server.addresses[VPC]
    return (
        server.id,
        server.tenant_id,
        server.status,
        server.vm_state,
        server.task_state,
        server.power_state,
        server.created,
        server.launched_at,
        server.terminated_at,
        server.key_name,
        address.address,
        address.version,
        server.flavor and server.flavor.id,
        server.image and server.image.id,
        [volume.id[:8] for volume in server.volumes_attached],
        dict(server.metadata),
        server.is_bare_metal,
    )


NATIVE_SERVER = (
    OTHER_ID,
    "c685484a8cc2416b97260938705deb65",
    "ACTIVE",
    "active",
    None,
    1,
    moment(2017, 5, 24, 6, 14, 5),
    moment(2017, 5, 25, 3, 40, 25, 66078),
    None,
    "KeyPair-JX",
    "192.168.0.107",
    4,
    "physical.83.medium",
    "1a6635d8-afea-4f2b-abb6-27a202bad319",
    ["dfa375b5", "bb9f1b27", "86e801c3", "0994d3ac"],
    {"op_svc_userid": "1311c433dd9b408886f57d695c229cbe"},
    True,
)

JOB_ID = ("70a599e0-31e7-49b7-b260-868f441e862b", None)

ANSWERS = (
    Answer(
        printed.VERSIONS_ANSWER,
        "versions.list",
        lambda answer: tuple(
            (each.id, each.status, each.updated, each.min_version, each.links[0].href) for each in answer.versions
        ),
        (("v1", "CURRENT", moment(2018, 9, 30), "", "http://bms.xxx.com/v1/"),),
    ),
    Answer(
        printed.VERSION_ANSWER,
        "versions.get",
        lambda answer: (answer.version.id, answer.version.status, answer.version.updated, answer.version.links[0].rel),
        ("v1", "CURRENT", moment(2018, 9, 30), "self"),
    ),
    Answer(
        printed.SERVER_SHOW,
        "servers.get",
        lambda answer: (
            answer.server.id,
            answer.server.name,
            answer.server.status,
            answer.server.power_state,
            answer.server.host_status,
            answer.server.locked,
            answer.server.launched_at,
            answer.server.flavor.ram,
            [(each.address, each.type) for each in answer.server.addresses["5849fdf1-9d79-4589-80c2-fe557990c417"]],
            answer.server.tags,
            answer.server.is_bare_metal,
        ),
        (
            SERVER_ID,
            "bms-test",
            "ACTIVE",
            1,
            "UP",
            False,
            moment(2018, 9, 18, 2, 46, 7, 954587),
            193047,
            [("192.168.1.216", "fixed"), ("10.154.72.77", "floating")],
            ("__type_baremetal",),
            True,
        ),
    ),
    Answer(
        printed.SERVER_LIST,
        "servers.list",
        lambda answer: (
            answer.count,
            [server.status for server in page(answer, Server)],
            [server.flavor.vcpus for server in page(answer, Server)],
            [server.sys_tags[0].value for server in page(answer, Server)],
            page(answer, Server)[1].id,
        ),
        (2, ["ACTIVE", "SHUTOFF"], [32, 32], ["0", "0"], "a1541fcf-8ac3-43e9-a70d-b8d4b395b256"),
    ),
    Answer(
        printed.RENAME_ANSWER,
        "servers.rename",
        lambda answer: (
            answer.server.name,
            answer.server.addresses[VPC][0].port_id,
            answer.server.host,
            answer.server.security_groups[0].name,
            *look_at_native_server(answer.server),
        ),
        (
            "bms-83",
            "0c111191-9785-49e6-8b42-66ef2802bd8f",
            "bms.az-dc-1",
            "0011b620-4982-42e4-ad12-47c95ca495c4",
            *NATIVE_SERVER,
        ),
    ),
    *(
        Answer(printed.ACTION_ANSWER, name, lambda answer: (answer.job_id, answer.order_id), JOB_ID)
        for name in (
            "servers.reinstall_os",
            "servers.start",
            "servers.reboot",
            "servers.stop",
            "servers.attach_volume",
            "servers.detach_volume",
        )
    ),
    Answer(
        printed.ORDER_ANSWER,
        "servers.create",
        lambda answer: (answer.order_id, answer.job_id),
        ("CS2009141523OQSEQ", "ff80801748b760c01748b7f80370003"),
    ),
    Answer(
        printed.FLAVORS_ANSWER,
        "flavors.list",
        lambda answer: tuple(
            (
                each.id,
                each.vcpus,
                each.ram,
                each.disk,
                each.is_public,
                each.disabled,
                each.rxtx_factor,
                each.extra_specs.cpu_arch,
                each.extra_specs.board_type,
                each.extra_specs.max_nics,
                each.boot_source,
                each.supports_volumes,
                [link.rel for link in each.links],
            )
            for each in answer.flavors
        ),
        (
            (
                "physical.kl1.3xlarge",
                24,
                321729,
                6707,
                False,
                False,
                1.0,
                "x86_64",
                "o2m",
                2,
                "LocalDisk",
                True,
                ["self", "bookmark"],
            ),
        ),
    ),
    Answer(
        printed.INTERFACES_ANSWER,
        "servers.list_interfaces",
        lambda answer: tuple(
            (each.port_state, each.port_id, each.mac_address, each.fixed_ips[0].ip_address, each.driver_mode)
            for each in answer.interfaces
        ),
        (("ACTIVE", "bb585b04-f2a2-4528-9064-fd0aeb4e15a9", "fa:16:3e:3b:58:fc", "192.168.1.147", None),),
    ),
    Answer(
        printed.VOLUMES_ANSWER,
        "servers.list_volumes",
        lambda answer: tuple((each.device, each.id, each.volume_id, each.server_id) for each in answer.volumes),
        tuple(
            (device, *[f"a26887c6-c47b-4654-abb5-dfadf7d3f80{last}"] * 2, "4d8c3732-a248-40ed-bebc-539a6ffd25c0")
            for device, last in (("/dev/sdd", 3), ("/dev/sdc", 4))
        ),
    ),
    Answer(
        printed.METADATA_ANSWER,
        "servers.update_metadata",
        lambda answer: (dict(answer.metadata),),
        ({"key": "value"},),
    ),
    Answer(
        printed.QUOTAS_ANSWER,
        "quotas.get",
        lambda answer: (
            answer.absolute.max_total_instances,
            answer.absolute.total_instances_used,
            answer.absolute.max_total_cores,
            answer.absolute.total_ram_used,
            answer.absolute.max_total_keypairs,
            answer.absolute.max_personality_size,
            answer.absolute.max_server_group_members,
            answer.absolute.total_server_groups_used,
        ),
        (100, 21, -1, 799836, 100, 10240, -1, 1),
    ),
    Answer(
        printed.WINDOWS_PASSWORD_ANSWER,
        "servers.get_windows_password",
        lambda answer: (answer.password, answer.is_set, "bm90" in repr(answer)),
        ("bm90IGEgcGFzc3dvcmQ=", True, False),
    ),
    Answer(
        printed.JOB_ANSWER,
        "jobs.get",
        lambda answer: (
            answer.job_id,
            answer.status,
            answer.job_type,
            answer.sub_jobs_total,
            answer.end_time - answer.begin_time == moment(2019, 4, 25, 20, 8, 41, 593000) - answer.begin_time,
            answer.sub_jobs[0].server_id,
            answer.sub_jobs[0].job_type,
            answer.error_code,
        ),
        (
            "2c9eb2c5544cbf6101544f0602af2b4f",
            "SUCCESS",
            "baremetalBatchCreate",
            1,
            True,
            "bae51750-0089-41a1-9b18-5c777978ff6d",
            "baremetalSingleCreate",
            None,
        ),
    ),
    Answer(
        printed.NATIVE_CREATE_ANSWER,
        "nova.servers.create",
        lambda answer: (
            answer.server.id,
            answer.server.admin_password,
            answer.server.disk_config,
            answer.server.security_groups[0].name,
            answer.server.links[1].href,
            "passw0rd" in repr(answer),
        ),
        (
            "9ab74d89-61e7-4259-8546-465fdebe4944",
            "Not-a-passw0rd",
            "MANUAL",
            "default",
            "https://openstack.example.com/c685484a8cc2416b97260938705deb65/servers/9ab74d89-61e7-4259-8546-465fdebe4944",
            False,
        ),
    ),
    Answer(
        printed.NATIVE_SERVER_ANSWER,
        "nova.servers.get",
        lambda answer: (answer.server.name, answer.server.host, *look_at_native_server(answer.server)),
        ("bms-83", "bms.az1", *NATIVE_SERVER),
    ),
    Answer(
        printed.NATIVE_SERVERS_ANSWER,
        "nova.servers.list",
        lambda answer: tuple((each.id, each.name, each.links[0].rel) for each in page(answer, BriefServer)),
        (("820abbd0-2d8e-4bc5-ae46-69cacfd4fbaa", "bms", "self"),),
    ),
    Answer(
        printed.NATIVE_SERVER_DETAILS_ANSWER,
        "nova.servers.list_details",
        lambda answer: tuple((each.name, *look_at_native_server(each)) for each in page(answer, Server)),
        (("bms", OTHER_ID, "c685484a8cc2416b97260938705deb64", *NATIVE_SERVER[2:]),),
    ),
    Answer(
        printed.NATIVE_RENAME_ANSWER,
        "nova.servers.rename",
        lambda answer: (
            answer.server.id,
            answer.server.name,
            answer.server.addresses[VPC][0].version,
            answer.server.updated,
            answer.server.flavor.id,
        ),
        (OTHER_ID, "new-server-test", 4, moment(2017, 5, 25, 3, 40, 25), "physical.83.medium"),
    ),
    Answer(
        printed.NATIVE_METADATA_ANSWER,
        "nova.metadata.get",
        lambda answer: (dict(answer.metadata),),
        ({"key": "value"},),
    ),
    Answer(
        printed.NATIVE_METADATA_UPDATED_ANSWER,
        "nova.metadata.update",
        lambda answer: (dict(answer.metadata),),
        ({"key": "value"},),
    ),
    Answer(printed.NATIVE_META_ANSWER, "nova.metadata.set", lambda answer: (dict(answer.meta),), ({"key": "value"},)),
    Answer(
        printed.NATIVE_ADDRESSES_ANSWER,
        "nova.addresses.list",
        lambda answer: tuple((str(ip_address(each.address)), each.version) for each in answer.addresses[VPC]),
        (("192.168.1.100", 4), ("192.168.2.90", 4)),
    ),
    Answer(
        printed.NATIVE_ADDRESS_ANSWER,
        "nova.addresses.get",
        lambda answer: tuple((name, each.address, each.version) for name, many in answer.items() for each in many),
        (("Vpc_id", "192.168.1.159", 4),),
    ),
    Answer(
        printed.NATIVE_FLAVORS_ANSWER,
        "nova.flavors.list",
        lambda answer: tuple(look_at_flavor(each) for each in answer.flavors),
        (("physical.o2.medium", 56, 321725, 3725, True, False, 0, "bookmark", True),),
    ),
    Answer(
        printed.NATIVE_FLAVOR_ANSWER,
        "nova.flavors.get",
        lambda answer: look_at_flavor(answer.flavor),
        ("physical.o2.medium", 24, 192705, 1862, True, False, 0, "bookmark", True),
    ),
    Answer(
        printed.NATIVE_EXTRA_SPECS_ANSWER,
        "nova.flavors.extra_specs",
        lambda answer: (
            answer.extra_specs["baremetal:__support_evs"],
            answer.extra_specs["baremetal:extBootType"],
            answer.extra_specs["resource_type"],
            len(answer.extra_specs),
        ),
        ("true", "LocalDisk", "ironic", 11),
    ),
    Answer(
        printed.NATIVE_INTERFACES_ANSWER,
        "nova.interfaces.list",
        lambda answer: tuple(
            (each.port_id, each.port_state, each.fixed_ips[0].subnet_id) for each in answer.interfaces
        ),
        (("ce531f90-199f-48c0-816c-13e38010b442", "ACTIVE", "f8a6e8f8-c2ec-497c-9f23-da9616de54ef"),),
    ),
    Answer(
        printed.NATIVE_INTERFACE_ANSWER,
        "nova.interfaces.get",
        lambda answer: (
            answer.interface.port_id,
            answer.interface.net_id,
            answer.interface.mac_address,
            answer.interface.fixed_ips[0].ip_address,
        ),
        (
            "ce531f90-199f-48c0-816c-13e38010b442",
            "3cb9bc59-5699-4588-a4b1-b87f96708bc6",
            "fa:16:3e:4c:2c:30",
            "192.168.1.3",
        ),
    ),
    Answer(
        printed.NATIVE_VOLUMES_ANSWER,
        "nova.volumes.list",
        lambda answer: tuple(map(look_at_volume, answer.volumes)),
        (("/dev/vdb", *["b53f23bd-ee8f-49ec-9420-d1acfeaf91d6"] * 2, "820abbd0-2d8e-4bc5-ae46-69cacfd4fbaa"),),
    ),
    Answer(
        printed.NATIVE_VOLUME_ANSWER,
        "nova.volumes.get",
        lambda answer: look_at_volume(answer.volume),
        ("/dev/vdb", *["b53f23bd-ee8f-49ec-9420-d1acfef91d6"] * 2, "820abbd0-2d8e-4bc5-ae46-69cacfd4fbaa"),
    ),
    Answer(
        printed.NATIVE_ATTACH_ANSWER,
        "nova.volumes.attach",
        lambda answer: look_at_volume(answer.volume),
        ("/dev/vdb", *["b53f23bd-ee8f-49ec-9420-d1acfeaf91d6"] * 2, "820abbd0-2d8e-4bc5-ae46-69cacfd4fbaa"),
    ),
    Answer(
        printed.KEYPAIRS_ANSWER,
        "nova.keypairs.list",
        lambda answer: tuple(
            (each.key_pair.name, each.key_pair.type, each.key_pair.fingerprint[:5], each.key_pair.public_key[:7])
            for each in answer.key_pairs
        ),
        (("keypair-test", "ssh", "15:b0", "ssh-rsa"),),
    ),
    Answer(
        printed.KEYPAIR_ANSWER,
        "nova.keypairs.get",
        lambda answer: (
            answer.key_pair.name,
            answer.key_pair.id,
            answer.key_pair.created_at,
            answer.key_pair.deleted,
            answer.key_pair.deleted_at,
            answer.key_pair.user_id,
            answer.key_pair.private_key,
        ),
        (
            "keypair-3582d8b7-e588-4aad-b7f7-f4e76f0e4314",
            "1",
            moment(2019, 5, 7, 12, 6, 13, 681238),
            False,
            None,
            "fake",
            None,
        ),
    ),
    Answer(
        printed.KEYPAIR_CREATED_ANSWER,
        "nova.keypairs.create",
        lambda answer: (
            answer.key_pair.name,
            answer.key_pair.user_id,
            answer.key_pair.fingerprint[-5:],
            answer.key_pair.public_key[-18:],
        ),
        (
            "keypair-7d7c3650-dabe-4eb0-b904-5c464453c043",
            "f882feb345064e7d9392440a0f397c25",
            "f9:d8",
            "Generated by Nova\n",
        ),
    ),
    Answer(printed.TAGS_ANSWER, "nova.tags.list", lambda answer: answer.tags, ("baz", "foo", "qux")),
    Answer(printed.TAGS_REPLACED_ANSWER, "nova.tags.replace", lambda answer: answer.tags, ("baz", "foo", "qux")),
    Answer(
        printed.PROJECTS_ANSWER,
        "identity.projects",
        lambda answer: tuple(
            (each.id, each.name, each.domain_id, each.enabled, each.is_domain, each.description)
            for each in answer.projects
        ),
        (("a4a5d4098fb4474fa22cd05f897d6b99", "project_name", "65382450e8f64ac0870cd180d14e684b", True, False, ""),),
    ),
)


def look_at_flavor(flavor: Flavor) -> tuple[object, ...]:
    return (
        flavor.id,
        flavor.vcpus,
        flavor.ram,
        flavor.disk,
        flavor.is_public,
        flavor.disabled,
        flavor.ephemeral,
        flavor.links[1].rel,
        flavor.is_bare_metal,
    )


def look_at_volume(volume: VolumeAttachment) -> tuple[object, ...]:
    return volume.device, volume.id, volume.volume_id, volume.server_id


Send: TypeAlias = Callable[[BmsClient], Awaitable[object]]

CF2A = "cf2a8b97-b5c6-47ef-9714-eb27adf26e5b"
BOTH_IDS = ("616fb98f-46ca-475e-917e-2563e5a8cd19", "726fb98f-46ca-475e-917e-2563e5a8cd20")
VOLUME_ID = "b53f23bd-ee8f-49ec-9420-d1acfeaf91d6"


class Sent(NamedTuple):
    """An example of a request: who sends it, where it goes, and what the cloud answers in the example."""

    example: Example
    operation: str
    send: Send
    path: str
    answer: Example | None = None


REQUESTS = (
    Sent(
        printed.RENAME_REQUEST,
        "servers.rename",
        lambda bms: bms.servers.rename(OTHER_ID, "new-server-test"),
        f"/v1/{PROJECT}/baremetalservers/{OTHER_ID}",
        printed.RENAME_ANSWER,
    ),
    Sent(
        printed.REINSTALL_REQUEST,
        "servers.reinstall_os",
        lambda bms: bms.servers.reinstall_os(
            CF2A, key_name="KeyPair-350b", user_id="7e25b1da389f4697a79df3a0e5bd494e", user_data=""
        ),
        f"/v1/{PROJECT}/baremetalservers/{CF2A}/reinstallos",
        printed.ACTION_ANSWER,
    ),
    Sent(
        printed.START_REQUEST,
        "servers.start",
        lambda bms: bms.servers.start(BOTH_IDS),
        f"/v1/{PROJECT}/baremetalservers/action",
        printed.ACTION_ANSWER,
    ),
    Sent(
        printed.REBOOT_REQUEST,
        "servers.reboot",
        lambda bms: bms.servers.reboot(BOTH_IDS),
        f"/v1/{PROJECT}/baremetalservers/action",
        printed.ACTION_ANSWER,
    ),
    Sent(
        printed.STOP_REQUEST,
        "servers.stop",
        lambda bms: bms.servers.stop(BOTH_IDS),
        f"/v1/{PROJECT}/baremetalservers/action",
        printed.ACTION_ANSWER,
    ),
    Sent(
        printed.ATTACH_REQUEST,
        "servers.attach_volume",
        lambda bms: bms.servers.attach_volume(CF2A, "b53f23bd-ee8f-49ec-9420-d1acfef91d6"),
        f"/v1/{PROJECT}/baremetalservers/{CF2A}/attachvolume",
        printed.ACTION_ANSWER,
    ),
    Sent(
        printed.METADATA_REQUEST,
        "servers.update_metadata",
        lambda bms: bms.servers.update_metadata(CF2A, {"key": "value"}),
        f"/v1/{PROJECT}/baremetalservers/{CF2A}/metadata",
        printed.METADATA_ANSWER,
    ),
    Sent(
        printed.NATIVE_CREATE_REQUEST,
        "nova.servers.create",
        lambda bms: bms.nova.servers.create(
            name="bms_name01",
            image="1a6635d8-afea-4f2b-abb6-27a202bad319",
            flavor="physical.o2.medium",
            availability_zone="az-dc-1",
            networks=[Network(uuid="8470310b-bfa2-4edf-8f64-d15196b2b2c9")],
        ),
        f"/v2.1/{PROJECT}/servers",
        printed.NATIVE_CREATE_ANSWER,
    ),
    Sent(
        printed.NATIVE_RENAME_REQUEST,
        "nova.servers.rename",
        lambda bms: bms.nova.servers.rename(OTHER_ID, "new-server-test"),
        f"/v2.1/{PROJECT}/servers/{OTHER_ID}",
        printed.NATIVE_RENAME_ANSWER,
    ),
    Sent(
        printed.NATIVE_START_REQUEST,
        "nova.servers.start",
        lambda bms: bms.nova.servers.start(OTHER_ID),
        f"/v2.1/{PROJECT}/servers/{OTHER_ID}/action",
    ),
    Sent(
        printed.NATIVE_REBOOT_REQUEST,
        "nova.servers.reboot",
        lambda bms: bms.nova.servers.reboot(OTHER_ID),
        f"/v2.1/{PROJECT}/servers/{OTHER_ID}/action",
    ),
    Sent(
        printed.NATIVE_STOP_REQUEST,
        "nova.servers.stop",
        lambda bms: bms.nova.servers.stop(OTHER_ID),
        f"/v2.1/{PROJECT}/servers/{OTHER_ID}/action",
    ),
    Sent(
        printed.NATIVE_METADATA_REQUEST,
        "nova.metadata.update",
        lambda bms: bms.nova.metadata.update(OTHER_ID, {"key": "value"}),
        f"/v2.1/{PROJECT}/servers/{OTHER_ID}/metadata",
        printed.NATIVE_METADATA_UPDATED_ANSWER,
    ),
    Sent(
        printed.NATIVE_META_REQUEST,
        "nova.metadata.set",
        lambda bms: bms.nova.metadata.set(OTHER_ID, "key", "value"),
        f"/v2.1/{PROJECT}/servers/{OTHER_ID}/metadata/key",
        printed.NATIVE_META_ANSWER,
    ),
    Sent(
        printed.NATIVE_ATTACH_REQUEST,
        "nova.volumes.attach",
        lambda bms: bms.nova.volumes.attach(OTHER_ID, VOLUME_ID, "/dev/sdb"),
        f"/v2.1/{PROJECT}/servers/{OTHER_ID}/os-volume_attachments",
        printed.NATIVE_ATTACH_ANSWER,
    ),
    Sent(
        printed.KEYPAIR_REQUEST,
        "nova.keypairs.create",
        lambda bms: bms.nova.keypairs.import_key(**document_of(printed.KEYPAIR_REQUEST)["keypair"]),
        f"/v2.1/{PROJECT}/os-keypairs",
        printed.KEYPAIR_CREATED_ANSWER,
    ),
    Sent(
        printed.TAGS_REQUEST,
        "nova.tags.replace",
        lambda bms: bms.nova.tags.replace(SERVER_ID, ["baz", "foo", "qux"]),
        f"/v2.1/{PROJECT}/servers/{SERVER_ID}/tags",
        printed.TAGS_REPLACED_ANSWER,
    ),
)

# The call for a token comes with PasswordAuth, and is looked at there.
OF_THE_TOKEN = {printed.TOKEN_REQUEST, printed.TOKEN_REQUEST_COMMENTED, printed.TOKEN_ANSWER}

REFUSALS = {printed.ERROR_ANSWER, printed.GATEWAY_ERROR_ANSWER, printed.TAG_MISSING_ANSWER}


def document_of(example: Example) -> Any:
    return json.loads(repair(example))


def operation_named(name: str) -> Operation[Any]:
    (found,) = [each for each in bms_async.api.operations() if each.name == name]
    return found


def name_of(row: Answer | Sent) -> str:
    return f"{row.example.name} by {row.operation}"


def test_every_example_is_looked_at_here() -> None:
    looked_at = {row.example for row in ANSWERS} | {row.example for row in REQUESTS} | REFUSALS | OF_THE_TOKEN

    assert [example.name for example in EXAMPLES if example not in looked_at] == []


@pytest.mark.parametrize("row", [*ANSWERS, *REQUESTS], ids=name_of)
def test_an_example_belongs_to_the_call_that_it_is_tried_with(row: Answer | Sent) -> None:
    operation = operation_named(row.operation)

    # The answer of 6.3.1 is that of all calls which start a job.
    if row.example is not printed.ACTION_ANSWER:
        assert row.example.call.split(" ")[0] == operation.method
        assert shape_of(row.example.call.split(" ")[1]) == shape_of(operation.path)
    assert operation.chapter in (*row.example.sections, "7.2", "4.7.2")


@pytest.mark.parametrize("row", ANSWERS, ids=name_of)
def test_an_answer_is_read_into_what_it_says(row: Answer) -> None:
    operation = operation_named(row.operation)
    response = HttpResponse(status=operation.success[0], body=repair(row.example).encode())

    assert row.look(read_response(operation, response)) == row.expected


@pytest.mark.parametrize("row", ANSWERS, ids=name_of)
def test_an_answer_is_read_the_same_when_all_numbers_are_texts(row: Answer) -> None:
    """Types differ between the reference's tables and its examples; both ways have to do."""
    operation = operation_named(row.operation)
    as_texts = json.loads(repair(row.example), parse_int=str, parse_float=str)
    response = HttpResponse(status=200, body=json.dumps(as_texts).encode())

    assert row.look(read_response(operation, response)) == row.expected


# Links that lead to the thing itself, by an address that no call of ours takes; and a field that no table knows, which
# stands where a page breaks.
NOT_KEPT: Mapping[str, tuple[str, ...]] = {
    "projects_answer": ("$.projects[].links",),
    "server_list": ("$.servers[].imageRef",),
}


@pytest.mark.parametrize("row", ANSWERS, ids=name_of)
def test_nothing_of_an_example_is_lost_but_what_is_listed(row: Answer) -> None:
    """A name that a model spells wrong would be read as missing, and nobody would notice."""
    answer = read_response(operation_named(row.operation), HttpResponse(status=200, body=repair(row.example).encode()))
    written = json.loads(msgspec.json.encode(answer))
    if row.operation.endswith(("servers.list", "servers.list_details")):
        kind: type[Any] = BriefServer if row.operation == "nova.servers.list" else Server
        written["servers"] = json.loads(msgspec.json.encode(page(answer, kind)))

    assert sorted(unknown_in(document_of(row.example), written)) == sorted(NOT_KEPT.get(row.example.name, ()))


def unknown_in(document: Any, written: Any, path: str = "$") -> list[str]:
    """Return the paths of an example that are not in what was written."""
    if isinstance(document, dict) and isinstance(written, dict):
        return [
            found
            for name, value in document.items()
            for found in (unknown_in(value, written[name], f"{path}.{name}") if name in written else [f"{path}.{name}"])
        ]
    if isinstance(document, dict) and isinstance(written, list) and len(written) == 1:
        return unknown_in(document, written[0], path)
    if isinstance(document, list) and isinstance(written, list):
        assert len(document) == len(written), path
        return sorted(
            {found for was, now in zip(document, written, strict=True) for found in unknown_in(was, now, f"{path}[]")}
        )
    return []


@pytest.mark.parametrize("row", REQUESTS, ids=name_of)
@virtually
async def test_a_request_is_what_the_method_sends(row: Sent) -> None:
    operation = operation_named(row.operation)
    async with mocked() as (bms, cloud):
        asked = respond(cloud, operation, row)
        await row.send(bms)
        request = asked.calls.last.request

    assert asked.call_count == 1
    assert request.method == row.example.call.split(" ")[0]
    assert request.url == f"{ENDPOINT}{row.path}"
    assert json.loads(request.content) == document_of(row.example)
    assert request.headers["Content-Type"] == "application/json"
    assert request.headers["X-Auth-Token"]


def respond(cloud: respx.MockRouter, operation: Operation[Any], row: Sent) -> respx.Route:
    body = b"" if row.answer is None else repair(row.answer).encode()
    cloud.get(url__regex=r".*/jobs/.*").respond(json=document_of(printed.JOB_ANSWER))
    return cloud.request(operation.method, f"{ENDPOINT}{row.path}").mock(
        return_value=httpx.Response(operation.success[0], content=body)
    )


def test_the_requests_without_a_body_have_no_example_to_compare_with() -> None:
    """Every call that has a body in the reference has its example above."""
    sent = {row.operation for row in REQUESTS}
    with_body = {
        each.name for each in bms_async.api.operations() if each.method in {"POST", "PUT"} and "/tags/" not in each.path
    }

    # Chapter 7 names these two and prints no example of them; that of the token is looked at where tokens are.
    assert with_body - sent == {"servers.create", "servers.reset_password", "identity.create_token"}


def test_the_answer_for_a_tag_that_is_not_there_is_an_error_that_says_so() -> None:
    answer = HttpResponse(status=404, body=repair(printed.TAG_MISSING_ANSWER).encode())
    error = read_error("nova.tags.has", answer)

    assert isinstance(error, NotFoundError)
    assert error.code == "404"
    assert re.fullmatch(r"Server 2d85af7c\S+ has no tag 'abc'", error.message)


@virtually
async def test_a_tag_that_is_not_there_is_no_and_not_an_error() -> None:
    server_id = "2d85af7c-cbfe-40c5-a378-4d03b42fb0e2"
    async with mocked() as (bms, cloud):
        tags = f"{ENDPOINT}/v2.1/{PROJECT}/servers/{server_id}/tags"
        cloud.get(f"{tags}/abc").respond(404, content=repair(printed.TAG_MISSING_ANSWER).encode())
        cloud.get(f"{tags}/foo").respond(204)

        assert await bms.nova.tags.has(server_id, "abc") is False
        assert await bms.nova.tags.has(server_id, "foo") is True


@pytest.mark.parametrize(
    ("example", "code"), [(printed.ERROR_ANSWER, "BMS.0040"), (printed.GATEWAY_ERROR_ANSWER, "AS.0001")]
)
def test_a_refusal_is_read_into_its_code(example: Example, code: str) -> None:
    error = read_error("servers.stop", HttpResponse(status=400, body=repair(example).encode()))

    assert isinstance(error, ApiError)
    assert (error.status, error.code) == (400, code)


@pytest.mark.parametrize("spelling", ["baremetal:_support_evs", "baremetal:__support_evs"])
def test_both_spellings_of_the_mark_for_disks_are_read(spelling: str) -> None:
    text = repair(printed.FLAVORS_ANSWER).replace("baremetal:__support_evs", spelling)
    answer = read_response(operation_named("flavors.list"), HttpResponse(status=200, body=text.encode()))

    assert answer.flavors[0].supports_volumes is True
