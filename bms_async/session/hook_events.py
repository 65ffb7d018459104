"""The hook events of one call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import urlsplit

from bms_async._foreign import reporting_failure
from bms_async.errors import ApiError, CallError, RateLimitedError
from bms_async.hooks import (
    AttemptEnded,
    CallEnded,
    CallStarted,
    HookEvent,
    RateLimited,
    RequestSent,
    RetryScheduled,
    current_run,
    next_call_number,
)
from bms_async.limits import Lane, Limiter
from bms_async.models import JobAccepted
from bms_async.redaction import shown_text
from bms_async.wire import HttpRequest, HttpResponse, read_request_id

T = TypeVar("T")


class CallHookEvents:
    """Emits the hook events of one call.

    Its methods are called outside of `except` blocks; `bms_async._foreign.reporting_failure` says why.

    Args:
        emit: Emits an event to the client's hooks.
        redact: Masks the credentials in a text.
        operation: The call's dotted name.
        is_poll: Whether the client makes the call of its own accord.
    """

    __slots__ = (
        "_attempts",
        "_code",
        "_emit",
        "_has_template",
        "_is_poll",
        "_loop",
        "_number",
        "_operation",
        "_redact",
        "_request_id",
        "_run",
        "_sent_at",
        "_started_at",
        "_status",
    )

    def __init__(
        self,
        emit: Callable[[HookEvent], None],
        redact: Callable[[str], str],
        operation: str,
        *,
        is_poll: bool = False,
    ) -> None:
        self._emit = emit
        self._redact = redact
        self._operation = operation
        self._has_template = False
        self._number = next_call_number()
        self._is_poll = is_poll
        self._run = current_run.get()
        self._loop = asyncio.get_running_loop()
        self._started_at = self._sent_at = self._loop.time()
        self._attempts = 0
        self._status: int | None = None
        self._code: str | None = None
        self._request_id: str | None = None

    def on_start(
        self,
        *,
        method: str,
        template: str | None,
        parameters: Mapping[str, str],
        address: str,
        project_id: str | None,
        lane: Lane = Lane.INTERACTIVE,
    ) -> None:
        """The call begins; this comes before every other event.

        Args:
            method: The HTTP method.
            template: The path with its parameters in braces; None where that is not known.
            parameters: The values of those parameters.
            address: The URL that the call goes to, or that of its service.
            project_id: The client's project, if it is known.
            lane: The lane that the call waits in.
        """
        self._has_template = template is not None
        host, port = _host_and_port(address)
        self._emit(
            CallStarted(
                call=self._number,
                operation=self._operation,
                method=method,
                template=template,
                parameters=parameters,
                project_id=project_id,
                host=host,
                port=port,
                lane=lane.name.lower(),
                is_poll=self._is_poll,
                run=self._run,
            )
        )

    def on_sent(self, request: HttpRequest, waited: float, limiter: Limiter | None) -> None:
        """An attempt was handed to the transport.

        Args:
            request: The request, without credentials.
            waited: Seconds that it waited for its slot.
            limiter: The limiter that gave the slot; None where the call has no limit to report.
        """
        self._attempts += 1
        self._sent_at = self._loop.time()
        self._status = self._code = self._request_id = None
        statistics = None if limiter is None else limiter.statistics()
        url = request.url.partition("?")[0]
        self._emit(
            RequestSent(
                call=self._number,
                operation=self._operation,
                attempt=self._attempts,
                # Ids are not secrets, but a path of the caller's own may hold anything.
                url=url if self._has_template else self._redact(url),
                waited=waited,
                used=0 if statistics is None else statistics.used,
                limit=None if statistics is None else statistics.capacity,
            )
        )

    def on_response(self, response: HttpResponse) -> None:
        """An attempt got a response that could be read."""
        self._status = response.status
        self._request_id = shown_text(read_request_id(response, redact=self._redact))
        self._end_attempt(None)

    def on_failure(self, error: BaseException, limiter: Limiter | None = None) -> None:
        """An attempt ended in an error, or its caller was cancelled."""
        self._remember(error)
        self._end_attempt(type(error).__name__)
        if limiter is not None and isinstance(error, RateLimitedError):
            statistics = limiter.statistics()
            self._emit(
                RateLimited(
                    call=self._number,
                    operation=self._operation,
                    attempt=self._attempts,
                    retry_after=error.retry_after,
                    wait=statistics.next_slot,
                    capacity=statistics.capacity,
                    limit=statistics.limit,
                )
            )

    def on_retry(self, error: CallError, delay: float) -> None:
        """The call will be retried after `delay` seconds."""
        self._emit(
            RetryScheduled(
                call=self._number,
                operation=self._operation,
                attempt=self._attempts,
                delay=delay,
                error=type(error).__name__,
                code=shown_text(error.code) if isinstance(error, ApiError) else None,
            )
        )

    def on_end(self, error: BaseException | None = None, *, result: object = None) -> None:
        """The call ended, with a result or in an error."""
        name = None
        if error is not None:
            name = type(error).__name__
            self._remember(error)
        self._emit(
            CallEnded(
                call=self._number,
                operation=self._operation,
                seconds=self._loop.time() - self._started_at,
                attempts=self._attempts,
                status=self._status,
                code=self._code,
                request_id=self._request_id,
                error=name,
                job_id=result.job_id if isinstance(result, JobAccepted) else None,
                is_poll=self._is_poll,
                run=self._run,
            )
        )

    async def wrap(self, work: Coroutine[Any, Any, T]) -> T:
        """Do the work of the call, and emit its end."""
        result = await reporting_failure(work, self.on_end)
        self.on_end(result=result)
        return result

    def _remember(self, error: BaseException) -> None:
        if not isinstance(error, CallError):
            # Credentials of the application's may raise errors with any attributes by these names.
            return
        self._status = getattr(error, "status", self._status)
        self._code = shown_text(getattr(error, "code", self._code))
        self._request_id = shown_text(getattr(error, "request_id", self._request_id))

    def _end_attempt(self, error: str | None) -> None:
        self._emit(
            AttemptEnded(
                call=self._number,
                operation=self._operation,
                attempt=self._attempts,
                seconds=self._loop.time() - self._sent_at,
                status=self._status,
                code=self._code,
                request_id=self._request_id,
                error=error,
            )
        )


@lru_cache(maxsize=64)
def _host_and_port(address: str) -> tuple[str, int]:
    parts = urlsplit(address)
    return parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
