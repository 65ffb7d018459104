"""Limits in a file: what a reboot, a lost file, a full disk and a killed process do to them."""

from __future__ import annotations

import errno
import os
import signal
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from bms_async import _sqlite_file as sqlite_file
from bms_async._sqlite_file import SqliteFile
from bms_async._threads import run_in_thread
from bms_async.limits.shared import sqlite as module
from bms_async.limits.shared.ledger import Dealt, deal
from bms_async.limits.shared.sqlite import SqliteStore
from bms_async.limits.shared.sqlite_kind import SHARED_LIMITS
from bms_async.limits.shared.store import StoreError
from tests.limits.shared._asking import LIMIT, TERMS, ask, opened, question


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "limits.db"


class Machine:
    """A machine that can be booted anew."""

    def __init__(self) -> None:
        self.boot, self.up = "boot-1", 5000.0


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    machine = Machine()
    monkeypatch.setattr(module, "boot_id", lambda: machine.boot)
    monkeypatch.setattr(module, "steady_time", lambda: machine.up)
    monkeypatch.setattr(module, "namespace_offset", lambda: 0.0)
    return machine


@contextmanager
def database(path: Path) -> Iterator[sqlite3.Connection]:
    """What another program does with the file."""
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as connection:
        yield connection


async def test_after_a_boot_an_account_is_closed_until_the_machine_is_up_for_longer_than_calls_count(
    path: Path, machine: Machine
) -> None:
    async with opened(SqliteStore(path)) as store:
        await store.open_account("a")
        assert (await ask(store, "h", interactive=LIMIT)).granted == LIMIT
    machine.boot, machine.up = "boot-2", 10.0
    async with opened(SqliteStore(path)) as store:
        answer = await ask(store, "i", interactive=1)
        assert (answer.granted, answer.closed_for) == (0, TERMS.closed - 10.0)
        machine.up = TERMS.closed
        assert (await ask(store, "later", interactive=1)).granted == 1
    machine.boot, machine.up = "boot-3", TERMS.closed + 1
    async with opened(SqliteStore(path)) as store:
        assert (await ask(store, "j", interactive=1)).granted == 1


async def test_a_clock_that_begins_anew_without_a_boot_id_gives_nothing_back(path: Path, machine: Machine) -> None:
    machine.boot = ""
    async with opened(SqliteStore(path)) as store:
        await store.open_account("a")
        assert (await ask(store, "h", interactive=LIMIT)).granted == LIMIT
    machine.up = 10.0
    async with opened(SqliteStore(path)) as store:
        answer = await ask(store, "i", interactive=1)
        assert (answer.granted, answer.used) == (0, LIMIT)
        assert answer.closed_for <= TERMS.closed


async def test_in_the_machines_own_file_a_new_account_is_open_at_once(path: Path) -> None:
    async with opened(SqliteStore(path, trust_new=True)) as store:
        assert (await ask(store, "h", interactive=3)).granted == 3
    async with opened(SqliteStore(path)) as store:
        assert (await ask(store, "i", account="other", interactive=3)).granted == 0


async def test_even_there_an_account_that_was_lost_without_its_limits_is_not_taken_for_a_new_one(path: Path) -> None:
    async with opened(SqliteStore(path, trust_new=True)) as store:
        assert (await ask(store, "h", interactive=LIMIT)).granted == LIMIT
        with database(path) as other:
            other.execute("DELETE FROM accounts")
        answer = await ask(store, "i", interactive=1)
        assert answer.granted == 0
        assert answer.closed_for == pytest.approx(TERMS.closed)


def _delete(path: Path) -> None:
    for file in path.parent.iterdir():
        file.unlink()


def _replace(path: Path) -> None:
    _delete(path)
    other = SqliteFile(path, SHARED_LIMITS)
    other.open()
    other.close()


@pytest.mark.parametrize("lose", [_delete, _replace])
async def test_a_file_that_is_lost_is_noticed_and_its_accounts_are_closed_in_the_new_one(
    path: Path, lose: Callable[[Path], None], machine: Machine
) -> None:
    async with opened(SqliteStore(path, trust_new=True)) as store, opened(SqliteStore(path, trust_new=True)) as other:
        assert (await ask(store, "h", interactive=LIMIT)).granted == LIMIT
        assert (await ask(other, "i")).known
        await run_in_thread(lose, path)
        for lost in (store, other):
            with pytest.raises(FileNotFoundError, match="was deleted or replaced while it was in use"):
                await ask(lost, "h", 2)
            with pytest.raises(FileNotFoundError):
                await lost.read("a")
            await lost.aclose()
        async with opened(SqliteStore(path, trust_new=True)) as stranger:
            assert (await ask(stranger, "s", interactive=1)).granted == 1
        await store.open()
        assert not (await ask(store, "h", 2)).known
        for seq in (1, 2):
            answer = await ask(store, "anew", seq, interactive=1)
            assert (answer.granted, answer.used) == (0, 1)
            assert answer.closed_for == pytest.approx(TERMS.closed)
        assert (await ask(store, "anew", account="another", interactive=1)).closed_for == pytest.approx(TERMS.closed)
        # Once for each time that one of them lost it, and not with each question.
        machine.up += TERMS.closed
        assert (await ask(store, "anew", 3, interactive=1)).known is False
        assert (await ask(store, "later", interactive=1)).granted == 1
        await store.aclose()
        await run_in_thread(lose, path)
        await store.open()
        assert (await ask(store, "last", interactive=1)).closed_for == pytest.approx(TERMS.closed)


async def test_what_was_granted_in_a_file_that_was_lost_meanwhile_is_given_to_nobody(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def lose_and_deal(*args: Any, **options: Any) -> Dealt:
        _delete(path)
        return deal(*args, **options)

    async with opened(SqliteStore(path, trust_new=True)) as store:
        monkeypatch.setattr(module, "deal", lose_and_deal)
        with pytest.raises(FileNotFoundError):
            await ask(store, "h", interactive=3)


async def test_a_missing_folder_is_made_and_nobody_else_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "state" / "limits.db"
    async with opened(SqliteStore(path)) as store:
        await ask(store, "h")
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
        assert {file.name for file in path.parent.iterdir()} == {"limits.db", "limits.db-shm", "limits.db-wal"}
    path.chmod(0o640)
    async with opened(SqliteStore(path)):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640


async def test_many_may_make_the_file_at_once(tmp_path: Path) -> None:
    async def make(path: Path) -> None:
        async with opened(SqliteStore(path)) as store:
            assert (await ask(store, f"h{id(store)}")).known

    for number in range(5):
        async with anyio.create_task_group() as tasks:
            for _ in range(8):
                tasks.start_soon(make, tmp_path / f"{number}.db")


async def test_the_thread_of_a_store_ends_with_it(path: Path) -> None:
    before = set(threading.enumerate())
    store = SqliteStore(path)
    await store.open()
    await ask(store, "h")
    assert len(set(threading.enumerate()) - before) == 1
    await store.aclose()
    assert set(threading.enumerate()) == before


async def test_only_what_a_power_loss_must_not_take_along_is_synced(path: Path, machine: Machine) -> None:
    full, normal = 2, 1

    def level(store: SqliteStore) -> int:
        assert store._file._connection is not None
        synced: int = store._file._connection.execute("PRAGMA synchronous").fetchone()[0]
        return synced

    async with opened(SqliteStore(path, trust_new=True)) as store:
        levels = []
        for account, seq in (("a", 1), ("a", 2), ("b", 1), ("a", 3)):
            await ask(store, "h", seq, account=account)
            levels.append(level(store))
        assert levels == [full, normal, full, normal]
    machine.boot = ""
    async with opened(SqliteStore(path)) as store:
        for seq in (1, 2):
            await ask(store, "h", seq)
            assert level(store) == full


async def test_a_full_disk_is_an_error_and_the_question_can_be_asked_again(path: Path) -> None:
    async with opened(SqliteStore(path, trust_new=True)) as store:
        assert (await ask(store, "h", interactive=1)).granted == 1
        assert store._file._connection is not None
        pages = store._file._connection.execute("PRAGMA page_count").fetchone()[0]
        store._file._connection.execute(f"PRAGMA max_page_count = {pages}")
        many = ["x" * 1000 + str(number) for number in range(10)]
        with pytest.raises(sqlite3.OperationalError, match="disk is full"):
            await store.ask("a", [(name, question("h", interactive=1)) for name in many])
        store._file._connection.execute("PRAGMA max_page_count = 100000")
        assert [
            answer.granted for answer in await store.ask("a", [(name, question("h", interactive=1)) for name in many])
        ] == [1] * 10


async def test_a_file_that_another_process_has_locked_is_waited_for_in_bounds(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "_BUSY_TIMEOUT", 0.05)
    async with opened(SqliteStore(path, trust_new=True)) as store:
        with database(path) as other:
            other.execute("BEGIN IMMEDIATE")
            with pytest.raises(sqlite3.OperationalError, match="database is locked"):
                await ask(store, "h", interactive=3)
        assert (await ask(store, "h", interactive=3)).granted == 3


async def test_a_file_that_another_process_is_making_is_opened_once_it_is_made(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sqlite_file, "_BUSY_TIMEOUT", 0.01)
    with database(path) as other:
        other.execute("BEGIN EXCLUSIVE")

        async def end(seconds: float) -> None:
            await run_in_thread(other.execute, "COMMIT")

        monkeypatch.setattr(anyio, "sleep", end)
        async with opened(SqliteStore(path)) as store:
            assert (await ask(store, "h")).known


@contextmanager
def left_alone(path: Path) -> Iterator[None]:
    content = path.read_bytes()
    yield
    assert path.read_bytes() == content


@pytest.fixture(params=[b"no database at all" * 100, b"SQLite format 3\0" + b"\xff" * 4000])
def damaged(path: Path, request: pytest.FixtureRequest) -> Path:
    path.write_bytes(request.param)
    return path


async def test_a_file_that_is_damaged_is_refused_and_left_alone(damaged: Path) -> None:
    expected = r"limits\.db: expected a SQLite database that is whole, .* delete the file while no program uses it"
    with left_alone(damaged), pytest.raises(StoreError, match=expected):
        await _try(damaged)


@pytest.mark.parametrize("statement", ["CREATE TABLE accounts (id)", "PRAGMA user_version = 1"])
async def test_the_database_of_another_program_is_refused_and_left_alone(path: Path, statement: str) -> None:
    with database(path) as other:
        other.execute(statement)
    expected = r"expected a database of bms_async, got .* one of another program"
    with left_alone(path), pytest.raises(StoreError, match=expected):
        await _try(path)


async def _try(path: Path) -> None:
    async with opened(SqliteStore(path)):
        pass


async def test_tables_that_are_not_as_they_were_made_are_refused(path: Path) -> None:
    await _try(path)
    with database(path) as other:
        other.execute("ALTER TABLE accounts RENAME COLUMN state TO stat")
    async with opened(SqliteStore(path)) as store:
        with pytest.raises(StoreError, match=r"a SQLite database that is whole, got .* no such column: state"):
            await ask(store, "h")


async def test_tables_of_a_later_version_are_refused(path: Path) -> None:
    await _try(path)
    with database(path) as later:
        later.execute("PRAGMA user_version = 2")
    with pytest.raises(StoreError, match="expected version 1 of its tables, got 2; update bms_async"):
        await _try(path)


async def test_a_folder_in_the_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StoreError, match="expected a file that may be read and written"):
        await _try(tmp_path)


async def test_a_folder_that_may_not_be_made_or_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StoreError, match="in a folder that may be written, got NotADirectoryError"):
        await _try(tmp_path / "file" / "folder" / "limits.db")

    # The user of the tests may be one who may write everywhere.
    def refuse(*args: object, **options: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    with monkeypatch.context() as patched:
        patched.setattr(Path, "mkdir", refuse)
        with pytest.raises(StoreError, match="Read-only file system"):
            await _try(tmp_path / "new" / "limits.db")
    monkeypatch.setattr(os, "access", lambda *args: False)
    monkeypatch.setattr(sqlite3, "connect", _connect_read_only)
    await _try_to_write(tmp_path / "limits.db")


def _connect_read_only(path: Path, **options: object) -> sqlite3.Connection:
    connection = sqlite3.Connection(path, **options)  # type: ignore[arg-type]
    connection.execute("PRAGMA query_only = ON")
    return connection


async def _try_to_write(path: Path) -> None:
    with pytest.raises(StoreError, match="expected a file that may be read and written"):
        await _try(path)


_PROGRAM = """
import asyncio, os, signal, sys
from bms_async.limits.shared.sqlite import SqliteStore
from tests.limits.shared._asking import ask

async def main():
    store = SqliteStore(sys.argv[1], trust_new=True)
    await store.open()
    for seq in (1, 2, 3):
        await ask(store, "h", seq, interactive=1)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


async def test_a_process_that_is_killed_has_lost_nothing_that_it_was_granted(path: Path) -> None:
    command = [sys.executable, "-c", _PROGRAM, str(path)]
    done = await anyio.run_process(command, check=False, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert (done.returncode, done.stderr) == (-signal.SIGKILL, b"")
    async with opened(SqliteStore(path)) as store:
        answer = await ask(store, "i")
        assert (answer.used, answer.holders) == (3, 2)


_FORKING = """
import asyncio, os, sys
from bms_async import _sqlite_file as sqlite_file
from bms_async.limits.shared.sqlite import SqliteStore
from tests.limits.shared._asking import LIMIT, ask

async def opens(holder):
    store = SqliteStore(sys.argv[1], trust_new=True)
    await store.open()
    return store, await ask(store, holder, interactive=1)

store, _ = asyncio.run(opens("parent"))
if sys.argv[2] == "unseen":
    sqlite_file._files.clear()
(to_child, child_says), (from_child, parent_says) = os.pipe(), os.pipe()

async def child():
    store, first = await opens("child")
    os.write(parent_says, b".")
    os.read(to_child, 1)
    more = await ask(store, "child", 2, interactive=LIMIT)
    print(first.used, more.granted, flush=True)
    os._exit(0)

pid = os.fork()
if not pid:
    asyncio.run(child())
os.read(from_child, 1)
asyncio.run(store.aclose())
os.write(child_says, b".")
os.waitpid(pid, 0)
_, stranger = asyncio.run(opens("stranger"))
print(stranger.used)
"""


@pytest.mark.parametrize(("hooks", "used"), [("seen", LIMIT), ("unseen", 3)])
async def test_a_forked_child_and_its_parent_have_the_file_open_each_by_itself(
    path: Path, hooks: str, used: int
) -> None:
    command = [sys.executable, "-c", _FORKING, str(path), hooks]
    done = await anyio.run_process(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)})
    assert done.stdout.split() == [b"2", str(LIMIT - 2).encode(), str(used).encode()]


def test_the_label_is_the_path() -> None:
    store = SqliteStore("~/limits.db")
    assert store.label == str(Path.home() / "limits.db")
    assert repr(store) == f"SqliteStore('{store.label}', trust_new=False)"
