"""How a server of a fleet run can end badly."""

from __future__ import annotations

from bms_async.errorcodes import explain

from .base import BmsError


class FleetError(BmsError):
    """Servers of a fleet run that failed for one and the same reason.

    Attributes:
        code: The code they failed with, None where there was none.
        server_ids: The servers.
        measure: What to do about it, if chapter 6.2 tells.
    """

    def __init__(self, message: str, *, code: str | None, server_ids: tuple[str, ...]) -> None:
        self.code = code
        self.server_ids = server_ids
        documented = explain(code)
        self.measure = documented.measure if documented else None
        super().__init__(message)


class FleetTimeoutError(FleetError, TimeoutError):
    """The run's `total_timeout` was over before a server was asked for, or before it was known what became of it.

    Its ``__cause__`` is what was known of the server until then, None where that was nothing.
    """


class ServerStateError(FleetError):
    """What a server's own state says against its outcome: it is not as asked, or is why its batch was refused.

    Attributes:
        server_id: The server.
        status: Its status; None where the cloud does not show the server.
        task_state: What is being done with it; None where it is idle.
    """

    def __init__(
        self, message: str, *, server_id: str, code: str | None, status: str | None, task_state: str | None
    ) -> None:
        self.server_id = server_id
        self.status = status
        self.task_state = task_state
        super().__init__(message, code=code, server_ids=(server_id,))
