"""A client with hooks, of a simulated cloud on a virtual clock."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from bms_async import Hook, HookEvent, PasswordAuth
from bms_async.simulator import Cloud, CloudSettings, Fault, Script, ScriptedFault
from tests.support.clouds import Simulated, client_of

E = TypeVar("E", bound=HookEvent)


@asynccontextmanager
async def hooked(hooks: Hook | Iterable[Hook] | None, *, auth: Any = None, **given: Any) -> AsyncIterator[Simulated]:
    """Yield a client that has these hooks, and its cloud; what is no argument of a client is the cloud's."""
    own = {
        name: given.pop(name) for name in ("limits", "retry", "timeout", "total_timeout", "max_wait") if name in given
    }
    cloud = Cloud(CloudSettings(**given), clock=asyncio.get_running_loop().time)
    async with client_of(cloud, auth, hooks=hooks, **own) as bms:
        yield Simulated(bms, cloud)


def password_auth() -> PasswordAuth:
    """The credentials of the user of such a cloud."""
    return PasswordAuth(
        auth_url="http://localhost/v3",
        username="operator",
        password="simulated-password",
        user_domain_name="simulated-account",
        project_name="simulated",
    )


class Ear:
    """A hook that keeps all events."""

    def __init__(self) -> None:
        self.events: list[HookEvent] = []

    def __call__(self, event: HookEvent) -> None:
        self.events.append(event)

    def heard(self, kind: type[E], **wanted: object) -> list[E]:
        """The events of a kind that have these values."""
        return [
            event
            for event in self.events
            if isinstance(event, kind) and all(getattr(event, name) == value for name, value in wanted.items())
        ]

    @property
    def names(self) -> list[str]:
        return [type(event).__name__ for event in self.events]


def first(operation: str, *faults: Fault) -> Script:
    """The first calls of an operation meet these faults, one after another."""
    return Script([ScriptedFault(operation=operation, nth=nth, fault=fault) for nth, fault in enumerate(faults, 1)])
