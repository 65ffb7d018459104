"""What sends the batches of a fleet run, durable or not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING

from bms_async.api.bms.power import REBOOT, START, STOP, send_power_action
from bms_async.jobs import JobHandle, Watcher
from bms_async.limits import Lane
from bms_async.session import Session

from .batch import Batch
from .submit import SendBatch

if TYPE_CHECKING:
    from bms_async.models import JobAccepted
    from bms_async.wire import Operation

OPERATIONS: Mapping[str, Operation[JobAccepted]] = {each.name: each for each in (START, STOP, REBOOT)}
"""The calls of power actions, by action."""


def make_sender(
    session: Session,
    watcher: Watcher,
    action: str,
    lane: Lane,
    *,
    fill: Callable[[Batch], tuple[str, ...]] | None = None,
) -> SendBatch:
    """Return what sends a batch.

    Args:
        session: What makes the call.
        watcher: What polls its job.
        action: Such as ``servers.reboot``.
        lane: The priority of the call in the rate limiter's queue.
        fill: Returns the servers of a batch once it has its slot; None where they are fixed before.
    """

    async def send(
        batch: Batch,
        before_send: Callable[[], Awaitable[None]],
        on_send: Callable[[], None],
        on_refused: Callable[[], None],
    ) -> JobHandle:
        return await send_power_action(
            session,
            watcher,
            OPERATIONS[action],
            batch.ids,
            lane=lane,
            choose=None if fill is None else lambda: fill(batch),
            before_send=before_send,
            on_send=on_send,
            on_refused=on_refused,
        )

    return send
