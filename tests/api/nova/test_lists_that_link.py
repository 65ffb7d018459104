"""Lists that mostly come in one answer: where it says that there are more, they are read on, or are an error."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from bms_async import BmsClient, DecodeError, PermissionDeniedError
from tests.api.nova._helpers import FLAVOR, NOVA
from tests.support.mocked import BASE, ENDPOINT, SERVER_ID, mocked, sent, virtually

FLAVORS = f"{NOVA}/flavors/detail"
KEY_PAIRS = f"{NOVA}/os-keypairs"
PROJECTS = f"{ENDPOINT}/v3/projects"
OWN_PROJECTS = f"{ENDPOINT}/v3/auth/projects"


def next_page(address: str, marker: str) -> list[dict[str, str]]:
    return [{"rel": "next", "href": f"{address}?limit=2&marker={marker}"}]


def flavors(*ids: str) -> list[dict[str, Any]]:
    return [{**FLAVOR, "id": f"physical.{each}", "name": each} for each in ids]


@virtually
async def test_flavors_are_read_as_long_as_a_page_links_to_the_next() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        if "marker" in request.url.params:
            return httpx.Response(200, json={"flavors": flavors("b", "c")})
        return httpx.Response(200, json={"flavors": flavors("a", "b"), "flavors_links": next_page(FLAVORS, "b")})

    async with mocked() as (bms, cloud):
        cloud.get(FLAVORS).mock(side_effect=answer)

        assert [each.name for each in await bms.nova.flavors.list(min_disk=3)] == ["a", "b", "c"]
        assert [dict(request.url.params) for request in sent(cloud)] == [
            {"minDisk": "3"}, {"minDisk": "3", "limit": "2", "marker": "b"}
        ]  # fmt: skip


@virtually
async def test_key_pairs_are_read_as_long_as_a_page_links_to_the_next() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        name, links = ("two", {}) if "marker" in request.url.params else ("one", next_page(KEY_PAIRS, "one"))
        pair = {"keypair": {"name": name, "public_key": "ssh-rsa"}}
        return httpx.Response(200, json={"keypairs": [pair], "keypairs_links": links or []})

    async with mocked() as (bms, cloud):
        cloud.get(KEY_PAIRS).mock(side_effect=answer)

        assert [each.name for each in await bms.nova.keypairs.list()] == ["one", "two"]


@virtually
async def test_projects_are_read_as_long_as_a_page_names_a_next_one() -> None:
    def answer(request: httpx.Request) -> httpx.Response:
        second = request.url.params.get("page") == "2"
        found = {"projects": [{"id": "b" if second else "a", "name": "x"}]}
        return httpx.Response(200, json={**found, "links": {"next": None if second else f"{PROJECTS}?page=2"}})

    async with mocked() as (bms, cloud):
        cloud.get(PROJECTS).mock(side_effect=answer)

        assert [each.id for each in await bms.identity.projects(name="x")] == ["a", "b"]
        assert [request.url.params.get("name") for request in sent(cloud)] == ["x", "x"]


@virtually
async def test_a_next_page_that_brings_nothing_new_is_asked_for_again_and_then_is_an_error() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(FLAVORS).respond(json={"flavors": flavors("a"), "flavors_links": next_page(FLAVORS, "a")})

        with pytest.raises(
            DecodeError, match=r"nova\.flavors\.list: expected more than 1 items, .* nothing new 4 times"
        ):
            await bms.nova.flavors.list()
        assert len(sent(cloud)) == 5


@virtually
async def test_projects_that_the_service_cuts_off_are_an_error_and_not_all() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(PROJECTS).respond(json={"projects": [{"id": "a"}], "truncated": True})
        with pytest.raises(DecodeError, match="expected all projects, got 1 of a list"):
            await bms.identity.projects()

        cloud.get(PROJECTS).respond(403)
        cloud.get(OWN_PROJECTS).respond(json={"projects": [{"id": "a"}], "truncated": False, "links": {"next": None}})
        assert [each.id for each in await bms.identity.projects()] == ["a"]
        cloud.get(OWN_PROJECTS).respond(403)
        with pytest.raises(PermissionDeniedError):
            await bms.identity.projects()


LISTS: dict[str, tuple[str, str, Any]] = {
    "nova.flavors": (FLAVORS, "flavors", lambda bms: bms.nova.flavors.list()),
    "nova.keypairs": (KEY_PAIRS, "keypairs", lambda bms: bms.nova.keypairs.list()),
    "nova.tags": (f"{NOVA}/servers/{SERVER_ID}/tags", "tags", lambda bms: bms.nova.tags.list(SERVER_ID)),
    "nova.volumes": (
        f"{NOVA}/servers/{SERVER_ID}/os-volume_attachments",
        "volumeAttachments",
        lambda bms: bms.nova.volumes.list(SERVER_ID),
    ),
    "nova.interfaces": (
        f"{NOVA}/servers/{SERVER_ID}/os-interface",
        "interfaceAttachments",
        lambda bms: bms.nova.interfaces.list(SERVER_ID),
    ),
    "interfaces": (
        f"{BASE}/baremetalservers/{SERVER_ID}/os-interface",
        "interfaceAttachments",
        lambda bms: bms.servers.list_interfaces(SERVER_ID),
    ),
    "volumes": (
        f"{BASE}/baremetalservers/{SERVER_ID}/os-volume_attachments",
        "volumeAttachments",
        lambda bms: bms.servers.list_volumes(SERVER_ID),
    ),
    "flavors": (f"{BASE}/baremetalservers/flavors", "flavors", lambda bms: bms.flavors.list()),
    "projects": (PROJECTS, "projects", lambda bms: bms.identity.projects()),
    "versions": (f"{ENDPOINT}/", "versions", lambda bms: bms.versions.list()),
}


async def ask(bms: BmsClient, name: str) -> object:
    return await LISTS[name][2](bms)


@pytest.mark.parametrize("name", LISTS)
@virtually
async def test_an_answer_without_its_list_is_not_an_empty_one(name: str) -> None:
    address, field, _ = LISTS[name]
    async with mocked() as (bms, cloud):
        cloud.get(address).respond(json={"unknown": []})
        with pytest.raises(DecodeError, match=field):
            await ask(bms, name)
        nothing: tuple[object, ...] = (None, "", [])
        for empty in nothing:
            cloud.get(address).respond(json={field: empty})
            assert await ask(bms, name) == ()
