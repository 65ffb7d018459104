"""Everything that this package raises.

    BmsError
    ├── ConfigurationError            the client cannot be made as asked
    ├── InvalidRequestError           an argument was refused before anything was sent (also a ValueError)
    ├── TransportError                no answer came; `maybe_delivered` tells whether the cloud may have acted
    │   └── CallTimeoutError          none came in time (also a TimeoutError)
    ├── DecodeError                   an answer came that cannot be read
    ├── ApiError                      the cloud refused
    │   ├── BadRequestError           400 and any other 4xx that has no class of its own
    │   ├── AuthenticationError       401
    │   ├── PermissionDeniedError     403
    │   ├── NotFoundError             404
    │   ├── ConflictError             409
    │   ├── RateLimitedError          429, and BMS.0212: the service itself is overloaded
    │   └── ServerError               5xx
    ├── JobError
    │   ├── JobFailedError            the job ended as FAIL; `job` is the whole job
    │   ├── SubJobFailedError         one server's part of a job ended as FAIL
    │   ├── JobLostError              the job's end cannot be known; `job` is what was known last
    │   └── JobTimeoutError           the job goes on, the wait is over (also a TimeoutError)
    ├── ServerWaitError               waiting for a server's status ended without it; `server` is its last known state
    │   ├── ServerFaultError          the server is in ERROR, with the cloud's code and words
    │   ├── ServerLostError           it was deleted, or cannot be read any more
    │   └── ServerWaitTimeoutError    the server goes on, the wait is over (also a TimeoutError)
    ├── FleetError                    what `FleetReport.raise_for_failures` raises, one for each code
    └── ClientClosedError             the client was closed, or never opened

Every timeout is the builtin `TimeoutError` or a class of it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errorcodes import ErrorCode, Remedy, explain

if TYPE_CHECKING:
    from .models import Job, Server

__all__ = [
    "ApiError",
    "AuthenticationError",
    "BadRequestError",
    "BmsError",
    "CallError",
    "CallTimeoutError",
    "ClientClosedError",
    "ConfigurationError",
    "ConflictError",
    "DecodeError",
    "FleetError",
    "InvalidRequestError",
    "JobError",
    "JobFailedError",
    "JobLostError",
    "JobTimeoutError",
    "NotFoundError",
    "PermissionDeniedError",
    "RateLimitedError",
    "ServerError",
    "ServerFaultError",
    "ServerLostError",
    "ServerWaitError",
    "ServerWaitTimeoutError",
    "SubJobFailedError",
    "TransportError",
]


class BmsError(Exception):
    """The root of everything that this package raises. All of it can be pickled, to be sent between processes."""

    def __reduce__(self) -> tuple[Any, ...]:
        # What an exception does by itself is call its class with its text, which no class below takes alone.
        return _restore, (type(self), self.args, self.__dict__)


class ConfigurationError(BmsError):
    """The client cannot be made as asked: something is missing, or settings contradict each other."""


class InvalidRequestError(BmsError, ValueError):
    """An argument breaks a documented rule; nothing was sent.

    Attributes:
        argument: The argument's name, as in the signature.
        value: What was given, None where it may be a secret.
        rule: What would have been right.
    """

    def __init__(self, argument: str, value: object, rule: str) -> None:
        self.argument = argument
        self.value = value
        self.rule = rule
        shown = repr(value)
        if len(shown) > 80:  # noqa: PLR2004 - a line of a terminal
            shown = shown[:76] + "..."
        super().__init__(f"{argument}={shown}: {rule}")


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
    ) -> None:
        self.status = status
        self.code = code
        self.message = message
        self.request_id = request_id
        self.operation = operation
        self.retry_after = retry_after
        self.quota = quota
        text = f"{_prefix(operation)}{status}"
        if code:
            text += f" {code}"
        if message:
            text += f": {message}"
        if self.measure:
            text += f" [{self.meaning} {self.measure}]"
        super().__init__(text + _suffix(request_id))

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
    """429, or BMS.0212: the call was counted out and not executed."""


class ServerError(ApiError):
    """5xx: the cloud or a proxy before it failed; what was asked may have been done all the same."""

    def _maybe_done(self) -> bool:
        return True


class JobError(BmsError):
    """A job that did not end well.

    Attributes:
        job_id: The job.
        job: What was known of it last, with its sub-jobs; None if nothing ever was.
    """

    def __init__(self, message: str, *, job_id: str, job: Job | None) -> None:
        self.job_id = job_id
        self.job = job
        super().__init__(message)


class JobFailedError(JobError):
    """The job ended as FAIL; some of its sub-jobs may have succeeded all the same."""

    job: Job

    def __init__(self, job: Job) -> None:
        failed = [sub for sub in job.sub_jobs if sub.is_final and sub.status != "SUCCESS"]
        codes = sorted({code for code in (job.error_code, *(sub.error_code for sub in failed)) if code})
        reason = job.fail_reason or next((sub.fail_reason for sub in failed if sub.fail_reason), None)
        text = f"job {job.job_id} failed"
        if failed:
            text += f" for {len(failed)} of {job.sub_jobs_total} servers"
        if codes:
            text += f" with {', '.join(codes)}"
        super().__init__(text + (f": {reason}" if reason else ""), job_id=job.job_id, job=job)


class SubJobFailedError(JobError):
    """One server's part of a job ended as FAIL.

    Attributes:
        server_id: The server.
        code: The code it failed with, None if the cloud gave none.
        reason: The cloud's own words, None if it gave none.
    """

    def __init__(self, *, server_id: str, job_id: str, code: str | None, reason: str | None) -> None:
        self.server_id = server_id
        self.code = code
        self.reason = reason
        text = f"server {server_id} failed in job {job_id}"
        if code:
            text += f" with {code}"
        if reason:
            text += f": {reason}"
        documented = explain(code)
        self.meaning = documented.meaning if documented else None
        self.measure = documented.measure if documented else None
        if documented:
            text += f" [{documented.meaning} {documented.measure}]"
        super().__init__(text, job_id=job_id, job=None)


class JobLostError(JobError):
    """How the job ended cannot be known: the cloud has forgotten it, or has not told of it for too long."""


class JobTimeoutError(JobError, TimeoutError):
    """The wait is over, the job goes on; ``bms.jobs.restore(error.resume)`` waits for it again, in any process.

    Attributes:
        resume: What `JobHandle.to_json` made of the handle.
    """

    def __init__(self, message: str, *, job_id: str, job: Job | None, resume: str) -> None:
        self.resume = resume
        super().__init__(message, job_id=job_id, job=job)


class ServerWaitError(BmsError):
    """Waiting for a server's status ended, and not with that status.

    Attributes:
        server_id: The server.
        wanted: The status that was waited for; None where it was the server's deletion.
        server: What was known of it last; None if nothing ever was.
    """

    def __init__(self, message: str, *, server_id: str, wanted: str | None, server: Server | None) -> None:
        self.server_id = server_id
        self.wanted = wanted
        self.server = server
        super().__init__(message)


class ServerFaultError(ServerWaitError):
    """The server is in ERROR.

    Attributes:
        code: The code of its fault, None if the cloud gave none.
        message: The cloud's own words, at most 256 characters of them; None if it gave none.
    """

    server: Server

    def __init__(self, server: Server, *, wanted: str | None) -> None:
        self.code = server.fault.code if server.fault else None
        told = server.fault.message if server.fault else None
        self.message = told[:256] if told else None
        text = f"server {server.id} is in ERROR, where {wanted or 'its deletion'} was waited for"
        if self.code is not None:
            text += f", with fault {self.code}"
        if self.message:
            text += f": {self.message}"
        super().__init__(text, server_id=server.id, wanted=wanted, server=server)


class ServerLostError(ServerWaitError):
    """The server was deleted, or the cloud has not told of it for too long; the cause is what it answered last."""


class ServerWaitTimeoutError(ServerWaitError, TimeoutError):
    """The wait is over, the server goes on."""


class FleetError(BmsError):
    """Servers of a fleet run that failed for one and the same reason.

    Attributes:
        code: The code they failed with, None where there was none.
        server_ids: The servers.
        measure: What to do about it, if chapter 6.2 tells.
    """

    def __init__(self, message: str, *, code: str | None, server_ids: tuple[str, ...]) -> None:
        self.code = code
        self.server_ids = server_ids
        documented = explain(code)
        self.measure = documented.measure if documented else None
        super().__init__(message)


class ClientClosedError(BmsError):
    """The client was closed, or was never opened: use it inside ``async with``."""


def error_class(status: int, code: str | None) -> type[ApiError]:
    """Return the class of error for what a cloud answered.

    Args:
        status: The HTTP status, not 2xx.
        code: The code in the body.
    """
    documented = explain(code)
    if documented and documented.remedy is Remedy.OVERLOADED:
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


def _restore(kind: type[BmsError], args: tuple[object, ...], state: dict[str, Any]) -> BmsError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error


def _prefix(operation: str | None) -> str:
    return f"{operation}: " if operation else ""


def _suffix(request_id: str | None) -> str:
    return f" (request id {request_id})" if request_id else ""
