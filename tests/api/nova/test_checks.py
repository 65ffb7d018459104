"""What breaks a rule of chapter 5 is refused before anything is sent, and the error names argument, value and rule."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async import BmsClient, InvalidRequestError, Network
from bms_async.api import operations
from bms_async.wire import build_request
from tests.api.nova._helpers import SERVERS, VOLUME_ID, body_of
from tests.support.mocked import ENDPOINT, PROJECT, SERVER_ID, mocked, sent

NET = Network(uuid="n-1")
GOOD: dict[str, Any] = {"name": "b", "image": "i", "flavor": "f", "availability_zone": "z", "networks": [NET]}


@pytest.mark.parametrize(
    ("argument", "value", "named", "rule"),
    [
        ("name", "", "name", "1 to 255 characters"),
        ("name", "a" * 256, "name", "1 to 255 characters"),
        ("image", " ", "image", "not blank"),
        ("flavor", None, "flavor", "not blank"),
        ("availability_zone", "az:host-1", "availability_zone", "leave the host out"),
        ("networks", [], "networks", "expected 1 to 4"),
        ("networks", [NET] * 5, "networks", "expected 1 to 4"),
        ("networks", "n-1", "networks", "a list of Network"),
        ("networks", [{"uuid": "n-1"}], "networks[0]", "expected a Network"),
        ("networks", [NET, Network()], "networks[1]", "a port or the uuid"),
        ("networks", [Network(fixed_ip="192.168.0.9")], "networks[0]", "a port or the uuid"),
        ("networks", [Network(port="p", fixed_ip="192.168.0.9")], "networks[0]", "the uuid of the network"),
        ("networks", [Network(uuid="n", fixed_ip="192.168.0.900")], "networks[0].fixed_ip", "an IP address"),
        ("networks", [Network(uuid="")], "networks[0].uuid", "not blank"),
        ("key_name", "", "key_name", "1 to 255 characters"),
        ("admin_password", "short", "admin_password", "8 to 26 characters"),
        ("admin_password", "alllowercase", "admin_password", "three of"),
        ("metadata", {"k" * 256: "v"}, "metadata", "1 to 255 characters"),
        ("metadata", {"k": "v" * 256}, "metadata['k']", "at most 255 characters"),
        ("metadata", [("k", "v")], "metadata", "a mapping"),
        ("user_data", b"x" * (32 * 1024 + 1), "user_data", "at most 32768 bytes"),
        ("user_data", 5, "user_data", "expected str or bytes, got int"),
        ("user_data", "\ud800", "user_data", "UTF-8"),
        ("metadata", {"k": "\ud800"}, "metadata['k']", "UTF-8"),
        ("metadata", {"\ud800": "v"}, "metadata", "UTF-8"),
        ("name", "\ud800", "name", "UTF-8"),
        ("security_groups", ["a", "b"], "security_groups", "at most one"),
        ("security_groups", "default", "security_groups", "a list of names"),
        ("security_groups", [""], "security_groups[0]", "not blank"),
        ("microversion", "two", "microversion", "a microversion such as"),
    ],
)
async def test_a_server_that_cannot_be_created_as_asked(argument: str, value: Any, named: str, rule: str) -> None:
    async with mocked() as (bms, cloud):
        with pytest.raises(InvalidRequestError, match=rule) as caught:
            await bms.nova.servers.create(**{**GOOD, argument: value})
        assert caught.value.argument == named
        assert sent(cloud) == []


REFUSED: list[tuple[str, Callable[[BmsClient], Awaitable[object]]]] = [
    ("server_id", lambda bms: bms.nova.servers.get("a/b")),
    ("server_id", lambda bms: bms.nova.servers.delete("")),
    ("server_id", lambda bms: bms.nova.servers.start("..")),
    ("server_id", lambda bms: bms.nova.servers.stop("a b")),
    ("server_id", lambda bms: bms.nova.servers.reboot("a?b")),
    ("server_id", lambda bms: bms.nova.servers.wait_for("a/b", "ACTIVE")),
    ("status", lambda bms: bms.nova.servers.wait_for("a", "STOPPED")),
    ("timeout", lambda bms: bms.nova.servers.wait_for("a", "ACTIVE", timeout=-1)),
    ("timeout", lambda bms: bms.nova.servers.wait_for("a", "ACTIVE", timeout=float("nan"))),
    ("timeout", lambda bms: bms.nova.servers.wait_until_deleted("a", timeout=True)),
    ("name", lambda bms: bms.nova.servers.rename("a", " ")),
    ("min_disk", lambda bms: bms.nova.flavors.list(min_disk=-1)),
    ("min_ram", lambda bms: bms.nova.flavors.list(min_ram="1")),  # type: ignore[arg-type]
    ("sort_key", lambda bms: bms.nova.flavors.list(sort_key="ram")),  # type: ignore[arg-type]
    ("sort_dir", lambda bms: bms.nova.flavors.list(sort_dir="up")),  # type: ignore[arg-type]
    ("flavor_id", lambda bms: bms.nova.flavors.get("")),
    ("flavor_id", lambda bms: bms.nova.flavors.extra_specs("a/b")),
    ("name", lambda bms: bms.nova.keypairs.get("")),
    ("name", lambda bms: bms.nova.keypairs.create("a" * 256)),
    ("public_key", lambda bms: bms.nova.keypairs.import_key("a", "k" * 1025)),
    ("name", lambda bms: bms.nova.keypairs.delete(" ")),
    ("tags[1]", lambda bms: bms.nova.tags.replace("a", ["x", ""])),
    ("tags", lambda bms: bms.nova.tags.replace("a", "x")),
    ("tags", lambda bms: bms.nova.tags.replace("a", [str(n) for n in range(51)])),
    ("tag", lambda bms: bms.nova.tags.add("a", ".hidden")),
    ("tag", lambda bms: bms.nova.tags.add("a", "x" * 81)),
    ("tag", lambda bms: bms.nova.tags.has("a", "")),
    ("tag", lambda bms: bms.nova.tags.remove("a", "")),
    ("metadata", lambda bms: bms.nova.metadata.update("a", {})),
    ("metadata", lambda bms: bms.nova.metadata.update("a", {"a/b": "v"})),
    ("metadata['k']", lambda bms: bms.nova.metadata.update("a", {"k": 'say "so"'})),
    ("metadata['k']", lambda bms: bms.nova.metadata.set("a", "k", "back\\slash")),
    ("metadata", lambda bms: bms.nova.metadata.set("a", "k?", "v")),
    ("key", lambda bms: bms.nova.metadata.delete("a", "")),
    ("key", lambda bms: bms.nova.metadata.delete("a", "k" * 256)),
    ("vpc_id", lambda bms: bms.nova.addresses.get("a", "")),
    ("port_id", lambda bms: bms.nova.interfaces.get("a", "b/c")),
    ("volume_id", lambda bms: bms.nova.volumes.get("a", "")),
    ("volume_id", lambda bms: bms.nova.volumes.attach("a", "b c")),
    ("device", lambda bms: bms.nova.volumes.attach("a", VOLUME_ID, "sdb")),
    ("volume_id", lambda bms: bms.nova.volumes.detach("a", "")),
]


@pytest.mark.parametrize(("argument", "make"), REFUSED)
async def test_an_invalid_argument_is_named_and_nothing_is_sent(
    argument: str, make: Callable[[BmsClient], Awaitable[object]]
) -> None:
    async with mocked() as (bms, cloud):
        with pytest.raises(InvalidRequestError) as caught:
            await make(bms)
        assert caught.value.argument == argument
        assert sent(cloud) == []


@pytest.mark.parametrize(
    ("argument", "make"),
    [
        ("tag", lambda bms: bms.nova.tags.remove("a", "")),
        ("tag", lambda bms: bms.nova.tags.has("a", "")),
        ("server_id", lambda bms: bms.nova.servers.delete("")),
        ("key", lambda bms: bms.nova.metadata.delete("a", "")),
        ("name", lambda bms: bms.nova.keypairs.delete("")),
        ("volume_id", lambda bms: bms.nova.volumes.detach("a", "")),
        ("tag", lambda bms: bms.nova.tags.add("a", "\ud800")),
    ],
)
async def test_an_empty_part_of_a_path_is_refused_also_without_checks(
    argument: str, make: Callable[[BmsClient], Awaitable[object]]
) -> None:
    # Removing the tag "" would remove them all, and asking for the server "" would ask for the list.
    async with mocked(check=False) as (bms, cloud):
        with pytest.raises(InvalidRequestError) as caught:
            await make(bms)
        assert caught.value.argument == argument
        assert sent(cloud) == []


async def test_without_checks_the_cloud_decides() -> None:
    async with mocked(check=False) as (bms, cloud):
        cloud.post(SERVERS).respond(json={"server": {"id": "a"}})
        cloud.put(f"{SERVERS}/a%20b/tags/x%2Fy").respond(204)
        await bms.nova.servers.create(**{**GOOD, "name": "", "networks": [], "security_groups": ["a", "b"]})
        await bms.nova.tags.add("a b", "x/y")
        assert body_of(sent(cloud)[0])["server"]["security_groups"] == [{"name": "a"}, {"name": "b"}]


async def test_fifty_tags_and_keys_with_allowed_signs_are_fine() -> None:
    async with mocked() as (bms, cloud):
        cloud.route(url__startswith=SERVERS).respond(json={"tags": [], "metadata": {}})
        assert await bms.nova.tags.replace(SERVER_ID, [str(number) for number in range(50)]) == ()
        assert await bms.nova.tags.replace(SERVER_ID, []) == ()
        assert await bms.nova.metadata.update(SERVER_ID, {"a b_c-d.e:f|g'h": "<any> {text}?"}) == {}


WITH_TEXT = [row for row in operations() if row.name.startswith("nova.") and row.path.count("{") > 1]


@given(row=st.sampled_from(WITH_TEXT), text=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_any_text_in_a_path_stays_one_segment(row: Any, text: str) -> None:
    names = [part.partition("}")[0] for part in row.path.split("{")[1:]]
    parts = {name: PROJECT if name == "project_id" else text for name in names}

    request = build_request(row, endpoint=ENDPOINT, path=parts)

    # As the library that sends it takes it, which may resolve steps in a path.
    url = httpx.URL(request.url)
    path, _, query = url.raw_path.decode().partition("?")
    assert query == ""
    assert url.fragment == ""
    assert url.host == "bms.example.com"
    segments = path.split("/")[1:]
    template = row.path.split("/")[1:]
    assert len(segments) == len(template)
    for sent_segment, wanted in zip(segments, template, strict=True):
        expected = parts[wanted[1:-1]] if wanted.startswith("{") else wanted
        assert unquote(sent_segment) == expected
