"""Flavors, quotas, versions and projects: the reference's answers become typed values."""

from __future__ import annotations

import pickle
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async import (
    BootSource,
    ExtraSpecs,
    Flavor,
    FlavorStatus,
    PermissionDeniedError,
    Project,
    Quota,
    Quotas,
    VersionStatus,
)
from bms_async.models import decode
from tests.support.mocked import BASE, ENDPOINT, TOKEN, error, mocked, sent

FLAVORS = f"{BASE}/baremetalservers/flavors"
FLAVOR: dict[str, Any] = {
    "id": "physical.kl1.3xlarge",
    "name": "physical.kl1.3xlarge",
    "vcpus": "24",
    "ram": 321729,
    "disk": "6707",
    "swap": "",
    "links": [{"rel": "self", "href": "https://compute.example.com/v2/p/flavors/f", "type": None}],
    "OS-FLV-EXT-DATA:ephemeral": 0,
    "rxtx_factor": 1,
    "OS-FLV-DISABLED:disabled": False,
    "rxtx_quota": None,
    "rxtx_cap": None,
    "os-flavor-access:is_public": False,
    "os_extra_specs": {
        "capabilities:cpu_arch": "x86_64",
        "baremetal:disk_detail": "SAS SSD:2*800G Raid 1 + NVMe SSD Card1.6T",
        "capabilities:hypervisor_type": "ironic",
        "baremetal:__support_evs": "true",
        "baremetal:extBootType": "LocalDisk",
        "capabilities:board_type": "o2m",
        "baremetal:net_num": "2",
        "baremetal:netcard_detail": "2 x 2*10GE",
        "baremetal:cpu_detail": "Intel Xeon E5-2667 V4 (2*8core* 3.2 GHz)",
        "resource_type": "ironic",
        "baremetal:memory_detail": "256GB DDR4 RAM(GB)",
    },
}


async def test_flavors_are_listed() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(FLAVORS).respond(json={"flavors": [FLAVOR]})

        (flavor,) = await bms.flavors.list("az1")

        (request,) = sent(cloud)
        assert (request.method, str(request.url)) == ("GET", f"{FLAVORS}?availability_zone=az1")
        assert (request.content, request.headers["X-Auth-Token"]) == (b"", TOKEN)
        assert (flavor.id, flavor.name) == ("physical.kl1.3xlarge", "physical.kl1.3xlarge")
        assert (flavor.vcpus, flavor.ram, flavor.disk, flavor.swap) == (24, 321729, 6707, None)
        assert (flavor.is_public, flavor.disabled, flavor.ephemeral, flavor.rxtx_factor) == (False, False, 0, 1.0)
        assert (flavor.rxtx_quota, flavor.rxtx_cap) == (None, None)
        assert [(link.rel, link.type) for link in flavor.links] == [("self", None)]
        assert flavor.boot_source is BootSource.LOCAL_DISK
        assert flavor.supports_volumes
        assert flavor.is_bare_metal
        assert flavor.status is flavor.status_in("az1") is FlavorStatus.NORMAL


async def test_flavors_of_all_zones_are_asked_for_without_a_query() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(FLAVORS).respond(json={"flavors": []})

        assert await bms.flavors.list() == ()

        assert str(sent(cloud)[0].url) == FLAVORS


def test_extra_specs_are_a_mapping_and_typed() -> None:
    specs = decode(msgspec.json.encode(FLAVOR), Flavor).extra_specs

    assert dict(specs) == FLAVOR["os_extra_specs"]
    assert (specs["baremetal:net_num"], specs.max_nics) == ("2", 2)
    assert (specs.resource_type, specs.hypervisor_type, specs.cpu_arch) == ("ironic", "ironic", "x86_64")
    assert (specs.board_type, specs.nic_detail) == ("o2m", "2 x 2*10GE")
    assert specs.disk_detail == "SAS SSD:2*800G Raid 1 + NVMe SSD Card1.6T"
    assert specs.cpu_detail == "Intel Xeon E5-2667 V4 (2*8core* 3.2 GHz)"
    assert specs.memory_detail == "256GB DDR4 RAM(GB)"
    assert pickle.loads(pickle.dumps(specs)) == specs
    assert repr(ExtraSpecs({"a": "b"})) == "ExtraSpecs({'a': 'b'})"


def test_a_native_flavor_has_no_extra_specs() -> None:
    flavor = decode(b'{"id": "s3.large", "os_extra_specs": null, "disk": 40, "swap": 512}', Flavor)

    assert (dict(flavor.extra_specs), flavor.boot_source, flavor.supports_volumes) == ({}, None, False)
    assert (flavor.disk, flavor.swap, flavor.is_bare_metal, flavor.extra_specs.max_nics) == (40, 512, False, None)


@pytest.mark.parametrize(
    ("name", "value", "can"),
    [
        ("baremetal:__support_evs", "true", True),
        ("baremetal:_support_evs", "true", True),
        ("baremetal:__support_evs", "True", True),
        ("baremetal:__support_evs", True, True),
        ("baremetal:__support_evs", "false", False),
        ("baremetal:__support_evs", None, False),
        ("baremetal:support_evs", "true", False),
    ],
)
def test_volumes_are_supported_where_the_flavor_says_so(name: str, value: object, *, can: bool) -> None:
    document = {"id": "f", "os_extra_specs": {name: value}}

    assert decode(msgspec.json.encode(document), Flavor).supports_volumes is can


def test_an_unknown_boot_source_survives() -> None:
    source = ExtraSpecs({"baremetal:extBootType": "Network"}).boot_source

    assert isinstance(source, BootSource)
    assert source == "Network"


def test_the_references_example_of_a_flavor_by_zone() -> None:
    specs = ExtraSpecs(
        {
            "cond:operation:status": "abandon",
            "cond:operation:az": "az0(normal), az1(sellout), az2(obt), az3(promotion)",
        }
    )

    statuses = [specs.status_in(f"az{number}") for number in range(5)]

    assert statuses == [
        FlavorStatus.NORMAL,
        FlavorStatus.SELLOUT,
        FlavorStatus.OBT,
        FlavorStatus.PROMOTION,
        FlavorStatus.ABANDON,
    ]


ZONES = st.from_regex(r"[a-z][a-z0-9-]{0,12}", fullmatch=True)
WORDS = st.sampled_from([status.value for status in FlavorStatus]) | st.from_regex(r"[a-z_]{1,10}", fullmatch=True)


@given(
    zones=st.dictionaries(ZONES, WORDS, max_size=6),
    other=ZONES,
    default=st.none() | WORDS,
    comma=st.sampled_from([",", ", ", " , ", ",\n"]),
    gap=st.sampled_from(["", " "]),
)
def test_a_zone_has_its_own_status_and_all_others_the_flavors(
    zones: dict[str, str], other: str, default: str | None, comma: str, gap: str
) -> None:
    values = {"cond:operation:az": comma.join(f"{zone}{gap}({gap}{word}{gap})" for zone, word in zones.items())}
    if default is not None:
        values["cond:operation:status"] = default
    specs = ExtraSpecs(values)

    assert {zone: status.value for zone, status in specs.status_by_zone.items()} == zones
    for zone, word in zones.items():
        assert isinstance(specs.status_in(zone), FlavorStatus)
        assert specs.status_in(zone) == word
    assert specs.status_in(other) == zones.get(other, default or "normal")


@given(zones=st.text(max_size=60), status=st.text(max_size=10), zone=st.text(max_size=10))
def test_whatever_is_printed_a_status_comes_of_it(zones: str, status: str, zone: str) -> None:
    specs = ExtraSpecs({"cond:operation:az": zones, "cond:operation:status": status})

    assert isinstance(specs.status_in(zone), FlavorStatus)
    assert specs.status_in(zone).value


QUOTAS = {
    "maxServerMeta": 128,
    "maxPersonality": 5,
    "maxImageMeta": 128,
    "maxPersonalitySize": 10240,
    "maxSecurityGroupRules": 20,
    "maxTotalKeypairs": 100,
    "totalRAMUsed": 799836,
    "totalInstancesUsed": 21,
    "maxSecurityGroups": 10,
    "totalFloatingIpsUsed": 0,
    "maxTotalCores": -1,
    "totalSecurityGroupsUsed": 1,
    "maxTotalFloatingIps": 10,
    "maxTotalInstances": 100,
    "totalCoresUsed": 148,
    "maxTotalRAMSize": -1,
    "maxServerGroups": -1,
    "maxServerGroupMembers": -1,
    "totalServerGroupsUsed": 1,
}


async def test_quotas_are_read() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(f"{BASE}/baremetalservers/limits").respond(json={"absolute": QUOTAS})

        quotas = await bms.quotas.get()

        (request,) = sent(cloud)
        assert (request.method, str(request.url)) == ("GET", f"{BASE}/baremetalservers/limits")
        assert quotas.instances == Quota(limit=100, used=21)
        assert (quotas.instances.left, quotas.instances.is_unlimited) == (79, False)
        assert (quotas.instances.allows(79), quotas.instances.allows(80)) == (True, False)
        assert quotas.cores == Quota(used=148, is_unlimited=True)
        assert (quotas.cores.left, quotas.cores.allows(10**9)) == (None, True)
        assert quotas.ram == Quota(used=799836, is_unlimited=True)
        assert quotas.keypairs == Quota(limit=100)
        assert (quotas.keypairs.left, quotas.keypairs.allows(1)) == (None, True)
        assert quotas.floating_ips == Quota(limit=10, used=0)
        assert quotas.security_groups == Quota(limit=10, used=1)
        assert quotas.security_group_rules == Quota(limit=20)
        assert quotas.server_groups == Quota(used=1, is_unlimited=True)
        assert quotas.server_group_members == Quota(is_unlimited=True)
        assert quotas.server_metadata == quotas.image_metadata == Quota(limit=128)
        assert (quotas.injected_files, quotas.injected_file_size) == (Quota(limit=5), Quota(limit=10240))
        assert msgspec.json.decode(msgspec.json.encode(quotas)) == QUOTAS
        assert quotas.max_total_cores == -1


def test_what_is_not_told_is_not_unlimited() -> None:
    quotas = decode(b'{"maxTotalInstances": null, "totalInstancesUsed": "21", "maxTotalCores": "-1"}', Quotas)

    assert quotas.instances == Quota(used=21)
    assert quotas.cores == Quota(is_unlimited=True)
    assert Quota(limit=1, used=3).left == 0


VERSION = {
    "id": "v1",
    "links": [{"href": "http://bms.example.com/v1/", "rel": "self"}],
    "min_version": "",
    "status": "CURRENT",
    "updated": "2018-09-30T00:00:00Z",
    "version": "",
}


async def test_versions_are_listed_without_a_project() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(f"{ENDPOINT}/").respond(json={"versions": [VERSION]})

        (version,) = await bms.versions.list()

        assert (sent(cloud)[0].method, str(sent(cloud)[0].url)) == ("GET", f"{ENDPOINT}/")
        assert (version.id, version.status) == ("v1", VersionStatus.CURRENT)
        assert (version.min_version, version.version) == ("", "")
        assert version.updated is not None
        assert version.updated.isoformat() == "2018-09-30T00:00:00+00:00"
        assert version.links[0].href == "http://bms.example.com/v1/"


async def test_one_version_is_read_without_a_project() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(f"{ENDPOINT}/v1").respond(json={"version": VERSION})

        version = await bms.versions.get("v1")

        assert (sent(cloud)[0].method, str(sent(cloud)[0].url)) == ("GET", f"{ENDPOINT}/v1")
        assert version.id == "v1"


PROJECT = {
    "domain_id": "65382450e8f64ac0870cd180d14e684b",
    "is_domain": False,
    "parent_id": "65382450e8f64ac0870cd180d14e684b",
    "name": "project_name",
    "description": "",
    "links": {"next": None, "previous": None, "self": "https://www.example.com/v3/projects/a4"},
    "id": "a4a5d4098fb4474fa22cd05f897d6b99",
    "enabled": True,
}
ALL, OWN = f"{ENDPOINT}/v3/projects", f"{ENDPOINT}/v3/auth/projects"


async def test_projects_are_listed() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(ALL).respond(json={"projects": [PROJECT], "links": {"next": None}})

        (project,) = await bms.identity.projects()

        assert [(request.method, str(request.url)) for request in sent(cloud)] == [("GET", ALL)]
        assert project == Project(
            id="a4a5d4098fb4474fa22cd05f897d6b99",
            name="project_name",
            domain_id="65382450e8f64ac0870cd180d14e684b",
            parent_id="65382450e8f64ac0870cd180d14e684b",
            description="",
            enabled=True,
            is_domain=False,
        )


async def test_a_project_is_found_by_its_name() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(ALL).respond(json={"projects": [PROJECT]})

        await bms.identity.projects(name="project_name")

        assert str(sent(cloud)[0].url) == f"{ALL}?name=project_name"


@pytest.mark.parametrize(("name", "count"), [(None, 2), ("project_name", 1), ("neither", 0)])
async def test_who_may_not_see_all_projects_sees_his_own(name: str | None, count: int) -> None:
    async with mocked() as (bms, cloud):
        cloud.get(ALL).respond(403, json=error("IAM.0002"))
        cloud.get(OWN).respond(json={"projects": [PROJECT, {"id": "b", "name": "other"}]})

        projects = await bms.identity.projects(name=name)

        assert [str(request.url).partition("?")[0] for request in sent(cloud)] == [ALL, OWN]
        assert len(projects) == count


async def test_who_may_see_nothing_at_all_is_told_so() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(url__startswith=ENDPOINT).respond(403, json=error("IAM.0002"))

        with pytest.raises(PermissionDeniedError):
            await bms.identity.projects()
