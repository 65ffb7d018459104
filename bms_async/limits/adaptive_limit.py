"""How many calls a window may hold now, after refusals: a rule without a clock.

Guarantee (R1): a 429 never raises a limit. It can only lower the one that is documented or set, and what it lowered
comes back by itself.

How: a 429 that comes although our own count was within the limit has one of two causes. Other programs use the account
too; then the capacity shrinks to four fifths, once for each burst of calls that were in flight together, and grows back
linearly, a window at a time. Or the account's limit is lower than documented; then the response may name it, and it is
adopted as a quota. Either way the operation is blocked for as long as ``Retry-After`` says, or for a window.

A quota that the server named may be wrong: a gateway's text, a limit of another operation. So it is forgotten ten
windows after the last refusal, whatever it said, and a window longer than a day is not believed at all.

Rejected: adopting a quota that is higher than the documented limit, for one wrong text would then break R1. And
shrinking at every single 429: fifty calls that are refused together would shrink fifty calls a minute to one.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from typing import Self

import msgspec

CLOCK_DRIFT = 0.01
"""Seconds added to the window: two clocks that differ by 150 parts in a million still agree that it is over."""

FORGOTTEN_AFTER = 10
"""Windows after the last refusal until a quota that the server named is forgotten."""

_GROWTH = 50
"""Windows in which a capacity grows back from nothing: by a fiftieth of the limit in each, or by one call."""

_MIN_BLOCK = 1.0
"""Minimum back-off after a 429, in seconds; calls that were in flight together count as one burst."""

_MAX_QUOTA_WINDOW = 86_400.0
"""Seconds of the longest window that a server may name; a longer one is a mistake."""

_SHRINK_FACTOR = 0.8
"""The part of a capacity that is left after a 429."""


class AdaptiveLimit(msgspec.Struct, array_like=True):
    """What is left of a limit after refusals. All times are those of one clock, whichever it is.

    It is a Struct, because the processes that share a limit keep it in a store.

    Attributes:
        capacity: Calls a window now.
        unreduced: Calls a window as documented or set.
        ceiling: Calls a window as far as the capacity may grow back.
        window: Seconds until a slot comes back; longer than `base_window` where the server allows less than one call
            in that.
        base_window: Seconds until a slot comes back while no quota is adopted.
        nominal: Seconds of the window as documented, to which the other two add what the clocks may differ by.
        blocked_until: The time from which calls may be sent again.
        forget_at: The time at which the quota is forgotten.
        grow_at: The time at which the capacity grows.
        named: The quota that the server named last, until it is forgotten: calls, and its window in seconds; or empty.
    """

    capacity: int
    unreduced: int
    ceiling: int
    window: float
    base_window: float
    nominal: float
    blocked_until: float = -math.inf
    forget_at: float = -math.inf
    grow_at: float = -math.inf
    named: tuple[float, ...] = ()

    @classmethod
    def of(cls, limit: int | None, window: float, *, drift: float = CLOCK_DRIFT) -> Self:
        """Return a limit that is whole.

        Args:
            limit: Calls a window; None for no limit.
            window: Seconds.
            drift: Seconds that are added to the window for the clocks.
        """
        calls = sys.maxsize if limit is None else limit
        return cls(calls, calls, calls, window + drift, window + drift, window)

    @property
    def quota(self) -> tuple[int, float] | None:
        """The quota that the server named last, until it is forgotten: calls, and its window in seconds."""
        return (int(self.named[0]), self.named[1]) if self.named else None

    def change_limit(self, limit: int) -> None:
        """Keep to another limit; what was learned from refusals stays."""
        is_unreduced = self.is_unreduced
        self.unreduced = limit
        self.ceiling = min(self.ceiling, limit) if self.named else limit
        self.capacity = limit if is_unreduced else min(self.capacity, self.ceiling)

    @property
    def is_unreduced(self) -> bool:
        """Whether the limit is whole now; it may be blocked all the same."""
        return self.capacity == self.unreduced and not self.named

    def is_unreduced_at(self, now: float) -> bool:
        """Return whether the limit will be whole at a time if no refusal comes before it."""
        since = now - self.blocked_until
        return self.is_unreduced or since >= (FORGOTTEN_AFTER + _GROWTH + 1) * self.base_window

    def on_rate_limited(self, now: float, retry_after: float | None, quota: tuple[int, float] | None) -> None:
        """Block the operation after a 429, and lower its limit.

        Args:
            now: The time.
            retry_after: Seconds to stay blocked; None for a whole window.
            quota: The limit that the server named.
        """
        if self.unreduced == sys.maxsize:
            if retry_after is not None:
                self.blocked_until = max(self.blocked_until, now + max(retry_after, _MIN_BLOCK))
            return
        if quota is not None:
            self._adopt_quota(*quota)
        if now >= self.blocked_until:
            # Once a burst: fifty calls that are refused together prove no more than one does.
            self.capacity = max(1, int(self.capacity * _SHRINK_FACTOR))
        block = self.base_window if retry_after is None else max(retry_after, _MIN_BLOCK)
        self.blocked_until = max(self.blocked_until, now + block)
        self.grow_at = self.blocked_until + self.base_window
        self.forget_at = self.blocked_until + FORGOTTEN_AFTER * self.base_window

    def expire(self, now: float) -> None:
        """Forget the quota and grow the capacity back, as far as that is due."""
        if self.named and now >= self.forget_at:
            self.named, self.ceiling, self.window = (), self.unreduced, self.base_window
            self.grow_at = self.forget_at + self.base_window
        while self.capacity < self.ceiling and now >= self.grow_at:
            self.capacity = min(self.ceiling, self.capacity + max(1, self.unreduced // _GROWTH))
            self.grow_at += self.base_window

    def next_change(self) -> float:
        """Return the time at which `expire` will change something; infinity if the limit is whole."""
        grow_at = self.grow_at if self.capacity < self.ceiling else math.inf
        return min(grow_at, self.forget_at) if self.named else grow_at

    def estimate_wait(
        self, now: float, cooldowns: Sequence[float], position: int, interactive: int, *, reserved: int, free: int
    ) -> float:
        """Return the seconds until a call's slot, if all goes as fast as it can.

        Args:
            now: The time.
            cooldowns: When the calls ended whose slots have not come back, ascending.
            position: The call's position in the queue of freed slots, from 1.
            interactive: How many interactive calls wait.
            reserved: How many slots the call must leave free.
            free: How many slots are free; negative where more are used than there are.
        """
        slot, rounds = _find_slot(position, interactive, self.capacity, reserved)
        index, window = slot - free, self.window
        until_free = 0.0 if index < 0 else cooldowns[index] + window - now if index < len(cooldowns) else window
        wait = max(0.0, self.blocked_until - now, until_free) + rounds * window
        # The quota will be forgotten, and with it whatever it makes longer.
        return min(wait, self.forget_at - now) if self.named else wait

    def shift(self, seconds: float) -> None:
        """Go on by another clock, which is ahead by so many seconds."""
        self.blocked_until += seconds
        self.forget_at += seconds
        self.grow_at += seconds

    def _adopt_quota(self, calls: int, seconds: float) -> None:
        """Keep to a limit that the server named, where it is lower than ours.

        A limit over another window is kept by keeping its share in each of ours. Over a shorter window that does not
        prevent its bursts; a call that is refused for one waits and is sent again. Of two quotas that are named one
        after the other both are kept to, for either may be the wrong one, and both are forgotten.
        """
        if not 0 < seconds <= _MAX_QUOTA_WINDOW or calls < 0:
            return
        whole = self.nominal
        share = calls * int(whole / seconds) if seconds <= whole else calls // math.ceil(seconds / whole)
        window = self.base_window
        if share < 1:
            share, window = 1, max(self.base_window, seconds / max(1, calls) + self.base_window - whole)
        if share >= self.ceiling and window <= self.window:
            return
        self.ceiling, self.window = min(self.ceiling, share), max(self.window, window)
        self.capacity = min(self.capacity, self.ceiling)
        self.named = (calls, seconds)


def _find_slot(position: int, interactive: int, capacity: int, reserved: int) -> tuple[int, int]:
    """Return which of the freed slots a call gets, from 0, and after how many whole rounds of them.

    Args:
        position: The call's position in the queue of freed slots, from 1.
        interactive: How many interactive calls wait.
        capacity: How many slots there are.
        reserved: How many of them the call must leave free.
    """
    rounds = 0
    if position > capacity + interactive:
        # Once the interactive calls are through, the reserve stays free, and only the other slots go round.
        rounds = -((capacity + interactive - position) // (capacity - reserved))
        position -= rounds * (capacity - reserved)
    if position > capacity:
        more = -((capacity - position) // capacity)
        rounds, position = rounds + more, position - more * capacity
    return position - 1, rounds
