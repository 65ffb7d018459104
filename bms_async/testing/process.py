"""A simulated cloud in a process of its own, for tests of other processes."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlencode

import anyio.to_thread
import msgspec

from bms_async._tasks import run_to_completion
from bms_async.simulator import CallCounts, CloudSettings, Fault, ScriptedFault

from ._environment import Credentials, environment_of
from ._settings import to_json_line
from .clock import is_virtual
from .faults import check_occurrence, check_operation

__all__ = ["SimulatorProcess"]

_OK = 200
_HOST = "127.0.0.1"
_LONGEST_START = 60.0
_LONGEST_END = 10.0
_LONGEST_ANSWER = 10.0
_NEVER_STARTED = "the simulator was not started: use `with`, `async with`, or start()"


class SimulatorProcess:
    """A simulated cloud in a process of its own, on a free port of the loopback interface.

    ::

        with SimulatorProcess(CloudSettings(servers=5, job_seconds=(0.1, 0.3))) as cloud:
            subprocess.run(["my-controller", "--once"], env={**os.environ, **cloud.environment()}, check=True)
            assert cloud.arrived("servers.stop") == 1

    It ends with the process that started it, however that ends. It runs on the real clock: short `job_seconds` make
    short tests. ``async with`` does the same without holding the event loop. What asks or tells it something waits for
    its answer, for some milliseconds; in a running loop, `anyio.to_thread.run_sync` does that in a thread.

    Args:
        settings: How it behaves; by default `CloudSettings()`, with 1000 servers.
        port: Where it listens; 0 takes a free port, which it keeps when it is started again.

    Raises:
        ValueError: `job_hidden_seconds` is without end, which is for `SimulatedCloud` alone.
    """

    def __init__(self, settings: CloudSettings | None = None, *, port: int = 0) -> None:
        self.settings = settings or CloudSettings()
        self._told = to_json_line(self.settings)
        self._port = port
        self._process: subprocess.Popen[str] | None = None
        self._complaints: IO[str] | None = None

    def __repr__(self) -> str:
        state = f"at {self.address}" if self.is_running else "not running"
        return f"<SimulatorProcess {state}, servers={self.settings.servers}>"

    def start(self) -> None:
        """Start it, and wait until it accepts calls.

        Raises:
            RuntimeError: It runs already, or it ended at once; the text has what it said.
            TimeoutError: It does not accept calls after a minute.
        """
        if self.is_running:
            raise RuntimeError(f"the simulator runs already, at {self.address}")
        self._release()
        command = [sys.executable, "-m", "bms_async.simulator", "--port", str(self._port)]
        command += ["--settings", "-", "--until-stdin-ends"]
        self._complaints = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - it lives with the process
        self._process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints, text=True
        )
        if self._process.stdin is not None:
            # Where it has ended already, its first line is missing, and what it said is told.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(self._told)
                self._process.stdin.flush()
        line = self._read_first_line()
        if not line:
            raise RuntimeError(self._describe_end())
        self._port = int(json.loads(line)["address"].rpartition(":")[2])

    def stop(self) -> None:
        """End it as a signal does; nothing if it does not run."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(_LONGEST_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._release()

    def kill(self) -> None:
        """End it without a word, as a crash does; `start` starts it anew, at the same address, as it was first."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
        self._release()

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        if is_virtual():
            raise RuntimeError("a SimulatorProcess needs a real clock; on a virtual one, use a SimulatedCloud")
        try:
            await run_to_completion(anyio.to_thread.run_sync(self.start), grace=None)
        except BaseException:
            # Also when it was cancelled meanwhile: nobody else would end the process.
            await run_to_completion(anyio.to_thread.run_sync(self.kill), grace=None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await run_to_completion(anyio.to_thread.run_sync(self.stop), grace=None)

    @property
    def is_running(self) -> bool:
        """Whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The number of the process.

        Raises:
            RuntimeError: It does not run.
        """
        if self._process is None or not self.is_running:
            raise RuntimeError(self._describe_end())
        return self._process.pid

    @property
    def address(self) -> str:
        """Where it listens, such as ``http://127.0.0.1:40213``.

        Raises:
            RuntimeError: It was never started, and has no port yet.
        """
        if not self._port:
            raise RuntimeError(_NEVER_STARTED)
        return f"http://{_HOST}:{self._port}"

    @property
    def project_id(self) -> str:
        """The project of the servers."""
        return self.settings.project_id

    @property
    def token(self) -> str:
        """The token that is good."""
        return self.settings.token

    def environment(self, credentials: Credentials = "token") -> dict[str, str]:
        """Return the variables that `BmsClient.from_env()` and the command ``bms`` read, to be laid over others.

        Args:
            credentials: Which of them: ``token``, ``password`` or ``aksk``.

        Raises:
            RuntimeError: It was never started.
        """
        return environment_of(self.address, self.settings, credentials)

    def ids(self, *, status: str | None = None, name: str | None = None, tags: str | None = None) -> list[str]:
        """Return the ids of servers, the oldest first.

        Args:
            status: Only those with this status, such as ``SHUTOFF``.
            name: Only those with this name.
            tags: Only those with these tags, such as ``rack-0``; commas between several.
        """
        wanted = {"status": status, "name": name, "tags": tags}
        query = urlencode({key: value for key, value in wanted.items() if value is not None})
        told: list[str] = self._ask("GET", f"/_admin/servers/ids?{query}")["ids"]
        return told

    def statuses(self) -> dict[str, int]:
        """Return how many servers have which status."""
        return msgspec.convert(self._ask("GET", "/_admin/servers"), dict[str, int])

    def arrived(self, operation: str) -> int:
        """Return how many calls of an operation came, also those that were refused or cut.

        Raises:
            ValueError: No operation is called so.
        """
        check_operation(operation)
        counter = self._call_counts().operations.get(operation)
        return counter.arrived if counter else 0

    def refused(self, operation: str | None = None) -> int:
        """Return how many calls the cloud's limits have refused with 429; planned faults do not count.

        Args:
            operation: Only those of one operation.

        Raises:
            ValueError: No operation is called so.
        """
        counts = self._call_counts()
        if operation is None:
            return counts.refused
        check_operation(operation)
        counter = counts.operations.get(operation)
        return counter.refused if counter else 0

    def add_fault(self, operation: str, fault: Fault, *, nth: int = 1, times: int = 1) -> None:
        """Plan a fault.

        Args:
            operation: The operation's name, such as ``servers.stop``.
            fault: What goes wrong.
            nth: With which call of the operation it begins, counted from now: 1 is the next one.
            times: With how many calls in a row.

        Raises:
            ValueError: No operation is called so, or a number is less than 1.
            TypeError: What is given is no fault.
        """
        check_operation(operation)
        check_occurrence(fault, nth, times)
        first = self.arrived(operation) + nth
        script = [ScriptedFault(operation=operation, nth=first + more, fault=fault) for more in range(times)]
        self._ask("POST", "/_admin/faults", msgspec.json.encode(script))

    def revoke_tokens(self) -> int:
        """Refuse all tokens that were issued until now, but not the one of the settings; returns how many were good."""
        told: int = self._ask("DELETE", "/_admin/tokens")["revoked"]
        return told

    def _call_counts(self) -> CallCounts:
        return msgspec.convert(self._ask("GET", "/_admin/calls"), CallCounts)

    def _ask(self, method: str, path: str, body: bytes | None = None) -> Mapping[str, Any]:
        if not self.is_running:
            raise RuntimeError(self._describe_end())
        # Not through a proxy, whatever the environment says.
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=_LONGEST_ANSWER)
        try:
            connection.request(method, path, body)
            answer = connection.getresponse()
            text = answer.read()
        finally:
            connection.close()
        if answer.status != _OK:
            raise ValueError(f"the simulator refused {method} {path}: {text.decode(errors='replace')}")
        told: dict[str, Any] = json.loads(text)
        return told

    def _read_first_line(self) -> str:
        process = self._process
        if process is None or process.stdout is None:
            return ""
        # Pipes cannot be read with a timeout everywhere, but reading ends where the process ends.
        late = threading.Event()

        def end_late() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(_LONGEST_START, end_late)
        timer.start()
        try:
            line = process.stdout.readline()
        finally:
            timer.cancel()
        if late.is_set():
            raise TimeoutError(f"the simulator accepts no calls after {_LONGEST_START:.0f} s")
        return line

    def _describe_end(self) -> str:
        if self._process is None or self._complaints is None:
            return _NEVER_STARTED if not self._port else "the simulator was ended; start() starts it again"
        code = self._process.wait()
        self._complaints.seek(0)
        said = self._complaints.read().strip().splitlines()[-1:] or ["it said nothing"]
        return f"the simulator has ended with exit code {code}: {said[0]}"

    def _release(self) -> None:
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        if self._complaints is not None:
            self._complaints.close()
        self._process = self._complaints = None
