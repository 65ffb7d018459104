"""A client with a user's password, a simulated cloud that gives it tokens, and a virtual clock under both."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any

from bms_async import BmsClient, Limits, PasswordAuth
from bms_async.simulator import Cloud, CloudSettings
from bms_async.testing._client import transport_to
from tests.support.clouds import Simulated

ADDRESS = "http://localhost"


def password_auth(settings: CloudSettings, **arguments: Any) -> PasswordAuth:
    given: dict[str, Any] = {
        "auth_url": f"{ADDRESS}/v3",
        "username": settings.username,
        "password": settings.password,
        "user_domain_name": settings.user_domain_name,
        "project_name": settings.project_name,
        "random": Random(7),
    }
    return PasswordAuth(**{**given, **arguments})


@asynccontextmanager
async def logged_in(
    *, limits: Limits | None = None, auth: dict[str, Any] | None = None, **settings: Any
) -> AsyncIterator[Simulated]:
    """Yield a client and the cloud that it logs in to; nothing but the user's name and project is known to it."""
    cloud = Cloud(CloudSettings(**settings), clock=asyncio.get_running_loop().time)
    async with BmsClient(
        endpoint=ADDRESS,
        project_id=None,
        auth=password_auth(cloud.settings, **(auth or {})),
        transport=transport_to(cloud),
        limits=limits,
    ) as bms:
        yield Simulated(bms, cloud)


def unauthorized(cloud: Cloud) -> dict[str, int]:
    """How many calls of which operation were answered 401."""
    return {name: book.unauthorized for name, book in cloud.call_counts().operations.items() if book.unauthorized}
