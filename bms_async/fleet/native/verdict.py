"""What the listing of a plain OpenStack cloud proves of an action that it accepted: pure functions.

What is guaranteed: SUCCEEDED is said only of a server whose state proves it (R2), and a state that may be older than
the action proves nothing.

How: only readings that began after the action was accepted count. Nova sets ``task_state`` before it answers an action,
and clears it when the action is over, well or not. So an idle server was busy in between, and its ``updated`` is later
than the answer. A start or a stop is then judged by the status. A reboot leaves the status that it found; it is
believed in where a reading showed it under way, or where the server is ACTIVE and idle and its ``updated`` is later
than the latest that the answer can have been by the cloud's clock. The second is what becomes of a reboot that was over
between two readings. It does not rest on ``updated`` alone, which a renaming changes too: the accepted call says that
Nova had begun the reboot, the idle server that nothing is left of it, and ``updated`` that this is no answer of a
gateway that had passed nothing on, nor the reading of a replica that lags. Where another task was seen, the server may
have changed for that one, and only a reboot that was seen counts.

Rejected: ``updated`` alone; to require that a reboot be seen, which leaves quick ones UNKNOWN whatever the cloud did;
and the list of a server's actions (``os-instance-actions``), which is one call a server and not in the API reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from enum import Flag, auto
from typing import Final, TypeAlias

import msgspec

from bms_async.errors import BmsError, ServerFaultError, ServerStateError
from bms_async.fleet.outcome import OutcomeState
from bms_async.models import Fault, Server, ServerStatus
from bms_async.models.base import Model, Moment
from bms_async.models.ids import canonical_id

Verdict: TypeAlias = tuple[OutcomeState, BmsError | None]

WANTED: Final[Mapping[str, ServerStatus]] = {
    "nova.servers.start": ServerStatus.ACTIVE,
    "nova.servers.stop": ServerStatus.SHUTOFF,
    "nova.servers.reboot": ServerStatus.ACTIVE,
}
"""The status that each action leads to."""

_REBOOT: Final = "nova.servers.reboot"
_REBOOTING: Final = (ServerStatus.REBOOT, ServerStatus.HARD_REBOOT)
_UNFINISHED: Final = (*_REBOOTING, ServerStatus.BUILD)
_STABLE: Final = (ServerStatus.ACTIVE, ServerStatus.SHUTOFF)
_GONE: Final = frozenset({"DELETED", "SOFT_DELETED"})
_OWN_TASKS: Final[Mapping[str, str]] = {
    "nova.servers.start": "powering-on",
    "nova.servers.stop": "powering-off",
    _REBOOT: "reboot",
}
"""What the ``task_state`` of each action has in it: a reboot has six, such as ``reboot_started_hard``."""


def is_busy(status: object, task_state: object) -> bool:
    """Return whether something is being done to a server of this status and this task."""
    return bool(task_state) or status in _UNFINISHED


class NativeState(
    Model,
    frozen=True,
    kw_only=True,
    rename={"task_state": "OS-EXT-STS:task_state", "vm_state": "OS-EXT-STS:vm_state"},
):
    """The fields of a server by which an action on it is judged."""

    id: str
    name: str | None = None
    status: ServerStatus | None = None
    vm_state: str | None = None
    task_state: str | None = None
    updated: Moment = None
    fault: Fault | None = None

    def __post_init__(self) -> None:
        # The watch knows ids by their canonical form only.
        if (known := canonical_id(self.id)) != self.id:
            msgspec.structs.force_setattr(self, "id", known)

    @property
    def is_busy(self) -> bool:
        """Whether something is being done to it."""
        return is_busy(self.status, self.task_state)

    @property
    def is_gone(self) -> bool:
        """Whether it was deleted."""
        return self.status in _GONE or self.vm_state in ("deleted", "soft-delete")

    @property
    def updated_at(self) -> float | None:
        """When it changed last, in seconds since 1970, cut to whole ones."""
        return self.updated.timestamp() if isinstance(self.updated, datetime) else None

    @property
    def shown(self) -> str:
        """Its status and its task, for texts."""
        return f"{self.status or 'without a status'}{f', {self.task_state}' if self.task_state else ''}"

    def as_server(self) -> Server:
        """Return it as a server, for errors that carry one."""
        return Server(
            id=self.id,
            name=self.name,
            status=self.status,
            vm_state=self.vm_state,
            task_state=self.task_state,
            updated=self.updated,
            fault=self.fault,
        )


class Sight(Flag):
    """What readings that began after the action was accepted have shown of a server."""

    NOTHING = 0
    UNDER_WAY = auto()
    """It was being done what was asked for."""
    OTHER_TASK = auto()
    """Something else was being done."""
    CHANGED = auto()
    """It was idle, and its ``updated`` was later than the answer."""
    NOT_AS_ASKED = auto()
    """It was idle in another status."""


_TRACES: Final = Sight.UNDER_WAY | Sight.OTHER_TASK | Sight.CHANGED


def is_own_task(action: str, state: NativeState) -> bool:
    """Return whether what is being done to a busy server is what was asked for.

    Args:
        action: Such as ``nova.servers.stop``.
        state: The server's state.
    """
    return _OWN_TASKS[action] in (state.task_state or "") or (action == _REBOOT and state.status in _REBOOTING)


def add_sight(action: str, state: NativeState, seen: Sight, *, accepted: float) -> Sight:
    """Return what was seen of a server, with one more reading.

    Args:
        action: Such as ``nova.servers.stop``.
        state: What the reading shows.
        seen: What was seen before.
        accepted: The latest that it can have been when the action was accepted, by the cloud's clock in seconds since
            1970; infinity where it is not known.
    """
    if state.is_busy:
        return seen | (Sight.UNDER_WAY if is_own_task(action, state) else Sight.OTHER_TASK)
    updated = state.updated_at
    if updated is not None and updated > accepted:
        seen |= Sight.CHANGED
    return seen if state.status == WANTED[action] else seen | Sight.NOT_AS_ASKED


def judge(
    action: str,
    state: NativeState,
    seen: Sight,
    *,
    in_doubt: bool = False,
    mask: Callable[[Server], Server] = lambda server: server,
) -> Verdict | None:
    """Return what a server's state proves of an action that the cloud accepted; None if it proves nothing yet.

    ============ ===================== ============================ ===================
    action       seen before or now    idle, as asked               idle, otherwise
    ============ ===================== ============================ ===================
    reboot       under way             SUCCEEDED                    FAILED
    reboot       another task          UNKNOWN                      FAILED
    reboot       changed               SUCCEEDED                    FAILED
    reboot       none of these         None                         None
    start, stop  any of these          SUCCEEDED                    FAILED
    start, stop  not as asked          SUCCEEDED                    None
    start, stop  none of these         UNCHANGED
    ============ ===================== ============================ ===================

    A server that is busy proves nothing; one that is idle in ERROR is FAILED if anything was seen of it, and proves
    nothing else: the ERROR may be older. One that was deleted is FAILED. Any other status, such as PAUSED, proves
    nothing.

    Args:
        action: Such as ``nova.servers.stop``.
        state: What the last reading shows.
        seen: What was seen since the action was accepted, the last reading included.
        in_doubt: Whether the answer was lost, so that the cloud need not have accepted it: then a server that is not as
            asked is FAILED only if the action was seen under way.
        mask: Hides secrets in the texts of a server that an error carries.
    """
    if state.is_gone:
        return OutcomeState.FAILED, _error(action, state, "it was deleted")
    if state.is_busy or (state.status not in _STABLE and state.status != ServerStatus.ERROR):
        return None
    if state.status != WANTED[action]:
        counts = Sight.UNDER_WAY if in_doubt else _TRACES
        return _judge_otherwise(action, state, mask) if seen & counts else None
    if action == _REBOOT:
        return _judge_reboot(state, seen)
    return (OutcomeState.SUCCEEDED if seen else OutcomeState.UNCHANGED), None


def _judge_otherwise(action: str, state: NativeState, mask: Callable[[Server], Server]) -> Verdict:
    error: BmsError
    if state.status == ServerStatus.ERROR:
        error = ServerFaultError(mask(state.as_server()), wanted=WANTED[action].value)
    else:
        error = _error(action, state, "it is not as asked, and nothing is under way", mask)
    return OutcomeState.FAILED, error


def _judge_reboot(state: NativeState, seen: Sight) -> Verdict | None:
    if Sight.UNDER_WAY in seen or (Sight.CHANGED in seen and Sight.OTHER_TASK not in seen):
        return OutcomeState.SUCCEEDED, None
    if Sight.OTHER_TASK in seen:
        text = "only another task was seen, so nothing proves that it was restarted"
        return OutcomeState.UNKNOWN, _error(_REBOOT, state, text)
    return None


def vanished(action: str, server_id: str, cause: BmsError | None = None) -> Verdict:
    """Return the verdict on a server that the cloud does not know any more.

    Args:
        action: Such as ``nova.servers.stop``.
        server_id: The server.
        cause: The cloud's own words.
    """
    error = ServerStateError(
        f"{action}: server {server_id}: it vanished: the cloud does not know it any more",
        server_id=server_id,
        code=None,
        status=None,
        task_state=None,
    )
    error.__cause__ = cause
    return OutcomeState.FAILED, error


def timed_out(
    action: str,
    server_id: str,
    state: NativeState | None,
    seconds: float,
    cause: BmsError | None = None,
    *,
    in_doubt: bool = False,
) -> Verdict:
    """Return the verdict on a server that has shown nothing new for too long.

    Args:
        action: Such as ``nova.servers.stop``.
        server_id: The server.
        state: What the last reading showed; None if none showed it.
        seconds: How long it has shown nothing new.
        cause: Why it could not be read, if that is the reason.
        in_doubt: Whether the answer was lost.
    """
    known = "its answer was lost" if in_doubt else "it was accepted"
    shown = "no reading showed it" if state is None else f"it is {state.shown}"
    error = ServerStateError(
        f"{action}: server {server_id}: {known}, and for {seconds:g} s nothing has shown how it ended: {shown}",
        server_id=server_id,
        code=None,
        status=None if state is None or state.status is None else state.status.value,
        task_state=None if state is None else state.task_state,
    )
    error.__cause__ = cause
    return OutcomeState.UNKNOWN, error


def _error(
    action: str, state: NativeState, text: str, mask: Callable[[Server], Server] = lambda server: server
) -> ServerStateError:
    server = mask(state.as_server())
    words = server.fault.message if server.fault is not None else None
    return ServerStateError(
        f"{action}: server {state.id}: {text}: it is {state.shown}{f': {words}' if words else ''}",
        server_id=state.id,
        code=None,
        status=None if state.status is None else state.status.value,
        task_state=state.task_state or None,
    )
