"""What became of each server."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum

import msgspec

from bms_async.errorcodes import Remedy, explain
from bms_async.errors import ApiError, BmsError, CallError, ServerStateError, SubJobFailedError
from bms_async.errors.jobs import describe_failure
from bms_async.models import Job, JobStatus, SubJob

ALREADY: Mapping[str, str] = {"servers.start": "BMS.0038", "servers.stop": "BMS.0039"}
"""The code for a server that already is as asked, by action."""


class OutcomeState(StrEnum):
    """What became of a server."""

    SUCCEEDED = "SUCCEEDED"
    UNCHANGED = "UNCHANGED"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"
    SKIPPED = "SKIPPED"

    @property
    def is_success(self) -> bool:
        """Whether the server is now as it was asked to be."""
        return self is OutcomeState.SUCCEEDED or self is OutcomeState.UNCHANGED

    @property
    def is_failure(self) -> bool:
        """Whether it counts against a run: it was asked for in vain, or nobody knows."""
        return self is OutcomeState.FAILED or self is OutcomeState.UNKNOWN


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What became of one server.

    Attributes:
        server_id: The server, as the cloud writes ids: a UUID in lower case. Of what is no id, what it looks like.
        state: SUCCEEDED; UNCHANGED, it is so and nothing shows that this run made it so; FAILED; UNKNOWN, it was
            asked for and cannot be proved; SKIPPED, nothing was done: the run was cancelled or aborted, or the id is
            unfit.
        job_id: The job it was part of, None if it never came to one.
        sub_job_id: Its own part of the job, None if the cloud did not tell.
        error: Why it is FAILED, UNKNOWN or SKIPPED; None for the others and for a run that was cancelled.
        attempts: How often the cloud was asked; for SKIPPED it refused each time, or was never asked.
        started: When it was first asked for; None if it never was.
        ended: When its outcome was known.
    """

    server_id: str
    state: OutcomeState
    job_id: str | None = None
    sub_job_id: str | None = None
    error: BmsError | None = None
    attempts: int = 0
    started: datetime | None = None
    ended: datetime | None = None

    @property
    def code(self) -> str | None:
        """The cloud's code for what went wrong: the error's own, or that of what it was caused by; None without one."""
        return code_of_error(self.error)

    @property
    def reason(self) -> str:
        """The cloud's code or, without one, the name of the error or the state."""
        return reason_of(self)

    @property
    def seconds(self) -> float | None:
        """How long it took from the first time it was asked for, None if it never was."""
        if self.started is None or self.ended is None:
            return None
        return (self.ended - self.started).total_seconds()


class FaultyOutcome(Outcome, frozen=True, kw_only=True, gc=True):
    """An outcome with an error, which the garbage collector has to know of.

    The others hold nothing that could hold them, so that it need not visit a million of them. An error that its user
    raises holds the frames that it has been through, and they may well hold the report.
    """

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__)
        return f"{Outcome.__name__}({shown})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outcome):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__struct_fields__)

    def __hash__(self) -> int:
        return hash(Outcome(**msgspec.structs.asdict(self)))


def make_outcome(
    server_id: str,
    state: OutcomeState,
    *,
    error: BmsError | None = None,
    job_id: str | None = None,
    sub_job_id: str | None = None,
    attempts: int = 0,
    started: datetime | None = None,
    ended: datetime | None = None,
) -> Outcome:
    """Return an outcome, of the class that its error needs; one that is good has no error."""
    if state.is_success:
        error = None
    kind = Outcome if error is None else FaultyOutcome
    return kind(
        server_id=server_id,
        state=state,
        job_id=job_id,
        sub_job_id=sub_job_id,
        error=error,
        attempts=attempts,
        started=started,
        ended=ended,
    )


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is.

    Attributes:
        total: How many servers it is about; None as long as its source has not told them all.
        submitted: How many the cloud has been asked for.
        done: How many have their outcome.
        by_state: How many of those are in each state.
        in_flight: How many belong to a batch and have not ended: what `wave_size` bounds.
        to_verify: How many have ended and wait for their state to be read back.
        extra_calls: How many calls it took to find out what no job told.
    """

    total: int | None
    submitted: int
    done: int
    by_state: Mapping[OutcomeState, int]
    in_flight: int = 0
    to_verify: int = 0
    extra_calls: int = 0


def reason_of(outcome: Outcome) -> str:
    """Return what failures are counted by: the code or, without one, the name of the error or the state."""
    if outcome.code:
        return str(outcome.code)
    return type(outcome.error).__name__ if outcome.error else outcome.state.value


def code_of_error(error: BaseException | None) -> str | None:
    """Return the first code that an error or one of those that it was caused by has, None without one."""
    while isinstance(error, BmsError):
        code = getattr(error, "code", None)
        if isinstance(code, str) and code:
            return code
        if isinstance(error, ServerStateError):
            # Its own state is why, and not what its batch was refused for, which another server may have been.
            return None
        error = error.__cause__
    return None


def is_already_so(action: str, error: BmsError | None) -> bool:
    """Tell whether an error says that a server already was as asked; nothing says that of a reboot.

    A stop that fails because the server "has been started" leaves one that is not as asked.
    """
    return action in ALREADY and getattr(error, "code", None) == ALREADY[action]


def remedy_of(error: BmsError | None) -> Remedy | None:
    """Return what chapter 6.2 would have done about an error, None where it does not tell."""
    documented = explain(getattr(error, "code", None))
    return documented.remedy if documented else None


def judge_sub_job(
    action: str,
    sub: SubJob,
    server_id: str,
    job_id: str,
    *,
    in_doubt: bool = False,
    job: Job | None = None,
) -> tuple[OutcomeState, BmsError | None]:
    """Tell what an ended sub-job means for its server.

    Args:
        action: What the server was asked for.
        sub: The sub-job.
        server_id: Its server.
        job_id: Its job.
        in_doubt: Whether the cloud may have been asked before and have set to work. Then a server that is "in
            transition", or failed for nobody knows what, may well be on its way there: that proves nothing.
        job: The job as it is known, whose own code and words are told as the job's where the sub-job has none.
    """
    if sub.status is JobStatus.SUCCESS:
        return OutcomeState.SUCCEEDED, None
    code = sub.error_code or sub.code
    job_reason = None if job is None else describe_failure(job.error_code or job.code, job.reason)
    error = SubJobFailedError(server_id=server_id, job_id=job_id, code=code, reason=sub.reason, job_reason=job_reason)
    remedy = remedy_of(error)
    if is_already_so(action, error):
        return OutcomeState.UNCHANGED, None
    # What failed before the cloud made a part for this server says nothing of what was asked for before.
    on_its_way = in_doubt and (remedy is Remedy.IN_TRANSITION or code is None or sub.job_id is None)
    return OutcomeState.UNKNOWN if on_its_way else OutcomeState.FAILED, error


def judge_refusal(action: str, error: BmsError, servers: int) -> OutcomeState:
    """Tell what it means for its servers that a batch did not become a job.

    A refusal speaks of a batch as a whole, so only a batch of one can learn from it that its server already was so.

    Args:
        action: What the servers were asked for.
        error: What the call ended with.
        servers: How many servers were in it.
    """
    if isinstance(error, CallError) and not error.maybe_done:
        if servers == 1 and is_already_so(action, error):
            return OutcomeState.UNCHANGED
        return OutcomeState.FAILED
    return OutcomeState.UNKNOWN


def may_repeat_sub_job(action: str, state: OutcomeState, error: BmsError | None) -> bool:
    """Tell whether a server whose sub-job ended may be asked for again.

    Only one that was busy, or of which nobody knows what became of it. A reboot that failed with BMS.0037, "being
    rebooted", may be at that on behalf of this very sub-job, and is not repeated; with the codes of a start and a stop
    the server did surely not reboot.

    Args:
        action: What it was asked for, such as ``servers.reboot``.
        state: What its sub-job made of it.
        error: What that failed with.
    """
    if action == "servers.reboot":
        return state is OutcomeState.FAILED and getattr(error, "code", None) in ("BMS.0035", "BMS.0036")
    return state is OutcomeState.UNKNOWN or remedy_of(error) is Remedy.IN_TRANSITION


def is_transient(error: BmsError) -> bool:
    """Tell whether a batch that was refused may be taken later."""
    return remedy_of(error) is Remedy.IN_TRANSITION


def may_concern_one_server(error: CallError) -> bool:
    """Tell whether a batch may have been refused because of some of its servers only."""
    if error.maybe_done or not isinstance(error, ApiError) or error.status in _OF_ALL:
        return False
    return remedy_of(error) not in (Remedy.OVERLOADED, Remedy.PERMISSION, Remedy.QUOTA)


def concerns_one_server(error: CallError) -> bool:
    """Tell whether the code of a refusal is about a server, and cannot be about the whole request."""
    return remedy_of(error) in (Remedy.ALREADY_THERE, Remedy.IN_TRANSITION, Remedy.NOT_FOUND)


_OF_ALL = frozenset({401, 403, 405, 406, 408, 411, 413, 414, 415, 429})
"""Statuses that are about the caller or the request as a whole."""
