"""A simulated cloud in a process of its own, for tests of other processes."""

from __future__ import annotations

import contextlib
import http.client
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Collection, Mapping
from types import TracebackType
from typing import IO, Any, Self
from urllib.parse import urlencode

import anyio.to_thread
import msgspec

from bms_async._tasks import run_to_completion
from bms_async.simulator import CallCounts, CloudSettings, Fault, ScriptedFault
from bms_async.simulator.core.drift import AnyDrift

from ._environment import Credentials, environment_of
from ._settings import to_json_line
from .clock import is_virtual
from .faults import check_occurrence, check_operation

__all__ = ["SimulatorProcess"]

_OK = 200
_HOST = "127.0.0.1"
_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 10.0
_RESPONSE_TIMEOUT = 10.0
_NEVER_STARTED = "the simulator was not started: use `with`, `async with`, or start()"


class SimulatorProcess:
    """A simulated cloud in a process of its own, on a free port of the loopback interface.

    ::

        with SimulatorProcess(CloudSettings(servers=5, job_seconds=(0.1, 0.3))) as cloud:
            subprocess.run(["my-controller", "--once"], env={**os.environ, **cloud.environment()}, check=True)
            assert cloud.arrived("servers.stop") == 1

    It ends with the process that started it, however that ends. It runs on the real clock: short `job_seconds` make
    short tests. ``async with`` does the same without blocking the event loop. Methods that read or change it block for
    some milliseconds; in a running loop, call them with `anyio.to_thread.run_sync`.

    Args:
        settings: Its settings; by default `CloudSettings()`, with 1000 servers.
        port: Its port; 0 takes a free one, which it keeps when it is started again.

    Raises:
        ValueError: `job_hidden_seconds` is infinite, which only `SimulatedCloud` supports.
    """

    def __init__(self, settings: CloudSettings | None = None, *, port: int = 0) -> None:
        self.settings = settings or CloudSettings()
        self._settings_line = to_json_line(self.settings)
        self._port = port
        self._process: subprocess.Popen[str] | None = None
        self._stderr: IO[str] | None = None

    def __repr__(self) -> str:
        state = f"at {self.address}" if self.is_running else "not running"
        return f"<SimulatorProcess {state}, servers={self.settings.servers}>"

    def start(self) -> None:
        """Start it, and wait until it accepts calls.

        Raises:
            RuntimeError: It runs already, or it ended at once; the text has its error.
            TimeoutError: It does not accept calls after a minute.
        """
        if self.is_running:
            raise RuntimeError(f"the simulator runs already, at {self.address}")
        self._release()
        command = [sys.executable, "-m", "bms_async.simulator", "--port", str(self._port)]
        command += ["--settings", "-", "--until-stdin-ends"]
        self._stderr = tempfile.TemporaryFile("w+", encoding="utf-8")  # noqa: SIM115 - it lives with the process
        self._process = subprocess.Popen(  # noqa: S603
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr, text=True
        )
        if self._process.stdin is not None:
            # If it has ended already, its first line is missing, and its error is raised below.
            with contextlib.suppress(BrokenPipeError):
                self._process.stdin.write(self._settings_line)
                self._process.stdin.flush()
        line = self._read_first_line()
        if not line:
            raise RuntimeError(self._describe_end())
        self._port = int(json.loads(line)["address"].rpartition(":")[2])

    def stop(self) -> None:
        """Stop it by a signal; does nothing if it does not run."""
        process = self._process
        if process is not None and process.poll() is None:
            process.terminate()
            try:
                process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        self._release()

    def kill(self) -> None:
        """Kill it, like a crash; `start` starts it again at the same address, in its initial state."""
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
            # Also after a cancellation: nothing else would end the process.
            await run_to_completion(anyio.to_thread.run_sync(self.kill), grace=None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await run_to_completion(anyio.to_thread.run_sync(self.stop), grace=None)

    @property
    def is_running(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The process id.

        Raises:
            RuntimeError: It does not run.
        """
        if self._process is None or not self.is_running:
            raise RuntimeError(self._describe_end())
        return self._process.pid

    @property
    def address(self) -> str:
        """Its address, such as ``http://127.0.0.1:40213``.

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
        """The token that it accepts."""
        return self.settings.token

    def environment(self, credentials: Credentials = "token") -> dict[str, str]:
        """Return the variables that `BmsClient.from_env()` and the command ``bms`` read.

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
            tags: Only those with these tags, such as ``rack-0``, separated by commas.
        """
        wanted = {"status": status, "name": name, "tags": tags}
        query = urlencode({key: value for key, value in wanted.items() if value is not None})
        ids: list[str] = self._request("GET", f"/_admin/servers/ids?{query}")["ids"]
        return ids

    def statuses(self) -> dict[str, int]:
        """Return how many servers are in each status."""
        return msgspec.convert(self._request("GET", "/_admin/servers"), dict[str, int])

    def arrived(self, operation: str) -> int:
        """Return how many calls of an operation arrived, including those that were refused or cut.

        Raises:
            ValueError: The operation does not exist.
        """
        check_operation(operation)
        counter = self._call_counts().operations.get(operation)
        return counter.arrived if counter else 0

    def refused(self, operation: str | None = None) -> int:
        """Return how many calls the cloud's limits have refused with 429; planned faults do not count.

        Args:
            operation: Count this operation only.

        Raises:
            ValueError: The operation does not exist.
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
            fault: The fault.
            nth: The first call that it affects, counted from now: 1 is the next one.
            times: The number of consecutive calls.

        Raises:
            ValueError: The operation does not exist, or a number is less than 1.
            TypeError: `fault` is not a fault.
        """
        check_operation(operation)
        check_occurrence(fault, nth, times)
        first = self.arrived(operation) + nth
        script = [ScriptedFault(operation=operation, nth=first + more, fault=fault) for more in range(times)]
        self._request("POST", "/_admin/faults", msgspec.json.encode(script))

    def drift(self, plan: Collection[AnyDrift]) -> None:
        """Plan changes of servers that no call asks for; see `SimulatedCloud.drift`.

        Args:
            plan: The changes, with their seconds from now.

        Raises:
            ValueError: A change is none that can happen.
        """
        self._request("POST", "/_admin/drift", msgspec.json.encode([tuple(each) for each in plan]))

    def revoke_tokens(self) -> int:
        """Revoke all issued tokens, but not that of the settings; returns how many were valid."""
        revoked: int = self._request("DELETE", "/_admin/tokens")["revoked"]
        return revoked

    def _call_counts(self) -> CallCounts:
        return msgspec.convert(self._request("GET", "/_admin/calls"), CallCounts)

    def _request(self, method: str, path: str, body: bytes | None = None) -> Mapping[str, Any]:
        if not self.is_running:
            raise RuntimeError(self._describe_end())
        # http.client ignores the proxies of the environment.
        connection = http.client.HTTPConnection(_HOST, self._port, timeout=_RESPONSE_TIMEOUT)
        try:
            connection.request(method, path, body)
            response = connection.getresponse()
            text = response.read()
        finally:
            connection.close()
        if response.status != _OK:
            raise ValueError(f"the simulator refused {method} {path}: {text.decode(errors='replace')}")
        result: dict[str, Any] = json.loads(text)
        return result

    def _read_first_line(self) -> str:
        process = self._process
        if process is None or process.stdout is None:
            return ""
        # Pipes cannot be read with a timeout on every system, but a read ends when the process does.
        late = threading.Event()

        def end_late() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(_START_TIMEOUT, end_late)
        timer.start()
        try:
            line = process.stdout.readline()
        finally:
            timer.cancel()
        if late.is_set():
            raise TimeoutError(f"the simulator did not accept calls within {_START_TIMEOUT:.0f} s")
        return line

    def _describe_end(self) -> str:
        if self._process is None or self._stderr is None:
            return _NEVER_STARTED if not self._port else "the simulator was stopped; start() starts it again"
        code = self._process.wait()
        self._stderr.seek(0)
        last_line = self._stderr.read().strip().splitlines()[-1:] or ["no error was printed"]
        return f"the simulator has ended with exit code {code}: {last_line[0]}"

    def _release(self) -> None:
        if self._process is not None:
            for pipe in (self._process.stdin, self._process.stdout):
                if pipe is not None:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()
        if self._stderr is not None:
            self._stderr.close()
        self._process = self._stderr = None
