"""The tasks that wish something for single servers, and what each was answered."""

from __future__ import annotations

from dataclasses import dataclass

import anyio

from bms_async import BmsClient, ClientClosedError, Outcome
from tests.simulation.wants import Wish, WishMany
from tests.simulation.world_time import world_time


@dataclass(slots=True)
class Wished:
    """One wish, and what became of it.

    Attributes:
        left: Whether its waiter was cancelled before it was answered.
        was_closed: Whether it was refused because the client was closed.
    """

    wish: Wish
    server_id: str
    began: float
    ended: float | None = None
    outcome: Outcome | None = None
    left: bool = False
    was_closed: bool = False


async def wish_many(bms: BmsClient, deed: WishMany, servers: list[str], wished: list[Wished]) -> None:
    """Make all wishes of a deed, each in a task of its own, and wait until each is answered or left.

    Args:
        bms: The client.
        deed: The wishes.
        servers: The deed's servers.
        wished: Where they are written down.
    """

    async def make(wish: Wish) -> None:
        await anyio.sleep(wish.after)
        server_id = servers[wish.server]
        one = Wished(wish, server_id, world_time())
        wished.append(one)
        ask = {"start": bms.power.start, "stop": bms.power.stop, "reboot": bms.power.reboot}[wish.action]
        with anyio.move_on_after(wish.leaves_after) as scope:
            try:
                one.outcome = await ask(server_id.upper() if wish.capitals else server_id)
            except ClientClosedError:
                one.was_closed = True
        one.left = scope.cancelled_caught
        one.ended = world_time()

    async with anyio.create_task_group() as users:
        for wish in deed.wishes:
            users.start_soon(make, wish)
