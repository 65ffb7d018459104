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

from .capacity import Ration
from .loop_owner import Home, run_on
from .slot import Slot
from .statistics import LimiterStatistics, tell_unlimited
from .wait_queue import Lane, WaitingLine


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
        "_calls", "_cooling", "_ended", "_home", "_lanes", "_limit", "_loop", "_name", "_ration", "_refused",
        "_reserve", "_stay", "_sure", "_sure_bulk", "_thread", "_timer",
    )  # fmt: skip

    def __init__(
        self,
        name: str,
        limit: int | None,
        *,
        window: float = 60.0,
        reserve: float = 1 / 60,
        home: Home | None = None,
    ) -> None:
        self._name = name
        self._limit = limit
        self._ration = Ration(limit, window)
        self._reserve = int((limit or 0) * reserve)
        # When the calls ended whose slots have not come back: when that is, depends on what was learned meanwhile.
        self._cooling: deque[float] = deque()
        self._lanes: tuple[WaitingLine[Slot], WaitingLine[Slot]] = (WaitingLine(), WaitingLine())
        # The loop whose calls need no look at their home, and its thread; None also where there is no limit. To ask
        # for the running loop costs a system call.
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread = 0
        self._timer: asyncio.TimerHandle | None = None
        self._calls = self._ended = 0
        # How often it has moved. What a slot of an earlier stay held was counted in when it moved.
        self._stay = 0
        self._refused = 0
        # Up to how many calls in all may go without a look at the clock and at who waits: most calls ask no more.
        self._sure = self._sure_bulk = self._ration.capacity if limit is None else 0
        self._home = Home() if home is None else home
        self._home.add(self)

    def __repr__(self) -> str:
        if self._limit is None:
            return f"<WindowLimiter {self._name}: no limit, {self._calls} calls>"
        waiting = self._lanes[0].length + self._lanes[1].length
        used = self._calls - self._ended + len(self._cooling)
        return f"<WindowLimiter {self._name}: {used} of {self._ration.capacity} used, {waiting} waiting>"

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
        # As in `take`, for to call that costs a tenth of a call that need not wait.
        calls, loop = self._calls, self._loop
        if calls < (self._sure_bulk if lane else self._sure) and (
            loop is None or (get_ident() == self._thread and loop.is_running())
        ):
            self._calls = calls + 1
            return Slot(self, self._stay)
        slot = self._look(lane)
        if slot is not None:
            return slot
        ticket: asyncio.Future[Slot] = self._home.settle().create_future()
        timer = None if max_wait is None else self._bound(ticket, lane, max_wait)
        line = self._join(ticket, lane)
        try:
            return await ticket
        except (asyncio.CancelledError, WaitTooLongError):
            if ticket.cancel() or ticket.cancelled() or ticket.exception():
                line.leave()
                if (running := get_running_loop()) is self._home.loop:
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
            lane: Nobody of that lane or of one before it is overtaken.

        Raises:
            ConfigurationError: The limiter is in use on another event loop.
        """
        calls, loop = self._calls, self._loop
        if calls < (self._sure_bulk if lane else self._sure) and (
            loop is None or (get_ident() == self._thread and loop.is_running())
        ):
            self._calls = calls + 1
            return Slot(self, self._stay)
        return self._look(lane)

    def foresee(self, lane: Lane = Lane.INTERACTIVE) -> float:
        """Return the seconds that a call would wait for its slot, if all goes as fast as it can.

        It takes longer when calls that are under way are answered late, or others come into a lane before.

        Args:
            lane: Whose turn it would be.
        """
        ration = self._ration
        if self._limit is None:
            return 0.0 if self._sure else max(0.0, ration.still_until - self._home.settle().time())
        now = self._look_at_clock()
        kept = min(self._reserve, ration.capacity - 1) if lane is Lane.BULK else 0
        interactive, bulk = (line.length for line in self._lanes)
        # Bulk needs as many more free slots as it leaves alone.
        turn = interactive + 1 + (bulk + kept if lane is Lane.BULK else 0)
        return ration.foresee(now, self._cooling, turn, interactive, kept=kept, free=self._count_free())

    def refuse(self, seconds: float | None = None, *, quota: tuple[int, float] | None = None) -> None:
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
        loop = self._home.settle()
        self._refused += 1
        if self._limit is None and seconds is None:
            return
        self._sure = self._sure_bulk = 0
        self._ration.refuse(loop.time(), seconds, quota)
        self._arm(loop)

    def spent(self) -> list[float]:
        """Return the seconds until each used slot comes back, ascending; a whole window for a call in flight.

        It is told as if nothing had been learned from refusals.
        """
        if self._limit is None:
            return []
        now, window = self._look_at_clock(), self._ration.plain
        cooling = (ended + window - now for ended in self._cooling)
        return [*(left for left in cooling if left > 0), *[window] * (self._calls - self._ended)]

    def occupy(self, spent: Iterable[float]) -> None:
        """Count calls in that were made elsewhere.

        Args:
            spent: Seconds until the slot of each comes back. No slot stays away for longer than a window.
        """
        if self._limit is None:
            return
        now, window = self._home.settle().time(), self._ration.plain
        ended = [now + min(seconds, window) - window for seconds in spent if seconds > 0]
        # Whoever looks takes those that are due from the left.
        self._cooling = deque(sorted([*self._cooling, *ended]))
        self._sure = self._sure_bulk = 0

    def statistics(self) -> LimiterStatistics:
        """Tell what is used, free and waiting, and what was learned."""
        ration, (interactive, bulk) = self._ration, (line.length for line in self._lanes)
        if self._limit is None:
            still = 0.0 if self._sure else max(0.0, ration.still_until - self._home.settle().time())
            return tell_unlimited(still or None, interactive, bulk, self._calls, self._refused)
        now = self._look_at_clock()
        used = self._calls - self._ended + len(self._cooling)
        free = max(0, ration.capacity - used) if now >= ration.still_until else 0
        return LimiterStatistics(
            capacity=ration.capacity,
            limit=self._limit,
            used=used,
            free=free,
            waiting_interactive=interactive,
            waiting_bulk=bulk,
            next_slot=None if free else self._next_change(now),
            calls=self._calls,
            refused=self._refused,
            learned=ration.quota,
            forgotten_in=None if ration.quota is None else ration.forget_at - now,
        )

    def move(self, loop: asyncio.AbstractEventLoop, shift: float) -> None:
        """Go on on another event loop, whose clock is so many seconds ahead; its `Home` calls it."""
        if shift:
            self._cooling = deque(ended + shift for ended in self._cooling)
            self._ration.shift(shift)
        if self._limit is not None:
            # What was in flight there may have been counted until just now.
            self._cooling.extend([loop.time()] * (self._calls - self._ended))
            self._ended = self._calls
            self._loop, self._thread = loop, get_ident()
        self._stay += 1
        self._timer = None
        # Those who waited in them leave the lines that they joined.
        self._lanes = (WaitingLine(), WaitingLine())
        self.look_again()

    def look_again(self) -> None:
        """Let no call go without a look at the loop and its clock."""
        if self._limit is not None:
            self._sure = self._sure_bulk = 0

    def is_rested(self, now: float) -> bool:
        """Tell whether nothing is used or learned at a moment by its home's clock; on any thread."""
        if now < self._ration.still_until or self.is_waited_for:
            return False
        if self._limit is None:
            return True
        if self._calls != self._ended or not self._ration.is_whole_at(now):
            return False
        try:
            return self._cooling[-1] + self._ration.plain <= now
        except IndexError:
            return True

    def _look_at_clock(self) -> float:
        """Return the time, after what is due by then."""
        loop = self._home.settle()
        self._loop, self._thread = loop, get_ident()
        now = loop.time()
        self._warm(now)
        return now

    def _look(self, lane: Lane) -> Slot | None:
        """Take a slot if there is one, and note how many more calls may go without looking."""
        loop, ration = self._home.use(), self._ration
        if self._limit is not None:
            self._loop, self._thread = loop, get_ident()
        now = loop.time()
        self._warm(now)
        interactive, bulk = self._lanes
        if ration.is_whole and not (interactive.length or bulk.length or now < ration.still_until):
            self._sure = self._calls + self._count_free()
            self._sure_bulk = self._sure - min(self._reserve, ration.capacity - 1)
        if interactive.length or (lane and bulk.length) or not self._has_room(lane, now):
            return None
        self._calls += 1
        return Slot(self, self._stay)

    def _count_free(self) -> int:
        """Return how many slots are neither in flight nor cooling; less than none after the capacity shrank."""
        return self._ration.capacity - (self._calls - self._ended) - len(self._cooling)

    def _has_room(self, lane: Lane, now: float) -> bool:
        kept = min(self._reserve, self._ration.capacity - 1) if lane is Lane.BULK else 0
        return self._count_free() > kept and now >= self._ration.still_until

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
            more = self._next_change(ticket.get_loop().time()) or self._ration.plain
            ticket.set_exception(WaitTooLongError(operation=self._name, wait=max_wait + more, max_wait=max_wait))

    def cool(self, stay: int) -> None:
        """Take a slot back one window from now: what `Slot.release` does."""
        loop = self._loop
        if loop is None:
            return
        if stay != self._stay or get_ident() != self._thread:
            self.end_anywhere(stay, sent=True)
            return
        self._ended += 1
        self._cooling.append(loop.time())
        if not self._sure and (self._timer is None or len(self._cooling) == 1):
            self._arm(loop)

    def end_anywhere(self, stay: int, *, sent: bool) -> None:
        """Take a slot back on whichever thread it is; it is free at once if nothing was sent."""
        loop = self._loop
        if loop is not None:
            run_on(loop, functools.partial(self._end, loop, stay, sent=sent))
        elif not sent:
            self._calls -= 1

    def _end(self, loop: asyncio.AbstractEventLoop, stay: int, *, sent: bool) -> None:
        self._sure = self._sure_bulk = 0
        is_own = stay == self._stay
        if sent:
            self._ended += is_own
            # One of an earlier stay was counted in when it ended; it may have been counted at the server since.
            self._cooling.append(loop.time())
        elif is_own:
            self._calls -= 1
        if not loop.is_closed():
            self._serve(loop)

    def _warm(self, now: float) -> None:
        self._ration.warm(now)
        cooling, since = self._cooling, now - self._ration.window
        while cooling and cooling[0] <= since:
            cooling.popleft()

    def _serve(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        self._warm(now)
        for lane, line in zip(Lane, self._lanes, strict=True):
            while line.length and self._has_room(lane, now) and (ticket := line.serve()):
                self._calls += 1
                ticket.set_result(Slot(self, self._stay))
        self._arm(loop)

    def _arm(self, loop: asyncio.AbstractEventLoop) -> None:
        """Have one timer for the next moment at which something can change, and only while somebody waits.

        It may be set already for a later moment: while all slots are in flight, the next change is that of the ration,
        and the first slot that cools comes back long before.
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
        self._timer = loop.call_later(due, self._ring, loop)

    def _ring(self, loop: asyncio.AbstractEventLoop) -> None:
        if loop is self._home.loop:
            self._timer = None
            self._serve(loop)

    def _next_change(self, now: float) -> float | None:
        """Return the seconds until a slot may come free by itself, None if only a release can bring that about."""
        ration = self._ration
        if now < ration.still_until:
            return ration.still_until - now
        change = ration.next_change()
        if self._cooling:
            change = min(change, self._cooling[0] + ration.window)
        return None if change == math.inf else max(0.0, change - now)
