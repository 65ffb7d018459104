"""Jobs and their sub-jobs as rows, and as text for people."""

from __future__ import annotations

from typing import Final, NamedTuple

from bms_async import Job, SubJob
from bms_async.cli.following.failures import Failures, explain_code
from bms_async.cli.following.results import reason_lines
from bms_async.cli.terminal.cells import wrap
from bms_async.cli.terminal.output import format_cell, terminal_width
from bms_async.cli.terminal.plain import plain
from bms_async.cli.terminal.rows import Table
from bms_async.cli.terminal.texts import pluralize, strip_control_chars
from bms_async.cli.terminal.words import CloudMessage, message_of_job
from bms_async.models import JobStatus
from bms_async.redaction import shown_text

__all__ = ["JOBS", "SUB_JOBS", "EndedSubJob", "describe_job"]


class EndedSubJob(NamedTuple):
    """A sub-job that has ended.

    Attributes:
        job_id: Its job.
        sub: The sub-job.
    """

    job_id: str
    sub: SubJob

    @property
    def has_failed(self) -> bool:
        """Whether it failed."""
        return self.sub.status is JobStatus.FAIL

    @property
    def code(self) -> str | None:
        """The cloud's code."""
        return shown_text(self.sub.error_code or self.sub.code)

    @property
    def message(self) -> CloudMessage | None:
        """What the cloud said."""
        return message_of_job(self.sub, self.job_id)

    @property
    def meaning(self) -> str:
        """What the code means."""
        return explain_code(self.code, self.message, "The cloud gave no reason.")

    def fields(self) -> dict[str, object]:
        """Return its object in JSON."""
        sub = self.sub
        fields: dict[str, object] = {"type": "sub_job", "job_id": self.job_id, "server_id": sub.server_id}
        fields["status"] = sub.status.value
        if self.has_failed:
            fields |= {"code": self.code, "reason": self.message and self.message.text, "what": self.meaning}
        return fields


def _plain_job(job: Job) -> dict[str, object]:
    fields = _mapping(plain(job))
    subs = [{**_mapping(plain(sub)), "server_id": sub.server_id} for sub in job.sub_jobs]
    return {**fields, "entities": None, "sub_jobs_total": job.sub_jobs_total, "sub_jobs": subs}


def _mapping(value: object) -> dict[str, object]:
    return value if isinstance(value, dict) else {}


JOBS: Final = Table[Job](
    columns={
        "job": lambda job: job.job_id,
        "type": lambda job: job.job_type,
        "status": lambda job: job.status,
        "servers": lambda job: job.sub_jobs_total,
        "done": lambda job: sum(sub.status.is_final for sub in job.sub_jobs),
        "failed": lambda job: sum(sub.status is JobStatus.FAIL for sub in job.sub_jobs),
        "code": lambda job: shown_text(job.error_code or job.code),
        "reason": lambda job: shown_text(job.reason),
        "begun": lambda job: job.begin_time,
        "ended": lambda job: job.end_time,
    },
    usual=("job", "type", "status", "servers", "done", "failed", "begun", "ended"),
    ids=lambda job: job.job_id,
    fields=_plain_job,
    right=frozenset({"servers", "done", "failed"}),
    keep=6,
)
"""The columns of jobs."""

SUB_JOBS: Final = Table[EndedSubJob](
    columns={
        "job": lambda ended: ended.job_id,
        "server": lambda ended: ended.sub.server_id,
        "status": lambda ended: ended.sub.status,
        "code": lambda ended: ended.code if ended.has_failed else None,
        "meaning": lambda ended: ended.meaning if ended.has_failed else None,
        "reason": lambda ended: ended.message.text if ended.has_failed and ended.message else None,
    },
    usual=("server", "status", "code", "meaning", "reason"),
    ids=lambda ended: ended.sub.server_id,
    fields=EndedSubJob.fields,
    keep=3,
)
"""The columns of servers whose sub-jobs end."""


def describe_job(job: Job) -> str:
    """Return a job as text for people."""
    subs = job.sub_jobs
    counts = {status: sum(sub.status == status for sub in subs) for status in dict.fromkeys(sub.status for sub in subs)}
    lines = [
        f"{strip_control_chars(job.job_id)}   {strip_control_chars(job.status.value)}   {format_cell(job.job_type)}",
        f"  begun {format_cell(job.begin_time)}, ended {format_cell(job.end_time)}",
        f"  {pluralize(job.sub_jobs_total, 'server')}: "
        + (
            ", ".join(f"{count:,} {strip_control_chars(status.value)}" for status, count in counts.items())
            or "no sub-jobs yet"
        ),
    ]
    lines += _describe_failure(job)
    failures = Failures()
    for sub in subs:
        if sub.status is JobStatus.FAIL:
            code = shown_text(sub.error_code or sub.code)
            message = message_of_job(sub, job.job_id)
            failures.add_reason(code or "no code", explain_code(code, message), sub.server_id or "?", message)
    lines += reason_lines(failures)
    return "\n".join(lines) + "\n"


def _describe_failure(job: Job) -> list[str]:
    """Return the lines about the failure of a job as a whole, which may be the only ones."""
    code = shown_text(job.error_code or job.code)
    message = message_of_job(job) if code or job.status is JobStatus.FAIL else None
    texts = []
    if code or message:
        texts.append((f"{strip_control_chars(code or 'no code')}: {explain_code(code, message)}", "  "))
    if message is not None:
        texts.append((f"the cloud said of the job: {message.text}", "    "))
    return [line for text, first in texts for line in wrap(text, terminal_width(), first=first, rest=f"{first}  ")]
