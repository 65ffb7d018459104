"""The journal asks a store again that does not answer, opens it for all who use it, and closes it once."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import anyio
import pytest

from bms_async.errors import ClientClosedError, JournalError
from bms_async.journal import Journal
from bms_async.journal.statements import Transaction
from tests.support.virtual_clock import run_virtually

T = TypeVar("T")

_A_MOMENT = 0.01
"""The virtual clock goes on by microseconds while tasks work."""


class Away:
    """A store that cannot be reached now."""

    label = "away"

    def __init__(self) -> None:
        self.is_away = True
        self.takes = 0.0
        self.opened = self.ran = self.closed = 0
        self.error: Exception = ConnectionError("away")

    async def open(self) -> None:
        self.opened += 1
        await self._answer()

    async def run(self, make: Callable[[], Transaction[T]], *, writes: bool = True) -> T:
        self.ran += 1
        await self._answer()
        try:
            next(make())
        except StopIteration as end:
            result: T = end.value
            return result
        raise AssertionError("it asks nothing")

    async def aclose(self) -> None:
        self.closed += 1

    async def _answer(self) -> None:
        await anyio.sleep(self.takes)
        if self.is_away:
            raise self.error


def _nothing() -> Transaction[str]:
    yield from ()
    return "done"


async def _opened() -> tuple[Journal, Away]:
    store = Away()
    store.is_away = False
    journal = Journal(lambda: store)
    await journal.open()
    return journal, store


def test_a_store_that_comes_back_in_time_is_asked_again() -> None:
    async def main() -> None:
        journal, store = await _opened()
        store.is_away = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_comes_back, store, 20.0)
            assert await journal.run(_nothing) == "done"
        await journal.aclose()

    run_virtually(main)


async def _comes_back(store: Away, after: float) -> None:
    await anyio.sleep(after)
    store.is_away = False


def test_a_store_that_stays_away_is_given_up_when_the_patience_is_over() -> None:
    async def main() -> None:
        journal, store = await _opened()
        store.is_away = True
        for patience in (0.0, 7.0, 30.0):
            began = anyio.current_time()
            with pytest.raises(JournalError, match=f"expected an answer within {patience:g} s, got ConnectionError"):
                await journal.run(_nothing, patience=patience)
            assert anyio.current_time() - began <= patience + _A_MOMENT
        await journal.aclose()

    run_virtually(main)


def test_what_will_not_succeed_is_asked_once() -> None:
    async def main() -> None:
        journal, store = await _opened()
        store.is_away, store.error = True, JournalError("no such table")
        with pytest.raises(JournalError, match="no such table"):
            await journal.run(_nothing)
        assert store.ran == 1
        store.is_away = False
        assert await journal.run(_nothing) == "done"
        assert store.opened == 1
        await journal.aclose()

    run_virtually(main)


def test_nobody_waits_longer_because_others_have_more_patience() -> None:
    """All who wait for a store to be opened share one attempt."""

    async def main() -> None:
        journal, store = await _opened()
        store.is_away, store.takes = True, 10.0

        async def asks(patience: float) -> None:
            began = anyio.current_time()
            with pytest.raises(JournalError):
                await journal.run(_nothing, patience=patience)
            assert anyio.current_time() - began <= patience + 3 * store.takes

        async with anyio.create_task_group() as tasks:
            for _ in range(20):
                tasks.start_soon(asks, 600.0)
            tasks.start_soon(asks, 15.0)
        assert store.opened < 2 * 600 / store.takes
        await journal.aclose()

    run_virtually(main)


def test_a_store_is_opened_with_its_first_user_and_closed_with_its_last() -> None:
    async def main() -> None:
        journal, store = await _opened()
        await journal.open()
        assert store.opened == 1
        await journal.aclose()
        assert await journal.run(_nothing) == "done"
        await journal.aclose()
        assert store.closed == 1
        await journal.aclose()
        assert store.closed == 1
        with pytest.raises(ClientClosedError, match="not open"):
            await journal.run(_nothing)

    run_virtually(main)


def test_a_journal_that_cannot_be_opened_is_closed_and_can_be_opened_later() -> None:
    async def main() -> None:
        store = Away()
        journal = Journal(lambda: store)
        with pytest.raises(JournalError, match="see that it runs"):
            await journal.open()
        assert store.closed == 1
        store.is_away = False
        await journal.open()
        assert await journal.run(_nothing) == "done"
        await journal.aclose()

    run_virtually(main)


def test_a_journal_that_does_not_answer_says_for_how_long_as_people_read_it() -> None:
    async def main() -> None:
        journal, store = await _opened()
        store.is_away = True
        with pytest.raises(JournalError, match="expected an answer within 9 s, got"):
            await journal.run(_nothing, patience=8.99829)
        store.is_away = False
        await journal.aclose()

    run_virtually(main)


def test_a_journal_that_is_closed_while_it_asks_again_asks_no_more() -> None:
    async def main() -> None:
        journal, store = await _opened()
        store.is_away, store.takes = True, 1.0

        async def asks() -> None:
            with pytest.raises(ClientClosedError):
                await journal.run(_nothing, patience=600.0)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(asks)
            await anyio.sleep(1.5)
            store.is_away = False
            await journal.aclose()
        assert store.closed >= 1
        await journal.open()
        assert await journal.run(_nothing) == "done"
        await journal.aclose()

    run_virtually(main)


def test_who_waits_for_a_change_wakes_with_it_or_after_a_time() -> None:
    async def main() -> None:
        journal, _ = await _opened()
        began = anyio.current_time()
        await journal.wait_for_change(5.0)
        assert anyio.current_time() - began == pytest.approx(5.0, abs=_A_MOMENT)
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(journal.wait_for_change, 1000.0)
            await anyio.sleep(1.0)
            journal.notify()
        assert anyio.current_time() - began == pytest.approx(6.0, abs=_A_MOMENT)
        journal.notify()
        await journal.aclose()

    run_virtually(main)


def test_a_journal_that_is_opened_on_another_event_loop_wakes_those_who_wait_there() -> None:
    store = Away()
    store.is_away = False
    journal = Journal(lambda: store)

    async def main() -> None:
        await journal.open()
        # Nothing changes meanwhile, so that what is waited for is left behind.
        seen = await journal.wait_for_status(journal.status_changes, 1)
        await journal.wait_for_change(1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_changes_a_status, journal)
            began = anyio.current_time()
            assert await journal.wait_for_status(seen, 60) == seen + 1
            assert anyio.current_time() - began < 3
            await journal.wait_for_status(seen + 1, 1)
            await journal.wait_for_change(1)
        await journal.aclose()

    run_virtually(main)
    run_virtually(main)


async def _changes_a_status(journal: Journal) -> None:
    await anyio.sleep(2)
    journal.notify_status()
