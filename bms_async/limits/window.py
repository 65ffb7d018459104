"""The guarantee: no 60 s window at the server ever holds more calls than the limit allows.

A slot is taken before a call is sent and comes back 60 s after its answer (or its failure) arrived. The server counted
the call somewhere between the two. So when a slot is used again, the server's count of its last use is at least 60 s
old, whatever the network did and whichever window the server counts by. No clock is shared with the server.

A leaky bucket does not give this: one that allows 50 a minute lets 50 through at once and 50 more within the minute.
"""

from __future__ import annotations

import asyncio
import sys
from collections import deque
from collections.abc import Iterable

import msgspec

from bms_async.errors import WaitTooLongError

from .statistics import LimiterStatistics
from .waiting import Lane, WaitingLine

_CLOCK_DRIFT = 0.01
"""Seconds added to the window: two clocks that differ by 150 parts in a million still agree that it is over."""

_SHORTEST_STILL = 1.0
"""Seconds that an operation stands still at least: calls that were under way together are one outburst."""

_LONGEST_QUOTA = 86_400.0
"""Seconds of the longest window that a server may name; what is longer is no limit but a mistake."""

_SHRINK = 0.8
"""What is left of a capacity after the server refused a call all the same."""


class Slot(msgspec.Struct, eq=False, gc=False):
    """The right to make one call. It ends in exactly one `release` or `give_back`; more of them do nothing.

    A Struct is made in a third of the time of a plain object. No limiter refers to its slots, so that none is in a
    cycle.
    """

    _limiter: WindowLimiter | None

    def release(self) -> None:
        """The answer came, or will never come: the slot comes back one window from now."""
        limiter = self._limiter
        if limiter is not None:
            self._limiter = None
            limiter._cool()  # noqa: SLF001 - a slot is a part of its limiter

    def give_back(self) -> None:
        """Nothing was sent: the slot is free at once."""
        limiter = self._limiter
        if limiter is not None:
            self._limiter = None
            limiter._return()  # noqa: SLF001


class WindowLimiter:
    """Lets at most `limit` calls into any window of `window` seconds, as the server counts them.

    First come, first served within a lane; the interactive lane goes before the bulk lane, and bulk leaves the last
    few slots alone. Waiting costs one future a call and one timer in all.

    Args:
        name: What is limited, for the repr.
        limit: Calls a window; None for no limit.
        window: Seconds.
        reserve: The share of the limit that bulk work never takes, rounded down to whole calls.
    """

    __slots__ = (
        "_calls", "_capacity", "_cooling", "_ended", "_grow_at", "_lanes", "_limit", "_loop", "_name", "_refused",
        "_reserve", "_still_until", "_sure", "_sure_bulk", "_timer", "_window",
    )  # fmt: skip

    def __init__(self, name: str, limit: int | None, *, window: float = 60.0, reserve: float = 1 / 60) -> None:
        self._name = name
        self._limit = limit
        self._capacity = limit or 0
        self._window = window + _CLOCK_DRIFT
        self._reserve = int((limit or 0) * reserve)
        self._cooling: deque[float] = deque()
        self._lanes: tuple[WaitingLine[Slot], WaitingLine[Slot]] = (WaitingLine(), WaitingLine())
        self._still_until = self._grow_at = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._calls = self._ended = 0
        self._refused = 0
        # Up to how many calls in all may go without a look at the clock and at who waits: most calls ask no more.
        self._sure = sys.maxsize if limit is None else 0
        self._sure_bulk = self._sure

    def __repr__(self) -> str:
        if self._limit is None:
            return f"<WindowLimiter {self._name}: no limit, {self._calls} calls>"
        waiting = self._lanes[0].length + self._lanes[1].length
        used = self._calls - self._ended + len(self._cooling)
        return f"<WindowLimiter {self._name}: {used} of {self._capacity} used, {waiting} waiting>"

    @property
    def limit(self) -> int | None:
        """Calls a window as documented, set or learned; None without a limit."""
        return self._limit

    async def acquire(self, lane: Lane = Lane.INTERACTIVE, *, max_wait: float | None = None) -> Slot:
        """Wait for the right to make one call.

        A caller cancelled while waiting leaves no trace; his place goes to the next.

        Args:
            lane: INTERACTIVE for a call that somebody waits for, BULK for one of very many.
            max_wait: Seconds after which to give up; at once if it will surely take longer.

        Raises:
            WaitTooLongError: No slot comes in time.
        """
        slot = self.take(lane)
        if slot is not None:
            return slot
        ticket: asyncio.Future[Slot] = self._bind().create_future()
        timer = None if max_wait is None else self._bound(ticket, lane, max_wait)
        line = self._join(ticket, lane)
        try:
            return await ticket
        except (asyncio.CancelledError, WaitTooLongError):
            if ticket.cancel() or ticket.cancelled() or ticket.exception():
                line.leave()
                if (running := asyncio.get_running_loop()) is self._loop:
                    # Who came while a dead ticket still counted got in line behind it, and nobody else may ever look.
                    self._serve(running)
            else:
                ticket.result().give_back()
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def take(self, lane: Lane = Lane.INTERACTIVE) -> Slot | None:
        """Take the right to make one call if it is to be had now; None if it must be waited for.

        Args:
            lane: Nobody of his lane or of one before it is overtaken.
        """
        calls, loop = self._calls, self._loop
        if calls < (self._sure_bulk if lane else self._sure) and (loop is None or loop.is_running()):
            self._calls = calls + 1
            return Slot(self)
        return self._look(lane)

    def foresee(self, lane: Lane = Lane.INTERACTIVE) -> float:
        """Return the seconds that a call would wait for its slot, if all goes as fast as it can.

        It takes longer when calls that are under way are answered late, or others come into a lane before.

        Args:
            lane: Whose turn it would be.
        """
        if self._limit is None:
            return 0.0
        now = self._bind().time()
        self._warm(now)
        size, (interactive, bulk) = self._capacity, (line.length for line in self._lanes)
        # The how-manieth slot that comes free is ours. Bulk needs as many more free ones as it leaves alone.
        kept = min(self._reserve, size - 1) if lane is Lane.BULK else 0
        turn = interactive + 1 + (bulk + kept if lane is Lane.BULK else 0)
        rounds = 0
        if turn > size + interactive:
            # Once the interactive calls are through, what is left alone does not come round.
            rounds = -((size + interactive - turn) // (size - kept))
            turn -= rounds * (size - kept)
        if turn > size:
            more = -((size - turn) // size)
            rounds, turn = rounds + more, turn - more * size
        back = turn - 1 - self._count_free()
        comes = 0.0 if back < 0 else self._cooling[back] - now if back < len(self._cooling) else self._window
        return max(0.0, self._still_until - now, comes) + rounds * self._window

    def refuse(self, seconds: float | None = None, *, quota: tuple[int, float] | None = None) -> None:
        """Note that the server counted a call out, because others use the account too or its limit is lower.

        The operation stands still, and its capacity shrinks and grows back by one call a window.

        Args:
            seconds: What ``Retry-After`` asked for; a whole window when it asked for nothing.
            quota: The limit that the server named: calls, and the window in seconds.
        """
        if self._limit is None:
            return
        loop = self._bind()
        now = loop.time()
        self._refused += 1
        self._sure = self._sure_bulk = 0
        if quota is not None:
            self._learn(*quota)
        if now >= self._still_until:
            # One refusal an outburst: fifty calls counted out together say no more than one does.
            self._capacity = max(1, int(self._capacity * _SHRINK))
        still = self._window if seconds is None else max(seconds, _SHORTEST_STILL)
        self._still_until = max(self._still_until, now + still)
        self._grow_at = self._still_until + self._window
        self._arm(loop)

    def spent(self) -> list[float]:
        """Return the seconds until each used slot comes back, ascending; a whole window for a call in flight."""
        if self._limit is None:
            return []
        now = self._bind().time()
        self._warm(now)
        return [*(back - now for back in self._cooling), *[self._window] * (self._calls - self._ended)]

    def occupy(self, spent: Iterable[float]) -> None:
        """Count calls in that were made elsewhere.

        Args:
            spent: Seconds until the slot of each comes back. No slot stays away for longer than a window.
        """
        if self._limit is None:
            return
        now = self._bind().time()
        backs = [now + min(seconds, self._window) for seconds in spent if seconds > 0]
        # Whoever looks takes those that are due from the left.
        self._cooling = deque(sorted([*self._cooling, *backs]))
        self._sure = self._sure_bulk = 0

    def statistics(self) -> LimiterStatistics:
        """Tell what is used, free and waiting."""
        if self._limit is None:
            return LimiterStatistics(
                capacity=None, limit=None, used=0, free=None, waiting_interactive=0, waiting_bulk=0,
                next_slot=None, calls=self._calls, refused=0,
            )  # fmt: skip
        now = self._bind().time()
        self._warm(now)
        used = self._calls - self._ended + len(self._cooling)
        free = max(0, self._capacity - used) if now >= self._still_until else 0
        return LimiterStatistics(
            capacity=self._capacity,
            limit=self._limit,
            used=used,
            free=free,
            waiting_interactive=self._lanes[Lane.INTERACTIVE].length,
            waiting_bulk=self._lanes[Lane.BULK].length,
            next_slot=None if free else self._next_change(now),
            calls=self._calls,
            refused=self._refused,
        )

    def _bind(self) -> asyncio.AbstractEventLoop:
        """Return the running loop; on a new one, let go of what belonged to the old one.

        A call that was in flight there may have been counted until just now.
        """
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            if self._loop is not None:
                self._cooling.extend([loop.time() + self._window] * (self._calls - self._ended))
                self._ended = self._calls
                self._sure = self._sure_bulk = 0
                self._timer = None
                # Those who waited in them leave the lines that they joined.
                self._lanes = (WaitingLine(), WaitingLine())
            self._loop = loop
        return loop

    def _learn(self, calls: int, seconds: float) -> None:
        """Take over a limit that the server named, where it is lower than ours.

        A limit over another window is kept by keeping its share in each of ours. Over a shorter one that does not keep
        its bursts away; what is refused of those waits and goes again.
        """
        if self._limit is None or not 0 < seconds <= _LONGEST_QUOTA:
            return
        share = int(calls * self._window / seconds)
        if share < 1:
            share, self._window = 1, seconds / max(1, calls) + _CLOCK_DRIFT
        self._limit = min(self._limit, share)
        self._capacity = min(self._capacity, self._limit)

    def _look(self, lane: Lane) -> Slot | None:
        """Take a slot if there is one, and note how many more calls may go without looking."""
        now = self._bind().time()
        self._warm(now)
        interactive, bulk = self._lanes
        if not (interactive.length or bulk.length or now < self._still_until or self._capacity != self._limit):
            self._sure = self._calls + self._count_free()
            self._sure_bulk = self._sure - min(self._reserve, self._capacity - 1)
        if interactive.length or (lane and bulk.length) or not self._has_room(lane, now):
            return None
        self._calls += 1
        return Slot(self)

    def _count_free(self) -> int:
        """Return how many slots are neither in flight nor cooling; less than none after the capacity shrank."""
        return self._capacity - (self._calls - self._ended) - len(self._cooling)

    def _has_room(self, lane: Lane, now: float) -> bool:
        kept = min(self._reserve, self._capacity - 1) if lane is Lane.BULK else 0
        return self._count_free() > kept and now >= self._still_until

    def _bound(self, ticket: asyncio.Future[Slot], lane: Lane, max_wait: float) -> asyncio.TimerHandle:
        """Have a ticket fail when its time is over, or refuse it at once if its turn surely comes later."""
        wait = self.foresee(lane)
        if wait > max_wait:
            raise WaitTooLongError(operation=self._name, wait=wait, max_wait=max_wait)
        return ticket.get_loop().call_later(max_wait, self._give_up, ticket, max_wait)

    def _join(self, ticket: asyncio.Future[Slot], lane: Lane) -> WaitingLine[Slot]:
        """Put a ticket at the end of its line, and from now on let nobody go without looking."""
        line = self._lanes[lane]
        line.join(ticket)
        self._sure = self._sure_bulk = 0
        self._arm(ticket.get_loop())
        return line

    def _give_up(self, ticket: asyncio.Future[Slot], max_wait: float) -> None:
        if not ticket.done():
            more = self._next_change(ticket.get_loop().time()) or self._window
            ticket.set_exception(WaitTooLongError(operation=self._name, wait=max_wait + more, max_wait=max_wait))

    def _cool(self) -> None:
        loop = self._loop
        if loop is None:
            return
        if not loop.is_running():
            loop = self._bind()
        if self._ended < self._calls:
            self._ended += 1
        else:
            # It belongs to a loop that is gone: its place was let go of already, and is taken once more.
            self._sure = self._sure_bulk = 0
        self._cooling.append(loop.time() + self._window)
        if not self._sure and self._timer is None:
            self._arm(loop)

    def _return(self) -> None:
        self._calls -= 1
        if self._limit is None:
            return
        loop = self._bind()
        self._ended = min(self._ended, self._calls)
        # A slot of a loop that is gone was let go of with it, so that none comes free here.
        self._sure = self._sure_bulk = 0
        self._serve(loop)

    def _warm(self, now: float) -> None:
        cooling = self._cooling
        while cooling and cooling[0] <= now:
            cooling.popleft()
        if self._limit is not None:
            while self._capacity < self._limit and now >= self._grow_at:
                self._capacity += 1
                self._grow_at += self._window

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self._warm(now)
        for lane, line in zip(Lane, self._lanes, strict=True):
            while line.length and self._has_room(lane, now) and (ticket := line.serve()):
                self._calls += 1
                ticket.set_result(Slot(self))
        self._arm(loop)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have one timer for the next moment at which something can change, and only while somebody waits."""
        if not (self._lanes[0].length or self._lanes[1].length):
            return
        if self._timer is not None and not self._timer.cancelled():
            return
        due = self._next_change(loop.time())
        if due is not None:
            self._timer = loop.call_later(due, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = None
        self._serve(loop)

    def _next_change(self, now: float) -> float | None:
        """Return the seconds until a slot may come free by itself, None if only a release can bring that about."""
        if now < self._still_until:
            return self._still_until - now
        return max(0.0, self._cooling[0] - now) if self._cooling else None
