"""What a server's own state proves: pure functions."""

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
"""The code for a server that is being rebooted."""

_WANTED_STATUS: Mapping[str, ServerStatus] = {
    "servers.start": ServerStatus.ACTIVE,
    "servers.stop": ServerStatus.SHUTOFF,
    "servers.reboot": ServerStatus.ACTIVE,
}
_IN_PROGRESS_CODES: Mapping[str, str] = {
    "servers.start": "BMS.0035",
    "servers.stop": "BMS.0036",
    "servers.reboot": REBOOTING,
}
_REBOOT_STATUSES = (ServerStatus.REBOOT, ServerStatus.HARD_REBOOT)
_STABLE_STATUSES = (ServerStatus.ACTIVE, ServerStatus.SHUTOFF, ServerStatus.ERROR)
_UNKNOWN_SERVER = "BMS.0040"


class ServerState(
    Model,
    frozen=True,
    kw_only=True,
    rename={"task_state": "OS-EXT-STS:task_state"},
):
    """The fields of a server that show its state."""

    id: str
    status: ServerStatus | None = None
    task_state: str | None = None
    locked: bool | None = None

    def __post_init__(self) -> None:
        # The run knows ids by their canonical form only.
        if (known := canonical_id(self.id)) != self.id:
            msgspec.structs.force_setattr(self, "id", known)

    @property
    def is_busy(self) -> bool:
        """Whether an action on it is in progress."""
        return bool(self.task_state) or self.status in (*_REBOOT_STATUSES, ServerStatus.BUILD)

    @property
    def is_rebooting(self) -> bool:
        """Whether it is being rebooted."""
        return self.status in _REBOOT_STATUSES or "reboot" in (self.task_state or "")

    @property
    def busy_code(self) -> str:
        """The code of chapter 6.2 for the action in progress."""
        if self.is_rebooting:
            return REBOOTING
        task = self.task_state or ""
        if "power" in task or "start" in task or "stop" in task:
            return "BMS.0036" if "off" in task or "stop" in task else "BMS.0035"
        return "BMS.1001"


class RefusalCause(Enum):
    """Why a server may have made the cloud refuse its batch."""

    ALREADY_SO = auto()
    SEEMINGLY_SO = auto()
    BUSY = auto()
    MISSING = auto()
    LOCKED = auto()
    FAULTY = auto()


def find_cause(action: str, server_state: ServerState | None) -> RefusalCause | None:
    """Return why the cloud may refuse an action on a server, None if its state shows no cause.

    Args:
        action: Such as ``servers.stop``.
        server_state: The server's state, None if the cloud does not show it.
    """
    if server_state is None:
        return RefusalCause.MISSING
    if server_state.is_busy:
        return RefusalCause.BUSY
    if action in ALREADY and server_state.status == _WANTED_STATUS[action]:
        return RefusalCause.ALREADY_SO
    if server_state.locked:
        return RefusalCause.LOCKED
    if server_state.status == ServerStatus.ERROR and action != "servers.stop":
        return RefusalCause.FAULTY
    return None


def partition_by_cause(
    action: str, ids: Iterable[str], states: Mapping[str, ServerState]
) -> tuple[list[str], dict[RefusalCause, list[str]]]:
    """Return the servers of a refused batch that show no cause, and the others by their cause.

    Args:
        action: Such as ``servers.stop``.
        ids: The servers of the batch.
        states: Their states, without those that the cloud does not show.
    """
    clear: list[str] = []
    by_cause: dict[RefusalCause, list[str]] = {}
    for server_id in ids:
        cause = find_cause(action, states.get(server_id))
        (clear if cause is None else by_cause.setdefault(cause, [])).append(server_id)
    return clear, by_cause


class Evidence(Flag):
    """What a run has seen of a server since it was sent."""

    NOTHING = 0
    IN_PROGRESS = auto()
    """The requested action was in progress: it was starting, stopping or being rebooted."""
    NOT_AS_ASKED = auto()
    """It was not in the requested state, such as ACTIVE where it is to be stopped."""


def evidence_of(action: str, server_state: ServerState) -> Evidence:
    """Return what one state of a server shows of an action.

    Nothing else counts: any other change, and its time, may be a rename, a tag or another disk.

    Args:
        action: The requested action.
        server_state: Its state, read after it was sent.
    """
    seen = Evidence.NOTHING
    if server_state.is_busy and server_state.busy_code == _IN_PROGRESS_CODES[action]:
        seen |= Evidence.IN_PROGRESS
    if server_state.status is not None and server_state.status != _WANTED_STATUS[action]:
        seen |= Evidence.NOT_AS_ASKED
    return seen


def infer_outcome(action: str, server_state: ServerState, seen: Evidence) -> OutcomeState | None:
    """Return the outcome that a server's state proves where its response or its job was lost, None if it proves none.

    ========== ========================= =============== ===================
    action     seen since it was sent    now as asked    now otherwise
    ========== ========================= =============== ===================
    reboot     being rebooted            SUCCEEDED       FAILED
    reboot     anything else             None            None
    start/stop starting or stopping      SUCCEEDED       FAILED
    start/stop not as asked              SUCCEEDED       None: send it again
    start/stop as asked each time        UNCHANGED
    ========== ========================= =============== ===================

    Args:
        action: The requested action.
        server_state: Its state now. A busy server, or one in a state that is not stable, proves nothing.
        seen: Everything that was seen of it since it was sent.
    """
    if server_state.is_busy or server_state.status not in _STABLE_STATUSES:
        return None
    is_as_asked = server_state.status == _WANTED_STATUS[action]
    if Evidence.IN_PROGRESS in seen:
        return OutcomeState.SUCCEEDED if is_as_asked else OutcomeState.FAILED
    if action == "servers.reboot" or not is_as_asked:
        return None
    return OutcomeState.SUCCEEDED if Evidence.NOT_AS_ASKED in seen else OutcomeState.UNCHANGED


def recheck_outcome(
    action: str, known: OutcomeState, server_state: ServerState | None, seen: Evidence, *, last: bool
) -> OutcomeState | None:
    """Return the outcome of a server in the light of its state, None to read the state once more.

    Args:
        action: The requested action.
        known: The outcome so far: SUCCEEDED, UNCHANGED or UNKNOWN.
        server_state: Its state now, None if the cloud does not show it.
        seen: Everything that was seen of it since it was sent.
        last: Whether the state is not read again.
    """
    if server_state is None or server_state.is_busy:
        return OutcomeState.UNKNOWN if last else None
    is_as_asked = server_state.status == _WANTED_STATUS[action]
    # A status that is missing, unknown or not stable contradicts nothing.
    otherwise = OutcomeState.UNKNOWN if server_state.status not in _STABLE_STATUSES else OutcomeState.FAILED
    if known.is_success:
        return known if is_as_asked else otherwise if last else None
    proved = infer_outcome(action, server_state, seen)
    if proved is not None or not last:
        return proved
    # A reboot leaves no trace once it is over, whatever the state is now.
    return OutcomeState.UNKNOWN if action == "servers.reboot" or is_as_asked else otherwise


def explain_state(
    action: str, server_id: str, server_state: ServerState | None, *, text: str, code: str | None = None
) -> ServerStateError:
    """Return the error for a server whose own state contradicts the action or its outcome.

    Args:
        action: The requested action.
        server_id: The server.
        server_state: Its state, None if the cloud does not show it.
        text: The meaning of its state.
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


def code_of(action: str, cause: RefusalCause, server_state: ServerState | None) -> str | None:
    """Return the code of chapter 6.2 for a cause of refusal, None if there is none."""
    if cause is RefusalCause.MISSING:
        return _UNKNOWN_SERVER
    if cause is RefusalCause.BUSY and server_state is not None:
        return server_state.busy_code
    return ALREADY.get(action) if cause is RefusalCause.ALREADY_SO else None
