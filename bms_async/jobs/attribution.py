"""What the end of a job tells of its sub-jobs, those that it does not name among them: pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from bms_async.models import Job, JobStatus, SubJob, SubJobEntities
from bms_async.models.ids import canonical_id


def unended(job: Job, ended: Mapping[str, SubJob]) -> Iterator[SubJob]:
    """Return the sub-jobs that a poll shows and that have not ended, as far as anything was seen.

    Args:
        job: The job as a poll shows it.
        ended: The end of each server's sub-job that was seen, by canonical id.
    """
    return (sub for sub in job.sub_jobs if not sub.is_final and canonical_id(sub.server_id or "") not in ended)


def is_complete(job: Job, ended: Mapping[str, SubJob]) -> bool:
    """Tell whether an ended job has told of all its sub-jobs; one may fail before the last of them ends.

    Args:
        job: The job as a poll shows it.
        ended: The end of each server's sub-job that was seen, which may not be what this poll shows.
    """
    if any(unended(job, ended)):
        return False
    return job.status is JobStatus.SUCCESS or len(job.sub_jobs) >= job.sub_jobs_total


def with_first_ends(job: Job, ended: Mapping[str, SubJob]) -> Job:
    """Return the job with the end of each sub-job that was seen first, where this poll shows another."""
    subs = tuple(ended.get(canonical_id(sub.server_id or ""), sub) for sub in job.sub_jobs)
    if job.entities is None or all(new.status == old.status for new, old in zip(subs, job.sub_jobs, strict=True)):
        return job
    return msgspec.structs.replace(job, entities=msgspec.structs.replace(job.entities, sub_jobs=subs))


def attribute_unnamed(job: Job, untold: list[str], nameless: list[SubJob], *, servers: int) -> Iterator[SubJob]:
    """Tell what became of the servers that an ended job does not name.

    A job that succeeded did so for all. As many nameless failures as servers are those servers' failures. A job that
    failed as a whole, without sub-jobs, failed for each. Beyond that nothing can be told, and nothing is.

    Args:
        job: The job, which has ended.
        untold: The servers it was started for and does not name.
        nameless: Its sub-jobs that have ended and name no server.
        servers: How many servers it was started for.
    """
    if job.status is JobStatus.SUCCESS and not any(sub.status is JobStatus.FAIL for sub in nameless):
        yield from (_named(SubJob(status=JobStatus.SUCCESS, end_time=job.end_time), server_id) for server_id in untold)
    elif nameless and len(nameless) == len(untold) and all(sub.status is JobStatus.FAIL for sub in nameless):
        reason = _common(nameless)
        yield from (_named(reason, server_id) for server_id in untold)
    elif not job.sub_jobs and job.sub_jobs_total <= (servers == 1) and (job.error_code or job.code or job.reason):
        # One that has several sub-jobs and shows none of them tells what became of one, and not of which.
        reason = SubJob(
            status=JobStatus.FAIL, error_code=job.error_code or job.code, fail_reason=job.reason, end_time=job.end_time
        )
        yield from (_named(reason, server_id) for server_id in untold)


def _common(subs: list[SubJob]) -> SubJob:
    """Return what nameless failures have in common: which of them is whose, nobody can tell."""
    if len({(sub.error_code, sub.reason) for sub in subs}) == 1:
        return subs[0]
    return SubJob(status=JobStatus.FAIL, fail_reason="one of: " + "; ".join(_reasons(subs)))


def _reasons(subs: Iterable[SubJob]) -> list[str]:
    return sorted({f"{sub.error_code or 'no code'} ({sub.reason or 'no reason given'})" for sub in subs})


def _named(sub: SubJob, server_id: str) -> SubJob:
    told = sub.about if isinstance(sub.about, SubJobEntities) else None
    words = None if told is None else told.errorcode_message
    return msgspec.structs.replace(sub, about=SubJobEntities(server_id=server_id, errorcode_message=words))
