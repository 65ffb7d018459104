"""The errors of waiting for a server."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import BmsError

if TYPE_CHECKING:
    from bms_async.models import Server

_MAX_MESSAGE = 256


class ServerWaitError(BmsError):
    """Base class: a wait for a server's status ended without that status.

    Attributes:
        server_id: The server.
        wanted: The status that was waited for; None for the server's deletion.
        server: Its last known state; None if it was never read.
    """

    def __init__(self, message: str, *, server_id: str, wanted: str | None, server: Server | None) -> None:
        self.server_id = server_id
        self.wanted = wanted
        self.server = server
        super().__init__(message)


class ServerFaultError(ServerWaitError):
    """The server is in ERROR.

    Attributes:
        code: The code of its fault; None if there is none.
        message: The cloud's own words, cut to 256 characters; None if there are none.
    """

    server: Server

    def __init__(self, server: Server, *, wanted: str | None) -> None:
        self.code = server.fault.code if server.fault else None
        message = server.fault.message if server.fault else None
        self.message = message[:_MAX_MESSAGE] if message else None
        text = f"expected {wanted or 'the deletion'} of server {server.id}, got ERROR"
        if self.code is not None:
            text += f" with fault {self.code}"
        if self.message:
            text += f": {self.message}"
        super().__init__(text, server_id=server.id, wanted=wanted, server=server)


class ServerLostError(ServerWaitError):
    """The server was deleted, or could not be read for too long; its cause is the cloud's last response."""


class ServerWaitTimeoutError(ServerWaitError, TimeoutError):
    """The wait timed out; the server goes on."""
