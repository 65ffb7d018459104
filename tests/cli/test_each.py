"""`bms servers rename`, `tag`, `metadata`, `reinstall`, `attach` and `detach`, from the first word to the exit code."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from bms_async.cli.acting import volumes_each
from bms_async.cli.terminal import confirm
from bms_async.cli.terminal.exit import UsageError
from tests.cli._helpers import NO_SERVER, Bms, simulator

PASSWORD = "Correct-Horse-7"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bms]:
    """The command, in a quick cloud of 60 servers in three racks, all of which do as they are told."""
    with simulator("--servers", "60", "--rack-size", "20", "--job-seconds", "0.1", "0.2") as exports:
        yield Bms(exports, tmp_path_factory.mktemp("state"))


def shown(cloud: Bms, server_id: str) -> dict[str, object]:
    [fields] = cloud("servers", "show", server_id, "--json").json
    return fields


def test_servers_are_renamed_by_a_template_in_the_order_in_which_they_are_given(cloud: Bms) -> None:
    ids = cloud.ids("rack-0")[:3]
    ended = cloud("servers", "rename", *ids, "--to", "web-{n:03}", "--first", "7", "--yes", "--json")
    *outcomes, summary = ended.json
    assert ended.code == 0
    assert [shown(cloud, each)["name"] for each in ids] == ["web-007", "web-008", "web-009"]
    assert {each["server_id"] for each in outcomes} == set(ids)
    assert (summary["action"], summary["calls"], summary["by_state"]["SUCCEEDED"]) == ("servers.rename", 3, 3)


def test_servers_are_renamed_as_a_file_says(cloud: Bms, tmp_path: Path) -> None:
    one, other = cloud.ids("rack-0")[:2]
    file = tmp_path / "names.csv"
    file.write_text(f"id,name\n# the first\n{one.upper()}, db-1\n{other},db-2\n", encoding="utf-8")
    ended = cloud("servers", "rename", "--from", str(file), "-y")
    assert ended.code == 0
    assert ended.out.startswith("rename: 2 servers of project")
    assert [shown(cloud, each)["name"] for each in (one, other)] == ["db-1", "db-2"]
    twice = cloud("servers", "rename", "--from", "-", "-y", text=f"{one},db-4\ndb-1,db-5\n")
    assert (twice.code, "is in it twice, by its id and by its name" in twice.err) == (2, True)
    piped = cloud("servers", "rename", "--from", "-", "-y", "-q", text="db-1,db-3\n")
    assert (piped.code, piped.out) == (0, "")
    assert shown(cloud, one)["name"] == "db-3"
    file.write_bytes(f'ID;Name\r\n{one};db-6\r\n{other};"db-7"\r\n'.encode("utf-16"))
    assert cloud("servers", "rename", "--from", str(file), "-y", "-q").code == 0
    assert [shown(cloud, each)["name"] for each in (one, other)] == ["db-6", "db-7"]


@pytest.mark.parametrize(
    ("arguments", "text", "why"),
    [
        (["a", "b"], "", "give either --to, such as --to web-{n:03}, or --from FILE"),
        ([NO_SERVER, "f" + NO_SERVER[1:], "--to", "web"], "", "2 servers would have one name; put {n} or {id} into it"),
        ([NO_SERVER, "--to", "web-{m}"], "", "expected {n}, {n:03} or {id} in it, and no other braces"),
        ([NO_SERVER, "--to", "web {n}"], "", "expected 1 to 63"),
        (["a", "--from", "-"], "a,b", "leave out ids, --file and filters"),
        (["--from", "-"], "a,b\na,c\n", "server a has two names, b and c"),
        (["--from", "-"], "id,name\n\na;b\n", "--from -, line 3: expected a line such as ID,web-1; got a;b"),
        (["--from", "-"], "\n", "nothing is in it; expected lines such as ID,web-1"),
        (["--from", "-"], "a,b c\n", "expected 1 to 63"),
        (["--from", "no-such-file"], "", "--from no-such-file: cannot be read"),
        (["a", "--to", "b", "--abort-sample", "3"], "", "expected --abort-above beside it"),
        (["a", "--to", "b", "--tag", "c"], "", "expected one source of servers, got ids and filters"),
    ],
)
def test_names_that_cannot_be_are_refused_before_anything_is_sent(
    cloud: Bms, arguments: list[str], text: str, why: str
) -> None:
    ended = cloud("servers", "rename", *arguments, "--yes", text=text)
    assert ended.code == 2, ended
    assert why in " ".join(ended.err.split())
    assert ended.out == ""


def test_nothing_is_done_to_several_servers_without_a_yes(cloud: Bms) -> None:
    ended = cloud("servers", "rename", "--tag", "rack-1", "--to", "web-{n}")
    assert ended.code == 2
    assert "rename 20 servers of project" in ended.err
    assert " to web-3, ...)? There is no terminal to ask on" in ended.err
    assert "confirm with --yes, or see the plan with --plan" in ended.err


def test_a_plan_says_how_many_calls_there_would_be_and_changes_nothing(cloud: Bms) -> None:
    ids = cloud.ids("rack-1")
    before = shown(cloud, ids[0])["name"]
    ended = cloud("servers", "rename", "--tag", "rack-1", "--to", "web-{n}", "--plan", "--canary", "2")
    assert ended.code == 0
    assert "would rename 20 servers of project" in ended.out
    assert ": 20 calls\n" in ended.out
    assert "\nthe limit is 100 calls a minute" in ended.out
    assert "canaries, groups, checks and windows of the rollout are not in these times" in ended.out
    assert shown(cloud, ids[0])["name"] == before
    plan, *_ = cloud("servers", "tag", "x", "--tag", "rack-1", "--plan", "--json").json
    assert (plan["action"], plan["servers"], plan["calls"]) == ("nova.tags.add", 20, 20)


def test_a_tag_is_added_and_removed_and_who_has_none_is_left_as_it_is(cloud: Bms) -> None:
    ids = cloud.ids("rack-1")
    assert cloud("servers", "tag", "blue", "--tag", "rack-1", "-y").code == 0
    assert sorted(cloud.ids("blue")) == sorted(ids)
    ended = cloud("servers", "untag", "blue", *ids[:5], "-y", "--json")
    assert (ended.code, ended.json[-1]["action"]) == (0, "nova.tags.remove")
    assert sorted(cloud.ids("blue")) == sorted(ids[5:])
    again = cloud("servers", "untag", "blue", *ids[:6], "-y")
    assert again.code == 0
    assert again.out.startswith("untag: 6 servers of project")
    assert "5 servers were as asked before" in again.err
    assert cloud("servers", "untag", "blue", NO_SERVER).code == 1


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["tag", "a/b", "some-id"], "expected"),
        (["untag", "__type_baremetal", "some-id"], "tells bare metal"),
        (["tag", "add", "rack-7", "some-id"], "the tag comes first now: bms servers tag rack-7 some-id;"),
        (["tag", "remove", "rack-7", "--tag", "rack-7"], "the tag comes first now: bms servers untag rack-7;"),
    ],
)
def test_a_tag_that_cannot_be_is_refused_and_so_is_the_spelling_of_an_earlier_version(
    cloud: Bms, words: list[str], why: str
) -> None:
    ended = cloud("servers", *words, "-y")
    assert ended.code == 2
    assert why in " ".join(ended.err.split())


def test_keys_of_the_metadata_are_set_and_removed(cloud: Bms) -> None:
    one, other = cloud.ids("rack-2")[:2]
    assert cloud("servers", "metadata", "set", "team=web", "note=a=b", one, other, "-y").code == 0
    assert str(shown(cloud, one)["metadata"]).count("a=b") == 1
    assert cloud("servers", "metadata", "remove", "note", "-", "-y", text=f"{one}\n").code == 0
    assert "note" not in str(shown(cloud, one)["metadata"])
    assert "note" in str(shown(cloud, other)["metadata"])
    again = cloud("servers", "metadata", "remove", "note", one, "-y")
    assert (again.code, "1 server was as asked before" in again.err) == (0, True)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["set", "some-id"], "expected KEY=VALUE before the servers, got 'some-id'"),
        (["set", "admin_pass=Secret-1", "some-id"], "its value is a secret"),
        (["set", "a b=c", "some-id"], "expected"),
        (["remove", "", "some-id"], "expected"),
    ],
)
def test_metadata_that_cannot_be_is_refused(cloud: Bms, words: list[str], why: str) -> None:
    ended = cloud("servers", "metadata", *words, "-y")
    assert ended.code == 2
    assert why in ended.err
    assert "Secret-1" not in ended.err


def test_servers_are_reinstalled_each_with_a_job_that_is_watched_to_its_end(cloud: Bms, tmp_path: Path) -> None:
    ids = cloud.ids("rack-2")[2:5]
    assert cloud("stop", *ids, "-y", "-q").code == 0
    page, script = tmp_path / "page.html", tmp_path / "first-start.sh"
    script.write_text("#!/bin/sh\npasswd -d root\n", encoding="utf-8")
    arguments = ["--user-data", str(script), "--canary", "1", "--max-unavailable", "1", "--report", str(page)]
    ended = cloud("servers", "reinstall", *ids, *arguments, "-y", "--json")
    *outcomes, summary = ended.json
    assert ended.code == 0, ended
    assert [each["state"] for each in outcomes] == ["SUCCEEDED"] * 3
    assert len({each["job_id"] for each in outcomes}) == 3
    assert summary["action"] == "servers.reinstall_os"
    assert "at most 1 of 1 away" in page.read_text(encoding="utf-8")


def test_a_key_pair_that_is_not_there_aborts_after_the_canary(cloud: Bms) -> None:
    ids = cloud.ids("rack-2")[7:10]
    assert cloud("stop", *ids, "-y", "-q").code == 0
    *_, summary = cloud("servers", "reinstall", *ids, "--key-pair", "ops", "--canary", "1", "-y", "--json").json
    assert (summary["exit_code"], summary["by_code"]) == (1, {"SKIPPED": 2, "BMS.0049": 1})
    assert summary["aborted"].startswith("canary ")


def test_a_reinstallation_is_confirmed_by_the_number_also_for_one_server(cloud: Bms) -> None:
    ended = cloud("servers", "reinstall", cloud.ids("rack-2")[0], "--key-pair", "ops")
    assert ended.code == 2
    assert "reinstall 1 server of project" in ended.err
    assert "with the key pair ops? What is on their system disks is lost. There is no terminal to ask on" in ended.err


def test_the_password_of_a_reinstallation_comes_from_the_environment_and_is_never_shown(cloud: Bms) -> None:
    one = cloud.ids("rack-2")[6]
    assert cloud("stop", one, "-y", "-q").code == 0
    refused = cloud("servers", "reinstall", one, "--password", "-y")
    assert (refused.code, "set BMS_ADMIN_PASSWORD" in refused.err) == (2, True)
    weak = cloud("servers", "reinstall", one, "--password", "-y", changes={"BMS_ADMIN_PASSWORD": "weak-word"})
    assert weak.code == 2
    assert "weak-word" not in weak.err
    ended = cloud("servers", "reinstall", one, "--password", "-y", changes={"BMS_ADMIN_PASSWORD": PASSWORD})
    assert ended.code == 0
    assert PASSWORD not in ended.out + ended.err


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        ([], "expected a way to log in"),
        (["--key-pair", "ops", "--password"], "expected one login"),
        (["--key-user", "u", "--password"], "expected --key-pair beside it"),
        (["--user-data", "no-such-file"], "--user-data no-such-file: it cannot be read: No such file"),
    ],
)
def test_a_reinstallation_without_one_way_to_log_in_is_refused(cloud: Bms, arguments: list[str], why: str) -> None:
    ended = cloud("servers", "reinstall", "some-id", *arguments, "-y")
    assert ended.code == 2
    assert why in ended.err


def test_a_server_that_is_not_there_fails_alone(cloud: Bms) -> None:
    ended = cloud("servers", "tag", "green", cloud.ids("rack-0")[0], NO_SERVER, "-y", "--json")
    *outcomes, summary = ended.json
    assert ended.code == 1
    assert sorted(each["state"] for each in outcomes) == ["FAILED", "SUCCEEDED"]
    assert summary["exit_code"] == 1


@pytest.mark.parametrize(
    ("reply", "goes_on"), [("1,200", True), ("1200", True), ("y", False), ("", False), ("120", False)]
)
def test_what_loses_data_goes_on_only_after_the_number_was_typed(
    monkeypatch: pytest.MonkeyPatch, reply: str, goes_on: bool
) -> None:
    async def answer(question: str, how: str, *, otherwise: str) -> str:
        assert (question, how) == ("Sure?", "Type 1200 to go on:")
        assert "--yes" in otherwise
        return reply

    monkeypatch.setattr(confirm, "_ask", answer)
    if goes_on:
        anyio.run(confirm.confirm_number, "Sure?", 1200)
        return
    with pytest.raises(UsageError, match="nothing was done"):
        anyio.run(confirm.confirm_number, "Sure?", 1200)


@pytest.fixture
def slow_cloud(tmp_path: Path) -> Iterator[Bms]:
    """The command, in a cloud of ten servers that take their time: a reboot has to be seen under way."""
    with simulator("--servers", "10", "--job-seconds", "3", "3") as exports:
        yield Bms(exports, tmp_path)


def test_servers_of_a_plain_openstack_cloud_are_restarted_one_call_each_and_listed_together(slow_cloud: Bms) -> None:
    rollout = ["--group-by", "az", "--max-unavailable", "9"]
    ended = slow_cloud("nova", "reboot", "--status", "ACTIVE", *rollout, "-y", "--json")
    *outcomes, summary = ended.json
    assert ended.code == 0, ended
    assert {each["server_id"] for each in outcomes} == set(slow_cloud("servers", "list", "--ids").out.split())
    assert (summary["action"], summary["calls"], summary["by_state"]["SUCCEEDED"]) == ("nova.servers.reboot", 10, 10)
    assert 0 < summary["polls"] < 10


def test_filters_of_the_native_list_choose_servers_for_a_plan(cloud: Bms) -> None:
    plan, *_ = cloud("nova", "start", "--tag", "rack-0", "--name", "b", "--name", "m", "--plan", "--json").json
    assert (plan["action"], plan["calls"], plan["limit"]) == ("nova.servers.start", plan["servers"], None)
    assert 0 < plan["servers"] <= 20


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["stop", "a", "--ready", "tcp:22"], "a server that was stopped answers nothing"),
        (["stop", "--enterprise-project", "a"], "the native API does not know it"),
        (["start", "--not-tag", "no-such-tag"], "--not-tag no-such-tag: no server has this tag"),
        (["start", "--tag", "x", "--fail-if-none"], "nothing to do: no server has tag x"),
    ],
)
def test_what_the_native_calls_cannot_do_is_refused(cloud: Bms, arguments: list[str], why: str) -> None:
    ended = cloud("nova", *arguments, "-y")
    assert ended.code == 2
    assert why in ended.err


def volume(number: int) -> str:
    return f"b53f23bd-ee8f-49ec-9420-{number:012x}"


def devices(cloud: Bms, server_id: str) -> dict[str, str]:
    """The volumes of a server, and where they are."""
    attached: Any = shown(cloud, server_id).get("volumes_attached", ())
    return {each["id"]: each["device"] for each in attached}


@pytest.fixture(scope="module")
def racked(cloud: Bms) -> list[str]:
    """Servers that take volumes; the first has its system on one, the others on a local disk."""
    servers = cloud("servers", "list", "--tag", "rack-0", "--json").json
    takes = [each["id"] for each in servers if "d1" not in each["flavor"]]
    return sorted(takes, key=lambda server_id: not devices(cloud, server_id))


def test_the_volumes_of_a_file_are_attached_each_when_the_one_before_is_and_a_second_time_nothing_is_done(
    cloud: Bms, racked: list[str], tmp_path: Path
) -> None:
    file, (one, other) = tmp_path / "volumes.csv", racked[-2:]
    file.write_text(
        f"server,volume,device\r\n{one},{volume(1)},/dev/sdb\r\n{one},{volume(2)},\r\n{other},{volume(3).upper()}\r\n",
        encoding="utf-8-sig",
    )
    plan = cloud("servers", "attach", "--from", str(file), "--plan")
    assert "would attach volumes to 2 servers of project" in plan.out
    assert ": 3 calls\n" in plan.out
    assert f"\n{volume(1)} to bms-" in plan.out
    ended = cloud("servers", "attach", "--from", str(file), "-y", "--json")
    *outcomes, summary = ended.json
    assert ended.code == 0, ended
    assert (summary["action"], [each["state"] for each in outcomes]) == ("servers.attach_volume", ["SUCCEEDED"] * 2)
    assert devices(cloud, one) == {volume(1): "/dev/sdb", volume(2): "/dev/sdc"}
    assert list(devices(cloud, other)) == [volume(3)]
    again = cloud("servers", "attach", "--from", str(file), "-y")
    assert (again.code, "2 servers were as asked before" in again.err) == (0, True)
    for number in (1, 2, 3):
        assert cloud("servers", "detach", volume(number), "-y", "-q").code == 0
    assert devices(cloud, one) == devices(cloud, other) == {}


def test_a_volume_is_attached_to_a_server_and_detached_where_it_is(cloud: Bms, racked: list[str]) -> None:
    one, other = racked[-2:]
    ended = cloud("servers", "attach", volume(4), one, "--device", "/dev/sdb")
    assert (ended.code, devices(cloud, one)) == (0, {volume(4): "/dev/sdb"})
    elsewhere = cloud("servers", "attach", volume(4), other, "--json")
    assert (elsewhere.code, elsewhere.json[-1]["by_code"]) == (1, {"BMS.1003": 1})
    unsure = cloud("servers", "detach", volume(4))
    assert unsure.code == 2
    assert f"detach the volume {volume(4)} from 1 server of" in unsure.err
    nothing = cloud("servers", "detach", volume(4), other, "-y")
    assert (nothing.code, "nothing to do: 1 server was as asked before" in nothing.err) == (0, True)
    assert cloud("servers", "detach", volume(4), one, other, "-y", "-q").code == 0
    assert devices(cloud, one) == {}
    gone = cloud("servers", "detach", volume(4), "-y")
    assert (gone.code, f"no server has the volume {volume(4)}" in gone.err) == (2, True)


@pytest.mark.parametrize("how", ["one", "many", "by a filter"])
def test_a_system_disk_is_not_detached_and_nothing_else_is_then(cloud: Bms, racked: list[str], how: str) -> None:
    [system] = devices(cloud, racked[0])
    assert cloud("servers", "attach", volume(5), racked[-1], "-q").code == 0
    lines = {
        "one": [f"{racked[-1]},{volume(5)}", f"{racked[0]},{system}"],
        "many": [f"{server_id},{volume(5)}" for server_id in cloud.ids("rack-1") + racked[1:]]
        + [f"{racked[0]},{system}"],
        "by a filter": [],
    }[how]
    arguments = ["--from", "-"] if lines else [system, "--tag", "rack-0", "--canary", "1", "--group-by", "az",
                                               "--max-unavailable", "1"]  # fmt: skip
    ended = cloud("servers", "detach", *arguments, "-y", text="\n".join(lines))
    assert ended.code == 2
    assert f"the volume {system} is the system disk of " in " ".join(ended.err.split())
    assert (list(devices(cloud, racked[-1])), list(devices(cloud, racked[0]))) == ([volume(5)], [system])
    assert cloud("servers", "detach", volume(5), "-y", "-q").code == 0


def test_a_system_disk_that_comes_between_the_look_and_the_call_is_not_detached(
    cloud: Bms, racked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def see_nothing(*_: object) -> dict[str, dict[str, bool]]:
        return {}

    [system] = devices(cloud, racked[0])
    assert cloud("stop", racked[0], "-y", "-q").code == 0
    monkeypatch.setattr(volumes_each, "read_disks", see_nothing)
    ended = cloud("servers", "detach", system, racked[0], "-y", "--json")
    assert (ended.code, list(devices(cloud, racked[0]))) == (1, [system])
    assert "its system disk is among the volumes" in ended.json[0]["error"]
    monkeypatch.setattr(volumes_each, "SYSTEM_DEVICE", "none")
    assert cloud("servers", "detach", system, racked[0], "-y", "-q").code == 0
    assert devices(cloud, racked[0]) == {}
    assert cloud("servers", "attach", volume(9), racked[0], "-q").code == 0


@pytest.mark.parametrize(
    ("arguments", "text", "why"),
    [
        (["attach"], "", "expected a volume: give its id before the servers"),
        (["attach", "v 1", "a"], "", "expected"),
        (["attach", "v", "a", "--device", "sdb"], "", "a device such as '/dev/sdb'"),
        (["attach", "--from", "-", "--device", "/dev/sdb"], "", "write the device behind each volume of the file"),
        (["attach", "v", "--from", "-"], "", "the file names the servers and volumes"),
        (
            ["attach", "--from", "-"],
            "a,v\nb\n",
            "--from -, line 2: expected a line such as SERVER,VOLUME,/dev/sdb; got b",
        ),
        (["attach", "--from", "-"], "a,v,sdb\n", "a device such as '/dev/sdb'"),
        (["attach", "--from", "-"], "a,v\na,V\na,v\n", "line 3: the volume v is given to server a twice"),
        (
            ["detach", "--from", "-"],
            "a,v,/dev/sdb\n",
            "line 1: expected a line such as SERVER,VOLUME; got a,v,/dev/sdb",
        ),
        (["detach", "--from", "-", "--tag", "x"], "", "leave out ids, --file and filters"),
        (["detach"], "", "expected a volume"),
    ],
)
def test_volumes_that_cannot_be_are_refused_before_anything_is_sent(
    cloud: Bms, arguments: list[str], text: str, why: str
) -> None:
    ended = cloud("servers", *arguments, "-y", text=text)
    assert ended.code == 2, ended
    assert why in " ".join(ended.err.split())
