"""What a hook is told: one Struct an event, of plain values, so that any of them can be logged, counted or sent on.

No event holds an exception, for its traceback holds the variables of the call that failed; what became of a call is
told by the name of its error's class, the status, the code and the request id. None holds a query, a header or a body.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

import msgspec


class _Event(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What all events have in common: as JSON each says by its ``type`` which it is."""


class CallStarted(_Event, frozen=True, kw_only=True):
    """A call was asked for; it may have to wait for its slot.

    Attributes:
        call: Its number, which all events of the call bear; no two calls of a process have the same.
        operation: Its dotted name, such as ``servers.stop``; ``request`` for one that no method is for.
        method: The HTTP method.
        template: The path with its parts in braces; None where `BmsClient.request` was given a path.
        parameters: What stands for those parts, such as ``server_id``.
        project_id: The project; None as long as nobody knows it.
        host: The host that it goes to.
        port: The port.
        lane: ``interactive`` or ``bulk``.
        is_poll: Whether the client makes it of its own accord, to learn how far a job or a server is.
        run: The number of the fleet run that it is made for; None outside one.
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
    """A try of a call has its slot and its credentials, and was handed to the transport.

    Attributes:
        call: The call's number.
        operation: Its dotted name.
        attempt: Which try it is, from 1.
        url: The address without its query.
        waited: Seconds that the try waited for its slot.
        used: Slots of the operation that are in use, this one included: calls in flight, and those of the last minute.
        limit: How many there are now; None without a limit.
    """

    call: int
    operation: str
    attempt: int
    url: str
    waited: float
    used: int
    limit: int | None


class AttemptEnded(_Event, frozen=True, kw_only=True):
    """A try that was sent came to its end: with an answer, without one, or because the caller left.

    Attributes:
        call: The call's number.
        operation: Its dotted name.
        attempt: Which try it was, from 1.
        seconds: From when it was sent.
        status: The HTTP status; None where no answer came.
        code: The cloud's code, such as ``BMS.0036``.
        request_id: The cloud's id of the try, for its support.
        error: The class of the error, such as ``TransportError``; ``CancelledError`` if the caller left or the deadline
            came; None for a good answer.
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
    """The cloud counted a try out (429).

    An operation that has a limit stands still then, and its capacity shrinks for a while.

    Attributes:
        call: The call's number.
        operation: Its dotted name.
        attempt: Which try it was, from 1.
        retry_after: Seconds that the cloud asked to wait; None if it did not.
        wait: Seconds that the operation stands still from now on, for all its calls; None if it does not.
        capacity: Calls a minute that are made from then on, until it grows back; None without a limit.
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
    """A call is to be tried again.

    Attributes:
        call: The call's number.
        operation: Its dotted name.
        attempt: Which try it is that failed, from 1; 0 where none was sent, for want of a token for instance.
        delay: Seconds until then; waiting for a slot comes on top.
        error: The class of the error that the try ended with.
        code: The cloud's code.
    """

    call: int
    operation: str
    attempt: int
    delay: float
    error: str
    code: str | None


class CallEnded(_Event, frozen=True, kw_only=True):
    """A call came to its end, well or badly; each call that started does so once.

    Attributes:
        call: Its number.
        operation: Its dotted name.
        seconds: From when it was asked for, with all its waiting and all its tries.
        attempts: How many tries were sent.
        status: The HTTP status of the last try, or of the call for a token that it failed for want of; None where there
            was no answer.
        code: The cloud's code for what went wrong.
        request_id: The cloud's id of what was answered last.
        error: The class of the error that the caller gets; ``CancelledError`` if he left; None if it went well.
        job_id: The job that it started.
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
        status: Its status as last seen; None before it was.
        ended: How many of its sub-jobs have ended.
        total: How many it has, as far as is known; at least 1.
        error: The class of the error, where the poll told nothing.
        code: The cloud's code for that.
    """

    job_id: str
    action: str | None
    status: str | None
    ended: int
    total: int
    error: str | None
    code: str | None


class JobFinished(_Event, frozen=True, kw_only=True):
    """A job has ended, or how it ended cannot be known.

    Attributes:
        job_id: The job.
        action: The call that started it; None if not known.
        status: How it ended; None if it was lost.
        succeeded: How many of its sub-jobs did.
        failed: How many of them failed.
        seconds: From when it was accepted until its end was seen; None for one that was picked up later.
        error: ``JobLostError`` if it was lost.
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
        run: Its number, which its events and its calls bear; no two runs of a process have the same.
        action: What it asks for, such as ``servers.stop``.
        lane: ``interactive`` or ``bulk``.
        wave_size: How many servers may be under way at once; None for no bound.
        abort_above: The share of failures that ends it; None for none.
        verify: Whether the states are read back at its end.
    """

    run: int
    action: str
    lane: str
    wave_size: int | None
    abort_above: float | None
    verify: bool


class OutcomeRecorded(_Event, frozen=True, kw_only=True):
    """What became of a server of a run is known; each of its servers is told of once.

    Attributes:
        run: The run's number.
        action: What was asked for.
        server_id: The server.
        state: One of `OutcomeState`, as text.
        code: The cloud's code for what went wrong.
        error: The class of the error for what went wrong.
        job_id: The job that it was part of; None if it never came to one.
        attempts: How often the cloud was asked for it.
        seconds: From when it was first asked for; None if it never was.
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
    """A fleet run is over, and all its outcomes are told.

    Attributes:
        run: Its number.
        action: What it asked for.
        seconds: How long it took.
        by_state: How many servers are in each state; every state is there.
        by_code: How many are not as asked, by the code or, without one, the name of the error or the state.
        batches: How many batches the cloud accepted.
        extra_calls: How many calls it took to find out what no job told.
        cancelled: Whether it was ended before its end.
        aborted: Why nothing more was asked for, when too many servers failed.
        error: The class of what broke that is no server's: a fault of the source, of a callback or of ours.
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


class CredentialsRenewalEnded(_Event, frozen=True, kw_only=True):
    """Credentials got a new token or new keys, or failed to. All clients that share them are told.

    Attributes:
        credentials: Their class, such as ``PasswordAuth``.
        seconds: How long it took, with all tries.
        lifetime: Seconds for which what came is good; None if nothing came, or nobody knows.
        error: The class of the error, if nothing came.
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
    | CredentialsRenewalEnded
)
"""What a hook is told."""
