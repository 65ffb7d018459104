"""The protocols that credentials implement."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias, runtime_checkable

from bms_async.wire import HttpRequest, HttpResponse

if TYPE_CHECKING:
    from bms_async.hooks import CredentialsRenewalEnded

Send: TypeAlias = Callable[[HttpRequest], Awaitable[HttpResponse]]
"""Sends a request unchanged, without credentials; it waits only if its operation has a limit."""

TOKEN_OPERATION = "identity.create_token"  # noqa: S105 - the name of an operation
"""The call that exchanges a password for a token, as limits and logs name it."""

StartTask: TypeAlias = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]
"""Starts a task that belongs to the client and may outlive the call that caused it."""


@runtime_checkable
class Auth(Protocol):
    """Adds credentials to requests."""

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        """Return the headers that authenticate a request; called right before it is sent."""
        ...

    def redact(self, text: str) -> str:
        """Return a text from the cloud with all secrets of these credentials masked: the cloud may echo them."""
        ...


@runtime_checkable
class RenewableAuth(Auth, Protocol):
    """Credentials that can be renewed after the cloud has refused them."""

    async def renew(self, request: HttpRequest, response: HttpResponse) -> bool:
        """Renew the credentials after a 401 or 403, at most once a call; return whether a retry may succeed.

        Args:
            request: The request, with the credentials that were refused.
            response: The refusal.
        """
        ...


@runtime_checkable
class SendingAuth(Auth, Protocol):
    """Credentials that send requests themselves, such as one for a token."""

    def bind(self, send: Send, start: StartTask) -> None:
        """Register the functions of a client that is being opened; several clients may be bound at once."""
        ...

    def unbind(self, send: Send) -> None:
        """Unregister a client that is being closed."""
        ...


Notify: TypeAlias = Callable[["CredentialsRenewalEnded"], None]
"""Passes an event to the hooks of a client."""


@runtime_checkable
class ObservableAuth(Auth, Protocol):
    """Credentials that report when they get new tokens or keys."""

    def observe(self, notify: Notify) -> None:
        """Register a client that is being opened; several may be registered at once."""
        ...

    def unobserve(self, notify: Notify) -> None:
        """Unregister a client that is being closed."""
        ...


@runtime_checkable
class ScopedAuth(Auth, Protocol):
    """Credentials that know the id of their project, or can find it."""

    async def find_project_id(self) -> str | None:
        """Return the id of the project; None if it cannot be found."""
        ...
