"""An async SDK for bare-metal server clouds.

As fast as the documented limits allow and never faster, and one outcome for every server.
"""

from typing import TYPE_CHECKING

from bms_async.auth import Auth, StaticToken
from bms_async.client import BmsClient, ClientStatistics, __version__
from bms_async.errorcodes import ErrorCode, Remedy, explain
from bms_async.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    BmsError,
    CallError,
    CallTimeoutError,
    ClientClosedError,
    ConfigurationError,
    ConflictError,
    DecodeError,
    FleetError,
    InvalidRequestError,
    JobError,
    JobFailedError,
    JobLostError,
    JobTimeoutError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
    SubJobFailedError,
    TransportError,
)
from bms_async.fleet import FleetReport, FleetRun, Outcome, OutcomeState, Progress
from bms_async.jobs import JobHandle
from bms_async.limits import Lane, LimiterStatistics, Limits
from bms_async.models import Job, JobStatus, PowerState, Server, ServerStatus, SubJob
from bms_async.transport import Transport, TransportStatistics
from bms_async.wire import HttpRequest, HttpResponse, RetryPolicy

if TYPE_CHECKING:
    from bms_async.transport.httpx import HttpxTransport

__all__ = [
    "ApiError",
    "Auth",
    "AuthenticationError",
    "BadRequestError",
    "BmsClient",
    "BmsError",
    "CallError",
    "CallTimeoutError",
    "ClientClosedError",
    "ClientStatistics",
    "ConfigurationError",
    "ConflictError",
    "DecodeError",
    "ErrorCode",
    "FleetError",
    "FleetReport",
    "FleetRun",
    "HttpRequest",
    "HttpResponse",
    "HttpxTransport",
    "InvalidRequestError",
    "Job",
    "JobError",
    "JobFailedError",
    "JobHandle",
    "JobLostError",
    "JobStatus",
    "JobTimeoutError",
    "Lane",
    "LimiterStatistics",
    "Limits",
    "NotFoundError",
    "Outcome",
    "OutcomeState",
    "PermissionDeniedError",
    "PowerState",
    "Progress",
    "RateLimitedError",
    "Remedy",
    "RetryPolicy",
    "Server",
    "ServerError",
    "ServerStatus",
    "StaticToken",
    "SubJob",
    "SubJobFailedError",
    "Transport",
    "TransportError",
    "TransportStatistics",
    "__version__",
    "explain",
]


def __getattr__(name: str) -> object:
    # Importing httpx costs more than all of this package, and a process may well use another transport.
    if name == "HttpxTransport":
        from bms_async.transport.httpx import HttpxTransport  # noqa: PLC0415

        return HttpxTransport
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
