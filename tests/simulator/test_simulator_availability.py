"""Which servers can be reached, and which were away when: boots, servers that never come back, racks."""

from __future__ import annotations

import math
from collections import Counter

import pytest

from bms_async.simulator import Absence, Cloud, CloudSettings, MostAway
from bms_async.simulator.core.attributes import IMAGE, KEY_NAME, NETWORK, tags_of, zone_of
from bms_async.simulator.core.availability import most_away
from tests.simulator._helpers import Hand, Worlds

MINUTE = 60.0


def cloud_of(hand: Hand, **settings: object) -> Cloud:
    return Cloud(CloudSettings(**{"servers": 6, "job_seconds": (MINUTE, MINUTE), **settings}), hand)  # type: ignore[arg-type]


def one_group(_server_id: str) -> str:
    return "all"


def reachable(cloud: Cloud) -> list[str]:
    return [each for each in list(cloud.servers) if cloud.is_reachable(each)]


def test_a_server_is_away_from_the_asking_until_its_job_has_ended() -> None:
    hand = Hand()
    cloud = cloud_of(hand)
    first, *others = cloud.servers
    cloud.act("reboot", [first])
    assert reachable(cloud) == others
    hand.now += MINUTE
    assert cloud.is_reachable(first)
    assert cloud.availability.absences() == [Absence(first, "reboot", 100.0, 160.0)]


def test_a_server_boots_before_it_is_reachable_although_it_is_active() -> None:
    hand = Hand()
    cloud = cloud_of(hand, boot_seconds=(30.0, 30.0))
    first = next(iter(cloud.servers))
    cloud.act("reboot", [first])
    hand.now += MINUTE + 29
    assert cloud.servers[first].status == "ACTIVE"
    assert not cloud.is_reachable(first)
    hand.now += 1
    assert cloud.is_reachable(first)
    assert cloud.availability.absences() == [Absence(first, "reboot", 100.0, 190.0)]


def test_boot_times_are_drawn_between_the_shortest_and_the_longest() -> None:
    cloud = cloud_of(Hand(), servers=200, boot_seconds=(30.0, 90.0))
    cloud.act("reboot", list(cloud.servers))
    boots = [absence.back - absence.asked - MINUTE for absence in cloud.availability.absences()]
    assert 30 <= min(boots) < 35
    assert 85 < max(boots) <= 90


def test_a_server_that_never_comes_back_is_active_and_away_for_ever() -> None:
    hand = Hand()
    cloud = cloud_of(hand, never_back_share=0.5)
    lost = cloud.availability.never_back
    assert len(lost) == 3
    assert len(reachable(cloud)) == 6
    cloud.act("reboot", list(cloud.servers))
    hand.now += 1e9
    assert {server.status for server in cloud.servers.values()} == {"ACTIVE"}
    assert set(reachable(cloud)) == set(cloud.servers) - lost
    assert {absence.server_id for absence in cloud.availability.absences() if absence.back == math.inf} == lost


def test_who_never_comes_back_follows_from_the_seed() -> None:
    def lost(seed: int) -> set[str]:
        return cloud_of(Hand(), servers=100, seed=seed, never_back_share=0.1).availability.never_back

    assert lost(1) == lost(1)
    assert lost(1).isdisjoint(lost(2))


async def test_created_servers_may_never_come_back_but_were_not_away(world: Worlds) -> None:
    here = world(never_back_share=1.0)
    body = {
        "name": "new", "imageRef": IMAGE, "flavorRef": "physical.o2.medium", "networks": [{"uuid": NETWORK}],
        "key_name": KEY_NAME, "availability_zone": "az-sim-1",
    }  # fmt: skip
    made = await here.nova.post("/servers", json={"server": body})
    assert made.is_success, made.text
    here.hand.now += 1000
    server_id = made.json()["server"]["id"]
    assert here.cloud.servers[server_id].status == "ACTIVE"
    assert not here.cloud.is_reachable(server_id)
    assert here.cloud.availability.absences() == []


def test_a_server_that_is_off_or_unknown_is_not_reachable() -> None:
    hand = Hand()
    cloud = cloud_of(hand, stopped_share=0.5)
    assert len(reachable(cloud)) == 3
    assert not cloud.is_reachable("nobody")


def test_a_stop_is_over_when_it_ends() -> None:
    hand = Hand()
    cloud = cloud_of(hand, boot_seconds=(30.0, 30.0), never_back_share=1.0)
    first = next(iter(cloud.servers))
    cloud.act("stop", [first])
    hand.now += MINUTE
    assert not cloud.is_reachable(first)
    assert cloud.availability.absences() == [Absence(first, "stop", 100.0, 160.0)]


def test_a_reboot_that_failed_leaves_the_server_away_until_a_start_brings_it_back() -> None:
    hand = Hand()
    cloud = cloud_of(hand, fail_share=1.0)
    first = next(iter(cloud.servers))
    cloud.act("reboot", [first])
    hand.now += 2 * MINUTE
    assert cloud.availability.most_away(one_group) == {"all": MostAway(1, 100.0)}
    cloud.servers[first].faulty = False
    cloud.act("start", [first])
    hand.now += MINUTE
    assert cloud.is_reachable(first)
    assert [absence.back for absence in cloud.availability.absences()] == [math.inf, 280.0]


def test_a_batch_that_touches_no_server_makes_none_away() -> None:
    hand = Hand()
    cloud = cloud_of(hand, stillborn_share=1.0)
    cloud.act("reboot", list(cloud.servers))
    assert cloud.availability.absences() == []
    assert len(reachable(cloud)) == 6


def test_a_server_that_is_busy_already_is_asked_once() -> None:
    cloud = cloud_of(Hand())
    first = next(iter(cloud.servers))
    cloud.act("reboot", [first])
    cloud.act("reboot", [first])
    assert len(cloud.availability.absences()) == 1


def test_a_locked_server_whose_stop_is_refused_was_not_away_and_has_not_begun_to_stop() -> None:
    cloud = cloud_of(Hand(), fail_share=0.5)
    for server in cloud.servers.values():
        server.locked = not server.faulty
    cloud.act("stop", list(cloud.servers))
    stopped = {server.id for server in cloud.servers.values() if server.faulty}
    assert {absence.server_id for absence in cloud.availability.absences()} == stopped
    assert cloud.activity.power_counts()["stop"].keys() == stopped


async def test_native_actions_and_deletions_are_in_the_books(world: Worlds) -> None:
    here = world(job_seconds=(MINUTE, MINUTE), boot_seconds=(10.0, 10.0))
    first, second, third, *_ = here.ids
    assert (await here.nova.post(f"/servers/{first}/action", json={"reboot": {"type": "HARD"}})).status_code == 202
    here.hand.now += 1
    assert (await here.nova.post(f"/servers/{second}/action", json={"os-stop": None})).status_code == 202
    here.hand.now += 1
    assert (await here.nova.delete(f"/servers/{third}")).status_code == 204
    assert here.cloud.availability.absences() == [
        Absence(first, "reboot", 100.0, 170.0),
        Absence(second, "stop", 101.0, 161.0),
        Absence(third, "delete", 102.0, 162.0),
    ]
    here.hand.now += MINUTE
    assert not here.cloud.is_reachable(first)
    here.hand.now += 10
    assert here.cloud.is_reachable(first)
    assert not here.cloud.is_reachable(third)


async def test_a_reinstallation_is_over_when_its_server_has_booted(world: Worlds) -> None:
    here = world(job_seconds=(MINUTE, MINUTE), boot_seconds=(10.0, 10.0), stopped_share=1.0)
    first = here.ids[0]
    asked = await here.bms.post(
        f"/baremetalservers/{first}/reinstallos", json={"os-reinstall": {"keyname": KEY_NAME, "userid": "7"}}
    )
    assert asked.is_success, asked.text
    assert here.cloud.availability.absences() == [Absence(first, "reinstall", 100.0, 170.0)]


async def test_a_readiness_check_by_http_asks_the_administrative_path(world: Worlds) -> None:
    here = world(job_seconds=(MINUTE, MINUTE))
    first = here.ids[0]
    here.cloud.act("reboot", [first])
    assert (await here.bms.get(f"http://bms.test/_admin/servers/{first}/reachable")).status_code == 503
    here.hand.now += MINUTE
    assert (await here.bms.get(f"http://bms.test/_admin/servers/{first}/reachable")).status_code == 200


def test_the_most_that_were_away_are_counted_by_group() -> None:
    absences = [
        Absence("a1", "reboot", 0.0, 60.0),
        Absence("b1", "reboot", 10.0, 70.0),
        Absence("a2", "reboot", 59.0, 90.0),
        Absence("a3", "reboot", 60.0, math.inf),
        Absence("b2", "reboot", 70.0, 80.0),
    ]
    assert most_away(absences, lambda each: each[0]) == {"a": MostAway(2, 59.0), "b": MostAway(1, 10.0)}
    assert most_away(absences, lambda each: each[0], settle=5.0) == {"a": MostAway(3, 60.0), "b": MostAway(2, 70.0)}


def test_an_absence_that_another_action_lengthens_is_one() -> None:
    absences = [
        Absence("a", "reboot", 0.0, 60.0),
        Absence("a", "delete", 10.0, 90.0),
        Absence("b", "reboot", 89.0, 99.0),
        Absence("c", "reboot", 90.0, 90.0),
    ]
    assert most_away(absences, one_group) == {"all": MostAway(2, 89.0)}
    assert most_away(absences[:2], one_group) == {"all": MostAway(1, 0.0)}


@pytest.mark.parametrize(
    "settings",
    [{"boot_seconds": (2.0, 1.0)}, {"boot_seconds": (0.0, math.inf)}, {"never_back_share": 2.0}, {"rack_size": 0}],
)
def test_settings_that_no_cloud_can_have_are_refused(settings: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=next(iter(settings))):
        cloud_of(Hand(), **settings)


def test_racks_are_as_large_as_asked_for_and_take_turns_in_the_zones() -> None:
    cloud = cloud_of(Hand(), servers=1000, rack_size=20)
    racks = Counter(tags_of(server, None)[1] for server in cloud.servers.values())
    assert racks == {f"rack-{number}": 20 for number in range(50)}
    zones = Counter(zone_of(server, None) for server in cloud.servers.values())
    assert zones == {"az-sim-1": 340, "az-sim-2": 340, "az-sim-3": 320}


async def test_both_apis_show_and_find_the_rack(world: Worlds) -> None:
    here = world(rack_size=5)
    found = (await here.bms.get("/baremetalservers/detail", params={"tags": "rack-1"})).json()["servers"]
    assert [each["id"] for each in found] == here.ids[5:10]
    assert {each["OS-EXT-AZ:availability_zone"] for each in found} == {"az-sim-2"}
    assert [each["OS-EXT-SRV-ATTR:launch_index"] for each in found] == [0, 1, 2, 3, 4]
    headers = {"X-OpenStack-Nova-API-Version": "2.26"}
    native = await here.nova.get("/servers/detail", params={"tags": "rack-1"}, headers=headers)
    assert {each["id"] for each in native.json()["servers"]} == set(here.ids[5:10])
    assert all("rack-1" in each["tags"] for each in native.json()["servers"])
