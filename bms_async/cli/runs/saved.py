"""Reads what an earlier version saved of a run in a file: its servers, and what is known of each.

The file is lines of JSON. The first describes the run; the others say what was about to be done and what was done, in
order. A line that was cut off is ignored: it was written before the action, which had not been started yet.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bms_async import BmsClient, InvalidRequestError, JobHandle
from bms_async._files import FileLock
from bms_async.cli.terminal.exit import UsageError, in_words_of_a_shell
from bms_async.cli.terminal.texts import describe_os_error, verb_in
from bms_async.models.ids import canonical_id

__all__ = [
    "AskedEntry",
    "EndEntry",
    "JobEntry",
    "RefusedEntry",
    "ResumedEntry",
    "RunHeader",
    "SavedRun",
    "is_file",
    "key_of_file",
    "read_resumed",
    "read_saved",
    "restore_jobs",
    "resume_lock",
]  # fmt: skip

VERSION = 1


class RunHeader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first line.

    Attributes:
        ids: All servers of the run.
        ahead: Whether each batch is noted before it is sent.
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
    ahead: bool = False


class AskedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The line of a batch that is about to be sent. As the last line, it leaves open whether it was.

    Attributes:
        asked: Its servers.
    """

    asked: tuple[str, ...]


class RefusedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The line of a batch that the cloud certainly refused.

    Attributes:
        refused: Its servers.
    """

    refused: tuple[str, ...]


class JobEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The line of a job.

    Attributes:
        job: The output of `JobHandle.to_json`.
    """

    job: msgspec.Raw


class ResumedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The line of a resumed run; it overrides the `left` of an earlier end.

    Attributes:
        resumed: When it was resumed.
    """

    resumed: str


class EndEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The line of a run that ended in order.

    Attributes:
        left: The servers that may be asked for again.
        in_doubt: Servers that must not be: they were asked for, no response came, and a second time would do harm.
    """

    left: tuple[str, ...]
    in_doubt: tuple[str, ...] = ()


class _JobServers(msgspec.Struct):
    job_id: str
    servers: tuple[str, ...] = ()


class SavedRun(msgspec.Struct, frozen=True, kw_only=True):
    """The content of a file of saved jobs.

    Attributes:
        head: The header of the run; None in a file of handles alone.
        jobs: The handles, for `bms.jobs.restore`.
        left: Servers that are still to be asked for, by the run itself; None if it was killed.
        unasked: Servers that have no job and that, as far as is known, nothing was done to.
        in_doubt: Servers to leave alone: it is not known whether the cloud accepted them.
        is_certain: Whether `unasked` were certainly not asked for. It is False for a run that was killed and did not
            note each batch before it was sent.
    """

    head: RunHeader | None
    jobs: tuple[str, ...]
    left: tuple[str, ...] | None
    unasked: tuple[str, ...] = ()
    in_doubt: tuple[str, ...] = ()
    is_certain: bool = True

    def check_cloud(self, path: str, endpoint: str, project_id: str | None) -> None:
        """Refuse a file of another cloud or project.

        Raises:
            UsageError: The run's endpoint is not `endpoint`, or its project is not `project_id`, if that is known.
        """
        if self.head is not None and self.head.endpoint != endpoint:
            raise UsageError(f"{path} was saved for {self.head.endpoint}, but the settings name {endpoint}")
        if self.head is not None and project_id and self.head.project_id != project_id:
            raise UsageError(f"{path} was saved for project {self.head.project_id}, but the settings name {project_id}")


class _Reader:
    """Reads the lines one after another, and keeps the state that they add up to."""

    def __init__(self) -> None:
        self.head: RunHeader | None = None
        self.jobs: list[str] = []
        self.left: tuple[str, ...] | None = None
        self.is_certain = False
        self._ended_with: tuple[str, ...] | None = None
        self._in_jobs: set[str] = set()
        self._in_doubt: dict[str, str] = {}
        self._pending: dict[str, str] = {}

    def read_header(self, text: bytes) -> None:
        self.head = msgspec.json.decode(text, type=RunHeader)
        self.is_certain = self.head.ahead

    def read_entry(self, text: bytes) -> None:
        kinds = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        if "left" in kinds:
            end = msgspec.json.decode(text, type=EndEntry)
            self.left = self._ended_with = end.left
            self._in_doubt |= {canonical_id(server): server for server in end.in_doubt}
            # The end names all servers in doubt, so that no earlier batch is pending.
            self._pending.clear()
            self.is_certain = True
            return
        if "resumed" not in kinds and self.left is not None:
            # It was resumed by a version that did not note batches before they were sent.
            self.is_certain = False
        # The run went on after its end, so that `left` is out of date.
        self.left = None
        if "resumed" in kinds:
            # The resumed run leaves servers alone that were in doubt before it, and does not name them at its end.
            self._in_doubt |= self._pending
            self._pending.clear()
        elif "asked" in kinds:
            asked = msgspec.json.decode(text, type=AskedEntry).asked
            self._pending |= {canonical_id(server): server for server in asked}
        elif "refused" in kinds:
            self._forget(msgspec.json.decode(text, type=RefusedEntry).refused)
        else:
            job = bytes(kinds["job"]).decode() if "job" in kinds else text.decode()
            servers = msgspec.json.decode(job, type=_JobServers).servers
            self.jobs.append(job)
            self._in_jobs.update(map(canonical_id, servers))
            self._forget(servers)

    def _forget(self, servers: Sequence[str]) -> None:
        for server in servers:
            self._pending.pop(canonical_id(server), None)

    def in_doubt(self) -> tuple[str, ...]:
        return tuple((self._in_doubt | self._pending).values())

    def unasked(self) -> tuple[str, ...]:
        if self.left is not None or self.head is None:
            return self.left or ()
        asked = self._in_jobs.union(self._in_doubt, self._pending)
        # Servers that failed before an orderly end have their outcome.
        candidates = self.head.ids if self._ended_with is None else self._ended_with
        return tuple(server for server in candidates if canonical_id(server) not in asked)


def read_saved(path: str) -> SavedRun:
    """Read a file of saved jobs: one that a run left, or handles as `JobHandle.to_json` writes them, one a line.

    Raises:
        UsageError: It cannot be read, or is not such a file.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"the saved jobs cannot be read: {describe_os_error(error, names_file=True)}") from error
    # A text after the last newline was cut off while it was written.
    *lines, torn = data.split(b"\n")
    reader = _Reader()
    for position, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            if position == 1 and b'"bms_run"' in text[:40]:
                reader.read_header(text)
            else:
                reader.read_entry(text)
        except (msgspec.DecodeError, UnicodeError, RecursionError) as error:
            raise UsageError(f"{path}, line {position}: not a line that bms saves: {error}") from error
    head = reader.head
    if head is None and not reader.jobs:
        raise UsageError(f"{path}: no saved jobs in it{' (its only line was cut off)' if torn else ''}")
    if head is not None and head.bms_run != VERSION:
        raise UsageError(f"{path}: saved in version {head.bms_run}; this bms reads version {VERSION} only")
    return SavedRun(
        head=head,
        jobs=tuple(reader.jobs),
        left=reader.left,
        unasked=reader.unasked(),
        in_doubt=reader.in_doubt(),
        is_certain=reader.is_certain,
    )


def restore_jobs(bms: BmsClient, path: str, saved: SavedRun) -> list[JobHandle]:
    """Return handles of the saved jobs.

    Raises:
        UsageError: They belong to another project, or were not saved by bms.
    """
    try:
        return [bms.jobs.restore(job) for job in saved.jobs]
    except InvalidRequestError as error:
        raise UsageError(f"{path}: {in_words_of_a_shell(error)}") from error


def is_file(resume: str) -> bool:
    """Return whether what is to be resumed is a file, and no key: the path of one, or one of the usual name."""
    return (os.sep in resume or resume.endswith(".jsonl")) and Path(resume).is_file()


def key_of_file(path: str) -> str:
    """Return the key of the run in the journal that goes on with a file's: the same file leads to the same run."""
    return f"file-{hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]}"


def read_resumed(action: str, path: str) -> SavedRun:
    """Read the file of a run that is to be gone on with.

    Args:
        action: ``start``, ``stop`` or ``reboot``.
        path: The file.

    Raises:
        UsageError: It cannot be read, or has no run of that action.
    """
    saved = read_saved(path)
    if saved.head is None:
        raise UsageError(f"{path} has jobs and no run: `bms jobs watch --from {path}` watches them")
    began = verb_in(saved.head.action)
    if began != action:
        raise UsageError(f"{path} is a saved {began}: resume it with `bms {began} --resume {path}`")
    return saved


@contextmanager
def resume_lock(path: str) -> Iterator[None]:
    """Lock a file of saved jobs while its run is resumed, since an earlier version may still write it.

    Raises:
        UsageError: The file cannot be opened for writing, or another process runs or resumes this run.
    """
    lock = FileLock(Path(path), strict=False)
    try:
        acquired = lock.try_acquire()
    except OSError as error:
        raise UsageError(f"cannot resume the run: {error}") from error
    try:
        if not acquired:
            raise UsageError(f"{path}: another process is running it; to watch it: `bms jobs watch --from {path}`")
        yield
    finally:
        lock.release()
