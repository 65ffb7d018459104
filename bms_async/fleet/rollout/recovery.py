"""Readiness within a run: an outcome is held back until its server is well again.

What it guarantees: an outcome that is held back is given in any case, once (R2): as it was if the server is ready, as
FAILED with a `NotReadyError` if it is not ready in time, and as UNKNOWN if the run ends before either.

A server whose action failed after the cloud had accepted it has its outcome at once. It is checked all the same: if it
is well, it is no longer unavailable.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Protocol

import anyio.lowlevel
import msgspec

from bms_async.errors import NotReadyError
from bms_async.fleet.batch import Batch
from bms_async.fleet.outcome import Outcome, OutcomeState, make_outcome
from bms_async.fleet.tracker import YIELD_EVERY, RunTracker
from bms_async.models import Server

from .checker import ReadinessChecker
from .rollout import Check


class HasServers(Protocol):
    """Has the servers that are checked."""

    async def get(self, server_id: str) -> Server:
        """Return a server.

        Raises:
            Exception: It cannot be read.
        """
        ...

    def forget(self, server_id: str) -> None:
        """Forget a server, which is checked no more."""
        ...


class Recovery:
    """Holds outcomes back until their servers are well again.

    Args:
        tracker: The run's.
        servers: Has the servers.
        check: The check.
        timeout: Seconds that a server has.
        redact: Removes secrets from an answer before an error shows it.
        on_recovered: Called with a server whose action failed, and which is well; None where nobody wants to know.
    """

    def __init__(
        self,
        tracker: RunTracker,
        servers: HasServers,
        check: Check,
        *,
        timeout: float,
        redact: Callable[[str], str],
        on_recovered: Callable[[str], None] | None,
    ) -> None:
        self._tracker = tracker
        self._servers = servers
        self._on_recovered = on_recovered
        self._checker = ReadinessChecker(check, timeout=timeout, redact=redact)
        self._held: dict[str, tuple[Outcome, Batch]] = {}
        self._doubted: set[str] = set()
        self._is_empty = asyncio.Event()
        self.run = self._checker.run
        self.close = self._checker.close

    def last_answer(self) -> str | None:
        """Return what a server that is not ready yet was asked and answered last; None if none was asked."""
        for server_id in self._held:
            answer = self._checker.last_answer(server_id)
            if answer is not None:
                return answer
        return None

    @property
    def held(self) -> int:
        """How many outcomes are held back."""
        return len(self._held)

    @property
    def doubted(self) -> int:
        """How many servers are checked whose action failed."""
        return len(self._doubted)

    def hold(self, outcome: Outcome, batch: Batch) -> bool:
        """Check a server that has its outcome; return whether that is held back."""
        server_id = outcome.server_id
        if outcome.state.is_success:
            self._held[server_id] = outcome, batch
        elif self._on_recovered is not None and batch.may_have_reached(server_id) and not self._tracker.stopping:
            self._doubted.add(server_id)
        else:
            return False
        self._checker.begin(server_id, partial(self._servers.get, server_id), self._on_end)
        return server_id in self._held

    async def drain(self) -> None:
        """Wait until no outcome is held back."""
        while self._held:
            self._is_empty.clear()
            await self._is_empty.wait()

    async def release(self) -> None:
        """Give the outcomes that are held back: nothing is checked any more."""
        for index, (server_id, (outcome, batch)) in enumerate(list(self._held.items()), 1):
            del self._held[server_id]
            error = self._checker.give_up(server_id)
            self._end(outcome, batch, OutcomeState.UNKNOWN, error)
            if index % YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()

    def _on_end(self, server_id: str, error: NotReadyError | None) -> None:
        self._servers.forget(server_id)
        if server_id in self._doubted:
            self._doubted.discard(server_id)
            if error is None and self._on_recovered is not None:
                self._on_recovered(server_id)
            self._tracker.wake.set()
            return
        outcome, batch = self._held.pop(server_id)
        self._end(outcome, batch, outcome.state if error is None else OutcomeState.FAILED, error)
        if not self._held:
            self._is_empty.set()

    def _end(self, outcome: Outcome, batch: Batch, state: OutcomeState, error: NotReadyError | None) -> None:
        fields = msgspec.structs.asdict(outcome)
        fields |= {"state": state, "error": error, "ended": self._tracker.clock.now()}
        self._tracker.end(make_outcome(**fields), batch)
