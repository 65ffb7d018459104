"""`bms servers`, `bms jobs show`, `bms quota`, `bms login`: what is read, and how it is shown."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tests.cli._helpers import Bms, told_by_simulator


def test_servers_are_listed_with_tabs_between_where_nobody_looks(cloud: Bms) -> None:
    ended = cloud("servers", "list", "--tag", "rack-1", "--columns", "name,status,id")
    rows = [line.split("\t") for line in ended.out.splitlines()]
    assert (ended.code, ended.err) == (0, "")
    assert len(rows) == 40
    assert all(len(row) == 3 for row in rows)
    assert min(row[0] for row in rows) == "bms-000040"
    assert {row[1] for row in rows} <= {"ACTIVE", "SHUTOFF"}


def test_ids_alone_and_json_tell_the_same_servers(cloud: Bms) -> None:
    ids = cloud.ids("rack-1")
    told = cloud("servers", "list", "--tag", "rack-1", "--json").json
    assert [each["id"] for each in told] == ids
    assert told[0]["flavor"]["vcpus"] > 0
    assert [each["id"] for each in cloud("servers", "list", "--name", "bms-000001", "--json", "--columns", "id").json]
    assert len(cloud("servers", "list", "--limit", "3", "--ids").out.split()) == 3
    assert cloud("servers", "list", "--limit", "0").out == ""


def test_tags_are_all_of_them_any_of_them_or_none_of_them(cloud: Bms) -> None:
    racks = {tag: cloud.ids(tag) for tag in ("rack-1", "rack-2")}
    any_of = ["--tag-any", "rack-1", "--tag-any", "rack-2", "--tag-any", "rack-1"]
    assert cloud("servers", "list", "--ids", *any_of).out.split() == [*racks["rack-1"], *racks["rack-2"]]
    assert cloud("servers", "list", "--ids", "--tag", "rack-1", "--tag", "rack-2").out == ""
    both = ["--tag", "__type_baremetal", "--tag", "rack-2"]
    assert cloud("servers", "list", "--ids", *both).out.split() == racks["rack-2"]
    assert cloud("servers", "list", "--ids", *any_of, "--not-tag", "rack-1").out.split() == racks["rack-2"]
    plan, *_ = cloud("stop", *any_of, "--plan", "--json").json
    assert plan["servers"] == 80


def test_zones_flavors_and_statuses_choose_servers(cloud: Bms) -> None:
    servers = cloud("servers", "list", "--json", "--columns", "id,zone,flavor,status").json
    zone, flavor = servers[0]["zone"], servers[-1]["flavor"]
    chosen = cloud("servers", "list", "--ids", "--zone", zone, "--zone", "nowhere", "--flavor", flavor).out.split()
    assert chosen == [each["id"] for each in servers if (each["zone"], each["flavor"]) == (zone, flavor)]
    assert len(cloud("servers", "list", "--ids", "--status", "active").out.split()) > 0
    ended = cloud("stop", "--status", "off", "--plan")
    assert (ended.code, "did you mean SHUTOFF?" in ended.err) == (2, True)
    ended = cloud("servers", "list", "--status", "RESCUED")
    assert (ended.code, "RESCUED: not a documented status; the cloud is asked for it" in ended.err) == (0, True)


def test_nobody_who_stops_reading_is_complained_to(cloud: Bms) -> None:
    with cloud.in_a_pipe("servers", "list") as process:
        assert process.stdout is not None
        assert process.stdout.readline().count("\t") == 5
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == ""
        assert process.wait() in {0, 141}


def test_a_server_is_shown_and_one_that_is_not_there_is_told(cloud: Bms) -> None:
    server_id = cloud.ids("rack-1")[0]
    ended = cloud("servers", "show", server_id, "no-such-server", "no id")
    assert ended.code == 1
    assert f"id:                    {server_id}\n" in ended.out
    assert "\n  vcpus: " in ended.out
    missing, unfit = ended.err.splitlines()
    assert missing.startswith("bms: there is no server no-such-server in project")
    assert "bms servers list" in missing
    assert "'no id'" in unfit
    [told] = cloud("servers", "show", "-", "--json", text=f"{server_id}\n").json
    assert told["id"] == server_id


def test_quotas_are_told(cloud: Bms) -> None:
    told = {each["quota"]: each for each in cloud("quota", "--json").json}
    assert told["instances"] == {"quota": "instances", "limit": None, "used": 300, "left": None, "unlimited": True}
    assert cloud("quota").out.splitlines()[0] == "instances\tunlimited\t300\t"


def test_login_says_who_one_is_and_what_one_may(cloud: Bms) -> None:
    ended = cloud("login")
    assert (ended.code, ended.err) == (0, "")
    assert "credentials  StaticToken(***)" in ended.out
    assert "(simulated)" in ended.out
    assert "  allowed  servers.list\n" in ended.out
    assert "servers.stop: bms:servers:stop" in ended.out
    assert cloud.exports["OS_TOKEN"] not in ended.out


def test_login_by_a_password_and_by_an_access_key(tmp_path: Path) -> None:
    with told_by_simulator() as told:
        endpoint = {"BMS_ENDPOINT": told["address"], "OS_PROJECT_ID": told["project_id"]}
        password = {
            "OS_USERNAME": told["username"],
            "OS_PASSWORD": told["password"],
            "OS_USER_DOMAIN_NAME": told["user_domain_name"],
            "OS_AUTH_URL": told["auth_url"],
        }
        keys = {"HUAWEICLOUD_SDK_AK": told["access_key"], "HUAWEICLOUD_SDK_SK": told["secret_key"]}
        for right, secret in ((password, "OS_PASSWORD"), (keys, "HUAWEICLOUD_SDK_SK")):
            bms = Bms({**endpoint, **right}, tmp_path)
            ended = bms("login")
            assert (ended.code, "allowed  servers.list" in ended.out) == (0, True), ended
            assert right[secret] not in ended.out + ended.err
            ended = bms("login", changes={secret: "a-wrong-secret"})
            assert ended.code == 3
            assert "a-wrong-secret" not in ended.out + ended.err


def test_credentials_that_do_not_do_are_told_with_what_to_do(cloud: Bms) -> None:
    for command in (["login"], ["stop", "a"], ["servers", "list"], ["quota"], ["jobs", "show", "a"]):
        ended = cloud(*command, changes={"OS_TOKEN": "wrong-token"})
        assert (ended.code, "get a new one" in ended.err) == (3, True), command
        assert "wrong-token" not in ended.out + ended.err
    ended = cloud("login", changes={"OS_PROJECT_ID": "another"})
    assert (ended.code, "OS_PROJECT_ID" in ended.err) == (3, True)
    assert "refused  servers.list: 400 Common.0018" in ended.out


def test_a_region_that_is_not_there_is_told_with_what_to_look_at(cloud: Bms) -> None:
    region: dict[str, str | None] = {"BMS_ENDPOINT": None, "OS_REGION_NAME": "nowhere-1", "BMS_DOMAIN": "b.invalid"}
    ended = cloud("servers", "list", changes=region)
    assert ended.code == 4
    assert "https://bms.nowhere-1.b.invalid" in ended.err
    assert "OS_REGION_NAME" in ended.err


def test_what_was_used_shows_in_the_limits(cloud: Bms) -> None:
    cloud("quota")
    told = {each["call"]: each for each in cloud("limits", "--json").json if each["type"] == "limit"}
    assert told["quotas.get"]["used"] >= 1
    assert told["quotas.get"]["left"] == 500 - told["quotas.get"]["used"]
    assert cloud("limits", "servers.reinstall_os").out == "servers.reinstall_os\t50\t0\t50\tnow\t0\t0\n"


def test_login_tells_how_long_a_token_is_good_where_the_cloud_does(cloud: Bms, monkeypatch: pytest.MonkeyPatch) -> None:
    async def read_token(*_: object) -> dict[str, object]:
        end = datetime.now(UTC) + timedelta(hours=2, minutes=1)
        return {"expires_at": end.isoformat(), "user": {"name": "operator\x1b[2J"}}

    monkeypatch.setattr("bms_async.cli.access.login.read_token", read_token)
    ended = cloud("login")
    assert re.search(r"^valid +until \d{4}-\S+, 2:0[01]:\d\d from now$", ended.out, re.MULTILINE)
    assert "user         operator\N{REPLACEMENT CHARACTER}[2J\n" in ended.out
    [told] = cloud("login", "--json").json
    assert 7200 <= told["expires_in"] <= 7260
    assert told["reads"]["servers.list"] is True
