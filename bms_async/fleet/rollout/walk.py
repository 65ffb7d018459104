"""The walk of a rollout: all servers are known and grouped before the first one is asked."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AsyncExitStack
from datetime import datetime
from functools import partial
from itertools import chain
from types import TracebackType

import anyio
import anyio.lowlevel

from bms_async.errors import BmsError, FleetError
from bms_async.fleet.outcome import OutcomeState
from bms_async.fleet.sharded import Table
from bms_async.fleet.tracker import YIELD_EVERY, RunTracker
from bms_async.fleet.walk import ServerSource

from .feed import RolloutFeed
from .known import KnownServers, pop_all, unknown_group
from .planner import RolloutPlanner
from .recovery import Recovery
from .report import MAX_PAUSES, GroupReport, Pause, RolloutReport, RolloutTally, closed_times
from .rollout import Rollout
from .standing import RolloutStanding, describe_unready


class RolloutWalk:
    """Walks through a fleet as a rollout says.

    Args:
        tracker: The run's.
        rollout: The rollout.
        servers: Reads servers of which only the ids were given.
        redact: Removes secrets from a text.
        wave_size: How many servers may be in flight at once. None: by `abort_above` and how many there are.
        abort_above: The share of failures above which the run is aborted, None for never.
        packs: Whether one call carries many servers.

    Attributes:
        feed: Hands out the servers.
    """

    def __init__(
        self,
        tracker: RunTracker,
        rollout: Rollout,
        servers: ServerSource,
        redact: Callable[[str], str],
        *,
        wave_size: int | None,
        abort_above: float | None,
        packs: bool,
    ) -> None:
        self._tracker = tracker
        self._rollout = rollout
        self._canaries: Table[bool] = Table()
        self._paused_since: datetime | None = None
        self._pauses: list[Pause] = []
        self._servers = servers
        self._known = KnownServers(rollout)
        self._planner = RolloutPlanner(
            canary=rollout.canary,
            max_unavailable=rollout.max_unavailable,
            max_groups=rollout.max_groups,
            settle=rollout.settle,
            max_in_flight=wave_size,
            abort_above=abort_above,
            packs=packs,
        )
        self.feed = RolloutFeed(tracker, self._planner, packs=packs)
        self._recovery: Recovery | None = None
        if rollout.ready is not None:
            self._recovery = Recovery(
                tracker,
                self._known,
                rollout.ready,
                timeout=rollout.ready_timeout,
                redact=redact,
                on_recovered=self._recover,
            )
            self.feed.doubted = lambda: 0 if self._recovery is None else self._recovery.doubted
            tracker.keep_back = self._recovery.hold
        tracker.on_server = self._known.note
        tracker.on_end = self.feed.on_end
        self._last_standing: RolloutStanding | None = None
        self._preparing = anyio.CancelScope()
        self._exits = AsyncExitStack()

    @property
    def wave_size(self) -> int | None:
        """How many servers may be in flight at once, as soon as all are known; None for no bound."""
        return self._planner.wave_size

    @property
    def calls(self) -> int:
        """How many calls were made to read servers of which only the ids were given."""
        return self._servers.calls

    async def __aenter__(self) -> None:
        tasks = await self._exits.enter_async_context(anyio.create_task_group())
        if self._recovery is not None:
            tasks.start_soon(self._recovery.run)
            self._exits.push_async_exit(partial(self._end_checks, self._recovery))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._exits.__aexit__(kind, error, trace)

    async def _end_checks(
        self, recovery: Recovery, _: type[BaseException] | None, error: BaseException | None, __: TracebackType | None
    ) -> None:
        try:
            if error is None:
                await recovery.drain()
        finally:
            recovery.close()

    async def prepare(self) -> None:
        """Read the source to its end, learn the groups of all servers, and hand them to the planner."""
        tracker = self._tracker
        with self._preparing:
            while not tracker.source_exhausted:
                tracker.wake.clear()
                await tracker.wake.wait()
            if tracker.source_error is not None:
                self._give_up(tracker.source_error)
            elif not tracker.stopping:
                await self._plan()
        tracker.wake.set()

    def stop(self) -> None:
        """Get nothing more ready: the run is stopping."""
        self._preparing.cancel()

    async def release(self) -> None:
        """Give the servers whose outcome was held back theirs."""
        if self._recovery is not None:
            await self._recovery.release()

    def waits_for(self) -> str | None:
        """Return why nothing begins at the moment; None if something may."""
        if not self.feed.is_sealed:
            return "the servers are being read"
        reason = self._planner.reason(self._tracker.loop_time()) if self._planner.waiting else None
        if reason is None or self._recovery is None or not self._recovery.held:
            return reason
        held, answer = self._recovery.held, self._recovery.last_answer()
        text = describe_unready(held)
        return text if answer is None else f"{text}{', the first' if held > 1 else ''}: {answer}"

    def standing(self) -> RolloutStanding:
        """Return how far the rollout is, or was at its end."""
        return self._last_standing or self._planner.standing(self._tracker.loop_time())

    async def dismantle(self) -> None:
        """Forget all servers, some at a time; only the standing is left."""
        if self._last_standing is None:
            self._last_standing = self.standing()
            for _ in chain(self._planner.dismantling(), self._known.dismantling()):
                await anyio.lowlevel.checkpoint()

    def note_pause(self) -> None:
        """Note that the run is paused from now on."""
        if self._paused_since is None:
            self._paused_since = self._tracker.clock.now()

    def note_resumption(self) -> None:
        """Note that it goes on."""
        since, self._paused_since = self._paused_since, None
        if since is not None and len(self._pauses) < MAX_PAUSES:
            self._pauses.append(Pause(started=since, ended=self._tracker.clock.now(), reason="paused"))

    async def report(self) -> RolloutReport:
        """Return what the report of the run says of its rollout."""
        planner, known, tally = self._planner, self._known, RolloutTally()
        for index, outcome in enumerate(self._tracker.outcomes.without_errors(), 1):
            server_id = outcome.server_id
            is_canary, is_lost = server_id in self._canaries, planner.is_lost(server_id)
            tally.add(outcome, known.group(server_id), is_canary=is_canary, is_lost=is_lost)
            if index % YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()
        groups: list[GroupReport] = []
        for group in tally.groups(planner.allowed_of, self._is_blocked):
            groups.append(group)
            if len(groups) % YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()
        self.note_resumption()
        clock = self._tracker.clock
        closed = closed_times(self._rollout.window, clock.created, clock.now())
        shown = sorted([*self._pauses, *closed], key=lambda pause: pause.started)[:MAX_PAUSES]
        return tally.report(tuple(groups), tuple(shown))

    def _is_blocked(self, group: str) -> bool:
        standing = self._planner.standing_of(group)
        return standing is not None and standing.blocked

    async def _plan(self) -> None:
        try:
            await self._hand_to_planner()
        except Exception as error:  # noqa: BLE001 - nothing was sent; the caller gets the error
            self._tracker.record_error(error)
            self._give_up(error)
        else:
            self.feed.unplanned = iter(())
            self.feed.is_sealed = True

    def _give_up(self, error: Exception) -> None:
        """Skip all servers, for want of a plan."""
        tracker = self._tracker
        why = str(error) if isinstance(error, BmsError) else type(error).__name__
        tracker.skip_error = FleetError(
            f"{tracker.action}: the rollout could not be planned, and nothing was sent: {why}", code=None, server_ids=()
        )
        tracker.stop()

    async def _hand_to_planner(self) -> None:
        tracker, planner = self._tracker, self._planner
        ids = await pop_all(tracker.intake)
        self.feed.unplanned = iter(ids)
        canaries_left = self._rollout.canary
        async for server_id, group in self._known.placed(ids, self._servers):
            if group is None:
                tracker.conclude(server_id, OutcomeState.SKIPPED, error=unknown_group(tracker.action, server_id))
            else:
                planner.add(server_id, group)
                if canaries_left:
                    self._canaries[server_id] = True
                    canaries_left -= 1
        for _ in planner.sealing():
            await anyio.lowlevel.checkpoint()

    def _recover(self, server_id: str) -> None:
        self._planner.recover(server_id, self._tracker.loop_time())
