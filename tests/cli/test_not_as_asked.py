"""What failed is never lost: lists of it in files, from the journal, and asking again for all of it."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast
from unittest.mock import AsyncMock

import anyio
import anyio.to_thread
import msgspec
import pytest

from bms_async import DurableRun, DurableRuns, InvalidRequestError, JournalError, Outcome, OutcomeState
from bms_async._files import write_atomically
from bms_async.cli.access.cloud import OpenClient
from bms_async.cli.access.known import KnownServers
from bms_async.cli.following import follow, not_as_asked
from bms_async.cli.following.journaled import KeptRun
from bms_async.cli.following.not_as_asked import NotAsAsked, ask_again, keep_list, list_lines, name_of_list
from bms_async.cli.runs import durable, last, retrying
from bms_async.cli.runs.last import resolve_key
from bms_async.fleet.packed import pack_outcomes, unpack_outcomes
from bms_async.journal.statements import Transaction
from bms_async.runs import worker
from tests.cli._cloud import arrived
from tests.cli._helpers import NO_SERVER, Bms

MISSING = "00000000-0000-4000-8000-000000000001"
ALSO_MISSING = "00000000-0000-4000-8000-000000000002"


@pytest.fixture
def bms(cloud: Bms, tmp_path: Path) -> Bms:
    """The command in a cloud where one server in twenty fails, with a state folder of its own."""
    return Bms(cloud.exports, tmp_path)


def ids_in(path: Path) -> set[str]:
    lines = [line.partition("#")[0].strip() for line in path.read_text().splitlines()]
    return {line for line in lines if line}


def disk_is_full(monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    def write(path: Path, data: bytes) -> None:
        if where in str(path):
            raise OSError(errno.ENOSPC, "No space left on device")
        write_atomically(path, data)

    monkeypatch.setattr(not_as_asked, "write_atomically", write)
    monkeypatch.setattr("bms_async.cli.report_page.forms.write_atomically", write)


def test_all_that_failed_is_in_a_file_and_in_the_journal_and_is_asked_for_again(bms: Bms, tmp_path: Path) -> None:
    chosen = ["--tag-any", "rack-1", "--tag-any", "rack-2", "--tag-any", "rack-3", "--tag-any", "rack-4"]
    ended = bms("stop", *chosen, "-y", "--json", "--key", "to night/1", "--wave", "100", "--failed-to", "left")
    *outcomes, summary = ended.json
    failed = {each["server_id"]: each for each in outcomes if each["state"] == "FAILED"}
    assert (ended.code, len(failed) > 3) == (1, True)
    kept = Path(summary["failed_to"])
    assert ids_in(kept) == ids_in(tmp_path / "left") == set(failed)
    assert (kept.parent, kept.stat().st_mode & 0o777) == (tmp_path / "bms" / "failed", 0o600)
    some = next(iter(failed.values()))
    assert f"{some['server_id']} # FAILED {some['code']} {some['name']}\n" in kept.read_text()
    assert some["name"].startswith("bms-")
    assert f"{len(failed)} servers not as asked; the list: left and {kept}\n" in ended.err
    assert ended.err.endswith(
        "to ask again for the servers that are not as asked:\n  bms stop --retry-failed 'to night/1'\n"
    )

    shown = bms("runs", "show", "LAST", "--failed", "--ids")
    assert set(shown.out.split()) == set(failed)
    assert "the last run is to night/1: stop, ended, begun 0:" in shown.err
    rows = bms("runs", "show", "to night/1", "--failed", "--json").json
    assert {row["server_id"]: row["name"] for row in rows} == {each: failed[each]["name"] for each in failed}
    assert some["name"] in bms("runs", "show", "last", "--failed").out
    assert bms("runs", "show", "last", "--ids").code == 2

    plan, *servers = bms("stop", "--retry-failed", "last", "--plan", "--json").json
    assert (plan["servers"], {each["id"] for each in servers}) == (len(failed), set(failed))
    planned = bms("stop", "--retry-failed", "last", "--plan").out
    assert "as in the run to night/1: at most 100 under way at once\n" in planned
    again = bms("stop", "--retry-failed", "last", "-y", "--json", "--key", "the rest")
    assert {each["server_id"] for each in again.json[:-1]} == set(failed)
    assert bms("start", "--retry-failed", "the rest").code == 2
    assert "at most 100 in flight at once" in bms("runs", "show", "last").out
    before = [run["key"] for run in bms.runs]
    assert before == ["the rest", "to night/1"]


def test_an_ended_run_is_asked_for_again_by_its_name_and_an_option_is_no_name(bms: Bms) -> None:
    assert bms("start", NO_SERVER, "--key", "fails").code == 1
    elsewhere = bms("stop", "--retry-failed", "fails")
    assert (elsewhere.code, "`bms start --retry-failed fails`" in elsewhere.err) == (2, True)
    bms("runs", "retry", "fails", "--detach", "--key", "open")
    for arguments, text in (
        (("start", "--retry-failed", "last"), "go on with it by `bms start --resume open`, or end it first by"),
        (("start", "--resume", "--yes"), "--resume: expected the key of a run behind it, got the option --yes;"),
        (("start", "--retry-failed", "-y"), "--retry-failed: expected the key of a run behind it"),
        (("start", "x", "--key", "Last"), "--key Last: this word means the latest run"),
        (("stop", "--resume", "last"), "last: there is no stop run that has not ended"),
        (("start", "x", "--retry-failed", "fails"), "leave out ids, --file, filters and --except"),
        (("start", "x", "--failed-to", "no/such"), "--failed-to no/such: its folder does not exist"),
    ):
        refused = bms(*arguments)
        assert (refused.code, text in refused.err) == (2, True), refused.err
    assert bms("runs", "cancel", "last").code == 0
    assert bms.run("open")["status"] == "cancelled"


def test_a_run_that_is_asked_for_again_keeps_what_the_ended_one_had(bms: Bms, monkeypatch: pytest.MonkeyPatch) -> None:
    handed_on: list[Mapping[str, Any]] = []
    retry = DurableRuns.retry

    async def note(runs: DurableRuns, run: DurableRun, **options: Any) -> DurableRun:
        handed_on.append(options)
        return await retry(runs, run, **options)

    monkeypatch.setattr(DurableRuns, "retry", note)
    arguments = ["--verify", "--wave", "7", "--abort-above", "50%", "--key", "one"]
    assert bms("start", "-y", *arguments, text=f"{MISSING}\n{ALSO_MISSING}\n").code == 1
    assert bms("start", "--retry-failed", "one", "--detach", "-y").code == 0
    assert {name: handed_on[0][name] for name in ("verify", "wave_size", "abort_above")} == {
        "verify": True,
        "wave_size": 7,
        "abort_above": 0.5,
    }


def test_a_reboot_is_asked_for_again_once_however_often_that_is_typed(
    bms: Bms, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert bms("reboot", MISSING, "--key", "fails").code == 1
    before = arrived(bms, "servers.reboot")
    begun = bms("reboot", "--retry-failed", "fails", "--detach", "--json").json[0]["key"]
    refused = bms("reboot", "--retry-failed", "fails")
    assert (refused.code, f"the run fails is being asked for again already, by the run {begun}: " in refused.err) == (
        2,
        True,
    )
    # Of two who ask at the same time, none sees the run of the other one.
    with monkeypatch.context() as patch:
        patch.setattr(retrying, "find_run", AsyncMock(return_value=None))
        assert bms("reboot", "--retry-failed", "fails").code == 1
    assert bms.run(begun)["done"] == 1
    assert arrived(bms, "servers.reboot") == before + 1
    again = bms("runs", "retry", "fails", "--unknown")
    assert (again.code, f"by the run {begun}; 1 server of it not as asked" in again.err) == (1, True)
    assert again.err.endswith(f"to ask again for these:\n  bms reboot --retry-failed {begun}\n")
    assert arrived(bms, "servers.reboot") == before + 1
    # What has a name of its own is meant to be another run.
    assert bms("reboot", "--retry-failed", "fails", "--key", "once more").code == 1
    assert arrived(bms, "servers.reboot") == before + 2
    known = bms("reboot", "--retry-failed", "fails", "--key", "once more")
    assert "the run once more has ended before: nothing is sent, and this came of it" in known.err
    assert "as in the run" not in known.err
    assert bms("reboot", "--retry-failed", "fails", "--key", "once more", "--detach", "--json").json[0]["known"]
    assert arrived(bms, "servers.reboot") == before + 2


def leave_unknown(bms: Bms, key: str, server_id: str) -> None:
    """Have a server of an ended run count as one that may have been rebooted."""
    with closing(sqlite3.connect(bms.journal)) as connection, connection:
        query = (
            "SELECT o.rowid, o.body FROM bms_async_outcomes o JOIN bms_async_runs r ON r.id = o.run WHERE run_key = ?"
        )
        for row, body in connection.execute(query, [key]).fetchall():
            outcomes = [
                msgspec.structs.replace(outcome, state=OutcomeState.UNKNOWN)
                if outcome.server_id == server_id
                else outcome
                for outcome in unpack_outcomes(body)
            ]
            changed = [pack_outcomes(outcomes), row]
            connection.execute("UPDATE bms_async_outcomes SET body = ? WHERE rowid = ?", changed)
        connection.execute("UPDATE bms_async_runs SET failed = failed - 1, unknown_count = 1 WHERE run_key = ?", [key])


def test_what_may_have_been_rebooted_can_be_asked_for_after_what_failed_was(bms: Bms) -> None:
    assert bms("reboot", "-y", "--key", "both", "-f", "-", text=f"{MISSING}\n{ALSO_MISSING}\n").code == 1
    leave_unknown(bms, "both", ALSO_MISSING)
    before = arrived(bms, "servers.reboot")
    assert bms("reboot", "--retry-failed", "both").code == 1
    assert bms("runs", "show", bms.runs[0]["key"], "--failed", "--ids").out == f"{MISSING}\n"
    planned = bms("runs", "retry", "both", "--unknown", "--detach", "--json").json[0]
    assert planned["servers"] == 1
    assert bms("reboot", "--resume", planned["key"]).code == 1
    assert bms("runs", "show", planned["key"], "--failed", "--ids").out == f"{ALSO_MISSING}\n"
    assert arrived(bms, "servers.reboot") == before + 2
    # Neither is asked for once more.
    for more in ([], ["--unknown"]):
        again = bms("runs", "retry", "both", *more)
        assert (again.code, "nothing to do: the run both was asked for again before" in again.err) == (1, True)
    assert arrived(bms, "servers.reboot") == before + 2


@pytest.mark.parametrize(
    ("harm", "left"),
    [
        ("none", "The run is in the journal as far as it is. To resume it: bms reboot --resume gone --journal "),
        ("deleted", "The run cannot be resumed, and at least 0 of 1 server had been asked for: "),
        ("damaged", "When it failed, at least 0 of 1 server had been asked for. Once the journal can be read again"),
        ("silent", "When it failed, at least 0 of 1 server had been asked for. Once the journal can be read again"),
    ],
)
def test_a_run_whose_journal_fails_is_said_to_be_resumable_only_if_it_is_still_there(
    bms: Bms, monkeypatch: pytest.MonkeyPatch, harm: str, left: str
) -> None:
    def do_harm() -> None:
        if harm in {"deleted", "damaged"}:
            bms.journal.unlink()
        if harm == "damaged":
            bms.journal.mkdir()

    async def fail(_runs: DurableRuns, run: DurableRun) -> None:
        await anyio.to_thread.run_sync(do_harm)
        if harm == "silent":
            monkeypatch.setattr(durable, "_PATIENCE_AT_THE_END", 0.0)
        raise JournalError("the journal fails: OSError: [Errno 5] disk on fire")

    monkeypatch.setattr(DurableRuns, "carry_on", fail)
    ended = bms("reboot", MISSING, "--key", "gone", "--journal", f"sqlite:///{bms.journal}")
    assert ended.code == 4
    assert "the journal fails: disk on fire\n" in ended.err
    assert left in ended.err


@pytest.mark.parametrize("is_heeded", [True, False])
def test_a_run_ends_whose_journal_can_be_read_but_not_written(
    bms: Bms, monkeypatch: pytest.MonkeyPatch, is_heeded: bool
) -> None:
    attempts: list[None] = []

    def claim(*_: object) -> Transaction[None]:
        attempts.append(None)
        if len(attempts) == 2:
            # Nothing else would end it.
            signal.raise_signal(signal.SIGTERM)
        raise sqlite3.IntegrityError("the table is damaged")

    monkeypatch.setattr(worker, "claim_waiting", claim)
    if not is_heeded:
        monkeypatch.setattr(KeptRun, "failure", None)
    ended = bms("reboot", MISSING, "--key", "damaged", "-q")
    assert ended.code == (4 if is_heeded else 143)
    assert ("the table is damaged" in ended.err) is is_heeded
    assert "bms reboot --resume damaged" in ended.err


def test_a_signal_at_the_end_of_a_run_does_not_wait_for_names_and_loses_no_list(
    bms: Bms, monkeypatch: pytest.MonkeyPatch
) -> None:
    learnt: list[None] = []

    async def learn(*_: object, **__: object) -> None:
        signal.raise_signal(signal.SIGINT)
        await anyio.sleep(1.0)
        learnt.append(None)

    monkeypatch.setattr(follow, "learn_servers", learn)
    ended = bms("reboot", MISSING, "--key", "late", "--failed-to", "late.txt")
    assert (ended.code, learnt) == (130, [])
    assert MISSING in (bms.state / "late.txt").read_text()
    assert "1 failed" in ended.out


def test_a_list_or_a_report_that_cannot_be_written_is_said_by_the_exit_code(
    bms: Bms, monkeypatch: pytest.MonkeyPatch
) -> None:
    healthy = next(
        each["server_id"]
        for each in bms("reboot", "--tag", "rack-5", "-y", "--json").json
        if each.get("state") == "SUCCEEDED"
    )
    assert bms("reboot", healthy, "--key", "fine").code == 0
    again = bms("reboot", "--retry-failed", "fine")
    assert (again.code, "nothing to do: all servers of the run fine are as asked" in again.err) == (0, True)
    assert bms("reboot", "--retry-failed", "fine", "--fail-if-none").code == 2
    disk_is_full(monkeypatch, "full")
    ended = bms("reboot", healthy, "--report", "full.csv", "--json")
    assert (ended.code, ended.json[-1]["exit_code"]) == (2, 2)
    assert "the report full.csv was not written: " in ended.err
    ended = bms("reboot", MISSING, "--failed-to", "full")
    assert (ended.code, "--failed-to full: the list was not written: " in ended.err) == (2, True)
    assert "the list: " in ended.err


def test_servers_that_no_file_takes_are_printed_where_no_journal_has_them(
    bms: Bms, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk_is_full(monkeypatch, "failed")
    ended = bms("reboot", "--no-journal", "-y", text=f"{MISSING}\n{ALSO_MISSING}\n")
    assert (ended.code, "No space left on device" in ended.err) == (1, True)
    assert ended.err.endswith(f"bms: 2 servers not as asked:\n  {MISSING}\n  {ALSO_MISSING}\n")


def outcome(server_id: str, state: OutcomeState, error: InvalidRequestError | None = None) -> Outcome:
    return Outcome(server_id=server_id, state=state, error=error)


def test_a_list_is_read_back_without_what_is_no_id_and_without_what_may_have_been_rebooted() -> None:
    servers = NotAsAsked()
    servers.add(outcome("a", OutcomeState.SUCCEEDED))
    servers.add(outcome("b", OutcomeState.UNKNOWN))
    servers.add(outcome("c", OutcomeState.SKIPPED))
    servers.add(outcome("no id\n", OutcomeState.SKIPPED, InvalidRequestError("ids", "no id", "expected an id")))
    assert list(list_lines(servers, KnownServers())) == [
        "b # UNKNOWN\n",
        "c # SKIPPED\n",
        "# no id\N{REPLACEMENT CHARACTER} SKIPPED unfit\n",
    ]
    assert (len(servers), list(servers.ids())) == (3, ["b", "c"])
    what, command = ask_again("nova.servers.reboot", Path("/a b"), servers)
    assert what.startswith("1 server may have been rebooted.")
    assert command == "grep -v '# UNKNOWN' '/a b' | bms nova reboot -"
    assert ask_again("servers.stop", Path("/a"), servers)[1] == "bms stop --file /a"
    assert ask_again("servers.rename", Path("/a"), servers)[1] == "--file /a"


def test_lists_are_called_by_their_run_stay_in_their_folder_and_are_kept_for_a_month(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    folder = tmp_path / "bms" / "failed"
    old, young, own = keep_list("old", "it", ()), keep_list("young", "it", ()), folder / "own.txt"
    own.write_text("a list of the user's\n")
    now = young.stat().st_mtime
    for each in (old, own):
        os.utime(each, (now - 31 * 86400, now - 31 * 86400))
    os.utime(young, (now - 29 * 86400, now - 29 * 86400))
    names = ["bms-stop-1", "../../etc/x", "nightly", "n" * 200]
    written = [keep_list(name_of_list(name, "the id", "stop"), "what\nit is", ["x # FAILED\n"]) for name in names]
    assert all(path.parent == folder and len(path.name) < 120 for path in written)
    assert len(set(written)) == 4
    assert written[0].name == "bms-stop-1.txt"
    assert written[0].read_text() == "# what\n# it is\nx # FAILED\n"
    assert (old.exists(), young.exists(), own.exists()) == (False, True, True)
    # Two clouds may each have a run of one name.
    assert name_of_list("nightly", "one", "stop") != name_of_list("nightly", "other", "stop")


async def test_a_run_that_is_really_called_last_wins(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    async def find(_bms: object, key: str) -> object:
        return object() if key == "last" else None

    monkeypatch.setattr(last, "find_run", find)
    cloud = cast("OpenClient", SimpleNamespace(bms=None))
    assert await resolve_key(cloud, "last") == "last"
    assert "last is the run of that key" in capsys.readouterr().err
    assert await resolve_key(cloud, "lasting") == "lasting"
