"""What is kept between two calls of the command: where, and how it is written."""

from __future__ import annotations

import fcntl
import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from hashlib import sha256
from pathlib import Path

import anyio.to_thread
import msgspec

from bms_async import ConfigurationError, Limits

__all__ = [
    "LimitUsage", "let_go", "own_usage", "state_dir", "try_lock", "write_atomically",
]  # fmt: skip

_log = logging.getLogger("bms_async.cli")

_VERSION = 1
_LOCK_SECONDS = 2.0
_LOCK_PAUSE = 0.02
_LONGEST = 86_400.0
_SET_BACK = 2.0
_LOCK = "limits.lock"
_MUCH = 4096
_SLACK = 0.05
"""Seconds by which the day's clock and the loop's may differ over a minute; what is noted is so much later."""


def state_dir() -> Path:
    """Return the folder that state is kept in; it is not made.

    Raises:
        OSError: Nobody's home is known, nor is another place named.
    """
    named = os.environ.get("XDG_STATE_HOME", "")
    if Path(named).is_absolute():
        return Path(named) / "bms"
    try:
        return Path.home() / ".local" / "state" / "bms"
    except RuntimeError as error:
        raise OSError("there is no home folder; set XDG_STATE_HOME") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Write a file, for its owner alone, that is never seen half written.

    Raises:
        OSError: It cannot be written; what was there before still is.
    """
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        with suppress(OSError):
            Path(name).unlink(missing_ok=True)
        raise


def try_lock(descriptor: int) -> bool:
    """Lock a file until it is let go; tell whether nobody else has. A disk without locks is done without."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def let_go(descriptor: int) -> None:
    """Unlock a file and close it: closing alone leaves the lock to whatever process was forked meanwhile."""
    with suppress(OSError):
        fcntl.flock(descriptor, fcntl.LOCK_UN)
    os.close(descriptor)


class ProcessUsage(msgspec.Struct):
    """What one process has used: when it said so, and by operation when each slot comes back, in seconds since 1970."""

    written: float
    until: dict[str, list[float]]


class UsageFile(msgspec.Struct):
    """The file: a section a process."""

    version: int
    sections: dict[str, ProcessUsage]


class LimitUsage:
    """The slots that the commands of this machine have used, so that the next one keeps the limit together with them.

    What other programs and other machines use is not in it.

    Args:
        endpoint: The address of the service.
        project: The project.
        folder: Where it is kept; None keeps none.
        no_folder: Why there is no folder.

    Attributes:
        trouble: Why the last thing that was to be noted or read was not; None if all is well.
    """

    def __init__(self, endpoint: str, project: str, folder: Path | None, *, no_folder: str | None = None) -> None:
        self.trouble: str | None = None
        self._no_folder = no_folder
        name = sha256(f"{endpoint}\n{project}".encode()).hexdigest()[:20]
        self._path = None if folder is None else folder / f"limits-{name}.json"
        self._writer = f"{os.getpid()}-{time.time_ns()}"

    def used(self) -> dict[str, list[float]]:
        """Return the seconds until each used slot comes back, ascending, by operation."""
        now = time.time()
        found: dict[str, list[float]] = {}
        for section in self._read(now).sections.values():
            for operation, until in section.until.items():
                found.setdefault(operation, []).extend(moment - now for moment in until if moment > now)
        return {operation: sorted(seconds) for operation, seconds in found.items() if seconds}

    async def load(self, limits: Limits) -> None:
        """Count in what others have used; before the first call."""
        used = await anyio.to_thread.run_sync(self.used)
        try:
            limits.restore(used)
        except ConfigurationError as error:
            _log.debug("what was used is not taken into account: %s", error)

    async def save(self, limits: Limits) -> None:
        """Note what was used here, beside what others have noted."""
        now = time.time()
        ours = {
            operation: own_usage(seconds, limits[operation].statistics().calls)
            for operation, seconds in limits.snapshot().items()
        }
        section = ProcessUsage(
            written=now,
            until={
                name: [round(now + each + _SLACK, 2) for each in seconds] for name, seconds in ours.items() if seconds
            },
        )
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._write, section)

    def try_out(self) -> str | None:
        """Return why nothing can be noted, None if something can; nothing is."""
        if self._path is None:
            return self._no_folder
        try:
            folder = self._path.parent
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(folder / _LOCK), tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"\0" * _MUCH)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            return str(error)
        return self.trouble

    def _write(self, section: ProcessUsage) -> None:
        if self._path is None:
            self.trouble = self._no_folder if section.until else None
            return
        try:
            if not section.until and not self._path.exists():
                return
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(self._path.with_name(_LOCK)):
                self.trouble = None
                now = time.time()
                sections = {
                    writer: each
                    for writer, each in self._read(now).sections.items()
                    if writer != self._writer and any(until and until[-1] > now for until in each.until.values())
                }
                if section.until:
                    sections[self._writer] = section
                write_atomically(self._path, msgspec.json.encode(UsageFile(_VERSION, sections)))
        except OSError as error:
            self.trouble = str(error)
            _log.debug("%s cannot be written: %s", self._path, error)

    def _read(self, now: float) -> UsageFile:
        nothing = UsageFile(_VERSION, {})
        if self._path is None:
            return nothing
        try:
            book = msgspec.json.decode(self._path.read_bytes(), type=UsageFile)
        except FileNotFoundError:
            return nothing
        except (OSError, msgspec.DecodeError, UnicodeError) as error:
            if isinstance(error, OSError):
                # What is written over what cannot be read is lost to all; what is no book is nobody's.
                self.trouble = str(error)
            _log.debug("%s is ignored: %s", self._path, error)
            return nothing
        for writer, section in tuple(book.sections.items()):
            latest = max((until[-1] for until in section.until.values() if until), default=0.0)
            if book.version != _VERSION or section.written > now + _SET_BACK or latest > section.written + _LONGEST:
                _log.debug("%s: what %s noted is of another version, or of the future", self._path, writer)
                del book.sections[writer]
        return book


def own_usage(spent: Sequence[float], calls: int) -> Sequence[float]:
    """Return what was used here of all that is used.

    Args:
        spent: Seconds until each used slot comes back, ascending. What was loaded comes first: it came from before the
            first call, and no slot stays away for longer than another.
        calls: How many were made here.
    """
    return spent[max(0, len(spent) - calls) :]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Keep other commands from the file for a moment.

    Raises:
        OSError: It cannot be opened, or somebody keeps it for too long.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        until = time.monotonic() + _LOCK_SECONDS
        while not try_lock(descriptor):
            if time.monotonic() > until:
                raise TimeoutError(f"another process has kept {path} locked for {_LOCK_SECONDS:g} s")
            time.sleep(_LOCK_PAUSE)
        yield
    finally:
        let_go(descriptor)
