"""`bms start`, `bms stop`, `bms reboot`, from the first word to the exit code."""

from __future__ import annotations

import json
import re
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import anyio.to_thread
import pytest

from bms_async import FleetReport
from bms_async.cli.report_page.live import LivePage, LiveSource
from tests.cli._cloud import arrived, counted
from tests.cli._helpers import NO_SERVER, PATIENCE, Bms
from tests.support.machine import patience
from tests.support.plain_http import plain_client


def test_outcomes_are_lines_of_json_and_then_comes_the_sum(cloud: Bms) -> None:
    ids = cloud.ids("rack-1")
    ended = cloud("stop", "--tag", "rack-1", "--yes", "--json")
    *outcomes, summary = ended.json
    assert sorted(each["server_id"] for each in outcomes) == sorted(ids)
    assert {each["type"] for each in outcomes} == {"outcome"}
    good = sum(each["state"] in ("SUCCEEDED", "UNCHANGED") for each in outcomes)
    assert summary["type"] == "summary"
    assert summary["servers"] == 40
    assert summary["by_state"]["SUCCEEDED"] + summary["by_state"]["UNCHANGED"] == good
    assert summary["calls"] == 1
    assert summary["exit_code"] == ended.code == (0 if good == 40 else 1)
    for each in outcomes:
        if each["state"] == "FAILED":
            assert each["code"] == "BMS.0006"
            assert each["what"].startswith("The service could not")
    run = cloud.run(summary["run"])
    assert (run["status"], run["by_state"]) == ("ended", summary["by_state"])


def test_progress_is_lines_with_the_time_and_results_are_apart_from_it(cloud: Bms) -> None:
    ended = cloud("reboot", "--tag", "rack-2", "-y", "--verify")
    place, first, *rest = ended.err.splitlines()
    last = [line for line in rest if not line.startswith(("bms: ", "  "))][-1]
    assert re.fullmatch(r"bms: project \w+ at http://\S+", place)
    stamp = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ "
    assert re.fullmatch(stamp + r"reboot: 0 of 40, .*", first)
    assert re.fullmatch(stamp + r"reboot: 40 of 40, .*, ended; 40 asked, .*", last)
    assert re.match(r"reboot: 40 servers of project \w+ at http://\S+ in 0:0\d: \d+ succeeded", ended.out)
    assert "\x1b" not in ended.out + ended.err
    assert "\r" not in ended.out + ended.err


def test_a_failure_comes_with_its_code_and_what_to_do(cloud: Bms) -> None:
    ended = cloud("stop", NO_SERVER)
    assert ended.code == 1
    assert f"{NO_SERVER} BMS.0040: There is no such server. Check the id and the project" in ended.err
    assert "  1 BMS.0040: There is no such server." in ended.out
    quiet = cloud("stop", NO_SERVER, "--quiet")
    assert (quiet.code, quiet.out) == (1, "")
    result, where, how, command = quiet.err.splitlines()
    assert result.endswith("1 failed; 1 BMS.0040")
    list_of_all = Path(where.removeprefix("bms: 1 server not as asked; the list: "))
    assert list_of_all.read_text().splitlines()[1:] == [f"{NO_SERVER} # FAILED BMS.0040"]
    assert (how, command) == ("bms: to ask again for them:", f"  bms stop --file {list_of_all}")


def test_quiet_says_nothing_where_all_is_well(cloud: Bms) -> None:
    healthy = next(
        each["server_id"]
        for each in cloud("reboot", "--tag", "rack-3", "-y", "--json").json
        if each.get("state") == "SUCCEEDED"
    )
    assert cloud("reboot", healthy, "-q") == (0, "", "")


def test_ids_come_from_a_file_a_pipe_and_lines_of_json(cloud: Bms, tmp_path: Path) -> None:
    one, other, third = cloud.ids("rack-4")[:3]
    file = tmp_path / "ids"
    file.write_text(f"# tonight\n{one}\n\n  {other} \n{one}\n")
    for arguments, text in (
        (["--file", str(file)], ""),
        (["-"], f"{one}\n{other}\n"),
        ([], f"{one}\n{other}\n"),
        (["--file", "-"], json.dumps({"id": one}) + "\n" + json.dumps({"server_id": other}) + "\n"),
        ([one, "-"], f"{other}\n"),
    ):
        plan, *_ = cloud("start", "--dry-run", "--json", *arguments, text=text).json
        assert plan["servers"] == 2, arguments
    ended = cloud("start", "-y", "--json", text=f"{one}\n{NO_SERVER}\n{third}\n")
    states = {each["server_id"]: each["state"] for each in ended.json[:-1]}
    assert states[NO_SERVER] == "FAILED"
    assert len(states) == 3
    assert ended.code == 1
    broken = cloud("start", "-y", text=f'{one}\n{{"zone": "x"}}\n')
    assert broken.code == 2
    assert 'standard input, line 2: expected a server with its id in JSON, got \'{"zone": "x"}\'' in broken.err


def test_one_server_in_two_spellings_is_one(cloud: Bms) -> None:
    one = cloud.ids("rack-4")[0]
    for arguments, text in (([one, one.upper()], ""), (["-"], f"{one.upper()}\n{one}\n")):
        plan, *_ = cloud("reboot", "--dry-run", "--json", *arguments, text=text).json
        assert plan["servers"] == 1


def test_more_than_one_server_needs_a_yes_where_nobody_can_be_asked(cloud: Bms) -> None:
    ended = cloud("stop", "--tag", "rack-5")
    assert (ended.code, ended.out) == (2, "")
    assert "\nbms: stop 40 servers of project " in ended.err
    assert "confirm with --yes" in ended.err
    ended = cloud("stop", "--tag", "rack-99", "-y")
    assert (ended.code, ended.out) == (0, "")
    assert ended.err.startswith("bms: --tag rack-99: no server has this tag; did you mean rack-")
    assert ended.err.endswith("\nbms: nothing to do: no server has tag rack-99\n")
    assert cloud("stop", "--tag", "rack-99", "-y", "--fail-if-none").code == 2
    ended = cloud("stop", "--tag", "rack-99", "-y", "--allow-unknown")
    assert ended == (0, "", "bms: nothing to do: no server has tag rack-99\n")


def test_a_dry_run_says_what_it_would_take_and_changes_nothing(cloud: Bms) -> None:
    before = arrived(cloud, "servers.reboot")
    ended = cloud("reboot", "--tag", "rack-5", "--dry-run", "--wave", "10")
    assert ended.code == 0
    assert "would reboot 40 servers of project" in ended.out
    # A run in the journal fills a wave by quarters.
    assert "14 calls of 3 servers at most" in ended.out
    plain = cloud("reboot", "--tag", "rack-5", "--dry-run", "--wave", "10", "--no-journal")
    assert "4 calls of 10 servers at most" in plain.out
    assert "the limit is 50 calls a minute" in ended.out
    assert ended.out.endswith("nothing was changed\n")
    ids = "\n".join(f"00000000-0000-4000-8000-{number:012}" for number in range(75_001))
    plan, *_ = cloud("reboot", "--dry-run", "--json", text=ids).json
    assert (plan["servers"], plan["calls"]) == (75_001, 76)
    assert 55 < plan["least_seconds"] <= 60.1
    assert arrived(cloud, "servers.reboot") == before


def test_a_plan_says_which_servers_it_is_about_and_how_long_it_takes(cloud: Bms) -> None:
    ids = cloud.ids("rack-2")
    shown = cloud("stop", "--tag", "rack-2", "--plan").out.splitlines()
    assert any(line.startswith(f"  bms-000080 ({ids[0]})   ") for line in shown)
    assert "  and 30 more" in shown
    plan, *servers = cloud("stop", "--tag", "rack-2", "--plan", "--json", "--wave", "4", "--server-takes", "2m").json
    assert (plan["endpoint"], plan["seconds"]) == (cloud.exports["BMS_ENDPOINT"], 1200.0)
    assert sum(plan["by_status"].values()) == sum(plan["by_zone"].values()) == 40
    assert [server["id"] for server in servers] == ids
    assert servers[0]["name"] == "bms-000080"
    assert set(servers[0]) == {"type", "id", "name", "zone", "flavor", "tags", "status"}
    unknown = cloud("stop", ids[0], NO_SERVER, "--plan").out
    assert f"the cloud does not have 1 of these: {NO_SERVER}" in unknown
    assert "if one server takes 5:00, which --server-takes changes" in cloud("stop", *ids, "--wave", "4", "--plan").out


def test_a_server_is_named_as_people_name_it(cloud: Bms) -> None:
    ids = cloud.ids("rack-1")
    [outcome, _] = cloud("reboot", "bms-000040", "--yes", "--json").json
    assert outcome["server_id"] == ids[0]
    ended = cloud("reboot", "bms-4", "--yes")
    assert (ended.code, ended.out) == (2, "")
    assert "there is no server with the name or the id bms-4 in project" in ended.err
    table = cloud("servers", "list", "-n", "2", "-o", "table").out
    assert cloud("stop", "--plan", "--json", text=table).json[0]["servers"] == 2


def test_nothing_to_do_is_a_success_and_has_its_report(cloud: Bms, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    ended = cloud("start", "--status", "BUILD", "--yes", "--json", "--report", str(page))
    [summary] = ended.json
    assert (ended.code, summary["servers"], summary["exit_code"]) == (0, 0, 0)
    assert "nothing to do: no server has status BUILD" in ended.err
    assert page.exists()
    assert cloud("start", "--status", "BUILD", "--yes", "--fail-if-none").code == 2
    assert cloud("start", "--file", "-", "--plan", "--json").json[0]["servers"] == 0
    assert cloud("servers", "tag", "x", "--status", "BUILD", "-y", "--json").json[0]["servers"] == 0


def test_too_many_failures_end_a_run_and_what_is_left_can_be_tried_again(cloud: Bms) -> None:
    ids = [f"00000000-0000-4000-8000-{number:012}" for number in range(60)]
    healthy = cloud.ids("rack-6")[:20]
    text = "\n".join([*healthy, *ids])
    ended = cloud("start", "-y", "--abort-above", "1%", "--wave", "20", "--key", "too many", "--json", text=text)
    assert ended.code == 1
    *outcomes, summary = ended.json
    assert "more than 1%" in summary["aborted"]
    assert summary["by_state"]["SKIPPED"] > 0
    assert sum(summary["by_state"].values()) == len({each["server_id"] for each in outcomes}) == 80
    # What failed is looked at first, and nothing advises to raise the threshold.
    assert "first look at what failed:\n  bms runs show 'too many' --failed\n" in ended.err
    assert ended.err.endswith("bms start --retry-failed 'too many'\n")
    assert "100%" not in ended.err
    left = {each["server_id"] for each in outcomes if each["state"] in ("SKIPPED", "FAILED")}
    assert cloud("start", "--resume", "too many", "-y").code == 2
    again = cloud("runs", "retry", "too many", "--abort-above", "100%", "-y", "--json", "--key", "the rest")
    states = {each["server_id"]: each["state"] for each in again.json[:-1]}
    assert set(states) == left
    assert {states[server_id] for server_id in left.intersection(ids)} == {"FAILED"}
    assert again.json[-1]["aborted"] is None


@pytest.mark.parametrize("where", [(), ("--no-journal",)], ids=["in the journal", "in memory"])
def test_one_server_of_nineteen_is_lost_where_the_first_failure_ends_the_run(
    cloud: Bms, where: tuple[str, ...]
) -> None:
    text = "\n".join(f"00000000-0000-4000-8000-{number:012}" for number in range(19))
    before = arrived(cloud, "servers.reboot")
    ended = cloud("reboot", "-y", "--wave", "1", "--abort-above", "0", "--json", *where, text=text)
    assert ended.code == 1
    by_state = ended.json[-1]["by_state"]
    assert (by_state["FAILED"], by_state["SKIPPED"]) == (1, 18)
    assert arrived(cloud, "servers.reboot") == before + 1


def test_at_most_a_wave_of_sixty_servers_is_lost(cloud: Bms) -> None:
    text = "\n".join(f"00000000-0000-4000-8000-{number:012}" for number in range(60))
    ended = cloud("reboot", "-y", "--wave", "5", "--abort-above", "2%", "--json", text=text)
    by_state = ended.json[-1]["by_state"]
    assert 1 <= by_state["FAILED"] <= 5
    assert by_state["FAILED"] + by_state["SKIPPED"] == 60


_IN_TIME = "at most 2 under way at once, so that --abort-above 5% can stop it in time; --wave changes that"


def test_the_plan_and_the_run_say_how_many_are_under_way_so_that_it_can_be_stopped(cloud: Bms) -> None:
    share = ("reboot", "--tag", "rack-5", "--abort-above", "5%")
    plan = cloud(*share, "--plan")
    assert f"\n{_IN_TIME}\n" in plan.out
    assert "40 calls" in plan.out
    fields, *_ = cloud(*share, "--plan", "--json").json
    assert fields["wave"] == 2
    assert "in time" not in cloud(*share, "--wave", "9", "--plan").out
    assert "in time" not in cloud(*share[:3], "--plan").out
    rolling = cloud(*share, "--max-unavailable", "4", "--plan")
    assert _IN_TIME in rolling.out
    assert "in 20 waves" in rolling.out
    assert _IN_TIME in cloud("nova", *share, "--plan").out
    asked = cloud(*share)
    assert f"{_IN_TIME}\nbms: reboot 40 servers of" in asked.err
    text = "\n".join(f"00000000-0000-4000-8000-{number:012}" for number in range(40))
    said = cloud("reboot", "-y", "--abort-above", "5%", "--json", "--key", "in time", text=text)
    assert f"bms: {_IN_TIME}\n" in said.err
    assert said.json[-1]["by_state"]["FAILED"] <= 2
    assert "at most 2 in flight at once" in cloud("runs", "show", "in time").out
    again = cloud("runs", "retry", "in time", "-y", "-q", "--abort-above", "10%", "--key", "with more")
    assert "in time;" not in again.err
    assert "at most 4 in flight at once" in cloud("runs", "show", "with more").out


def test_a_page_about_the_run_is_written(cloud: Bms, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    ended = cloud("reboot", "--tag", "rack-0", "-y", "-q", "--report", str(page))
    assert ended.code in {0, 1}
    text = page.read_text()
    assert text.lstrip().lower().startswith("<!doctype html>")
    project = cloud.exports["OS_PROJECT_ID"]
    assert f"in <bdi>{project}</bdi></h1>" in text
    assert cloud.exports["BMS_ENDPOINT"] in text
    assert f"<bdi>bms reboot --tag rack-0 -y -q --report {page}</bdi>" in text
    assert cloud.exports["OS_TOKEN"] not in text


def test_the_page_of_a_run_can_be_looked_at_while_it_goes_on(cloud: Bms, monkeypatch: pytest.MonkeyPatch) -> None:
    began, looked = threading.Event(), threading.Event()
    begin, end = LivePage.begin, LivePage.end

    def begin_and_say(page: LivePage, source: LiveSource) -> None:
        begin(page, source)
        began.set()

    async def end_once_looked_at(page: LivePage, report: FleetReport, left: int, *, linger: float) -> None:
        await anyio.to_thread.run_sync(looked.wait, PATIENCE)
        await end(page, report, left, linger=linger)

    monkeypatch.setattr(LivePage, "begin", begin_and_say)
    monkeypatch.setattr(LivePage, "end", end_once_looked_at)
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    seen: list[str] = []

    def look() -> None:
        # What the page's own script does, but without a rest in between.
        assert began.wait(PATIENCE)
        with plain_client(f"http://127.0.0.1:{port}") as client:
            while not seen or '<main data-version="end">' not in seen[-1]:
                client.get("/state?me")
                seen.append(client.get("/?me").text)
                looked.set()

    with ThreadPoolExecutor(1) as threads:
        looking = threads.submit(look)
        ended = cloud("reboot", "--tag", "rack-3", "-y", "--serve", str(port))
        looking.result(PATIENCE)
    assert f"bms: the page of the run is at http://127.0.0.1:{port}/ as long as the command runs" in ended.err
    assert any("The run goes on, and this page follows it." in page for page in seen)
    assert "The run has ended. This page does not change any more." in seen[-1]
    assert "reboot</bdi> of 40 servers" in seen[-1]


@pytest.mark.parametrize("option", ["--file", "--report", "--failed-to"])
def test_of_two_files_none_is_passed_over(nowhere: Bms, option: str) -> None:
    ended = nowhere("stop", "--yes", option, "one.txt", option, "two.txt")
    assert ended.code == 2
    assert f"{option}: expected one file, got 2: one.txt, two.txt" in ended.err


def test_a_port_that_is_in_use_is_refused_before_anything_is_sent(cloud: Bms) -> None:
    before = arrived(cloud, "servers.reboot")
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        ended = cloud("reboot", "--tag", "rack-4", "-y", "--serve", str(port))
    assert ended.code == 2
    assert f"--serve {port}: the port is in use; name another one, or 0 for any that is free" in ended.err
    assert arrived(cloud, "servers.reboot") == before


@pytest.mark.parametrize(("name", "begins"), [("r.txt", "stop of 1 server in "), ("r.csv", "id,name,zone,")])
def test_a_report_has_the_form_of_its_suffix(cloud: Bms, tmp_path: Path, name: str, begins: str) -> None:
    assert cloud("stop", NO_SERVER, "-q", "--report", str(tmp_path / name)).code == 1
    assert (tmp_path / name).read_text(encoding="utf-8").startswith(begins)


@pytest.mark.parametrize("command", [["stop", "s"], ["servers", "rename", "s", "--to", "x"], ["runs", "watch", "k"]])
def test_a_report_of_no_known_form_is_refused_before_anything_is_sent(nowhere: Bms, command: list[str]) -> None:
    ended = nowhere(*command, "--report", "page.pdf")
    assert ended.code == 2
    assert "expected a name that ends in .html (a page), .txt (text to be mailed) or .csv" in ended.err


def test_a_page_that_cannot_be_written_is_told_and_keeps_the_exit_code(
    cloud: Bms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    page = tmp_path / "report.html"
    monkeypatch.setattr("bms_async.cli.report_page.forms.write_report", fail)
    ended = cloud("stop", NO_SERVER, "-q", "--report", str(page))
    assert ended.code == 1
    assert f"the report {page} was not written: No space left on device" in ended.err
    assert cloud("stop", NO_SERVER, "--report", str(tmp_path)).code == 2


FULL = (
    "import resource, sys\n"
    # As good as a full disk: no file may become longer than this.
    "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
    "from bms_async.cli import main\nfrom bms_async.cli.runs import journal\n"
    "journal.PATIENCE = 0.1\n"
    "sys.exit(main(sys.argv[1:]))"
)


def on_a_full_disk(bms: Bms, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", FULL, *arguments],
        env=bms.environment, capture_output=True, text=True, timeout=patience(60.0), check=False,
    )  # fmt: skip


def test_where_no_run_can_be_written_down_nothing_is_sent_and_the_way_out_is_told(cloud: Bms, tmp_path: Path) -> None:
    bms, before = Bms(cloud.exports, tmp_path), arrived(cloud, "servers.reboot")
    done = on_a_full_disk(bms, "reboot", "--tag", "rack-7", "-y", "--json")
    assert (done.returncode, done.stdout) == (2, "")
    assert "Nothing was sent. With --no-journal the run is in memory alone" in done.stderr
    assert "Traceback" not in done.stderr
    assert arrived(cloud, "servers.reboot") == before
    done = on_a_full_disk(bms, "reboot", "--tag", "rack-7", "-y", "--json", "--no-journal")
    *outcomes, summary = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(outcomes) == summary["servers"] == 20
    assert (done.returncode, summary["run"]) == (summary["exit_code"], None)
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("how", ["no home", "a folder in its place", "another program's file"])
def test_a_journal_that_cannot_be_used_is_told_before_anything_is_sent(
    cloud: Bms, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    bms, before = Bms(cloud.exports, tmp_path), arrived(cloud, "servers.start")
    changes: dict[str, str | None] = {}
    if how == "no home":
        changes = {"XDG_STATE_HOME": None}
        monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home directory")))
    elif how == "a folder in its place":
        bms.journal.mkdir(parents=True)
    else:
        bms.journal.parent.mkdir(parents=True)
        bms.journal.write_text("not a database, and of some length so that it is taken for none" * 20)
    ended = bms("start", "--tag", "rack-7", "-y", changes=changes)
    assert (ended.code, ended.out) == (2, "")
    assert "Nothing was sent. With --no-journal" in " ".join(ended.err.split())
    assert not re.search(r"Errno|[A-Z]\w+Error", ended.err)
    assert arrived(cloud, "servers.start") == before
    # One server needs no journal, and neither does a read.
    assert bms("start", cloud.ids("rack-7")[0], "-q", changes=changes).code in {0, 1}
    assert bms("servers", "list", "-n", "1", changes=changes).code == 0


def test_a_journal_that_is_named_is_used_for_one_server_too(cloud: Bms, tmp_path: Path) -> None:
    bms, before = Bms(cloud.exports, tmp_path), arrived(cloud, "servers.stop")
    refused = bms("stop", NO_SERVER, "--journal", "foo://x")
    assert (refused.code, "--journal: " in refused.err) == (3, True)
    assert arrived(cloud, "servers.stop") == before
    address = f"sqlite:///{tmp_path}/other.db"
    assert bms("stop", NO_SERVER, "--journal", address, "-q").code == 1
    assert bms("runs", "list", "--journal", address, "--json").json[0]["servers"] == 1


@pytest.mark.parametrize("action", ["start", "stop", "reboot"])
def test_the_limits_are_kept_over_many_commands(cloud: Bms, action: str) -> None:
    server_id = cloud.ids("rack-1")[0]
    before = arrived(cloud, f"servers.{action}")
    for _ in range(3):
        cloud(action, server_id, "-q")
    _, told = cloud("limits", f"servers.{action}", "--json").json
    assert arrived(cloud, f"servers.{action}") == before + 3
    assert 3 <= told["used"] <= before + 3
    assert counted(cloud, f"servers.{action}")[1] == 0
