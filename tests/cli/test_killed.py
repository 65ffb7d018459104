"""Runs that are killed, gone on with, and killed again: no server is rebooted twice, and what is in doubt is told."""

from __future__ import annotations

import asyncio
import json
import os
import resource
import signal
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import anyio.to_thread
import pytest

from bms_async import TransportError
from bms_async.cli.exit import UsageError
from bms_async.cli.journal import Journal, NotSavedError, make_header
from bms_async.cli.saved import SavedRun, read_saved
from tests.cli._helpers import COMMAND, PATIENCE, Bms, simulator
from tests.cli._limits import use_elsewhere

IDS = ("a", "b", "c", "d")
HEAD = {"bms_run": 1, "action": "servers.reboot", "endpoint": "", "project_id": "p", "started": "", "ids": IDS}
ASKED_A = {"asked": ["a"]}
JOB_A = {"job": {"job_id": "job-1", "servers": ["a"]}}
RESUMED = {"resumed": "2026-03-01T12:00:00+00:00"}


@pytest.fixture
def bms(tmp_path: Path) -> Iterator[Bms]:
    """The command, in a quick cloud of 20 servers of its own."""
    with simulator("--servers", "20", "--job-seconds", "0.1", "0.2") as exports:
        yield Bms(exports, tmp_path)


def answer_late(bms: Bms, nth: int) -> None:
    fault = {"operation": "servers.reboot", "nth": nth, "fault": {"type": "Delay", "seconds": 3600.0}}
    with urllib.request.urlopen(f"{bms.exports['BMS_ENDPOINT']}/_admin/faults", json.dumps([fault]).encode()):
        pass


def reboots(bms: Bms) -> int:
    with urllib.request.urlopen(f"{bms.exports['BMS_ENDPOINT']}/_admin/calls") as answer:
        calls: dict[str, dict[str, int]] = json.load(answer)["operations"]
    return calls.get("servers.reboot", {"arrived": 0})["arrived"]


def kill_while_it_asks(bms: Bms, *arguments: str) -> None:
    """Run it until the cloud has one more reboot whose answer does not come, and kill it then."""
    before = reboots(bms)
    with bms.in_a_pipe(*arguments) as process:
        until = time.monotonic() + PATIENCE
        while reboots(bms) == before:
            assert time.monotonic() < until, "it never asked"
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)


def write(file: Path, *lines: object, torn: str = "") -> None:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + torn)


def test_a_reboot_that_was_gone_on_with_and_killed_is_not_made_twice(bms: Bms, tmp_path: Path) -> None:
    [server_id] = bms.ids("rack-0")[:1]
    file = tmp_path / "run"
    write(file, {**HEAD, "endpoint": bms.exports["BMS_ENDPOINT"], "ids": [server_id]}, {"left": [server_id]})
    answer_late(bms, 1)
    kill_while_it_asks(bms, "reboot", "--resume", str(file), "--yes")
    again = bms("reboot", "--resume", str(file), "--yes")
    assert reboots(bms) == 1
    assert "1 server may have been rebooted, since no response came" in again.err
    assert server_id in again.err
    assert "rebooted twice" in again.err


def test_a_reboot_that_was_killed_with_its_first_batch_leaves_that_alone_and_goes_on_with_the_rest(
    bms: Bms, tmp_path: Path
) -> None:
    ids, file = bms.ids("__type_baremetal"), tmp_path / "run"
    answer_late(bms, 1)
    kill_while_it_asks(bms, "reboot", *ids, "--yes", "--wave", "8", "--save", str(file))
    answer_late(bms, 2)
    kill_while_it_asks(bms, "reboot", "--resume", str(file), "--yes")
    assert len(read_saved(str(file)).in_doubt) == 16
    ended = bms("reboot", "--resume", str(file), "--yes", "--json")
    assert "16 servers may have been rebooted" in ended.err
    assert sorted(each["server_id"] for each in ended.json[:-1]) == sorted(ids[16:])
    assert (ended.code, reboots(bms)) == (0, 3)
    # What nothing else names is still there, and nothing is left to be asked for.
    *_, last = file.read_text().splitlines()
    assert (json.loads(last)["left"], sorted(json.loads(last)["in_doubt"])) == ([], sorted(ids[:16]))
    assert bms("reboot", "--resume", str(file), "--yes").code == 0
    assert reboots(bms) == 3


@pytest.mark.parametrize("action", ["reboot", "stop"])
def test_on_a_full_disk_nothing_is_gone_on_with(bms: Bms, tmp_path: Path, action: str) -> None:
    ids, file = bms.ids("rack-0")[:2], tmp_path / "run"
    write(file, {**HEAD, "action": f"servers.{action}", "endpoint": bms.exports["BMS_ENDPOINT"], "ids": ids},
          {"left": ids})  # fmt: skip
    before, size = file.read_bytes(), file.stat().st_size
    done = subprocess.run(
        [*COMMAND, action, "--resume", str(file), "--yes"], env=bms.environment, capture_output=True, text=True,
        timeout=PATIENCE, check=False, preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)),
    )  # fmt: skip
    assert done.returncode == 2
    assert f"{file} cannot be written ([Errno 27] File too large); nothing was asked for" in done.stderr
    assert "Traceback" not in done.stderr
    assert file.read_bytes() == before
    assert bms(action, "--resume", str(file), "--yes").code == 0


def test_a_batch_that_waits_for_the_limit_is_not_in_doubt(bms: Bms, tmp_path: Path) -> None:
    ids, file = bms.ids("__type_baremetal"), tmp_path / "run"
    for server_id in ids[:2]:
        bms("reboot", server_id, "-q")
    use_elsewhere(bms, "servers.reboot", 48)
    with bms.in_a_pipe("reboot", *ids, "--yes", "--save", str(file)) as process:
        assert process.stderr is not None
        assert "0 of 20" in process.stderr.readline()
        process.send_signal(signal.SIGTERM)
        err = process.stderr.read()
        assert process.wait(timeout=PATIENCE) == 143
    assert "nothing was asked for, and nothing is saved to resume the run from" in err
    assert not file.exists()


def test_who_watches_what_a_killed_reboot_saved_is_told_who_is_in_doubt(bms: Bms, tmp_path: Path) -> None:
    ids, file = bms.ids("rack-0")[:2], tmp_path / "run"
    answer_late(bms, 1)
    kill_while_it_asks(bms, "reboot", *ids, "--yes", "--save", str(file))
    watched = bms("jobs", "watch", "--from", str(file))
    assert (watched.code, "2 servers may have been rebooted" in watched.err) == (0, True)


def test_a_disk_that_fills_up_ends_a_reboot_and_the_rest_is_gone_on_with_once_there_is_room(
    bms: Bms, tmp_path: Path
) -> None:
    ids, file = bms.ids("__type_baremetal"), tmp_path / "run"
    done = subprocess.run(
        [*COMMAND, "reboot", *ids, "--yes", "--wave", "4", "--save", str(file), "--json"], env=bms.environment,
        capture_output=True, text=True, timeout=PATIENCE, check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (2500, 2500)),
    )  # fmt: skip
    *outcomes, summary = map(json.loads, done.stdout.splitlines())
    skipped = summary["by_state"]["SKIPPED"]
    assert (done.returncode, summary["servers"], 0 < skipped < 20) == (1, 20, True)
    assert f"not asked for, since {file} cannot be written" in str(outcomes)
    assert "Traceback" not in done.stderr
    before = reboots(bms)
    assert before == (20 - skipped) / 4
    ended = bms("reboot", "--resume", str(file), "--yes", "--json")
    assert ended.json[-1]["by_state"]["SUCCEEDED"] >= skipped
    assert reboots(bms) == before + skipped / 4


@pytest.mark.parametrize(
    ("lines", "unasked", "in_doubt", "is_certain"),
    [
        pytest.param([], IDS, (), True, id="killed before its first batch"),
        pytest.param([ASKED_A], ("b", "c", "d"), ("a",), True, id="killed while it asked"),
        pytest.param([ASKED_A, JOB_A], ("b", "c", "d"), (), True, id="killed after an answer"),
        pytest.param([ASKED_A, {"refused": ["a"]}], IDS, (), True, id="killed after a refusal"),
        pytest.param([ASKED_A, JOB_A, ASKED_A], ("b", "c", "d"), ("a",), True, id="killed while it asked again"),
        pytest.param([ASKED_A, {"left": ["b"]}], ("b",), (), True, id="ended in order"),
        pytest.param([{"left": ["b"]}, RESUMED], ("b",), (), True, id="gone on with, and killed at once"),
        pytest.param([{"left": ["b"]}, RESUMED, {"asked": ["b"]}], (), ("b",), True, id="gone on with, and killed"),
        pytest.param([ASKED_A, RESUMED], ("b", "c", "d"), ("a",), True, id="killed twice"),
        pytest.param([ASKED_A, RESUMED, {"asked": ["b"]}, {"left": ["c"]}], ("c",), ("a",), True,
                     id="killed, then gone on with and ended in order"),
        pytest.param([{"left": ["b"], "in_doubt": ["c"]}, RESUMED, {"left": ["b"]}, RESUMED], ("b",), ("c",), True,
                     id="ended in order, gone on with, ended in order, killed"),
        pytest.param([{"left": ["b", "c"]}, {"job": {"job_id": "j", "servers": ["b"]}}], ("c",), (), False,
                     id="gone on with by a version that says nothing first"),
        pytest.param([{"asked": ["A"]}, {"job": {"job_id": "j", "servers": ["A"]}}], IDS, (), True,
                     id="another server, for only a UUID has no case"),
    ],
)  # fmt: skip
def test_what_a_run_has_noted_tells_who_may_be_asked_for_however_it_ended(
    tmp_path: Path, lines: list[object], unasked: tuple[str, ...], in_doubt: tuple[str, ...], is_certain: bool
) -> None:
    file = tmp_path / "run"
    for torn in ("", '{"asked":["d"'):
        write(file, {**HEAD, "ahead": True}, *lines, torn=torn)
        saved = read_saved(str(file))
        assert (saved.unasked, saved.in_doubt, saved.is_certain) == (unasked, in_doubt, is_certain)


def test_one_server_in_two_spellings_is_not_asked_for_again(tmp_path: Path) -> None:
    file, server_id = tmp_path / "run", "5A880000-55BC-4A00-8149-5310000000AB"
    write(
        file, {**HEAD, "ids": [server_id, "b"], "ahead": True}, {"job": {"job_id": "j", "servers": [server_id.lower()]}}
    )
    assert read_saved(str(file)).unasked == ("b",)


def test_a_killed_run_that_noted_nothing_first_may_reboot_twice_and_is_said_to(nowhere: Bms, tmp_path: Path) -> None:
    file = tmp_path / "run"
    write(file, HEAD, JOB_A)
    saved = read_saved(str(file))
    assert (saved.left, saved.is_certain) == (None, False)


def journal(file: Path) -> Journal:
    head = make_header(
        "servers.reboot", endpoint="", project_id="p", ids=IDS, wave=None, abort_above=None, verify=False
    )
    return Journal(file, head)


def fill_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> int:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", fail)


def test_a_batch_is_on_the_disk_before_it_is_sent_and_what_was_refused_is_taken_back(tmp_path: Path) -> None:
    file = tmp_path / "run"

    async def send(book: Journal, *servers: str, maybe_delivered: bool) -> SavedRun:
        async with book.asking(servers):
            saved = await anyio.to_thread.run_sync(read_saved, str(file))
            assert saved.in_doubt[-len(servers) :] == servers
            raise TransportError("reset", maybe_delivered=maybe_delivered)

    async def main() -> None:
        book = journal(file)
        with pytest.raises(TransportError):
            await send(book, "a", "b", maybe_delivered=False)
        with pytest.raises(TransportError):
            await send(book, "c", maybe_delivered=True)

    asyncio.run(main())
    assert (read_saved(str(file)).unasked, read_saved(str(file)).in_doubt) == (("a", "b", "d"), ("c",))


def test_once_a_file_is_there_nothing_is_asked_for_that_it_cannot_tell_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file, ended = tmp_path / "run", list[str]()

    async def send(book: Journal) -> None:
        async with book.asking(("b",)):
            ended.append("sent")

    async def main() -> None:
        book = journal(file)
        book.on_unnoted = lambda: ended.append("ended")
        async with book.asking(("a",)):
            pass
        with monkeypatch.context() as full:
            fill_disk(full)
            with pytest.raises(NotSavedError, match="No space left on device"):
                await send(book)
        await book.close(["b", "c", "d"], ["a"])

    asyncio.run(main())
    assert ended == ["ended"]
    assert "jobs cannot be saved" not in capsys.readouterr().err
    assert (read_saved(str(file)).unasked, read_saved(str(file)).in_doubt) == (("b", "c", "d"), ("a",))


def test_without_any_file_a_reboot_goes_on_and_says_so_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    sent = list[str]()

    async def main() -> None:
        book = journal(tmp_path / "run")
        with monkeypatch.context() as full:
            fill_disk(full)
            async with book.asking(("a",)):
                sent.append("a")
        # There is room again, and what was asked for meanwhile is told too.
        async with book.asking(("b",)):
            sent.append("b")

    asyncio.run(main())
    assert sent == ["a", "b"]
    assert capsys.readouterr().err.count("jobs cannot be saved") == 1
    assert read_saved(str(tmp_path / "run")).in_doubt == ("a", "b")


def test_a_file_that_may_only_be_read_is_not_gone_on_with(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run"
    write(file, {**HEAD, "ahead": True}, {"left": ["a"]})
    saved = read_saved(str(file))
    assert saved.head is not None
    book = Journal(file, saved.head, size=saved.size)
    monkeypatch.setattr(os, "fsync", lambda _: (_ for _ in ()).throw(OSError(30, "Read-only file system")))
    with pytest.raises(UsageError, match=r"nothing was asked for\. Free some disk space"):
        asyncio.run(book.resume())
    assert capsys.readouterr().err == ""
