"""Which batch goes next, and when."""

from __future__ import annotations

import math
from collections import deque

import anyio
import anyio.lowlevel

from bms_async.errors import BmsError

from .batch import Batch, Past
from .outcome import OutcomeState
from .plan import REFILL_PATIENCE, RETRY_DELAYS, Later, Waves
from .source import LINGER, Source
from .tracker import AT_A_TIME, Books


class Line:
    """Cuts batches: first what was parted from a refused one, then what was put off and is due, then new ids.

    Args:
        books: The run's.
        source: Where new ids come from.
        waves: How many servers may be under way.
        retry: Whether servers that were busy are asked for again.
    """

    def __init__(self, books: Books, source: Source, waves: Waves, *, retry: bool) -> None:
        self._books = books
        self._source = source
        self._waves = waves
        self._retry = retry
        self._urgent: deque[Batch] = deque()
        self._later: Later[Past] = Later()
        self._short_since: float | None = None

    async def next(self) -> Batch | None:
        """Return the next batch once it may go; None when there is no other, or no other may go."""
        books = self._books
        while not books.stopping:
            books.wake.clear()
            batch = self._cut(anyio.current_time())
            if batch is not None:
                return batch
            if books.is_over:
                break
            with anyio.move_on_after(self._doze_for(anyio.current_time())):
                await books.wake.wait()
        return None

    def push(self, batch: Batch) -> None:
        """Have a part of a refused batch go next."""
        self._books.open.add(batch)
        self._urgent.append(batch)
        self._books.wake.set()

    def put_off(
        self,
        server_id: str,
        batch: Batch,
        state: OutcomeState,
        error: BmsError | None,
        *,
        job_id: str | None = None,
        sub_job_id: str | None = None,
    ) -> bool:
        """Have a server asked for again later; False if that is not to be.

        Args:
            server_id: The server.
            batch: What it was in.
            state: What it is if it comes to no other try.
            error: Why.
            job_id: Its job, if it came to one.
            sub_job_id: Its part of that.
        """
        past = batch.past.get(server_id)
        tries = past.tries if past is not None else 0
        if not self._retry or self._books.stopping or tries >= len(RETRY_DELAYS):
            return False
        if self._books.intake.unsettled.get(server_id) is None:
            return True
        again = Past(
            server_id=server_id,
            tries=tries + 1,
            attempts=batch.attempts_of(server_id),
            started=batch.started_for(server_id),
            state=state,
            error=error,
            job_id=job_id,
            sub_job_id=sub_job_id,
        )
        batch.moved.add(server_id)
        self._later.add(again, anyio.current_time(), RETRY_DELAYS[tries])
        self._books.wake.set()
        return True

    async def clear(self, *, unknown: list[Batch] | None = None) -> None:
        """Give what was put off its outcome: there will be no other try.

        Args:
            unknown: Takes those of which nobody knows what became of them, instead of giving them one; None to give all
                of them one.
        """
        while put_off := self._later.take(math.inf, AT_A_TIME):
            if unknown is not None:
                batch = _batch_of([past for past in put_off if past.state is OutcomeState.UNKNOWN])
                unknown += [batch] if batch.ids else []
                put_off = [past for past in put_off if past.state is not OutcomeState.UNKNOWN]
            self._books.conclude_batch(_batch_of(put_off), OutcomeState.SKIPPED)
            await anyio.lowlevel.checkpoint()

    def _cut(self, now: float) -> Batch | None:
        if self._urgent:
            return self._urgent.popleft()
        due = self._later.take(now, self._waves.size)
        if due:
            batch = _batch_of(due)
            self._books.open.add(batch)
            return batch
        return self._cut_new(now)

    def _cut_new(self, now: float) -> Batch | None:
        books = self._books
        ready = books.intake.ready
        lingering = self._source.last is not None and now - self._source.last >= LINGER
        number = self._waves.how_many(
            ready=ready,
            in_flight=books.in_flight,
            complete=books.told_all or lingering,
            waited=0.0 if self._short_since is None else now - self._short_since,
        )
        if number == 0:
            has_room = ready > self._waves.room(books.in_flight) > 0
            self._short_since = (now if self._short_since is None else self._short_since) if has_room else None
            return None
        self._short_since = None
        batch = Batch(books.intake.take(number))
        books.begin(batch)
        self._source.feed()
        return batch

    def _doze_for(self, now: float) -> float | None:
        """Return the seconds until something is due by itself."""
        due = [self._later.next_due]
        if self._short_since is not None:
            due.append(self._short_since + REFILL_PATIENCE)
        if self._source.last is not None and self._books.intake.ready and self._source.last + LINGER > now:
            due.append(self._source.last + LINGER)
        times = [time for time in due if time is not None]
        return max(0.0, min(times) - now) if times else None


def _batch_of(put_off: list[Past]) -> Batch:
    return Batch(tuple(past.server_id for past in put_off), past=put_off)
