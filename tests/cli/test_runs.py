"""`bms runs` and `bms worker`: runs that one process writes down, others carry out, and any may watch and steer."""

from __future__ import annotations

import json
import signal
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import anyio
import anyio.lowlevel
import pytest

from bms_async import DurableRun, DurableRuns, RunStatus
from bms_async.cli.access.cloud import OpenClient
from bms_async.cli.following import follow, journaled
from bms_async.cli.following.journaled import KeptRun, WatchedRun
from bms_async.cli.following.not_as_asked import NotAsAsked
from bms_async.cli.runs import run_texts
from bms_async.cli.runs.run_texts import TABLE
from bms_async.testing import run_virtually
from tests.cli._cloud import NEVER, arrived, no_fault_waits, plan_fault
from tests.cli._helpers import PATIENCE, Bms, simulator, wait_until
from tests.cli.test_progress import progress_of


@pytest.fixture
def bms(healthy_cloud: Bms, tmp_path: Path) -> Bms:
    """The command in a quick cloud, with a journal of its own."""
    return Bms(healthy_cloud.exports, tmp_path)


@pytest.fixture(scope="module")
def other_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bms]:
    """The command, in another quick cloud."""
    with simulator("--servers", "40", "--job-seconds", "0.1", "0.2") as exports:
        yield Bms(exports, tmp_path_factory.mktemp("state"))


def detach(bms: Bms, action: str, rack: str, key: str, *more: str) -> None:
    ended = bms(action, "--tag", rack, "--detach", "--key", key, "--yes", *more)
    assert ended.code == 0
    assert ended.out.startswith(f"{key}: {action} 40 servers is written down")
    assert f"bms runs watch {key}" in ended.err
    assert "`bms worker` carries it out" in ended.err


def test_a_run_that_is_only_written_down_is_steered_from_anywhere(bms: Bms) -> None:
    detach(bms, "stop", "rack-1", "one")
    detach(bms, "reboot", "rack-2", "two", "--wave", "20")
    listed = bms("runs", "list", "--open").out.splitlines()
    assert [line.split("\t")[:4] for line in listed] == [
        ["two", "reboot", "open", "0/40"],
        ["one", "stop", "open", "0/40"],
    ]
    shown = bms("runs", "show", "two").out
    assert "two: reboot, open, 0 of 40 servers ended" in shown
    assert f"of project {bms.exports['OS_PROJECT_ID']} at {bms.exports['BMS_ENDPOINT']}" in shown
    assert "workers hold 0 batches: `bms worker` carries it out" in shown

    assert bms("runs", "pause", "one", "two").code == 0
    assert {run["status"] for run in bms.runs} == {"paused"}
    assert bms("runs", "resume", "one", "--json").json[0]["status"] == "open"
    assert bms("runs", "cancel", "one", "two").code == 0
    assert {run["status"] for run in bms.runs} == {"cancelled"}
    assert "the run two was cancelled, and nothing is left of it" in bms("reboot", "--resume", "two").err
    assert bms.run("one")["by_state"]["SKIPPED"] == 40
    late = bms("runs", "resume", "one")
    assert (late.code, "was cancelled before, and stays so" in late.err) == (1, True)
    watched = bms("runs", "watch", "one", "--json")
    assert (watched.code, len(watched.json)) == (1, 41)
    assert all(outcome["name"].startswith("bms-") for outcome in watched.json[:-1])
    assert watched.json[-1]["by_state"]["SKIPPED"] == 40
    assert "bms stop --retry-failed one" in watched.err
    assert bms("runs", "list", "--open").out == ""
    assert arrived(bms, "servers.stop") == 0

    again = bms("runs", "retry", "two", "--detach", "--yes", "--key", "three", "--json")
    assert (again.code, again.json[0]["servers"]) == (0, 40)
    assert "at most 20 in flight at once" in bms("runs", "show", "three").out
    assert bms("runs", "retry", "three", "--yes").code == 2
    assert bms("runs", "prune", "--older-than", "0s").out == "2 runs deleted\n"
    assert [run["key"] for run in bms.runs] == ["three"]
    missing = bms("runs", "show", "one", "three")
    assert (missing.code, "there is no run one of project" in missing.err) == (1, True)
    assert "three: reboot" in missing.out


def test_workers_share_a_run_that_a_third_process_watches_and_end_with_zero(bms: Bms) -> None:
    before = arrived(bms, "servers.start")
    ended = bms("start", "--tag", "__type_baremetal", "--detach", "--key", "all", "--yes", "--wave", "100")
    assert ended.code == 0
    with bms.in_a_pipe("worker") as one, bms.in_a_pipe("worker") as other:
        watched = bms("runs", "watch", "all", "--json")
        said = []
        for worker in (one, other):
            worker.send_signal(signal.SIGTERM)
            said.append(worker.communicate(timeout=PATIENCE)[1])
            assert worker.returncode == 0
    *outcomes, summary = watched.json
    assert watched.code == 0
    assert len({each["server_id"] for each in outcomes}) == len(outcomes) == summary["servers"] == 300
    assert (summary["calls"], summary["polls"], summary["left"]) == (None, None, 0)
    # Each of its batches was sent once, whichever worker had it.
    assert arrived(bms, "servers.start") == before + 12
    assert all("works for project" in each and "hands back what it has" in each for each in said)
    assert sum("all: start 300 servers, ended: " in each for each in said) >= 1
    assert "Traceback" not in "".join(said)


def test_what_a_killed_worker_had_is_taken_over_by_another_and_said(bms: Bms) -> None:
    detach(bms, "reboot", "rack-1", "one")
    plan_fault(bms, "jobs.get", NEVER)
    with bms.in_a_pipe("worker") as killed, bms.in_a_pipe("runs", "watch", "one", "--json") as watching:
        assert killed.stderr is not None
        assert "works for" in killed.stderr.readline()
        assert watching.stderr is not None
        # It waits for the job then, and for as long as it lives.
        wait_until(lambda: no_fault_waits(bms))
        killed.kill()
        killed.communicate()
        bms.bury()
        with bms.in_a_pipe("worker") as heir:
            out, err = watching.communicate(timeout=PATIENCE)
            heir.send_signal(signal.SIGINT)
            _, said = heir.communicate(timeout=PATIENCE)
    *outcomes, summary = map(json.loads, out.splitlines())
    assert (watching.returncode, heir.returncode) == (summary["exit_code"], 0)
    assert len(outcomes) == summary["servers"] == 40
    assert summary["by_state"]["FAILED"] == 0
    assert "one: took over a batch to reboot 40 servers, " in said
    assert "one: reboot 40 servers, ended: " in said
    assert "Traceback" not in err + said


def test_one_worker_works_for_several_clouds_and_each_run_stays_in_its_own(
    bms: Bms, other_cloud: Bms, tmp_path: Path
) -> None:
    clouds = {
        name: {
            "auth": {"token": each.exports["OS_TOKEN"], "project_id": each.exports["OS_PROJECT_ID"]},
            "bms_endpoint_override": each.exports["BMS_ENDPOINT"],
        }
        for name, each in (("a", bms), ("b", other_cloud))
    }
    (tmp_path / "clouds.json").write_text(json.dumps({"clouds": clouds}))
    both = Bms({}, tmp_path)
    for name, action in (("a", "stop"), ("b", "reboot")):
        ended = both(action, "--tag", "rack-0", "--cloud", name, "--detach", "--key", name, "--yes")
        assert ended.code == 0, ended.err
    elsewhere = both("stop", "--resume", "a", "--cloud", "b", "--yes")
    assert (elsewhere.code, f"it is a run of project {bms.exports['OS_PROJECT_ID']}" in elsewhere.err) == (2, True)
    assert {run["key"] for run in both("runs", "list", "--all", "--cloud", "a", "--json").json} == {"a", "b"}
    assert {run["key"] for run in both("runs", "list", "--cloud", "a", "--json").json} == {"a"}
    with both.in_a_pipe("worker", "--cloud", "a", "--cloud", "b") as worker:
        for name in ("a", "b"):
            assert both("runs", "watch", name, "--cloud", name, "-q").code == 0
        worker.send_signal(signal.SIGTERM)
        _, said = worker.communicate(timeout=PATIENCE)
    assert worker.returncode == 0
    assert all(f"bms: works for cloud {name}, project " in said for name in ("a", "b"))


def test_the_same_key_is_the_same_run_and_one_that_has_ended_sends_nothing(bms: Bms) -> None:
    first = bms("reboot", "--tag", "rack-3", "--yes", "--key", "kernel 42", "--json")
    before = arrived(bms, "servers.reboot")
    again = bms("reboot", "--tag", "rack-3", "--yes", "--key", "kernel 42", "--json")
    assert (first.code, again.code) == (0, 0)
    assert "has ended before: nothing is sent" in again.err
    assert again.json[-1]["by_state"] == first.json[-1]["by_state"]
    assert arrived(bms, "servers.reboot") == before
    other = bms("reboot", "--tag", "rack-4", "--yes", "--key", "kernel 42")
    assert (other.code, "expected the same servers as before, or a new key" in other.err) == (2, True)
    stop = bms("stop", "--tag", "rack-3", "--yes", "--key", "kernel 42")
    assert (stop.code, "it is that of a servers.reboot" in stop.err) == (2, True)


def test_one_server_is_asked_for_without_the_journal_unless_it_has_a_key(bms: Bms) -> None:
    server_id = bms.ids("rack-5")[0]
    assert bms("reboot", server_id, "--json").json[-1]["run"] is None
    assert not bms.journal.exists()
    assert bms("reboot", server_id, "--json", "--key", "one").json[-1]["run"] == "one"
    assert bms.run("one")["servers"] == 1


def test_old_runs_of_the_command_are_deleted_and_those_with_a_key_are_kept(
    bms: Bms, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bms_async.cli.runs.journal._KEPT_SECONDS", 0.0)
    bms("stop", "--tag", "rack-6", "--yes", "--key", "mine", "-q")
    bms("start", "--tag", "rack-6", "--yes", "-q")
    assert [run["key"] for run in bms.runs] == ["mine"]


def test_a_signal_that_comes_while_a_run_is_written_down_leaves_it_paused(
    bms: Bms, monkeypatch: pytest.MonkeyPatch
) -> None:
    begin, before = DurableRuns._begin, arrived(bms, "servers.stop")

    async def begin_and_be_interrupted(*arguments: Any, **options: Any) -> DurableRun:
        run = await begin(*arguments, **options)
        signal.raise_signal(signal.SIGINT)
        await anyio.lowlevel.checkpoint()
        return run

    monkeypatch.setattr(DurableRuns, "_begin", begin_and_be_interrupted)
    ended = bms("stop", "--tag", "rack-5", "--yes", "--key", "soon over")
    assert (ended.code, "nothing was changed" in ended.err) == (130, False)
    assert "bms stop --resume 'soon over'" in ended.err
    assert bms.run("soon over")["status"] == "paused"
    assert arrived(bms, "servers.stop") == before


def words(text: str) -> str:
    """What is said, however it is folded."""
    return " ".join(text.split())


@pytest.fixture
def leaves_when_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever watches presses Ctrl-C once it is said that no process works on the run."""
    take = WatchedRun.take_news
    # Without the pause that a run may have between two batches.
    monkeypatch.setattr(journaled, "_LONELY_AFTER", 0.0)

    def take_and_press(run: WatchedRun, now: float) -> str:
        if news := take(run, now):
            signal.raise_signal(signal.SIGINT)
        return news

    monkeypatch.setattr(WatchedRun, "take_news", take_and_press)


@pytest.mark.usefixtures("leaves_when_it_is_told")
def test_a_run_that_is_watched_and_that_nobody_carries_says_so_and_is_left_alone(bms: Bms) -> None:
    detach(bms, "stop", "rack-7" if len(bms.ids("rack-7")) == 40 else "rack-0", "alone")
    watched = bms("runs", "watch", "alone")
    assert watched.code == 130
    said = "no process works on this run: 40 servers left; `bms stop --resume alone` or `bms worker` goes on"
    assert said in words(watched.err)
    assert "interrupted; 0 asked" in watched.err
    assert "the run stays as it is" in watched.err
    assert bms.run("alone")["status"] == "open"


def leave_as_killed(bms: Bms, *, lease: str) -> None:
    """Leave the only batch of the only run as a process does that is killed before it has the answer."""
    with closing(sqlite3.connect(bms.journal)) as connection, connection:
        connection.execute(
            "UPDATE bms_async_batches SET state = 'sending', is_counted = 1, owner = 'gone:1:x', fence = 1, "
            f"lease = {lease}"
        )
        connection.execute("UPDATE bms_async_runs SET unsent = 0, in_flight = servers, submitted = servers")


@pytest.mark.usefixtures("leaves_when_it_is_told")
def test_a_run_whose_process_was_killed_says_what_is_open_and_what_ends_it(bms: Bms) -> None:
    detach(bms, "reboot", "rack-1", "lost")
    leave_as_killed(bms, lease=str(time.monotonic() + 15))
    held = bms("runs", "cancel", "lost")
    assert (held.code, "40 servers under way, which another process follows to the end" in words(held.err)) == (0, True)
    retried = bms("runs", "retry", "lost", "-y")
    assert retried.code == 2
    assert "the run lost has not ended: 40 servers under way, which another process" in words(retried.err)
    assert "may still be asked for" not in words(retried.err)
    bms.bury()
    cancelled = bms("runs", "cancel", "lost")
    assert (cancelled.code, bms.run("lost")["status"], bms.run("lost")["in_flight"]) == (0, "ending", 40)
    said = (
        "no process follows the 40 servers under way, and until one does, the run does not end;"
        " `bms reboot --resume lost` sees to that, and asks for nothing more"
    )
    assert f"nothing more is asked for; {said}" in words(cancelled.err)
    watched = bms("runs", "watch", "lost")
    assert (watched.code, said in words(watched.err)) == (130, True)
    assert "no process works on it" in watched.err
    retried = bms("runs", "retry", "lost", "-y")
    assert (retried.code, f"the run lost has not ended: {said}" in words(retried.err)) == (2, True)


def test_nothing_is_confirmed_or_planned_where_an_ending_run_is_followed_to_its_end(bms: Bms) -> None:
    detach(bms, "stop", "rack-1", "ends")
    with closing(sqlite3.connect(bms.journal)) as connection, connection:
        # As a worker leaves it that was killed when the threshold was passed.
        connection.execute("UPDATE bms_async_runs SET status = 'aborted', aborted = 'too many'")
    planned = bms("stop", "--resume", "ends", "--plan")
    assert (planned.code, planned.out.startswith("would stop 0 servers of")) == (0, True)
    ended = bms("stop", "--resume", "ends")
    assert (ended.code, "40 skipped" in ended.out, "confirm with" in ended.err) == (1, True, False)
    assert bms.run("ends")["status"] == "aborted"


def test_a_run_that_nobody_carries_and_that_has_nothing_under_way_is_ended_by_its_cancellation(bms: Bms) -> None:
    detach(bms, "stop", "rack-1", "over")
    with closing(sqlite3.connect(bms.journal)) as connection, connection:
        # As a worker leaves it that was killed when the threshold was passed.
        connection.execute("UPDATE bms_async_runs SET status = 'aborted', aborted = 'too many'")
    assert bms.run("over")["status"] == "ending"
    cancelled = bms("runs", "cancel", "over")
    assert (cancelled.code, cancelled.err.count("\n")) == (0, 1)
    assert cancelled.out == "over: stop, aborted, 40 of 40 servers ended\n"


def test_watching_a_run_that_has_ended_says_how_long_it_took(bms: Bms) -> None:
    detach(bms, "stop", "rack-1", "long-ago")
    assert bms("runs", "cancel", "long-ago").code == 0
    with closing(sqlite3.connect(bms.journal)) as connection, connection:
        connection.execute("UPDATE bms_async_runs SET created = ended - 3725")
    assert " in 1:02:05: 40 skipped" in words(bms("runs", "watch", "long-ago").out)
    assert bms("runs", "watch", "long-ago", "--json").json[-1]["seconds"] == 3725
    # And so where the key is that of a run that has ended.
    again = bms("stop", "--tag", "rack-1", "--yes", "--key", "long-ago", "--json")
    assert again.json[-1]["seconds"] == 3725


@pytest.mark.parametrize(
    ("sent", "seconds", "left"), [(0, 0.0, "4 servers left. "), (2, 10.0, "2 servers left, and 2 under way, ")]
)
def test_ctrl_c_does_not_wait_for_a_batch_that_was_refused(
    sent: int, seconds: float, left: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def do_nothing() -> None: ...

    class Reader:
        def stop_waiting(self) -> None: ...

    async def main() -> None:
        run = SimpleNamespace(
            progress=progress_of(14, submitted=12, in_flight=2, succeeded=10),
            status=RunStatus.PAUSED, held=1, ended=None, outcomes=Reader, pause=do_nothing, refresh=do_nothing,
            key="one", action="servers.stop", under_way=sent,
        )  # fmt: skip
        kept = KeptRun(cast("DurableRun", run), lambda _run: 0)
        with anyio.move_on_after(10.0):
            await kept.stop_asking()
        assert anyio.current_time() == pytest.approx(seconds, abs=0.1)
        kept.print_advice(NotAsAsked(), None)
        assert left in capsys.readouterr().err

    run_virtually(main)


@pytest.mark.parametrize("status", [RunStatus.CANCELLED, RunStatus.ABORTED])
def test_a_run_that_is_ending_is_not_said_to_be_paused_or_to_be_cancelled_once_more(
    status: RunStatus, capsys: pytest.CaptureFixture[str]
) -> None:
    run = SimpleNamespace(
        progress=progress_of(14, submitted=12, in_flight=2, succeeded=10, skipped=2), status=status, held=1,
        ended=None, outcomes=list, key="one", action="servers.stop", under_way=2,
    )  # fmt: skip
    KeptRun(cast("DurableRun", run), lambda _run: 0).print_advice(NotAsAsked(), None)
    said = capsys.readouterr().err
    assert words(said) == (
        "bms: nothing more is asked for, and 2 servers are under way, whose jobs go on in the cloud. To follow them to"
        " their end: bms stop --resume one"
    )


def test_who_leaves_a_run_does_not_wait_for_the_names_of_its_servers(bms: Bms, monkeypatch: pytest.MonkeyPatch) -> None:
    learnt: list[OpenClient] = []

    async def learn(cloud: OpenClient) -> None:
        signal.raise_signal(signal.SIGINT)
        await anyio.sleep(1.0)
        learnt.append(cloud)

    detach(bms, "stop", "rack-1", "left")
    monkeypatch.setattr(follow, "learn_all", learn)
    watched = bms("runs", "watch", "left", "--json")
    assert (watched.code, watched.json[-1]["left"], learnt) == (130, 40, [])
    assert "the run stays as it is" in watched.err


def test_a_batch_that_waits_for_its_call_is_not_said_to_be_in_flight(monkeypatch: pytest.MonkeyPatch) -> None:
    waits = progress_of(120, submitted=0, in_flight=2)
    run = cast("DurableRun", SimpleNamespace(progress=waits))
    assert TABLE.columns["in_flight"](run) == 0
    sent = cast("DurableRun", SimpleNamespace(progress=progress_of(120, submitted=4, in_flight=6, succeeded=2)))
    assert TABLE.columns["in_flight"](sent) == 2
    monkeypatch.setattr(run_texts, "count_under_way", lambda progress: progress.in_flight)
    assert TABLE.columns["in_flight"](run) == 2
