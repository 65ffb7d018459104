"""Hooks: functions of the application that receive every event of a client, for counting, tracing and logging.

Most clients have no hooks, so this package is imported only when a client is given some.
"""

from .dispatch import Hook, Hooks, current_run, next_call_number, next_run_number, read_hooks
from .events import (
    AttemptEnded,
    CallEnded,
    CallStarted,
    ConditionChanged,
    CredentialsRenewalEnded,
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

__all__ = [
    "AttemptEnded",
    "CallEnded",
    "CallStarted",
    "ConditionChanged",
    "CredentialsRenewalEnded",
    "Hook",
    "HookEvent",
    "Hooks",
    "JobFinished",
    "JobPolled",
    "OutcomeRecorded",
    "RateLimited",
    "RequestSent",
    "ResyncEnded",
    "RetryScheduled",
    "RunEnded",
    "RunStarted",
    "current_run",
    "next_call_number",
    "next_run_number",
    "read_hooks",
]
