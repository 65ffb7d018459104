"""Whole runs, drawn: whatever befalls some processes and their store, no window over the limit, and every call ends."""

from __future__ import annotations

import pytest

from bms_async.limits.shared import ledger
from bms_async.limits.shared.demand import Demand
from bms_async.limits.shared.holding import Holding
from bms_async.limits.shared.messages import Ledger
from bms_async.limits.shared.store_clock import StoreClock
from tests.limits.shared._whole_runs import LIMIT, play

_SEEDS = 60
_MOST_A_SECOND = 25
"""Questions of one process about one limit, those that are repeated included."""

KINDS = ["deaths", "jumps", "alone"]


@pytest.mark.parametrize("kind", KINDS)
def test_whatever_befalls_processes_and_store_no_window_is_over_the_limit_and_every_call_ends(kind: str) -> None:
    served = 0
    for seed in range(_SEEDS):
        judged = play(seed, kind)
        assert judged.worst <= LIMIT, (seed, judged)
        assert (judged.left, judged.hanging, judged.decreases) == (0, 0, 0), (seed, judged)
        assert judged.busiest <= _MOST_A_SECOND, (seed, judged)
        served += judged.served
    assert served > 15 * _SEEDS


@pytest.mark.parametrize(
    ("kind", "owner", "guard", "nothing", "first"),
    [
        ("deaths", ledger, "_end_leases", lambda state, _, now: _drop_the_dead(state, now), 38),
        ("jumps", StoreClock, "goes_on", lambda *_, **__: True, 19),
        ("alone", Holding, "adopt", lambda *_: None, 18),
        ("alone", Demand, "settle", lambda *_: None, 94),
    ],
    ids=["slots of the dead", "the store's clock", "what was sent alone", "time to report it"],
)
def test_without_a_guard_some_window_is_over_the_limit(
    kind: str, owner: object, guard: str, nothing: object, first: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, guard, nothing)
    # The first seed that shows it today comes first; those before it say nothing, and take long.
    assert any(play(seed, kind).worst > LIMIT for seed in range(first, first + 5 * _SEEDS))


def _drop_the_dead(state: Ledger, now: float) -> None:
    state.holders = [holder for holder in state.holders if holder.ends > now]
