"""Events as bytes: to be written into a journal, and read by another process or version.

What is guaranteed: what is read is what was written, except for secrets. A text that echoes one is written as it is
shown (R5).
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from typing import TypeAlias

import msgspec

from bms_async._plain_errors import from_plain, to_plain
from bms_async.errors import JobLostError, JournalError
from bms_async.journal import pack_ids, unpack_ids
from bms_async.models import Job, JobEntities, JobStatus, SubJob
from bms_async.models.free_text import map_free_text
from bms_async.redaction import shown_text

from .events import JobChanged, JobEnded, JobEvent, JobLost, JobStarted, SubJobEnded

_LEVEL = 1


class _Started(msgspec.Struct, tag="s", array_like=True, gc=False):
    action: str | None
    servers: bytes


class _Changed(msgspec.Struct, tag="c", array_like=True, gc=False):
    status: JobStatus


class _SubEnded(msgspec.Struct, tag="e", array_like=True, gc=False):
    server_id: str | None
    sub_job: SubJob


class _Ended(msgspec.Struct, tag="j", array_like=True, gc=False):
    job: Job


class _Lost(msgspec.Struct, tag="l", array_like=True, gc=False):
    error: object


_Packed: TypeAlias = _Started | _Changed | _SubEnded | _Ended | _Lost

_DECODER = msgspec.msgpack.Decoder(list[_Packed])


def pack_events(events: Iterable[JobEvent]) -> bytes:
    """Return events of one job as bytes.

    Args:
        events: The events, none of which is an `EventGap`.
    """
    packed = [_pack(event) for event in events]
    try:
        data = msgspec.msgpack.encode(packed, enc_hook=_encode_odd)
    except UnicodeEncodeError:
        data = msgspec.msgpack.encode([_encodable(each) for each in packed], enc_hook=_encode_odd)
    return zlib.compress(data, _LEVEL)


def unpack_events(job_id: str, data: bytes) -> Sequence[JobEvent]:
    """Return the events that `pack_events` packed.

    Args:
        job_id: Their job.
        data: The bytes.

    Raises:
        JournalError: The bytes are not what it returns.
    """
    try:
        return [_unpack(job_id, each) for each in _DECODER.decode(zlib.decompress(data))]
    except (zlib.error, msgspec.DecodeError) as error:
        raise JournalError(
            f"events of job {job_id} in the journal: expected what this version writes, got {error}; update bms_async "
            "here, or put back a copy of the journal"
        ) from error


def _pack(event: JobEvent) -> _Packed:
    match event:
        case JobStarted(action=action, servers=servers):
            return _Started(action, pack_ids(servers))
        case JobChanged(status=status):
            return _Changed(status)
        case SubJobEnded(server_id=server_id, sub_job=sub_job):
            return _SubEnded(server_id, sub_job)
        case JobEnded(job=job):
            return _Ended(job)
        case JobLost(error=error):
            return _Lost(to_plain(error))
    raise TypeError(f"event={type(event).__name__}: expected one of a job")


def _unpack(job_id: str, packed: _Packed) -> JobEvent:
    match packed:
        case _Started(action=action, servers=servers):
            return JobStarted(job_id=job_id, action=action, servers=tuple(unpack_ids(servers)))
        case _Changed(status=status):
            return JobChanged(job_id=job_id, status=status)
        case _SubEnded(server_id=server_id, sub_job=sub_job):
            return SubJobEnded(job_id=job_id, server_id=server_id, sub_job=sub_job)
        case _Ended(job=job):
            return JobEnded(job_id=job_id, job=job)
        case _Lost(error=plain):
            error = from_plain(plain)
            if not isinstance(error, JobLostError):
                lost = JobLostError(str(error), job_id=job_id, job=None)
                lost.__cause__ = error
                error = lost
            return JobLost(job_id=job_id, error=error)


def _encode_odd(value: object) -> object:
    # A text that echoes a secret is a str of a class of its own.
    if isinstance(value, str):
        return shown_text(value)
    raise NotImplementedError(f"{type(value).__name__}: expected what a job is made of")


def _encodable(packed: _Packed) -> _Packed:
    """Return the same with texts that UTF-8 has, where a cloud has sent half of a surrogate pair."""
    if isinstance(packed, _Ended):
        return _Ended(map_free_text(packed.job, _escape))
    if isinstance(packed, _SubEnded):
        job = map_free_text(Job(job_id="", entities=JobEntities(sub_jobs=(packed.sub_job,))), _escape)
        return _SubEnded(packed.server_id, job.sub_jobs[0])
    return packed


def _escape(text: str) -> str:
    return (shown_text(text) or "").encode(errors="backslashreplace").decode()
