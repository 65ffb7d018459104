"""How bare metal is told from virtual machines: the tag and the flavors of some clouds, or what another cloud has."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from bms_async import BareMetal, BmsClient, BriefServer, ConfigurationError, InvalidRequestError, StaticToken
from bms_async.config import Settings
from tests.api.nova._helpers import MICROVERSION, NOVA, SERVERS, a_server
from tests.support.clouds import simulated
from tests.support.mocked import mocked, sent
from tests.support.virtual_clock import run_virtually

DETAIL = f"{SERVERS}/detail"
MACHINES: dict[str, Any] = {
    "servers": [
        a_server(server_id="tagged", name="a", flavor={"id": "f-1"}, tags=["metal"]),
        a_server(server_id="first", name="b", flavor={"id": "f-2"}),
        a_server(server_id="second", name="c", flavor={"id": "f-2"}),
        a_server(server_id="virtual", name="d", flavor={"id": "f-1"}),
        a_server(server_id="orphan", name="e", flavor={"id": "f-3"}),
        a_server(server_id="odd", name="f"),
    ],
    "servers_links": [],
}


def answer_flavors(cloud: Any) -> None:
    for flavor_id, name, specs in (("f-1", "small", {"kind": "vm"}), ("f-2", "bm.large", {"hw:kind": "ironic"})):
        cloud.get(f"{NOVA}/flavors/{flavor_id}").respond(json={"flavor": {"id": flavor_id, "name": name}})
        cloud.get(f"{NOVA}/flavors/{flavor_id}/os-extra_specs").respond(json={"extra_specs": specs})
    cloud.get(url__startswith=f"{NOVA}/flavors/f-3").respond(
        404, json={"itemNotFound": {"code": 404, "message": "Flavor f-3 could not be found."}}
    )


def reads_of_flavors(cloud: Any) -> list[str]:
    return [str(request.url).partition("/flavors/")[2] for request in sent(cloud) if "/flavors/" in str(request.url)]


@pytest.mark.parametrize(
    ("setting", "found", "read"),
    [
        (BareMetal.by_tag("metal"), ["tagged"], []),
        (BareMetal.by_flavor_prefix("bm."), ["first", "second"], ["f-1", "f-2", "f-3"]),
        (BareMetal.by_flavor_prefix("f-2"), ["first", "second"], ["f-1", "f-3"]),
        (
            BareMetal.by_extra_spec("hw:kind", "ironic"),
            ["first", "second"],
            ["f-1/os-extra_specs", "f-2/os-extra_specs", "f-3/os-extra_specs"],
        ),
        (BareMetal.all(), ["tagged", "first", "second", "virtual", "orphan", "odd"], []),
    ],
    ids=str,
)
async def test_each_sign_tells_bare_metal_apart_and_a_flavor_is_read_once(
    setting: BareMetal, found: list[str], read: list[str]
) -> None:
    async with mocked(bare_metal=setting) as (bms, cloud):
        cloud.get(DETAIL).respond(json=MACHINES)
        answer_flavors(cloud)
        for view in (bms, bms.with_options(timeout=5.0)):
            assert [server.id async for server in view.nova.servers.list_details()] == found
        assert reads_of_flavors(cloud) == read


async def test_a_list_may_have_a_sign_of_its_own() -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).respond(json=MACHINES)
        answer_flavors(cloud)
        by_prefix = BareMetal.by_flavor_prefix("bm.")
        listed = bms.nova.servers.list_details(bare_metal_only=by_prefix)
        assert [server.id async for server in listed] == ["first", "second"]
        assert [server.id async for server in bms.nova.servers.list_details()] == []
        with pytest.raises(InvalidRequestError, match=r"^bare_metal_only='metal': expected True, False or a BareMetal"):
            bms.nova.servers.list_details(bare_metal_only="metal")  # type: ignore[arg-type]


async def test_the_brief_list_by_flavors_is_made_from_the_details() -> None:
    async with mocked(bare_metal=BareMetal.by_flavor_prefix("bm.")) as (bms, cloud):
        cloud.get(DETAIL).respond(json=MACHINES)
        answer_flavors(cloud)
        found = [server async for server in bms.nova.servers.list()]
        assert found == [BriefServer(id="first", name="b"), BriefServer(id="second", name="c")]
        assert MICROVERSION not in sent(cloud)[0].headers


async def test_the_brief_list_by_a_tag_has_the_cloud_filter() -> None:
    async with mocked(bare_metal=BareMetal.by_tag("metal")) as (bms, cloud):
        cloud.get(SERVERS).respond(json={"servers": [], "servers_links": []})
        assert [server async for server in bms.nova.servers.list()] == []
        assert str(sent(cloud)[0].url) == f"{SERVERS}?limit=1000&tags=metal"


async def test_flavors_are_told_apart_by_the_same_sign() -> None:
    listed = {"flavors": [{"id": "f-1", "name": "small"}, {"id": "f-2", "name": "bm.large"}]}
    for setting, found in (
        (None, []),
        (BareMetal.by_flavor_prefix("bm."), ["f-2"]),
        (BareMetal.by_extra_spec("hw:kind", "ironic"), ["f-2"]),
        # Flavors have no tags.
        (BareMetal.by_tag("metal"), ["f-1", "f-2"]),
        (BareMetal.all(), ["f-1", "f-2"]),
    ):
        async with mocked(bare_metal=setting) as (bms, cloud):
            cloud.get(f"{NOVA}/flavors/detail").respond(json=listed)
            answer_flavors(cloud)
            assert [flavor.id for flavor in await bms.nova.flavors.list()] == found


def warnings_in(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]


async def test_a_list_that_left_out_everything_says_so_once(caplog: pytest.LogCaptureFixture) -> None:
    async with mocked() as (bms, cloud):
        cloud.get(DETAIL).respond(json=MACHINES)
        cloud.get(SERVERS).respond(json={"servers": [], "servers_links": []})
        for _ in range(2):
            assert [server async for server in bms.nova.servers.list_details()] == []
            assert [server async for server in bms.with_options(timeout=5.0).nova.servers.list()] == []
        [text] = warnings_in(caplog)
        assert text.startswith("nova.servers.list_details: none of 6 listed has the tag __type_baremetal or a flavor")
        assert "BmsClient(bare_metal=" in text
        assert "BMS_BARE_METAL" in text


async def test_an_empty_brief_list_says_what_the_cloud_was_asked_for(caplog: pytest.LogCaptureFixture) -> None:
    async with mocked() as (bms, cloud):
        cloud.get(SERVERS).respond(json={"servers": [], "servers_links": []})
        # With a filter of the caller's it says nothing of the sign.
        assert [server async for server in bms.nova.servers.list(name="x")] == []
        assert warnings_in(caplog) == []
        assert [server async for server in bms.nova.servers.list()] == []
        [text] = warnings_in(caplog)
        assert text.startswith("nova.servers.list: no server has the tag")


async def test_a_list_that_left_out_nothing_or_read_nothing_is_silent(caplog: pytest.LogCaptureFixture) -> None:
    async with mocked() as (bms, cloud):
        lists: tuple[dict[str, Any], ...] = (
            {"servers": []},
            {"servers": [a_server(flavor={"id": "physical.o2"}), a_server(server_id="vm")]},
        )
        for listed in lists:
            cloud.get(DETAIL).respond(json={**listed, "servers_links": []})
            [server async for server in bms.nova.servers.list_details()]
        assert [server async for server in bms.nova.servers.list_details(bare_metal_only=False)]
    assert warnings_in(caplog) == []


@pytest.mark.parametrize(
    ("text", "setting"),
    [
        ("tag:metal", BareMetal.by_tag("metal")),
        ("flavor_prefix:bm.", BareMetal.by_flavor_prefix("bm.")),
        (
            " extra_spec:capabilities:hypervisor_type=ironic ",
            BareMetal.by_extra_spec("capabilities:hypervisor_type", "ironic"),
        ),
        ("all", BareMetal.all()),
    ],
)
def test_a_variable_or_a_cloud_names_a_sign(text: str, setting: BareMetal) -> None:
    assert BareMetal.parse(text) == setting


@pytest.mark.parametrize("text", ["", "metal", "tag:", "extra_spec:key", "extra_spec:=value", "flavor:bm."])
def test_a_text_that_names_no_sign_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequestError, match=r"^bare_metal=.*: expected 'tag:NAME', "):
        BareMetal.parse(text)


def test_settings_bring_their_sign_unless_an_argument_does(monkeypatch: pytest.MonkeyPatch) -> None:
    address = "http://localhost"
    given = Settings(
        auth=StaticToken("token-of-a-test"), project_id="51a0c10d51a0c10d51a0c10d51a0c10d", project_name=None,
        endpoint=address, compute_endpoint=address, identity_endpoint=address, ca_bundle=None, bare_metal="tag:metal",
    )  # fmt: skip
    seen: list[BareMetal | None] = []
    monkeypatch.setattr("bms_async.client.BareMetalFilter", seen.append)
    BmsClient.from_settings(given)
    BmsClient.from_settings(given, bare_metal=BareMetal.all())
    assert seen == [BareMetal.by_tag("metal"), BareMetal.all()]


def test_a_wrong_sign_is_a_mistake_of_the_configuration(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        ("BMS_ENDPOINT", "http://localhost"), ("OS_TOKEN", "token-of-a-test"), ("BMS_BARE_METAL", "metal"),
        ("OS_PROJECT_ID", "51a0c10d51a0c10d51a0c10d51a0c10d"),
    ):  # fmt: skip
        monkeypatch.setenv(name, value)
    with pytest.raises(
        ConfigurationError, match=r"^BMS_BARE_METAL, or bms_bare_metal in clouds\.yaml: bare_metal='metal'"
    ):
        BmsClient.from_env()
    with pytest.raises(ConfigurationError, match=r"^bare_metal=str: expected a BareMetal"):
        BmsClient.from_env(bare_metal="tag:metal")  # type: ignore[arg-type]


def test_a_cloud_with_both_kinds_is_listed_by_each_sign() -> None:
    async def main() -> None:
        async with simulated(servers=30, virtual_machines=10) as sim:
            for setting in (BareMetal.by_tag(), BareMetal.by_flavor_prefix("physical.")):
                found = [each.id async for each in sim.bms.nova.servers.list_details(bare_metal_only=setting)]
                brief = [each.id async for each in sim.bms.nova.servers.list(bare_metal_only=setting)]
                assert found == brief == sim.ids[::-1]

    run_virtually(main)
