"""What a web service answers when a call of this package fails.

Guarantee: a caller is never blamed for what it cannot change. Only what it asked for itself becomes a 4xx; whatever is
between this process and the cloud, refused credentials among them, becomes a 5xx. `maybe_done` says whether the cloud
may have acted, so that nobody repeats a reboot by mistake.

How: the code of the cloud decides where it is documented, since it says more than the status it comes with: an unknown
server in a batch is refused with 400. Then the class decides.

Rejected: to pass the cloud's own status on. Its 401 would send the caller to look for a fault in its own credentials.
"""

from __future__ import annotations

import math
from http import HTTPStatus

import msgspec

from bms_async.errorcodes import Remedy, explain

from .base import (
    BmsError,
    ClientClosedError,
    ConfigurationError,
    ForeignCodeError,
    InvalidRequestError,
    JournalError,
    LeadershipLostError,
    RunNotFoundError,
)
from .calls import BadRequestError, ConflictError, NotFoundError, RateLimitedError, WaitTooLongError
from .fleet import GroupBlockedError, ServerStateError

_BY_REMEDY = {
    Remedy.NOT_FOUND: HTTPStatus.NOT_FOUND,
    Remedy.ALREADY_THERE: HTTPStatus.CONFLICT,
    Remedy.IN_TRANSITION: HTTPStatus.CONFLICT,
    Remedy.QUOTA: HTTPStatus.CONFLICT,
    Remedy.OVERLOADED: HTTPStatus.SERVICE_UNAVAILABLE,
    Remedy.PERMISSION: HTTPStatus.BAD_GATEWAY,
}
_BY_CLASS: tuple[tuple[type[Exception], HTTPStatus], ...] = (
    (RunNotFoundError, HTTPStatus.NOT_FOUND),
    (InvalidRequestError, HTTPStatus.BAD_REQUEST),
    (WaitTooLongError, HTTPStatus.SERVICE_UNAVAILABLE),
    (RateLimitedError, HTTPStatus.SERVICE_UNAVAILABLE),
    (ClientClosedError, HTTPStatus.SERVICE_UNAVAILABLE),
    (JournalError, HTTPStatus.SERVICE_UNAVAILABLE),
    (LeadershipLostError, HTTPStatus.SERVICE_UNAVAILABLE),
    (NotFoundError, HTTPStatus.NOT_FOUND),
    (ConflictError, HTTPStatus.CONFLICT),
    (ServerStateError, HTTPStatus.CONFLICT),
    (GroupBlockedError, HTTPStatus.CONFLICT),
    (BadRequestError, HTTPStatus.BAD_REQUEST),
    (ConfigurationError, HTTPStatus.INTERNAL_SERVER_ERROR),
    (ForeignCodeError, HTTPStatus.INTERNAL_SERVER_ERROR),
    (TimeoutError, HTTPStatus.GATEWAY_TIMEOUT),
)
_RETRY_AFTER = 30.0
"""Seconds after which a caller may ask again where nothing says when."""


class Problem(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a web service answers for an error: problem details, as RFC 9457 has them.

    ::

        problem = Problem.of(error)
        return Response(problem.to_json(), problem.status, problem.headers)

    Attributes:
        status: The HTTP status: 4xx for what the caller can change, 5xx for all else.
        title: The words that HTTP has for the status.
        detail: The error's text, with the measure where one is documented. It has no secret in it.
        code: The cloud's code; None if there is none.
        request_id: The cloud's id of the call, for its support; None if there is none.
        maybe_done: Whether the cloud may have acted all the same.
        retry_after: Seconds after which the same may succeed; None unless `status` is 503.
    """

    status: int
    title: str
    detail: str
    code: str | None = None
    request_id: str | None = None
    maybe_done: bool = False
    retry_after: int | None = None

    @classmethod
    def of(cls, error: Exception) -> Problem:
        """Return the problem that an error is for whoever called the service.

        Args:
            error: The error. One that is not of this package may have anything in its text, which is left out.
        """
        ours = isinstance(error, BmsError)
        code, request_id = (getattr(error, name, None) if ours else None for name in ("code", "request_id"))
        status = _status_of(error, code)
        wait = getattr(error, "wait", None) or getattr(error, "retry_after", None) or _RETRY_AFTER
        return cls(
            status=status.value,
            title=status.phrase,
            detail=str(error) if ours else type(error).__name__,
            # str() of a text of the cloud's is its masked form, for one that has a secret in it.
            code=str(code) if code else None,
            request_id=str(request_id) if request_id else None,
            maybe_done=getattr(error, "maybe_done", False),
            retry_after=math.ceil(wait) if status is HTTPStatus.SERVICE_UNAVAILABLE else None,
        )

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the response: ``Content-Type``, and ``Retry-After`` where it is known."""
        headers = {"Content-Type": "application/problem+json"}
        if self.retry_after is not None:
            headers["Retry-After"] = str(self.retry_after)
        return headers

    def to_json(self) -> bytes:
        """Return the body of the response, in UTF-8; what is not known is left out."""
        return msgspec.json.encode(self)


def _status_of(error: Exception, code: str | None) -> HTTPStatus:
    if not isinstance(error, BmsError):
        # The service's own `asyncio.timeout` around a call of this package is one of these.
        return HTTPStatus.GATEWAY_TIMEOUT if isinstance(error, TimeoutError) else HTTPStatus.INTERNAL_SERVER_ERROR
    documented = explain(code)
    status = None if documented is None else _BY_REMEDY.get(documented.remedy)
    if status is not None:
        return status
    if isinstance(error, BadRequestError) and error.status == HTTPStatus.REQUEST_TIMEOUT:
        # The cloud has waited for this process, and not for the caller.
        return HTTPStatus.GATEWAY_TIMEOUT
    return next((status for kind, status in _BY_CLASS if isinstance(error, kind)), HTTPStatus.BAD_GATEWAY)
