"""What callers and those who wait for jobs were told, judged by the cloud's books (R2, R4)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator

from bms_async import (
    ClientClosedError,
    EventGap,
    JobEnded,
    JobFailedError,
    JobLost,
    JobLostError,
    SubJob,
    SubJobEnded,
    TransportError,
)
from bms_async.models import JobStatus
from tests.simulation.actors import Called, Waited
from tests.simulation.evidence import SLACK, Evidence
from tests.simulation.ledger import Part

_MANY = 1000


def judge_calls(evidence: Evidence) -> Iterator[str]:
    """Tell what is wrong with what callers and those who waited for jobs were told."""
    for called in evidence.played.done.calls:
        if called.error is not None:
            yield from _judge_refusal(evidence, called)
        if called.handle is None:
            continue
        parts = evidence.ledger.jobs.get(called.handle.id)
        if parts is None or set(parts) != set(called.servers):
            yield f"R2 a call of {called.deed.action} was answered with job {called.handle.id}, which is not its own"
            continue
        for waited in called.waited:
            yield from _judge_waiter(evidence, called.handle.id, parts, waited)


def judge_listeners(evidence: Evidence) -> Iterator[str]:
    """Tell what is wrong with the events that somebody heard: each end is told once, and is true."""
    for heard in evidence.played.done.heard:
        if heard.was_closed and not evidence.closed_early:
            yield "R4 who listened was told that the client was closed, and it was not"
        ends: Counter[tuple[str, str | None]] = Counter()
        for event in heard.events:
            match event:
                case SubJobEnded(job_id=job_id, server_id=str(server_id), sub_job=sub):
                    ends[job_id, server_id] += 1
                    part = evidence.ledger.jobs.get(job_id, {}).get(server_id)
                    if evidence.reinstalls and job_id not in evidence.ledger.jobs:
                        # The job of one server, which its own outcome is judged by.
                        continue
                    if part is None or (sub.status is JobStatus.SUCCESS) is not (part.code is None):
                        yield f"R2 who listened heard that {server_id} of job {job_id} ended as {sub.status.value}"
                case JobEnded(job_id=job_id) | JobLost(job_id=job_id):
                    ends[job_id, None] += 1
                case EventGap() if heard.deed.limit > _MANY:
                    yield "R10 events were left out, though there was room"
        if twice := [what for what, count in ends.items() if count > 1]:
            yield f"R2 who listened heard of the end of {twice[0]} several times"


def _judge_refusal(evidence: Evidence, called: Called) -> Iterator[str]:
    error = called.error
    doubt = getattr(error, "maybe_done", False) or isinstance(error, ClientClosedError)
    if isinstance(error, TransportError) and error.maybe_delivered:
        doubt = True
    for server_id in called.servers:
        if evidence.is_alone(server_id) and not doubt and evidence.parts(called.deed, server_id, called.began):
            yield f"R2 a call of {called.deed.action} ended in {error!r}, but the cloud has accepted it"
            return


def _judge_waiter(evidence: Evidence, job_id: str, parts: dict[str, Part], waited: Waited) -> Iterator[str]:
    at = (waited.ended or 0.0) + SLACK
    who = f"who waited for job {job_id}"
    if waited.job is not None and (
        any(part.code is not None for part in parts.values()) or max(part.ends for part in parts.values()) > at
    ):
        yield f"R2 {who} was told SUCCESS, and it is not"
    yield from _judge_error(evidence, job_id, parts, waited, who)
    told = [(sub.server_id, sub) for sub in waited.subs if sub.server_id]
    for server_id, future in waited.futures.items():
        wrong = _judge_future(future, waited, who)
        if wrong is not None:
            yield wrong
        elif not future.cancelled() and future.exception() is None:
            told.append((server_id, future.result()))
    for server_id, sub in told:
        part = parts[server_id]
        if (sub.status is JobStatus.SUCCESS) is not (part.code is None):
            yield f"R2 {who} was told {sub.status.value} {sub.error_code} for {server_id}; the cloud says {part.code}"
    times = Counter(sub.server_id for sub in waited.subs if sub.server_id)
    if twice := [server_id for server_id, count in times.items() if count > 1]:
        yield f"R2 {who} was told of {twice[0]} several times"


def _judge_error(evidence: Evidence, job_id: str, parts: dict[str, Part], waited: Waited, who: str) -> Iterator[str]:
    match waited.error:
        case None:
            return
        case JobFailedError():
            if all(part.code is None for part in parts.values()):
                yield f"R2 {who} was told that it failed, and nothing did"
        case JobLostError():
            if evidence.why_lost(job_id, (waited.ended or 0.0) + SLACK) is None:
                yield f"R2 {who} was told that it was lost, and it was not: {waited.error}"
        case ClientClosedError():
            if not evidence.closed_early:
                yield f"R4 {who} was told that the client was closed, and it was not"
        case error:
            yield f"R4 {who} got {error!r}"


def _judge_future(future: asyncio.Future[SubJob], waited: Waited, who: str) -> str | None:
    if not future.done():
        return f"R4 a future of {who} never ended"
    if future.cancelled():
        return None if waited.left else f"R4 a future of {who} was cancelled by somebody else"
    error = future.exception()
    if error is None or isinstance(error, JobLostError | ClientClosedError):
        return None
    return f"R4 a future of {who} got {error!r}"
