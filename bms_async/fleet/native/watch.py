"""Following any number of servers of a plain OpenStack cloud by one shared listing.

What is guaranteed: every followed server is ended exactly once, by a verdict that its state proves (`verdict`) or as
UNKNOWN; at most one request a second is made for all of them together, and none while none is followed. Memory is some
300 bytes a server (R10), and no page and no number of servers holds the event loop (R9).

How: rounds. Each lists what has changed since a moment before the round before it began, first since a moment before
the earliest action; deleted servers are among the changes. A server that an action was accepted for is judged by rounds
that began afterwards, and by no other. Moments are of the event loop's clock; the ``Date`` of the responses translates
them into the cloud's, and this machine's time of day is never asked.

What a listing may miss (a change dated far in the past by a machine whose clock is slow, a page that was cut) is found
later: servers that no reading has shown for five minutes are read one by one if they are few, or else by one listing of
all. A failed round is repeated and fails nobody. A server that is idle, and of which nothing was seen for two minutes,
is UNKNOWN, as is a busy one after half an hour without news.

Rejected: a GET for each server, which is a call a server every few seconds; and a listing of everything each time,
which for a few servers of a large project is a hundred pages.
"""

from __future__ import annotations

import logging
import math
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from typing import Final, cast

import anyio
import anyio.lowlevel
import msgspec

from bms_async.api.nova._resource import MICROVERSION
from bms_async.errors import BmsError, ClientClosedError, InvalidRequestError
from bms_async.fleet.outcome import OutcomeState
from bms_async.jobs import schedule
from bms_async.limits import Lane
from bms_async.session import Session

from .followed import Followed, FollowedServers, OnEnd
from .listing import Listing
from .verdict import WANTED, NativeState, Sight, Verdict, add_sight, judge, timed_out, vanished

_log = logging.getLogger("bms_async.fleet")

ROUND_SECONDS: Final = 5.0
"""Seconds between the beginnings of two rounds, at least."""

_MAX_ROUND_SECONDS: Final = 15.0
_ROUND_SHARE: Final = 0.1
"""Seconds between rounds for each second in which nothing new was seen."""

SILENCE: Final = 300.0
"""Seconds after which a server that no reading has shown is looked for."""

_READ_SINGLY: Final = 20
"""How many of these are read one by one; for more, all servers are listed."""

NO_NEWS: Final = 1800.0
"""Seconds without anything new after which a server is UNKNOWN."""

DOUBT: Final = 120.0
"""The same until it is seen under way, for a server whose answer was lost: the request may have been under way as long.
And for one that is idle: Nova had begun the action when it answered, so that nothing more is to come."""

_YIELD_EVERY: Final = 500


class WatchStatistics(msgspec.Struct, frozen=True, kw_only=True):
    """The state of a watch.

    Attributes:
        followed: How many servers are followed.
        pages: How many pages of lists were requested.
        reads: How many single servers were requested.
        failed_rounds: How many rounds failed.
    """

    followed: int
    pages: int
    reads: int
    failed_rounds: int


class NativeWatch:
    """Follows any number of servers by one shared listing.

    Args:
        session: Makes the calls; it should wait for its slots, and be one for polls.
        lane: The lane that the calls wait in.
        microversion: The API version of the requests; None for the cloud's default, which shows all that is needed.
        no_news: Seconds without anything new of a server after which it is UNKNOWN.
        listing: Reads for others, too, with one distance between all requests; None for one of the watch's own.
        on_fault: Called with each error of a round; credentials may raise anything.
    """

    def __init__(
        self,
        session: Session,
        *,
        lane: Lane = Lane.BULK,
        microversion: str | None = None,
        no_news: float = NO_NEWS,
        listing: Listing | None = None,
        on_fault: Callable[[Exception], None] = lambda _: None,
    ) -> None:
        self._session = session
        headers = {} if microversion is None else {MICROVERSION: microversion}
        self._listing = listing or Listing(session, lane=lane, headers=headers)
        self._on_fault = on_fault
        self._no_news = no_news
        self._servers = FollowedServers()
        self._wake = anyio.Event()
        self._covered_at: float | None = None
        self._earliest_sent: float | None = None
        self._sign_at = self._swept_at = 0.0
        self._failures = self._failed_rounds = 0
        self._last_error: BmsError | None = None

    def follow(
        self,
        server_id: str,
        action: str,
        on_end: OnEnd,
        *,
        sent_at: float | None = None,
        in_doubt: bool = False,
        seen: Sight = Sight.NOTHING,
    ) -> None:
        """Follow a server from now on, right after the cloud has accepted an action on it.

        Args:
            server_id: The server, in the canonical form of its id.
            action: ``nova.servers.start``, ``nova.servers.stop`` or ``nova.servers.reboot``.
            on_end: Called once, with the outcome and its error; it must neither raise nor block.
            sent_at: When the action was sent, by the event loop's clock; None for just now.
            in_doubt: Whether the answer was lost, so that the cloud may have accepted it or not. Then only being
                seen under way proves a reboot, and after `DOUBT` seconds without anything new it is UNKNOWN.
            seen: What was seen of it already.

        Raises:
            InvalidRequestError: The server is followed already, or there is no such action.
        """
        if action not in WANTED:
            raise InvalidRequestError("action", action, f"expected one of {', '.join(WANTED)}")
        if server_id in self._servers:
            raise InvalidRequestError("server_id", server_id, "expected a server that is not followed; forget it first")
        now = anyio.current_time()
        sent = now if sent_at is None else sent_at
        server = Followed(action, on_end, sent_at=sent, accepted_at=now, in_doubt=in_doubt, seen=seen)
        self._servers.add(server_id, server)
        self._earliest_sent = sent if self._earliest_sent is None else min(sent, self._earliest_sent)
        self._sign_at = now
        self._wake.set()

    def __contains__(self, server_id: str) -> bool:
        return server_id in self._servers

    def forget(self, server_id: str) -> None:
        """Follow a server no longer; its `on_end` is not called. One that is not followed is ignored."""
        self._servers.pop(server_id)

    def statistics(self) -> WatchStatistics:
        """Return the number of servers and of calls."""
        return WatchStatistics(
            followed=len(self._servers),
            pages=self._listing.pages,
            reads=self._listing.reads,
            failed_rounds=self._failed_rounds,
        )

    def __repr__(self) -> str:
        return f"<NativeWatch of {len(self._servers)} servers, {self._listing.pages} pages>"

    async def run(self) -> None:
        """Read, as long as there are servers to be followed, until this is cancelled.

        Raises:
            ClientClosedError: The client was closed; no server is ended by that.
        """
        while True:
            self._wake = anyio.Event()
            if not len(self._servers):
                # What has changed meanwhile is of no concern.
                self._covered_at = None
                await self._wake.wait()
            began = anyio.current_time()
            try:
                await self._run_round()
            except ClientClosedError:
                raise
            except Exception as error:  # noqa: BLE001 - credentials may raise anything
                self._failures += 1
                self._failed_rounds += 1
                self._last_error = error if isinstance(error, BmsError) else None
                self._on_fault(error)
                _log.info("round %d of a native listing in a row failed: %s", self._failures, type(error).__name__)
                await anyio.sleep(schedule.failure_delay(self._failures))
            else:
                self._failures, self._last_error = 0, None
                await self._rest(began)
            await self._end_lost()

    async def read_once(self) -> None:
        """Read once what has changed, after `run` was cancelled, and end the servers of which that proves something.

        Raises:
            Exception: It could not be read; credentials may raise anything.
        """
        # A reading that begins in the moment in which a server was accepted says nothing of it.
        await anyio.lowlevel.checkpoint()
        await self._run_round()

    async def _rest(self, began: float) -> None:
        """Wait for the next round: the longer, the longer nothing new was seen; a new server shortens it."""
        now = anyio.current_time()
        quiet = min(max(ROUND_SECONDS, (now - self._sign_at) * _ROUND_SHARE), _MAX_ROUND_SECONDS)
        with anyio.move_on_after(began + quiet - now):
            await self._wake.wait()
        await anyio.sleep(max(0.0, began + ROUND_SECONDS - anyio.current_time()))

    async def _run_round(self) -> None:
        if not self._listing.pages:
            await self._listing.learn_time()
        began = anyio.current_time()
        known = [moment for moment in (self._covered_at, self._earliest_sent) if moment is not None]
        earliest, self._earliest_sent = self._earliest_sent, None
        try:
            await self._read_changes(min(known, default=began), began)
        except BaseException:
            # It must reach back as far the next time.
            if earliest is not None:
                self._earliest_sent = min(earliest, earliest if self._earliest_sent is None else self._earliest_sent)
            raise
        self._covered_at = began
        if began - self._swept_at >= SILENCE / 10:
            self._swept_at = began
            await self._find_silent()

    async def _read_changes(self, since: float | None, began: float) -> None:
        async with aclosing(cast("AsyncGenerator[NativeState, None]", self._listing.changes(since))) as changes:
            async for state in changes:
                self._note(state, began)

    async def _find_silent(self) -> None:
        """Look for the servers that no reading has shown for long."""
        before = anyio.current_time() - SILENCE
        silent = [each async for each in self._where(lambda server: server.looked_at <= before)]
        if len(silent) > _READ_SINGLY:
            await self._read_changes(None, anyio.current_time())
            silent = [each async for each in self._where(lambda server: server.looked_at <= before)]
        for server_id in silent[:_READ_SINGLY]:
            server = self._servers.get(server_id)
            if server is None:
                continue
            # Before it is read, so that one that cannot be read does not keep others from it.
            server.looked_at = began = anyio.current_time()
            state = await self._listing.read(server_id)
            if state is not None:
                self._note(state, began)
            elif self._servers.get(server_id) is server:
                self._end(server_id, *vanished(server.action, server_id))

    def _note(self, state: NativeState, began: float) -> None:
        """Take in what a reading that began at a moment has shown of a server."""
        server = self._servers.get(state.id)
        if server is None or server.accepted_at >= began:
            return
        now = anyio.current_time()
        server.looked_at = now
        shown = (state.status, state.task_state, state.updated)
        if shown != server.state:
            # The first look at an idle server shows nothing new of it.
            if server.state is not None or state.is_busy:
                server.sign_at = self._sign_at = now
            server.state = shown
        verdict = self._judge(server, state)
        if verdict is not None:
            self._end(state.id, *verdict)

    async def _end_lost(self) -> None:
        """End the servers of which nothing new was seen for too long, and those that the cloud's clock now proves."""
        now = anyio.current_time()
        async for server_id in self._where(lambda server: server.is_idle or self._is_lost(server, now)):
            server = self._servers.get(server_id)
            if server is None:
                continue
            state = server.last_state(server_id)
            # Each response tells the cloud's clock better, and so when exactly the action was accepted.
            verdict = None if state is None or not server.is_idle else self._judge(server, state)
            if verdict is None and self._is_lost(server, now):
                seconds, doubt = self._patience_for(server), server.in_doubt
                verdict = timed_out(server.action, server_id, state, seconds, self._last_error, in_doubt=doubt)
            if verdict is not None:
                self._end(server_id, *verdict)

    def _judge(self, server: Followed, state: NativeState) -> Verdict | None:
        accepted = math.inf if server.in_doubt else self._listing.time.latest(server.accepted_at)
        server.seen = add_sight(server.action, state, server.seen, accepted=accepted)
        mask = self._session.with_masked_text
        return judge(server.action, state, server.seen, in_doubt=server.in_doubt, mask=mask)

    def _is_lost(self, server: Followed, now: float) -> bool:
        return now - server.sign_at >= self._patience_for(server)

    def _patience_for(self, server: Followed) -> float:
        is_doubted = (server.in_doubt or server.is_idle) and Sight.UNDER_WAY not in server.seen
        return min(DOUBT, self._no_news) if is_doubted else self._no_news

    async def _where(self, test: Callable[[Followed], bool]) -> AsyncGenerator[str, None]:
        for shard in self._servers.shards:
            for number, server_id in enumerate(list(shard), 1):
                server = shard.get(server_id)
                if server is not None and test(server):
                    yield server_id
                if number % _YIELD_EVERY == 0:
                    await anyio.lowlevel.checkpoint()
            if shard:
                await anyio.lowlevel.checkpoint()

    def _end(self, server_id: str, state: OutcomeState, error: BmsError | None) -> None:
        server = self._servers.pop(server_id)
        if server is not None:
            server.on_end(state, error)
