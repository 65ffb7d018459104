"""Variants of the SDK whose reconcilers are broken on purpose."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager
from typing import Any

from bms_async.fleet.evidence import ServerState
from bms_async.fleet.plan import WaveLimit
from bms_async.reconcile.books import Books
from bms_async.reconcile.entries import Kind
from tests.simulation.draw_reconcilers import draw_reconciler
from tests.simulation.mutants import Mutant, patched
from tests.simulation.scenario import Scenario, Slow
from tests.simulation.wants import Reconcile

_FEW = 20


def _one_that_acts_on_a_server_under_way() -> AbstractContextManager[None]:
    honest = Books.observe

    def observe(self: Books, server_id: str, state: ServerState | None, **options: Any) -> None:
        action = self.under_way.pop(server_id, None)
        honest(self, server_id, state, **options)
        if action is not None:
            self.under_way[server_id] = action

    return patched(Books, observe=observe)


def _one_that_believes_readings_older_than_an_outcome() -> AbstractContextManager[None]:
    honest = Books.observe

    def observe(self: Books, server_id: str, state: ServerState | None, **options: Any) -> None:
        entry = self.entries.get(server_id)
        if entry is not None:
            entry.outcome_at = -math.inf
        honest(self, server_id, state, **options)

    return patched(Books, observe=observe)


def _one_that_forgets_nothing() -> AbstractContextManager[None]:
    return patched(Books, forget=lambda self, server_id: None)


def _one_that_believes_for_ever_what_it_has_seen() -> AbstractContextManager[None]:
    honest = Books.observe

    def observe(self: Books, server_id: str, state: ServerState | None, **options: Any) -> None:
        entry = self.entries.get(server_id)
        if entry is None or entry.kind is not Kind.SYNCED:
            honest(self, server_id, state, **options)

    return patched(Books, observe=observe)


def _one_that_acts_on_all_at_once() -> AbstractContextManager[None]:
    return patched(WaveLimit, room=lambda self, in_flight: self.size)


def _is_alone(scenario: Scenario) -> Reconcile | None:
    """Return the reconciler of a scenario that has nothing else, and in which all goes well."""
    deeds = scenario.deeds
    is_slow = any(mishap.operation != "servers.list" for mishap in scenario.mishaps)
    is_plain = len(deeds) == 1 and not (is_slow or scenario.foreign or scenario.limits)
    deed = deeds[0] if is_plain else None
    return deed if isinstance(deed, Reconcile) and scenario.servers <= _FEW and not deed.replicas else None


def _is_slow(scenario: Scenario) -> bool:
    """Whether its servers are read again while they are under way, before that shows."""
    deed = _is_alone(scenario)
    return deed is not None and deed.resync < scenario.job_seconds[1] / 4 and not (deed.restarts or deed.wishes)


def _is_read_while_outcomes_come(scenario: Scenario) -> bool:
    deed = _is_alone(scenario)
    is_quick = any(
        isinstance(mishap.trouble, Slow) and mishap.trouble.back > scenario.job_seconds[1]
        for mishap in scenario.mishaps
    )
    return deed is not None and is_quick and len(deed.wants) > 3 and not (deed.drifts or deed.wishes)


def _forgets(scenario: Scenario) -> bool:
    deed = _is_alone(scenario)
    return deed is not None and any(want.status is None or want.replace for want in deed.wants)


def _drifts(scenario: Scenario) -> bool:
    deed = _is_alone(scenario)
    return deed is not None and bool(deed.drifts)


def _has_waves(scenario: Scenario) -> bool:
    deed = _is_alone(scenario)
    return deed is not None and 2 * deed.wave_size < deed.wanted and not (deed.restarts or deed.wishes)


RECONCILE_MUTANTS = (
    Mutant(
        "a reconciler that acts on a server under way",
        "desired",
        _one_that_acts_on_a_server_under_way,
        _is_slow,
        draw_reconciler,
    ),
    Mutant(
        "a reconciler that believes readings older than an outcome",
        "desired",
        _one_that_believes_readings_older_than_an_outcome,
        _is_read_while_outcomes_come,
        draw=draw_reconciler,
    ),
    Mutant("a reconciler that forgets nothing", "desired", _one_that_forgets_nothing, _forgets, draw_reconciler),
    Mutant(
        "a reconciler that believes for ever what it has seen",
        "desired",
        _one_that_believes_for_ever_what_it_has_seen,
        _drifts,
        draw=draw_reconciler,
    ),
    Mutant(
        "a reconciler that acts on all at once", "desired", _one_that_acts_on_all_at_once, _has_waves, draw_reconciler
    ),
)
