"""The event loop that limiters belong to: one at a time, and another takes over when that one is out of use."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable
from typing import Protocol

from bms_async.errors import ConfigurationError

_SAME_CLOCK = 5.0
"""Seconds by which the time of a loop that runs on the machine's clock may differ from it: uvloop's is that of its last
pass."""


class LoopBound(Protocol):
    """A limiter, as its home sees it."""

    @property
    def is_waited_for(self) -> bool:
        """Whether calls wait in it."""
        ...

    def rebind(self, loop: asyncio.AbstractEventLoop, shift: float) -> None:
        """Go on on another loop, whose clock is so many seconds ahead."""
        ...

    def invalidate_fast_path(self) -> None:
        """Let no call go without a look at the loop."""
        ...


def has_own_clock(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether a loop's time is not the machine's, as in tests where it jumps."""
    return abs(loop.time() - time.monotonic()) > _SAME_CLOCK


def run_on(loop: asyncio.AbstractEventLoop, function: Callable[[], None]) -> None:
    """Call a function on a loop: at once, unless that runs on another thread."""
    try:
        here = asyncio.get_running_loop() is loop
    except RuntimeError:
        here = False
    if loop.is_running() and not here:
        # It may have been closed by now, and then nobody minds.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(function)
            return
    function()


class _RebindLock:
    """The lock under which homes move, one at a time."""

    __slots__ = ("lock",)

    def __init__(self) -> None:
        self.renew()

    def renew(self) -> None:
        """Take another lock: a child process has a copy of this one, which nobody may ever let go there."""
        self.lock = threading.Lock()


_rebind_lock = _RebindLock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_rebind_lock.renew)


class LoopBinding:
    """The event loop of some limiters.

    Another loop is refused before anything is changed, as long as calls wait on this one, or it runs and has not been
    left by the last client that was open on it. A loop that is closed, or stands without anybody waiting on it (as
    between two `run_until_complete`), is taken over from: what is used stays used. A child process takes over at once.

    Attributes:
        loop: It; None before the first use.
    """

    __slots__ = ("_bound_objects", "_has_own_clock", "_is_left", "_number", "_process", "_users", "loop")

    def __init__(self) -> None:
        self.loop: asyncio.AbstractEventLoop | None = None
        self._bound_objects: list[LoopBound] = []
        self._process = os.getpid()
        self._number = self._users = 0
        self._is_left = self._has_own_clock = False

    def add(self, lodger: LoopBound) -> None:
        """Have it told when the loop is another one."""
        self._bound_objects.append(lodger)

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
        """Return the running loop, for a call that is to be let through.

        Raises:
            ConfigurationError: The limiters are in use on another one.
        """
        loop = self.bind()
        self._is_left = False
        return loop

    def add_user(self) -> int:
        """Count a client in that is opened; what is returned is for `remove_user`.

        Raises:
            ConfigurationError: The limiters are in use on another event loop.
        """
        self.use()
        self._users += 1
        return self._number

    def remove_user(self, number: int) -> None:
        """Count a client out that was closed, on this loop or on one that was left long since."""
        if number != self._number:
            return
        self._users -= 1
        if not self._users:
            self._is_left = True
            for each in self._bound_objects:
                each.invalidate_fast_path()

    def now(self) -> float:
        """Return the time by the clock that all moments are told in, on any thread."""
        return self.loop.time() if self.loop is not None and self._has_own_clock else time.monotonic()

    def _rebind(self, loop: asyncio.AbstractEventLoop) -> None:
        with _rebind_lock.lock:
            former = self.loop
            if former is loop:
                return
            self._check(former)
            has_own_clock_now = has_own_clock(loop)
            # Where both go by the machine's clock there is nothing to translate, and a loop that is closed may not
            # tell the time any more.
            foreign = former is not None and (has_own_clock_now or self._has_own_clock)
            shift = loop.time() - former.time() if foreign and former is not None else 0.0
            for each in self._bound_objects:
                each.rebind(loop, shift)
            self.loop, self._has_own_clock, self._process = loop, has_own_clock_now, os.getpid()
            self._number += 1
            self._users = 0
            self._is_left = False

    def _check(self, former: asyncio.AbstractEventLoop | None) -> None:
        if former is None or former.is_closed() or self._process != os.getpid():
            return
        waits = any(each.is_waited_for for each in self._bound_objects)
        if waits or (former.is_running() and not self._is_left):
            how = "calls wait" if waits else "they are in use"
            raise ConfigurationError(
                f"Limits: they belong to one event loop at a time, and {how} on another one; hand the coroutine to "
                "that loop by asyncio.run_coroutine_threadsafe(), close it if it is not needed any more, or give the "
                "clients of this loop limits of their own, limits=Limits({...}) with their part of the account's calls"
            )
