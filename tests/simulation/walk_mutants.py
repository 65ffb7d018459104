"""Variants of the SDK whose rollouts, pauses and calls for each server are broken on purpose."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import UTC
from typing import Any

from bms_async import OutcomeState, TransportError
from bms_async.fleet.batch import Batch
from bms_async.fleet.call_work import CallWork
from bms_async.fleet.outcome import Outcome
from bms_async.fleet.rollout import planner, window
from bms_async.fleet.rollout.feed import RolloutFeed
from bms_async.fleet.rollout.planner import RolloutPlanner
from bms_async.fleet.rollout.recovery import Recovery
from bms_async.fleet.scheduler import BatchScheduler
from tests.simulation.mutants import Mutant, patched
from tests.simulation.scenario import LostBack, RunFleet, Scenario, Torn
from tests.simulation.walk import Walk

_FEW = 150


def _a_room_free_when_the_job_ends() -> AbstractContextManager[None]:
    honest = Recovery.hold

    def hold(self: Recovery, outcome: Outcome, batch: Batch) -> bool:
        is_held = honest(self, outcome, batch)
        if is_held and self._tracker.on_end is not None:
            self._tracker.on_end(outcome, batch)
        return is_held

    return patched(Recovery, hold=hold)


def _planned_with(**changed: Any) -> Callable[[], AbstractContextManager[None]]:
    """Return a patch that has rollouts planned with other options than they were given."""

    def patch() -> AbstractContextManager[None]:
        honest = RolloutPlanner.__init__

        def init(self: RolloutPlanner, **options: Any) -> None:
            honest(self, **{**options, **changed})

        return patched(RolloutPlanner, __init__=init)

    return patch


def _a_canary_that_failed_ignored() -> AbstractContextManager[None]:
    honest = RolloutPlanner._end_canary

    def end_canary(self: RolloutPlanner, server_id: str, now: float, *, well: bool) -> None:
        honest(self, server_id, now, well=True)

    return patched(RolloutPlanner, _end_canary=end_canary)


@contextmanager
def _a_window_read_in_utc() -> Iterator[None]:
    caches = (window._changes_from, window._open_in_week)
    try:
        with patched(window, _load_zone=lambda _: UTC):
            for cache in caches:
                cache.cache_clear()
            yield
    finally:
        for cache in caches:
            cache.cache_clear()


def _a_pause_that_forgets() -> AbstractContextManager[None]:
    return patched(BatchScheduler, check_now=lambda _: None)


def _a_room_free_though_its_server_never_comes_back() -> AbstractContextManager[None]:
    honest = RolloutPlanner.end

    def end(self: RolloutPlanner, server_id: str, now: float, *, well: bool, available: bool) -> None:
        honest(self, server_id, now, well=well, available=True)

    return patched(RolloutPlanner, end=end)


def _a_share_rounded_up() -> AbstractContextManager[None]:
    honest: Callable[[int, Any], int] = vars(planner)["allowed_of"]

    def allowed_of(size: int, most: Any) -> int:
        return honest(size, most) if most is None or isinstance(most, int) else math.ceil(size * most)

    return patched(planner, allowed_of=allowed_of)


def _a_call_repeated_after_a_lost_answer() -> AbstractContextManager[None]:
    honest = CallWork.__init__

    def init(self: CallWork, tracker: Any, source: Any, walk: Any, call: Any, *args: Any, **options: Any) -> None:
        async def call_twice(server_id: str) -> Any:
            try:
                return await call(server_id)
            except TransportError:
                return await call(server_id)

        honest(self, tracker, source, walk, call_twice, *args, **options)

    return patched(CallWork, __init__=init)


def _an_outcome_that_is_held_back_for_ever() -> AbstractContextManager[None]:
    async def release(self: Recovery) -> None:
        return

    return patched(Recovery, release=release)


def _one_that_is_not_ready_reported_as_succeeded() -> AbstractContextManager[None]:
    honest = Recovery._end

    def end(self: Recovery, outcome: Outcome, batch: Batch, state: OutcomeState, error: Any) -> None:
        honest(self, outcome, batch, outcome.state if state is OutcomeState.FAILED else state, error)

    return patched(Recovery, _end=end)


def _a_blocked_group_that_was_not() -> AbstractContextManager[None]:
    honest = RolloutFeed.on_end

    def on_end(self: RolloutFeed, outcome: Outcome, batch: Batch) -> None:
        self._planner.end(outcome.server_id, self._tracker.loop_time(), well=False, available=False)
        honest(self, outcome, batch)

    return patched(RolloutFeed, on_end=on_end)


def _walks(scenario: Scenario) -> Iterator[tuple[RunFleet, Walk]]:
    """The rollouts of several servers, where little else takes time."""
    for deed in scenario.deeds if scenario.servers <= _FEW else ():
        if isinstance(deed, RunFleet) and deed.walk is not None and deed.count // deed.step > 1:
            yield deed, deed.walk


def _with(test: Callable[[RunFleet, Walk, Scenario], bool]) -> Callable[[Scenario], bool]:
    return lambda scenario: any(test(deed, walk, scenario) for deed, walk in _walks(scenario))


def _few(walk: Walk) -> bool:
    return walk.max_unavailable in (1, 0.1, 0.29, 2)


def _boots(deed: RunFleet, scenario: Scenario) -> bool:
    return scenario.boot_seconds[1] > 0 and deed.action in ("start", "reboot", "reinstall")


def _is_held_up(scenario: Scenario) -> bool:
    """Whether batches wait for their slots when a run is paused."""
    limit = scenario.limits.get("servers.stop", 50)
    return any(
        isinstance(deed, RunFleet)
        and not deed.is_each
        and deed.cancel_after is None
        and deed.source == "list"
        and any(pause > 20 for _, pause in deed.pauses)
        and deed.count // deed.step > limit * scenario.batch
        for deed in scenario.deeds
    )


def _reinstalls_in_doubt(scenario: Scenario) -> bool:
    return any(
        isinstance(mishap.trouble, LostBack | Torn) and mishap.operation == "servers.reinstall_os"
        for mishap in scenario.mishaps
    )


WALK_MUTANTS = (
    Mutant(
        "a room free when the job ends, and not when its server is ready",
        "R2",
        _a_room_free_when_the_job_ends,
        _with(lambda deed, walk, scenario: walk.ready and _few(walk) and _boots(deed, scenario)),
    ),
    Mutant(
        "a server that does not settle",
        "R2",
        _planned_with(settle=0.0),
        _with(lambda deed, walk, _: walk.settle > 10 and _few(walk) and deed.count > 3),
    ),
    Mutant(
        "a canary that failed ignored",
        "R2",
        _a_canary_that_failed_ignored,
        _with(lambda _, walk, scenario: walk.canary > 1 and scenario.fail_share + scenario.never_back_share > 0.2),
    ),
    Mutant(
        "canaries that are not alone",
        "R2",
        _planned_with(canary=0),
        _with(lambda deed, walk, _: 0 < walk.canary < deed.count // deed.step),
    ),
    Mutant(
        "a window read in UTC",
        "R2",
        _a_window_read_in_utc,
        _with(lambda _, walk, __: len(walk.hours) > 1 and walk.hours[-1][0] - walk.hours[-2][1] > 60),
    ),
    Mutant("a pause that forgets what waits for its slot", "R2", _a_pause_that_forgets, _is_held_up),
    Mutant(
        "a room free though its server never comes back",
        "R2",
        _a_room_free_though_its_server_never_comes_back,
        _with(
            lambda deed, walk, scenario: (
                walk.ready
                and walk.max_unavailable == 1
                and scenario.never_back_share > 0.1
                and deed.action in ("start", "reboot", "reinstall")
            )
        ),
    ),
    Mutant(
        "more groups touched than may be",
        "R2",
        _planned_with(max_groups=None),
        _with(lambda _, walk, __: walk.max_groups == 1 and walk.group is not None),
    ),
    Mutant(
        "a share rounded up",
        "R2",
        _a_share_rounded_up,
        _with(lambda deed, walk, _: walk.max_unavailable == 0.29 and deed.count > 4),
    ),
    Mutant(
        "a call of each repeated after a lost answer", "R3", _a_call_repeated_after_a_lost_answer, _reinstalls_in_doubt
    ),
    Mutant(
        "an outcome that is held back for ever",
        "R2",
        _an_outcome_that_is_held_back_for_ever,
        _with(
            lambda deed, walk, _: (
                walk.ready
                and (deed.options.total_timeout is not None or (deed.cancel_after is not None and deed.let_go))
            )
        ),
    ),
    Mutant(
        "one that is not ready reported as SUCCEEDED",
        "R2",
        _one_that_is_not_ready_reported_as_succeeded,
        _with(lambda deed, walk, scenario: walk.ready and scenario.never_back_share > 0.1 and _boots(deed, scenario)),
    ),
    Mutant(
        "a group that is said to be blocked and is not",
        "R2",
        _a_blocked_group_that_was_not,
        _with(lambda deed, walk, _: not walk.canary and not walk.ready and walk.max_unavailable == 1),
    ),
)
