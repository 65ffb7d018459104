"""The one task of an account that speaks to the store of its shared limits.

Guarantee: nothing that a caller does interrupts a question; and the task neither ends nor hangs without a word while a
client is open.

How: the task has a connection of its own, over which it holds one `Conversation` after the other. Whatever the store
raises costs the connection, and the next conversation begins with a new one. While the store is away nothing is
granted: calls wait, or fail by their `max_wait`. That is logged once, and once when it is over.

Rejected: speaking to the store in the caller's task. A cancelled caller would leave a connection with an answer in it.
"""

from __future__ import annotations

import asyncio
import logging
import math
import os
from collections.abc import Callable
from random import Random
from weakref import WeakSet

import anyio

from bms_async._clock import steady_clock, steady_time
from bms_async._foreign import call_foreign
from bms_async._tasks import BackgroundTasks
from bms_async.errors import ConfigurationError
from bms_async.limits.loop_binding import LoopBinding, has_own_clock
from bms_async.limits.statistics import SharedStatistics

from .conversation import GOODBYE, Conversation, bounded
from .limiter import SharedLimiter
from .messages import Terms
from .outage import Outage
from .store import Store, StoreError

_log = logging.getLogger("bms_async.limits")

_FIRST_PAUSE = 0.1
_LONGEST_PAUSE = 2.0
_PAUSE_REFUSED = 5.0
"""Seconds between attempts: at first, at most, and where trying again will hardly help."""


class Exchange:
    """What an account's limiters share: the store, the task that asks it, and what is known of both.

    Args:
        account: The name of the account; None for that of the first client, which is known once its project is.
        make_store: Makes the store; called again in a child process.
        terms: The times that all holders agree on.
        without_store: The share of each limit that is used while the store is away; None for none.

    Attributes:
        is_optional: Whether the store can be done without: if it refuses, or fails twice in a row, this process goes on
            with its share at once, and asks it no more. Who sets it says so to the user.
        is_of_project: Whether the account is that of a client's project.
    """

    def __init__(
        self, account: str | None, make_store: Callable[[], Store], terms: Terms, *, without_store: float | None = None
    ) -> None:
        self._without_store = without_store
        self.is_optional = False
        self.is_of_project = account is None
        self._make_store = make_store
        self._store = make_store()
        self.terms = terms
        self._limiters: list[SharedLimiter] = []
        self._tasks = BackgroundTasks("bms_async shared limits")
        self._task: asyncio.Task[None] | None = None
        self._random = Random()  # noqa: S311 - jitter, not a secret
        self._loop: asyncio.AbstractEventLoop | None = None
        self._has_own_clock = False
        self._first: asyncio.Future[None] | None = None
        self._conversation = Conversation(account, self._limiters, terms, self.clock, self._on_answered)
        self._outage = Outage()
        self._is_alone = self._has_said_alone = False
        _exchanges.add(self)

    def __repr__(self) -> str:
        state = "open" if self._tasks.is_open else "closed"
        return f"<Exchange {state}, account {self.account!r} in {self._store.label}>"

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
    def account(self) -> str | None:
        """The name of the account; None until it is known."""
        return self._conversation.account

    def note_account(self, name: str) -> None:
        """Name the account after a client's project, unless it has a name of its own.

        Args:
            name: The name of the project's account.

        Raises:
            ConfigurationError: The account is that of another project.
        """
        if not self.is_of_project or name == self.account:
            return
        if self.account is not None:
            raise ConfigurationError(
                f"Limits.shared: these limits are those of {self.account}, and the client's project is {name}; make"
                " Limits for each project, or name by account=... what the cloud counts together"
            )
        self._conversation.account = name
        self.wake(-math.inf)

    @property
    def statistics(self) -> SharedStatistics:
        """What is known of the store and the account."""
        loop, conversation = self._loop, self._conversation
        last = conversation.last
        now = 0.0 if loop is None or loop.is_closed() else loop.time()
        return SharedStatistics(
            account=self.account,
            store=self._store.label,
            unreachable_for=self._outage.lasts(now),
            error=self._outage.error,
            is_alone=self._is_alone,
            closed_for=self.closed_for,
            holders=0 if last is None else last.holders,
            waiting_elsewhere=0 if last is None else last.waiting,
            questions=conversation.questions,
        )

    @property
    def calls(self) -> int:
        """How many calls of this process got a slot, in all."""
        return sum(limiter.calls for limiter in self._limiters)

    @property
    def closed_for(self) -> float:
        """Seconds until the account is open, by the last answer to any of its limiters."""
        loop, conversation = self._loop, self._conversation
        if conversation.last is None or loop is None or loop.is_closed():
            return 0.0
        return max(0.0, conversation.last.closed_for - (loop.time() - conversation.last_at))

    @property
    def trouble(self) -> str | None:
        """Why nothing is granted, if the store does not answer."""
        error = self._outage.error
        return None if error is None else f"the store of its shared limit does not answer ({error})"

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
        if self.account is None:
            raise ConfigurationError(
                "Limits.shared: expected the project's id to be known; make a call of the client first, or name the"
                " account: account=..."
            )

    def wake(self, at: float) -> None:
        """Ask at a time by the loop's clock, if not earlier."""
        # Slots may end after their loop was closed, on which nobody can be woken.
        if self._loop is not None and not self._loop.is_closed():
            self._conversation.wake(at)

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
            self._task = self._first = None
        await self._tasks.open()
        try:
            while self._conversation.is_leaving and self._task is not None and not self._task.done():
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
        self._conversation.begin()
        self._outage.begin()
        self._has_said_alone = False
        self._leave_shares()
        self._first = loop.create_future()
        self._task = self._tasks.start(self._run, name="bms_async shared limits")
        self._task.add_done_callback(self._on_ended)

    def _on_ended(self, task: asyncio.Task[None]) -> None:
        """Start the task again if it ended though a client is open: somebody cancelled it, or we made a mistake."""
        if not self._is_needed(task):
            return
        _log.error("the task that asks for the shared limits of account %r ended: it is started again", self.account)
        task.get_loop().call_later(_PAUSE_REFUSED, self._start_again, task)

    def _start_again(self, task: asyncio.Task[None]) -> None:
        if self._is_needed(task):
            self._start()

    def _is_needed(self, task: asyncio.Task[None]) -> bool:
        return task is self._task and self._tasks.is_open and not self._conversation.is_leaving

    async def aclose(self) -> None:
        """Count one client less; after the last one hand all back, and close the connection."""
        task, tasks = self._task, self._tasks
        # A store that hangs is not waited for where nothing is to be handed back.
        is_last = tasks.open_count == 1 and tasks.loop is asyncio.get_running_loop() and not tasks.has_current_task
        try:
            if (
                is_last
                and task is not None
                and not task.done()
                and any(limiter.has_to_leave for limiter in self._limiters)
            ):
                self._conversation.leave()
                with anyio.CancelScope(shield=True):
                    await asyncio.wait({task}, timeout=2 * GOODBYE)
        finally:
            await tasks.aclose()

    async def _run(self) -> None:
        """Ask until the last client leaves, whatever fails."""
        pause, failures = _FIRST_PAUSE, 0
        loop, conversation = asyncio.get_running_loop(), self._conversation
        is_collected = False
        try:
            while not conversation.is_leaving:
                answered = conversation.questions
                try:
                    await bounded("the store's open()", self._store.open)
                    self._note_opened(loop.time())
                    await conversation.hold(self._store)
                except Exception as error:  # noqa: BLE001 - stores may raise anything, and none of it ends the asking
                    self._note_failure(error, loop.time())
                    refused = isinstance(error, StoreError)
                else:
                    return
                await self._close_store()
                failures = 1 if conversation.questions > answered else failures + 1
                if self.is_optional and (refused or failures > 1):
                    await self._do_without()
                    return
                self._go_alone(loop.time())
                pause = _FIRST_PAUSE if conversation.questions > answered else min(2 * pause, _LONGEST_PAUSE)
                await conversation.pause((_PAUSE_REFUSED if refused else pause) * self._random.uniform(0.5, 1.0))
        except GeneratorExit:
            # Its loop was closed, and what is here may be another loop's by now.
            is_collected = True
            raise
        finally:
            if not is_collected:
                if self._first is not None and not self._first.done():
                    self._first.cancel()
                with anyio.CancelScope(shield=True):
                    await self._close_store()

    def _on_answered(self) -> None:
        self._has_said_alone = False
        self._outage.note_answered(asyncio.get_running_loop().time(), label=self._store.label)

    async def _close_store(self) -> None:
        try:
            with anyio.move_on_after(GOODBYE):
                await call_foreign("the store's aclose()", self._store.aclose)
        except Exception:  # noqa: BLE001 - the connection is given up in any case
            _log.debug("closing the store of the shared limits failed", exc_info=True)

    def _go_alone(self, now: float) -> None:
        """Go on with this process's share, where that is wanted, once no call of the others can count any more.

        What counts is since when the store is away: others may have been answered until then, however long ago this
        process last had something to ask.
        """
        share, lasts = self._without_store, self._outage.lasts(now)
        if share is None or lasts is None or lasts < self.terms.closed:
            return
        self._is_alone = True
        if not self._has_said_alone:
            self._has_said_alone = True
            _log.warning("this process goes on with its share of the shared limits, %g of each", share)
        for limiter in self._limiters:
            limiter.go_alone(share)

    def _leave_shares(self) -> None:
        self._is_alone = False
        for limiter in self._limiters:
            limiter.rejoin()

    async def _do_without(self) -> None:
        """Go on without the store, and with what is known to be used, until the last client leaves."""
        self._is_alone = True
        for limiter in self._limiters:
            self._have_alone(limiter)
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        await self._conversation.pause(math.inf)

    def _have_alone(self, limiter: SharedLimiter) -> None:
        limiter.go_alone(self._without_store or 1.0, spent=limiter.snapshot())

    def _note_opened(self, now: float) -> None:
        outage = self._outage
        lasted = outage.lasts(now)
        was_alone = self._is_alone or (lasted is not None and outage.silence(now) >= self.terms.closed)
        self._leave_shares()
        if self._without_store is not None and was_alone and not self.is_optional:
            # Others may have gone on with their shares, even where this process had no reason to.
            for limiter in self._limiters:
                limiter.settle(now)
        if all(limiter.due(now) > now for limiter in self._limiters):
            outage.note_reached()
        if self._first is not None and not self._first.done():
            self._first.set_result(None)
        self._first = None

    def _note_failure(self, error: Exception, now: float) -> None:
        refused, is_raised = isinstance(error, StoreError), False
        if self._first is not None and not self._first.done() and not self.is_optional:
            if refused:
                is_raised = True
                self._first.set_exception(ConfigurationError(f"Limits.shared: {error}"))
                # Its waiter may have been cancelled.
                self._first.exception()
            else:
                self._first.set_result(None)
        # Where it is raised it needs no word in the log.
        level = logging.DEBUG if self.is_optional or is_raised else logging.WARNING
        self._outage.note_failure(error, now, label=self._store.label, refused=refused, level=level)

    def renew(self) -> None:
        """Begin anew in a child process, which has none of the parent's slots, and must not touch its connection."""
        _left_to_the_parent.append((self._store, self._tasks, self._task))
        self._store = self._make_store()
        self._tasks, self._task = BackgroundTasks("bms_async shared limits"), None
        self._first = None
        self._is_alone = False
        self._outage.begin()
        for limiter in self._limiters:
            limiter.renew()


_exchanges: WeakSet[Exchange] = WeakSet()
# Freeing these would close what belongs to the parent process.
_left_to_the_parent: list[object] = []


def _renew_all() -> None:
    for exchange in list(_exchanges):
        exchange.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_all)
