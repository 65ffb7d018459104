"""A server that a test starts: on a free port of this machine, with a directory of its own, killed at any moment."""

from __future__ import annotations

import signal
import socket
import subprocess
import time
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from random import SystemRandom
from typing import ClassVar

from tests.support.machine import patience

_ATTEMPTS = 5
_PORTS = (15_000, 32_000)
_ports = SystemRandom()


class LocalServer(ABC):
    """A program that serves on a port, and says in its output when it does.

    It does not outlive the process that started it, however that ends: `sh` waits for the other end of its pipe to
    close.
    """

    _ready: ClassVar[bytes]
    """What the program writes when it serves, and never before."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    @abstractmethod
    def _command(self) -> Sequence[str]:
        """The program and its words; it is to serve on `port`."""

    @property
    def _environment(self) -> Mapping[str, str] | None:
        """The whole environment of the program; None: this process's own."""
        return None

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Start it, and wait until it answers: on a free port, or on the one that it had."""
        is_again = self.port > 0
        # A program may take further ports, each time others, and one of them may be another's.
        for _ in range(_ATTEMPTS):
            if not is_again:
                self.port = free_port()
            if self._try_to_start():
                return
        raise RuntimeError(f"{self._command[0]} did not start:\n{self._log.read_text(errors='replace')[-2000:]}")

    def stop(self) -> None:
        """Let it end by itself, which writes what it is to keep; stopping what does not run does nothing."""
        self._end(signal.SIGTERM)

    def kill(self) -> None:
        self._end(signal.SIGKILL)

    def pause(self) -> None:
        """Let it stand still; its connections stay open."""
        assert self._process is not None
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)

    def restart(self) -> None:
        self.stop()
        self.start()

    @property
    def _log(self) -> Path:
        return self._directory / "log"

    def _try_to_start(self) -> bool:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", 'read -r _; kill -KILL "$1"', "sh", str(self._process.pid)],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        until = time.monotonic() + patience(20.0)
        while time.monotonic() < until:
            # In its own words: a server of another test may have taken the port, and would answer in its place.
            if self._ready in self._log.read_bytes():
                return True
            try:
                self._process.wait(0.01)
            except subprocess.TimeoutExpired:
                continue
            break
        self.kill()
        return False

    def _end(self, by: signal.Signals) -> None:
        process, guard = self._process, self._guard
        self._process = self._guard = None
        if guard is not None:
            assert guard.stdin is not None
            # Before the server is reaped, for its number may be another's afterwards.
            guard.kill()
            guard.wait()
            guard.stdin.close()
        if process is None:
            return
        process.send_signal(signal.SIGCONT)
        process.send_signal(by)
        try:
            process.wait(patience(10.0))
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    """A port that nobody listens on, below those that the system gives to connections: a server comes back on it."""
    while True:
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", _ports.randrange(*_PORTS)))
            port: int = found.getsockname()[1]
            return port
