"""What the tests of the examples run: simulators that can be killed and come back, and programs before a cloud."""

from __future__ import annotations

import json
import os
import queue
import signal
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from tests.support.machine import patience
from tests.support.plain_http import plain_client

ROOT = Path(__file__).resolve().parents[2]
HURRIED = ROOT / "tests" / "examples" / "_hurried_service.py"
PATIENCE = patience(60.0)
# What simulators are given whose jobs are to end on no day of ours.
ENDLESS = ("--job-seconds", "90000", "90000")
# Nobody listens on port 9, which is for discarding what is sent.
NOBODY = {"BMS_ENDPOINT": "http://127.0.0.1:9", "OS_PROJECT_ID": "project", "OS_TOKEN": "token"}


def environment(settings: Mapping[str, str] | None = None) -> dict[str, str]:
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("BMS_", "OS_", "HUAWEICLOUD_"))}
    ours.pop("FORCE_COLOR", None)
    return ours | {"COLUMNS": "120", "PYTHONUNBUFFERED": "1"} | dict(settings or {})


class Program:
    """A program that runs, and the lines that it has said."""

    def __init__(self, command: list[str], settings: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            command, env=environment(settings), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        self.lines: list[str] = []
        self.errors: list[str] = []
        self._coming: queue.Queue[str | None] = queue.Queue()
        self._readers = [
            threading.Thread(target=self._read, args=(self.process.stdout, self.lines)),
            threading.Thread(target=self._read, args=(self.process.stderr, self.errors)),
        ]
        for reader in self._readers:
            reader.start()

    def line_with(self, *words: str) -> str:
        """Wait for a line, of either stream, in which all of these are and which was not returned before."""
        while (line := self._coming.get(timeout=PATIENCE)) is not None:
            if all(word in line for word in words):
                return line
        raise AssertionError(f"it has ended and never said {words}: {self.lines} {self.errors}")

    def kill(self, number: signal.Signals = signal.SIGKILL) -> int:
        self.process.send_signal(number)
        return self.end()

    def end(self) -> int:
        """Wait for its end."""
        code = self.process.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        return code

    def _read(self, stream: Any, lines: list[str]) -> None:
        with stream:
            for line in stream:
                lines.append(line.rstrip("\n"))
                self._coming.put(lines[-1])
        self._coming.put(None)


@contextmanager
def running(*command: str, settings: Mapping[str, str] | None = None, times: float | None = None) -> Iterator[Program]:
    """Run a program; with `times` its clock goes so many times as fast, as far as the machine keeps up."""
    hurried = [] if times is None else [str(HURRIED), str(times / patience(1.0))]
    program = Program([sys.executable, "-W", "error", *hurried, *command], settings)
    try:
        yield program
    finally:
        if program.process.poll() is None:
            program.kill()
        program.end()


class Simulator:
    """A simulated cloud in a process of its own, which can be killed and begun anew with the same servers."""

    def __init__(self, *flags: str) -> None:
        self._flags = flags
        self._port = "0"
        self.begin()

    def begin(self, *changes: str) -> None:
        command = [sys.executable, "-m", "bms_async.simulator", "--port", self._port, *self._flags, *changes]
        self.program = Program(command)
        self.told: dict[str, Any] = json.loads(self.program.line_with("address"))
        self.address: str = self.told["address"]
        self._port = self.address.rpartition(":")[2]

    @property
    def settings(self) -> dict[str, str]:
        """The environment that leads to it."""
        return {
            "BMS_ENDPOINT": self.address, "OS_PROJECT_ID": self.told["project_id"], "OS_TOKEN": self.told["token"],
        }  # fmt: skip

    def ask(self, path: str) -> Any:
        with plain_client(self.address) as admin:
            return admin.get(f"/_admin/{path}").raise_for_status().json()

    def tell(self, method: str, path: str, body: object) -> Any:
        with plain_client(self.address) as client:
            token = {"X-Auth-Token": self.told["token"]}
            return client.request(method, path, json=body, headers=token).raise_for_status().json()

    def err(self, operation: str, calls: Iterable[int], fault: Mapping[str, object]) -> None:
        """Have these calls of an operation, counted from the first that it ever was sent, go wrong."""
        script = [{"operation": operation, "nth": nth, "fault": fault} for nth in calls]
        with plain_client(self.address) as admin:
            admin.post("/_admin/faults", json=script).raise_for_status()

    def arrived(self, operation: str) -> int:
        """How many calls of an operation have come."""
        count: int = self.ask("calls")["operations"].get(operation, {}).get("arrived", 0)
        return count

    def refuse_after(self, calls: int, operation: str) -> None:
        """Refuse the call after so many more: whoever makes it waits for an hour, and so cannot end before a kill."""
        self.err(operation, [self.arrived(operation) + calls + 1], {"type": "Throttled", "retry_after": 3600})

    @property
    def has_refused(self) -> bool:
        """Whether the call has come that was to be refused."""
        return bool(self.ask("status")["faults_waiting"] == 0)

    def ids(self) -> list[str]:
        ids: list[str] = self.ask("servers/ids")["ids"]
        return ids

    def states(self) -> Counter[str]:
        return +Counter(self.ask("servers"))

    def among(self, ids: Iterable[str], status: str) -> list[str]:
        """Return those of these that have a status."""
        found = set(self.ask(f"servers/ids?status={status}")["ids"])
        return [server_id for server_id in ids if server_id in found]

    def stop_behind_our_back(self, *ids: str) -> None:
        body = {"os-stop": {"type": "HARD", "servers": [{"id": server_id} for server_id in ids]}}
        self.tell("POST", f"/v1/{self.told['project_id']}/baremetalservers/action", body)


@contextmanager
def simulator(*flags: str) -> Iterator[Simulator]:
    cloud = Simulator(*flags)
    try:
        yield cloud
    finally:
        cloud.program.kill()


class RunsFile:
    """A journal of durable runs, as it is read and changed from aside."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @property
    def sends(self) -> bool:
        """Whether a request may be on its way: who is killed then has its successor wait for a minute."""
        return bool(self._do("SELECT count(*) FROM bms_async_batches WHERE state = 'sending'")[0][0])

    def let_leases_end(self) -> None:
        """Do what a quarter of a minute does."""
        self._do("UPDATE bms_async_batches SET lease = -1 WHERE owner IS NOT NULL")
        self._do("UPDATE bms_async_jobs SET lease = -1 WHERE ended IS NULL")

    def _do(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            return connection.execute(statement).fetchall()


def wait_until(true: Callable[[], bool], program: Program) -> None:
    """Ask again and again until it is so, for as long as the program runs that is to make it so."""
    pause = threading.Event()
    for _ in range(int(PATIENCE / 0.05)):
        if true():
            return
        assert program.process.poll() is None, program.errors
        pause.wait(0.05)
    raise AssertionError(f"it never came to be so: {program.lines} {program.errors}")
