"""An outcome with an error, as a run and its report keep it: the garbage collector need not visit it.

What it guarantees (R9): an outage in which a million servers fail costs the collector as little as a run in which all
succeed. And the caller sees one error a server, the same object for as long as anything refers to it.

How: an exception is always tracked by the collector, and so must be whatever refers to it. So a `StoredFailure` does
not refer to its error. That of a sub-job says no more than the outcome and three texts do, which are shared by all
servers that failed alike; it is made of them when it is read, and is remembered by a weak reference. Any other error
is kept in a list of the outcomes', once for all servers that follow one another with the same one, and here is its
index. What an application adds to the error of a sub-job, such as a note, is there for as long as the error is held.

Rejected: `gc=False` for outcomes that refer to their error. A function that holds the report and raises the error has
made a cycle, which the collector could never free. And all errors as they are: a million of them, with their outcomes,
are two million objects, which hold the event loop for half a second each time that they are visited.
"""

from __future__ import annotations

import weakref
from datetime import datetime
from threading import RLock

import msgspec

from bms_async.errors import BmsError, SubJobFailedError

from .outcome import Outcome, OutcomeState, TrackedOutcome

_ATTRIBUTES = len(vars(SubJobFailedError(server_id="", job_id="", code=None, reason=None)))

# Reentrant: an error may be forgotten, or a finalizer read outcomes, by a collection that begins meanwhile.
_REMEMBERING = RLock()


class SubJobFailure(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What the cloud said of a sub-job that failed: the part of its error that other servers may share.

    Texts cannot be part of a cycle, so that the collector need not track it.
    """

    code: str | None
    reason: str | None
    job_reason: str | None

    @property
    def key(self) -> str:
        """The key that it is counted by: `Outcome.reason`."""
        return str(self.code) if self.code else SubJobFailedError.__name__

    def is_of(self, error: SubJobFailedError) -> bool:
        """Return whether it has the very texts of an error: equal ones may be masked in different ways."""
        return self.code is error.code and self.reason is error.reason and self.job_reason is error.job_reason


class StoredFailure(msgspec.Struct, kw_only=True, eq=False, gc=False):
    """An outcome without its error.

    The collector need not track it: a weak reference keeps nothing alive, so it is part of no cycle. The one cycle that
    it can make, with the function that forgets an error, ends with that error.

    Attributes:
        why: The failure of its sub-job; for any other error the index that it has among the errors of the outcomes.
    """

    server_id: str
    state: OutcomeState
    job_id: str | None
    sub_job_id: str | None
    attempts: int
    started: datetime | None
    ended: datetime | None
    why: SubJobFailure | int
    _made: weakref.ref[SubJobFailedError] | None = None

    def remember(self, error: SubJobFailedError) -> None:
        """Return this very error from `error_of_sub_job` for as long as anything refers to it."""
        self._made = weakref.ref(error, self._forget)

    def error_of_sub_job(self, failure: SubJobFailure) -> SubJobFailedError:
        """Return the error of its sub-job: the one that is referred to, else a new one."""
        error = self._held_error()
        if error is None:
            made = SubJobFailedError(
                server_id=self.server_id,
                job_id=self.job_id or "",
                code=failure.code,
                reason=failure.reason,
                job_reason=failure.job_reason,
            )
            with _REMEMBERING:
                # Another thread may have made one meanwhile, which its caller holds.
                error = self._held_error()
                if error is None:
                    error = made
                    self.remember(error)
        return error

    def with_error(self, error: BmsError) -> Outcome:
        """Return the outcome."""
        return TrackedOutcome(
            server_id=self.server_id,
            state=self.state,
            job_id=self.job_id,
            sub_job_id=self.sub_job_id,
            error=error,
            attempts=self.attempts,
            started=self.started,
            ended=self.ended,
        )

    def _held_error(self) -> SubJobFailedError | None:
        made = self._made
        return None if made is None else made()

    def _forget(self, made: weakref.ref[SubJobFailedError]) -> None:
        with _REMEMBERING:
            # Another one may have been made meanwhile.
            if self._made is made:
                self._made = None


def store(outcome: Outcome, why: SubJobFailure | int) -> StoredFailure:
    """Return an outcome without its error."""
    stored = StoredFailure(
        server_id=outcome.server_id,
        state=outcome.state,
        job_id=outcome.job_id,
        sub_job_id=outcome.sub_job_id,
        attempts=outcome.attempts,
        started=outcome.started,
        ended=outcome.ended,
        why=why,
    )
    if isinstance(why, SubJobFailure) and isinstance(outcome.error, SubJobFailedError):
        stored.remember(outcome.error)
    return stored


def read_failure(outcome: Outcome, last: SubJobFailure | None = None) -> SubJobFailure | None:
    """Return what an outcome's error can be made of again; None if it says more, or is not that of its sub-job.

    Args:
        outcome: The outcome.
        last: The failure of another server, which is returned if it is the same.
    """
    error = outcome.error
    if type(error) is not SubJobFailedError or len(vars(error)) != _ATTRIBUTES or error.job is not None:
        return None
    if error.server_id != outcome.server_id or error.job_id != outcome.job_id:
        return None
    # It was raised, or raised from another: that is not in its texts.
    if error.__traceback__ is not None or error.__cause__ is not None or error.__context__ is not None:
        return None
    if last is not None and last.is_of(error):
        return last
    return SubJobFailure(code=error.code, reason=error.reason, job_reason=error.job_reason)
