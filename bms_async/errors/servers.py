"""How waiting for a server can end badly."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import BmsError

if TYPE_CHECKING:
    from bms_async.models import Server


class ServerWaitError(BmsError):
    """Waiting for a server's status ended, and not with that status.

    Attributes:
        server_id: The server.
        wanted: The status that was waited for; None where it was the server's deletion.
        server: What was known of it last; None if nothing ever was.
    """

    def __init__(self, message: str, *, server_id: str, wanted: str | None, server: Server | None) -> None:
        self.server_id = server_id
        self.wanted = wanted
        self.server = server
        super().__init__(message)


class ServerFaultError(ServerWaitError):
    """The server is in ERROR.

    Attributes:
        code: The code of its fault, None if the cloud gave none.
        message: The cloud's own words, at most 256 characters of them; None if it gave none.
    """

    server: Server

    def __init__(self, server: Server, *, wanted: str | None) -> None:
        self.code = server.fault.code if server.fault else None
        told = server.fault.message if server.fault else None
        self.message = told[:256] if told else None
        text = f"server {server.id} is in ERROR, where {wanted or 'its deletion'} was waited for"
        if self.code is not None:
            text += f", with fault {self.code}"
        if self.message:
            text += f": {self.message}"
        super().__init__(text, server_id=server.id, wanted=wanted, server=server)


class ServerLostError(ServerWaitError):
    """The server was deleted, or the cloud has not told of it for too long; the cause is what it answered last."""


class ServerWaitTimeoutError(ServerWaitError, TimeoutError):
    """The wait is over, the server goes on."""
