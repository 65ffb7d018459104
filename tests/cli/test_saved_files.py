"""What earlier versions saved of runs in files, and what is read of that."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bms_async._addresses import state_folder
from bms_async._files import FileLock
from bms_async.cli.runs.saved import is_file, read_resumed, read_saved, resume_lock
from bms_async.cli.terminal.exit import UsageError

IDS = ("a", "b", "c", "d")
HEAD = {"bms_run": 1, "action": "servers.reboot", "endpoint": "", "project_id": "p", "started": "", "ids": IDS}
ASKED_A = {"asked": ["a"]}
JOB_A = {"job": {"job_id": "job-1", "servers": ["a"]}}
RESUMED = {"resumed": "2026-03-01T12:00:00+00:00"}


def write(file: Path, *lines: object, torn: str = "") -> None:
    file.write_text("".join(json.dumps(line) + "\n" for line in lines) + torn)


def handle(number: int) -> dict[str, object]:
    return {"version": 1, "job_id": f"job-{number}", "project_id": "p", "servers": [f"server-{number}"]}


def test_the_state_folder_is_where_the_desktop_has_such_things(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert state_folder() == Path("/somewhere/bms")
    monkeypatch.setenv("XDG_STATE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", "/home/me")
    assert state_folder() == Path("/home/me/.local/state/bms")


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


def test_a_killed_run_that_noted_nothing_first_may_reboot_twice_and_is_said_to(tmp_path: Path) -> None:
    file = tmp_path / "run"
    write(file, HEAD, JOB_A)
    saved = read_saved(str(file))
    assert (saved.left, saved.is_certain) == (None, False)


def test_a_line_that_was_cut_off_counts_as_not_there(tmp_path: Path) -> None:
    file = tmp_path / "run"
    write(file, HEAD, {"job": handle(0)}, torn='{"job":{"version":1,"job_id":"job-1"')
    assert [json.loads(job)["job_id"] for job in read_saved(str(file)).jobs] == ["job-0"]


def test_a_run_that_an_earlier_version_still_writes_cannot_be_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "run"
    write(file, HEAD)
    lock = FileLock(file, strict=False)
    assert lock.try_acquire()
    with pytest.raises(UsageError, match="another process is running it"), resume_lock(str(file)):
        pass
    lock.release()
    with resume_lock(str(file)):
        pass


def test_only_a_run_of_the_same_action_is_gone_on_with(tmp_path: Path) -> None:
    file, handles = tmp_path / "run.jsonl", tmp_path / "handles"
    write(file, HEAD)
    write(handles, handle(0))
    assert read_resumed("reboot", str(file)).unasked == IDS
    with pytest.raises(UsageError, match="resume it with `bms reboot --resume"):
        read_resumed("stop", str(file))
    with pytest.raises(UsageError, match="has jobs and no run"):
        read_resumed("reboot", str(handles))


def test_a_file_is_told_from_a_key_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("tonight", "run.jsonl"):
        (tmp_path / name).write_text("")
    found = [is_file(text) for text in ("tonight", "./tonight", "run.jsonl", str(tmp_path / "tonight"), "./other")]
    assert found == [False, True, True, True, False]


def test_saved_handles_alone_can_be_read_too(tmp_path: Path) -> None:
    file = tmp_path / "handles"
    file.write_text(f"{json.dumps(handle(0))}\n\n{json.dumps(handle(1))}\n")
    saved = read_saved(str(file))
    assert (saved.head, len(saved.jobs), saved.unasked) == (None, 2, ())


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ("", "no saved jobs"),
        ("nonsense\n", "line 1"),
        ('{"job": {"servers": []}}\n', "job_id"),
        (
            '{"bms_run": 9, "action": "servers.stop", "endpoint": "", "project_id": "", "started": "", "ids": []}\n',
            "version",
        ),
        ('{"x": ' + "[" * 200_000 + "]" * 200_000 + "}\n", "line 1"),
    ],
)
def test_what_is_no_file_of_saved_jobs_is_refused(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "file"
    file.write_text(content)
    with pytest.raises(UsageError, match=told):
        read_saved(str(file))
    with pytest.raises(UsageError, match="cannot be read"):
        read_saved(str(tmp_path / "nothing"))
