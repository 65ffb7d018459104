"""Files that outlive a process: replaced as a whole, and locked against other processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from bms_async._files import FileLock, write_atomically
from tests.support.machine import patience

ROOT = Path(__file__).parents[1]

WITHOUT_LOCKS = """
import asyncio, os, sys, types
sys.modules["fcntl"] = None
sys.modules["msvcrt"] = types.ModuleType("msvcrt")
del os.geteuid
from bms_async import BmsClient, ConfigurationError, PasswordAuth
login = dict(auth_url="https://iam.example.com/v3", user_id="u", password="p", project_id="0" * 32)
assert "PasswordAuth" in repr(PasswordAuth(**login))
try:
    PasswordAuth(**login, cache_file="tokens.json")
except ConfigurationError as error:
    print(error)
"""


@pytest.mark.parametrize("locked", [True, False])
def test_a_file_that_cannot_be_replaced_stays_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, locked: bool
) -> None:
    file = tmp_path / "file"
    write_atomically(file, b"before", locked=locked)
    assert file.stat().st_mode & 0o777 == 0o600

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="No space"):
        write_atomically(file, b"after", locked=locked)
    assert file.read_bytes() == b"before"
    assert list(tmp_path.iterdir()) == [file]


def test_a_release_frees_the_lock_although_a_forked_child_has_the_file_open(tmp_path: Path) -> None:
    def is_free_after(end: Callable[[FileLock], None]) -> bool:
        held, other = (FileLock(tmp_path / "lock", os.O_CREAT) for _ in range(2))
        # As a child has it that was forked meanwhile.
        child = os.dup(held.open())
        assert held.try_acquire()
        assert not other.try_acquire()
        end(held)
        is_free = other.try_acquire()
        os.close(child)
        other.release()
        return is_free

    assert is_free_after(FileLock.release)
    assert not is_free_after(lambda lock: os.close(lock.open()))


def test_a_lock_file_is_not_opened_through_a_symbolic_link(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(OSError, match="symbolic"):
        FileLock(tmp_path / "link", os.O_CREAT | os.O_NOFOLLOW).try_acquire()
    assert not (tmp_path / "elsewhere").exists()


def test_a_system_without_owners_of_files_refuses_a_token_file_and_nothing_else() -> None:
    """As on Windows."""
    ended = subprocess.run(
        [sys.executable, "-c", WITHOUT_LOCKS],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=patience(60.0),
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert ended.stdout.strip() == (
        "PasswordAuth: cache_file='tokens.json': on Windows nobody can check who may read the file; leave"
        " cache_file out"
    )
