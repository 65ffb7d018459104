"""What is saved of a run: the servers it is about and the jobs that it began, so that another process can go on.

A file of lines of JSON, for its owner alone. The first tells the run, each other one a job; lines are only ever added,
so that a run of many jobs costs no more each time, and a line that was cut off counts as not there.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from bms_async import BmsClient, InvalidRequestError, JobHandle

from .exit import UsageError, say
from .state import state_folder

__all__ = ["Journal", "Saved", "read_saved", "restore_jobs", "taken_over"]

_VERSION = 1


class Head(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first line.

    Attributes:
        ids: All servers of the run.
    """

    bms_run: int
    action: str
    endpoint: str
    project_id: str
    started: str
    ids: tuple[str, ...]
    wave: int | None = None
    abort_above: float | None = None
    verify: bool = False


class JobLine(msgspec.Struct, frozen=True, kw_only=True):
    """The line of a job.

    Attributes:
        job: What `JobHandle.to_json` wrote.
    """

    job: msgspec.Raw


class EndLine(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The line of a run that was ended in order.

    Attributes:
        left: The servers that may be asked for again.
        doubtful: Those that must not be: they were asked for, no answer came, and a second time is not as good as once.
    """

    left: tuple[str, ...]
    doubtful: tuple[str, ...] = ()


class _OfJob(msgspec.Struct):
    job_id: str
    servers: tuple[str, ...] = ()


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """What a file of saved jobs holds.

    Attributes:
        head: What the run was; None in a file of handles alone.
        jobs: The handles, as `bms.jobs.restore` takes them.
        left: Servers that are to be asked for; None if the run was killed, so that only its jobs tell what was done.
        doubtful: Servers that are left alone: nobody knows whether the cloud took them.
        size: How many bytes of the file that is.
    """

    head: Head | None
    jobs: tuple[str, ...]
    left: tuple[str, ...] | None
    doubtful: tuple[str, ...] = ()
    size: int

    def check_cloud(self, path: str, endpoint: str) -> None:
        """Refuse a file that is of another cloud.

        Raises:
            UsageError: It is.
        """
        if self.head is not None and self.head.endpoint != endpoint:
            raise UsageError(f"{path} is of {self.head.endpoint}, and the settings lead to {endpoint}")

    @property
    def unasked(self) -> tuple[str, ...]:
        """The servers that no job is about and that, as far as is known, nothing was done to."""
        if self.left is not None or self.head is None:
            return self.left or ()
        asked = {server for job in self.jobs for server in msgspec.json.decode(job, type=_OfJob).servers}
        asked.update(self.doubtful)
        return tuple(server for server in self.head.ids if server not in asked)


class Journal:
    """Saves the jobs of a run as the cloud accepts them. A disk that is full is told of once, and loses no run.

    A new file is locked until it is closed: nobody goes on with a run that goes on.

    Args:
        path: The file; None names one in the state folder.
        head: What the run is.
        size: How many bytes are in the file already, where the run is resumed; what comes after them goes.
    """

    def __init__(self, path: Path | None, head: Head, *, size: int = 0) -> None:
        self._head = head
        self._path = path
        self._waiting: list[bytes] = [] if size else [_encode(head)]
        self._end = size
        self._descriptor: int | None = None
        self._failed = False
        self._lock = anyio.Lock()
        self.jobs: list[str] = []

    @property
    def path(self) -> Path | None:
        """The file, None as long as there is none that somebody could read."""
        return self._path if self._end and not self._waiting else None

    async def add(self, job: JobHandle) -> None:
        """Save a job."""
        self.jobs.append(job.id)
        await self._append(JobLine(job=msgspec.Raw(job.to_json().encode())))

    async def close(self, left: Sequence[str], doubtful: Sequence[str] = ()) -> None:
        """Save which servers may be asked for again, and which must not be; the run has been ended before its end."""
        if self.jobs or self._end:
            await self._append(EndLine(left=tuple(left), doubtful=tuple(doubtful)))
        self._release()

    async def remove(self) -> None:
        """Remove the file: all has ended."""
        if self._path is not None and (self._end or self._descriptor is not None):
            with suppress(OSError):
                await anyio.to_thread.run_sync(self._path.unlink)
        self._release()

    async def _append(self, line: JobLine | EndLine) -> None:
        self._waiting.append(_encode(line))
        # The caller may be cancelled by Ctrl-C at this very moment, and this is what it is for.
        with anyio.CancelScope(shield=True):
            async with self._lock:
                # Fifty jobs are accepted at once, and who writes first writes for all.
                if self._waiting:
                    await anyio.to_thread.run_sync(self._write, tuple(self._waiting))

    def _write(self, lines: tuple[bytes, ...]) -> None:
        data = b"".join(lines)
        try:
            if self._descriptor is None:
                path = self._path or self._choose()
                # What is there already is somebody's, and is neither written over nor removed.
                make = 0 if self._end else os.O_CREAT | os.O_EXCL
                self._descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | make, 0o600)
                self._path = path
                _lock(self._descriptor)
            # What a full disk left of a line goes first.
            os.ftruncate(self._descriptor, self._end)
            os.lseek(self._descriptor, self._end, os.SEEK_SET)
            _write_all(self._descriptor, data)
            os.fsync(self._descriptor)
        except OSError as error:
            if not self._failed:
                self._failed = True
                say(f"jobs cannot be saved ({error}); the run goes on, and it is tried again with each job")
            return
        self._end += len(data)
        del self._waiting[: len(lines)]

    def _release(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def _choose(self) -> Path:
        folder = state_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = self._head.action.removeprefix("servers.")
        return folder / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}.jsonl"


def make_head(
    action: str,
    *,
    endpoint: str,
    project_id: str,
    ids: Sequence[str],
    wave: int | None,
    abort_above: float | None,
    verify: bool,
) -> Head:
    """Return the first line for a run that begins now."""
    return Head(
        bms_run=_VERSION,
        action=action,
        endpoint=endpoint,
        project_id=project_id,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        ids=tuple(ids),
        wave=wave,
        abort_above=abort_above,
        verify=verify,
    )


@contextmanager
def taken_over(path: str) -> Iterator[None]:
    """Keep others from a file of saved jobs, while a run goes on with it.

    Raises:
        UsageError: It cannot be opened for that, or a run goes on with it already.
    """
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError as error:
        raise UsageError(f"cannot go on with the saved jobs: {error}") from error
    try:
        if not _lock(descriptor):
            raise UsageError(
                f"{path}: a run goes on with it at this moment; to look on: `bms jobs watch --from {path}`"
            )
        yield
    finally:
        os.close(descriptor)


def read_saved(path: str) -> Saved:
    """Read a file of saved jobs: one that a run left, or handles as `JobHandle.to_json` writes them, one a line.

    Raises:
        UsageError: It cannot be read, or is no such file.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read the saved jobs: {error}") from error
    # What follows the last line end was cut off while it was written.
    *lines, torn = data.split(b"\n")
    head: Head | None = None
    jobs: list[str] = []
    left: tuple[str, ...] | None = None
    doubtful: list[str] = []
    for position, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            if position == 1 and b'"bms_run"' in text[:40]:
                head = msgspec.json.decode(text, type=Head)
                continue
            kinds = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
            if "left" in kinds:
                end = msgspec.json.decode(text, type=EndLine)
                left = end.left
                doubtful += end.doubtful
                continue
            # Whatever was left when a run was ended, it has been resumed since.
            left = None
            jobs.append(bytes(kinds["job"]).decode() if "job" in kinds else text.decode())
            msgspec.json.decode(jobs[-1], type=_OfJob)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise UsageError(f"{path}, line {position}: not what bms saves: {error}") from error
    if head is None and not jobs:
        raise UsageError(f"{path}: there are no saved jobs in it{' (its only line was cut off)' if torn else ''}")
    if head is not None and head.bms_run != _VERSION:
        raise UsageError(f"{path}: this version of bms reads version {_VERSION} only")
    return Saved(head=head, jobs=tuple(jobs), left=left, doubtful=tuple(doubtful), size=len(data) - len(torn))


def restore_jobs(bms: BmsClient, path: str, saved: Saved) -> list[JobHandle]:
    """Return handles of the saved jobs.

    Raises:
        UsageError: They are of another project, or not what bms saves.
    """
    try:
        return [bms.jobs.restore(job) for job in saved.jobs]
    except InvalidRequestError as error:
        raise UsageError(f"{path}: {error}") from error


def _encode(line: Head | JobLine | EndLine) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def _lock(descriptor: int) -> bool:
    """Lock a file as long as it is open; tell whether nobody else has. A disk without locks is done without."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
