"""The errors of a server in a fleet run."""

from __future__ import annotations

from bms_async.errorcodes import explain

from .base import BmsError


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
