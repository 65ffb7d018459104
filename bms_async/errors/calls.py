"""How one call can end badly."""

from __future__ import annotations

from bms_async.errorcodes import ErrorCode, Remedy, explain

from .base import BmsError


class CallError(BmsError):
    """A call that did not end well.

    Attributes:
        operation: The dotted name of the call, such as ``servers.stop``; None outside a call.
        previous: What the earlier tries of the same call ended with, oldest first.
    """

    operation: str | None = None
    previous: tuple[CallError, ...] = ()

    @property
    def maybe_done(self) -> bool:
        """Whether the cloud may have done what was asked, in this try or an earlier one."""
        return self._maybe_done() or any(error.maybe_done for error in self.previous)

    def _maybe_done(self) -> bool:
        return False


class TransportError(CallError):
    """No answer came.

    Attributes:
        maybe_delivered: False when the request surely never reached the cloud, True when it may have.
    """

    def __init__(self, message: str, *, maybe_delivered: bool, operation: str | None = None) -> None:
        self.maybe_delivered = maybe_delivered
        self.operation = operation
        fate = "the cloud may have received it" if maybe_delivered else "nothing reached the cloud"
        super().__init__(f"{_prefix(operation)}{message} ({fate})")

    def _maybe_done(self) -> bool:
        return self.maybe_delivered


class CallTimeoutError(TransportError, TimeoutError):
    """No answer came in time."""


class WaitTooLongError(CallError, TimeoutError):
    """The limit would have made the call wait longer than was allowed; nothing was sent.

    Attributes:
        wait: Seconds that it would have had to wait, at least; what a service may answer as its own ``Retry-After``.
        max_wait: Seconds that were allowed.
    """

    def __init__(self, *, operation: str, wait: float, max_wait: float) -> None:
        self.operation = operation
        self.wait = wait
        self.max_wait = max_wait
        super().__init__(
            f"{_prefix(operation)}its limit has it wait {wait:.1f} s at least, and max_wait is {max_wait:g} s "
            "(nothing was sent)"
        )


class DecodeError(CallError):
    """An answer came that cannot be read as what was asked for.

    Attributes:
        status: The HTTP status of the answer.
        request_id: The cloud's id of the call, for its support.
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
    """An answer came that is larger than the transport takes; asking again would bring the same.

    Attributes:
        limit: The most bytes that are taken, unpacked.
    """

    def __init__(self, *, limit: int, status: int, operation: str | None = None) -> None:
        self.limit = limit
        super().__init__(
            f"the answer is larger than {limit} bytes; ask for less at once, or raise max_response_bytes",
            status=status,
            operation=operation,
        )


class ApiError(CallError):
    """The cloud refused a call.

    Attributes:
        status: The HTTP status; chapter 6.2 warns that it may not be accurate, so `code` counts for more.
        code: The code in the body, such as ``BMS.0036``; None when the body had none.
        message: The cloud's own words, at most 256 characters of them.
        request_id: The cloud's id of the call, for its support.
        retry_after: Seconds that the cloud asked to wait, if it did.
        quota: The limit that a 429 named, if it did: calls, and the window in seconds.
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
        """Tell whether the cloud's own words have these in them, also where `message` masks them by chance.

        Args:
            words: In lower case; how the cloud spells them does not count.
        """
        return words in self._said.lower()

    @property
    def documented(self) -> ErrorCode | None:
        """The row of chapter 6.2 for this code, None for an undocumented one."""
        return explain(self.code)

    @property
    def meaning(self) -> str | None:
        """What the code means (API reference 6.2)."""
        return self.documented.meaning if self.documented else None

    @property
    def measure(self) -> str | None:
        """What to do about it (API reference 6.2)."""
        return self.documented.measure if self.documented else None


class BadRequestError(ApiError):
    """400, and any other 4xx that has no class of its own."""

    def _maybe_done(self) -> bool:
        # 408 says that time ran out, and not for whom.
        return self.status == 408  # noqa: PLR2004


class AuthenticationError(ApiError):
    """401: the credentials are missing, wrong or expired."""


class PermissionDeniedError(ApiError):
    """403: the credentials are known but may not do this."""


class NotFoundError(ApiError):
    """404: there is no such thing, or not yet."""


class ConflictError(ApiError):
    """409: the thing is in a state that does not allow this."""


class RateLimitedError(ApiError):
    """429, BMS.0212, or Nova's 413 "over limit": the call was counted out and not executed."""


class ServerError(ApiError):
    """5xx: the cloud or a proxy before it failed; what was asked may have been done all the same."""

    def _maybe_done(self) -> bool:
        return True


def error_class(status: int, code: str | None, *, is_over_limit: bool = False) -> type[ApiError]:
    """Return the class of error for what a cloud answered.

    Args:
        status: The HTTP status, not 2xx.
        code: The code in the body.
        is_over_limit: Whether a 413 is about how many calls there are, and not about how large this one is.
    """
    documented = explain(code)
    if documented and documented.remedy is Remedy.OVERLOADED:
        return RateLimitedError
    if status == 413 and is_over_limit:  # noqa: PLR2004
        return RateLimitedError
    if status >= 500:  # noqa: PLR2004 - the HTTP classes are numbers
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
