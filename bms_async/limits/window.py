"""The guarantee: no 60 s window at the server ever holds more calls than the limit allows.

A slot is taken before a call is sent and comes back 60 s after its answer (or its failure) arrived. The server counted
the call somewhere between the two. So when a slot is used again, the server's count of its last use is at least 60 s
old, whatever the network did and whichever window the server counts by. No clock is shared with the server.

A leaky bucket does not give this: one that allows 50 a minute lets 50 through at once and 50 more within the minute.
"""

from __future__ import annotations

import asyncio
import functools
import math
from asyncio import get_running_loop
from collections import deque
from collections.abc import Iterable
from threading import get_ident

from bms_async.errors import WaitTooLongError

from .adaptive_limit import AdaptiveLimit
from .loop_binding import LoopBinding, run_on
from .slot import Slot
from .statistics import LimiterStatistics, unlimited_statistics
from .wait_queue import Lane, WaitQueue


class WindowLimiter:
    """Lets at most `limit` calls into any window of `window` seconds, as the server counts them.

    First come, first served within a lane; the interactive lane goes before the bulk lane, and bulk leaves the last
    few slots alone. Waiting costs one future a call and one timer in all.

    On another event loop than that of its home all but the end of a slot is refused, before anything is changed.

    Args:
        name: What is limited, for the repr.
        limit: Calls a window; None for no limit.
        window: Seconds.
        reserve: The share of the limit that bulk work never takes, rounded down to whole calls.
        home: The event loop that it shares with other limiters; one of its own by default.
    """

    __slots__ = (
        "_adaptive",
        "_binding",
        "_calls",
        "_cooldowns",
        "_ended",
        "_epoch",
        "_fast_until",
        "_fast_until_bulk",
        "_lanes",
        "_limit",
        "_loop",
        "_name",
        "_refused",
        "_reserve",
        "_thread",
        "_timer",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        limit: int | None,
        *,
        window: float = 60.0,
        reserve: float = 1 / 60,
        home: LoopBinding | None = None,
    ) -> None:
        self._name = name
        self._limit = limit
        self._adaptive = AdaptiveLimit(limit, window)
        self._reserve = int((limit or 0) * reserve)
        # When the calls ended whose slots have not come back: when that is, depends on what was learned meanwhile.
        self._cooldowns: deque[float] = deque()
        self._lanes: tuple[WaitQueue[Slot], WaitQueue[Slot]] = (WaitQueue(), WaitQueue())
        # The loop whose calls need no look at their home, and its thread; None also where there is no limit. To ask
        # for the running loop costs a system call.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._timer: asyncio.TimerHandle | None = None
        self._calls = self._ended = 0
        # How often it has moved. What a slot of an earlier stay held was counted in when it moved.
        self._epoch = 0
        self._refused = 0
        # Up to how many calls in all may go without a look at the clock and at who waits: most calls ask no more.
        self._fast_until = self._fast_until_bulk = self._adaptive.capacity if limit is None else 0
        self._binding = LoopBinding() if home is None else home
        self._binding.add(self)

    def __repr__(self) -> str:
        if self._limit is None:
            return f"<WindowLimiter {self._name}: no limit, {self._calls} calls>"
        waiting = self._lanes[0].length + self._lanes[1].length
        used = self._calls - self._ended + len(self._cooldowns)
        return f"<WindowLimiter {self._name}: {used} of {self._adaptive.capacity} used, {waiting} waiting>"

    @property
    def limit(self) -> int | None:
        """Calls a window as documented or set; None without a limit."""
        return self._limit

    @property
    def is_waited_for(self) -> bool:
        """Whether calls wait for their slots."""
        return bool(self._lanes[0].length or self._lanes[1].length)

    async def acquire(self, lane: Lane = Lane.INTERACTIVE, *, max_wait: float | None = None) -> Slot:
        """Wait for the right to make one call.

        A caller cancelled while waiting leaves no trace; its place goes to the next.

        Args:
            lane: INTERACTIVE for a call that somebody waits for, BULK for one of very many.
            max_wait: Seconds after which to give up; at once if it will surely take longer.

        Raises:
            WaitTooLongError: No slot comes in time.
            ConfigurationError: The limiter is in use on another event loop.
        """
        # As in `acquire_nowait`, for to call that costs a tenth of a call that need not wait.
        calls, loop = self._calls, self._loop
        if calls < (self._fast_until_bulk if lane else self._fast_until) and (
            loop is None or (get_ident() == self._thread and loop.is_running())
        ):
            self._calls = calls + 1
            return Slot(self, self._epoch)
        slot = self._acquire_slow(lane)
        if slot is not None:
            return slot
        waiter: asyncio.Future[Slot] = self._binding.bind().create_future()
        timer = None if max_wait is None else self._start_timeout(waiter, lane, max_wait)
        line = self._enqueue(waiter, lane)
        try:
            return await waiter
        except (asyncio.CancelledError, WaitTooLongError):
            if waiter.cancel() or waiter.cancelled() or waiter.exception():
                line.discard()
                if (running := get_running_loop()) is self._binding.loop:
                    # Who came while a dead waiter still counted got in line behind it, and nobody else may ever look.
                    self._wake_waiters(running)
            else:
                waiter.result().refund()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def acquire_nowait(self, lane: Lane = Lane.INTERACTIVE) -> Slot | None:
        """Take the right to make one call if it is to be had now; None if it must be waited for.

        Args:
            lane: Nobody of that lane or of one before it is overtaken.

        Raises:
            ConfigurationError: The limiter is in use on another event loop.
        """
        calls, loop = self._calls, self._loop
        if calls < (self._fast_until_bulk if lane else self._fast_until) and (
            loop is None or (get_ident() == self._thread and loop.is_running())
        ):
            self._calls = calls + 1
            return Slot(self, self._epoch)
        return self._acquire_slow(lane)

    def estimate_wait(self, lane: Lane = Lane.INTERACTIVE) -> float:
        """Return the seconds that a call would wait for its slot, if all goes as fast as it can.

        It takes longer when calls that are under way are answered late, or others come into a lane before.

        Args:
            lane: Whose turn it would be.
        """
        adaptive = self._adaptive
        if self._limit is None:
            return 0.0 if self._fast_until else max(0.0, adaptive.blocked_until - self._binding.bind().time())
        now = self._sync_clock()
        kept = min(self._reserve, adaptive.capacity - 1) if lane is Lane.BULK else 0
        interactive, bulk = (line.length for line in self._lanes)
        # Bulk needs as many more free slots as it leaves alone.
        turn = interactive + 1 + (bulk + kept if lane is Lane.BULK else 0)
        return adaptive.estimate_wait(now, self._cooldowns, turn, interactive, kept=kept, free=self._count_free())

    def on_rate_limited(self, seconds: float | None = None, *, quota: tuple[int, float] | None = None) -> None:
        """Note that the server counted a call out, because others use the account too or its limit is lower.

        The operation stands still, and its capacity shrinks and grows back, by a fiftieth of the limit a window (one
        call at least). Without a limit it stands still if the server said for how long.

        Args:
            seconds: What ``Retry-After`` asked for; a whole window when it asked for nothing.
            quota: The limit that the server named: calls, and the window in seconds. It counts only where it is lower
                than what is documented or set, and is forgotten ten windows after the last refusal.

        Raises:
            ConfigurationError: The limiter is in use on another event loop.
        """
        loop = self._binding.bind()
        self._refused += 1
        if self._limit is None and seconds is None:
            return
        self._fast_until = self._fast_until_bulk = 0
        self._adaptive.on_rate_limited(loop.time(), seconds, quota)
        self._schedule_wakeup(loop)

    def snapshot(self) -> list[float]:
        """Return the seconds until each used slot comes back, ascending; a whole window for a call in flight.

        It is told as if nothing had been learned from refusals.
        """
        if self._limit is None:
            return []
        now, window = self._sync_clock(), self._adaptive.base_window
        cooling = (ended + window - now for ended in self._cooldowns)
        return [*(left for left in cooling if left > 0), *[window] * (self._calls - self._ended)]

    def restore(self, spent: Iterable[float]) -> None:
        """Count calls in that were made elsewhere.

        Args:
            spent: Seconds until the slot of each comes back. No slot stays away for longer than a window.
        """
        if self._limit is None:
            return
        now, window = self._binding.bind().time(), self._adaptive.base_window
        ended = [now + min(seconds, window) - window for seconds in spent if seconds > 0]
        # Whoever looks takes those that are due from the left.
        self._cooldowns = deque(sorted([*self._cooldowns, *ended]))
        self._fast_until = self._fast_until_bulk = 0

    def statistics(self) -> LimiterStatistics:
        """Tell what is used, free and waiting, and what was learned."""
        adaptive, (interactive, bulk) = self._adaptive, (line.length for line in self._lanes)
        if self._limit is None:
            still = 0.0 if self._fast_until else max(0.0, adaptive.blocked_until - self._binding.bind().time())
            return unlimited_statistics(still or None, interactive, bulk, self._calls, self._refused)
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
        """Go on on another event loop, whose clock is so many seconds ahead; its `LoopBinding` calls it."""
        if shift:
            self._cooldowns = deque(ended + shift for ended in self._cooldowns)
            self._adaptive.shift(shift)
        if self._limit is not None:
            # What was in flight there may have been counted until just now.
            self._cooldowns.extend([loop.time()] * (self._calls - self._ended))
            self._ended = self._calls
            self._loop, self._thread = loop, get_ident()
        self._epoch += 1
        self._timer = None
        # Those who waited in them leave the lines that they joined.
        self._lanes = (WaitQueue(), WaitQueue())
        self.invalidate_fast_path()

    def invalidate_fast_path(self) -> None:
        """Let no call go without a look at the loop and its clock."""
        if self._limit is not None:
            self._fast_until = self._fast_until_bulk = 0

    def is_idle(self, now: float) -> bool:
        """Tell whether nothing is used or learned at a moment by its home's clock; on any thread."""
        if now < self._adaptive.blocked_until or self.is_waited_for:
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
        """Return the time, after what is due by then."""
        loop = self._binding.bind()
        self._loop, self._thread = loop, get_ident()
        now = loop.time()
        self._expire(now)
        return now

    def _acquire_slow(self, lane: Lane) -> Slot | None:
        """Take a slot if there is one, and note how many more calls may go without looking."""
        loop, adaptive = self._binding.use(), self._adaptive
        if self._limit is not None:
            self._loop, self._thread = loop, get_ident()
        now = loop.time()
        self._expire(now)
        interactive, bulk = self._lanes
        if adaptive.is_unreduced and not (interactive.length or bulk.length or now < adaptive.blocked_until):
            self._fast_until = self._calls + self._count_free()
            self._fast_until_bulk = self._fast_until - min(self._reserve, adaptive.capacity - 1)
        if interactive.length or (lane and bulk.length) or not self._has_room(lane, now):
            return None
        self._calls += 1
        return Slot(self, self._epoch)

    def _count_free(self) -> int:
        """Return how many slots are neither in flight nor cooling; less than none after the capacity shrank."""
        return self._adaptive.capacity - (self._calls - self._ended) - len(self._cooldowns)

    def _has_room(self, lane: Lane, now: float) -> bool:
        kept = min(self._reserve, self._adaptive.capacity - 1) if lane is Lane.BULK else 0
        return self._count_free() > kept and now >= self._adaptive.blocked_until

    def _start_timeout(self, waiter: asyncio.Future[Slot], lane: Lane, max_wait: float) -> asyncio.TimerHandle:
        """Have a waiter fail when its time is over, or refuse it at once if its turn surely comes later."""
        wait = self.estimate_wait(lane)
        if wait > max_wait:
            raise WaitTooLongError(operation=self._name, wait=wait, max_wait=max_wait)
        return waiter.get_loop().call_later(max_wait, self._on_timeout, waiter, max_wait)

    def _enqueue(self, waiter: asyncio.Future[Slot], lane: Lane) -> WaitQueue[Slot]:
        """Put a waiter at the end of its line, and from now on let nobody go without looking."""
        line = self._lanes[lane]
        line.append(waiter)
        self._fast_until = self._fast_until_bulk = 0
        self._schedule_wakeup(waiter.get_loop())
        return line

    def _on_timeout(self, waiter: asyncio.Future[Slot], max_wait: float) -> None:
        if not waiter.done():
            more = self._next_change(waiter.get_loop().time()) or self._adaptive.base_window
            waiter.set_exception(WaitTooLongError(operation=self._name, wait=max_wait + more, max_wait=max_wait))

    def start_cooldown(self, stay: int) -> None:
        """Take a slot back one window from now: what `Slot.release` does."""
        loop = self._loop
        if loop is None:
            return
        if stay != self._epoch or get_ident() != self._thread:
            self.end_anywhere(stay, sent=True)
            return
        self._ended += 1
        self._cooldowns.append(loop.time())
        if not self._fast_until and (self._timer is None or len(self._cooldowns) == 1):
            self._schedule_wakeup(loop)

    def end_anywhere(self, stay: int, *, sent: bool) -> None:
        """Take a slot back on whichever thread it is; it is free at once if nothing was sent."""
        loop = self._loop
        if loop is not None:
            run_on(loop, functools.partial(self._end, loop, stay, sent=sent))
        elif not sent:
            self._calls -= 1

    def _end(self, loop: asyncio.AbstractEventLoop, stay: int, *, sent: bool) -> None:
        self._fast_until = self._fast_until_bulk = 0
        is_own = stay == self._epoch
        if sent:
            self._ended += is_own
            # One of an earlier stay was counted in when it ended; it may have been counted at the server since.
            self._cooldowns.append(loop.time())
        elif is_own:
            self._calls -= 1
        if not loop.is_closed():
            self._wake_waiters(loop)

    def _expire(self, now: float) -> None:
        self._adaptive.expire(now)
        cooling, since = self._cooldowns, now - self._adaptive.window
        while cooling and cooling[0] <= since:
            cooling.popleft()

    def _wake_waiters(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self._expire(now)
        for lane, line in zip(Lane, self._lanes, strict=True):
            while line.length and self._has_room(lane, now) and (waiter := line.pop()):
                self._calls += 1
                waiter.set_result(Slot(self, self._epoch))
        self._schedule_wakeup(loop)

    def _schedule_wakeup(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have one timer for the next moment at which something can change, and only while somebody waits.

        It may be set already for a later moment: while all slots are in flight, the next change is that of the
        capacity, and the first slot that cools comes back long before.
        """
        if not self.is_waited_for or loop.is_closed():
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
        """Return the seconds until a slot may come free by itself, None if only a release can bring that about."""
        adaptive = self._adaptive
        if now < adaptive.blocked_until:
            return adaptive.blocked_until - now
        change = adaptive.next_change()
        if self._cooldowns:
            change = min(change, self._cooldowns[0] + adaptive.window)
        return None if change == math.inf else max(0.0, change - now)
