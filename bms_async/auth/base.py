"""What the session asks of credentials."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from bms_async.wire import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from bms_async.hooks import CredentialsRenewalEnded

Send: TypeAlias = Callable[[HttpRequest], Awaitable[HttpResponse]]
"""Sends a request as it is, without credentials; it waits only where its operation was given a limit."""

TOKEN_OPERATION = "identity.create_token"  # noqa: S105 - a call's name
"""The call that a password is exchanged by; limits and logs know it by this name."""

StartTask: TypeAlias = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
"""Starts a task that belongs to the client and outlives the call that asked for it."""


@runtime_checkable
class Auth(Protocol):
    """Puts credentials on requests."""

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        """Return the headers that make this request ours. It is asked right before the request is sent."""
        ...

    def redact(self, text: str) -> str:
        """Return a text of the cloud's without any secret of ours that it may echo."""
        ...


@runtime_checkable
class RenewableAuth(Auth, Protocol):
    """Credentials that can be mended after the cloud refused them."""

    async def renew(self, request: HttpRequest, response: HttpResponse) -> bool:
        """Mend the credentials after a 401 or 403, once a call; tell whether it is worth trying again.

        Args:
            request: What was sent, with the credentials that were refused.
            response: What the cloud answered.
        """
        ...


@runtime_checkable
class SendingAuth(Auth, Protocol):
    """Credentials that have to ask a service for what they put on requests."""

    def bind(self, send: Send, start: StartTask) -> None:
        """Take a way to send, from a client that is being opened; there may be several."""
        ...

    def unbind(self, send: Send) -> None:
        """Let go of it again, when that client is closed."""
        ...


Notify: TypeAlias = Callable[["CredentialsRenewalEnded"], None]
"""Tells the hooks of a client."""


@runtime_checkable
class ObservableAuth(Auth, Protocol):
    """Credentials that get new tokens or keys, and tell of it."""

    def observe(self, tell: Notify) -> None:
        """Tell a client that is being opened of it, from now on; there may be several."""
        ...

    def unobserve(self, tell: Notify) -> None:
        """Tell it no more, when it is closed."""
        ...


@runtime_checkable
class ScopedAuth(Auth, Protocol):
    """Credentials that know their project's id, or can find it."""

    async def find_project_id(self) -> str | None:
        """Return the id of the project; None if it turns out that they cannot tell."""
        ...
