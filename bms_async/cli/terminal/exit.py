"""How a command ends: its exit code, and the message about an error."""

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
    JournalError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    Remedy,
    TransportError,
    explain,
)

from .streams import discard_output, print_error
from .texts import describe_os_error, strip_class_names, strip_control_chars

__all__ = [
    "Code",
    "Failure",
    "UsageError",
    "discard_output",
    "explain_error",
    "in_words_of_a_shell",
    "print_error",
    "run_guarded",
]


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
    """The arguments contradict each other, or a named file cannot be used; the text says why and what to do."""


class Failure(NamedTuple):
    """The message about an error, what to do next, and the exit code."""

    text: str
    advice: str
    code: Code


_REFUSED = "The credentials were refused: `bms login` shows whose they are."
_IN_PYTHON = "; copy it from servers.list()"
_ADDRESS = "Check BMS_ENDPOINT (or OS_REGION_NAME and BMS_DOMAIN), then the network and the proxy."


def explain_error(error: BaseException) -> Failure:  # noqa: PLR0911 - one return for each kind of error
    """Return the message about an error, and the exit code for it."""
    text = str(error)
    if isinstance(error, InvalidRequestError):
        return Failure(in_words_of_a_shell(error), "", Code.USAGE)
    if isinstance(error, UsageError):
        return Failure(text, "", Code.USAGE)
    if isinstance(error, ConfigurationError):
        # Each says itself what to do.
        return Failure(text, "", Code.CREDENTIALS)
    documented = explain(getattr(error, "code", None))
    if isinstance(error, AuthenticationError):
        # A note says what was refused, which the error does not know.
        text, _, advice = (getattr(error, "__notes__", None) or [f"{text}\n{_REFUSED}"])[0].partition("\n")
        return Failure(text, advice, Code.CREDENTIALS)
    if isinstance(error, PermissionDeniedError) or (documented and documented.remedy is Remedy.PERMISSION):
        return Failure(text, _grant(error), Code.CREDENTIALS)
    if isinstance(error, JobError | FleetError):
        return Failure(text, "", Code.FAILED)
    if isinstance(error, JournalError):
        text = strip_class_names(text)
    if isinstance(error, BmsError):
        return Failure(text, _advice(error), Code.UNREACHABLE)
    return Failure(describe_os_error(error, names_file=True), "", Code.USAGE)


def in_words_of_a_shell(error: InvalidRequestError) -> str:
    """Return what is wrong with a value, where the error speaks of an argument in Python: ``job id 'a b': expected``.

    Args:
        error: The error.
    """
    name = error.argument.replace("_", " ") if error.argument.isidentifier() else error.argument
    return str(error).replace(f"{error.argument}=", f"{name} ", 1).replace(_IN_PYTHON, "")


def run_guarded(work: Callable[[], int]) -> int:
    """Run a command and return its exit code; errors are printed on standard error.

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
        failure = explain_error(error)
        # The text may have the cloud's message in it, and whatever the user pasted.
        print_error("\n     ".join(strip_control_chars(line) for line in failure.text.splitlines()))
        if failure.advice:
            print_error(failure.advice, first="     ")
        # If the results could not be written, their error is printed already.
        discard_output()
        return failure.code
    return code


def _grant(error: BaseException) -> str:
    project = "Check the project (OS_PROJECT_ID)"
    if not isinstance(error, PermissionDeniedError):
        return f"{project} and the credentials: `bms login` shows whose they are."
    from bms_async.api import operations

    name = getattr(error, "operation", None)
    action = next((call.permission for call in operations() if call.name == name), None)
    right = f"the IAM action {action}" if action else "the right"
    return f"{project}, or have the account's administrator grant {right}. `bms login` shows what is allowed."


def _advice(error: BaseException) -> str:
    if isinstance(error, RateLimitedError):
        return "Other clients use the limit of this account too. Wait a minute, then try again."
    if isinstance(error, NotFoundError):
        return "The server there does not know this call or this project: check BMS_ENDPOINT and OS_PROJECT_ID."
    if isinstance(error, TransportError):
        return _ADDRESS
    if isinstance(error, ApiError | CallError):
        return "The cloud, or a proxy in front of it, fails: try again, and check BMS_ENDPOINT if that does not help."
    return ""
