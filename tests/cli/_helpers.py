"""Running the command as a user would: in a process of its own, in a pipe or on a terminal."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import select
import signal
import sqlite3
import struct
import subprocess
import sys
import termios
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import chdir, closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyte
from click.testing import CliRunner

from bms_async.cli.app import app
from tests.support.machine import patience

PATIENCE = patience(60.0)
# What looks like a server's id, and is none's.
NO_SERVER = "00000000-0000-4000-8000-000000000000"
COMMAND = [sys.executable, "-W", "error", "-m", "bms_async.cli"]
# What a shell does for what it runs: the terminal becomes its own, so that Ctrl-C reaches it.
ON_A_TERMINAL = (
    "import fcntl, os, sys, termios\n"
    "os.setsid()\n"
    "fcntl.ioctl(2, termios.TIOCSCTTY, 0)\n"
    "os.execv(sys.executable, sys.argv[1:])\n"
)
# Each picture of the progress ends so, and the next one begins.
NEXT_PICTURE = re.compile(rb"(?<=\r\x1b\[C)")


def wait_until(condition: Callable[[], bool]) -> None:
    """Ask again and again until it is so."""
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, "it never came"
        time.sleep(0.05)


class Ended(NamedTuple):
    code: int
    out: str
    err: str

    @property
    def json(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


class Bms:
    """The command with an environment of its own, and a state folder that its runs share."""

    def __init__(self, exports: Mapping[str, str], state: Path) -> None:
        ours = ("BMS_", "OS_", "HUAWEICLOUD_", "XDG_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        for name in ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "TERM", "XTERM_VERSION"):
            inherited.pop(name, None)
        root = Path(__file__).resolve().parents[2]
        self.exports = exports
        self.state = state
        self.environment = {
            **inherited,
            **exports,
            "XDG_STATE_HOME": str(state),
            "XDG_CONFIG_HOME": str(state),
            "NO_PROXY": "127.0.0.1",
            "PYTHONPATH": str(root),
            "LC_ALL": "C.UTF-8",
        }

    @property
    def journal(self) -> Path:
        """The file that all runs of this user on this machine are in."""
        return self.state / "bms" / "runs.db"

    @property
    def runs(self) -> list[dict[str, Any]]:
        """All runs, the latest first."""
        return self("runs", "list", "--json").json

    def run(self, key: str) -> dict[str, Any]:
        """All that is shown of a run."""
        [shown] = self("runs", "show", key, "--json").json
        return shown

    def bury(self) -> None:
        """Let the lease of whatever was killed be over, as it is after 15 seconds."""
        with closing(sqlite3.connect(self.journal)) as connection, connection:
            connection.execute("UPDATE bms_async_batches SET lease = -1")
            connection.execute("UPDATE bms_async_jobs SET lease = -1")

    def __call__(self, *arguments: str, text: str = "", changes: Mapping[str, str | None] | None = None) -> Ended:
        """Run it in this process, which takes a tenth of the time and has blockbuster watch it."""
        environment = dict.fromkeys(os.environ) | self.environment | dict(changes or {})
        with chdir(self.state):
            result = CliRunner().invoke(
                app, list(arguments), input=text, env=environment, prog_name="bms", color=False, catch_exceptions=False
            )
        return Ended(result.exit_code, result.stdout, result.stderr)

    def in_a_process(self, *arguments: str, text: str = "") -> Ended:
        done = subprocess.run(
            [*COMMAND, *arguments],
            input=text,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
            cwd=self.state,
        )
        return Ended(done.returncode, done.stdout, done.stderr)

    def ids(self, tag: str) -> list[str]:
        return self("servers", "list", "--tag", tag, "--ids").out.split()

    @contextmanager
    def in_a_pipe(self, *arguments: str, command: Sequence[str] = COMMAND) -> Iterator[subprocess.Popen[str]]:
        process = subprocess.Popen(
            [*command, *arguments],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=self.state,
        )
        with process:
            try:
                yield process
            finally:
                process.kill()

    @contextmanager
    def on_a_terminal(
        self, *arguments: str, columns: int = 80, lines: int = 24, command: Sequence[str] = COMMAND, **changes: str
    ) -> Iterator[Terminal]:
        terminal = Terminal([*command, *arguments], {**self.environment, **changes}, columns, lines, self.state)
        try:
            yield terminal
        finally:
            terminal.close()


class Terminal:
    """A terminal that the command runs on, and what is to be seen there."""

    def __init__(self, command: list[str], environment: Mapping[str, str], columns: int, lines: int, cwd: Path) -> None:
        self.screen = pyte.HistoryScreen(columns, lines, history=1000)
        self._stream = pyte.ByteStream(self.screen)
        self.received = b""
        self._pictures: deque[bytes] = deque()
        self._ours, theirs = pty.openpty()
        self._set_size(columns, lines)
        self.process = subprocess.Popen(
            [sys.executable, "-c", ON_A_TERMINAL, *command],
            # What pyte is: it moves no rest of a line to the next when it becomes narrower.
            env={"TERM": "linux", **environment},
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=cwd,
        )
        os.close(theirs)

    @property
    def shown(self) -> list[str]:
        return [line.rstrip() for line in self.screen.display if line.strip()]

    @property
    def text(self) -> str:
        return "\n".join(self.shown)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Read until something is to be seen, if only in one picture of many that came at once."""
        until = time.monotonic() + PATIENCE
        while not condition():
            left = until - time.monotonic()
            assert left > 0, f"it never came; what is to be seen is\n{self.text}"
            assert self._read(left), f"the command ended before it came; what is to be seen is\n{self.text}"

    def wait_for_text(self, text: str) -> None:
        self.wait_for(lambda: text in self.text)

    def interrupt_twice(self) -> None:
        """Press Ctrl-C, and once more when that cannot pass for the same press."""
        self.send("\x03")
        self.wait_for_text("Ctrl-C again to let go")
        times = set[str]()

        def has_moved() -> bool:
            times.update(re.findall(r"/(?:s|min) +(\d+:\d\d)", self.text))
            return len(times) > 2

        self.wait_for(has_moved)
        self.send("\x03")

    def send(self, keys: str) -> None:
        os.write(self._ours, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        self.screen.resize(lines, columns)
        self._set_size(columns, lines)

    def end(self) -> int:
        """Read to the end, and return the exit code."""
        until = time.monotonic() + PATIENCE
        while self._read(max(0.1, until - time.monotonic())):
            assert time.monotonic() < until, self.text
        return self.process.wait(timeout=PATIENCE)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        os.close(self._ours)

    def _set_size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._ours, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self, seconds: float) -> bool:
        if self._pictures:
            self._stream.feed(self._pictures.popleft())
            return True
        ready, _, _ = select.select([self._ours], [], [], seconds)
        if not ready:
            return True
        try:
            data = os.read(self._ours, 65536)
        except OSError:
            return False
        self.received += data
        self._pictures.extend(each for each in NEXT_PICTURE.split(data) if each)
        return bool(data)


@contextmanager
def simulator(*arguments: str) -> Iterator[dict[str, str]]:
    """Run a simulator by the command itself, and yield what it says is to be exported."""
    with _serving(*arguments) as line:
        yield dict(each.split("=", 1) for each in line.removeprefix("export ").split())


@contextmanager
def told_by_simulator() -> Iterator[dict[str, str]]:
    """The same, and yield all that it tells to log in with."""
    with _serving("--json", "--servers", "3") as line:
        yield json.loads(line)


@contextmanager
def _serving(*arguments: str) -> Iterator[str]:
    process = subprocess.Popen(
        [*COMMAND, "simulator", *arguments],
        env=Bms({}, Path.cwd()).environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    with process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline()
        finally:
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE)
