"""Events as bytes: to be written into a journal, and read by another process or version.

What is guaranteed: what is read is what was written, except for secrets. A text that echoes one is written as it is
shown (R5).

How: sub-jobs that ended together are written by columns, their ids as bytes beside what can be compressed. The end of a
job names sub-jobs that were written before by their place among those, so that whoever reads it needs all blocks of
the job; the first byte of a block says so.

Rejected: the whole job once more in its end, which is half of all that a job leaves.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from typing import TypeAlias

import msgspec

from bms_async._plain_errors import from_plain, to_plain
from bms_async.errors import JobLostError, JournalError
from bms_async.journal import COPY_ADVICE, pack_ids, unpack_ids
from bms_async.models import Job, JobEntities, JobStatus, SubJob, SubJobEntities
from bms_async.models.free_text import map_free_text
from bms_async.models.ids import canonical_id
from bms_async.models.jobs import with_sub_jobs
from bms_async.redaction import shown_text

from .events import EventGap, JobChanged, JobEnded, JobEvent, JobLost, JobStarted, SubJobEnded
from .packed_subs import LEVEL, SubsEnded, encode_odd, pack_subs, unpack_subs

_WHOLE = b"\x01"
_REFERS_BACK = b"\x02"
Written: TypeAlias = Mapping[str, tuple[int, SubJob]]
"""The sub-jobs of a job that are written as `SubJobEnded`, each with its place among these, by `name_of`."""


class _Started(msgspec.Struct, tag="s", array_like=True, gc=False):
    action: str | None
    servers: bytes


class _Changed(msgspec.Struct, tag="c", array_like=True, gc=False):
    status: JobStatus


class _SubEnded(msgspec.Struct, tag="e", array_like=True, gc=False):
    sub_job: SubJob


class _Ended(msgspec.Struct, tag="j", array_like=True, gc=False):
    job: Job
    before: int
    places: bytes
    others: list[SubJob]


class _Lost(msgspec.Struct, tag="l", array_like=True, gc=False):
    error: object


class _Gap(msgspec.Struct, tag="g", array_like=True, gc=False):
    missed: int


_Packed: TypeAlias = _Started | _Changed | _SubEnded | SubsEnded | _Ended | _Lost | _Gap

_DECODER = msgspec.msgpack.Decoder(list[_Packed])
_PLACES_DECODER = msgspec.msgpack.Decoder(list[int])


def name_of(sub: SubJob) -> str:
    """Return what a sub-job is known by among all of its job: its server, or else its own id."""
    server_id = sub.server_id
    return canonical_id(server_id) if server_id else f"#{sub.job_id}"


def pack_events(events: Iterable[JobEvent], written: Written | None = None, before: int = 0) -> bytes:
    """Return events of one job as bytes.

    Args:
        events: The events.
        written: The sub-jobs that are written, those of these events included, which the end of the job refers to.
        before: How many sub-jobs are in the blocks before.
    """
    events = list(events)
    try:
        packed = _pack_all(events, written or {}, before)
        data = msgspec.msgpack.encode(packed, enc_hook=encode_odd)
    except UnicodeEncodeError:
        # UTF-8 has no text in which a cloud has sent half of a surrogate pair.
        packed = _pack_all([_encodable(event) for event in events], {}, before)
        data = msgspec.msgpack.encode(packed, enc_hook=encode_odd)
    refers_back = any(isinstance(each, _Ended) and each.before for each in packed)
    return (_REFERS_BACK if refers_back else _WHOLE) + data


def refers_back(data: bytes) -> bool:
    """Return whether events can only be read with all blocks of their job before them.

    Args:
        data: What `pack_events` returned.
    """
    return data.startswith(_REFERS_BACK)


def unpack_events(job_id: str, data: bytes, subs: list[SubJob] | None = None) -> Sequence[JobEvent]:
    """Return the events that `pack_events` packed; an `EventGap` for an end whose sub-jobs are not there any more.

    Args:
        job_id: Their job.
        data: The bytes.
        subs: The sub-jobs of all blocks of the job before, to which those of this one are added.

    Raises:
        JournalError: The bytes are not what it returns.
    """
    subs = [] if subs is None else subs
    events: list[JobEvent] = []
    try:
        for each in _decode(data):
            _unpack(job_id, each, events, subs)
    except (zlib.error, msgspec.DecodeError, ValueError, IndexError) as error:
        raise JournalError(
            f"events of job {job_id} in the journal: expected what this version writes, got {error}; update bms_async "
            f"here, {COPY_ADVICE}"
        ) from error
    return events


def _decode(data: bytes) -> list[_Packed]:
    if data[:1] not in (_WHOLE, _REFERS_BACK):
        raise ValueError(f"a block of kind {data[:1].hex()!r}")
    return _DECODER.decode(memoryview(data)[1:])


def _pack_all(events: Sequence[JobEvent], written: Written, before: int) -> list[_Packed]:
    packed: list[_Packed] = []
    for is_plain, group in groupby(events, _is_plain):
        if is_plain:
            packed.append(pack_subs([event.sub_job for event in group if isinstance(event, SubJobEnded)]))
        else:
            packed += [_pack(event, written, before) for event in group]
    return packed


def _is_plain(event: JobEvent) -> bool:
    """Return whether an event is the end of a sub-job with a server and an id, and nothing odd about it."""
    if type(event) is not SubJobEnded:
        return False
    about = event.sub_job.about
    return (
        type(about) is SubJobEntities
        and about.nic_id is None
        and about.errorcode_message is None
        and bool(about.server_id)
        and event.sub_job.job_id is not None
    )


def _pack(event: JobEvent, written: Written, before: int) -> _Packed:
    match event:
        case JobStarted(action=action, servers=servers):
            return _Started(action, pack_ids(servers))
        case JobChanged(status=status):
            return _Changed(status)
        case SubJobEnded(sub_job=sub_job):
            return _SubEnded(sub_job)
        case JobEnded(job=job):
            return _pack_end(job, written, before)
        case JobLost(error=error):
            return _Lost(to_plain(error))
        case EventGap(missed=missed):
            return _Gap(missed)
    raise TypeError(f"event={type(event).__name__}: expected one of a job")


def _pack_end(job: Job, written: Written, before: int) -> _Ended:
    places: list[int] = []
    others: list[SubJob] = []
    # The very same object in nearly all cases.
    same = {id(sub): place for place, sub in written.values()}
    for sub in job.sub_jobs:
        place = same.get(id(sub), -1)
        if place < 0:
            found, known = written.get(name_of(sub), (-1, None))
            place = found if known == sub else -1
        if place < 0:
            others.append(sub)
        places.append(place)
    head = job if job.entities is None or job.entities.sub_jobs is None else with_sub_jobs(job, ())
    packed = zlib.compress(msgspec.msgpack.encode(places), LEVEL)
    return _Ended(head, before if len(others) < len(places) else 0, packed, others)


def _unpack(job_id: str, packed: _Packed, events: list[JobEvent], subs: list[SubJob]) -> None:
    match packed:
        case SubsEnded():
            servers = unpack_ids(packed.servers)
            new = unpack_subs(packed, servers)
            subs += new
            events += [
                SubJobEnded(job_id=job_id, server_id=server_id, sub_job=sub)
                for server_id, sub in zip(servers, new, strict=True)
            ]
        case _SubEnded(sub_job=sub):
            subs.append(sub)
            events.append(SubJobEnded(job_id=job_id, server_id=sub.server_id, sub_job=sub))
        case _Started(action=action, servers=servers):
            events.append(JobStarted(job_id=job_id, action=action, servers=tuple(unpack_ids(servers))))
        case _Changed(status=status):
            events.append(JobChanged(job_id=job_id, status=status))
        case _Ended():
            job = _unpack_end(packed, subs, sum(isinstance(event, SubJobEnded) for event in events))
            events.append(EventGap(missed=1) if job is None else JobEnded(job_id=job_id, job=job))
        case _Gap(missed=missed):
            events.append(EventGap(missed=missed))
        case _Lost(error=plain):
            error = from_plain(plain)
            if not isinstance(error, JobLostError):
                lost = JobLostError(str(error), job_id=job_id, job=None)
                lost.__cause__ = error
                error = lost
            events.append(JobLost(job_id=job_id, error=error))


def _unpack_end(packed: _Ended, subs: Sequence[SubJob], new: int) -> Job | None:
    places = _PLACES_DECODER.decode(zlib.decompress(packed.places))
    if not places:
        return packed.job
    if packed.before and packed.before != len(subs) - new:
        return None
    others = iter(packed.others)
    return with_sub_jobs(packed.job, tuple([subs[place] if place >= 0 else next(others) for place in places]))


def _encodable(event: JobEvent) -> JobEvent:
    if isinstance(event, JobEnded):
        return msgspec.structs.replace(event, job=map_free_text(event.job, _escape))
    if isinstance(event, SubJobEnded):
        job = map_free_text(Job(job_id="", entities=JobEntities(sub_jobs=(event.sub_job,))), _escape)
        return msgspec.structs.replace(event, sub_job=job.sub_jobs[0])
    return event


def _escape(text: str) -> str:
    return (shown_text(text) or "").encode(errors="backslashreplace").decode()
