"""OpenStack's own SDK drives the native half of the simulator, and finds in every answer what it expects there.

It was written from Nova's sources and not from our reading of the reference: it looks the endpoint's versions up,
agrees on a microversion, pages by links and markers, and reads answers its own way.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from typing import Any, NamedTuple

import pytest

from tests.support.machine import patience

pytest.importorskip("openstack")

import openstack
from keystoneauth1 import session, token_endpoint
from openstack import exceptions

from bms_async.simulator import OPERATIONS

pytestmark = [
    # The package warns of what its own next versions will take out of its own insides.
    pytest.mark.filterwarnings("ignore:The _compute_attributes method is deprecated"),
    pytest.mark.filterwarnings("ignore:The 'service_type' parameter is unnecesary"),
]

SERVERS, MACHINES = 30, 6
FLAGS = ["--servers", str(SERVERS), "--virtual-machines", str(MACHINES), "--seed", "3", "--job-seconds", "0.02", "0.05"]
VOLUME = "b53f23bd-ee8f-49ec-9420-d1acfeaf91d6"


class Simulator(NamedTuple):
    address: str
    project_id: str
    token: str

    def connect(self, token: str | None = None) -> Any:
        endpoint = f"{self.address}/v2.1/{self.project_id}"
        given = session.Session(auth=token_endpoint.Token(endpoint, token or self.token))
        return openstack.connection.Connection(session=given, compute_endpoint_override=endpoint)

    def asked(self) -> dict[str, int]:
        """How many calls the simulator has counted, by operation."""
        books = session.Session().get(f"{self.address}/_admin/calls").json()
        return {name: book["arrived"] for name, book in books["operations"].items()}


@pytest.fixture(scope="module")
def simulator() -> Iterator[Simulator]:
    command = [sys.executable, "-m", "bms_async.simulator", "--port", "0", *FLAGS]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            line = json.loads(process.stdout.readline())
            yield Simulator(line["address"], line["project_id"], line["token"])
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=patience(60.0)) == ("", "")
            assert process.returncode == 0
        finally:
            if process.poll() is None:
                process.kill()


@pytest.fixture(scope="module")
def connection(simulator: Simulator) -> Iterator[Any]:
    with simulator.connect() as connection:
        yield connection


@pytest.fixture(scope="module")
def compute(connection: Any) -> Any:
    return connection.compute


@pytest.fixture
def server(compute: Any) -> Any:
    """A bare-metal server of the beginning that boots from its own disks."""
    return next(each for each in compute.servers() if each.flavor["id"] == "physical.o2.medium")


def settled(compute: Any, server: Any, status: str) -> Any:
    return compute.wait_for_server(compute.get_server(server.id), status=status, interval=0.02, wait=10)


def test_it_finds_the_microversion_at_which_tags_are_shown(compute: Any, simulator: Simulator) -> None:
    found = compute.get_endpoint_data()
    assert (found.api_version, found.min_microversion, found.max_microversion) == ((2, 1), (2, 1), (2, 26))
    assert found.url == f"{simulator.address}/v2.1/{simulator.project_id}"


@pytest.mark.parametrize("details", [True, False])
@pytest.mark.parametrize("limit", [None, 7])
def test_it_lists_all_machines_page_by_page(compute: Any, details: bool, limit: int | None) -> None:
    found = list(compute.servers(details=details, limit=limit))
    assert len(found) == len({each.id for each in found}) == SERVERS + MACHINES
    assert all(each.name and each.links for each in found)


def test_it_tells_bare_metal_servers_from_virtual_machines(compute: Any) -> None:
    found = list(compute.servers())
    assert [each for each in found if "__type_baremetal" in each.tags] == [
        each for each in found if each.flavor["id"].startswith("physical.")
    ]
    assert len(list(compute.servers(tags="__type_baremetal"))) == SERVERS
    assert len(list(compute.servers(not_tags="__type_baremetal", limit=2))) == MACHINES


def test_it_narrows_and_sorts(compute: Any) -> None:
    everybody = list(compute.servers())
    assert [each.name for each in compute.servers(name="^bms-00000[12]$", sort_key="display_name", sort_dir="asc")] == [
        "bms-000001",
        "bms-000002",
    ]
    by_id = [each.id for each in compute.servers(sort_key="uuid", sort_dir="desc", limit=10)]
    assert by_id == sorted((each.id for each in everybody), reverse=True)
    flavor = "physical.s1.medium"
    assert {each.flavor["id"] for each in compute.servers(flavor=flavor)} == {flavor}
    assert list(compute.servers(status="BUILD")) == []
    assert list(compute.servers(changes_since="2999-01-01T00:00:00Z")) == []


def test_it_reads_a_server(compute: Any, server: Any, simulator: Simulator) -> None:
    found = compute.get_server(server.id)
    assert (found.status, found.vm_state, found.power_state, found.task_state) == ("ACTIVE", "active", 1, None)
    assert found.project_id == simulator.project_id
    assert found.image.id
    assert found.hostname == found.name
    assert found.is_locked is False
    assert found.host_status == "UP"
    ((network, (address, *others)),) = found.addresses.items()
    assert (address["version"], address["OS-EXT-IPS:type"], others) == (4, "fixed", [])
    assert found.metadata["vpc_id"] == network
    assert found.security_groups == [{"name": "default"}]
    for moment in (found.created_at, found.updated_at):
        assert moment.endswith("Z")


def test_it_creates_renames_and_deletes_a_server(compute: Any) -> None:
    made = compute.create_server(
        name="fresh",
        flavor_id="physical.o2.medium",
        image_id="1a6635d8-afea-4f2b-abb6-27a202bad319",
        availability_zone="az-sim-1",
        networks=[{"uuid": "8470310b-bfa2-4edf-8f64-d15196b2b2c9"}],
        metadata={"role": "test"},
    )
    assert made.admin_password
    found = settled(compute, made, "ACTIVE")
    assert (found.name, found.metadata["role"], found.key_name, found.tags) == ("fresh", "test", None, [])
    assert next(each.id for each in compute.servers()) == found.id, "the newest comes first"
    assert compute.update_server(found, name="renamed").name == "renamed"
    assert compute.find_server("renamed", ignore_missing=False).id == found.id
    compute.delete_server(found, ignore_missing=False)
    compute.wait_for_delete(found, interval=0.02, wait=10)
    with pytest.raises(exceptions.NotFoundException):
        compute.get_server(found.id)


def test_it_stops_starts_and_reboots(compute: Any, server: Any) -> None:
    compute.stop_server(server)
    assert settled(compute, server, "SHUTOFF").power_state == 4
    with pytest.raises(exceptions.ConflictException):
        compute.stop_server(server)
    compute.start_server(server)
    assert settled(compute, server, "ACTIVE").task_state is None
    compute.reboot_server(server, "HARD")
    assert settled(compute, server, "ACTIVE").vm_state == "active"


def test_it_reads_flavors_and_what_they_are(compute: Any) -> None:
    flavors = {each.id: each for each in compute.flavors()}
    assert {name.split(".")[0] for name in flavors} > {"physical"}
    one = compute.get_flavor("physical.o2.medium")
    assert (one.name, one.vcpus, one.ram, one.disk) == ("physical.o2.medium", 32, 193047, 9309)
    specs = compute.fetch_flavor_extra_specs(one).extra_specs
    assert (specs["resource_type"], specs["baremetal:extBootType"]) == ("ironic", "LocalDisk")
    assert all(each.ram >= 100_000 for each in compute.flavors(min_ram=100_000))
    with pytest.raises(exceptions.NotFoundException):
        compute.get_flavor("no.such")


def test_it_makes_imports_and_deletes_key_pairs(compute: Any) -> None:
    made = compute.create_keypair(name="made here")
    assert made.private_key.startswith("-----BEGIN SIMULATED PRIVATE KEY-----")
    taken = compute.create_keypair(name="brought", public_key=made.public_key)
    assert (taken.private_key, taken.fingerprint) == (None, made.fingerprint)
    assert {"made here", "brought"} <= {each.name for each in compute.keypairs()}
    assert compute.get_keypair("made here").created_at
    with pytest.raises(exceptions.ConflictException):
        compute.create_keypair(name="brought")
    for name in ("made here", "brought"):
        compute.delete_keypair(name, ignore_missing=False)
        with pytest.raises(exceptions.NotFoundException):
            compute.get_keypair(name)


def test_it_sets_and_deletes_metadata(compute: Any, server: Any) -> None:
    before = compute.fetch_server_metadata(server).metadata
    compute.set_server_metadata(server, colour="red", size="1")
    assert compute.fetch_server_metadata(server).metadata == before | {"colour": "red", "size": "1"}
    one = compute.get_server(server.id).set_metadata_item(compute, "size", "2")
    assert one.metadata["size"] == "2"
    compute.delete_server_metadata(server, ["colour", "size"])
    assert compute.get_server(server.id).metadata == before


def test_it_changes_tags(compute: Any, server: Any) -> None:
    assert "__type_baremetal" in server.fetch_tags(compute).tags
    server.set_tags(compute, ["b", "a"])
    compute.add_tag_to_server(server, "c=1")
    assert compute.get_server(server.id).tags == ["a", "b", "c=1"]
    server.check_tag(compute, "a")
    with pytest.raises(exceptions.NotFoundException):
        server.check_tag(compute, "z")
    compute.remove_tag_from_server(server, "a")
    assert server.fetch_tags(compute).tags == ["b", "c=1"]
    compute.remove_tags_from_server(server)
    assert server.fetch_tags(compute).tags == []
    server.set_tags(compute, ["__type_baremetal"])


def test_it_reads_interfaces_and_addresses(compute: Any, server: Any) -> None:
    ((network, (address,)),) = server.addresses.items()
    (card,) = compute.server_interfaces(server)
    assert (card.port_state, card.mac_addr) == ("ACTIVE", address["OS-EXT-IPS-MAC:mac_addr"])
    assert card.fixed_ips[0]["ip_address"] == address["addr"]
    assert compute.get_server_interface(card.port_id, server).net_id == card.net_id
    for label in (None, network):
        (found,) = compute.server_ips(server, network_label=label)
        assert (found.address, found.version, found.network_label) == (address["addr"], 4, network)


def test_it_attaches_and_detaches_a_disk(compute: Any, server: Any) -> None:
    assert list(compute.volume_attachments(server)) == []
    made = compute.create_volume_attachment(server, VOLUME)
    assert (made.device, made.volume_id) == ("/dev/sdb", VOLUME)
    (listed,) = compute.volume_attachments(server)
    assert listed.volume_id == compute.get_volume_attachment(server, VOLUME).volume_id == VOLUME
    assert [each["id"] for each in compute.get_server(server.id).attached_volumes] == [VOLUME]
    with pytest.raises(exceptions.BadRequestException):
        compute.create_volume_attachment(server, VOLUME)
    compute.delete_volume_attachment(server, VOLUME, ignore_missing=False)
    assert list(compute.volume_attachments(server)) == []


def test_it_reads_why_it_was_refused(compute: Any, simulator: Simulator) -> None:
    with pytest.raises(exceptions.NotFoundException) as caught:
        compute.get_server("no-such-server")
    assert "could not be found" in str(caught.value.details)
    with simulator.connect(token="wrong") as stranger, pytest.raises(exceptions.HttpException) as refused:
        list(stranger.compute.servers())
    assert refused.value.status_code == 401


def test_it_has_made_every_native_call(simulator: Simulator, request: pytest.FixtureRequest) -> None:
    chosen = {item.name.partition("[")[0] for item in request.session.items}
    if not {name for name in globals() if name.startswith("test_")} <= chosen:
        pytest.skip("only some of this module's tests were run")
    native = {name for name in OPERATIONS if name.startswith("nova.")}
    assert native - set(simulator.asked()) == {"nova.servers.action"}, "that one is for bodies that name no operation"
