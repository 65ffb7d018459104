"""An async SDK for bare-metal server clouds.

As fast as the documented limits allow and never faster, with one outcome for every server.
"""

from importlib import import_module as _import
from typing import TYPE_CHECKING

from bms_async._extras import missing_extra as _missing_extra
from bms_async._extras import present as _present
from bms_async._version import __version__
from bms_async.api import CreationJob
from bms_async.auth import Auth, StaticToken
from bms_async.client import BmsClient, ClientOptions, ClientStatistics
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
    FleetTimeoutError,
    ForeignCodeError,
    InvalidRequestError,
    JobError,
    JobFailedError,
    JobLostError,
    JobTimeoutError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    ResponseTooLargeError,
    ServerError,
    ServerFaultError,
    ServerLostError,
    ServerStateError,
    ServerWaitError,
    ServerWaitTimeoutError,
    SubJobFailedError,
    TransportError,
    WaitTooLongError,
)
from bms_async.fleet import FleetReport, FleetRun, Outcome, OutcomeState, Progress
from bms_async.jobs import (
    EventGap,
    JobChanged,
    JobEnded,
    JobEvent,
    JobEvents,
    JobHandle,
    JobLost,
    JobStarted,
    Patience,
    SubJobEnded,
    WatcherStatistics,
)
from bms_async.limits import Lane, LimiterStatistics, Limits
from bms_async.models import (
    ApiVersion,
    Bandwidth,
    BootSource,
    BriefServer,
    CreatedServer,
    DataVolume,
    EipExtendParam,
    ExtendParam,
    ExtraSpecs,
    FixedIp,
    Flavor,
    FlavorLink,
    FlavorStatus,
    Interface,
    Job,
    JobStatus,
    KeyPair,
    Network,
    NewEip,
    Nic,
    PortState,
    PowerState,
    Project,
    PublicIp,
    Quota,
    Quotas,
    RootVolume,
    Server,
    ServerStatus,
    SubJob,
    VersionStatus,
    VolumeAttachment,
    WindowsPassword,
)
from bms_async.redaction import Secret
from bms_async.transport import Transport, TransportStatistics
from bms_async.view import ClientView
from bms_async.wire import HttpRequest, HttpResponse, RetryPolicy

if TYPE_CHECKING:
    from bms_async.auth import AkSkAuth, PasswordAuth
    from bms_async.hooks import (
        AttemptEnded,
        CallEnded,
        CallStarted,
        CredentialsRenewalEnded,
        Hook,
        HookEvent,
        JobFinished,
        JobPolled,
        OutcomeRecorded,
        RateLimited,
        RequestSent,
        RetryScheduled,
        RunEnded,
        RunStarted,
    )
    from bms_async.telemetry import Telemetry
    from bms_async.transport.aiohttp import AiohttpTransport
    from bms_async.transport.http1 import Http1Transport
    from bms_async.transport.httpx import HttpxTransport

__all__ = [
    "AiohttpTransport",
    "AkSkAuth",
    "ApiError",
    "ApiVersion",
    "AttemptEnded",
    "Auth",
    "AuthenticationError",
    "BadRequestError",
    "Bandwidth",
    "BmsClient",
    "BmsError",
    "BootSource",
    "BriefServer",
    "CallEnded",
    "CallError",
    "CallStarted",
    "CallTimeoutError",
    "ClientClosedError",
    "ClientOptions",
    "ClientStatistics",
    "ClientView",
    "ConfigurationError",
    "ConflictError",
    "CreatedServer",
    "CreationJob",
    "CredentialsRenewalEnded",
    "DataVolume",
    "DecodeError",
    "EipExtendParam",
    "ErrorCode",
    "EventGap",
    "ExtendParam",
    "ExtraSpecs",
    "FixedIp",
    "Flavor",
    "FlavorLink",
    "FlavorStatus",
    "FleetError",
    "FleetReport",
    "FleetRun",
    "FleetTimeoutError",
    "ForeignCodeError",
    "Hook",
    "HookEvent",
    "Http1Transport",
    "HttpRequest",
    "HttpResponse",
    "HttpxTransport",
    "Interface",
    "InvalidRequestError",
    "Job",
    "JobChanged",
    "JobEnded",
    "JobError",
    "JobEvent",
    "JobEvents",
    "JobFailedError",
    "JobFinished",
    "JobHandle",
    "JobLost",
    "JobLostError",
    "JobPolled",
    "JobStarted",
    "JobStatus",
    "JobTimeoutError",
    "KeyPair",
    "Lane",
    "LimiterStatistics",
    "Limits",
    "Network",
    "NewEip",
    "Nic",
    "NotFoundError",
    "Outcome",
    "OutcomeRecorded",
    "OutcomeState",
    "PasswordAuth",
    "Patience",
    "PermissionDeniedError",
    "PortState",
    "PowerState",
    "Progress",
    "Project",
    "PublicIp",
    "Quota",
    "Quotas",
    "RateLimited",
    "RateLimitedError",
    "Remedy",
    "RequestSent",
    "ResponseTooLargeError",
    "RetryPolicy",
    "RetryScheduled",
    "RootVolume",
    "RunEnded",
    "RunStarted",
    "Secret",
    "Server",
    "ServerError",
    "ServerFaultError",
    "ServerLostError",
    "ServerStateError",
    "ServerStatus",
    "ServerWaitError",
    "ServerWaitTimeoutError",
    "StaticToken",
    "SubJob",
    "SubJobEnded",
    "SubJobFailedError",
    "Telemetry",
    "Transport",
    "TransportError",
    "TransportStatistics",
    "VersionStatus",
    "VolumeAttachment",
    "WaitTooLongError",
    "WatcherStatistics",
    "WindowsPassword",
    "__version__",
    "explain",
]


# Importing an HTTP library costs more than all of this package, and a process needs one of them, and one kind of
# credentials. Most processes have no hooks.
_ON_DEMAND = {
    "AiohttpTransport": "bms_async.transport.aiohttp",
    "AkSkAuth": "bms_async.auth",
    "AttemptEnded": "bms_async.hooks",
    "CallEnded": "bms_async.hooks",
    "CallStarted": "bms_async.hooks",
    "CredentialsRenewalEnded": "bms_async.hooks",
    "Hook": "bms_async.hooks",
    "HookEvent": "bms_async.hooks",
    "Http1Transport": "bms_async.transport.http1",
    "HttpxTransport": "bms_async.transport.httpx",
    "JobFinished": "bms_async.hooks",
    "JobPolled": "bms_async.hooks",
    "OutcomeRecorded": "bms_async.hooks",
    "PasswordAuth": "bms_async.auth",
    "RateLimited": "bms_async.hooks",
    "RequestSent": "bms_async.hooks",
    "RetryScheduled": "bms_async.hooks",
    "RunEnded": "bms_async.hooks",
    "RunStarted": "bms_async.hooks",
    "Telemetry": "bms_async.telemetry.telemetry",
}


# The extra that a name needs, and a module that the extra brings.
_EXTRAS = {
    "AiohttpTransport": ("aiohttp", "aiohttp"),
    "Http1Transport": ("speedups", "httptools"),
    "Telemetry": ("otel", "opentelemetry.trace"),
}
__all__[:] = _present(__all__, _EXTRAS)


def __getattr__(name: str) -> object:
    if name in _ON_DEMAND:
        try:
            return getattr(_import(_ON_DEMAND[name]), name)
        except ImportError as error:
            if name not in _EXTRAS:
                raise
            raise _missing_extra(__name__, name, _EXTRAS[name][0]) from error
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
