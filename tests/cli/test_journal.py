"""What a run saves of itself, and what another command makes of that."""

from __future__ import annotations

import asyncio
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from bms_async._addresses import state_folder
from bms_async._files import FileLock
from bms_async.cli.exit import UsageError
from bms_async.cli.journal import Journal, make_header, read_saved, resume_lock


def test_the_state_folder_is_where_the_desktop_has_such_things(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert state_folder() == Path("/somewhere/bms")
    monkeypatch.setenv("XDG_STATE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", "/home/me")
    assert state_folder() == Path("/home/me/.local/state/bms")


class Job:
    """As much of a handle as is saved."""

    def __init__(self, number: int) -> None:
        self.id = f"job-{number}"
        self.servers = (f"server-{number}",)

    def to_json(self) -> str:
        return json.dumps({"version": 1, "job_id": self.id, "project_id": "p", "servers": self.servers})


def journal(path: Path | None, ids: int = 5) -> Journal:
    head = make_header(
        "servers.stop",
        endpoint="https://bms.example.com",
        project_id="p",
        ids=[f"server-{number}" for number in range(ids)],
        wave=100,
        abort_above=0.02,
        verify=True,
    )
    return Journal(path, head)


def add(book: Journal, *numbers: int) -> None:
    async def main() -> None:
        for number in numbers:
            await book.add(Job(number))  # type: ignore[arg-type]  # as much of one as is used

    asyncio.run(main())


def test_a_run_is_saved_from_its_first_job_on(tmp_path: Path) -> None:
    file = tmp_path / "jobs.jsonl"
    book = journal(file)
    assert not file.exists()
    add(book, 0, 1)
    saved = read_saved(str(file))
    assert [json.loads(job)["job_id"] for job in saved.jobs] == ["job-0", "job-1"]
    # Nobody ended it in order, so that only its jobs tell what was done.
    assert saved.left is None
    assert saved.unasked == ("server-2", "server-3", "server-4")
    assert saved.head is not None
    assert (saved.head.wave, saved.head.abort_above, saved.head.verify) == (100, 0.02, True)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_what_is_left_is_told_when_a_run_is_ended_in_order(tmp_path: Path) -> None:
    file = tmp_path / "jobs.jsonl"
    book = journal(file)
    add(book, 0)
    asyncio.run(book.close(["server-4"]))
    saved = read_saved(str(file))
    assert saved.left == saved.unasked == ("server-4",)
    assert saved.head is not None
    resumed = Journal(file, saved.head, size=saved.size)
    add(resumed, 4)
    again = read_saved(str(file))
    assert len(again.jobs) == 2
    assert again.left is None
    asyncio.run(resumed.remove())
    assert not file.exists()


def test_servers_that_must_not_be_asked_twice_are_left_alone_also_when_the_next_run_is_killed(tmp_path: Path) -> None:
    file = tmp_path / "jobs.jsonl"
    book = journal(file)
    add(book, 0)
    asyncio.run(book.close(["server-1", "server-4"], ["server-2", "server-3"]))
    saved = read_saved(str(file))
    assert (saved.unasked, saved.in_doubt) == (("server-1", "server-4"), ("server-2", "server-3"))
    assert saved.head is not None
    add(Journal(file, saved.head, size=saved.size), 4)
    killed = read_saved(str(file))
    assert (killed.left, killed.unasked, killed.in_doubt) == (None, ("server-1",), ("server-2", "server-3"))


def test_a_run_that_goes_on_cannot_be_gone_on_with(tmp_path: Path) -> None:
    file = tmp_path / "jobs.jsonl"
    book = journal(file)
    add(book, 0)
    taken = pytest.raises(UsageError, match="another process is running it")
    with taken, resume_lock(str(file)):
        pass
    asyncio.run(book.close(["server-4"]))
    with resume_lock(str(file)), taken, resume_lock(str(file)):
        pass
    with resume_lock(str(file)):
        pass


def test_a_line_that_was_cut_off_counts_as_not_there(tmp_path: Path) -> None:
    file = tmp_path / "jobs.jsonl"
    add(journal(file), 0, 1)
    file.write_bytes(file.read_bytes()[:-10])
    saved = read_saved(str(file))
    assert len(saved.jobs) == 1
    assert saved.head is not None
    add(Journal(file, saved.head, size=saved.size), 2)
    assert [json.loads(job)["job_id"] for job in read_saved(str(file)).jobs] == ["job-0", "job-2"]


def test_a_full_disk_is_told_once_and_loses_nothing_once_there_is_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "jobs.jsonl"
    book = journal(file)
    add(book, 0)
    write = os.write

    def write_some(descriptor: int, data: memoryview) -> int:
        write(descriptor, bytes(data[:20]))
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "write", write_some)
        add(book, 1, 2)
    assert capsys.readouterr().err.count("No space left on device") == 1
    paths = [book.path]
    assert len(read_saved(str(file)).jobs) == 1
    add(book, 3)
    assert [*paths, book.path] == [None, file]
    assert [json.loads(job)["job_id"] for job in read_saved(str(file)).jobs] == ["job-0", "job-1", "job-2", "job-3"]


def test_saved_handles_alone_can_be_read_too(tmp_path: Path) -> None:
    file = tmp_path / "handles"
    file.write_text(f"{Job(0).to_json()}\n\n{Job(1).to_json()}\n")
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
        ('{"x": ' + "[" * 5000 + "]" * 5000 + "}\n", "line 1"),
    ],
)
def test_what_is_no_file_of_saved_jobs_is_refused(tmp_path: Path, content: str, told: str) -> None:
    file = tmp_path / "file"
    file.write_text(content)
    with pytest.raises(UsageError, match=told):
        read_saved(str(file))
    with pytest.raises(UsageError, match="cannot read"):
        read_saved(str(tmp_path / "nothing"))


@pytest.mark.parametrize("how", ["ended in order", "all has ended", "gone on with"])
def test_a_run_is_free_as_soon_as_it_is_let_go_also_where_a_child_has_its_file_still(
    tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, opened, children = tmp_path / "jobs.jsonl", os.open, list[int]()

    def open_and_fork(*arguments: Any, **more: Any) -> int:
        descriptor = opened(*arguments, **more)
        children.append(os.dup(descriptor))
        return descriptor

    book = journal(file)
    monkeypatch.setattr(os, "open", open_and_fork)
    add(book, 0)
    monkeypatch.undo()
    other = FileLock(file)
    assert not other.try_acquire()
    monkeypatch.setattr(os, "open", open_and_fork)
    asyncio.run(book.remove() if how == "all has ended" else book.close([]))
    if how == "gone on with":
        with resume_lock(str(file)):
            assert not other.try_acquire()
    assert other.try_acquire()
    other.release()
    for descriptor in children:
        os.close(descriptor)
