"""`bms servers`, `bms jobs show`, `bms quota`, `bms login`: what is read, and how it is shown."""

from __future__ import annotations

import csv
import io
import json
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from bms_async.cli.access import seen
from bms_async.cli.access.seen import Seen, find_seen
from bms_async.cli.access.settings import read_settings
from bms_async.cli.reading import servers
from bms_async.cli.terminal.sorting import natural_key
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
    ended = cloud("servers", "list", "--ids", "--zone", zone, "--zone", "nowhere", "--flavor", flavor)
    assert (ended.code, "--zone nowhere: no server is in this zone" in ended.err) == (0, True)
    assert ended.out.split() == [each["id"] for each in servers if (each["zone"], each["flavor"]) == (zone, flavor)]
    assert len(cloud("servers", "list", "--ids", "--status", "active").out.split()) > 0
    ended = cloud("stop", "--status", "off", "--plan")
    assert (ended.code, "did you mean SHUTOFF?" in ended.err) == (2, True)
    ended = cloud("servers", "list", "--status", "RESCUED", "--allow-unknown")
    assert ended == (0, "", "")


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
    assert "credentials  token\n" in ended.out
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
            assert re.search(r"(?m)^credentials  (password of user \w+|access key \w{4}\.\.\.)$", ended.out)
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


def test_a_list_of_all_servers_leaves_their_tags_for_completion_and_else_the_cloud_is_asked(
    cloud: Bms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**cloud.exports, "XDG_STATE_HOME": str(tmp_path)}.items():
        monkeypatch.setenv(name, value)
    place = read_settings(None)
    assert cloud("servers", "list", "--tag", "rack-1", changes={"XDG_STATE_HOME": str(tmp_path)}).code == 0
    assert Seen.load(place) == Seen()
    # Nobody has listed all of them: one call does.
    asked = find_seen(place)
    assert "rack-1" in asked.tags
    assert asked.zones
    assert asked.flavors
    seen._path(place).unlink()
    assert cloud("servers", "list", changes={"XDG_STATE_HOME": str(tmp_path)}).code == 0
    listed = Seen.load(place)
    assert (listed.tags, listed.zones, listed.flavors) == (asked.tags, asked.zones, asked.flavors)


@pytest.fixture(scope="module")
def stopped(cloud: Bms) -> tuple[str, str, str]:
    """A server, the job that stopped it, and the key of a run."""
    *_, outcome, _ = cloud("stop", *cloud.ids("rack-3"), "-y", "--json", "--key", "rows").json
    return outcome["server_id"], outcome["job_id"], "rows"


READS = {
    "servers list": ("servers", "list", "--tag", "rack-1", "--name", "bms-000041"),
    "servers show": ("servers", "show", "SERVER"),
    "jobs show": ("jobs", "show", "JOB"),
    "jobs watch": ("jobs", "watch", "JOB"),
    "runs list": ("runs", "list"),
    "runs show": ("runs", "show", "KEY"),
    "limits": ("limits", "servers.stop"),
    "calls": ("calls", "servers.stop"),
    "quota": ("quota",),
    "login": ("login",),
    "plan": ("stop", "SERVER", "--plan"),
    "api": ("api", "GET", "/v1/{project_id}/baremetalservers/SERVER"),
}


@pytest.mark.parametrize("command", READS)
def test_each_command_prints_the_same_data_in_each_form(
    cloud: Bms, stopped: tuple[str, str, str], command: str
) -> None:
    words = dict(zip(("SERVER", "JOB", "KEY"), stopped, strict=True))
    arguments = [re.sub("SERVER|JOB|KEY", lambda found: words[found[0]], each) for each in READS[command]]

    def printed(form: str, *more: str) -> str:
        ended = cloud(*arguments, "-o", form, *more)
        assert ended.code in {0, 1 if "jobs" in command else 0}, ended
        assert ended.out, ended
        return ended.out

    document = json.loads(printed("json"))
    assert isinstance(document, dict) == (command in {"login", "api"})
    head, *rows = csv.reader(io.StringIO(printed("csv")))
    assert rows
    assert {len(row) for row in rows} == {len(head)}
    table = printed("table", "--no-header", "--columns", head[0], "--sort", f"-{head[0]}")
    assert len(table.splitlines()) == len(rows)
    assert len(printed("ids").splitlines()) == len(rows)
    wrong = cloud(*arguments, "--columns", "colour")
    assert (wrong.code, "there is no column colour; the columns are " in wrong.err) == (2, True)


def test_outcomes_come_in_each_form_and_the_results_beside_them(cloud: Bms) -> None:
    ids = cloud.ids("rack-4")[:5]
    *outcomes, summary = json.loads(cloud("stop", *ids, "-y", "-o", "json").out)
    assert {each["server_id"] for each in outcomes} == set(ids)
    assert (summary["type"], summary["servers"]) == ("summary", len(ids))
    ended = cloud("start", *ids, "-y", "-o", "csv", "--columns", "id,state,code")
    head, *rows = csv.reader(io.StringIO(ended.out))
    assert (head, {row[0] for row in rows}) == (["id", "state", "code"], set(ids))
    assert f"start: {len(ids)} servers of" in ended.err
    tagged = cloud("servers", "tag", "odd", *ids, "-y", "-o", "table", "--sort", "-id").out.splitlines()
    assert [row.split()[0] for row in tagged] == ["ID", *sorted(ids, key=natural_key, reverse=True)]


def test_a_list_in_a_pipe_is_a_table_where_it_is_asked_for(cloud: Bms) -> None:
    # As under `watch`, which sets COLUMNS, and before `mail`.
    ended = cloud("servers", "list", "--tag", "rack-1", "-o", "table", changes={"COLUMNS": "60"})
    head, *rows = ended.out.splitlines()
    assert head.split() == ["ID", "NAME", "STATUS"]
    assert {len(row[: row.index("bms-")]) for row in rows} == {len(head[: head.index("NAME")])}
    named = cloud("servers", "list", "--tag", "rack-1", "--header", "--sort", "-name", "-n", "2").out.splitlines()
    assert [row.split("\t")[1] for row in named] == ["name", "bms-000079", "bms-000078"]
    both = cloud("servers", "list", "--json", "-o", "csv")
    assert (both.code, "--json means -o jsonl" in both.err) == (2, True)


def test_how_many_servers_were_read_is_shown_while_they_wait_for_their_order(
    cloud: Bms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(servers, "_PATIENCE", 0.0)
    monkeypatch.setattr(servers, "_PAGE", 100)
    assert "so far" not in cloud("servers", "list", "--sort", "name").err
    monkeypatch.setattr(servers, "_hides_rows", lambda output: True)
    ended = cloud("servers", "list", "--sort", "name")
    assert "200 servers so far" in ended.err
    assert ended.err.endswith("\x1b[J\x1b[?25h")
    assert len(ended.out.splitlines()) == 300


def test_any_call_keeps_its_limit_and_prints_what_the_cloud_has_answered(cloud: Bms) -> None:
    def used() -> int:
        [_, limit, *_] = cloud("limits", "servers.list", "--json").json
        return int(limit["used"])

    before = used()
    ended = cloud("api", "get", "v1/{project_id}/baremetalservers/detail?limit=1", "--query", "offset=2", "-i")
    head, _, body = ended.out.partition("\n\n")
    assert (ended.code, ended.err, used() - before) == (0, "", 1)
    assert head.startswith("HTTP 200\n")
    assert "content-type: application/json" in head.lower()
    assert [each["name"] for each in json.loads(body)["servers"]]
    path = "/v1/{project_id}/baremetalservers/detail?limit=2"
    assert (
        cloud("api", "GET", path, "-o", "ids").out.split() == cloud("servers", "list", "--ids", "-n", "2").out.split()
    )


def test_a_call_that_changes_something_asks_first_and_says_where(cloud: Bms) -> None:
    server_id = cloud.ids("rack-5")[0]
    body = json.dumps({"os-stop": {"type": "HARD", "servers": [{"id": server_id}]}})
    arguments = ["api", "POST", "/v1/{project_id}/baremetalservers/action", "--data"]
    asked = cloud(*arguments, body)
    assert (asked.code, asked.out) == (2, "")
    place, question = asked.err.splitlines()
    assert cloud.exports["BMS_ENDPOINT"] in place
    assert question.startswith("bms: POST /v1/{project_id}/baremetalservers/action of project")
    (cloud.state / "body.json").write_text(body)
    for data, text in ((body, ""), ("@body.json", ""), ("-", body)):
        done = cloud(*arguments, data, "--yes", "-o", "ids", text=text)
        assert cloud("jobs", "show", done.out.strip()).code in {0, 1}, done


@pytest.mark.parametrize(
    ("arguments", "code", "told"),
    [
        (["GET", "/v1/{project_id}/nothing"], 1, "bms: 404 APIGW.0101: Nothing is published at"),
        (["GET", "/v1/{project_id}/baremetalservers/none"], 1, "BMS.0040: No server has the id none"),
        (["GET", "https://bms.example.com/v1/x"], 2, "expected a path such as"),
        (["GET", "/v1/{server_id}"], 2, "fill in the other parts"),
        (["GET", "/v1/Rück"], 2, "expected ASCII"),
        (["GET", "/v1/../x"], 2, "without the parts . and .."),
        (["GET", "/v1/x", "--query", "limit"], 2, "--query limit: expected NAME=VALUE"),
        (["GET", "/v1/x", "--header-line", "X-Auth-Token: s3cr3t-token"], 2, "credentials come from the settings"),
        (["PUT", "/v1/x", "-y", "--data", '{"s3cr3t-token'], 2, "--data: the text is not JSON"),
        (["PUT", "/v1/x", "-y", "--data", "@none.json"], 2, "the body cannot be read: none.json: No such file"),
        (["FLY", "/v1/x"], 2, "'FLY' is not one of"),
    ],
)
def test_a_call_that_cannot_be_made_is_told_with_what_was_expected(
    cloud: Bms, arguments: list[str], code: int, told: str
) -> None:
    ended = cloud("api", *arguments)
    assert (ended.code, ended.out) == (code, "")
    assert told in ended.err
    assert "s3cr3t-token" not in ended.err


def test_a_secret_of_an_answer_is_printed_only_where_it_is_asked_for(cloud: Bms) -> None:
    arguments = ["api", "POST", "/v2.1/{project_id}/os-keypairs", "-y", "--data"]
    masked = cloud(*arguments, '{"keypair":{"name":"k1"}}')
    assert json.loads(masked.out)["keypair"]["private_key"] == "***"
    assert "1 secret of the answer is masked; --show-secrets prints them" in masked.err
    shown = cloud(*arguments, '{"keypair":{"name":"k2"}}', "--show-secrets")
    assert "PRIVATE KEY" in json.loads(shown.out)["keypair"]["private_key"]
    assert "secret" not in shown.err
