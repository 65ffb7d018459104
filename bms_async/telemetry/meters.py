"""Metrics: durations and waits of calls, use of the limits, outcomes of servers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from threading import Lock
from typing import Any

from opentelemetry.metrics import Histogram, Meter

from bms_async.hooks import (
    AttemptEnded,
    CallEnded,
    CallStarted,
    ConditionChanged,
    CredentialsRenewalEnded,
    JobFinished,
    JobPolled,
    OutcomeRecorded,
    RateLimited,
    RequestSent,
    ResyncEnded,
    RetryScheduled,
    RunEnded,
)

from .spans import attempt_error, without_none

_REQUEST_BOUNDS = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Bucket bounds in seconds, as the semantic conventions advise for HTTP clients."""

_WAIT_BOUNDS = (0.0, 0.1, 1.0, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0)
_WORK_BOUNDS = (1.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0)


class Meters:
    """Turns events into metrics. No attribute is an id, because each value of an attribute makes a time series.

    Args:
        meter: The meter that creates the instruments.
    """

    def __init__(self, meter: Meter) -> None:
        def seconds(name: str, description: str, bounds: tuple[float, ...]) -> Histogram:
            return meter.create_histogram(name, "s", description, explicit_bucket_boundaries_advisory=bounds)

        self._request_attributes: dict[int, Mapping[str, Any]] = {}
        self._pending_outcomes: Counter[tuple[str, str]] = Counter()
        self._pending_changes: Counter[tuple[str, str]] = Counter()
        # Clients in several threads, each with its own event loop, may share this object.
        self._lock = Lock()
        self._requests = seconds("http.client.request.duration", "Duration of HTTP client requests.", _REQUEST_BOUNDS)
        self._calls = seconds("bms.call.duration", "Duration of calls, with waiting and all attempts.", _WAIT_BOUNDS)
        self._active = meter.create_up_down_counter("bms.call.active", "{call}", "Calls in progress, waiting included.")
        self._waits = seconds("bms.slot.wait", "Time that an attempt waited for its slot.", _WAIT_BOUNDS)
        self._used = meter.create_gauge(
            "bms.slot.used", "{slot}", "Slots in use when the last request of the operation was sent."
        )
        self._limit = meter.create_gauge("bms.slot.limit", "{slot}", "Slots of the operation at that moment.")
        self._rate_limits = meter.create_counter(
            "bms.call.refusals", "{refusal}", "Attempts that the cloud rate-limited (429)."
        )
        self._retries = meter.create_counter("bms.call.retries", "{retry}", "Retries that were scheduled.")
        self._polls = meter.create_counter("bms.job.polls", "{poll}", "Polls of jobs.")
        self._jobs = seconds("bms.job.duration", "Time from a job's acceptance until its end was seen.", _WORK_BOUNDS)
        self._outcomes = meter.create_counter("bms.fleet.outcomes", "{server}", "Outcomes of servers.")
        self._runs = seconds("bms.fleet.run.duration", "Duration of fleet runs.", _WORK_BOUNDS)
        self._changes = meter.create_counter(
            "bms.reconciler.changes", "{change}", "Changes of the conditions of servers."
        )
        self._servers = meter.create_gauge(
            "bms.reconciler.servers", "{server}", "Servers in each condition when their states were last read."
        )
        self._resyncs = seconds("bms.reconciler.resync.duration", "Duration of readings of all states.", _WORK_BOUNDS)
        self._renewals = meter.create_counter("bms.credentials.renewals", "{renewal}", "Renewals of credentials.")

    def handlers(self) -> Mapping[type[Any], Callable[[Any], None]]:
        """Return the handler of each kind of event."""
        return {
            CallStarted: self._start_call,
            RequestSent: self._send,
            AttemptEnded: self._end_attempt,
            RateLimited: self._rate_limited,
            RetryScheduled: self._retry,
            CallEnded: self._end_call,
            JobPolled: self._poll,
            JobFinished: self._finish_job,
            OutcomeRecorded: self._record_outcome,
            RunEnded: self._end_run,
            ConditionChanged: self._change_condition,
            ResyncEnded: self._end_resync,
            CredentialsRenewalEnded: self._renew,
        }

    def _start_call(self, event: CallStarted) -> None:
        self._request_attributes[event.call] = without_none(
            {
                "http.request.method": event.method,
                "server.address": event.host,
                "server.port": event.port,
                "url.template": event.template,
            }
        )
        self._active.add(1, {"bms.operation": event.operation})

    def _send(self, event: RequestSent) -> None:
        operation = {"bms.operation": event.operation}
        self._waits.record(event.waited, operation)
        if event.limit is not None:
            self._used.set(event.used, operation)
            self._limit.set(event.limit, operation)

    def _end_attempt(self, event: AttemptEnded) -> None:
        request = self._request_attributes.get(event.call, {})
        response = without_none({"http.response.status_code": event.status, "error.type": attempt_error(event)})
        self._requests.record(event.seconds, {**request, **response})

    def _rate_limited(self, event: RateLimited) -> None:
        self._rate_limits.add(1, {"bms.operation": event.operation})
        if event.capacity is not None:
            self._limit.set(event.capacity, {"bms.operation": event.operation})

    def _retry(self, event: RetryScheduled) -> None:
        self._retries.add(1, {"bms.operation": event.operation, "error.type": event.error})

    def _end_call(self, event: CallEnded) -> None:
        self._request_attributes.pop(event.call, None)
        self._active.add(-1, {"bms.operation": event.operation})
        attributes = without_none({"bms.operation": event.operation, "error.type": event.error})
        self._calls.record(event.seconds, attributes)

    def _poll(self, event: JobPolled) -> None:
        self._flush_outcomes()
        self._polls.add(1, without_none({"bms.action": event.action, "error.type": event.error}))

    def _finish_job(self, event: JobFinished) -> None:
        if event.seconds is not None:
            status = event.status or "LOST"
            self._jobs.record(event.seconds, without_none({"bms.action": event.action, "bms.status": status}))

    def _record_outcome(self, event: OutcomeRecorded) -> None:
        # Counted here and recorded later: one poll may end a thousand servers, and the SDK takes its time for each.
        with self._lock:
            self._pending_outcomes[event.action, event.state] += 1

    def _flush_outcomes(self) -> None:
        with self._lock:
            outcomes, self._pending_outcomes = self._pending_outcomes, Counter()
        for (action, state), count in outcomes.items():
            self._outcomes.add(count, {"bms.action": action, "bms.state": state})

    def _end_run(self, event: RunEnded) -> None:
        self._flush_outcomes()
        self._runs.record(event.seconds, {"bms.action": event.action})

    def _change_condition(self, event: ConditionChanged) -> None:
        # Counted here and recorded later, as outcomes are.
        with self._lock:
            self._pending_changes[event.reconciler, event.condition] += 1

    def _end_resync(self, event: ResyncEnded) -> None:
        with self._lock:
            changes, self._pending_changes = self._pending_changes, Counter()
        for (reconciler, condition), count in changes.items():
            self._changes.add(count, {"bms.reconciler": reconciler, "bms.condition": condition})
        attributes = {"bms.reconciler": event.reconciler}
        self._resyncs.record(event.seconds, without_none({**attributes, "error.type": event.error}))
        counts = {"Synced": event.synced, "Progressing": event.progressing, "Degraded": event.degraded}
        for condition, count in counts.items():
            self._servers.set(count, {**attributes, "bms.condition": condition})

    def _renew(self, event: CredentialsRenewalEnded) -> None:
        self._renewals.add(1, without_none({"bms.credentials": event.credentials, "error.type": event.error}))
