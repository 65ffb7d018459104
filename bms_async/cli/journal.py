"""Saves a run while it goes on: its servers and its jobs, so that another process can resume it.

A write-ahead journal in lines of JSON, readable by its owner alone. The first line describes the run; lines
are only appended, so that each job costs the same, and a line that was cut off is ignored. `saved` reads the file.

A reboot notes each batch before it is sent, and a resumed run notes that before it asks for anything: a process that is
killed in between leaves a file by which no server is rebooted twice (rule R3).
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path

import anyio
import anyio.to_thread
import msgspec

from bms_async import BmsError, CallError, JobHandle
from bms_async._addresses import state_folder
from bms_async._files import FileLock, sync_folder

from .exit import UsageError, print_error
from .saved import (
    VERSION,
    AskedEntry,
    EndEntry,
    JobEntry,
    RefusedEntry,
    ResumedEntry,
    RunHeader,
    SavedRun,
    read_saved,
    restore_jobs,
    resume_lock,
)
from .texts import pluralize

__all__ = ["Journal", "NotSavedError", "SavedRun", "make_header", "read_saved", "restore_jobs", "resume_lock"]


class NotSavedError(BmsError):
    """Servers were not asked for, since the batch could not be noted first."""


class Journal:
    """Saves a run. A full disk is reported once, and does not end the run.

    A new file is locked until it is closed, so that nobody resumes a run that goes on.

    Args:
        path: The file; None names one in the state folder.
        head: The header of the run.
        size: The valid bytes in the file, where the run is resumed; the rest is cut off.
        in_doubt: Servers that may have been rebooted before the run was resumed; the file is kept for them.

    Attributes:
        jobs: The jobs of this run, without those that it was resumed with.
        on_unnoted: Called when a batch was not sent since it could not be noted first.
    """

    def __init__(self, path: Path | None, head: RunHeader, *, size: int = 0, in_doubt: Sequence[str] = ()) -> None:
        self._in_doubt = in_doubt
        self._head = head
        self._path = path
        self._waiting: list[bytes] = [] if size else [_encode(head)]
        self._end = size
        self._file: FileLock | None = None
        self._failure: OSError | None = None
        self._is_reported = False
        self._lock = anyio.Lock()
        self.jobs: list[str] = []
        self.on_unnoted: Callable[[], None] | None = None

    @property
    def path(self) -> Path | None:
        """The file, None as long as nothing complete is in it."""
        return self._path if self._end and not self._waiting else None

    async def resume(self) -> None:
        """Note that the run is resumed, before it asks for anything.

        Raises:
            UsageError: The file cannot be written.
        """
        now = datetime.now(UTC).isoformat(timespec="seconds")
        line = ResumedEntry(resumed=now)
        if not await self._append(line):
            self._waiting.remove(_encode(line))
            self._release()
            raise UsageError(
                f"cannot resume the run: {self._path} cannot be written ({self._failure}); nothing was asked for. Free"
                " some disk space, or make the file writable, and try again"
            )

    @asynccontextmanager
    async def asking(self, servers: tuple[str, ...]) -> AsyncIterator[None]:
        """Note servers before they are asked for, and afterwards if the cloud certainly refused.

        If no file could be created, the run cannot be resumed and goes on without one. Once there is a file, it must
        not say less than was done.

        Args:
            servers: A batch.

        Raises:
            NotSavedError: The file exists and cannot be written any more; the batch must not be sent.
        """
        line = AskedEntry(asked=servers)
        if not await self._append(line):
            if self._end:
                self._waiting.remove(_encode(line))
                if self.on_unnoted is not None:
                    self.on_unnoted()
                raise NotSavedError(
                    f"not asked for, since {self._path} cannot be written ({self._failure}): a resumed run could not"
                    " know that it was. Free some disk space, then go on with --resume"
                )
            self._print_failure()
        try:
            yield
        except CallError as error:
            if not error.maybe_done:
                await self._save(RefusedEntry(refused=servers))
            raise

    async def add(self, job: JobHandle) -> None:
        """Save a job."""
        self.jobs.append(job.id)
        await self._save(JobEntry(job=msgspec.Raw(job.to_json().encode())))

    async def close(self, left: Sequence[str], in_doubt: Sequence[str] = ()) -> None:
        """Save which servers may be asked for again and which must not be, where the run ended early."""
        if self.jobs or self._end:
            await self._save(EndEntry(left=tuple(left), in_doubt=(*self._in_doubt, *in_doubt)))
        self._release()

    async def remove(self) -> None:
        """Remove the file of a complete run. One that names servers in doubt is kept: nothing else names them all."""
        if self._in_doubt:
            await self.close(())
            servers = pluralize(len(self._in_doubt), "server")
            print_error(f"the last line of {self._path} names {servers} that may have been rebooted")
            return
        if self._path is not None and (self._end or self._file is not None):
            with suppress(OSError):
                await anyio.to_thread.run_sync(self._path.unlink)
        self._release()

    async def _save(self, line: msgspec.Struct) -> None:
        if not await self._append(line):
            self._print_failure()

    def _print_failure(self) -> None:
        if not self._is_reported:
            self._is_reported = True
            print_error(f"jobs cannot be saved ({self._failure}); the run continues, and each job is another attempt")

    async def _append(self, line: msgspec.Struct) -> bool:
        """Write a line, after the pending ones; return whether it is on the disk."""
        text = _encode(line)
        self._waiting.append(text)
        # Shielded: a Ctrl-C at this moment is what the journal is for.
        with anyio.CancelScope(shield=True):
            async with self._lock:
                # Fifty jobs are accepted at once; the first writer writes the lines of all.
                if self._waiting:
                    await anyio.to_thread.run_sync(self._write, tuple(self._waiting))
        return text not in self._waiting

    def _write(self, lines: tuple[bytes, ...]) -> None:
        data = b"".join(lines)
        try:
            descriptor = self._open()
            # A full disk may have left a part of a line.
            os.ftruncate(descriptor, self._end)
            os.lseek(descriptor, self._end, os.SEEK_SET)
            _write_all(descriptor, data)
            os.fsync(descriptor)
        except OSError as error:
            self._failure = error
            return
        self._end += len(data)
        del self._waiting[: len(lines)]

    def _open(self) -> int:
        """Return the descriptor of the file, which is opened and locked first if it is not yet."""
        if self._file is None:
            path = self._path or self._choose_path()
            # An existing file belongs to another run, and is neither overwritten nor removed.
            file = FileLock(path, 0 if self._end else os.O_CREAT | os.O_EXCL, strict=False)
            # Where the run is resumed, this process holds the lock already, by another descriptor.
            file.try_acquire()
            self._file, self._path = file, path
            if not self._end:
                sync_folder(path.parent)
        return self._file.open()

    def _release(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            file.release()

    def _choose_path(self) -> Path:
        folder = state_folder()
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        name = self._head.action.removeprefix("servers.")
        return folder / f"{name}-{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{os.getpid()}.jsonl"


def make_header(
    action: str,
    *,
    endpoint: str,
    project_id: str,
    ids: Sequence[str],
    wave: int | None,
    abort_above: float | None,
    verify: bool,
) -> RunHeader:
    """Return the header of a run that starts now."""
    return RunHeader(
        bms_run=VERSION,
        action=action,
        endpoint=endpoint,
        project_id=project_id,
        started=datetime.now(UTC).isoformat(timespec="seconds"),
        ids=tuple(ids),
        wave=wave,
        abort_above=abort_above,
        verify=verify,
        ahead=action == "servers.reboot",
    )


def _encode(line: msgspec.Struct) -> bytes:
    return msgspec.json.encode(line) + b"\n"


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
