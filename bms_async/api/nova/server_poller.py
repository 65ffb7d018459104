"""Waiting for servers: one poll a server, however many wait for it.

Native calls have no job: what becomes of a server is in its own ``status``, ``task_state`` and ``fault``.
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

from .server_waiter import Waiter, lost

_log = logging.getLogger("bms_async.nova")

_MIN_DELAY = 1.0
_UNAUTHORIZED = (AuthenticationError, PermissionDeniedError, BadRequestError)


class PollerStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """What a poller is doing.

    Attributes:
        servers: Servers that are polled.
        waiters: Waits for them.
        in_flight: Polls under way.
        polls: Polls made.
        failed_polls: Polls that told nothing.
    """

    servers: int
    waiters: int
    in_flight: int
    polls: int
    failed_polls: int


class _PolledServer:
    """One server that is polled, and who waits for it."""

    __slots__ = (
        "asked",
        "begun",
        "failing_since",
        "failures",
        "last",
        "server",
        "server_id",
        "unauthorized_since",
        "waiters",
        "wake",
    )  # fmt: skip

    def __init__(self, server_id: str) -> None:
        self.server_id = server_id
        self.waiters: set[Waiter] = set()
        self.wake = asyncio.Event()
        self.asked = anyio.current_time()
        self.begun = 0
        self.last = -_MIN_DELAY
        self.server: Server | None = None
        self.failures = 0
        self.failing_since: float | None = None
        self.unauthorized_since: float | None = None


class ServerPoller:
    """Polls servers for those who wait for a status; a server is polled only as long as somebody waits for it.

    Args:
        fetch: The call that reads a server; it should not retry, for the poller asks again by itself.
        start: Starts a task that is cancelled when the client is closed.
        pace: Keeps the polls of all servers apart.
        patience: How long the cloud may tell nothing new of a server before a wait for it ends.
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
        self._in_flight = self._polls = self._failed = 0

    async def wait(self, server_id: str, wanted: str | None, timeout: float | None) -> Server | None:
        """Wait until a poll that begins from now on shows a server as wanted, and return what it showed.

        Args:
            server_id: The server.
            wanted: The status; None for the server's deletion.
            timeout: Seconds to wait at most; None waits for as long as the patience has it.

        Raises:
            ServerWaitError: It cannot come to that any more, or the time is over.
            ClientClosedError: The client is not open, or was closed meanwhile.
        """
        record = self._record_of(server_id)
        waiter = Waiter(server_id, wanted, after=record.begun)
        record.waiters.add(waiter)
        record.wake.set()
        try:
            with anyio.move_on_after(timeout):
                return await waiter.future
        finally:
            record.waiters.discard(waiter)
            if not record.waiters:
                # A poll under way comes to its end, so that whoever asks meanwhile cannot cause a second one.
                record.wake.set()
        shown = record.server
        state = "was not seen" if shown is None else f"is {shown.status or 'without a status'}"
        task = f" ({shown.task_state})" if shown is not None and shown.task_state else ""
        raise ServerWaitTimeoutError(
            f"server {server_id} {state}{task} and goes on; {timeout:g} s of waiting for {waiter.goal} are over",
            server_id=server_id,
            wanted=wanted,
            server=shown,
        )

    def statistics(self) -> PollerStatistics:
        """Tell what is polled."""
        return PollerStatistics(
            servers=len(self._records),
            waiters=sum(len(record.waiters) for record in self._records.values()),
            in_flight=self._in_flight,
            polls=self._polls,
            failed_polls=self._failed,
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
        # Whoever has come just now has likely just asked for something, which is soon done.
        record.asked = anyio.current_time()
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
            # Those who wait are told below.
            pass
        except Exception as error:  # noqa: BLE001 - see below
            # A fault of ours must not leave anybody waiting for ever, nor end the tasks of others.
            _log.exception("polling server %s broke", record.server_id)
            _fail_all(record, "could not be polled", error)
        finally:
            # Also when it is the client's closing that ends this task.
            self._records.pop(canonical_id(record.server_id), None)
            for waiter in record.waiters:
                text = f"the client was closed while {waiter.goal} of server {record.server_id} was waited for"
                waiter.fail(ClientClosedError(text))

    async def _wait_until_due(self, record: _PolledServer, delay: float) -> None:
        """Wait until the next poll is due, or somebody new waits; never for less than a second between two polls."""
        while record.waiters and all(waiter.after < record.begun for waiter in record.waiters):
            left = record.last + delay - anyio.current_time()
            if left <= 0:
                break
            record.wake.clear()
            with anyio.move_on_after(left):
                await record.wake.wait()
        if record.waiters:
            await anyio.sleep(max(0.0, record.last + _MIN_DELAY - anyio.current_time()))

    async def _poll(self, record: _PolledServer) -> float:
        record.begun += 1
        record.last = anyio.current_time()
        number = record.begun
        self._polls += 1
        self._in_flight += 1
        try:
            server = await bounded_poll(self._fetch(record.server_id), self._patience)
        except NotFoundError as error:
            self._failed += 1
            for waiter in _waiters_before(record, number):
                waiter.take_not_found(error, record.server)
            return _MIN_DELAY
        except ClientClosedError:
            raise
        except BaseException as error:
            if is_own_cancellation(error):
                raise
            self._failed += 1
            # Code of the application's may raise anything, and that is one failed poll like any other.
            return self._on_failure(record, contain(f"what polls server {record.server_id}", error))
        finally:
            self._in_flight -= 1
        now = anyio.current_time()
        outage = 0.0 if record.failing_since is None else now - record.failing_since
        record.server = server
        record.failures = 0
        record.failing_since = record.unauthorized_since = None
        for waiter in _waiters_before(record, number):
            waiter.accept(server, now, outage=outage, longest=self._patience.no_news)
        return schedule.unprofiled_poll_delay(age=now - record.asked, live=len(self._records), rate=self._pace.rate)

    def _on_failure(self, record: _PolledServer, error: Exception) -> float:
        if isinstance(error, ConfigurationError | InvalidRequestError):
            _fail_all(record, "could not be polled", error)
        elif not isinstance(error, CallError) and not record.failures:
            _log.error("polling server %s broke", record.server_id, exc_info=error)
        now = anyio.current_time()
        record.failures += 1
        record.failing_since = record.last if record.failing_since is None else record.failing_since
        since, longest = record.failing_since, self._patience.failing
        if isinstance(error, _UNAUTHORIZED):
            since = record.unauthorized_since = now if record.unauthorized_since is None else record.unauthorized_since
            longest = self._patience.unauthorized
        else:
            record.unauthorized_since = None
        if now - since >= longest:
            _fail_all(record, f"has not answered a poll for {longest:g} s", error)
        _log.info("poll %d of server %s in a row failed: %s", record.failures, record.server_id, type(error).__name__)
        return schedule.failure_delay(record.failures)


def _fail_all(record: _PolledServer, why: str, error: Exception) -> None:
    for waiter in record.waiters:
        waiter.fail(lost(waiter, record.server, why, error))


def _waiters_before(record: _PolledServer, number: int) -> list[Waiter]:
    """Return those who waited before a poll began: what it shows may be older than what the others have done."""
    return [waiter for waiter in record.waiters if waiter.after < number]
