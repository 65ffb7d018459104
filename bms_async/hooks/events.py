"""The events of hooks: one Struct each, of plain values that can be logged, counted or sent elsewhere.

No event holds an exception, because its traceback holds the variables of the call that failed. The result of a call is
the class name of its error, the status, the code and the request id. No event holds a query, a header or a body.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """The base of all events: in JSON the field ``type`` holds the name of the class."""


class CallStarted(_Event, frozen=True, kw_only=True):
    """A call has begun; it may have to wait for its slot.

    Attributes:
        call: The number of the call, which all its events share; it is unique in the process.
        operation: Its dotted name, such as ``servers.stop``; ``request`` for `BmsClient.request`.
        method: The HTTP method.
        template: The path with its parameters in braces; None if `BmsClient.request` was given a path.
        parameters: The values of these parameters, such as ``server_id``.
        project_id: The project; None while it is not known.
        host: The host that the call goes to.
        port: The port.
        lane: ``interactive`` or ``bulk``.
        is_poll: Whether the client makes the call by itself, to read the progress of a job or a server.
        run: The number of the fleet run that the call belongs to; None outside one.
    """

    call: int
    operation: str
    method: str
    template: str | None
    parameters: Mapping[str, str]
    project_id: str | None
    host: str
    port: int
    lane: str
    is_poll: bool
    run: int | None


class RequestSent(_Event, frozen=True, kw_only=True):
    """An attempt of a call has its slot and its credentials, and was handed to the transport.

    Attributes:
        call: The number of the call.
        operation: Its dotted name.
        attempt: The number of the attempt, from 1.
        url: The URL without its query.
        waited: Seconds that the attempt waited for its slot.
        used: Slots of the operation that are in use, this one included: calls in flight, and those of the last minute.
        limit: How many slots there are now; None without a limit.
    """

    call: int
    operation: str
    attempt: int
    url: str
    waited: float
    used: int
    limit: int | None


class AttemptEnded(_Event, frozen=True, kw_only=True):
    """An attempt that was sent has ended: with a response, without one, or because the caller was cancelled.

    Attributes:
        call: The number of the call.
        operation: Its dotted name.
        attempt: The number of the attempt, from 1.
        seconds: Seconds since it was sent.
        status: The HTTP status; None if there was no response.
        code: The cloud's error code, such as ``BMS.0036``.
        request_id: The cloud's id of the request, for its support.
        error: The class of the error, such as ``TransportError``; ``CancelledError`` if the caller was cancelled or the
            deadline was reached; None for a success.
    """

    call: int
    operation: str
    attempt: int
    seconds: float
    status: int | None
    code: str | None
    request_id: str | None
    error: str | None


class RateLimited(_Event, frozen=True, kw_only=True):
    """The cloud has rate-limited an attempt (429).

    An operation that has a limit is blocked then, and its capacity is reduced for a while.

    Attributes:
        call: The number of the call.
        operation: Its dotted name.
        attempt: The number of the attempt, from 1.
        retry_after: Seconds to wait according to the cloud; None if it does not say.
        wait: Seconds for which all calls of the operation are blocked from now on; None if they are not.
        capacity: Calls a minute that are made from then on, until the capacity recovers; None without a limit.
        limit: Calls a minute as documented, set or learned; None without a limit.
    """

    call: int
    operation: str
    attempt: int
    retry_after: float | None
    wait: float | None
    capacity: int | None
    limit: int | None


class RetryScheduled(_Event, frozen=True, kw_only=True):
    """A call has failed and will be attempted again.

    Attributes:
        call: The number of the call.
        operation: Its dotted name.
        attempt: The number of the attempt that failed, from 1; 0 if none was sent, for want of a token for instance.
        delay: Seconds until the next attempt; waiting for a slot comes on top.
        error: The class of the error.
        code: The cloud's error code.
    """

    call: int
    operation: str
    attempt: int
    delay: float
    error: str
    code: str | None


class CallEnded(_Event, frozen=True, kw_only=True):
    """A call has ended, with a result or an error; there is one such event for each `CallStarted`.

    Attributes:
        call: The number of the call.
        operation: Its dotted name.
        seconds: Seconds since it began, including all waiting and all attempts.
        attempts: How many attempts were sent.
        status: The HTTP status of the last attempt, or of the token request without which the call failed; None if
            there was no response.
        code: The cloud's error code.
        request_id: The cloud's id of the request that was responded to last.
        error: The class of the error that the caller gets; ``CancelledError`` if the caller was cancelled; None for a
            success.
        job_id: The job that the call started, if any.
        is_poll: As in `CallStarted`.
        run: As in `CallStarted`.
    """

    call: int
    operation: str
    seconds: float
    attempts: int
    status: int | None
    code: str | None
    request_id: str | None
    error: str | None
    job_id: str | None
    is_poll: bool
    run: int | None


class JobPolled(_Event, frozen=True, kw_only=True):
    """A job was polled.

    Attributes:
        job_id: The job.
        action: The call that started it, such as ``servers.stop``; None if not known.
        status: Its status as last seen; None before the first successful poll.
        ended: How many of its sub-jobs have ended.
        total: How many sub-jobs it has, as far as is known; at least 1.
        error: The class of the error if the poll failed.
        code: The cloud's error code if the poll failed.
    """

    job_id: str
    action: str | None
    status: str | None
    ended: int
    total: int
    error: str | None
    code: str | None


class JobFinished(_Event, frozen=True, kw_only=True):
    """A job has ended, or is lost: its end cannot be known.

    Attributes:
        job_id: The job.
        action: The call that started it; None if not known.
        status: The status with which it ended; None if it is lost.
        succeeded: How many of its sub-jobs succeeded.
        failed: How many of its sub-jobs failed.
        seconds: Seconds from its acceptance until its end was seen; None for a job that was picked up by its id.
        error: ``JobLostError`` if it is lost.
    """

    job_id: str
    action: str | None
    status: str | None
    succeeded: int
    failed: int
    seconds: float | None
    error: str | None


class RunStarted(_Event, frozen=True, kw_only=True):
    """A fleet run has begun.

    Attributes:
        run: The number of the run, which its events and calls share; it is unique in the process.
        action: The action, such as ``servers.stop``.
        lane: ``interactive`` or ``bulk``.
        wave_size: How many servers may be in flight at once; None for no bound, and for one that follows from
            `abort_above` where the number of servers is not known yet; an id that comes twice in a list counts twice.
        abort_above: The share of failures above which the run is aborted; None for no threshold.
        verify: Whether the servers' states are read back at the end.
    """

    run: int
    action: str
    lane: str
    wave_size: int | None
    abort_above: float | None
    verify: bool


class OutcomeRecorded(_Event, frozen=True, kw_only=True):
    """A server of a fleet run has its outcome; there is one such event for each server.

    Attributes:
        run: The number of the run.
        action: The action of the run.
        server_id: The server.
        state: One of `OutcomeState`, as text.
        code: The cloud's error code.
        error: The class of the error.
        job_id: The job that the server was part of; None if there was none.
        attempts: How many requests for the server were sent.
        seconds: Seconds from the first request until the outcome; None if no request was sent.
    """

    run: int
    action: str
    server_id: str
    state: str
    code: str | None
    error: str | None
    job_id: str | None
    attempts: int
    seconds: float | None


class RunEnded(_Event, frozen=True, kw_only=True):
    """A fleet run has ended, and all its outcomes are recorded.

    Attributes:
        run: The number of the run.
        action: The action of the run.
        seconds: How long the run took.
        by_state: How many servers are in each `OutcomeState`; every state is a key.
        by_code: How many servers are not as asked, by error code or, without one, by the class of the error or the
            state.
        batches: How many batches the cloud accepted.
        extra_calls: How many calls were made to find out what no job has shown.
        cancelled: Whether the run was cancelled.
        aborted: Why the run was aborted, if too many servers failed.
        error: The class of an error that is not about a server: of the source, of a callback or of this package.
    """

    run: int
    action: str
    seconds: float
    by_state: Mapping[str, int]
    by_code: Mapping[str, int]
    batches: int
    extra_calls: int
    cancelled: bool
    aborted: str | None
    error: str | None


class ConditionChanged(_Event, frozen=True, kw_only=True):
    """A `Reconciler` says something else of a server than before.

    Attributes:
        reconciler: The name of the reconciler.
        server_id: The server, or the entry that is no id.
        desired: The status that is desired of it.
        condition: ``Synced``, ``Progressing`` or ``Degraded``.
        reason: Why it is degraded: the cloud's error code, or else the class of the error, or a sentence on its state.
        attempts: How many attempts in a row have failed.
    """

    reconciler: str
    server_id: str
    desired: str
    condition: str
    reason: str | None
    attempts: int


class ResyncEnded(_Event, frozen=True, kw_only=True):
    """A `Reconciler` has read the states of all its servers, or could not.

    Attributes:
        reconciler: The name of the reconciler.
        seconds: How long it took.
        synced: How many servers are as desired.
        progressing: How many are not, and something is on its way.
        degraded: How many were tried in vain, or are left alone.
        error: The class of the error with which the reading failed.
    """

    reconciler: str
    seconds: float
    synced: int
    progressing: int
    degraded: int
    error: str | None


class CredentialsRenewalEnded(_Event, frozen=True, kw_only=True):
    """Credentials have a new token or new keys, or failed to get them; all clients that share them emit this.

    Attributes:
        credentials: The class of the credentials, such as ``PasswordAuth``.
        seconds: How long it took, with all attempts.
        lifetime: Seconds for which the token or the keys are valid; None if not known, or on failure.
        error: The class of the error on failure.
    """

    credentials: str
    seconds: float
    lifetime: float | None
    error: str | None


HookEvent: TypeAlias = (
    CallStarted
    | RequestSent
    | AttemptEnded
    | RateLimited
    | RetryScheduled
    | CallEnded
    | JobPolled
    | JobFinished
    | RunStarted
    | OutcomeRecorded
    | RunEnded
    | ConditionChanged
    | ResyncEnded
    | CredentialsRenewalEnded
)
"""Any event that a hook is called with."""
