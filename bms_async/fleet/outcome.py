"""The outcome of each server, and what responses and sub-jobs say of it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

import msgspec

from bms_async.errorcodes import Remedy, explain
from bms_async.errors import ApiError, BmsError, CallError, FleetError, ServerStateError, SubJobFailedError
from bms_async.errors.jobs import describe_failure
from bms_async.models import Job, JobStatus, SubJob
from bms_async.redaction import shown_text

from .rollout.standing import RolloutStanding

ALREADY: Mapping[str, str] = {"servers.start": "BMS.0038", "servers.stop": "BMS.0039"}
"""The code for a server that is in the requested state already, by action."""


class OutcomeState(StrEnum):
    """How it ended for a server; `Outcome` says what each state means."""

    SUCCEEDED = "SUCCEEDED"
    UNCHANGED = "UNCHANGED"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"
    SKIPPED = "SKIPPED"

    @property
    def is_success(self) -> bool:
        """Whether the server is now in the requested state."""
        return self is OutcomeState.SUCCEEDED or self is OutcomeState.UNCHANGED

    @property
    def is_failure(self) -> bool:
        """Whether it counts for `abort_above`: the action failed, or nothing proves how it ended."""
        return self is OutcomeState.FAILED or self is OutcomeState.UNKNOWN


class Outcome(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How it ended for one server.

    Attributes:
        server_id: The server, as the cloud writes ids: a UUID in lower case. For an entry that is not an id, its repr.
        state: SUCCEEDED; UNCHANGED, it is in the requested state and nothing shows that this run caused it; FAILED;
            UNKNOWN, it was sent and nothing proves how it ended; SKIPPED, nothing was done: the run was cancelled or
            aborted, the id is invalid, or the cloud refused each time.
        job_id: Its job, None if there was none.
        sub_job_id: Its part of the job, None if the cloud did not name it.
        error: The reason for FAILED, UNKNOWN or SKIPPED; None for the others, and where the run was cancelled.
        attempts: How often it was sent; for SKIPPED the cloud refused each time, or it was never sent.
        started: When it was first sent; None if it never was.
        ended: When its outcome became known.
        result: What the function of ``bms.fleet.each`` returned for it; None if it returned a job, or nothing.
    """

    server_id: str
    state: OutcomeState
    job_id: str | None = None
    sub_job_id: str | None = None
    error: BmsError | None = None
    attempts: int = 0
    started: datetime | None = None
    ended: datetime | None = None
    result: object = None

    @property
    def code(self) -> str | None:
        """The cloud's code for what went wrong: that of the error or of its cause; None if neither has one."""
        return code_of_error(self.error)

    @property
    def reason(self) -> str:
        """The key that failures are counted by: the code, else the class of the error, else the state.

        It is the state also for a plain `FleetError`, whose class says less: what is skipped is counted by one word.
        """
        if self.code:
            return str(self.code)
        if self.error is None or type(self.error) is FleetError:
            return self.state.value
        return type(self.error).__name__

    @property
    def seconds(self) -> float | None:
        """Seconds from when it was first sent until its outcome was known, None if it was never sent."""
        if self.started is None or self.ended is None:
            return None
        return (self.ended - self.started).total_seconds()

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON can hold of it, with the keys of `FleetReport.to_json`.

        The error is its class, code and text. `result` is left out: it may be anything.
        """
        plain: dict[str, Any] = msgspec.to_builtins(plain_outcome(self))
        return plain


class TrackedOutcome(Outcome, frozen=True, kw_only=True, gc=True):
    """An outcome with an error or a result, which the garbage collector tracks.

    Other outcomes cannot be part of a cycle, so that it need not visit a million of them. An error that the caller
    raises holds the frames that it passed, and these may hold the report; a result may be anything.
    """

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__)
        return f"{Outcome.__name__}({shown})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Outcome):
            return NotImplemented
        return all(getattr(self, name) == getattr(other, name) for name in self.__struct_fields__)

    def __hash__(self) -> int:
        # A result need not have one.
        return hash(Outcome(**(msgspec.structs.asdict(self) | {"result": None})))


def plain_outcome(outcome: Outcome) -> dict[str, Any]:
    """Return the fields of an outcome as values that msgspec can encode, without its result, which may be anything."""
    plain = {name: getattr(outcome, name) for name in outcome.__struct_fields__ if name != "result"}
    if outcome.error is not None:
        error, code = outcome.error, shown_text(outcome.code)
        plain["error"] = {"type": type(error).__name__, "code": code, "message": str(error)}
    return plain


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
    result: object = None,
) -> Outcome:
    """Return an outcome, tracked by the collector only if it has an error or a result; a success has no error."""
    if state.is_success:
        error = None
    kind = Outcome if error is None and result is None else TrackedOutcome
    return kind(
        server_id=server_id,
        state=state,
        job_id=job_id,
        sub_job_id=sub_job_id,
        error=error,
        attempts=attempts,
        started=started,
        ended=ended,
        result=result,
    )


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a run.

    Attributes:
        total: How many servers it has; None until its source of ids is exhausted.
        submitted: How many were sent.
        done: How many have their outcome.
        by_state: How many of those are in each state.
        in_flight: How many belong to a batch and have not ended; `wave_size` bounds them.
        to_verify: How many have ended and wait for their state to be read back.
        extra_calls: How many calls were made only to find out what no job says; see `FleetReport`.
        waits_for: Why nothing begins at the moment: the run is paused, its window is closed, servers are not ready yet.
            None if something may begin.
        rollout: How far the rollout is; None without one.
    """

    total: int | None
    submitted: int
    done: int
    by_state: Mapping[OutcomeState, int]
    in_flight: int = 0
    to_verify: int = 0
    extra_calls: int = 0
    waits_for: str | None = None
    rollout: RolloutStanding | None = None


def code_of_error(error: BaseException | None) -> str | None:
    """Return the first code in the chain of an error and its causes, None without one."""
    while isinstance(error, BmsError):
        code = getattr(error, "code", None)
        if isinstance(code, str) and code:
            return code
        if isinstance(error, ServerStateError):
            # Its own state is the reason. The refusal of its batch may be about another server.
            return None
        error = error.__cause__
    return None


def is_already_so(action: str, error: BmsError | None) -> bool:
    """Return whether an error says that a server was in the requested state already; no code says so for a reboot.

    A stop that fails because the server "has been started" is not that: the server is not as asked.
    """
    return action in ALREADY and getattr(error, "code", None) == ALREADY[action]


def remedy_of(error: BmsError | None) -> Remedy | None:
    """Return the kind of remedy that chapter 6.2 gives for an error, None where it has none."""
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
    """Return the state and the error that an ended sub-job means for its server.

    Args:
        action: The requested action.
        sub: The sub-job.
        server_id: Its server.
        job_id: Its job.
        in_doubt: Whether the cloud may have acted on an earlier attempt. Then a failure as "in transition", or without
            a code, proves nothing: the earlier attempt may be the cause.
        job: The job as last read. Its code and reason go into the error where the sub-job has none.
    """
    if sub.status is JobStatus.SUCCESS:
        return OutcomeState.SUCCEEDED, None
    code = sub.error_code or sub.code
    job_reason = None if job is None else describe_failure(job.error_code or job.code, job.reason)
    error = SubJobFailedError(server_id=server_id, job_id=job_id, code=code, reason=sub.reason, job_reason=job_reason)
    remedy = remedy_of(error)
    if is_already_so(action, error):
        return OutcomeState.UNCHANGED, None
    # A failure before the cloud made a sub-job for this server says nothing of the earlier attempt either.
    may_be_in_progress = in_doubt and (remedy is Remedy.IN_TRANSITION or code is None or sub.job_id is None)
    return OutcomeState.UNKNOWN if may_be_in_progress else OutcomeState.FAILED, error


def judge_refusal(action: str, error: BmsError, servers: int) -> OutcomeState:
    """Return the state of the servers of a batch that did not become a job.

    A refusal is about the batch as a whole, so only a batch of one can learn that its server was as asked already.

    Args:
        action: The requested action.
        error: The error of the call.
        servers: How many servers were in it.
    """
    if isinstance(error, CallError) and not error.maybe_done:
        if servers == 1 and is_already_so(action, error):
            return OutcomeState.UNCHANGED
        return OutcomeState.FAILED
    return OutcomeState.UNKNOWN


def may_repeat_sub_job(action: str, state: OutcomeState, error: BmsError | None) -> bool:
    """Return whether a server whose sub-job ended may be sent again: if it was busy, or its state is unknown.

    A reboot that failed with BMS.0037, "being rebooted", is not repeated: this very sub-job may be doing it.
    With the codes for "starting" and "stopping" the server has certainly not rebooted.

    Args:
        action: The requested action, such as ``servers.reboot``.
        state: Its state by its sub-job.
        error: The error of that.
    """
    if action == "servers.reboot":
        return state is OutcomeState.FAILED and getattr(error, "code", None) in ("BMS.0035", "BMS.0036")
    return state is OutcomeState.UNKNOWN or remedy_of(error) is Remedy.IN_TRANSITION


def is_transient(error: BmsError) -> bool:
    """Return whether the cloud may accept a refused batch later."""
    return remedy_of(error) is Remedy.IN_TRANSITION


def may_concern_one_server(error: CallError) -> bool:
    """Return whether a batch may have been refused because of some of its servers only."""
    if error.maybe_done or not isinstance(error, ApiError) or error.status in _WHOLE_REQUEST_STATUSES:
        return False
    return remedy_of(error) not in (Remedy.OVERLOADED, Remedy.PERMISSION, Remedy.QUOTA)


def concerns_one_server(error: CallError) -> bool:
    """Return whether the code of a refusal is about a server, and cannot be about the whole request."""
    return remedy_of(error) in (Remedy.ALREADY_THERE, Remedy.IN_TRANSITION, Remedy.NOT_FOUND)


_WHOLE_REQUEST_STATUSES = frozenset({401, 403, 405, 406, 408, 411, 413, 414, 415, 429})
"""Statuses that are about the caller or the whole request, never about one server."""
