"""The one task of an account that speaks to the store of its shared limits.

Guarantee: a question is sent again, as it was, until it is answered; nothing that a caller does interrupts it; and the
task neither ends nor hangs without a word while a client is open.

How: all limiters of an account leave their questions to this task, which has a connection of its own. A question that
takes too long, or fails, costs the connection, and the next one begins with a new one. While the store is away nothing
is granted: calls wait, or fail by their `max_wait`. That is logged once, and once when it is over. The task sleeps
until the limiters have something to ask, and is woken early only by a limiter whose need comes earlier.

It also looks after the store's clock (`store_clock.py`). If that jumped ahead, slots came back too early, and the
account is closed for as long as an account is whose past is not known.

Rejected: speaking to the store in the caller's task. A cancelled caller would leave a connection with an answer in it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Awaitable, Callable
from random import Random
from typing import TypeVar, TypeVarTuple
from weakref import WeakSet

import anyio

from bms_async._foreign import call_foreign
from bms_async._tasks import BackgroundTasks
from bms_async.errors import ConfigurationError
from bms_async.limits.loop_binding import LoopBinding, has_own_clock
from bms_async.limits.statistics import SharedStatistics

from .clock import steady_clock, steady_time
from .limiter import SharedLimiter
from .messages import Answer, Terms
from .store import Store, StoreError
from .store_clock import StoreClock

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_log = logging.getLogger("bms_async.limits")

_PATIENCE = 5.0
"""Seconds that the store has for an answer; a lease is longer than two of them."""

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_PAUSE_REFUSED = 5.0
"""Seconds between attempts: at first, at most, and where trying again will hardly help."""

_GOODBYE = 2.0
"""Seconds that handing back has when the last client closes; after that the lease runs out."""


class Exchange:
    """What an account's limiters share: the store, the task that asks it, and what is known of both.

    Args:
        account: The name of the account.
        make_store: Makes the store; called again in a child process.
        terms: The times that all holders agree on.
        without_store: The share of each limit that is used while the store is away; None for none.

    Attributes:
        is_optional: Whether the store can be done without: if it refuses, or fails twice in a row, this process goes on
            with its share at once, and asks it no more. Who sets it says so to the user.
    """

    def __init__(
        self, account: str, make_store: Callable[[], Store], terms: Terms, *, without_store: float | None = None
    ) -> None:
        self._without_store = without_store
        self.is_optional = False
        self._account = account
        self._make_store = make_store
        self._store = make_store()
        self.terms = terms
        self._limiters: list[SharedLimiter] = []
        self._tasks = BackgroundTasks("bms_async shared limits")
        self._task: asyncio.Task[None] | None = None
        self._random = Random()  # noqa: S311 - jitter, not a secret
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_own_clock = False
        self._wakeup: asyncio.Event | None = None
        self._wake_at = -math.inf
        self._first: asyncio.Future[None] | None = None
        self._is_leaving = False
        self._store_clock = StoreClock(terms.window)
        self._last: Answer | None = None
        self._last_at = self._away_since = -math.inf
        self._error: str | None = None
        # Whether it was logged that the store is away. Opening it may succeed where asking fails each time.
        self._has_warned = False
        self._questions = 0
        # When the store was last there for sure, by the loop's clock.
        self._contact_at = -math.inf
        self._is_alone = False
        _exchanges.add(self)

    def __repr__(self) -> str:
        state = "open" if self._tasks.is_open else "closed"
        return f"<Exchange {state}, account {self._account!r} in {self._store.label}>"

    def make_limiter(self, name: str, limit: int, *, reserve: float, binding: LoopBinding) -> SharedLimiter:
        """Return a new limiter, whose questions are asked from now on."""
        limiter = SharedLimiter(name, limit, asker=self, terms=self.terms, reserve=reserve, binding=binding)
        self._limiters.append(limiter)
        if self.is_optional and self._is_alone:
            self._have_alone(limiter)
        return limiter

    @property
    def store(self) -> Store:
        """The store, for who looks at it while no client is open."""
        return self._store

    @property
    def account(self) -> str:
        """The name of the account."""
        return self._account

    @property
    def statistics(self) -> SharedStatistics:
        """What is known of the store and the account."""
        loop, last = self._loop, self._last
        now = 0.0 if loop is None or loop.is_closed() else loop.time()
        return SharedStatistics(
            account=self._account,
            store=self._store.label,
            unreachable_for=None if self._error is None else max(0.0, now - self._away_since),
            error=self._error,
            is_alone=self._is_alone,
            closed_for=0.0 if last is None else max(0.0, last.closed_for - (now - self._last_at)),
            holders=0 if last is None else last.holders,
            waiting_elsewhere=0 if last is None else last.waiting,
            questions=self._questions,
        )

    def clock(self) -> float:
        """Return the time that leases are counted by: that of the machine, which goes on while it sleeps."""
        loop = self._loop
        return loop.time() if self._has_own_clock and loop is not None else steady_time()

    @property
    def bare_clock(self) -> Callable[[], float]:
        """What `clock` calls while the event loop is the same."""
        loop = self._loop
        return loop.time if self._has_own_clock and loop is not None else steady_clock

    def check_running(self) -> None:
        """Check that somebody asks.

        Raises:
            ConfigurationError: No client that has these limits is open.
        """
        if not self._tasks.is_open or self._task is None or self._task.done():
            raise ConfigurationError(
                "Limits.shared: expected an open client that was given these limits, for it asks the store; "
                "make calls inside `async with`"
            )

    def wake(self, at: float) -> None:
        """Ask at a time by the loop's clock, if not earlier."""
        if at < self._wake_at and self._wakeup is not None:
            self._wake_at = at
            self._wakeup.set()

    async def open(self) -> None:
        """Count one more client; the first one starts the task, and waits until the store answered or failed.

        Raises:
            ConfigurationError: The store refuses to be used, and trying again will not help.
            ClientClosedError: The limits are in use on another event loop.
        """
        loop = self._tasks.loop
        if loop is not None and loop.is_closed():
            # Its task and its connection are gone with it.
            self._tasks, self._store = BackgroundTasks("bms_async shared limits"), self._make_store()
        await self._tasks.open()
        try:
            while self._is_leaving and self._task is not None and not self._task.done():
                # The last client before this one is being closed.
                await asyncio.wait({self._task})
            if self._task is None or self._task.done():
                self._start()
            if self._first is not None:
                await asyncio.shield(self._first)
        except BaseException:
            await self.aclose()
            raise

    def _start(self) -> None:
        self._loop = loop = asyncio.get_running_loop()
        self._has_own_clock = has_own_clock(loop)
        self._wakeup, self._first = asyncio.Event(), loop.create_future()
        self._is_leaving = False
        self._contact_at = loop.time()
        self._task = self._tasks.start(self._run, name="bms_async shared limits")

    async def aclose(self) -> None:
        """Count one client less; after the last one hand all back, and close the connection."""
        task = self._task
        # A store that hangs is not waited for where nothing is to be handed back.
        if (
            self._tasks.open_count == 1
            and task is not None
            and not task.done()
            and not self._tasks.has_current_task
            and any(limiter.has_to_leave for limiter in self._limiters)
        ):
            self._is_leaving = True
            self._wake_at = math.inf
            self.wake(-math.inf)
            with anyio.CancelScope(shield=True):
                await asyncio.wait({task}, timeout=2 * _GOODBYE)
        await self._tasks.aclose()

    async def _run(self) -> None:
        """Ask until the last client leaves, whatever fails."""
        pause, failures = _FIRST_PAUSE, 0
        try:
            while not self._is_leaving:
                answered = self._questions
                try:
                    await self._bounded("the store's open()", self._store.open)
                    self._note_success()
                    for limiter in self._limiters:
                        limiter.rejoin(asyncio.get_running_loop().time())
                    await self._serve()
                except Exception as error:  # noqa: BLE001 - stores may raise anything, and none of it ends the asking
                    self._note_failure(error)
                    refused = isinstance(error, StoreError)
                else:
                    return
                await self._close_store()
                failures = 1 if self._questions > answered else failures + 1
                if self.is_optional and (refused or failures > 1):
                    await self._do_without()
                    return
                self._go_alone()
                pause = _FIRST_PAUSE if self._questions > answered else min(2 * pause, _LONGEST_PAUSE)
                await self._sleep((_PAUSE_REFUSED if refused else pause) * self._random.uniform(0.5, 1.0))
        finally:
            if self._first is not None and not self._first.done():
                self._first.cancel()
            with anyio.CancelScope(shield=True):
                await self._close_store()

    async def _serve(self) -> None:
        """Ask whatever there is to ask, over one connection, until the last client leaves or the store fails."""
        loop = asyncio.get_running_loop()
        until = math.inf
        while True:
            if self._is_leaving:
                until = min(until, loop.time() + _GOODBYE)
                if loop.time() >= until:
                    return
            else:
                await self._wait_until_due(loop)
            now = loop.time()
            batch = [
                (limiter, limiter.ask(now, leaving=self._is_leaving))
                for limiter in self._limiters
                if (limiter.has_to_leave if self._is_leaving else limiter.due(now) <= now)
            ]
            if not batch:
                if self._is_leaving:
                    return
                continue
            sent = self.clock()
            answers = await self._bounded(
                "the store's ask()",
                self._store.ask,
                self._account,
                [(limiter.name, question) for limiter, question in batch],
            )
            self._questions += len(batch)
            if self._has_warned:
                self._has_warned = False
                _log.warning("the store of the shared limits at %s answers again", self._store.label)
            is_steady = self._store_clock.goes_on(answers[-1].now, sent=sent, received=self.clock())
            now = loop.time()
            self._last, self._last_at = answers[-1], now
            self._contact_at = now
            for (limiter, question), answer in zip(batch, answers, strict=True):
                limiter.take_answer(answer, now, trusted=is_steady)
                if question.leaving:
                    limiter.begin_anew()
            if not is_steady:
                self._distrust()

    async def _wait_until_due(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sleep until a limiter has something to ask."""
        wakeup = self._wakeup
        if wakeup is None:
            return
        while not self._is_leaving:
            now = loop.time()
            self._wake_at = due = min((limiter.due(now) for limiter in self._limiters), default=math.inf)
            if due <= now:
                # Callers that come in the same moment are asked for together.
                await asyncio.sleep(0)
                break
            wakeup.clear()
            timer = None if due == math.inf else loop.call_at(due, wakeup.set)
            try:
                await wakeup.wait()
            finally:
                if timer is not None:
                    timer.cancel()
        self._wake_at = -math.inf

    async def _sleep(self, seconds: float) -> None:
        """Pause between two attempts, unless the last client leaves."""
        loop, wakeup = asyncio.get_running_loop(), self._wakeup
        if wakeup is None or self._is_leaving:
            return
        wakeup.clear()
        self._wake_at = -math.inf
        timer = loop.call_later(seconds, wakeup.set)
        try:
            await wakeup.wait()
        finally:
            timer.cancel()

    async def _bounded(self, what: str, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
        """Call the store; a call that takes too long is an error, for its connection may be dead."""
        try:
            with anyio.fail_after(_PATIENCE):
                return await call_foreign(what, function, *args)
        except TimeoutError as error:
            raise TimeoutError(f"{what} took longer than {_PATIENCE:g} s") from error

    async def _close_store(self) -> None:
        try:
            with anyio.move_on_after(_GOODBYE):
                await call_foreign("the store's aclose()", self._store.aclose)
        except Exception:  # noqa: BLE001 - the connection is given up in any case
            _log.debug("closing the store of the shared limits failed", exc_info=True)

    def _go_alone(self) -> None:
        """Go on with this process's share, where that is wanted, once no call of the others can count any more."""
        share, loop = self._without_store, self._loop
        if share is None or loop is None or loop.time() - self._contact_at < self.terms.closed:
            return
        if not self._is_alone:
            self._is_alone = True
            _log.warning("this process goes on with its share of the shared limits, %g of each", share)
        for limiter in self._limiters:
            limiter.go_alone(share)

    async def _do_without(self) -> None:
        """Go on without the store, and with what is known to be used, until the last client leaves."""
        self._is_alone = True
        for limiter in self._limiters:
            self._have_alone(limiter)
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        wakeup = self._wakeup
        while wakeup is not None and not self._is_leaving:
            wakeup.clear()
            self._wake_at = -math.inf
            await wakeup.wait()

    def _have_alone(self, limiter: SharedLimiter) -> None:
        limiter.go_alone(self._without_store or 1.0, spent=limiter.snapshot())

    def _distrust(self) -> None:
        _log.warning(
            "the clock of the store of the shared limits at %s jumped ahead: the account %r is closed for %g s",
            self._store.label,
            self._account,
            self.terms.closed,
        )
        for limiter in self._limiters:
            limiter.distrust()

    def _note_success(self) -> None:
        self._is_alone, self._error = False, None
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        self._first = None

    def _note_failure(self, error: Exception) -> None:
        loop = self._loop
        refused, is_raised = isinstance(error, StoreError), False
        # Stores begin with their address, which the log has already.
        said = str(error).removeprefix(f"{self._store.label}: ")
        text = said if refused else f"{type(error).__name__}: {said}" if said else type(error).__name__
        if self._first is not None and not self._first.done() and not self.is_optional:
            if refused:
                is_raised = True
                self._first.set_exception(ConfigurationError(f"Limits.shared: {error}"))
                # Its waiter may have been cancelled.
                self._first.exception()
            else:
                self._first.set_result(None)
        if not self._has_warned:
            # Where it is raised it needs no word in the log.
            self._has_warned = not is_raised
            self._away_since = 0.0 if loop is None else loop.time()
            _log.log(
                logging.DEBUG if self.is_optional or is_raised else logging.WARNING,
                "the store of the shared limits at %s refuses to be used (%s): calls wait until that is mended"
                if refused
                else "the store of the shared limits at %s does not answer (%s): calls wait until it does",
                self._store.label,
                text,
            )
        self._error = text

    def renew(self) -> None:
        """Begin anew in a child process, which has none of the parent's slots, and must not touch its connection."""
        _left_to_the_parent.append((self._store, self._tasks, self._task))
        self._store = self._make_store()
        self._tasks, self._task = BackgroundTasks("bms_async shared limits"), None
        self._first = None
        for limiter in self._limiters:
            limiter.begin_anew()


_exchanges: WeakSet[Exchange] = WeakSet()
# Freeing these would close what belongs to the parent process.
_left_to_the_parent: list[object] = []


def _renew_all() -> None:
    for exchange in list(_exchanges):
        exchange.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
