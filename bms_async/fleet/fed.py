"""Power runs that are fed: whoever begins one hands out its servers as they come, and may change a batch to the last.

It is an ordinary run in all else: its batches are isolated, settled by states and sent again by the same parts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Protocol

from bms_async.limits import Lane

from .batch import Batch
from .feed import Feed
from .fleet import begin
from .options import RunOptions
from .power_work import PowerWork
from .rollout.reader import RolloutReader
from .run import FleetRun
from .sending import make_sender
from .state_reader import StateReader
from .tracker import RunTracker
from .walk import Walk

if TYPE_CHECKING:
    from bms_async.jobs import JobHandle, Watcher
    from bms_async.session import Session

    from .source import IdSource


class OpenFeed(Feed, Protocol):
    """A feed whose batches stay open until they are sent."""

    def fill(self, batch: Batch) -> tuple[str, ...]:
        """Return the servers of a batch that has its slot: more of them, or fewer, than when it was cut.

        Raises:
            BatchWithdrawnError: There is none left.
        """
        ...

    def check(self, batch: Batch) -> None:
        """Check that a batch that was filled may be sent as it is.

        Raises:
            BatchWithdrawnError: It has to be filled anew.
        """
        ...

    def on_send(self, batch: Batch) -> None:
        """Note that a batch was handed to the transport."""
        ...

    def on_refused(self, batch: Batch) -> None:
        """Note that the cloud has surely done nothing for a batch, which is to be sent again."""
        ...


def begin_fed(
    session: Session,
    watcher: Watcher,
    action: str,
    make_feed: Callable[[RunTracker], OpenFeed],
    *,
    lane: Lane,
    check: bool,
) -> FleetRun:
    """Begin a run whose servers come from a feed.

    Args:
        session: The client's.
        watcher: What polls its jobs.
        action: Such as ``servers.stop``.
        make_feed: Makes the feed; the run ends when that is empty and all servers have ended.
        lane: The priority of the run's calls in the rate limiter's queue.
        check: Whether ids are checked against the reference.

    Raises:
        ClientClosedError: The client is not open.
    """
    options = RunOptions(lane=lane)

    def make_work(tracker: RunTracker, source: IdSource) -> PowerWork:
        feed = make_feed(tracker)
        send_filled = make_sender(session, watcher, action, lane, fill=feed.fill)

        async def send(
            batch: Batch,
            before_send: Callable[[], Awaitable[None]],
            on_send: Callable[[], None],
            on_refused: Callable[[], None],
        ) -> JobHandle:
            async def check_then() -> None:
                feed.check(batch)
                await before_send()

            def on_send_then() -> None:
                on_send()
                feed.on_send(batch)

            def on_refused_then() -> None:
                on_refused()
                feed.on_refused(batch)

            return await send_filled(batch, check_then, on_send_then, on_refused_then)

        walk = Walk(tracker, source, options, lambda: RolloutReader(session, lane), session.redact, feed=feed)
        return PowerWork(tracker, source, walk, send_batch=send, reader=StateReader(session, lane), options=options)

    return begin(session, action, (), make_work, options, check=check)
