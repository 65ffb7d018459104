"""Which servers a command is about: names, filters, and what is learnt of the servers."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from anyio import current_time

from bms_async import BmsClient, StaticToken
from bms_async.cli.access.cloud import OpenClient
from bms_async.cli.access.known import KnownServers
from bms_async.cli.selection.filters import Filters, make_filters, split
from bms_async.cli.selection.learning import learn_servers
from bms_async.cli.terminal.exit import UsageError
from bms_async.config import Settings
from bms_async.models import Server
from bms_async.testing import Answer, CloudSettings, SimulatedCloud, run_virtually

NOTHING: dict[str, Any] = {
    "tag": (), "tag_any": (), "not_tag": (), "zone": (), "name": (), "status": (), "flavor": (),
    "enterprise_project": None,
}  # fmt: skip


SETTINGS = Settings(
    endpoint="http://localhost", auth=StaticToken("t"), project_id="p", project_name="", compute_endpoint="",
    identity_endpoint="", ca_bundle=None,
)  # fmt: skip


def typed(**options: Any) -> Filters:
    arguments: Any = NOTHING | options
    return make_filters(arguments)


def server(server_id: str, *, zone: str = "az-1", tags: tuple[str, ...] = ()) -> Server:
    fields = {"id": server_id, "status": "ACTIVE", "tags": tags, "OS-EXT-AZ:availability_zone": zone,
              "flavor": {"id": "f-1", "name": "big"}}  # fmt: skip
    return msgspec.convert(fields, Server)


def opened(bms: BmsClient) -> OpenClient:
    return OpenClient(bms, SETTINGS, KnownServers())


def test_nothing_typed_filters_nothing() -> None:
    assert not typed()
    assert split(typed()).queries == [dict.fromkeys(("tags", "name", "status", "flavor", "enterprise_project_id"))]
    assert typed().fits(server("a"))


def test_the_cloud_is_asked_for_one_tag_and_the_others_are_looked_for_here() -> None:
    filters = typed(tag=["a", "b"], not_tag=["c"], zone=["az-1", "az-2"])
    [query], rest = split(filters)
    assert query["tags"] == "a"
    assert rest == Filters(tags=("b",), not_tags=("c",), zones=("az-1", "az-2"))
    assert rest.fits(server("1", tags=("b",)))
    assert not rest.fits(server("1", tags=("a",)))
    assert not rest.fits(server("1", tags=("b", "c")))
    assert not rest.fits(server("1", tags=("b",), zone="az-3"))


def test_a_few_values_are_a_list_each_and_many_are_looked_at_here() -> None:
    few = split(typed(tag_any=["a", "b"], status=["active", "SHUTOFF"]))
    assert [(query["tags"], query["status"]) for query in few.queries] == [
        ("a", "ACTIVE"), ("a", "SHUTOFF"), ("b", "ACTIVE"), ("b", "SHUTOFF"),
    ]  # fmt: skip
    assert not few.rest
    tags = [f"rack-{number}" for number in range(20)]
    many = split(typed(tag_any=tags, status=["active", "SHUTOFF"]))
    assert [query["status"] for query in many.queries] == ["ACTIVE", "SHUTOFF"]
    assert many.rest.fits(server("1", tags=("rack-19",)))
    assert not many.rest.fits(server("1", tags=("rack-20",)))


def test_a_flavor_is_known_to_the_cloud_by_its_id_and_here_by_its_name_too() -> None:
    filters = typed(flavor=["big"])
    assert split(filters).queries[0]["flavor"] == "big"
    chosen = split(filters, by_flavor=False)
    assert chosen.queries[0]["flavor"] is None
    assert chosen.rest.fits(server("1"))
    assert not Filters(flavors=("small",)).fits(server("1"))


@pytest.mark.parametrize(
    ("options", "told"),
    [
        ({"tag_any": [" "]}, "--tag-any is empty"),
        ({"zone": [""]}, "--zone is empty"),
        ({"tag": ["a,b"]}, "repeat the option: --tag a --tag b"),
        ({"status": ["off"]}, "did you mean SHUTOFF?"),
        ({"status": ["ACTVE"]}, "did you mean ACTIVE?"),
        ({"status": ["hard reboots"]}, "did you mean HARD_REBOOT?"),
    ],
)
def test_a_filter_that_is_surely_not_meant_is_refused(options: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as refused:
        typed(**options)
    assert told in str(refused.value)


def test_a_status_has_no_case_and_an_unknown_one_is_left_to_the_cloud(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert typed(status=["active", "Active", "hard-reboot"]).statuses == ("ACTIVE", "HARD_REBOOT")
    assert capsys.readouterr().err == ""
    assert typed(status=["rescued"]).statuses == ("RESCUED",)
    assert "not a documented status" in capsys.readouterr().err


def test_filters_are_said_in_words() -> None:
    assert (
        str(typed(tag=["a", "b"], status=["SHUTOFF"], not_tag=["c"])) == "tag a and b and status SHUTOFF and no tag c"
    )


def test_a_few_servers_are_read_and_many_are_looked_for_in_the_list() -> None:
    async def main() -> None:
        sim = SimulatedCloud(CloudSettings(servers=120))
        async with sim.client() as bms:
            few, many = opened(bms), opened(bms)
            await learn_servers(few, [sim.ids[3].upper(), sim.ids[3], "no-such-server", *sim.ids[5:20]])
            assert len(few.known) == 16
            assert few.known.label(sim.ids[3]) == f"bms-000003 ({sim.ids[3]})"
            assert sim.arrived("servers.get") == 17
            for _ in range(2):
                await learn_servers(many, sim.ids[:100])
                assert sim.arrived("servers.list") == 1
            assert len(many.known) == 100

    run_virtually(main)


@pytest.mark.parametrize("count", [10, 30])
def test_what_cannot_be_learnt_is_left_out_and_delays_nothing_for_long(count: int) -> None:
    async def main() -> None:
        sim = SimulatedCloud(CloudSettings(servers=30))
        sim.faults.add("servers.get", Answer(status=403), times=None)
        sim.faults.add("servers.list", Answer(status=403), times=None)
        async with sim.client() as bms:
            refused = opened(bms)
            await learn_servers(refused, sim.ids[:count])
            assert len(refused.known) == 0
            assert len(sim.calls) <= 8
        slow = SimulatedCloud(CloudSettings(servers=30, latency=(60.0, 60.0)))
        async with slow.client() as bms:
            before = current_time()
            await learn_servers(opened(bms), slow.ids[:count])
            assert current_time() - before < 6

    run_virtually(main)
