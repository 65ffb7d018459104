"""Functions of the application's that are told what happens: for counting, tracing and logging.

Nothing here is imported before a client is given hooks, for most are not.
"""

from .dispatch import Hook, Hooks, current_run, next_call_number, next_run_number, read_hooks
from .events import (
    AttemptEnded,
    CallEnded,
    CallStarted,
    CredentialsRenewalEnded,
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

__all__ = [
    "AttemptEnded",
    "CallEnded",
    "CallStarted",
    "CredentialsRenewalEnded",
    "Hook",
    "HookEvent",
    "Hooks",
    "JobFinished",
    "JobPolled",
    "OutcomeRecorded",
    "RateLimited",
    "RequestSent",
    "RetryScheduled",
    "RunEnded",
    "RunStarted",
    "current_run",
    "next_call_number",
    "next_run_number",
    "read_hooks",
]
