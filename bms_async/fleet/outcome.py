"""What became of each server, and of all of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum

import msgspec

from bms_async.errorcodes import Remedy, explain
from bms_async.errors import BmsError, CallError, FleetError, SubJobFailedError
from bms_async.models import JobStatus, SubJob
from bms_async.wire.forgetting import forgetful_call


class OutcomeState(StrEnum):
    """What became of a server."""

    SUCCEEDED = "SUCCEEDED"
    UNCHANGED = "UNCHANGED"
    FAILED = "FAILED"
    UNKNOWN = "UNKNOWN"
    SKIPPED = "SKIPPED"

    @property
    def is_good(self) -> bool:
        """Whether the server is now as it was asked to be."""
        return self is OutcomeState.SUCCEEDED or self is OutcomeState.UNCHANGED


class Outcome(msgspec.Struct, frozen=True, kw_only=True):
    """What became of one server.

    Attributes:
        state: SUCCEEDED; UNCHANGED, it already was so; FAILED; UNKNOWN, it was asked for and cannot be proved;
            SKIPPED, nothing was done: the run was cancelled, or the id is unfit.
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
        """The cloud's code for what went wrong, None if there is none."""
        return getattr(self.error, "code", None)


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a run is.

    Attributes:
        total: How many servers it is about; None as long as its source has not told them all.
        submitted: How many the cloud has been asked for.
        done: How many have their outcome.
        by_state: How many of those are in each state.
    """

    total: int | None
    submitted: int
    done: int
    by_state: Mapping[OutcomeState, int]


class FleetReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all servers of a run: exactly one outcome for each id that was handed to it.

    Attributes:
        action: What was asked for, such as ``servers.stop``.
        outcomes: In the order in which they were known.
        by_state: How many servers are in each state; every state is there.
        by_code: How many servers are not as asked, by the code or, without one, the name of the error or the state.
        batches: How many batches the cloud accepted.
        cancelled: Whether the run was ended before its end.
        started: When the run began.
        ended: When the last outcome was known.
    """

    action: str
    outcomes: Sequence[Outcome]
    by_state: Mapping[OutcomeState, int]
    by_code: Mapping[str, int]
    batches: int
    cancelled: bool
    started: datetime
    ended: datetime

    @property
    def seconds(self) -> float:
        """How long the run took."""
        return (self.ended - self.started).total_seconds()

    def __len__(self) -> int:
        return len(self.outcomes)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state.value}" for state, count in self.by_state.items() if count)
        return f"<FleetReport {self.action} of {len(self)} servers: {counts or 'none'} in {self.seconds:.1f} s>"

    @forgetful_call
    def raise_for_failures(self) -> None:
        """Raise if any server is not as it was asked to be.

        Raises:
            ExceptionGroup: One `FleetError` for each code, with the servers and what to do.
        """
        servers: dict[str, list[Outcome]] = {}
        for outcome in self.outcomes:
            if not outcome.state.is_good:
                servers.setdefault(reason_of(outcome), []).append(outcome)
        if servers:
            total = sum(map(len, servers.values()))
            raise ExceptionGroup(
                f"{self.action}: {total} of {len(self)} servers are not as asked",
                [_fleet_error(self.action, reason, outcomes) for reason, outcomes in servers.items()],
            )


def reason_of(outcome: Outcome) -> str:
    """Return what failures are counted by: the code or, without one, the name of the error or the state."""
    if outcome.code:
        return outcome.code
    return type(outcome.error).__name__ if outcome.error else outcome.state.value


def judge_sub_job(sub: SubJob, server_id: str, job_id: str, *, asked: int = 1) -> tuple[OutcomeState, BmsError | None]:
    """Tell what an ended sub-job means for its server.

    Args:
        sub: The sub-job.
        server_id: Its server.
        job_id: Its job.
        asked: How often the cloud was asked for this. The second time, a server that is "already so" was made so by
            the first, and one that is "in transition" may well be on its way there: that proves nothing.
    """
    if sub.status is JobStatus.SUCCESS:
        return OutcomeState.SUCCEEDED, None
    code = sub.error_code or sub.code
    documented = explain(code)
    remedy = documented.remedy if documented else None
    if remedy is Remedy.ALREADY_THERE:
        return OutcomeState.UNCHANGED, None
    error = SubJobFailedError(server_id=server_id, job_id=job_id, code=code, reason=sub.fail_reason or sub.message)
    in_doubt = remedy is Remedy.IN_TRANSITION and asked > 1
    return OutcomeState.UNKNOWN if in_doubt else OutcomeState.FAILED, error


def judge_refusal(error: BmsError, servers: int) -> OutcomeState:
    """Tell what it means for its servers that a batch did not become a job.

    A refusal speaks of a batch as a whole, so only a batch of one can learn from it that its server already was so.

    Args:
        error: What the call ended with.
        servers: How many servers were in it.
    """
    if isinstance(error, CallError) and not error.maybe_done:
        documented = explain(getattr(error, "code", None))
        if servers == 1 and documented and documented.remedy is Remedy.ALREADY_THERE:
            return OutcomeState.UNCHANGED
        return OutcomeState.FAILED
    return OutcomeState.UNKNOWN


def _fleet_error(action: str, reason: str, outcomes: list[Outcome]) -> FleetError:
    first = outcomes[0]
    more = f" and {len(outcomes) - 1} more" if len(outcomes) > 1 else ""
    text = f"{action}: {reason}: {len(outcomes)} servers, {first.server_id}{more}"
    if first.error is not None:
        text += f": {first.error}"
    return FleetError(text, code=first.code, server_ids=tuple(outcome.server_id for outcome in outcomes))
