"""An async SDK for bare-metal server clouds.

As fast as the documented limits allow and never faster, with one outcome for every server.
"""

from importlib import import_module as _import
from typing import TYPE_CHECKING

from bms_async._extras import missing_extra as _missing_extra
from bms_async._extras import present as _present
from bms_async._names import EXTRAS as _EXTRAS
from bms_async._names import ON_DEMAND as _ON_DEMAND
from bms_async._version import __version__

if TYPE_CHECKING:
    from bms_async.api import BareMetal, CreationJob
    from bms_async.auth import AkSkAuth, Auth, PasswordAuth, StaticToken
    from bms_async.client import BmsClient, ClientOptions, ClientStatistics
    from bms_async.clouds import CloudOutcome, Clouds, CloudsProgress, CloudsReport, CloudsRun
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
        GroupBlockedError,
        InvalidRequestError,
        JobError,
        JobFailedError,
        JobLostError,
        JobTimeoutError,
        JournalError,
        LeadershipLostError,
        NotFoundError,
        NotReadyError,
        NotSyncedError,
        PermissionDeniedError,
        RateLimitedError,
        ResponseTooLargeError,
        RunNotFoundError,
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
    from bms_async.errors.problem import Problem
    from bms_async.fleet import FleetReport, FleetRun, GroupReport, Outcome, OutcomeState, Progress, RolloutReport
    from bms_async.fleet.rollout.forecast import PlannedWave, RolloutPlan
    from bms_async.fleet.rollout.readiness import AllOf, HttpOk, TcpOpen, all_of, http_ok, tcp_open
    from bms_async.fleet.rollout.standing import RolloutPhase, RolloutStanding, WaitReason
    from bms_async.fleet.rollout.whole import Rollout
    from bms_async.fleet.rollout.window import Window
    from bms_async.hooks import (
        AttemptEnded,
        CallEnded,
        CallStarted,
        ConditionChanged,
        CredentialsRenewalEnded,
        Hook,
        HookEvent,
        JobFinished,
        JobPolled,
        OutcomeRecorded,
        RateLimited,
        RequestSent,
        ResyncEnded,
        RetryScheduled,
        RunEnded,
        RunStarted,
    )
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
    from bms_async.jobs.shared_events import SharedJobEvents
    from bms_async.limits import Lane, LimiterStatistics, Limits, SharedStatistics
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
    from bms_async.reconcile.backoff import Backoff
    from bms_async.reconcile.changes import PowerChanges
    from bms_async.reconcile.conditions import Degraded, PowerChange, Progressing, Synced
    from bms_async.reconcile.reconciler import Reconciler
    from bms_async.reconcile.statistics import ReconcilerStatistics
    from bms_async.reconcile.wish_options import PowerStatistics
    from bms_async.reconcile.wishes import PowerWishes
    from bms_async.redaction import Secret
    from bms_async.runs import (
        BatchResult,
        DurableOptions,
        DurableRun,
        DurableRuns,
        NextBatch,
        RunOutcomes,
        Runs,
        RunStatus,
        SentBatch,
        SentState,
        Term,
        Worker,
        WorkerStatistics,
    )
    from bms_async.telemetry.telemetry import Telemetry
    from bms_async.transport import Transport, TransportStatistics
    from bms_async.transport.aiohttp import AiohttpTransport
    from bms_async.transport.http1 import Http1Transport
    from bms_async.transport.httpx import HttpxTransport
    from bms_async.view import ClientView
    from bms_async.wire import HttpRequest, HttpResponse, RetryPolicy

__all__ = [
    "AiohttpTransport",
    "AkSkAuth",
    "AllOf",
    "ApiError",
    "ApiVersion",
    "AttemptEnded",
    "Auth",
    "AuthenticationError",
    "Backoff",
    "BadRequestError",
    "Bandwidth",
    "BareMetal",
    "BatchResult",
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
    "CloudOutcome",
    "Clouds",
    "CloudsProgress",
    "CloudsReport",
    "CloudsRun",
    "ConditionChanged",
    "ConfigurationError",
    "ConflictError",
    "CreatedServer",
    "CreationJob",
    "CredentialsRenewalEnded",
    "DataVolume",
    "DecodeError",
    "Degraded",
    "DurableOptions",
    "DurableRun",
    "DurableRuns",
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
    "GroupBlockedError",
    "GroupReport",
    "Hook",
    "HookEvent",
    "Http1Transport",
    "HttpOk",
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
    "JournalError",
    "KeyPair",
    "Lane",
    "LeadershipLostError",
    "LimiterStatistics",
    "Limits",
    "Network",
    "NewEip",
    "NextBatch",
    "Nic",
    "NotFoundError",
    "NotReadyError",
    "NotSyncedError",
    "Outcome",
    "OutcomeRecorded",
    "OutcomeState",
    "PasswordAuth",
    "Patience",
    "PermissionDeniedError",
    "PlannedWave",
    "PortState",
    "PowerChange",
    "PowerChanges",
    "PowerState",
    "PowerStatistics",
    "PowerWishes",
    "Problem",
    "Progress",
    "Progressing",
    "Project",
    "PublicIp",
    "Quota",
    "Quotas",
    "RateLimited",
    "RateLimitedError",
    "Reconciler",
    "ReconcilerStatistics",
    "Remedy",
    "RequestSent",
    "ResponseTooLargeError",
    "ResyncEnded",
    "RetryPolicy",
    "RetryScheduled",
    "Rollout",
    "RolloutPhase",
    "RolloutPlan",
    "RolloutReport",
    "RolloutStanding",
    "RootVolume",
    "RunEnded",
    "RunNotFoundError",
    "RunOutcomes",
    "RunStarted",
    "RunStatus",
    "Runs",
    "Secret",
    "SentBatch",
    "SentState",
    "Server",
    "ServerError",
    "ServerFaultError",
    "ServerLostError",
    "ServerStateError",
    "ServerStatus",
    "ServerWaitError",
    "ServerWaitTimeoutError",
    "SharedJobEvents",
    "SharedStatistics",
    "StaticToken",
    "SubJob",
    "SubJobEnded",
    "SubJobFailedError",
    "Synced",
    "TcpOpen",
    "Telemetry",
    "Term",
    "Transport",
    "TransportError",
    "TransportStatistics",
    "VersionStatus",
    "VolumeAttachment",
    "WaitReason",
    "WaitTooLongError",
    "WatcherStatistics",
    "Window",
    "WindowsPassword",
    "Worker",
    "WorkerStatistics",
    "__version__",
    "all_of",
    "explain",
    "http_ok",
    "tcp_open",
]

__all__[:] = _present(__all__, _EXTRAS)

# `import bms_async` alone has always been enough for `bms_async.errors` and the like.
_PACKAGES = frozenset({
    "api", "auth", "client", "clouds", "config", "errorcodes", "errors", "fleet", "hooks", "jobs", "limits", "models",
    "reconcile", "redaction", "runs", "session", "telemetry", "transport", "validation", "view", "wire",
})  # fmt: skip


# A client imports these when they are first used. A program that takes the client from here has them before that, since
# an import would hold its event loop; the command `bms` takes it from its module, and imports what it needs alone.
_LATER = {"BmsClient": ("bms_async.fleet.native.nova", "bms_async.reconcile.wishes")}


if not TYPE_CHECKING:  # a type checker would take any name for a public one

    def __getattr__(name: str) -> object:
        if name in _PACKAGES:
            return _import(f"{__name__}.{name}")
        if name not in _ON_DEMAND:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            found = getattr(_import(_ON_DEMAND[name]), name)
        except ImportError as error:
            if name not in _EXTRAS:
                raise
            raise _missing_extra(__name__, name, _EXTRAS[name][0]) from error
        for needed in _LATER.get(name, ()):
            _import(needed)
        # From the next time on it costs what any attribute costs.
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return __all__
