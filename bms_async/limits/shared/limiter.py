"""One process's side of a limit that many processes share.

Guarantee (R1): nothing is sent but with a slot that the ledger granted and a lease that lasts, and the end of every
call is reported, or else its slot comes back as that of a holder that died.

How: slots are granted in blocks and used up here, on the same fast path as those of a `WindowLimiter`, with one look
at the clock more, for the lease. The lease counts from before the question was first sent, by a clock that goes on
while the machine sleeps. When it is over, all that this process held is given up: it comes back under a new id, and
what its former calls do is not reported any more, since the ledger lets their slots cool down by itself. A question
stays as it was until it is answered.

What is asked and when is decided in `demand.py`; what the ledger was asked, and what it has not heard of, is in
`holding.py`; what is shown of others' slots in `usage.py`; and going on without the store in `alone.py`.

Rejected: a timer that closes the fast path at the end of the lease. A process that was stopped runs what is ready
before it looks at its timers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Iterable
from threading import get_ident

from msgspec import structs

from bms_async.limits.limiter import Limiter
from bms_async.limits.loop_binding import LoopBinding
from bms_async.limits.slot import Slot
from bms_async.limits.statistics import LimiterStatistics
from bms_async.limits.wait_queue import Lane

from .alone import Alone, AloneLimiter
from .asker import Asker
from .demand import REPORT_AFTER, Demand
from .holding import Holding
from .messages import CLOCK_DRIFT, Answer, Question, Refusal, Terms
from .usage import Usage


class SharedLimiter(Limiter):
    """The limiter of one operation whose limit many processes share.

    Args:
        name: The name of the operation.
        limit: Calls a window.
        asker: What asks the ledger.
        terms: The times that all holders agree on.
        reserve: The share of the limit that bulk calls leave free, over all processes.
        binding: The event loop that it shares with other limiters.
    """

    __slots__ = (
        "_alone",
        "_asker",
        "_clock",
        "_cooldowns",
        "_demand",
        "_ended",
        "_granted",
        "_holding",
        "_lease_ends",
        "_open_until",
        "_unreported",
        "_usage",
    )

    has_leases = True

    def __init__(
        self, name: str, limit: int, *, asker: Asker, terms: Terms, reserve: float = 1 / 60, binding: LoopBinding
    ) -> None:
        super().__init__(name, limit, window=terms.window + CLOCK_DRIFT, reserve=reserve, binding=binding)
        self._asker = asker
        # It costs half as much without the frames of `Asker.clock`, and every call on the fast path reads it.
        self._clock: Callable[[], float] = asker.clock
        self._holding = Holding(limit, reserve=self._reserve, terms=terms, clock=asker.clock)
        # As the holding has it, for the fast path.
        self._lease_ends = -math.inf
        # Up to how many calls in all there are slots, and up to how many the fast path is open.
        self._granted = self._open_until = 0
        # Calls whose slots have come to their end, in all.
        self._ended = 0
        self._usage = Usage(self._window)
        self._demand = Demand(limit, self._holding)
        self._alone = Alone(self._make_alone, self._holding, self._on_change_alone)
        # For the fast path.
        self._cooldowns, self._unreported = self._usage.cooldowns, self._holding.unreported
        self._binding.add(self)

    def __repr__(self) -> str:
        waiting = len(self._lanes[0]) + len(self._lanes[1])
        return f"<SharedLimiter {self._name}: {self._held} of {self._limit} held here, {waiting} waiting>"

    @property
    def calls(self) -> int:
        """How many calls got a slot, in all."""
        return self._calls + self._alone.calls

    @property
    def _held(self) -> int:
        """How many slots the ledger holds for this process, as far as it was answered."""
        holding = self._holding
        return self._granted - self._ended + len(holding.unreported) + holding.unused + holding.adopted

    @property
    def _in_flight(self) -> int:
        return self._calls - self._ended + self._holding.adopted

    @property
    def _spare(self) -> int:
        return self._granted - self._calls

    async def acquire(self, lane: Lane = Lane.INTERACTIVE, *, max_wait: float | None = None) -> Slot:
        """Wait for the right to make one call; see `Limiter.acquire`.

        Raises:
            WaitTooLongError: No slot comes in time.
            ConfigurationError: The limiter is in use on another event loop, or no client that has it is open.
        """
        calls, loop = self._calls, self._loop
        if (
            calls < self._open_until
            and self._clock() < self._lease_ends
            and get_ident() == self._thread
            and loop is not None
            and loop.is_running()
        ):
            self._calls = calls + 1
            return Slot(self, self._epoch)
        return await super().acquire(lane, max_wait=max_wait)

    def acquire_nowait(self, lane: Lane = Lane.INTERACTIVE) -> Slot | None:
        """Return the right to make one call; None if it would have to wait, or to be asked for."""
        calls, loop = self._calls, self._loop
        if (
            calls < self._open_until
            and self._clock() < self._lease_ends
            and get_ident() == self._thread
            and loop is not None
            and loop.is_running()
        ):
            self._calls = calls + 1
            return Slot(self, self._epoch)
        return self._acquire_slow(lane)

    def estimate_wait(self, lane: Lane = Lane.INTERACTIVE) -> float:
        """Return the seconds that a call would surely wait; other processes may make it longer."""
        if (alone := self._alone.limiter) is not None:
            return alone.estimate_wait(lane)
        now = self._sync()
        if self._spare > 0 and not self.has_waiters:
            return 0.0
        turn = self._holding.again_at - now if len(self._lanes[lane]) > 0 else 0.0
        return max(self._opens_in(now), turn)

    def on_rate_limited(self, retry_after: float | None = None, *, quota: tuple[int, float] | None = None) -> None:
        """Back off after a 429, and have all processes do so; see `Limiter.on_rate_limited`."""
        loop = self._binding.bind()
        self._refused += 1
        if (alone := self._alone.limiter) is not None:
            alone.on_rate_limited(retry_after, quota=quota)
            return
        self._holding.refusals.append(Refusal(() if retry_after is None else (retry_after,), quota or ()))
        self._drop_spare()
        self._asker.wake(loop.time())

    def snapshot(self) -> list[float]:
        """Return the seconds until each used slot comes back; for those of other processes the longest it may take."""
        if (alone := self._alone.limiter) is not None:
            return alone.snapshot()
        now = self._sync()
        return sorted([*self._usage.back_in(now), *[self._window] * self._in_flight])

    def note_others(self, spent: Iterable[float]) -> None:
        """Note what other processes use, as it was read in the store, for the statistics and the snapshot.

        Args:
            spent: Seconds until the slot of each call comes back.
        """
        self._usage.note_others(spent, self._sync())

    def restore(self, spent: Iterable[float]) -> None:
        """Reserve the slots of calls that were made elsewhere and that the ledger does not know."""
        loop = self._binding.bind()
        if (alone := self._alone.limiter) is not None:
            alone.restore(spent)
            return
        now, window = loop.time(), self._window
        self._holding.elsewhere += [now + min(seconds, window) - window for seconds in spent if seconds > 0]
        self._schedule_wakeup(loop)

    def statistics(self) -> LimiterStatistics:
        """Return how many slots are used over all processes, as far as it is known here, and how many calls wait."""
        interactive, bulk = self._lanes
        if (alone := self._alone.limiter) is not None:
            return structs.replace(
                alone.statistics(),
                limit=self._limit,
                waiting_interactive=len(interactive),
                waiting_bulk=len(bulk),
                calls=self.calls,
                refused=self._refused,
                shared=self._asker.statistics,
            )
        now, usage = self._sync(), self._usage
        capacity, used, learned = usage.capacity(self._limit or 0), self._count_used(), usage.learned(now)
        free = 0 if self._opens_in(now) > 0 else max(self._spare, capacity - used)
        return LimiterStatistics(
            capacity=capacity,
            limit=self._limit,
            used=used,
            free=free,
            waiting_interactive=len(interactive),
            waiting_bulk=len(bulk),
            next_slot=None if free else self._next_change(now),
            calls=self.calls,
            refused=self._refused,
            learned=None if learned is None else learned[0],
            forgotten_in=None if learned is None else learned[1],
            shared=self._asker.statistics,
        )

    def is_idle(self, now: float) -> bool:
        """Return whether nothing is used or learned at a time by its binding's clock; on any thread."""
        if self.has_waiters or self._held or self._holding.is_urgent:
            return False
        if (alone := self._alone.limiter) is not None and not alone.is_idle(now):
            return False
        try:
            return self._cooldowns[-1] + self._window <= now
        except IndexError:
            return True

    def rebind(self, loop: asyncio.AbstractEventLoop, shift: float) -> None:
        """Go on on another event loop as a new holder; called by the `LoopBinding`."""
        self._usage.shift(shift)
        self._demand.rebind()
        self._holding.elsewhere = [ended + shift for ended in self._holding.elsewhere]
        self._loop, self._thread = loop, get_ident()
        self._lanes = (type(self._lanes[0])(), type(self._lanes[1])())
        self.begin_anew()

    def invalidate_fast_path(self) -> None:
        """Have the next call check the loop and the lease."""
        self._open_until = 0

    def begin_anew(self) -> None:
        """Give all up that was held, under whose id nothing more is sent or reported."""
        self._holding.begin_anew()
        self._demand.begin_anew()
        self._lease_ends = -math.inf
        self._epoch += 1
        self._granted = self._ended = self._calls
        self._open_until = 0

    def due(self, now: float) -> float:
        """Return when there is something to ask or to report, by the loop's clock; infinity for never.

        Args:
            now: The time by the loop's clock.
        """
        if self._alone.is_on:
            return math.inf
        interactive, bulk = (len(queue) > 0 for queue in self._lanes)
        return self._demand.due(
            now, interactive=interactive, bulk=bulk, spare=self._spare, calls=self._calls, held=self._held
        )

    def ask(self, now: float, *, leaving: bool = False) -> Question:
        """Return the question to send: the one that was not answered as it was, or a new one.

        Args:
            now: The time by the loop's clock.
            leaving: Whether the process needs nothing more.
        """
        holding = self._holding
        if holding.is_lost(self._held):
            self.begin_anew()
        if holding.asked is not None:
            return holding.asked
        demand = self._demand
        wants = not (leaving or demand.is_settling(now))
        interactive, bulk = (len(queue) if wants else 0 for queue in self._lanes)
        is_over = not interactive and not bulk and demand.hand_back_at(now, spare=self._spare, calls=self._calls) <= now
        if leaving or is_over:
            self._drop_spare()
        ahead = 0 if leaving else demand.estimate(now, self._calls)
        return holding.ask(now, interactive=interactive, bulk=bulk, ahead=ahead, spare=self._spare, leaving=leaving)

    def take_answer(self, answer: Answer, now: float, *, trusted: bool = True) -> None:
        """Go on with what the ledger says.

        Args:
            answer: The answer to the question that `ask` returned last.
            now: The time by the loop's clock.
            trusted: Whether the slots may be used. If not they are handed back.
        """
        holding, loop = self._holding, self._loop
        self._demand.note_answer(answer, now)
        if not holding.take_answer(answer):
            self.begin_anew()
            return
        self._lease_ends, self._clock = holding.lease_ends, self._asker.bare_clock
        own = self._in_flight + self._spare + holding.unused
        self._usage.note_answer(answer, now, own=own)
        # Whatever a store grants, this process alone never exceeds the limit.
        most = (self._limit or 0) - own - self._usage.count_own(now, self._window - CLOCK_DRIFT)
        granted = max(0, min(answer.granted, most)) if trusted else 0
        self._granted += granted
        holding.unused += answer.granted - granted
        if loop is not None and not loop.is_closed():
            self._wake_waiters(loop)

    def go_alone(self, share: float, *, spent: Iterable[float] = ()) -> None:
        """Go on with a share of the limit by itself, because the store is away.

        Args:
            share: The share of this process.
            spent: Seconds until the slots of earlier calls come back, where some count yet.
        """
        calls, loop = int((self._limit or 0) * share), self._loop
        if self._alone.is_on or calls < 1 or loop is None or loop.is_closed():
            return
        self.begin_anew()
        now = loop.time()
        earlier = [ended + self._window - now for ended in self._holding.give_over()]
        self._alone.begin(calls, [*spent, *earlier])
        self._wake_waiters(loop)

    def rejoin(self) -> None:
        """Have the ledger count what was sent meanwhile, where anything was."""
        self._alone.end()

    def settle(self, now: float) -> None:
        """Want nothing for a moment, in which all processes report what they sent while the store was away.

        Args:
            now: The time by the loop's clock.
        """
        self._demand.settle(now)

    def renew(self) -> None:
        """Begin anew in a child process."""
        self._alone.forget()
        self._holding.forget()
        self.begin_anew()

    def _make_alone(self, calls: int, on_end: Callable[[float | None], None]) -> AloneLimiter:
        reserve = self._reserve / (self._limit or 1)
        return AloneLimiter(
            self._name, calls, window=self._window, reserve=reserve, binding=self._binding, on_end=on_end
        )

    def _on_change_alone(self) -> None:
        loop = self._loop
        if loop is None:
            return
        if self._alone.is_on:
            self._wake_waiters(loop)
        else:
            self._schedule_wakeup(loop)

    def distrust(self) -> None:
        """Use none of the slots that are left, and have the account closed: the store's clock jumped ahead."""
        self._drop_spare()
        self._holding.has_jumped = True

    def _describe_trouble(self) -> str | None:
        return None if self._alone.is_on else self._asker.trouble

    @property
    def has_to_leave(self) -> bool:
        """Whether the ledger knows of something that this process has or wants."""
        return self._holding.has_to_leave

    def allows(self, epoch: int) -> bool:
        """Return whether a slot may still be used: its lease lasts, and it was not given up."""
        return epoch == self._epoch and self._clock() < self._lease_ends

    def start_cooldown(self, epoch: int) -> None:
        """Take a slot back one window from now; called by `Slot.release`."""
        loop = self._loop
        if loop is None:
            return
        if epoch != self._epoch or get_ident() != self._thread:
            self.end_anywhere(epoch, sent=True)
            return
        now = loop.time()
        self._ended += 1
        self._cooldowns.append(now)
        unreported = self._unreported
        unreported.append(now)
        if len(unreported) == 1:
            self._usage.trim(now)
            self._asker.wake(now + REPORT_AFTER)

    def _end(self, loop: asyncio.AbstractEventLoop, epoch: int, *, sent: bool) -> None:
        now = loop.time()
        if sent:
            self._cooldowns.append(now)
        if epoch != self._epoch:
            # The ledger has its slot in a cooldown already, as that of a holder that is gone.
            if sent and (alone := self._alone.limiter) is not None:
                alone.restore([self._window])
            return
        if sent:
            self._ended += 1
            self._unreported.append(now)
            self._asker.wake(now + REPORT_AFTER)
        else:
            self._calls -= 1
            if not loop.is_closed():
                self._wake_waiters(loop)

    def _sync(self) -> float:
        """Return the time on the running loop."""
        loop = self._binding.bind()
        self._loop, self._thread = loop, get_ident()
        now = loop.time()
        self._usage.trim(now)
        return now

    def _count_used(self) -> int:
        """Return how many slots are used over all processes, as far as it is known here."""
        return self._in_flight + self._usage.count()

    def _acquire_slow(self, lane: Lane) -> Slot | None:
        loop = self._binding.use()
        self._loop, self._thread = loop, get_ident()
        self._asker.check_running()
        interactive, bulk = self._lanes
        if (alone := self._alone.limiter) is not None:
            return None if interactive or (lane and bulk) else alone.acquire_nowait(lane)
        if interactive or (lane and bulk) or self._spare <= 0:
            return None
        if self._clock() >= self._lease_ends:
            self.begin_anew()
            return None
        self._calls += 1
        self._open_until = self._granted
        return Slot(self, self._epoch)

    def _wake_waiters(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._alone.is_on:
            if loop is self._loop and not loop.is_closed():
                self._alone.serve(self._lanes, loop)
            return
        if self._clock() < self._lease_ends:
            for queue in self._lanes:
                while queue and self._calls < self._granted and (waiter := queue.pop()):
                    self._calls += 1
                    waiter.set_result(Slot(self, self._epoch))
        self._open_until = 0 if self.has_waiters else self._granted
        self._schedule_wakeup(loop)

    def _schedule_wakeup(self, loop: asyncio.AbstractEventLoop) -> None:
        self._open_until = 0 if self.has_waiters else self._open_until
        now = loop.time()
        due = self.due(now)
        if due < math.inf:
            self._asker.wake(due)

    def _next_change(self, now: float) -> float | None:
        again_at = self._holding.again_at if self.has_waiters else None
        return self._usage.next_change(now, opens_in=self._opens_in(now), again_at=again_at)

    def _opens_in(self, now: float) -> float:
        """Return the seconds for which nothing is granted at all, because of a 429 or of an unknown past."""
        return max(self._asker.closed_for, self._usage.blocked_for(now))

    def _drop_spare(self) -> None:
        """Use the slots that are left for nothing any more, and hand them back with the next question."""
        self._holding.unused += self._spare
        self._granted = self._calls
        self._open_until = 0
