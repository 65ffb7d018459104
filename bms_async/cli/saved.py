"""What a run has left on the disk, read back: which servers it was about, and what is known of each.

The file is lines of JSON. The first tells the run; what follows tells what was about to be done and what was done, in
its order. A line that was cut off counts as not there: what it was about to tell had not been done yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import msgspec

from bms_async import BmsClient, InvalidRequestError, JobHandle
from bms_async._files import FileLock
from bms_async.models.ids import canonical_id

from .exit import UsageError

__all__ = [
    "AskedEntry",
    "EndEntry",
    "JobEntry",
    "RefusedEntry",
    "ResumedEntry",
    "RunHeader",
    "SavedRun",
    "read_saved",
    "restore_jobs",
    "resume_lock",
]  # fmt: skip

VERSION = 1


class RunHeader(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The first line.

    Attributes:
        ids: All servers of the run.
        ahead: Whether the servers of each batch are told before they are asked for.
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
    """The line of a batch that is about to be sent: whoever reads it last cannot know whether it was.

    Attributes:
        asked: Its servers.
    """

    asked: tuple[str, ...]


class RefusedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The line of a batch that the cloud surely did not take.

    Attributes:
        refused: Its servers.
    """

    refused: tuple[str, ...]


class JobEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The line of a job.

    Attributes:
        job: What `JobHandle.to_json` wrote.
    """

    job: msgspec.Raw


class ResumedEntry(msgspec.Struct, frozen=True, kw_only=True):
    """The line of a run that is gone on with: what was left before is not any more.

    Attributes:
        resumed: When that was.
    """

    resumed: str


class EndEntry(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """The line of a run that was ended in order.

    Attributes:
        left: The servers that may be asked for again.
        in_doubt: Those that must not be: they were asked for, no answer came, and a second time is not as good as once.
    """

    left: tuple[str, ...]
    in_doubt: tuple[str, ...] = ()


class _OfJob(msgspec.Struct):
    job_id: str
    servers: tuple[str, ...] = ()


class SavedRun(msgspec.Struct, frozen=True, kw_only=True):
    """What a file of saved jobs holds.

    Attributes:
        head: What the run was; None in a file of handles alone.
        jobs: The handles, as `bms.jobs.restore` takes them.
        left: Servers that are to be asked for; None if the run was killed, so that only what it had told before tells.
        unasked: The servers that no job is about and that, as far as is known, nothing was done to.
        in_doubt: Servers that are left alone: nobody knows whether the cloud took them.
        is_certain: Whether `unasked` were surely not asked for. Of a run that was killed and had not told of each batch
            before it was sent, nobody knows.
        size: How many bytes of the file that is.
    """

    head: RunHeader | None
    jobs: tuple[str, ...]
    left: tuple[str, ...] | None
    unasked: tuple[str, ...] = ()
    in_doubt: tuple[str, ...] = ()
    is_certain: bool = True
    size: int

    def check_cloud(self, path: str, endpoint: str) -> None:
        """Refuse a file that is of another cloud.

        Raises:
            UsageError: It is.
        """
        if self.head is not None and self.head.endpoint != endpoint:
            raise UsageError(f"{path} is of {self.head.endpoint}, and the settings lead to {endpoint}")


class _Reader:
    """Takes the lines in, one after another."""

    def __init__(self) -> None:
        self.head: RunHeader | None = None
        self.jobs: list[str] = []
        self.left: tuple[str, ...] | None = None
        self.is_certain = False
        self._ended_with: tuple[str, ...] | None = None
        self._in_jobs: set[str] = set()
        self._doubtful: dict[str, str] = {}
        self._pending: dict[str, str] = {}

    def take_head(self, text: bytes) -> None:
        self.head = msgspec.json.decode(text, type=RunHeader)
        self.is_certain = self.head.ahead

    def take(self, text: bytes) -> None:
        kinds = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
        if "left" in kinds:
            end = msgspec.json.decode(text, type=EndEntry)
            self.left = self._ended_with = end.left
            self._doubtful |= {canonical_id(each): each for each in end.in_doubt}
            # Whoever ended it has told of all that were asked for until then.
            self._pending.clear()
            self.is_certain = True
            return
        if "resumed" not in kinds and self.left is not None:
            # What went on with it was a version that told of no batch before it was sent.
            self.is_certain = False
        # Whatever was left when a run was ended, it has been resumed since.
        self.left = None
        if "resumed" in kinds:
            # The run that goes on leaves alone what was in doubt before it, and tells nothing of it when it ends.
            self._doubtful |= self._pending
            self._pending.clear()
        elif "asked" in kinds:
            asked = msgspec.json.decode(text, type=AskedEntry).asked
            self._pending |= {canonical_id(each): each for each in asked}
        elif "refused" in kinds:
            self._forget(msgspec.json.decode(text, type=RefusedEntry).refused)
        else:
            job = bytes(kinds["job"]).decode() if "job" in kinds else text.decode()
            servers = msgspec.json.decode(job, type=_OfJob).servers
            self.jobs.append(job)
            self._in_jobs.update(map(canonical_id, servers))
            self._forget(servers)

    def _forget(self, servers: Sequence[str]) -> None:
        for each in servers:
            self._pending.pop(canonical_id(each), None)

    def in_doubt(self) -> tuple[str, ...]:
        return tuple((self._doubtful | self._pending).values())

    def unasked(self) -> tuple[str, ...]:
        if self.left is not None or self.head is None:
            return self.left or ()
        asked = self._in_jobs.union(self._doubtful, self._pending)
        # What failed before it was ended in order has its outcome.
        whole = self.head.ids if self._ended_with is None else self._ended_with
        return tuple(each for each in whole if canonical_id(each) not in asked)


def read_saved(path: str) -> SavedRun:
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
    reader = _Reader()
    for position, text in enumerate(lines, 1):
        if not text.strip():
            continue
        try:
            if position == 1 and b'"bms_run"' in text[:40]:
                reader.take_head(text)
            else:
                reader.take(text)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise UsageError(f"{path}, line {position}: not what bms saves: {error}") from error
    head = reader.head
    if head is None and not reader.jobs:
        raise UsageError(f"{path}: there are no saved jobs in it{' (its only line was cut off)' if torn else ''}")
    if head is not None and head.bms_run != VERSION:
        raise UsageError(f"{path}: this version of bms reads version {VERSION} only")
    return SavedRun(
        head=head,
        jobs=tuple(reader.jobs),
        left=reader.left,
        unasked=reader.unasked(),
        in_doubt=reader.in_doubt(),
        is_certain=reader.is_certain,
        size=len(data) - len(torn),
    )


def restore_jobs(bms: BmsClient, path: str, saved: SavedRun) -> list[JobHandle]:
    """Return handles of the saved jobs.

    Raises:
        UsageError: They are of another project, or not what bms saves.
    """
    try:
        return [bms.jobs.restore(job) for job in saved.jobs]
    except InvalidRequestError as error:
        raise UsageError(f"{path}: {error}") from error


@contextmanager
def resume_lock(path: str) -> Iterator[None]:
    """Lock a file of saved jobs while its run is resumed.

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
