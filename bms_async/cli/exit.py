"""How a command ends: its exit code, and what is told of what went wrong."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable
from enum import IntEnum
from typing import NamedTuple

from bms_async import (
    ApiError,
    AuthenticationError,
    BmsError,
    CallError,
    ConfigurationError,
    FleetError,
    InvalidRequestError,
    JobError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    Remedy,
    TransportError,
    explain,
)

from .output import strip_control_chars
from .streams import discard_output, print_error

__all__ = ["Code", "Failure", "UsageError", "discard_output", "explain_error", "print_error", "run_guarded"]


class Code(IntEnum):
    """The exit codes."""

    OK = 0
    FAILED = 1
    USAGE = 2
    CREDENTIALS = 3
    UNREACHABLE = 4
    INTERRUPTED = 128 + signal.SIGINT
    NO_READER = 128 + 13


class UsageError(Exception):
    """What was typed makes no sense, or a file that it names cannot be used; the text says why and what to do."""


class Failure(NamedTuple):
    """What went wrong, what to do next, and the exit code for it."""

    text: str
    advice: str
    code: Code


_SET_UP = (
    "The shortest way: export BMS_ENDPOINT=https://... OS_PROJECT_ID=... OS_TOKEN=..., or name a cloud of clouds.yaml"
    " by --cloud. `bms login` checks it; `bms simulator` is a cloud to try things on without an account."
)
_REFUSED = "The credentials were refused. A token lives for a day at most: get a new one, and try it by `bms login`."
_ADDRESS = "Check BMS_ENDPOINT (or OS_REGION_NAME and BMS_DOMAIN), then the network and the proxy."


def explain_error(error: BaseException) -> Failure:  # noqa: PLR0911 - a table of kinds
    """Return what to tell of an error, and the exit code for it."""
    text = str(error)
    if isinstance(error, UsageError | InvalidRequestError):
        return Failure(text, "", Code.USAGE)
    if isinstance(error, ConfigurationError):
        # An extra that is missing, and a file that cannot be read, say themselves what to do.
        return Failure(text, _SET_UP if "not set in" in text else "", Code.CREDENTIALS)
    documented = explain(getattr(error, "code", None))
    if isinstance(error, AuthenticationError):
        return Failure(text, _REFUSED, Code.CREDENTIALS)
    if isinstance(error, PermissionDeniedError) or (documented and documented.remedy is Remedy.PERMISSION):
        return Failure(text, _grant(error), Code.CREDENTIALS)
    if isinstance(error, JobError | FleetError):
        return Failure(text, "", Code.FAILED)
    if isinstance(error, BmsError):
        return Failure(text, _what_to_try(error), Code.UNREACHABLE)
    return Failure(text, "", Code.USAGE)


def run_guarded(work: Callable[[], int]) -> int:
    """Do the work of a command and return its exit code; what goes wrong is told on standard error.

    Args:
        work: Returns an exit code.
    """
    try:
        code = work()
        sys.stdout.flush()
    except BrokenPipeError:
        discard_output()
        return Code.NO_READER
    except KeyboardInterrupt:
        return Code.INTERRUPTED
    except (UsageError, BmsError, OSError) as error:
        trouble = explain_error(error)
        # The cloud's own words may be in it, and whoever typed the rest may have pasted anything.
        print_error("\n     ".join(strip_control_chars(line) for line in trouble.text.splitlines()))
        if trouble.advice:
            print_error(trouble.advice, first="     ")
        # Where it is the results that could not be written, that is told now.
        discard_output()
        return trouble.code
    return code


def _grant(error: BaseException) -> str:
    project = "Check the project (OS_PROJECT_ID)"
    if not isinstance(error, PermissionDeniedError):
        return f"{project} and the credentials: `bms login` tells whose they are."
    from bms_async.api import operations

    name = getattr(error, "operation", None)
    action = next((each.permission for each in operations() if each.name == name), None)
    right = f"the IAM action {action}" if action else "the right"
    return f"{project}, or have the account's administrator grant {right}. `bms login` tells what is allowed."


def _what_to_try(error: BaseException) -> str:
    if isinstance(error, RateLimitedError):
        return "Others use this account's limit too. Wait a minute, then try again."
    if isinstance(error, NotFoundError):
        return "What answers there does not know this call or this project: check BMS_ENDPOINT and OS_PROJECT_ID."
    if isinstance(error, TransportError):
        return _ADDRESS
    if isinstance(error, ApiError | CallError):
        return "The cloud, or a proxy before it, is out of order: try again, and check BMS_ENDPOINT if it stays so."
    return ""
