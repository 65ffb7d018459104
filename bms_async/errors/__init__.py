"""Everything that this package raises.

    BmsError
    ├── ConfigurationError            the client cannot be made as asked
    ├── InvalidRequestError           an argument was refused before anything was sent (also a ValueError)
    │   └── RunNotFoundError          the journal has no durable run of this key
    ├── TransportError                no response; `maybe_delivered` says whether the cloud may have acted
    │   └── CallTimeoutError          no response in time (also a TimeoutError)
    ├── WaitTooLongError              the rate limiter's wait would have exceeded `max_wait` (also a TimeoutError)
    ├── DecodeError                   a response that cannot be decoded
    │   └── ResponseTooLargeError     a response that is larger than the transport accepts
    ├── ApiError                      the cloud refused
    │   ├── BadRequestError           400 and any other 4xx that has no class of its own
    │   ├── AuthenticationError       401
    │   ├── PermissionDeniedError     403
    │   ├── NotFoundError             404
    │   ├── ConflictError             409
    │   ├── RateLimitedError          429, BMS.0212, 413 "over limit": rejected, not executed
    │   └── ServerError               5xx
    ├── JobError
    │   ├── JobFailedError            the job ended as FAIL; `job` is the whole job
    │   ├── SubJobFailedError         one server's part of a job ended as FAIL
    │   ├── JobLostError              the job's result cannot be known; `job` is its last known state
    │   └── JobTimeoutError           the wait timed out, the job goes on (also a TimeoutError)
    ├── ServerWaitError               a wait for a server's status ended without it; `server` is its last known state
    │   ├── ServerFaultError          the server is in ERROR, with the cloud's code and words
    │   ├── ServerLostError           it was deleted, or cannot be read any more
    │   └── ServerWaitTimeoutError    the wait timed out, the server goes on (also a TimeoutError)
    ├── FleetError                    raised by `FleetReport.raise_for_failures`, one for each code
    │   ├── FleetTimeoutError         the run's total_timeout expired before its end (also a TimeoutError)
    │   ├── GroupBlockedError         too many servers of its group are unavailable for good
    │   ├── NotReadyError             its job has ended, but it was not well in time
    │   └── ServerStateError          a server's own state says that it is not as asked, or why it cannot be
    ├── NotSyncedError                servers were not as desired in time (also a TimeoutError)
    ├── JournalError                  the journal of durable runs cannot be used as it is
    ├── LeadershipLostError           this process does not lead any more
    ├── ForeignCodeError              a callback or other foreign code raised an exception that is not an error
    └── ClientClosedError             the client was closed, or never opened

Every timeout is the builtin `TimeoutError` or a subclass of it.
"""

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
from .calls import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    CallError,
    CallTimeoutError,
    ConflictError,
    DecodeError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    ResponseTooLargeError,
    ServerError,
    TransportError,
    WaitTooLongError,
)
from .fleet import FleetError, FleetTimeoutError, GroupBlockedError, NotReadyError, ServerStateError
from .jobs import JobError, JobFailedError, JobLostError, JobTimeoutError, SubJobFailedError
from .reconcile import NotSyncedError
from .servers import ServerFaultError, ServerLostError, ServerWaitError, ServerWaitTimeoutError

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
    "FleetTimeoutError",
    "ForeignCodeError",
    "GroupBlockedError",
    "InvalidRequestError",
    "JobError",
    "JobFailedError",
    "JobLostError",
    "JobTimeoutError",
    "JournalError",
    "LeadershipLostError",
    "NotFoundError",
    "NotReadyError",
    "NotSyncedError",
    "PermissionDeniedError",
    "RateLimitedError",
    "ResponseTooLargeError",
    "RunNotFoundError",
    "ServerError",
    "ServerFaultError",
    "ServerLostError",
    "ServerStateError",
    "ServerWaitError",
    "ServerWaitTimeoutError",
    "SubJobFailedError",
    "TransportError",
    "WaitTooLongError",
]
