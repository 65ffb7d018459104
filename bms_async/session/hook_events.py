"""What the hooks are told of one call."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from bms_async.errors import ApiError, CallError, RateLimitedError
from bms_async.hooks import (
    AttemptEnded,
    CallEnded,
    CallStarted,
    RateLimited,
    RequestSent,
    RetryScheduled,
    current_run,
    next_call_number,
)
from bms_async.limits import Lane, WindowLimiter
from bms_async.models import JobAccepted
from bms_async.redaction import shown_text
from bms_async.wire import HttpRequest, HttpResponse, read_request_id

if TYPE_CHECKING:
    from .core import Core

T = TypeVar("T")


class CallHookEvents:
    """Tells a client's hooks of one call.

    It is told where no error is being handled: a hook that reports the error at hand would report one that the call
    may yet mend.

    Args:
        core: The client's; it has hooks.
        operation: The call's dotted name.
        method: Its HTTP method.
        template: Its path with its parts in braces; None where that is not known.
        parameters: What stands for those parts.
        address: Where it goes to.
        lane: Who goes first when calls must wait.
        is_poll: Whether nobody asked for it.
    """

    __slots__ = (
        "_attempts", "_code", "_has_template", "_is_poll", "_loop", "_number", "_operation", "_redact", "_request_id",
        "_run", "_sent_at", "_started_at", "_status", "_tell",
    )  # fmt: skip

    def __init__(
        self,
        core: Core,
        operation: str,
        *,
        method: str,
        template: str | None,
        parameters: Mapping[str, str],
        address: str,
        lane: Lane = Lane.INTERACTIVE,
        is_poll: bool = False,
    ) -> None:
        assert core.hooks is not None  # noqa: S101 - for the type checker
        self._tell = core.hooks.emit
        self._redact = core.redact
        self._operation = operation
        self._has_template = template is not None
        self._number = next_call_number()
        self._is_poll = is_poll
        self._run = current_run.get()
        self._loop = asyncio.get_running_loop()
        self._started_at = self._sent_at = self._loop.time()
        self._attempts = 0
        self._status: int | None = None
        self._code: str | None = None
        self._request_id: str | None = None
        host, port = _host_and_port(address)
        self._tell(
            CallStarted(
                call=self._number,
                operation=operation,
                method=method,
                template=template,
                parameters=parameters,
                project_id=core.project_id,
                host=host,
                port=port,
                lane=lane.name.lower(),
                is_poll=is_poll,
                run=self._run,
            )
        )

    def on_sent(self, request: HttpRequest, waited: float, limiter: WindowLimiter | None) -> None:
        """A try was handed to the transport, after waiting so long for its slot; None limits it."""
        self._attempts += 1
        self._sent_at = self._loop.time()
        self._status = self._code = self._request_id = None
        statistics = None if limiter is None else limiter.statistics()
        url = request.url.partition("?")[0]
        self._tell(
            RequestSent(
                call=self._number,
                operation=self._operation,
                attempt=self._attempts,
                # Ids are no secrets; a path that was given may have anything in it.
                url=url if self._has_template else self._redact(url),
                waited=waited,
                used=0 if statistics is None else statistics.used,
                limit=None if statistics is None else statistics.capacity,
            )
        )

    def on_response(self, response: HttpResponse) -> None:
        """A try was answered, and the answer could be read."""
        self._status = response.status
        self._request_id = shown_text(read_request_id(response, redact=self._redact))
        self._end_attempt(None)

    def on_failure(self, error: BaseException, limiter: WindowLimiter | None) -> None:
        """A try ended in an error, or its caller left."""
        self._remember(error)
        self._end_attempt(type(error).__name__)
        if limiter is not None and isinstance(error, RateLimitedError):
            statistics = limiter.statistics()
            self._tell(
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
        """The call is to be tried again."""
        self._tell(
            RetryScheduled(
                call=self._number,
                operation=self._operation,
                attempt=self._attempts,
                delay=delay,
                error=type(error).__name__,
                code=shown_text(error.code) if isinstance(error, ApiError) else None,
            )
        )

    def on_end(self, result: object = None, error: BaseException | None = None) -> None:
        """The call came to its end."""
        name = None
        if error is not None:
            name = type(error).__name__
            self._remember(error)
        self._tell(
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
        """Do the work of the call, and tell how it ended."""
        failure: BaseException | None = None
        try:
            result = await work
        except BaseException as error:  # noqa: BLE001 - it is raised again
            failure = error
        if failure is not None:
            self.on_end(error=failure)
            try:
                raise failure
            finally:
                # It has a traceback, which has this frame: a cycle that only the collector would end.
                del failure
        self.on_end(result)
        return result

    def _remember(self, error: BaseException) -> None:
        if not isinstance(error, CallError):
            # Credentials of the application's may raise what has anything by these names.
            return
        self._status = getattr(error, "status", self._status)
        self._code = shown_text(getattr(error, "code", self._code))
        self._request_id = shown_text(getattr(error, "request_id", self._request_id))

    def _end_attempt(self, error: str | None) -> None:
        self._tell(
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
    """Return the host and the port of an address."""
    parts = urlsplit(address)
    return parts.hostname or "", parts.port or (80 if parts.scheme == "http" else 443)
