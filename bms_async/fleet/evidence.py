"""What a server's own state proves: pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import Enum, Flag, auto

import msgspec

from bms_async.errorcodes import explain
from bms_async.errors import ServerStateError
from bms_async.models import ServerStatus
from bms_async.models.base import Model
from bms_async.models.ids import canonical_id

from .outcome import ALREADY, OutcomeState

REBOOTING = "BMS.0037"
"""The code of a server that is being rebooted."""

_WANTED: Mapping[str, ServerStatus] = {
    "servers.start": ServerStatus.ACTIVE,
    "servers.stop": ServerStatus.SHUTOFF,
    "servers.reboot": ServerStatus.ACTIVE,
}
_IN_PROGRESS_CODES: Mapping[str, str] = {
    "servers.start": "BMS.0035",
    "servers.stop": "BMS.0036",
    "servers.reboot": REBOOTING,
}
_REBOOTING = (ServerStatus.REBOOT, ServerStatus.HARD_REBOOT)
_RESTING = (ServerStatus.ACTIVE, ServerStatus.SHUTOFF, ServerStatus.ERROR)
_UNKNOWN_SERVER = "BMS.0040"


class ServerState(
    Model,
    frozen=True,
    kw_only=True,
    rename={"task_state": "OS-EXT-STS:task_state"},
):
    """As little of a server as tells how it is."""

    id: str
    status: ServerStatus | None = None
    task_state: str | None = None
    locked: bool | None = None

    def __post_init__(self) -> None:
        # It is looked for by the form that the run knows, and is nobody's data.
        if (known := canonical_id(self.id)) != self.id:
            msgspec.structs.force_setattr(self, "id", known)

    @property
    def is_busy(self) -> bool:
        """Whether something is being done with it."""
        return bool(self.task_state) or self.status in (*_REBOOTING, ServerStatus.BUILD)

    @property
    def is_rebooting(self) -> bool:
        """Whether it is being rebooted."""
        return self.status in _REBOOTING or "reboot" in (self.task_state or "")

    @property
    def busy_code(self) -> str:
        """The code of chapter 6.2 for what it is at."""
        if self.is_rebooting:
            return REBOOTING
        task = self.task_state or ""
        if "power" in task or "start" in task or "stop" in task:
            return "BMS.0036" if "off" in task or "stop" in task else "BMS.0035"
        return "BMS.1001"


class RefusalCause(Enum):
    """Why a batch may have been refused because of a server."""

    ALREADY_SO = auto()
    SEEMINGLY_SO = auto()
    BUSY = auto()
    MISSING = auto()
    LOCKED = auto()
    FAULTY = auto()


def find_cause(action: str, server_state: ServerState | None) -> RefusalCause | None:
    """Tell what speaks against an action on a server, None if nothing does.

    Args:
        action: Such as ``servers.stop``.
        server_state: The server's state, None if the cloud does not show it.
    """
    if server_state is None:
        return RefusalCause.MISSING
    if server_state.is_busy:
        return RefusalCause.BUSY
    if action in ALREADY and server_state.status == _WANTED[action]:
        return RefusalCause.ALREADY_SO
    if server_state.locked:
        return RefusalCause.LOCKED
    if server_state.status == ServerStatus.ERROR and action != "servers.stop":
        return RefusalCause.FAULTY
    return None


def partition_by_cause(
    action: str, ids: Iterable[str], states: Mapping[str, ServerState]
) -> tuple[list[str], dict[RefusalCause, list[str]]]:
    """Part the servers of a refused batch into those against which nothing speaks, and the others by why.

    Args:
        action: Such as ``servers.stop``.
        ids: The servers of the batch.
        states: What the cloud shows of them.
    """
    innocent: list[str] = []
    suspects: dict[RefusalCause, list[str]] = {}
    for server_id in ids:
        why = find_cause(action, states.get(server_id))
        (innocent if why is None else suspects.setdefault(why, [])).append(server_id)
    return innocent, suspects


class Evidence(Flag):
    """What a run saw of a server after it had asked for it."""

    NOTHING = 0
    IN_PROGRESS = auto()
    """It was at what it was asked for: starting, stopping or being rebooted."""
    NOT_AS_ASKED = auto()
    """It was not as asked, such as ACTIVE where it was to be stopped."""


def evidence_of(action: str, server_state: ServerState) -> Evidence:
    """Tell what one look at a server shows of an action.

    Nothing else counts: that a server has changed, or when, may be a rename, a tag, another disk.

    Args:
        action: What it was asked for.
        server_state: Its state, read after it was asked for.
    """
    seen = Evidence.NOTHING
    if server_state.is_busy and server_state.busy_code == _IN_PROGRESS_CODES[action]:
        seen |= Evidence.IN_PROGRESS
    if server_state.status is not None and server_state.status != _WANTED[action]:
        seen |= Evidence.NOT_AS_ASKED
    return seen


def infer_outcome(action: str, server_state: ServerState, seen: Evidence) -> OutcomeState | None:
    """Tell what became of a server of which no answer and no job tells, None if nothing proves it.

    ========== ======================= ============= ===================
    action     it was seen             it rests so   it rests otherwise
    ========== ======================= ============= ===================
    reboot     being rebooted          SUCCEEDED     FAILED
    reboot     anything else           nothing       nothing
    start/stop at it                   SUCCEEDED     FAILED
    start/stop in the other state      SUCCEEDED     nothing: ask again
    start/stop never but as asked      UNCHANGED
    ========== ======================= ============= ===================

    Args:
        action: What it was asked for.
        server_state: Its state now. One that is busy, or in a state that is no rest, proves nothing.
        seen: All that was seen of it since it was asked for.
    """
    if server_state.is_busy or server_state.status not in _RESTING:
        return None
    is_so = server_state.status == _WANTED[action]
    if Evidence.IN_PROGRESS in seen:
        return OutcomeState.SUCCEEDED if is_so else OutcomeState.FAILED
    if action == "servers.reboot" or not is_so:
        return None
    return OutcomeState.SUCCEEDED if Evidence.NOT_AS_ASKED in seen else OutcomeState.UNCHANGED


def verify(
    action: str, known: OutcomeState, server_state: ServerState | None, seen: Evidence, *, last: bool
) -> OutcomeState | None:
    """Tell what a server's state makes of an outcome, None to look again.

    Args:
        action: What it was asked for.
        known: SUCCEEDED, UNCHANGED or UNKNOWN.
        server_state: Its state now, None if the cloud does not show it.
        seen: All that was seen of it since it was asked for.
        last: Whether there is no other look.
    """
    if server_state is None or server_state.is_busy:
        return OutcomeState.UNKNOWN if last else None
    is_so = server_state.status == _WANTED[action]
    # A status that is missing, that nobody knows, or that is no rest contradicts nothing.
    otherwise = OutcomeState.UNKNOWN if server_state.status not in _RESTING else OutcomeState.FAILED
    if known.is_success:
        return known if is_so else otherwise if last else None
    proved = infer_outcome(action, server_state, seen)
    if proved is not None or not last:
        return proved
    # A reboot shows nowhere once it is over, whatever the server is now.
    return OutcomeState.UNKNOWN if action == "servers.reboot" or is_so else otherwise


def explain_state(
    action: str, server_id: str, server_state: ServerState | None, *, text: str, code: str | None = None
) -> ServerStateError:
    """Return the error for a server whose own state speaks against it.

    Args:
        action: What it was asked for.
        server_id: The server.
        server_state: Its state, None if the cloud does not show it.
        text: What its state means.
        code: The code of chapter 6.2 that fits, if one does.
    """
    status = server_state.status.value if server_state is not None and server_state.status is not None else None
    task = (server_state.task_state or None) if server_state is not None else None
    shown = "the cloud does not show it" if server_state is None else f"it is {status}" + (f", {task}" if task else "")
    documented = explain(code)
    advice = f" [{documented.meaning} {documented.measure}]" if documented else ""
    return ServerStateError(
        f"{action}: server {server_id}: {text}: {shown}{advice}",
        server_id=server_id,
        code=code,
        status=status,
        task_state=task,
    )


def code_of(action: str, why: RefusalCause, server_state: ServerState | None) -> str | None:
    """Return the code of chapter 6.2 for why a server cannot be acted on, None if there is none."""
    if why is RefusalCause.MISSING:
        return _UNKNOWN_SERVER
    if why is RefusalCause.BUSY and server_state is not None:
        return server_state.busy_code
    return ALREADY.get(action) if why is RefusalCause.ALREADY_SO else None
