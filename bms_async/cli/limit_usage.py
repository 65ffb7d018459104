"""Rate-limit usage that is kept between two runs of the command, so that they keep the limits together."""

from __future__ import annotations

import logging
import os
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from bms_async import ConfigurationError
from bms_async._files import FileLock, write_atomically

if TYPE_CHECKING:
    from bms_async import Limits

__all__ = ["LimitUsage", "own_usage", "state_dir"]

_log = logging.getLogger("bms_async.cli")

_VERSION = 1
_LOCK_SECONDS = 2.0
_LOCK_PAUSE = 0.02
_MAX_AHEAD = 86_400.0
_CLOCK_TOLERANCE = 2.0
_LOCK = "limits.lock"
_PROBE_BYTES = 4096
_SLACK = 0.05
"""Seconds by which wall clock and loop clock may differ over a minute; recorded moments are so much later."""


def state_dir() -> Path:
    """Return the folder for state; it is not created.

    Raises:
        OSError: There is neither a home folder nor XDG_STATE_HOME.
    """
    named = os.environ.get("XDG_STATE_HOME", "")
    if Path(named).is_absolute():
        return Path(named) / "bms"
    try:
        return Path.home() / ".local" / "state" / "bms"
    except RuntimeError as error:
        raise OSError("there is no home folder; set XDG_STATE_HOME") from error


class ProcessUsage(msgspec.Struct):
    """The slots that one process has used.

    Attributes:
        written: When it recorded them, in seconds since 1970.
        until: By operation, when each slot comes back, in seconds since 1970, ascending.
    """

    written: float
    until: dict[str, list[float]]


class UsageFile(msgspec.Struct):
    """The content of the file: one section for each process."""

    version: int
    sections: dict[str, ProcessUsage]


class LimitUsage:
    """The rate-limit slots that the commands of this machine have used.

    Slots that other programs and other machines use are not included.

    Args:
        endpoint: The address of the service.
        project: The project.
        folder: Where the file is; None keeps none.
        no_folder: Why there is no folder.

    Attributes:
        failure: Why the last read or write failed; None if it did not.
    """

    def __init__(self, endpoint: str, project: str, folder: Path | None, *, no_folder: str | None = None) -> None:
        self.failure: str | None = None
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
        """Restore the slots that other commands used; before the first call."""
        import anyio.to_thread

        used = await anyio.to_thread.run_sync(self.used)
        try:
            limits.restore(used)
        except ConfigurationError as error:
            _log.debug("the recorded usage is ignored: %s", error)

    async def save(self, limits: Limits) -> None:
        """Record the slots used here, beside those that other commands recorded."""
        import anyio.to_thread

        now = time.time()
        ours = {
            operation: own_usage(seconds, limits[operation].statistics().calls)
            for operation, seconds in limits.snapshot().items()
        }
        section = ProcessUsage(
            written=now,
            until={
                name: [round(now + wait + _SLACK, 2) for wait in seconds] for name, seconds in ours.items() if seconds
            },
        )
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self._write, section)

    def check_writable(self) -> str | None:
        """Return why usage cannot be recorded, None if it can; nothing is recorded."""
        if self._path is None:
            return self._no_folder
        try:
            folder = self._path.parent
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(folder / _LOCK), tempfile.TemporaryFile(dir=folder) as file:
                file.write(b"\0" * _PROBE_BYTES)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            return str(error)
        return self.failure

    def _write(self, section: ProcessUsage) -> None:
        if self._path is None:
            self.failure = self._no_folder if section.until else None
            return
        try:
            if not section.until and not self._path.exists():
                return
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with _locked(self._path.with_name(_LOCK)):
                self.failure = None
                now = time.time()
                sections = {
                    writer: other
                    for writer, other in self._read(now).sections.items()
                    if writer != self._writer and any(until and until[-1] > now for until in other.until.values())
                }
                if section.until:
                    sections[self._writer] = section
                write_atomically(self._path, msgspec.json.encode(UsageFile(_VERSION, sections)))
        except OSError as error:
            self.failure = str(error)
            _log.debug("%s cannot be written: %s", self._path, error)

    def _read(self, now: float) -> UsageFile:
        nothing = UsageFile(_VERSION, {})
        if self._path is None:
            return nothing
        try:
            usage = msgspec.json.decode(self._path.read_bytes(), type=UsageFile)
        except FileNotFoundError:
            return nothing
        except (OSError, msgspec.DecodeError, UnicodeError, RecursionError) as error:
            if isinstance(error, OSError):
                # Rewriting an unreadable file loses what others recorded; a file of another kind holds nothing.
                self.failure = str(error)
            _log.debug("%s is ignored: %s", self._path, error)
            return nothing
        for writer, section in tuple(usage.sections.items()):
            latest = max((until[-1] for until in section.until.values() if until), default=0.0)
            if (
                usage.version != _VERSION
                or section.written > now + _CLOCK_TOLERANCE
                or latest > section.written + _MAX_AHEAD
            ):
                _log.debug("%s: the section of %s has another version, or is from the future", self._path, writer)
                del usage.sections[writer]
        return usage


def own_usage(spent: Sequence[float], calls: int) -> Sequence[float]:
    """Return the slots that this process used, of all that are used.

    Args:
        spent: Seconds until each used slot comes back, ascending. Restored slots come first: they were used before the
            first call here, and all slots stay away equally long.
        calls: The number of calls made here.
    """
    return spent[max(0, len(spent) - calls) :]


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Lock the usage files of all commands for a moment; a file system without locks is used without them.

    Raises:
        OSError: The lock file cannot be opened, or another process holds the lock for too long.
    """
    lock = FileLock(path, os.O_CREAT | os.O_NOFOLLOW, strict=False)
    try:
        until = time.monotonic() + _LOCK_SECONDS
        while not lock.try_acquire():
            if time.monotonic() > until:
                raise TimeoutError(f"another process has kept {path} locked for {_LOCK_SECONDS:g} s")
            time.sleep(_LOCK_PAUSE)
        yield
    finally:
        lock.release()
