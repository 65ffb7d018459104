"""The queue of wishes for one action: they gather, and go as batches of fed runs.

What it guarantees: a wish is in the queue, or in one run, until it has its one outcome; a wish that all waiters have
left is never sent once the cloud could not have got it; and a batch has all wishes that were there when it got its
slot, up to 1000.

Wishes gather for the window. Once half of the limit's calls are used they gather for longer, so that the calls that are
free last for a minute, or for 5 s. Fifty wishes that come one by one would else take all fifty calls of a minute, and
the next one would wait for the rest of it.

How: a run takes servers out of the queue when it cuts a batch, and once more when that has its slot. It is an ordinary
run of the fleet, so that a batch is isolated, reconciled and sent again as any other, and every server of it gets its
outcome. A run knows each server once. So it is closed, and another one begun, when a server is wished for again that
had its outcome in it, when it has taken `_MAX_OF_A_RUN` servers, and when nothing is left to do.

Rejected: a run for each batch. Servers that were busy would be sent again by as many calls as there were batches, where
one run sends them together.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import TYPE_CHECKING

from bms_async.errors import BmsError, ClientClosedError, FleetError
from bms_async.fleet.batch import Batch, BatchWithdrawnError
from bms_async.fleet.outcome import Outcome, OutcomeState, make_outcome
from bms_async.validation.common import MAX_BATCH_SIZE

from .wish import Wish, Wishes

if TYPE_CHECKING:
    from bms_async.fleet.run import FleetRun
    from bms_async.fleet.tracker import RunTracker
    from bms_async.limits import Limiter

_MAX_OF_A_RUN = 10_000
"""How many servers a run takes: it keeps the outcome of each until all have ended."""

_MINUTE = 60.0
"""Seconds in which a limit counts."""

_LONGEST_WINDOW = 5.0
"""Seconds in which wishes gather at most because of the limit."""

_FREE_SHARE = 0.5
"""The share of a limit's calls that must be free for wishes to gather for the window alone."""

Waiter = asyncio.Future[Outcome]


class WishQueue:
    """The wishes for one action that no run has taken yet.

    Args:
        action: Such as ``servers.stop``.
        wishes: All wishes of the client.
        window: Seconds in which wishes gather at least.
        limiter: Returns the limiter of the action's calls.
        begin: Begins a run that is fed by what the function makes.
        on_outcome: Called with the outcome of a server whose turn it was.

    Attributes:
        calls: How many batches of new servers were sent.
        abandoned: How many wishes all waiters have left while they were in a batch that was not sent.
        waiting: The wishes, in the order in which they came.
    """

    def __init__(
        self,
        action: str,
        wishes: Wishes[Waiter],
        *,
        window: float,
        limiter: Callable[[], Limiter],
        begin: Callable[[str, Callable[[RunTracker], WishFeed]], FleetRun],
        on_outcome: Callable[[Outcome], None],
    ) -> None:
        self.action = action
        self.wishes = wishes
        self._window = window
        self._limiter = limiter
        self.on_outcome = on_outcome
        self._begin = begin
        self._feed: WishFeed | None = None
        self.calls = self.abandoned = 0
        self.waiting: dict[str, Wish[Waiter]] = {}

    @property
    def due(self) -> float:
        """When the wishes that wait go, by the loop's clock; at once where they fill a call."""
        if len(self.waiting) >= MAX_BATCH_SIZE:
            return 0.0
        state = self._limiter().statistics()
        window = self._window
        if state.capacity and state.free and state.free < state.capacity * _FREE_SHARE:
            window = max(window, min(_MINUTE / state.free, _LONGEST_WINDOW))
        return next(iter(self.waiting.values())).since + window

    def add(self, wish: Wish[Waiter], now: float) -> None:
        """Add a wish whose turn has come.

        Args:
            wish: The wish.
            now: The loop's time.

        Raises:
            ClientClosedError: The client is not open.
        """
        wish.since = now
        self.waiting[wish.server_id] = wish
        try:
            self._ensure_run()
        except BaseException:
            self.waiting.pop(wish.server_id, None)
            raise

    def _ensure_run(self) -> None:
        if self._feed is None:
            self._begin(self.action, self._make_feed)
        elif len(self.waiting) == 1 or len(self.waiting) >= MAX_BATCH_SIZE:
            self._feed.wake()

    def _make_feed(self, tracker: RunTracker) -> WishFeed:
        self._feed = WishFeed(self, tracker)
        return self._feed

    def detach(self, feed: WishFeed) -> None:
        """Have the wishes that wait taken by another run: this one takes no more.

        Args:
            feed: The feed of the run.
        """
        if self._feed is not feed:
            return
        self._feed = None
        if self.waiting:
            try:
                self._ensure_run()
            except ClientClosedError as closed:
                feed.take_rest(closed)


class WishFeed:
    """Hands the wishes of a queue out to one run.

    Args:
        queue: The queue.
        tracker: The run's.
    """

    def __init__(self, queue: WishQueue, tracker: RunTracker) -> None:
        self._queue = queue
        self._tracker = tracker
        tracker.on_end = self.on_end
        self._is_closed = False
        self._returned: deque[str] = deque()
        self._rest: Iterator[str] = iter(())
        self._rest_error: BmsError | None = None
        self._abandoned_at_fill = 0

    @property
    def batch_size(self) -> int:
        """How many servers a batch has at most."""
        return MAX_BATCH_SIZE

    @property
    def is_empty(self) -> bool:
        """Whether no server waits, and none will come."""
        return self._is_closed and not self._returned

    def wake(self) -> None:
        """Have the run look at the queue."""
        self._tracker.wake.set()

    def cut(self, now: float) -> tuple[str, ...]:
        """Return the servers of the next batch; none as long as wishes gather."""
        returned = tuple(self._returned)
        self._returned.clear()
        if self._is_closed:
            return returned
        if not returned and not self._queue.waiting:
            if not self._tracker.in_flight:
                self._close()
            return ()
        if not returned and now < self._queue.due:
            return ()
        return (*returned, *self._take(MAX_BATCH_SIZE - len(returned)))

    def next_due(self, now: float) -> float | None:  # noqa: ARG002 - the time of a wish is kept with it
        """Return when the wishes that gather go."""
        return None if self._is_closed or not self._queue.waiting else self._queue.due

    def put_back(self, ids: Iterable[str], now: float) -> None:  # noqa: ARG002 - see Feed
        """Take back servers that were handed out and not sent; they go first."""
        self._returned.extendleft(reversed(tuple(ids)))

    def skip_blocked(self) -> None:
        """Skip some servers that can never go: here all can."""

    def fill(self, batch: Batch) -> tuple[str, ...]:
        """Return the servers of a batch that has its slot, with what was wished since it was cut.

        One that was refused as a whole, as for the limit, is sent again without what was abandoned, and takes no more:
        it would say of a new wish that it was sent twice.

        Raises:
            BatchWithdrawnError: All waiters of all its wishes have left.
        """
        self._abandoned_at_fill = self._queue.abandoned
        if batch.is_surely_unmade and not self._tracker.stopping:
            batch.ids = self._drop_abandoned(batch)
            if batch.is_new and not self._is_closed:
                more = self._take(MAX_BATCH_SIZE - len(batch.ids))
                batch.ids += more
                self._tracker.in_flight += len(more)
            if not batch.ids:
                raise BatchWithdrawnError("nobody waits for it any more")
        return batch.ids

    def check(self, batch: Batch) -> None:
        """Check that nobody has left a wish of a batch since it was filled.

        Raises:
            BatchWithdrawnError: Somebody has; it is filled anew.
        """
        if batch.is_surely_unmade and self._queue.abandoned != self._abandoned_at_fill:
            raise BatchWithdrawnError("a wish in it was abandoned")

    def on_send(self, batch: Batch) -> None:
        """Note that a batch was handed to the transport."""
        if batch.send_count == 1 and not batch.earlier:
            self._queue.calls += 1
        self._mark(batch, is_sent=True)

    def on_refused(self, batch: Batch) -> None:
        """Note that the cloud has surely done nothing for a batch, which is to be sent again."""
        if batch.is_surely_unmade:
            self._mark(batch, is_sent=False)

    def _mark(self, batch: Batch, *, is_sent: bool) -> None:
        for server_id in batch.ids:
            wish = self._queue.wishes.get(server_id)
            if wish is not None:
                wish.is_sent = is_sent

    def on_end(self, outcome: Outcome, batch: Batch) -> None:  # noqa: ARG002 - see Feed
        """Note that a server has its outcome."""
        self._queue.on_outcome(outcome)

    def pop_waiting(self, max_count: int) -> tuple[str, ...]:
        """Remove and return servers that are not sent any more; those that no run has taken go on in another one."""
        if self._tracker.error is not None and not self._tracker.intake.admitted and not self._is_closed:
            # The next run would fail as this one did, and so on for ever.
            self.take_rest(_cannot_be_sent(self._tracker.error))
        self._close()
        popped = tuple(self._returned.popleft() for _ in range(min(max_count, len(self._returned))))
        for server_id in popped:
            # They are in no batch, so that the run does not call `on_end` for them.
            self._queue.on_outcome(make_outcome(server_id, OutcomeState.SKIPPED, error=self._tracker.skip_error))
        return popped or self._skip_rest(max_count)

    def take_rest(self, error: BmsError) -> None:
        """Have the wishes that no run can take skipped, a few at a time, when this run skips what was not sent.

        Args:
            error: Why none can.
        """
        waiting, self._queue.waiting = self._queue.waiting, {}
        self._rest, self._rest_error = iter(waiting), error

    def _skip_rest(self, max_count: int) -> tuple[str, ...]:
        """Skip wishes that no run has taken, and return their servers, of which this run does not know."""
        skipped = tuple(islice(self._rest, max_count))
        for server_id in skipped:
            self._queue.on_outcome(make_outcome(server_id, OutcomeState.SKIPPED, error=self._rest_error))
        return skipped

    def _take(self, max_count: int) -> tuple[str, ...]:
        """Take the oldest wishes out of the queue and admit their servers; close the run where it cannot take one."""
        intake, waiting = self._tracker.intake, self._queue.waiting
        taken: list[str] = []
        cannot_take = False
        for server_id in waiting:
            cannot_take = server_id in intake.pending or intake.admitted + len(taken) >= _MAX_OF_A_RUN
            if cannot_take or len(taken) == max_count:
                break
            taken.append(server_id)
        for server_id in taken:
            del waiting[server_id]
        admitted = intake.adopt(taken)
        if cannot_take:
            self._close()
        return admitted

    def _drop_abandoned(self, batch: Batch) -> tuple[str, ...]:
        """Skip the servers of a batch whose waiters have left, and return the others."""
        kept: list[str] = []
        for server_id in batch.ids:
            wish = self._queue.wishes.get(server_id)
            if wish is None or wish.is_abandoned:
                self._tracker.conclude(server_id, OutcomeState.SKIPPED, batch=batch)
            else:
                kept.append(server_id)
        return tuple(kept)

    def _close(self) -> None:
        """Take no more."""
        if not self._is_closed:
            self._is_closed = True
            self._queue.detach(self)


def _cannot_be_sent(cause: BaseException) -> FleetError:
    error = FleetError("the wish was not sent, since its run failed", code=None, server_ids=())
    error.__cause__ = cause
    return error
