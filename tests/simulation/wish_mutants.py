"""Variants of the SDK whose wishes are broken on purpose."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Any

from bms_async import OutcomeState
from bms_async.fleet.batch import Batch
from bms_async.fleet.outcome import make_outcome
from bms_async.reconcile.wish import Wish, Wishes
from bms_async.reconcile.wish_queue import WishFeed
from tests.simulation.draw_wishes import draw_wishes
from tests.simulation.mutants import Mutant, patched
from tests.simulation.scenario import Scenario
from tests.simulation.wants import WishMany

_FEW = 60


def _a_wish_dropped_when_a_batch_is_cut() -> AbstractContextManager[None]:
    honest = WishFeed._take

    def take(self: WishFeed, max_count: int) -> tuple[str, ...]:
        if len(self._queue.waiting) > 1:
            self._queue.waiting.popitem()
        return honest(self, max_count)

    return patched(WishFeed, _take=take)


def _a_wish_sent_that_all_have_left() -> AbstractContextManager[None]:
    return patched(Wish, is_abandoned=property(lambda self: False))


def _a_wish_that_joins_a_contrary_one() -> AbstractContextManager[None]:
    honest = Wishes.add

    def add(self: Wishes[Any], server_id: str, action: str, waiter: Any) -> tuple[Wish[Any], bool, bool]:
        first = self.get(server_id)
        return honest(self, server_id, action if first is None else first.action, waiter)

    return patched(Wishes, add=add)


def _a_wish_answered_once_it_is_sent() -> AbstractContextManager[None]:
    honest = WishFeed.on_send

    def on_send(self: WishFeed, batch: Batch) -> None:
        honest(self, batch)
        for server_id in batch.ids:
            self._queue.on_outcome(make_outcome(server_id, OutcomeState.SUCCEEDED))

    return patched(WishFeed, on_send=on_send)


def _wished(scenario: Scenario) -> list[WishMany]:
    """The wishes of a scenario that has little else, in which each answer comes."""
    if scenario.servers > _FEW or scenario.workers or scenario.stuck_share or scenario.foreign:
        return []
    return [deed for deed in scenario.deeds if isinstance(deed, WishMany)]


def _has_many(scenario: Scenario) -> bool:
    return any(deed.count > 5 for deed in _wished(scenario))


def _has_leavers(scenario: Scenario) -> bool:
    """Whether somebody leaves before the wishes are sent, who is alone with a server."""
    return any(
        wish.leaves_after is not None
        and wish.leaves_after < scenario.wish_window
        and [other.server for other in deed.wishes].count(wish.server) == 1
        for deed in _wished(scenario)
        for wish in deed.wishes
    )


def _has_contrary_ones(scenario: Scenario) -> bool:
    return any(len({wish.action for wish in deed.wishes}) > 1 and deed.longest_chain > 2 for deed in _wished(scenario))


WISH_MUTANTS = (
    Mutant("a wish dropped when a batch is cut", "R2", _a_wish_dropped_when_a_batch_is_cut, _has_many, draw_wishes),
    Mutant("a wish sent that all have left", "R3", _a_wish_sent_that_all_have_left, _has_leavers, draw_wishes),
    Mutant(
        "a wish that joins a contrary one", "R2", _a_wish_that_joins_a_contrary_one, _has_contrary_ones, draw_wishes
    ),
    Mutant("a wish answered once it is sent", "R2", _a_wish_answered_once_it_is_sent, _has_contrary_ones, draw_wishes),
)
