"""The stores that durable runs are measured in: a SQLite file and a real PostgreSQL, both of which sync each commit."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil  # type: ignore[import-untyped]

from tests.support.postgres import Postgres, running_postgres

SQLITE, POSTGRES = "SQLite", "PostgreSQL"
BOTH = (SQLITE, POSTGRES)

# As a server has it by default, and not as the tests have theirs.
_SETTINGS = (
    "fsync = on",
    "autovacuum = on",
    "shared_buffers = '128MB'",
    "max_wal_size = '1GB'",
    "max_connections = 100",
)


class Stores:
    """Empty stores, one after another, and the CPU of the server.

    Args:
        folder: Where files are made.
        server: A running server.
    """

    def __init__(self, folder: Path, server: Postgres) -> None:
        self._folder = folder
        self._server = server
        self._made = 0

    def fresh(self, store: str) -> str:
        """Make a store of a kind and return its address."""
        self._made += 1
        if store == SQLITE:
            return f"sqlite://{self._folder / f'{self._made}.db'}"
        asyncio.run(self._server.run(f"CREATE DATABASE bench_{self._made}"))
        return self._server.url(f"bench_{self._made}")

    def cpu(self, store: str) -> float:
        """Return the seconds of CPU of the server's processes, also of those that have ended; 0 for a file."""
        if store == SQLITE:
            return 0.0
        while True:
            # One that ends meanwhile is counted by its parent the next time.
            with suppress(psutil.NoSuchProcess):
                return self._spent()

    def _spent(self) -> float:
        process = self._server._process  # noqa: SLF001 - the tests need no CPU
        assert process is not None
        main = psutil.Process(process.pid)
        times = main.cpu_times()
        spent = times.user + times.system + times.children_user + times.children_system
        for child in main.children():
            times = child.cpu_times()
            spent += times.user + times.system
        return float(spent)


@contextmanager
def stores() -> Iterator[Stores]:
    """Start a PostgreSQL, and make a folder for files."""
    with tempfile.TemporaryDirectory(prefix="bms_async-") as folder, running_postgres() as server:
        asyncio.run(server.run(*(f"ALTER SYSTEM SET {setting}" for setting in _SETTINGS)))
        server.stop()
        server.start()
        yield Stores(Path(folder), server)
