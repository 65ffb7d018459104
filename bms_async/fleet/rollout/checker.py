"""Making readiness checks for any number of servers, again and again until each is well or its time is over.

What is guaranteed: each server that was begun is reported once, as well or with an error, unless it is forgotten or the
checker is closed; at least one attempt is made for it; and its time counts from where it was first read for an attempt,
so that neither a queue before it nor the limit of reads takes anything of it. Whatever a check does, no other server's
is kept from being made: it may raise anything, cancel its own task, or refuse to end.

How: a heap of due times, and a task for each attempt that is under way, of which there are at most `max_workers`. The
delay between two attempts is 2 % of the time since the first, at least 1 s and at most 10 s. An attempt ends with the
server's time; one that does not end though it was cancelled is given up 5 s later, and its server with it.

Rejected: a task a server, which takes 3 KB and a timer each for what mostly waits; and tasks that wait for work, in
which a check that refuses to end would keep a place for ever.
"""

from __future__ import annotations

import asyncio
import heapq
import math
from collections import deque
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from typing import TypeAlias

import anyio
import anyio.lowlevel

from bms_async._foreign import call_foreign
from bms_async._plain_errors import text_of
from bms_async._tasks import BackgroundTasks
from bms_async.errors import NotReadyError
from bms_async.models import Server
from bms_async.redaction import redact_safely

from .asking import Answer, ask, describe
from .probes import shared_connections
from .rollout import Check

_SHARE_OF_AGE = 0.02
_MIN_DELAY = 1.0
_MAX_DELAY = 10.0
_GRACE = 5.0
_READ_WITHIN = 300.0
"""Seconds that a server's first read may wait for the limit of reads, several of its windows long."""

_MAX_SHOWN = 200
_MAX_REDACTED = 2048
_STEPS_PER_YIELD = 500
# To open a connection takes a tenth of a millisecond, and a request of HTTP several times that.
_STARTS_PER_YIELD = 20

GetServer: TypeAlias = Callable[[], Awaitable[Server] | Server]
OnEnd: TypeAlias = Callable[[str, NotReadyError | None], None]


def _same(text: str) -> str:
    return text


class _Candidate:
    """A server that is to become ready.

    Attributes:
        deadline: When its time is over; infinite before its first attempt.
        answer: The last answer; None before the first.
        task: The attempt that is under way.
        giving_up: The timer that gives that up.
        is_done: Whether it was reported, or is not wanted any more.
    """

    __slots__ = (
        "answer",
        "attempts",
        "deadline",
        "get_server",
        "giving_up",
        "is_done",
        "on_end",
        "server_id",
        "started",
        "task",
    )

    def __init__(self, server_id: str, get_server: GetServer, on_end: OnEnd) -> None:
        self.server_id = server_id
        self.get_server = get_server
        self.on_end = on_end
        self.started = 0.0
        self.deadline = math.inf
        self.attempts = 0
        self.answer: Answer | None = None
        self.task: asyncio.Task[None] | None = None
        self.giving_up: asyncio.TimerHandle | None = None
        self.is_done = False


class ReadinessChecker:
    """Checks servers until they are ready.

    Args:
        check: The check, which is foreign code.
        timeout: Seconds that a server has to become ready, from where it was read for its first attempt.
        max_workers: How many attempts may be under way at once.
        redact: Removes secrets from an answer before an error shows it.
    """

    def __init__(
        self, check: Check, *, timeout: float, max_workers: int = 500, redact: Callable[[str], str] = _same
    ) -> None:
        self._check = check
        self._timeout = timeout
        self._max_workers = max_workers
        self._redact = redact
        self._candidates: dict[str, _Candidate] = {}
        self._due: list[tuple[float, int, _Candidate]] = []
        self._numbers = count()
        self._answered: deque[_Candidate] = deque()
        self._in_flight = 0
        self._tasks = BackgroundTasks("readiness checks")
        self._changed = anyio.Event()
        self._is_closed = False

    @property
    def pending(self) -> int:
        """How many servers are neither ready nor given up nor forgotten."""
        return len(self._candidates)

    def last_answer(self, server_id: str) -> str | None:
        """Return what was asked a pending server and answered last, such as ``tcp 22 at 10.0.0.7: connection refused``.

        Args:
            server_id: The server.
        """
        candidate = self._candidates.get(server_id)
        answer = None if candidate is None else candidate.answer
        return None if answer is None else f"{answer.asked}: {answer.answered}"

    def begin(self, server_id: str, get_server: GetServer, on_end: OnEnd) -> None:
        """Check a server until it is ready; one that is checked already begins anew.

        Args:
            server_id: The server.
            get_server: Returns the server, for each attempt.
            on_end: Called once, with None when the server is ready, and with the error when it was not in time.
        """
        self.forget(server_id)
        candidate = self._candidates[server_id] = _Candidate(server_id, get_server, on_end)
        # Not by anyio, which knows no time in a callback of the loop's: there a job ends that `each` follows.
        self._push(candidate, asyncio.get_running_loop().time())
        self._changed.set()

    def forget(self, server_id: str) -> None:
        """Check a server no longer, and report nothing of it.

        Args:
            server_id: The server; nothing is done if it is not pending.
        """
        candidate = self._candidates.pop(server_id, None)
        if candidate is not None:
            candidate.is_done = True
            if candidate.task is not None:
                candidate.task.cancel()

    def give_up(self, server_id: str) -> NotReadyError:
        """Check a server no longer, and return the error that says that the run ended before it was seen to be ready.

        Args:
            server_id: The server.
        """
        candidate = self._candidates.get(server_id)
        self.forget(server_id)
        answer = None if candidate is None else candidate.answer
        return NotReadyError(
            server_id=server_id,
            asked=describe(self._check) if answer is None else answer.asked,
            answered=None if answer is None else answer.answered,
            seconds=anyio.current_time() - candidate.started if candidate and candidate.attempts else 0.0,
            attempts=0 if candidate is None else candidate.attempts,
            is_cut_short=True,
        )

    def close(self) -> None:
        """Have `run` end; nothing is reported of the servers that are pending."""
        self._is_closed = True
        self._changed.set()

    async def run(self) -> None:
        """Make the checks until this is closed; when it returns, no attempt is under way."""
        async with shared_connections():
            await self._tasks.open()
            try:
                while not self._is_closed:
                    self._changed = anyio.Event()
                    await self._settle_answered()
                    delay = await self._start_due()
                    with anyio.move_on_after(delay):
                        await self._changed.wait()
            finally:
                self._is_closed = True
                await self._tasks.aclose()

    async def _settle_answered(self) -> None:
        """Report what has ended, and set the time of the next attempt of what has not."""
        for step in count(1):
            if not self._answered or self._is_closed:
                return
            candidate = self._answered.popleft()
            if not candidate.is_done:
                self._settle(candidate)
            if step % _STEPS_PER_YIELD == 0:
                await anyio.lowlevel.checkpoint()

    def _settle(self, candidate: _Candidate) -> None:
        answer = candidate.answer
        if answer is None or answer.answered is None or answer.is_fault:
            self._end(candidate)
            return
        now = anyio.current_time()
        delay = min(max(_SHARE_OF_AGE * (now - candidate.started), _MIN_DELAY), _MAX_DELAY)
        next_at, last = now + delay, candidate.deadline - _MIN_DELAY
        if next_at > last:
            # The last attempt needs time to be answered.
            next_at = last if last - now >= _MIN_DELAY else candidate.deadline
        self._push(candidate, next_at)

    async def _start_due(self) -> float | None:
        """Start the attempts that are due; return the seconds until the next one, None if only an event matters."""
        steps = 0
        while self._due and not self._is_closed:
            due, _, candidate = self._due[0]
            now = anyio.current_time()
            if candidate.is_done:
                heapq.heappop(self._due)
            elif due > now:
                return due - now
            elif now >= candidate.deadline:
                heapq.heappop(self._due)
                self._end(candidate)
            elif self._in_flight < self._max_workers:
                heapq.heappop(self._due)
                self._start(candidate, now)
                steps += _STEPS_PER_YIELD // _STARTS_PER_YIELD
            else:
                return None
            steps += 1
            if steps >= _STEPS_PER_YIELD:
                steps = 0
                await anyio.lowlevel.checkpoint()
        return None

    def _start(self, candidate: _Candidate, now: float) -> None:
        if not candidate.attempts:
            candidate.started = now
            candidate.deadline = now + _READ_WITHIN
        candidate.attempts += 1
        self._in_flight += 1
        task = candidate.task = self._tasks.start(self._attempt, candidate, name="bms_async readiness check")
        self._set_timer(candidate)
        task.add_done_callback(partial(self._on_attempt_end, candidate))

    def _set_timer(self, candidate: _Candidate) -> None:
        if candidate.giving_up is not None:
            candidate.giving_up.cancel()
        candidate.giving_up = asyncio.get_running_loop().call_at(
            candidate.deadline + _GRACE, self._give_up, candidate, candidate.attempts
        )

    async def _attempt(self, candidate: _Candidate) -> None:
        asked = describe(self._check)
        answer = Answer(asked, f"the server cannot be read: no answer within {_READ_WITHIN:g} s")
        try:
            async with asyncio.timeout_at(candidate.deadline) as scope:
                found = await self._read(candidate)
                if candidate.attempts == 1:
                    candidate.started = anyio.current_time()
                    candidate.deadline = candidate.started + self._timeout
                    scope.reschedule(candidate.deadline)
                    self._set_timer(candidate)
                left = candidate.deadline - anyio.current_time()
                answer = Answer(asked, f"no answer within {left:.3g} s")
                answer = found if isinstance(found, Answer) else await ask(self._check, found)
        except TimeoutError:
            # Only of the scope: `ask` returns what the check raises.
            pass
        answered = None if answer.answered is None else self._shown(answer.answered)
        candidate.answer = Answer(self._shown(answer.asked), answered, answer.is_fault)

    async def _read(self, candidate: _Candidate) -> Server | Answer:
        """Return the server, or why it could not be read."""
        asked = describe(self._check)
        try:
            server: object = await call_foreign("get_server", candidate.get_server)
        except Exception as error:  # noqa: BLE001 - it may be read at the next attempt
            return Answer(asked, f"the server cannot be read: {type(error).__name__}: {text_of(error)}")
        if not isinstance(server, Server):
            return Answer(asked, f"expected a Server, got a value of type {type(server).__name__}", is_fault=True)
        return server

    def _on_attempt_end(self, candidate: _Candidate, task: asyncio.Task[None]) -> None:
        if candidate.giving_up is not None:
            candidate.giving_up.cancel()
        if candidate.task is not task:
            # It was given up, and its place was taken back then.
            return
        if task.cancelled() or candidate.answer is None:
            # Neither this checker nor its closing did that to a server that is still wanted.
            candidate.answer = Answer(describe(self._check), "cancelled the task that it ran in")
        self._free(candidate)

    def _give_up(self, candidate: _Candidate, attempt: int) -> None:
        if candidate.task is not None and candidate.attempts == attempt:
            candidate.answer = Answer(describe(self._check), "does not end though it was cancelled", is_fault=True)
            self._free(candidate)

    def _free(self, candidate: _Candidate) -> None:
        candidate.task = None
        self._in_flight -= 1
        # What follows belongs into the task of `run`: a callback of the loop's runs in none.
        self._answered.append(candidate)
        self._changed.set()

    def _end(self, candidate: _Candidate) -> None:
        candidate.is_done = True
        del self._candidates[candidate.server_id]
        answer = candidate.answer
        error = None
        if answer is None or answer.answered is not None:
            error = NotReadyError(
                server_id=candidate.server_id,
                asked=describe(self._check) if answer is None else answer.asked,
                answered=None if answer is None else answer.answered,
                seconds=self._timeout,
                attempts=candidate.attempts,
                is_fault=answer is not None and answer.is_fault,
            )
        candidate.on_end(candidate.server_id, error)

    def _push(self, candidate: _Candidate, due: float) -> None:
        heapq.heappush(self._due, (due, next(self._numbers), candidate))

    def _shown(self, text: str) -> str:
        """Return a text as errors show it: on one line, without secrets, and not long."""
        redacted = redact_safely(self._redact, text[:_MAX_REDACTED])
        line = " ".join(redacted.split())
        return line if len(line) <= _MAX_SHOWN else f"{line[: _MAX_SHOWN - 3]}..."
