"""The errors of a server in a fleet run."""

from __future__ import annotations

from bms_async.errorcodes import explain

from .base import BmsError, show_value

_MAX_KEPT = 10
_MAX_NAMED = 3


class FleetError(BmsError):
    """Servers of a fleet run that failed for the same reason.

    Attributes:
        code: The code that they failed with; None if there is none.
        server_ids: The servers.
        measure: The documented remedy (API reference 6.2); None if undocumented.
    """

    def __init__(self, message: str, *, code: str | None, server_ids: tuple[str, ...]) -> None:
        self.code = code
        self.server_ids = server_ids
        documented = explain(code)
        self.measure = documented.measure if documented else None
        super().__init__(message)


class FleetTimeoutError(FleetError, TimeoutError):
    """The run's `total_timeout` expired before a server's request was sent, or before its result was known.

    Its ``__cause__`` is the last error known of the server; None if there was none.
    """


class ServerStateError(FleetError):
    """A server's own state contradicts the request: it is not as asked, or is the reason that its batch was refused.

    Attributes:
        server_id: The server.
        status: Its status; None if the cloud does not show the server.
        task_state: Its running task; None if it is idle.
    """

    def __init__(
        self, message: str, *, server_id: str, code: str | None, status: str | None, task_state: str | None
    ) -> None:
        self.server_id = server_id
        self.status = status
        self.task_state = task_state
        super().__init__(message, code=code, server_ids=(server_id,))


class NotReadyError(FleetError):
    """A server's job has ended, but the rollout's readiness check did not find the server well in time.

    Attributes:
        server_id: The server.
        asked: What was asked last, such as ``tcp 22 at 192.168.0.7``.
        answered: What was answered last, such as ``connection refused``; None if nothing was.
        seconds: For how long it was asked, in seconds from the first attempt.
        attempts: How often it was asked.
    """

    def __init__(
        self,
        *,
        server_id: str,
        asked: str,
        answered: str | None,
        seconds: float,
        attempts: int,
        is_fault: bool = False,
        is_cut_short: bool = False,
    ) -> None:
        self.server_id = server_id
        self.asked = asked
        self.answered = answered
        self.seconds = seconds
        self.attempts = attempts
        times = "1 attempt" if attempts == 1 else f"{attempts} attempts"
        what = f"not ready within {seconds:g} s of the first check"
        if is_fault:
            what = "its readiness cannot be checked; mend the function"
        elif is_cut_short:
            what = "its job has succeeded, and the run ended before the server was seen to be ready; check it"
        super().__init__(
            f"server {server_id}: {what}: {asked}: {answered or 'no answer'} ({times})",
            code=None,
            server_ids=(server_id,),
        )


def shown_group(group: str) -> str:
    """Return a group's name as it is shown."""
    return group or "(none)"


class GroupBlockedError(FleetError):
    """Servers were not sent: those of their group that are unavailable for good are as many as may be.

    Attributes:
        group: The group; empty for servers that are in none.
        unavailable: The servers that are unavailable, at most 10 of them.
        allowed: How many servers of the group may be unavailable.
    """

    def __init__(self, *, group: str, unavailable: tuple[str, ...], allowed: int) -> None:
        self.group = group
        self.unavailable = unavailable[:_MAX_KEPT]
        self.allowed = allowed
        named = ", ".join(unavailable[:_MAX_NAMED]) + (", ..." if len(unavailable) > _MAX_NAMED else "")
        which = "1 server" if allowed == 1 else f"{allowed:,} servers"
        shown = show_value(group) if group else shown_group(group)
        super().__init__(
            f"not sent: the {which} that may be unavailable in group {shown} "
            f"{'is' if allowed == 1 else 'are'} so for good ({named}); see why, then run it again for the rest",
            code=None,
            server_ids=(),
        )
