"""The event loop that limiters belong to: one at a time.

Guarantee (R1): what was used on one event loop stays used on the next, and two loops never give out slots of the same
limits at the same time. A second loop gets a `ConfigurationError` before anything is changed.

How: the limiters of one `Limits` share a `LoopBinding`. It moves to another loop only where the former one is surely
out of use: closed, or stopped with no call waiting on it (as between two `run_until_complete`), or left by the last
client that was open on it, or inherited by a child process. Moving translates all times where one of the loops has a
clock of its own, and moves are serialized by a lock.

The fast path of a limiter skips this check, because asking for the running loop costs a system call: it compares thread
ids instead. So the last client that leaves a loop invalidates the fast path of every limiter.

Rejected: one count for several loops. It would need a lock at each call, and one loop would have to wake the waiters of
another.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol
from weakref import WeakKeyDictionary

from bms_async.errors import ConfigurationError

_SAME_CLOCK = 5.0
"""Seconds by which a loop on the machine's clock may differ from it: uvloop's time is that of its last iteration."""


class LoopBound(Protocol):
    """A limiter, as its binding sees it."""

    @property
    def has_waiters(self) -> bool:
        """Whether calls wait for a slot of it."""
        ...

    def rebind(self, loop: asyncio.AbstractEventLoop, shift: float) -> None:
        """Go on on another loop, whose clock is ahead by so many seconds."""
        ...

    def invalidate_fast_path(self) -> None:
        """Have the next call check the loop."""
        ...


# What was found at first sight: a clock that jumps may one day show the machine's time by chance.
_own_clocks: WeakKeyDictionary[asyncio.AbstractEventLoop, bool] = WeakKeyDictionary()


def has_own_clock(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether a loop's time is not the machine's, as in tests on a virtual clock."""
    found = _own_clocks.get(loop)
    if found is None:
        found = _own_clocks[loop] = abs(loop.time() - time.monotonic()) > _SAME_CLOCK
    return found


def run_on(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Call a function on a loop: now, unless the loop runs on another thread."""
    try:
        here = asyncio.get_running_loop() is loop
    except RuntimeError:
        here = False
    if loop.is_running() and not here:
        # The loop may have been closed meanwhile; then the function is called here.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(function)
            return
    function()


class _RebindLock:
    """The lock that serializes moves between loops."""

    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Replace the lock in a child process: the copy of one that was held at the fork is never released."""
        self.lock = threading.Lock()


_rebind_lock = _RebindLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_rebind_lock.renew)


class LoopBinding:
    """The event loop of some limiters.

    Attributes:
        loop: The loop; None before the first use.
    """

    __slots__ = ("_generation", "_has_own_clock", "_is_left", "_limiters", "_process", "_users", "loop")

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._limiters: list[LoopBound] = []
        self._process = os.getpid()
        self._generation = self._users = 0
        self._is_left = self._has_own_clock = False

    def add(self, limiter: LoopBound) -> None:
        """Add a limiter, which is rebound with all others."""
        self._limiters.append(limiter)

    def bind(self) -> asyncio.AbstractEventLoop:
        """Return the running loop.

        Raises:
            ConfigurationError: The limiters are in use on another one.
        """
        loop = asyncio.get_running_loop()
        if loop is not self.loop:
            self._rebind(loop)
        return loop

    def use(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, and note that calls are made on it.

        Raises:
            ConfigurationError: The limiters are in use on another one.
        """
        loop = self.bind()
        self._is_left = False
        return loop

    def add_user(self) -> int:
        """Count a client that is opened; return the generation of the binding, for `remove_user`.

        Raises:
            ConfigurationError: The limiters are in use on another event loop.
        """
        self.use()
        self._users += 1
        return self._generation

    def remove_user(self, generation: int) -> None:
        """Count a client that is closed; one of an earlier loop is not counted any more."""
        if generation != self._generation:
            return
        self._users -= 1
        if not self._users:
            self._is_left = True
            for limiter in self._limiters:
                limiter.invalidate_fast_path()

    def now(self) -> float:
        """Return the time by the clock of the limiters, on any thread."""
        return self.loop.time() if self.loop is not None and self._has_own_clock else time.monotonic()

    def _rebind(self, loop: asyncio.AbstractEventLoop) -> None:
        with _rebind_lock.lock:
            former = self.loop
            if former is loop:
                return
            self._check_unused(former)
            owns_clock = has_own_clock(loop)
            # Two loops on the machine's clock agree on the time, and a closed one may not give it any more.
            shift = 0.0
            if former is not None and (owns_clock or self._has_own_clock):
                shift = loop.time() - former.time()
            for limiter in self._limiters:
                limiter.rebind(loop, shift)
            self.loop, self._has_own_clock, self._process = loop, owns_clock, os.getpid()
            self._generation += 1
            self._users = 0
            self._is_left = False

    def _check_unused(self, former: asyncio.AbstractEventLoop | None) -> None:
        if former is None or former.is_closed() or self._process != os.getpid():
            return
        has_waiters = any(limiter.has_waiters for limiter in self._limiters)
        if has_waiters or (former.is_running() and not self._is_left):
            use = "calls wait" if has_waiters else "they are in use"
            raise ConfigurationError(
                f"Limits: they belong to one event loop at a time, and {use} on another one; hand the coroutine to "
                "that loop by asyncio.run_coroutine_threadsafe(), or close that loop if it is not needed any more, or "
                "give the clients of this loop their own part of the account's calls, limits=Limits({...})"
            )
