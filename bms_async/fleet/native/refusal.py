"""What a server's state says of a call that was refused, or whose answer was lost: pure functions.

Nova refuses a call with 409 for four reasons and gives one code for all: the server is as asked already, it is in
another task, it is locked, or its status does not allow the action. Its words are not documented, so they decide only
where a mistake is harmless: a server that they call busy is called again later, and one that they call locked and that
is not as asked is FAILED with these words. Everything else is read from the server itself.

Rejected: to take the status out of the words. A stop that is refused since the server "is in vm_state stopped" would
be UNCHANGED by the spelling of a message.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum, auto
from typing import TypeAlias

from bms_async.errors import ApiError, BmsError, CallError, ServerFaultError, ServerStateError
from bms_async.fleet.outcome import OutcomeState
from bms_async.models import Server, ServerStatus

from .verdict import WANTED, NativeState, is_own_task, vanished


class Next(Enum):
    """What is to be done with a server."""

    END = auto()
    """It has its outcome."""
    AGAIN = auto()
    """It is to be called again later; if that cannot be, it has its outcome."""
    FOLLOW = auto()
    """The lost call was executed: it is to be followed."""


Judgement: TypeAlias = tuple[Next, OutcomeState, BmsError | None]

_ALLOWING = (ServerStatus.ACTIVE, ServerStatus.SHUTOFF)


def says_busy(error: CallError) -> bool:
    """Return whether the cloud's words say that the server is in another task."""
    return isinstance(error, ApiError) and error.says("task_state")


def says_locked(error: CallError) -> bool:
    """Return whether the cloud's words say that the server is locked."""
    return isinstance(error, ApiError) and error.says("locked")


def judge_state(
    action: str,
    server_id: str,
    state: NativeState | None,
    cause: CallError,
    *,
    in_doubt: bool,
    mask: Callable[[Server], Server] = lambda server: server,
) -> Judgement:
    """Return what a server's state, read afterwards, says of a call that did not succeed.

    ========================= ================= =======================
    state                     it was refused    its answer was lost
    ========================= ================= =======================
    unknown to the cloud      FAILED            FAILED
    in the task that was
    asked for                 again later       to be followed
    in another task           again later       again later
    as asked (start, stop)    UNCHANGED         UNCHANGED
    ERROR                     FAILED            UNKNOWN
    ACTIVE or SHUTOFF         again; if locked  again later
                              FAILED
    any other                 FAILED            UNKNOWN
    ========================= ================= =======================

    A server that is idle in a state that allows the action was in another task when the call came.

    Args:
        action: Such as ``nova.servers.stop``.
        server_id: The server.
        state: Its state; None if the cloud does not know it.
        cause: The refusal, or the reason why nothing is known.
        in_doubt: Whether this call, or an earlier one, may have been executed: a reboot is not to be judged here then.
        mask: Hides secrets in the texts of a server that an error carries.
    """
    if state is None or state.is_gone:
        return Next.END, *vanished(action, server_id, cause)
    failed = OutcomeState.UNKNOWN if in_doubt else OutcomeState.FAILED
    if state.is_busy:
        if cause.maybe_done and is_own_task(action, state):
            return Next.FOLLOW, OutcomeState.UNKNOWN, cause
        return Next.AGAIN, failed, _explain(action, server_id, state, "it is in another task", cause)
    if action in _CAN_BE_SO and state.status == WANTED[action]:
        return Next.END, OutcomeState.UNCHANGED, None
    if state.status == ServerStatus.ERROR:
        fault = ServerFaultError(mask(state.as_server()), wanted=WANTED[action].value)
        fault.__cause__ = cause
        return Next.END, failed, fault
    what, text = _judge_idle(state, cause)
    return what, failed, _explain(action, server_id, state, text, cause)


def _judge_idle(state: NativeState, cause: CallError) -> tuple[Next, str]:
    """Return what is to be done with a server that nothing is done to, and which is not as asked; and why."""
    if says_locked(cause):
        return Next.END, "it is locked"
    if state.status not in _ALLOWING:
        return Next.END, "its status does not allow that"
    return Next.AGAIN, "its answer was lost" if cause.maybe_done else "the cloud refused each time"


_CAN_BE_SO = ("nova.servers.start", "nova.servers.stop")


def _explain(action: str, server_id: str, state: NativeState, text: str, cause: CallError) -> ServerStateError:
    error = ServerStateError(
        f"{action}: server {server_id}: {text}: it is {state.shown} ({cause})",
        server_id=server_id,
        code=getattr(cause, "code", None),
        status=None if state.status is None else state.status.value,
        task_state=state.task_state or None,
    )
    error.__cause__ = cause
    return error
