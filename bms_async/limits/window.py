"""The rate limiter of one operation.

Guarantee (R1): no 60 s window at the server ever holds more calls than the limit allows.

How: a slot is taken before a call is sent, and comes back 60 s after its response (or its failure) arrived. The server
counted the call somewhere between the two. So when a slot is used again, the server's count of its last use is at least
60 s old, whatever the network did and whichever window the server counts by. No clock is shared with the server.

Rejected: a leaky bucket. One that allows 50 a minute lets 50 through at once and 50 more within the minute.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Iterable
from threading import get_ident

from .adaptive_limit import AdaptiveLimit
from .limiter import Limiter
from .loop_binding import LoopBinding
from .slot import Slot
from .statistics import LimiterStatistics, unlimited_statistics
from .wait_queue import Lane, WaitQueue


class WindowLimiter(Limiter):
    """Allows at most `limit` calls in any window of `window` seconds, as the server counts them.

    First come, first served within a lane; the interactive lane goes before the bulk lane, and bulk calls leave the
    last few slots free. Waiting costs one future a call and one timer in all.

    On another event loop than that of its binding, everything but ending a slot raises a `ConfigurationError` before
    anything is changed.

    Args:
        name: The name of the operation, for the repr and for errors.
        limit: Calls a window; None for no limit.
        window: Seconds.
        reserve: The share of the limit that bulk calls leave free, rounded down to whole calls.
        binding: The event loop that it shares with other limiters; one of its own by default.
    """

    __slots__ = ("_adaptive", "_cooldowns", "_ended", "_timer")

    def __init__(
        self,
        name: str,
        limit: int | None,
        *,
        window: float = 60.0,
        reserve: float = 1 / 60,
        binding: LoopBinding | None = None,
    ) -> None:
        super().__init__(name, limit, window=window, reserve=reserve, binding=binding)
        self._adaptive = AdaptiveLimit.of(limit, window)
        # When calls ended whose slots have not come back. The end and not the return: the window may change meanwhile.
        self._cooldowns: deque[float] = deque()
        # How many slots have gone into their cooldown; at rebinding those that were in flight do.
        self._ended = 0
        self._timer: asyncio.TimerHandle | None = None
        if limit is None:
            self._fast_until = self._fast_until_bulk = self._adaptive.capacity
        self._binding.add(self)

    def __repr__(self) -> str:
        if self._limit is None:
            return f"<WindowLimiter {self._name}: no limit, {self._calls} calls>"
        waiting = len(self._lanes[0]) + len(self._lanes[1])
        used = self._calls - self._ended + len(self._cooldowns)
        return f"<WindowLimiter {self._name}: {used} of {self._adaptive.capacity} used, {waiting} waiting>"

    def estimate_wait(self, lane: Lane = Lane.INTERACTIVE) -> float:
        """Return the seconds that a call would wait for its slot, if all goes as fast as it can."""
        adaptive = self._adaptive
        if self._limit is None:
            return 0.0 if self._fast_until else max(0.0, adaptive.blocked_until - self._binding.bind().time())
        now = self._sync_clock()
        reserved = self._reserved(lane)
        interactive, bulk = (len(queue) for queue in self._lanes)
        # Our position in the queue of freed slots; a bulk call also needs the reserve to be free.
        position = interactive + 1 + (bulk + reserved if lane is Lane.BULK else 0)
        free = self._count_free()
        return adaptive.estimate_wait(now, self._cooldowns, position, interactive, reserved=reserved, free=free)

    def on_rate_limited(self, retry_after: float | None = None, *, quota: tuple[int, float] | None = None) -> None:
        """Back off after a 429; see `Limiter.on_rate_limited`."""
        loop = self._binding.bind()
        self._refused += 1
        if self._limit is None and retry_after is None:
            return
        self._fast_until = self._fast_until_bulk = 0
        self._adaptive.on_rate_limited(loop.time(), retry_after, quota)
        self._schedule_wakeup(loop)

    def snapshot(self) -> list[float]:
        """Return the seconds until each used slot comes back, ascending; a whole window for a call in flight."""
        if self._limit is None:
            return []
        now, window = self._sync_clock(), self._adaptive.base_window
        remaining = (ended + window - now for ended in self._cooldowns)
        return [*(seconds for seconds in remaining if seconds > 0), *[window] * (self._calls - self._ended)]

    def restore(self, spent: Iterable[float]) -> None:
        """Reserve the slots of calls that were made elsewhere, each for so many seconds."""
        if self._limit is None:
            return
        now, window = self._binding.bind().time(), self._adaptive.base_window
        ended = [now + min(seconds, window) - window for seconds in spent if seconds > 0]
        # Sorted, because `_expire` takes those that are due from the left.
        self._cooldowns = deque(sorted([*self._cooldowns, *ended]))
        self._fast_until = self._fast_until_bulk = 0

    def statistics(self) -> LimiterStatistics:
        """Return how many slots are used and free, how many calls wait, and what was learned."""
        adaptive, (interactive, bulk) = self._adaptive, (len(queue) for queue in self._lanes)
        if self._limit is None:
            blocked_for = 0.0 if self._fast_until else max(0.0, adaptive.blocked_until - self._binding.bind().time())
            return unlimited_statistics(blocked_for or None, interactive, bulk, self._calls, self._refused)
        now = self._sync_clock()
        used = self._calls - self._ended + len(self._cooldowns)
        free = max(0, adaptive.capacity - used) if now >= adaptive.blocked_until else 0
        return LimiterStatistics(
            capacity=adaptive.capacity,
            limit=self._limit,
            used=used,
            free=free,
            waiting_interactive=interactive,
            waiting_bulk=bulk,
            next_slot=None if free else self._next_change(now),
            calls=self._calls,
            refused=self._refused,
            learned=adaptive.quota,
            forgotten_in=None if adaptive.quota is None else adaptive.forget_at - now,
        )

    def rebind(self, loop: asyncio.AbstractEventLoop, shift: float) -> None:
        """Go on on another event loop, whose clock is ahead by so many seconds; called by the `LoopBinding`."""
        if shift:
            self._cooldowns = deque(ended + shift for ended in self._cooldowns)
            self._adaptive.shift(shift)
        if self._limit is not None:
            # The server may have counted the calls in flight until just now.
            self._cooldowns.extend([loop.time()] * (self._calls - self._ended))
            self._ended = self._calls
            self._loop, self._thread = loop, get_ident()
        self._epoch += 1
        self._timer = None
        # New queues: each waiter of the former loop leaves the one that it joined.
        self._lanes = (WaitQueue(), WaitQueue())
        self.invalidate_fast_path()

    def is_idle(self, now: float) -> bool:
        """Return whether nothing is used or learned at a time by its binding's clock; on any thread."""
        if now < self._adaptive.blocked_until or self.has_waiters:
            return False
        if self._limit is None:
            return True
        if self._calls != self._ended or not self._adaptive.is_unreduced_at(now):
            return False
        try:
            return self._cooldowns[-1] + self._adaptive.base_window <= now
        except IndexError:
            return True

    def _sync_clock(self) -> float:
        """Return the time, once all that is due by then has expired."""
        loop = self._binding.bind()
        self._loop, self._thread = loop, get_ident()
        now = loop.time()
        self._expire(now)
        return now

    def _acquire_slow(self, lane: Lane) -> Slot | None:
        """Return a slot if there is one, and open the fast path for as many calls as may take it."""
        loop, adaptive = self._binding.use(), self._adaptive
        if self._limit is not None:
            self._loop, self._thread = loop, get_ident()
        now = loop.time()
        self._expire(now)
        interactive, bulk = self._lanes
        if adaptive.is_unreduced and not (interactive or bulk or now < adaptive.blocked_until):
            self._fast_until = self._calls + self._count_free()
            self._fast_until_bulk = self._fast_until - self._reserved(Lane.BULK)
        if interactive or (lane and bulk) or not self._has_room(lane, now):
            return None
        self._calls += 1
        return Slot(self, self._epoch)

    def _count_free(self) -> int:
        """Return how many slots are neither in flight nor in their cooldown; negative after the capacity shrank."""
        return self._adaptive.capacity - (self._calls - self._ended) - len(self._cooldowns)

    def _reserved(self, lane: Lane) -> int:
        """Return how many slots a call must leave free."""
        return min(self._reserve, self._adaptive.capacity - 1) if lane is Lane.BULK else 0

    def _has_room(self, lane: Lane, now: float) -> bool:
        return self._count_free() > self._reserved(lane) and now >= self._adaptive.blocked_until

    def start_cooldown(self, epoch: int) -> None:
        """Take a slot back one window from now; called by `Slot.release`."""
        loop = self._loop
        if loop is None:
            return
        if epoch != self._epoch or get_ident() != self._thread:
            self.end_anywhere(epoch, sent=True)
            return
        self._ended += 1
        self._cooldowns.append(loop.time())
        if not self._fast_until and (self._timer is None or len(self._cooldowns) == 1):
            self._schedule_wakeup(loop)

    def _end(self, loop: asyncio.AbstractEventLoop, epoch: int, *, sent: bool) -> None:
        self._fast_until = self._fast_until_bulk = 0
        is_own = epoch == self._epoch
        if sent:
            self._ended += is_own
            # One of an earlier epoch is in its cooldown already, but the server may have counted it later than that.
            self._cooldowns.append(loop.time())
        elif is_own:
            self._calls -= 1
        if not loop.is_closed():
            self._wake_waiters(loop)

    def _expire(self, now: float) -> None:
        self._adaptive.expire(now)
        cooldowns, since = self._cooldowns, now - self._adaptive.window
        while cooldowns and cooldowns[0] <= since:
            cooldowns.popleft()

    def _wake_waiters(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self._expire(now)
        for lane, queue in zip(Lane, self._lanes, strict=True):
            while queue and self._has_room(lane, now) and (waiter := queue.pop()):
                self._calls += 1
                waiter.set_result(Slot(self, self._epoch))
        self._schedule_wakeup(loop)

    def _schedule_wakeup(self, loop: asyncio.AbstractEventLoop) -> None:
        """Keep one timer for the next time at which something can change, and only while calls wait.

        It may be set for a later time already: while all slots are in flight, the next change is that of the capacity,
        and the first slot in its cooldown comes back long before.
        """
        if not self.has_waiters or loop.is_closed():
            return
        now = loop.time()
        due = self._next_change(now)
        if due is None:
            return
        if self._timer is not None and not self._timer.cancelled():
            if self._timer.when() <= now + due:
                return
            self._timer.cancel()
        self._timer = loop.call_later(due, self._on_wakeup, loop)

    def _on_wakeup(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is self._binding.loop:
            self._timer = None
            self._wake_waiters(loop)

    def _next_change(self, now: float) -> float | None:
        """Return the seconds until a slot may come free by itself; None if only the end of a call can free one."""
        adaptive = self._adaptive
        if now < adaptive.blocked_until:
            return adaptive.blocked_until - now
        change = adaptive.next_change()
        if self._cooldowns:
            change = min(change, self._cooldowns[0] + adaptive.window)
        return None if change == math.inf else max(0.0, change - now)
