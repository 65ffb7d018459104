"""Functions of the application's that are told what happens: for counting, tracing and logging.

Nothing here is imported before a client is given hooks, for most are not.
"""

from .dispatch import Hook, Hooks, current_run, number_call, number_run, read_hooks
from .events import (
    CallEnded,
    CallStarted,
    CredentialsRenewed,
    HookEvent,
    JobFinished,
    JobPolled,
    OutcomeTold,
    RateLimited,
    RequestSent,
    RetryPlanned,
    RunEnded,
    RunStarted,
    TryEnded,
)

__all__ = [
    "CallEnded",
    "CallStarted",
    "CredentialsRenewed",
    "Hook",
    "HookEvent",
    "Hooks",
    "JobFinished",
    "JobPolled",
    "OutcomeTold",
    "RateLimited",
    "RequestSent",
    "RetryPlanned",
    "RunEnded",
    "RunStarted",
    "TryEnded",
    "current_run",
    "number_call",
    "number_run",
    "read_hooks",
]
