"""One process's side of a limit that many processes share.

Guarantee (R1): nothing is sent but with a slot that the ledger granted and a lease that lasts, and the end of every
call is reported, or else its slot comes back as that of a holder that died.

How: slots are granted in blocks and used up here, on the same fast path as those of a `WindowLimiter`, with one look
at the clock more, for the lease. The lease counts from before the question was first sent, by a clock that goes on
while the machine sleeps. When it is over, all that this process held is given up: it comes back under a new id, and
what its former calls do is not reported any more, since the ledger lets their slots cool down by itself. A question
stays as it was until it is answered.

Slots that are not used are handed back after a second. Calls that ended are reported within a second, or with the next
question of a process in which calls wait: their slots come back a minute later in any case.

Rejected: a timer that closes the fast path at the end of the lease. A process that was stopped runs what is ready
before it looks at its timers.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Iterable
from threading import get_ident
from typing import Protocol

from msgspec import structs

from bms_async.limits.limiter import Limiter
from bms_async.limits.loop_binding import LoopBinding
from bms_async.limits.slot import Slot
from bms_async.limits.statistics import LimiterStatistics, SharedStatistics
from bms_async.limits.wait_queue import Lane

from .alone import AloneLimiter
from .holding import Holding
from .messages import CLOCK_DRIFT, Answer, Question, Refusal, Terms

_REPORT_AFTER = 1.0
"""Seconds after which an ended call is reported where no call waits, and after which unused slots are handed back."""

_BETWEEN = 0.0002
_BETWEEN_INTERACTIVE = 0.03
_BETWEEN_BULK = 0.1
"""Seconds between two questions where slots are scarce, so that one question gets several of those that come back one
by one: for each call that the limit allows, and at most. A slot is kept for a holder for longer than that. With a low
limit there are few questions anyway, and each is for one slot, so that all get as many."""

_NEARLY_ALL = 0.9
"""The share of the slots that are used when the others are scarce."""

_SETTLING = 10.0
"""Seconds after the store came back in which nothing is asked for, so that all report what they sent meanwhile."""

_HAND_BACK_SCARCE = 0.25
"""The same for unused slots, where other holders wait."""


class Asker(Protocol):
    """What asks the ledger for a limiter, as the limiter sees it."""

    @property
    def statistics(self) -> SharedStatistics:
        """What is known of the store and the account."""
        ...

    def clock(self) -> float:
        """Return the time that leases are counted by, in seconds."""
        ...

    @property
    def bare_clock(self) -> Callable[[], float]:
        """What `clock` calls while the event loop is the same."""
        ...

    def check_running(self) -> None:
        """Raise a `ConfigurationError` if nothing will be asked, because no client is open."""
        ...

    def wake(self, at: float) -> None:
        """Ask at a time by the loop's clock, if not earlier."""
        ...


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
        "_answer",
        "_answered_at",
        "_asker",
        "_clock",
        "_cooldowns",
        "_ended",
        "_granted",
        "_holding",
        "_idle_at",
        "_idle_calls",
        "_is_alone",
        "_is_scarce",
        "_lease_ends",
        "_open_until",
        "_others",
        "_quiet_until",
        "_rate",
        "_rate_from",
        "_timer",
    )  # fmt: skip

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
        # Calls whose slots have come to their end, in all, and when those of this process did of late.
        self._ended = 0
        self._cooldowns: deque[float] = deque()
        # When slots of other processes were first seen to be used; each comes back a window later at the latest, unless
        # a later answer still counts it.
        self._others: deque[float] = deque()
        # When slots were last seen to be used, and how many calls there had been.
        self._idle_at, self._idle_calls = -math.inf, 0
        self._rate_from, self._rate = (-math.inf, 0), 0.0
        self._answer: Answer | None = None
        self._answered_at = -math.inf
        self._alone: AloneLimiter | None = None
        self._is_alone = self._is_scarce = False
        self._quiet_until = -math.inf
        self._timer: asyncio.TimerHandle | None = None
        self._binding.add(self)

    def __repr__(self) -> str:
        waiting = len(self._lanes[0]) + len(self._lanes[1])
        return f"<SharedLimiter {self._name}: {self._held} of {self._limit} held here, {waiting} waiting>"

    @property
    def _held(self) -> int:
        """How many slots the ledger holds for this process, as far as it was answered."""
        holding = self._holding
        return self._granted - self._ended + len(holding.unreported) + holding.unused

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
        if self._is_alone and self._alone is not None:
            return self._alone.estimate_wait(lane)
        now, answer = self._sync(), self._answer
        if self._spare > 0 and not self.has_waiters:
            return 0.0
        since = now - self._answered_at
        gate = 0.0 if answer is None else max(answer.closed_for, answer.blocked_for) - since
        turn = self._holding.again_at - now if len(self._lanes[lane]) > 0 else 0.0
        return max(0.0, gate, turn)

    def on_rate_limited(self, retry_after: float | None = None, *, quota: tuple[int, float] | None = None) -> None:
        """Back off after a 429, and have all processes do so; see `Limiter.on_rate_limited`."""
        loop = self._binding.bind()
        self._refused += 1
        if self._is_alone and self._alone is not None:
            self._alone.on_rate_limited(retry_after, quota=quota)
            return
        self._holding.refusals.append(Refusal(() if retry_after is None else (retry_after,), quota or ()))
        self._drop_spare()
        self._asker.wake(loop.time())

    def snapshot(self) -> list[float]:
        """Return the seconds until each used slot comes back; for those of other processes the longest it may take."""
        if self._is_alone and self._alone is not None:
            return self._alone.snapshot()
        now = self._sync()
        used = [seen + self._window - now for slots in (self._cooldowns, self._others) for seen in slots]
        return sorted([*used, *[self._window] * (self._calls - self._ended)])

    def note_others(self, spent: Iterable[float]) -> None:
        """Note what other processes use, as it was read in the store, for the statistics and the snapshot.

        Args:
            spent: Seconds until the slot of each call comes back.
        """
        now = self._sync()
        self._others = deque(sorted(now + min(seconds, self._window) - self._window for seconds in spent))

    def restore(self, spent: Iterable[float]) -> None:
        """Reserve the slots of calls that were made elsewhere and that the ledger does not know."""
        loop = self._binding.bind()
        now, window = loop.time(), self._window
        self._holding.elsewhere += [now + min(seconds, window) - window for seconds in spent if seconds > 0]
        self._schedule_wakeup(loop)

    def statistics(self) -> LimiterStatistics:
        """Return how many slots are used over all processes, as far as it is known here, and how many calls wait."""
        if self._is_alone and self._alone is not None:
            return self._describe_alone(self._alone)
        now, answer = self._sync(), self._answer
        capacity = self._limit or 0 if answer is None else answer.capacity
        used = self._count_used()
        since = now - self._answered_at
        closed = 0.0 if answer is None else max(0.0, max(answer.closed_for, answer.blocked_for) - since)
        free = 0 if closed > 0 else max(self._spare, capacity - used)
        interactive, bulk = self._lanes
        quota = () if answer is None else answer.quota
        return LimiterStatistics(
            capacity=capacity,
            limit=self._limit,
            used=used,
            free=free,
            waiting_interactive=len(interactive),
            waiting_bulk=len(bulk),
            next_slot=None if free else self._next_change(now),
            calls=self._calls,
            refused=self._refused,
            learned=(int(quota[0]), quota[1]) if quota else None,
            forgotten_in=max(0.0, quota[2] - since) if quota else None,
            shared=self._asker.statistics,
        )

    def _describe_alone(self, alone: AloneLimiter) -> LimiterStatistics:
        found, (interactive, bulk) = alone.statistics(), self._lanes
        return structs.replace(
            found,
            limit=self._limit,
            waiting_interactive=len(interactive),
            waiting_bulk=len(bulk),
            calls=self._calls + found.calls,
            refused=self._refused,
            shared=self._asker.statistics,
        )

    def is_idle(self, now: float) -> bool:
        """Return whether nothing is used or learned at a time by its binding's clock; on any thread."""
        if self.has_waiters or self._held or self._holding.is_urgent:
            return False
        try:
            return self._cooldowns[-1] + self._window <= now
        except IndexError:
            return True

    def rebind(self, loop: asyncio.AbstractEventLoop, shift: float) -> None:
        """Go on on another event loop as a new holder; called by the `LoopBinding`."""
        self._cooldowns = deque(ended + shift for ended in self._cooldowns)
        self._others = deque(seen + shift for seen in self._others)
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
        self._lease_ends = -math.inf
        self._is_scarce = False
        self._epoch += 1
        self._granted = self._ended = self._calls
        self._open_until = 0

    def due(self, now: float) -> float:
        """Return when there is something to ask or to report, by the loop's clock; infinity for never.

        Args:
            now: The time by the loop's clock.
        """
        holding = self._holding
        if holding.is_urgent:
            return now
        due = math.inf
        interactive, bulk = self._lanes
        if interactive or bulk:
            # Where slots are left all the same, the lease is over.
            due = now if self._spare > 0 or (interactive and not holding.has_said_interactive) else holding.again_at
            due = math.inf if self._is_alone else max(due, self._quiet_until)
            if self._is_scarce:
                most = _BETWEEN_INTERACTIVE if interactive else _BETWEEN_BULK
                due = max(due, self._answered_at + min(most, (self._limit or 0) * _BETWEEN))
        elif self._spare > 0:
            due = self._hand_back_at(now)
        if holding.unreported and not (interactive or bulk):
            due = min(due, holding.unreported[0] + _REPORT_AFTER)
        return min(due, holding.renew_at) if self._held else due

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
        is_quiet = leaving or now < self._quiet_until
        interactive, bulk = (0 if is_quiet else len(queue) for queue in self._lanes)
        if leaving or (not interactive and not bulk and self._hand_back_at(now) <= now):
            self._drop_spare()
        ahead = 0 if leaving else self._estimate_need(now)
        return holding.ask(now, interactive=interactive, bulk=bulk, ahead=ahead, spare=self._spare, leaving=leaving)

    def take_answer(self, answer: Answer, now: float, *, trusted: bool = True) -> None:
        """Go on with what the ledger says.

        Args:
            answer: The answer to the question that `ask` returned last.
            now: The time by the loop's clock.
            trusted: Whether the slots may be used. If not they are handed back.
        """
        holding, loop = self._holding, self._loop
        if not holding.take_answer(answer):
            self.begin_anew()
            return
        self._lease_ends, self._clock = holding.lease_ends, self._asker.bare_clock
        self._answer, self._answered_at = answer, now
        self._count_others(answer, now)
        self._is_scarce = answer.scarce or answer.again > 0 or answer.used >= _NEARLY_ALL * answer.capacity
        if trusted:
            self._granted += answer.granted
        else:
            holding.unused += answer.granted
        if loop is not None and not loop.is_closed():
            self._wake_waiters(loop)

    def go_alone(self, share: float, *, spent: Iterable[float] = ()) -> None:
        """Go on with a share of the limit by itself, because the store is away.

        Args:
            share: The share of this process.
            spent: Seconds until the slots of earlier calls come back, where some count yet.
        """
        calls, loop = int((self._limit or 0) * share), self._loop
        if self._is_alone or calls < 1 or loop is None or loop.is_closed():
            return
        self.begin_anew()
        if self._alone is None:
            self._alone = AloneLimiter(
                self._name,
                calls,
                window=self._window,
                reserve=self._reserve / (self._limit or 1),
                binding=self._binding,
                on_end=self._on_end_alone,
            )
        self._alone.restore(spent)
        self._is_alone = True
        self._wake_waiters(loop)

    def rejoin(self, now: float) -> None:
        """Have the ledger count what was sent meanwhile, and ask it again once the others have done so too.

        Args:
            now: The time by the loop's clock.
        """
        if not self._is_alone or self._alone is None:
            return
        self._is_alone = False
        self._holding.elsewhere += self._alone.ended()
        self._holding.flying = flying = self._alone.in_flight
        # They end in the ledger's eyes as those that it granted.
        self._calls += flying
        self._granted = self._calls
        self._quiet_until = now + _SETTLING

    def _on_end_alone(self, ended: float | None) -> None:
        loop = self._loop
        if loop is None or self._is_alone:
            if loop is not None:
                self._wake_waiters(loop)
        elif self._calls > self._ended:
            self._ended += 1
            if ended is None:
                self._holding.unused += 1
            else:
                self._holding.unreported.append(ended)
            self._schedule_wakeup(loop)

    def _serve_alone(self, alone: AloneLimiter, loop: asyncio.AbstractEventLoop) -> None:
        """Give the share's free slots to those that wait, and come again when one more is back."""
        for lane, queue in zip(Lane, self._lanes, strict=True):
            while queue and (slot := alone.acquire_nowait(lane)) is not None:
                if (waiter := queue.pop()) is None:
                    slot.refund()
                    break
                waiter.set_result(slot)
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self.has_waiters and (due := alone.statistics().next_slot) is not None:
            self._timer = loop.call_later(due, self._wake_waiters, loop)

    def distrust(self) -> None:
        """Use none of the slots that are left, and have the account closed: the store's clock jumped ahead."""
        self._drop_spare()
        self._holding.has_jumped = True

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
        unreported = self._holding.unreported
        unreported.append(now)
        if len(unreported) == 1:
            self._trim(now)
            self._asker.wake(now + _REPORT_AFTER)

    def _end(self, loop: asyncio.AbstractEventLoop, epoch: int, *, sent: bool) -> None:
        now = loop.time()
        if sent:
            self._cooldowns.append(now)
        if epoch != self._epoch:
            # The ledger has its slot in a cooldown already, as that of a holder that is gone.
            if sent and self._is_alone and self._alone is not None:
                self._alone.restore([self._window])
            return
        if sent:
            self._ended += 1
            self._holding.unreported.append(now)
            self._asker.wake(now + _REPORT_AFTER)
        else:
            self._calls -= 1
            if not loop.is_closed():
                self._wake_waiters(loop)

    def _sync(self) -> float:
        """Return the time on the running loop."""
        loop = self._binding.bind()
        self._loop, self._thread = loop, get_ident()
        now = loop.time()
        self._trim(now)
        return now

    def _trim(self, now: float) -> None:
        since = now - self._window
        for slots in (self._cooldowns, self._others):
            while slots and slots[0] <= since:
                slots.popleft()

    def _count_others(self, answer: Answer, now: float) -> None:
        """Note how many slots other processes use; called before the slots that were granted are counted here."""
        self._trim(now)
        own = self._calls - self._ended + len(self._cooldowns) + self._spare + self._holding.unused
        count = max(0, answer.used - answer.granted - own)
        while len(self._others) > count:
            self._others.popleft()
        self._others.extend([now] * (count - len(self._others)))

    def _count_used(self) -> int:
        """Return how many slots are used over all processes, as far as it is known here."""
        return self._calls - self._ended + len(self._cooldowns) + len(self._others)

    def _acquire_slow(self, lane: Lane) -> Slot | None:
        loop = self._binding.use()
        self._loop, self._thread = loop, get_ident()
        self._asker.check_running()
        interactive, bulk = self._lanes
        if self._is_alone and self._alone is not None:
            return None if interactive or (lane and bulk) else self._alone.acquire_nowait(lane)
        if interactive or (lane and bulk) or self._spare <= 0:
            return None
        if self._clock() >= self._lease_ends:
            self.begin_anew()
            return None
        self._calls += 1
        self._open_until = self._granted
        return Slot(self, self._epoch)

    def _wake_waiters(self, loop: asyncio.AbstractEventLoop) -> None:
        if self._is_alone and self._alone is not None:
            if loop is self._loop and not loop.is_closed():
                self._serve_alone(self._alone, loop)
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
        answer = self._answer
        seen = [slots[0] for slots in (self._cooldowns, self._others) if slots]
        if answer is None:
            return max(0.0, min(seen) + self._window - now) if seen else None
        gate = self._answered_at + max(answer.closed_for, answer.blocked_for)
        slot = min(seen, default=self._answered_at) + self._window
        change = max(gate, self._holding.again_at if self.has_waiters else slot)
        return max(0.0, change - now)

    def _drop_spare(self) -> None:
        """Use the slots that are left for nothing any more, and hand them back with the next question."""
        self._holding.unused += self._spare
        self._granted = self._calls
        self._open_until = 0

    def _hand_back_at(self, now: float) -> float:
        """Return when slots that are left go back; later, if some were used meanwhile."""
        if self._spare <= 0:
            return math.inf
        if self._calls != self._idle_calls:
            self._idle_calls, self._idle_at = self._calls, now
        scarce = self._answer is not None and self._answer.scarce
        return self._idle_at + (_HAND_BACK_SCARCE if scarce else _REPORT_AFTER)

    def _estimate_need(self, now: float) -> int:
        """Return how many calls a second's work is, by what was begun of late."""
        at, calls = self._rate_from
        begun = self._calls - calls
        if now - at >= 1.0:
            self._rate = begun / (now - at) if at > -math.inf else 0.0
            self._rate_from = (now, self._calls)
            return math.ceil(self._rate)
        return max(begun, math.ceil(self._rate))
