"""The feed of a rollout: hands servers out as the planner lets them go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice

from bms_async.errors import GroupBlockedError, NotReadyError
from bms_async.fleet.batch import Batch
from bms_async.fleet.outcome import Outcome, OutcomeState
from bms_async.fleet.tracker import YIELD_EVERY, RunTracker
from bms_async.validation.common import MAX_BATCH_SIZE

from .planner import RolloutPlanner


class RolloutFeed:
    """Hands out the servers of a rollout.

    Args:
        tracker: The run's.
        planner: Knows which servers may go.
        packs: Whether one call carries many servers.

    Attributes:
        is_sealed: Whether the planner has all servers; before that none goes.
        unplanned: The servers that were not handed to the planner, if it has not got them all.
        doubted: Returns how many servers are unavailable and may yet turn out to be well.
    """

    def __init__(self, tracker: RunTracker, planner: RolloutPlanner, *, packs: bool) -> None:
        self._tracker = tracker
        self._planner = planner
        self.batch_size = MAX_BATCH_SIZE if packs else 1
        self.is_sealed = False
        self.unplanned: Iterator[str] = iter(())
        self.doubted: Callable[[], int] = int

    @property
    def is_empty(self) -> bool:
        """Whether no server waits, and none will come."""
        return self.is_sealed and not self._planner.waiting

    def cut(self, now: float) -> tuple[str, ...]:
        """Return the servers of the next batch; none if none may go now."""
        if not self.is_sealed:
            return ()
        ids = self._planner.take(now, self.batch_size)
        if not ids:
            self.skip_blocked()
        return ids

    def next_due(self, now: float) -> float | None:
        """Return when servers may go without a wake-up, by the loop's time; None if time alone changes nothing."""
        return self._planner.next_time(now) if self.is_sealed else None

    def put_back(self, ids: Iterable[str], now: float) -> None:
        """Take back servers that were handed out and not sent; they go first."""
        self._planner.put_back(ids, now)

    def skip_blocked(self) -> None:
        """Skip some servers whose groups are blocked, unless one that blocks them may turn out to be well."""
        if not self.is_sealed or self.doubted():
            return
        planner, tracker = self._planner, self._tracker
        errors: dict[str, GroupBlockedError] = {}
        for server_id, group in planner.pop_blocked(YIELD_EVERY):
            if group not in errors:
                errors[group] = GroupBlockedError(
                    group=group, unavailable=planner.lost_of(group), allowed=planner.allowed_of(group)
                )
            tracker.conclude(server_id, OutcomeState.SKIPPED, error=errors[group])

    def on_end(self, outcome: Outcome, batch: Batch) -> None:
        """Note that a server has its outcome, and end the run if it was a canary that is not well."""
        planner, tracker, server_id, state = self._planner, self._tracker, outcome.server_id, outcome.state
        # The cloud surely did nothing to a server that it refused; one that was as asked already may not be ready yet.
        is_lost = batch.may_have_reached(server_id) or isinstance(outcome.error, NotReadyError)
        is_available = state.is_success or not is_lost
        planner.end(server_id, tracker.loop_time(), well=state.is_success, available=is_available)
        if planner.canary_failure is not None and not tracker.stopping:
            tracker.abort(f"canary {planner.canary_failure} is {state.value}")

    def pop_waiting(self, max_count: int) -> tuple[str, ...]:
        """Remove and return servers that are not sent any more."""
        ids = self._tracker.intake.pop_batch(max_count) or tuple(islice(self.unplanned, max_count))
        return ids or self._planner.pop_waiting(max_count)
