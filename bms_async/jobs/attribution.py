"""What the end of a job says about its sub-jobs, including those of servers that it does not name: pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

import msgspec

from bms_async.models import Job, JobStatus, SubJob, SubJobEntities
from bms_async.models.ids import canonical_id


def unended(job: Job, ended: Mapping[str, SubJob]) -> Iterator[SubJob]:
    """Return the sub-jobs that a poll shows and whose end has not been seen.

    Args:
        job: The job as a poll shows it.
        ended: The first end seen of each server's sub-job, by canonical id.
    """
    return (sub for sub in job.sub_jobs if not sub.is_final and canonical_id(sub.server_id or "") not in ended)


def is_complete(job: Job, ended: Mapping[str, SubJob]) -> bool:
    """Return whether an ended job has shown the end of all its sub-jobs; a job may fail before the last of them ends.

    Args:
        job: The job as a poll shows it.
        ended: The first end seen of each server's sub-job, which this poll need not show.
    """
    if any(unended(job, ended)):
        return False
    return job.status is JobStatus.SUCCESS or len(job.sub_jobs) >= job.sub_jobs_total


def with_first_ends(job: Job, ended: Mapping[str, SubJob]) -> Job:
    """Return the job with each sub-job's first end in the place of what this poll shows of it."""
    subs = tuple(ended.get(canonical_id(sub.server_id or ""), sub) for sub in job.sub_jobs)
    if job.entities is None or all(new.status == old.status for new, old in zip(subs, job.sub_jobs, strict=True)):
        return job
    return msgspec.structs.replace(job, entities=msgspec.structs.replace(job.entities, sub_jobs=subs))


def attribute_unnamed(job: Job, missing: list[str], unnamed: list[SubJob], *, servers: int) -> Iterator[SubJob]:
    """Yield a sub-job for each server that an ended job does not name, as far as its end can be inferred.

    A job that succeeded did so for all. As many unnamed failures as missing servers are those servers' failures. A job
    that failed as a whole, without sub-jobs, failed for each. Nothing else is inferred.

    Args:
        job: The job, which has ended.
        missing: The servers it was started for and does not name.
        unnamed: Its sub-jobs that have ended and name no server.
        servers: How many servers it was started for.
    """
    if job.status is JobStatus.SUCCESS and not any(sub.status is JobStatus.FAIL for sub in unnamed):
        success = _ended_with(job, JobStatus.SUCCESS)
        yield from (_named(success, server_id) for server_id in missing)
    elif unnamed and len(unnamed) == len(missing) and all(sub.status is JobStatus.FAIL for sub in unnamed):
        common = _common(unnamed)
        yield from (_named(common, server_id) for server_id in missing)
    elif not job.sub_jobs and job.sub_jobs_total <= (servers == 1) and (job.error_code or job.code or job.reason):
        # A job with several sub-jobs that shows none of them may give the reason of one, and not say of which.
        failure = _ended_with(job, JobStatus.FAIL, error_code=job.error_code or job.code, fail_reason=job.reason)
        yield from (_named(failure, server_id) for server_id in missing)


def _ended_with(
    job: Job, status: JobStatus, *, error_code: str | None = None, fail_reason: str | None = None
) -> SubJob:
    """Return a sub-job that ended when its job did."""
    end = None if job.end_time is None else job.end_time.isoformat()
    return SubJob(status=status, _end_time=end, error_code=error_code, fail_reason=fail_reason)


def _common(subs: list[SubJob]) -> SubJob:
    """Return what unnamed failures have in common, since nothing says which server each belongs to."""
    if len({(sub.error_code, sub.reason) for sub in subs}) == 1:
        return subs[0]
    return SubJob(status=JobStatus.FAIL, fail_reason="one of: " + "; ".join(_reasons(subs)))


def _reasons(subs: Iterable[SubJob]) -> list[str]:
    return sorted({f"{sub.error_code or 'no code'} ({sub.reason or 'no reason given'})" for sub in subs})


def _named(sub: SubJob, server_id: str) -> SubJob:
    message = sub.about.errorcode_message if isinstance(sub.about, SubJobEntities) else None
    return msgspec.structs.replace(sub, about=SubJobEntities(server_id=server_id, errorcode_message=message))
