"""What is kept between two commands: the slots that were used, and the jobs of a run."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import stat
import time
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async import LimiterStatistics, Limits
from bms_async._files import FileLock
from bms_async.cli.exit import UsageError
from bms_async.cli.journal import Journal, make_header, read_saved, resume_lock
from bms_async.cli.limit_usage import LimitUsage, own_usage, state_dir
from tests.support.virtual_clock import run_virtually


def usage(folder: Path, project: str = "project") -> LimitUsage:
    return LimitUsage("https://bms.example.com", project, folder)


def files_in(folder: Path) -> list[Path]:
    return list(folder.glob("*.json"))


def use(folder: Path, operation: str, calls: int) -> LimiterStatistics:
    """Be a command that makes calls; return what it sees of the limit then."""

    async def main() -> LimiterStatistics:
        limits, book = Limits(), usage(folder)
        await book.load(limits)
        make_calls(limits, operation, calls)
        await book.save(limits)
        return limits[operation].statistics()

    return asyncio.run(main())


def make_calls(limits: Limits, operation: str, calls: int) -> None:
    for _ in range(calls):
        slot = limits[operation].acquire_nowait()
        assert slot is not None
        slot.release()


def test_commands_that_follow_each_other_keep_the_limit_together(tmp_path: Path) -> None:
    use(tmp_path, "servers.stop", 30)
    use(tmp_path, "servers.stop", 19)
    assert use(tmp_path, "servers.stop", 0).free == 1
    assert use(tmp_path, "servers.start", 0).free == 50
    assert len(usage(tmp_path).used()["servers.stop"]) == 49


def test_what_others_noted_meanwhile_is_kept(tmp_path: Path) -> None:
    use(tmp_path, "servers.stop", 5)

    async def main() -> None:
        first, limits = usage(tmp_path), Limits()
        await first.load(limits)
        await anyio.to_thread.run_sync(use, tmp_path, "servers.stop", 7)
        for _ in range(2):
            make_calls(limits, "servers.stop", 1)
            await first.save(limits)

    asyncio.run(main())
    assert len(usage(tmp_path).used()["servers.stop"]) == 14


def test_each_project_has_limits_of_its_own(tmp_path: Path) -> None:
    use(tmp_path, "servers.stop", 5)
    assert usage(tmp_path, "another").used() == {}


def test_the_file_is_its_owners_alone_and_names_neither_cloud_nor_project(tmp_path: Path) -> None:
    use(tmp_path / "new", "servers.stop", 1)
    [file] = files_in(tmp_path / "new")
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
    assert "example" not in file.name + file.read_text()
    assert "project" not in file.name + file.read_text()


@pytest.mark.parametrize(
    "content",
    [
        "",
        "not JSON",
        "[]",
        '{"version": 1}',
        '{"version": 2, "sections": {"a": {"written": 1, "until": {"servers.stop": [99999999999]}}}}',
        '{"version": 1, "sections": {"a": {"written": 99999999999, "until": {"servers.stop": [99999999999]}}}}',
        '{"version": 1, "sections": {"a": {"written": 1, "until": {"servers.stop": [99999999999]}}}}',
        '{"version": 1, "sections": {"a": {"written": 1, "until": {"servers.stop": ["x"]}}}}',
        '{"x": ' + "[" * 5000 + "]" * 5000 + "}",
    ],
)
def test_a_file_that_is_broken_or_of_the_future_is_ignored_and_logged(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, content: str
) -> None:
    use(tmp_path, "servers.stop", 1)
    [file] = files_in(tmp_path)
    file.write_text(content)
    with caplog.at_level(logging.DEBUG, "bms_async.cli"):
        assert usage(tmp_path).used() == {}
    assert str(file) in caplog.text
    assert use(tmp_path, "servers.stop", 3).used == 3
    assert len(usage(tmp_path).used()["servers.stop"]) == 3


def test_a_call_that_this_version_does_not_know_is_no_trouble(tmp_path: Path) -> None:
    use(tmp_path, "servers.stop", 1)
    [file] = files_in(tmp_path)
    now = time.time()
    told: dict[str, Any] = {"a": {"written": now, "until": {"servers.fly": [now + 30]}}}
    file.write_text(json.dumps({"version": 1, "sections": told}))
    assert use(tmp_path, "servers.stop", 1).used == 1


def test_a_folder_that_cannot_be_written_is_done_without(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    assert use(blocked / "folder", "servers.stop", 1).used == 1


def trouble_of(folder: Path | None) -> tuple[str | None, str | None]:
    """Be a command that makes a call, and then be `bms limits`; return what each says of its notes."""
    book = LimitUsage("https://bms.example.com", "project", folder, no_folder="there is no home folder")

    async def main() -> None:
        limits = Limits()
        await book.load(limits)
        make_calls(limits, "servers.stop", 1)
        await book.save(limits)

    asyncio.run(main())
    return book.failure, LimitUsage("https://bms.example.com", "project", folder, no_folder="no home").check_writable()


def test_notes_that_cannot_be_kept_are_told_of_with_the_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert trouble_of(tmp_path / "good") == (None, None)
    assert trouble_of(None) == ("there is no home folder", "no home")
    (tmp_path / "file").write_text("")
    used, shown = trouble_of(tmp_path / "file" / "folder")
    assert "Not a directory" in str(used)
    assert "Not a directory" in str(shown)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full:
        full.setattr(os, "fsync", fail)
        used, shown = trouble_of(tmp_path / "full")
    assert "No space left on device" in str(used)
    assert "No space left on device" in str(shown)


def test_a_book_that_is_kept_locked_or_cannot_be_read_is_told_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    use(tmp_path, "servers.stop", 1)
    monkeypatch.setattr("bms_async.cli.limit_usage._LOCK_SECONDS", 0.0)
    lock = FileLock(tmp_path / "limits.lock")
    assert lock.try_acquire()
    used, shown = trouble_of(tmp_path)
    assert "limits.lock locked" in str(used)
    assert "limits.lock locked" in str(shown)
    lock.release()
    [file] = files_in(tmp_path)
    file.unlink()
    file.mkdir()
    assert "Is a directory" in str(trouble_of(tmp_path)[0])


def test_what_was_not_used_need_not_be_noted(tmp_path: Path) -> None:
    book = LimitUsage("https://bms.example.com", "project", None, no_folder="there is no home folder")
    asyncio.run(book.save(Limits()))
    assert book.failure is None


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


@given(
    loaded=st.lists(st.floats(0, 90), max_size=60), calls=st.integers(0, 50), pause=st.floats(0, 59) | st.floats(61, 70)
)
def test_of_all_that_is_used_as_much_is_ours_as_was_not_loaded(loaded: list[float], calls: int, pause: float) -> None:
    async def main() -> None:
        limits = Limits({"servers.stop": 200})
        limits.restore({"servers.stop": loaded})
        make_calls(limits, "servers.stop", calls)
        await anyio.sleep(pause)
        spent = limits.snapshot().get("servers.stop", [])
        own = own_usage(spent, limits["servers.stop"].statistics().calls)
        assert list(own) == pytest.approx([60.01 - pause] * (calls if pause < 60 else 0), abs=1e-3)

    run_virtually(main)


def test_the_state_folder_is_where_the_desktop_has_such_things(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "/somewhere")
    assert state_dir() == Path("/somewhere/bms")
    monkeypatch.setenv("XDG_STATE_HOME", "not/absolute")
    monkeypatch.setenv("HOME", "/home/me")
    assert state_dir() == Path("/home/me/.local/state/bms")


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
