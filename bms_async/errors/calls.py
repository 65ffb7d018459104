"""The errors of a single call."""

from __future__ import annotations

from bms_async.errorcodes import ErrorCode, Remedy, explain

from .base import BmsError

_REQUEST_TIMEOUT = 408
_CONTENT_TOO_LARGE = 413
_SERVER_ERRORS = 500


class CallError(BmsError):
    """Base class of the errors that a call ends with.

    Attributes:
        operation: The dotted name of the call, such as ``servers.stop``; None outside a call.
        previous: The errors of the earlier attempts of the same call, oldest first.
    """

    operation: str | None = None
    previous: tuple[CallError, ...] = ()

    @property
    def maybe_done(self) -> bool:
        """Whether the cloud may have executed the call, in this attempt or an earlier one."""
        return self._maybe_done() or any(error.maybe_done for error in self.previous)

    def _maybe_done(self) -> bool:
        return False


class TransportError(CallError):
    """No response was received.

    Attributes:
        maybe_delivered: False if the request certainly never reached the cloud, True if it may have.
    """

    def __init__(self, message: str, *, maybe_delivered: bool, operation: str | None = None) -> None:
        self.maybe_delivered = maybe_delivered
        self.operation = operation
        delivery = "the cloud may have received it" if maybe_delivered else "nothing reached the cloud"
        super().__init__(f"{_prefix(operation)}{message} ({delivery})")

    def _maybe_done(self) -> bool:
        return self.maybe_delivered


class CallTimeoutError(TransportError, TimeoutError):
    """No response was received in time."""


class WaitTooLongError(CallError, TimeoutError):
    """The rate limiter would have made the call wait longer than `max_wait`; nothing was sent.

    Attributes:
        wait: Minimum wait in seconds; a service may send it as its own ``Retry-After``.
        max_wait: Maximum wait that was allowed, in seconds.
        reason: What makes calls wait other than the limit itself, such as a store of shared limits that does not
            answer; `wait` is a guess then. None if there is nothing.
    """

    def __init__(self, *, operation: str, wait: float, max_wait: float, reason: str | None = None) -> None:
        self.operation = operation
        self.wait = wait
        self.max_wait = max_wait
        self.reason = reason
        why = f"its rate limit requires a wait of at least {wait:.1f} s" if reason is None else reason
        super().__init__(f"{_prefix(operation)}{why}, and max_wait is {max_wait:g} s (nothing was sent)")


class DecodeError(CallError):
    """A response was received that cannot be decoded as the call's result.

    Attributes:
        status: The HTTP status of the response.
        request_id: The cloud's id of the call, to be quoted to its support.
    """

    def __init__(
        self, message: str, *, status: int, request_id: str | None = None, operation: str | None = None
    ) -> None:
        self.status = status
        self.request_id = request_id
        self.operation = operation
        super().__init__(f"{_prefix(operation)}{message}{_suffix(request_id)}")

    def _maybe_done(self) -> bool:
        return True


class ResponseTooLargeError(DecodeError):
    """A response was received that is larger than the transport accepts; a repetition would bring the same.

    Attributes:
        limit: Maximum size in bytes, decompressed.
    """

    def __init__(self, *, limit: int, status: int, operation: str | None = None) -> None:
        self.limit = limit
        super().__init__(
            f"expected at most {limit} bytes, got a larger response; request less at once, or raise max_response_bytes",
            status=status,
            operation=operation,
        )


class ApiError(CallError):
    """The cloud refused a call.

    Attributes:
        status: The HTTP status; chapter 6.2 warns that it may not be accurate, so `code` counts for more.
        code: The code in the body, such as ``BMS.0036``; None if the body has none.
        message: The cloud's own words, cut to 256 characters.
        request_id: The cloud's id of the call, to be quoted to its support.
        retry_after: Seconds that the cloud asks to wait; None if it does not.
        quota: The rate limit that a 429 names: calls, and the window in seconds; None if it names none.
    """

    def __init__(
        self,
        *,
        status: int,
        code: str | None = None,
        message: str = "",
        request_id: str | None = None,
        operation: str | None = None,
        retry_after: float | None = None,
        quota: tuple[int, float] | None = None,
        said: str | None = None,
    ) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.request_id = request_id
        self.operation = operation
        self.retry_after = retry_after
        self.quota = quota
        self._said = message if said is None else said
        text = f"{_prefix(operation)}{status}"
        if code and code != str(status):
            text += f" {code}"
        if message:
            text += f": {message}"
        if self.measure:
            text += f" [{self.meaning} {self.measure}]"
        super().__init__(text + _suffix(request_id))

    def says(self, words: str) -> bool:
        """Return whether the cloud's own words contain these, even where `message` masks them by chance.

        Args:
            words: In lower case; the comparison ignores the case of the cloud's words.
        """
        return words in self._said.lower()

    @property
    def documented(self) -> ErrorCode | None:
        """The row of chapter 6.2 for this code; None for an undocumented code."""
        return explain(self.code)

    @property
    def meaning(self) -> str | None:
        """The meaning of the code (API reference 6.2); None if undocumented."""
        return self.documented.meaning if self.documented else None

    @property
    def measure(self) -> str | None:
        """The documented remedy (API reference 6.2); None if undocumented."""
        return self.documented.measure if self.documented else None


class BadRequestError(ApiError):
    """400, and any other 4xx that has no class of its own."""

    def _maybe_done(self) -> bool:
        # A 408 does not say whether the request was executed before time ran out.
        return self.status == _REQUEST_TIMEOUT


class AuthenticationError(ApiError):
    """401: the credentials are missing, wrong or expired."""


class PermissionDeniedError(ApiError):
    """403: the credentials are known but may not do this."""


class NotFoundError(ApiError):
    """404: the resource does not exist, or not yet."""


class ConflictError(ApiError):
    """409: the resource is in a state that does not allow this."""


class RateLimitedError(ApiError):
    """429, BMS.0212, or Nova's 413 "over limit": the call was rejected by a rate limit and not executed."""


class ServerError(ApiError):
    """5xx: the cloud or a proxy in front of it failed; the call may have been executed all the same."""

    def _maybe_done(self) -> bool:
        return True


def error_class(status: int, code: str | None, *, is_over_limit: bool = False) -> type[ApiError]:
    """Return the class of error for a response.

    Args:
        status: The HTTP status, not 2xx.
        code: The code in the body.
        is_over_limit: Whether a 413 means too many calls, and not too large a request.
    """
    documented = explain(code)
    if documented and documented.remedy is Remedy.OVERLOADED:
        return RateLimitedError
    if status == _CONTENT_TOO_LARGE and is_over_limit:
        return RateLimitedError
    if status >= _SERVER_ERRORS:
        return ServerError
    return _BY_STATUS.get(status, BadRequestError)


_BY_STATUS: dict[int, type[ApiError]] = {
    401: AuthenticationError,
    403: PermissionDeniedError,
    404: NotFoundError,
    409: ConflictError,
    429: RateLimitedError,
}


def _prefix(operation: str | None) -> str:
    return f"{operation}: " if operation else ""


def _suffix(request_id: str | None) -> str:
    return f" (request id {request_id})" if request_id else ""
