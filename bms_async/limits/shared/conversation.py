"""The questions and answers over one connection to the store, from when it is open until it fails or is not needed.

Guarantee: a question is sent again, as it was, until it is answered; no answer is waited for without an end; and
nothing that cannot be an answer is used as one.

How: all limiters leave their questions to this conversation, which asks those together that are due together. In
between it sleeps until the limiters have something to ask, and is woken early only by a limiter whose need comes
earlier. A call of the store that takes too long is an error, for its connection may be dead.

It also looks after the store's clock (`store_clock.py`). If that jumped ahead, slots came back too early, and the
account is closed for as long as an account is whose past is not known.
"""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar, TypeVarTuple

import anyio

from bms_async._foreign import call_foreign

from .limiter import SharedLimiter
from .messages import Answer, Question, Terms
from .store import Store
from .store_clock import StoreClock

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

_log = logging.getLogger("bms_async.limits")

_PATIENCE = 5.0
"""Seconds that the store has for an answer; a lease is longer than two of them."""

GOODBYE = 2.0
"""Seconds that handing back has when the last client closes; after that the lease runs out."""

_MOST_FAREWELLS = 5
"""Rounds of questions that handing back has: one that was open, the last one, and some more should that be answered by
what begins the limiter anew."""


async def bounded(what: str, function: Callable[[*Ts], Awaitable[T]], *args: *Ts) -> T:
    """Call the store; a call that takes too long is an error, for its connection may be dead.

    Raises:
        TimeoutError: It took too long.
        Exception: The store raised it.
    """
    try:
        with anyio.fail_after(_PATIENCE):
            return await call_foreign(what, function, *args)
    except TimeoutError as error:
        raise TimeoutError(f"{what} took longer than {_PATIENCE:g} s") from error


def check_answers(questions: Sequence[Question], answers: Sequence[Answer]) -> None:
    """Check what a store answered, which anybody may have written.

    Raises:
        ValueError: These cannot be the answers to the questions.
    """
    if len(answers) != len(questions):
        raise ValueError(f"expected {len(questions)} answers of the store's ask(), got {len(answers)}")
    for question, answer in zip(questions, answers, strict=True):
        if answer.seq != question.seq:
            raise ValueError(f"expected the answer to question {question.seq} of the store's ask(), got {answer.seq}")
        seconds = (answer.again, answer.closed_for, answer.blocked_for)
        numbers = (*seconds, answer.capacity, answer.used, answer.waiting, answer.holders)
        if not (
            0 <= answer.granted <= question.limit
            and all(0 <= number < math.inf for number in numbers)
            and all(map(math.isfinite, (answer.now, *answer.quota)))
            and len(answer.quota) in {0, 3}
        ):
            raise ValueError(f"expected an answer of the store's ask() with possible numbers, got {answer}")


class Conversation:
    """What is said to a store, one connection after the other.

    Args:
        account: The name of the account; None until it is known, before which nothing is asked.
        limiters: Those that ask; others may be added to the list.
        terms: The times that all holders agree on.
        clock: The time that leases are counted by, in seconds.
        on_answered: Called after each exchange of questions and answers.

    Attributes:
        account: The name of the account; whoever sets it later wakes the conversation.
        is_leaving: Whether the last client leaves, so that all is handed back.
        questions: How many questions were answered, in all.
        last: The last answer; None before the first one.
        last_at: When it came, by the loop's clock.
    """

    def __init__(
        self,
        account: str | None,
        limiters: Sequence[SharedLimiter],
        terms: Terms,
        clock: Callable[[], float],
        on_answered: Callable[[], None],
    ) -> None:
        self.account, self._limiters, self._terms = account, limiters, terms
        self._clock, self._on_answered = clock, on_answered
        self._store_clock = StoreClock(terms.window)
        self._wakeup = asyncio.Event()
        self._wake_at = -math.inf
        self.is_leaving = False
        self.questions = 0
        self.last: Answer | None = None
        self.last_at = self._warned_at = -math.inf

    def begin(self) -> None:
        """Begin on the running loop."""
        self._wakeup, self._wake_at, self.is_leaving = asyncio.Event(), -math.inf, False
        self.last_at = self._warned_at = -math.inf

    def wake(self, at: float) -> None:
        """Ask at a time by the loop's clock, if not earlier."""
        if at < self._wake_at:
            self._wake_at = at
            self._wakeup.set()

    def leave(self) -> None:
        """Hand all back, whatever is being waited for, and end."""
        self.is_leaving = True
        self._wakeup.set()

    async def hold(self, store: Store) -> None:
        """Ask whatever there is to ask, over an open connection, until the last client leaves or the store fails."""
        loop = asyncio.get_running_loop()
        until, farewells = math.inf, 0
        while True:
            if self.is_leaving:
                farewells += 1
                until = min(until, loop.time() + GOODBYE)
                if loop.time() >= until or farewells > _MOST_FAREWELLS:
                    return
            else:
                await self._wait_until_due(loop)
            now = loop.time()
            batch = [
                (limiter, limiter.ask(now, leaving=self.is_leaving))
                for limiter in self._limiters
                if (limiter.has_to_leave if self.is_leaving else limiter.due(now) <= now)
            ]
            if batch:
                await self._ask(store, batch)
            elif self.is_leaving:
                return

    async def pause(self, seconds: float) -> None:
        """Wait for so long, but no longer than until the last client leaves."""
        if self.is_leaving:
            return
        self._wakeup.clear()
        self._wake_at = -math.inf
        timer = None if seconds == math.inf else asyncio.get_running_loop().call_later(seconds, self._wakeup.set)
        try:
            await self._wakeup.wait()
        finally:
            if timer is not None:
                timer.cancel()

    async def _ask(self, store: Store, batch: Sequence[tuple[SharedLimiter, Question]]) -> None:
        if self.account is None:
            raise TypeError("expected the name of an account before the store is asked")
        sent = self._clock()
        questions = [(limiter.name, question) for limiter, question in batch]
        answers = await bounded("the store's ask()", store.ask, self.account, questions)
        check_answers([question for _, question in batch], answers)
        self.questions += len(batch)
        self._on_answered()
        is_steady = self._store_clock.goes_on(answers[-1].now, sent=sent, received=self._clock())
        now = asyncio.get_running_loop().time()
        for answer in answers:
            if answer.known:
                # One to a holder that is not known says nothing of the account.
                self.last, self.last_at = answer, now
        for (limiter, question), answer in zip(batch, answers, strict=True):
            limiter.take_answer(answer, now, trusted=is_steady)
            if question.leaving:
                limiter.begin_anew()
        if not is_steady:
            self._distrust(store, now)

    async def _wait_until_due(self, loop: asyncio.AbstractEventLoop) -> None:
        """Sleep until a limiter has something to ask."""
        wakeup = self._wakeup
        while not self.is_leaving:
            now = loop.time()
            asking = () if self.account is None else self._limiters
            self._wake_at = due = min((limiter.due(now) for limiter in asking), default=math.inf)
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

    def _distrust(self, store: Store, now: float) -> None:
        if now - self._warned_at >= self._terms.closed:
            self._warned_at = now
            _log.warning(
                "the clock of the store of the shared limits at %s jumped ahead: the account %r is closed for %g s",
                store.label,
                self.account,
                self._terms.closed,
            )
        for limiter in self._limiters:
            limiter.distrust()
