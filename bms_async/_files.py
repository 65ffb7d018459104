"""Files that outlive the process: replaced as a whole, and locked against other processes.

A file is written beside its place, synced, and renamed over it, so that a reader sees the old content or the new one.
A lock is an advisory `flock`, which the system releases with the process at the latest. The lock file is never
replaced: a lock on the file that is replaced would go with it. On Windows, where a lock keeps others from reading too,
it is on one byte far behind the end of the file.
"""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:
    # Windows, whose module no type checker elsewhere knows.
    _windows: Any = import_module("msvcrt")
else:
    _windows = None

__all__ = ["FileLock", "sync_folder", "write_atomically"]

_LOCKED_BYTE = 2**31 - 2


class FileLock:
    """An exclusive lock between processes, on a file that stays open as long as the lock is held.

    Args:
        path: The file.
        flags: Flags of `os.open` beside `O_RDWR`; `O_CREAT` makes missing folders too (mode 0700), and the file has
            mode 0600.
        strict: Whether a file system without locks is an error; if not, the lock counts as acquired there.
    """

    __slots__ = ("_descriptor", "_flags", "_path", "_strict")

    def __init__(self, path: Path, flags: int = 0, *, strict: bool = True) -> None:
        self._path = path
        self._flags = flags
        self._strict = strict
        self._descriptor: int | None = None

    def open(self) -> int:
        """Return the descriptor of the file, which is opened first if it is not open.

        Raises:
            OSError: It cannot be opened.
        """
        if self._descriptor is None:
            if self._flags & os.O_CREAT:
                self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._descriptor = os.open(self._path, os.O_RDWR | self._flags, 0o600)
        return self._descriptor

    def try_acquire(self) -> bool:
        """Open the file and try to lock it, without waiting; return whether it is ours now.

        Raises:
            OSError: It cannot be opened or, where `strict`, not be locked.
        """
        descriptor = self.open()
        try:
            _lock(descriptor)
        except BlockingIOError:
            return False
        except OSError:
            if self._strict:
                raise
        return True

    def release(self) -> None:
        """Unlock the file and close it; does nothing where it is not open."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            try:
                # A child that was forked meanwhile has the file open too, so that closing alone would not unlock it.
                with suppress(OSError):
                    _unlock(descriptor)
            finally:
                os.close(descriptor)


def _lock(descriptor: int) -> None:
    """Lock a file.

    Raises:
        BlockingIOError: Another process has locked it.
        OSError: It cannot be locked.
    """
    if _windows is None:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    try:
        _at_locked_byte(descriptor, _windows.LK_NBLCK)
    except PermissionError as error:
        raise BlockingIOError(*error.args) from error


def _unlock(descriptor: int) -> None:
    if _windows is None:
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    else:
        _at_locked_byte(descriptor, _windows.LK_UNLCK)


def _at_locked_byte(descriptor: int, mode: int) -> None:
    before = os.lseek(descriptor, 0, os.SEEK_CUR)
    os.lseek(descriptor, _LOCKED_BYTE, os.SEEK_SET)
    try:
        _windows.locking(descriptor, mode, 1)
    finally:
        os.lseek(descriptor, before, os.SEEK_SET)


def write_atomically(path: Path, data: bytes, *, mode: int = 0o600, locked: bool = False) -> None:
    """Replace a file as a whole, and sync it and its folder.

    Args:
        path: The file.
        data: The content.
        mode: Its permissions.
        locked: Whether the caller holds a lock that all writers of this file take. What a killed writer left behind is
            then replaced; without a lock, each writer uses a name of its own.

    Raises:
        OSError: It cannot be written; the previous content is still there.
    """
    if locked:
        unfinished = path.with_name(f".{path.name}.tmp")
        unfinished.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(unfinished, flags, 0o600)
    else:
        import tempfile  # noqa: PLC0415 - it brings archives and compression with it

        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        unfinished = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            unfinished.chmod(mode)
            os.fsync(file.fileno())
        unfinished.replace(path)
    except BaseException:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


def sync_folder(folder: Path) -> None:
    """Sync a folder, so that the name of a new file in it survives a crash; file systems that cannot are left alone."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
