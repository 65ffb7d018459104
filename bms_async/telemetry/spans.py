"""Spans: one for each call, a child for each attempt, and a parent for the calls of a fleet run."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from contextvars import Token
from typing import Any

from opentelemetry.context import Context, attach, detach, get_current
from opentelemetry.trace import Link, Span, SpanContext, SpanKind, StatusCode, Tracer, set_span_in_context

from bms_async.hooks import (
    AttemptEnded,
    CallEnded,
    CallStarted,
    JobFinished,
    RateLimited,
    RequestSent,
    RetryScheduled,
    RunEnded,
    RunStarted,
)

_MAX_LINKED_JOBS = 10_000
"""For how many jobs the span that started them is kept; a job without a waiter may never be seen to end."""

_CANCELLED = "CancelledError"
_FIRST_ERROR_STATUS = 400


class _OpenSpan:
    """A span that is current in its context, and its state until it ends.

    Attributes:
        span: The span.
        started: The event that began the call; None for a run.
        attempt_span: The span of the attempt in flight.
        attempts: How many attempts were sent.
    """

    __slots__ = ("_context", "_token", "attempt_span", "attempts", "span", "started")

    def __init__(self, span: Span, context: Context | None, started: CallStarted | None = None) -> None:
        self.span = span
        self.started = started
        self.attempt_span: Span | None = None
        self.attempts = 0
        self._context = set_span_in_context(span, context)
        self._token: Token[Context] = attach(self._context)

    def end(self) -> None:
        try:
            if self.attempt_span is not None:
                self.attempt_span.end()
            self.span.end()
        finally:
            # A coroutine that is closed from elsewhere ends in another context, which is not ours to change.
            if get_current() is self._context:
                detach(self._token)


class Spans:
    """Turns events into spans.

    A span is current in the caller's own context, so that log records and further spans made meanwhile belong to it. A
    poll runs in a task that was started when the client was opened, or by a waiter that may be gone. So it has a trace
    of its own, with a link to the call that started the job.

    Args:
        tracer: The tracer that creates the spans.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer
        self._calls: dict[int, _OpenSpan] = {}
        self._runs: dict[int, _OpenSpan] = {}
        self._jobs: OrderedDict[str, SpanContext] = OrderedDict()

    @property
    def open(self) -> int:
        """How many spans of calls and runs are open."""
        return len(self._calls) + len(self._runs)

    def handlers(self) -> Mapping[type[Any], Callable[[Any], None]]:
        """Return the handler of each kind of event."""
        return {
            CallStarted: self._start_call,
            RequestSent: self._start_attempt,
            AttemptEnded: self._end_attempt,
            RateLimited: self._add_rate_limit,
            RetryScheduled: self._add_retry,
            CallEnded: self._end_call,
            JobFinished: self._forget_job,
            RunStarted: self._start_run,
            RunEnded: self._end_run,
        }

    def _start_call(self, event: CallStarted) -> None:
        context = Context() if event.is_poll else None
        job = self._jobs.get(event.parameters.get("job_id", ""))
        span = self._tracer.start_span(
            event.operation,
            context,
            attributes=without_none(
                {
                    "bms.operation": event.operation,
                    "bms.lane": event.lane,
                    "bms.project_id": event.project_id,
                    **{f"bms.{name}": value for name, value in event.parameters.items()},
                }
            ),
            links=[Link(job)] if job is not None else None,
        )
        self._calls[event.call] = _OpenSpan(span, context, event)

    def _start_attempt(self, event: RequestSent) -> None:
        call = self._calls.get(event.call)
        if call is None or call.started is None:
            return
        started = call.started
        call.attempt_span = self._tracer.start_span(
            started.method if started.template is None else f"{started.method} {started.template}",
            set_span_in_context(call.span),
            SpanKind.CLIENT,
            without_none(
                {
                    "http.request.method": started.method,
                    "http.request.resend_count": call.attempts or None,
                    "server.address": started.host,
                    "server.port": started.port,
                    "url.full": event.url,
                    "url.template": started.template,
                    "bms.slot.wait": event.waited,
                }
            ),
        )
        call.attempts += 1

    def _end_attempt(self, event: AttemptEnded) -> None:
        call = self._calls.get(event.call)
        if call is None or call.attempt_span is None:
            return
        span, call.attempt_span = call.attempt_span, None
        status = {"http.response.status_code": event.status}
        _set_end(span, status, event.code, event.request_id, attempt_error(event))
        span.end()

    def _add_rate_limit(self, event: RateLimited) -> None:
        call = self._calls.get(event.call)
        if call is not None:
            call.span.add_event(
                "bms.rate_limited",
                without_none({"bms.retry_after": event.retry_after, "bms.slot.limit": event.capacity}),
            )

    def _add_retry(self, event: RetryScheduled) -> None:
        call = self._calls.get(event.call)
        if call is not None:
            call.span.add_event("bms.retry", {"bms.retry.delay": event.delay, "error.type": event.error})

    def _end_call(self, event: CallEnded) -> None:
        call = self._calls.pop(event.call, None)
        if call is None:
            return
        attributes = {"bms.attempts": event.attempts, "bms.job_id": event.job_id}
        _set_end(call.span, attributes, event.code, event.request_id, event.error)
        if event.job_id is not None:
            self._remember_job(event.job_id, call.span.get_span_context())
        call.end()

    def _remember_job(self, job_id: str, started_by: SpanContext) -> None:
        if started_by.is_valid:
            self._jobs[job_id] = started_by
            if len(self._jobs) > _MAX_LINKED_JOBS:
                self._jobs.popitem(last=False)

    def _forget_job(self, event: JobFinished) -> None:
        self._jobs.pop(event.job_id, None)

    def _start_run(self, event: RunStarted) -> None:
        span = self._tracer.start_span(
            f"fleet.{event.action.rpartition('.')[2]}",
            attributes=without_none(
                {
                    "bms.action": event.action,
                    "bms.lane": event.lane,
                    "bms.wave_size": event.wave_size,
                    "bms.abort_above": event.abort_above,
                    "bms.verify": event.verify,
                }
            ),
        )
        self._runs[event.run] = _OpenSpan(span, None)

    def _end_run(self, event: RunEnded) -> None:
        run = self._runs.pop(event.run, None)
        if run is None:
            return
        attributes: dict[str, Any] = {
            "bms.batches": event.batches,
            "bms.extra_calls": event.extra_calls,
            "bms.cancelled": event.cancelled,
            **{f"bms.outcomes.{state.lower()}": count for state, count in event.by_state.items()},
        }
        aborted = None if event.aborted is None else "aborted"
        _set_end(run.span, attributes, None, None, event.error or aborted, description=event.aborted)
        run.end()


def attempt_error(event: AttemptEnded) -> str | None:
    """Return ``error.type`` by the semantic conventions: the status if it is that of an error, else the class."""
    if event.status is not None and event.status >= _FIRST_ERROR_STATUS:
        return str(event.status)
    return event.error


def without_none(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Return the attributes that are not None."""
    return {name: value for name, value in attributes.items() if value is not None}


def _set_end(
    span: Span,
    attributes: Mapping[str, Any],
    code: str | None,
    request_id: str | None,
    error: str | None,
    *,
    description: str | None = None,
) -> None:
    result = {"bms.code": code, "bms.request_id": request_id, "error.type": error}
    span.set_attributes(without_none({**attributes, **result}))
    # Cancellation by the caller is not an error status.
    if error is not None and error != _CANCELLED:
        span.set_status(StatusCode.ERROR, description)
