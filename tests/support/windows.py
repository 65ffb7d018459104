"""Makes a process look like one on Windows, as far as that goes elsewhere: `prepare`, and then import and run.

What POSIX alone has is taken away: modules, signals, functions of `os`, and what the event loop of Windows refuses. Of
what Windows alone has there is a stand-in for the locks of files. Libraries that ask for the system while they are
imported are imported before, so that this says nothing about them.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.abc
import os
import signal
import sys
import time
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

MODULES = {"fcntl", "grp", "posix_ipc", "pty", "pwd", "resource", "syslog", "termios", "tty", "uvloop"}
SIGNALS = ("SIGHUP", "SIGQUIT", "SIGUSR1", "SIGUSR2", "SIGKILL", "SIGPIPE", "SIGALRM", "SIGCHLD", "SIGWINCH", "SIGTSTP")
LIBRARIES = (
    "aiohttp", "anyio._backends._asyncio", "asyncpg", "click.shell_completion", "redis.asyncio", "rich.console",
    "uvicorn",
)  # fmt: skip
FUNCTIONS = (
    "fchmod", "fchown", "fork", "getegid", "geteuid", "getgid", "getpgid", "getuid", "killpg", "register_at_fork",
    "set_blocking", "setsid", "sysconf", "tcgetpgrp", "uname", "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK",
)  # fmt: skip


class _Missing(importlib.abc.MetaPathFinder):
    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name in MODULES:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


class Locks(ModuleType):
    """What `msvcrt` does: each byte of a file has one owner, and who has none is refused."""

    LK_NBLCK = 2
    LK_UNLCK = 0

    def __init__(self) -> None:
        super().__init__("msvcrt")
        self.held: set[tuple[int, int, int]] = set()

    def locking(self, descriptor: int, mode: int, count: int) -> None:
        """Lock or unlock bytes from where the file stands."""
        found = os.fstat(descriptor)
        key = found.st_dev, found.st_ino, os.lseek(descriptor, 0, os.SEEK_CUR)
        assert count == 1
        if mode == self.LK_UNLCK:
            self.held.remove(key)
        elif key in self.held:
            raise PermissionError(13, "Permission denied")
        else:
            self.held.add(key)


def _refuse(*_: Any, **__: Any) -> None:
    raise NotImplementedError


def prepare() -> None:
    """Begin to look like Windows; no module of ours may be imported yet."""
    for name in LIBRARIES:
        importlib.import_module(name)
    for name in MODULES:
        sys.modules.pop(name, None)
    sys.meta_path.insert(0, _Missing())
    sys.modules["msvcrt"] = Locks()
    for name in SIGNALS:
        delattr(signal, name)
    for name in FUNCTIONS:
        delattr(os, name)
    for name in ("CLOCK_BOOTTIME", "CLOCK_MONOTONIC", "clock_gettime", "tzset"):
        delattr(time, name)
    for name in ("add_signal_handler", "remove_signal_handler", "add_reader", "add_writer"):
        setattr(asyncio.SelectorEventLoop, name, _refuse)
    sys.platform = "win32"
