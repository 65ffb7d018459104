"""Waiting for servers: all waiters of a server share its polls.

Native calls have no job: their progress is in the server's own ``status``, ``task_state`` and ``fault``.

What it guarantees: at most one poll of a server is in flight (as rule R6 has it for jobs), and the polls of all servers
together stay within their share of the rate limit. A wait succeeds only by a poll that began after the wait did.
Cancelling a waiter affects no other waiter, and a server without waiters is not polled. Every wait ends: by the status,
by proof that it cannot be reached, or by the client's `Patience` with a server that does not change or cannot be read.

How: one task for each server that has waiters. It polls at once for a new waiter, then at growing intervals; a failed
poll is repeated later instead of retried at once. `Waiter` decides, without a clock, what a poll means for a wait.

Rejected: a polling loop in each waiter, which multiplies the calls with the number of waiters.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

import anyio
import msgspec

from bms_async._foreign import contain, is_own_cancellation
from bms_async.errors import (
    AuthenticationError,
    BadRequestError,
    CallError,
    ClientClosedError,
    ConfigurationError,
    InvalidRequestError,
    NotFoundError,
    PermissionDeniedError,
    ServerWaitTimeoutError,
)
from bms_async.jobs import Patience, bounded_poll, schedule
from bms_async.limits import Pacer
from bms_async.models import Server
from bms_async.models.ids import canonical_id

from .server_waiter import Waiter, lost_error

_log = logging.getLogger("bms_async.nova")

_MIN_DELAY = 1.0
_UNAUTHORIZED = (AuthenticationError, PermissionDeniedError, BadRequestError)


class PollerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a poller.

    Attributes:
        servers: The number of servers that are polled.
        waiters: The number of waits for them.
        in_flight: The number of polls in flight.
        polls: The number of polls made.
        failed_polls: The number of polls that failed.
    """

    servers: int
    waiters: int
    in_flight: int
    polls: int
    failed_polls: int


class _PolledServer:
    """A server that is polled, and its waiters."""

    __slots__ = (
        "failing_since",
        "failures",
        "last_poll_at",
        "last_wait_at",
        "polls_begun",
        "server",
        "server_id",
        "unauthorized_since",
        "waiters",
        "wake",
    )

    def __init__(self, server_id: str) -> None:
        self.server_id = server_id
        self.waiters: set[Waiter] = set()
        self.wake = asyncio.Event()
        self.last_wait_at = anyio.current_time()
        self.polls_begun = 0
        self.last_poll_at = -_MIN_DELAY
        self.server: Server | None = None
        self.failures = 0
        self.failing_since: float | None = None
        self.unauthorized_since: float | None = None


class ServerPoller:
    """Polls servers as long as they have waiters.

    Args:
        fetch: Reads a server; it should not retry, for the poller repeats failed polls.
        start: Starts a task that is cancelled when the client is closed.
        pace: Spaces the polls of all servers.
        patience: How long a server may not change, or not be readable, before a wait for it ends.
    """

    def __init__(
        self,
        fetch: Callable[[str], Awaitable[Server]],
        start: Callable[[Callable[[], Coroutine[Any, Any, None]]], None],
        *,
        pace: Pacer,
        patience: Patience | None = None,
    ) -> None:
        self._patience = patience or Patience()
        self._fetch = fetch
        self._start = start
        self._pace = pace
        self._records: dict[str, _PolledServer] = {}
        self._in_flight = self._polls = self._failed_polls = 0

    async def wait(self, server_id: str, wanted: str | None, timeout: float | None) -> Server | None:
        """Wait until a poll that begins from now on shows a server in a status, and return the server.

        Args:
            server_id: The server.
            wanted: The status; None for the server's deletion.
            timeout: Maximum wait in seconds; None waits as long as the patience allows.

        Raises:
            ServerWaitError: The status cannot be reached any more, or the wait timed out.
            ClientClosedError: The client is not open, or was closed meanwhile.
        """
        record = self._record_of(server_id)
        waiter = Waiter(server_id, wanted, after=record.polls_begun)
        record.waiters.add(waiter)
        record.wake.set()
        try:
            with anyio.move_on_after(timeout):
                return await waiter.future
        finally:
            record.waiters.discard(waiter)
            if not record.waiters:
                # A poll in flight is completed, so that a new waiter cannot cause a second one beside it.
                record.wake.set()
        server = record.server
        state = "no response" if server is None else server.status or "no status"
        task = f" ({server.task_state})" if server is not None and server.task_state else ""
        raise ServerWaitTimeoutError(
            f"expected {waiter.goal} of server {server_id} within {timeout:g} s, got {state}{task}; the server goes on",
            server_id=server_id,
            wanted=wanted,
            server=server,
        )

    def statistics(self) -> PollerStatistics:
        """Return the number of servers, waiters and polls."""
        return PollerStatistics(
            servers=len(self._records),
            waiters=sum(len(record.waiters) for record in self._records.values()),
            in_flight=self._in_flight,
            polls=self._polls,
            failed_polls=self._failed_polls,
        )

    def __repr__(self) -> str:
        return f"<ServerPoller of {len(self._records)} servers, {self._polls} polls>"

    def _record_of(self, server_id: str) -> _PolledServer:
        name = canonical_id(server_id)
        record = self._records.get(name)
        if record is None:
            record = _PolledServer(server_id)
            self._start(partial(self._run, record))
            self._records[name] = record
        # A new wait often follows a call that takes effect soon, so polls are frequent again.
        record.last_wait_at = anyio.current_time()
        return record

    async def _run(self, record: _PolledServer) -> None:
        try:
            delay = 0.0
            while record.waiters:
                await self._wait_until_due(record, delay)
                if record.waiters:
                    await self._pace.acquire()
                if record.waiters:
                    delay = await self._poll(record)
        except ClientClosedError:
            # Its waiters fail below.
            pass
        except Exception as error:  # noqa: BLE001 - a bug must not leave a waiter hanging, nor end other tasks
            _log.exception("bug while polling server %s", record.server_id)
            _fail_all(record, "could not be polled", error)
        finally:
            # Reached also when closing the client cancels this task.
            self._records.pop(canonical_id(record.server_id), None)
            for waiter in record.waiters:
                text = f"expected {waiter.goal} of server {record.server_id}, but the client was closed"
                waiter.fail(ClientClosedError(text))

    async def _wait_until_due(self, record: _PolledServer, delay: float) -> None:
        """Wait until the next poll is due or there is a new waiter; polls are at least a second apart."""
        while record.waiters and all(waiter.after < record.polls_begun for waiter in record.waiters):
            left = record.last_poll_at + delay - anyio.current_time()
            if left <= 0:
                break
            record.wake.clear()
            with anyio.move_on_after(left):
                await record.wake.wait()
        if record.waiters:
            await anyio.sleep(max(0.0, record.last_poll_at + _MIN_DELAY - anyio.current_time()))

    async def _poll(self, record: _PolledServer) -> float:
        record.polls_begun += 1
        record.last_poll_at = anyio.current_time()
        poll_number = record.polls_begun
        self._polls += 1
        self._in_flight += 1
        try:
            server = await bounded_poll(self._fetch(record.server_id), self._patience)
        except NotFoundError as error:
            self._failed_polls += 1
            for waiter in _waiters_before(record, poll_number):
                waiter.on_not_found(error, record.server)
            return _MIN_DELAY
        except ClientClosedError:
            raise
        except BaseException as error:
            if is_own_cancellation(error):
                raise
            self._failed_polls += 1
            # The application's code may raise anything; it counts as a failed poll.
            return self._on_failure(record, contain(f"what polls server {record.server_id}", error))
        finally:
            self._in_flight -= 1
        now = anyio.current_time()
        outage = 0.0 if record.failing_since is None else now - record.failing_since
        record.server = server
        record.failures = 0
        record.failing_since = record.unauthorized_since = None
        for waiter in _waiters_before(record, poll_number):
            waiter.accept(server, now, outage=outage, grace=self._patience.no_news)
        return schedule.unprofiled_poll_delay(
            age=now - record.last_wait_at, live=len(self._records), rate=self._pace.rate
        )

    def _on_failure(self, record: _PolledServer, error: Exception) -> float:
        if isinstance(error, ConfigurationError | InvalidRequestError):
            _fail_all(record, "could not be polled", error)
        elif not isinstance(error, CallError) and not record.failures:
            _log.error("polling server %s raised an unexpected error", record.server_id, exc_info=error)
        now = anyio.current_time()
        record.failures += 1
        record.failing_since = record.last_poll_at if record.failing_since is None else record.failing_since
        since, grace = record.failing_since, self._patience.failing
        if isinstance(error, _UNAUTHORIZED):
            since = record.unauthorized_since = now if record.unauthorized_since is None else record.unauthorized_since
            grace = self._patience.unauthorized
        else:
            record.unauthorized_since = None
        if now - since >= grace:
            _fail_all(record, f"could not be read for {grace:g} s", error)
        _log.info("poll %d of server %s in a row failed: %s", record.failures, record.server_id, type(error).__name__)
        return schedule.failure_delay(record.failures)


def _fail_all(record: _PolledServer, why: str, error: Exception) -> None:
    for waiter in record.waiters:
        waiter.fail(lost_error(waiter, record.server, why, error))


def _waiters_before(record: _PolledServer, poll_number: int) -> list[Waiter]:
    """Return the waiters from before a poll began: for later ones its result may be older than their own calls."""
    return [waiter for waiter in record.waiters if waiter.after < poll_number]
