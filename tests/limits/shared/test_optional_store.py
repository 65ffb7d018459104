"""A store that a process can do without, as `bms` can without the file of its machine."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

import anyio
import pytest

from bms_async.limits.loop_binding import LoopBinding
from bms_async.limits.shared.exchange import Exchange
from bms_async.limits.shared.limiter import SharedLimiter
from bms_async.limits.shared.messages import Answer, Question
from bms_async.limits.shared.store import StoreError
from tests.limits.shared._memory import MemoryStore
from tests.limits.shared._processes import LIMIT, OPERATION, Gateway, make_exchange, opened_state
from tests.support.virtual_clock import run_virtually


class FullStore(MemoryStore):
    """One that can be opened and read, and not written."""

    has_room = False

    async def ask(self, account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
        if not self.has_room:
            raise OSError(28, "No space left on device")
        return await super().ask(account, questions)


class RefusingStore(MemoryStore):
    async def open(self) -> None:
        raise StoreError("it is no file of limits")


def optional(store: MemoryStore) -> tuple[Exchange, SharedLimiter]:
    exchange = make_exchange(store, without_store=1.0)
    exchange.is_optional = True
    return exchange, exchange.make_limiter(OPERATION, LIMIT, reserve=0.0, binding=LoopBinding())


async def call_while_the_store_goes_away() -> Gateway:
    gateway, state = Gateway(wire=(0.5, 5.0)), await opened_state()
    exchange, limiter = optional(MemoryStore(state))
    await exchange.open()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(gateway.call_often, limiter, 30)
        await anyio.sleep(2)
        state.away = True
        tasks.start_soon(gateway.call_often, limiter, 120)
    assert exchange.statistics.is_alone
    assert limiter.statistics().calls == 150
    await exchange.aclose()
    return gateway


def test_without_its_store_a_process_goes_on_at_once_and_knows_what_it_used_itself() -> None:
    async def main() -> None:
        gateway = await call_while_the_store_goes_away()
        assert gateway.busiest() <= LIMIT
        # The 20 slots that are left are used at once.
        assert sum(at < 15 for at in gateway.came) == LIMIT

    run_virtually(main)


def test_if_it_did_not_know_that_the_limit_would_be_exceeded(monkeypatch: pytest.MonkeyPatch) -> None:
    go_alone = SharedLimiter.go_alone

    def forget(limiter: SharedLimiter, share: float, *, spent: Iterable[float] = ()) -> None:
        assert list(spent)
        go_alone(limiter, share)

    monkeypatch.setattr(SharedLimiter, "go_alone", forget)

    async def main() -> None:
        assert (await call_while_the_store_goes_away()).busiest() > LIMIT

    run_virtually(main)


def test_a_call_that_ends_after_the_store_was_given_up_counts_from_its_end() -> None:
    async def main() -> None:
        state = await opened_state()
        exchange, limiter = optional(MemoryStore(state))
        await exchange.open()
        slots = [await limiter.acquire() for _ in range(LIMIT)]
        state.away = True
        for slot in slots[1:]:
            slot.release()
        await anyio.sleep(50)
        assert exchange.statistics.is_alone
        slots[0].release()
        await anyio.sleep(20)
        assert limiter.statistics().used == 1
        assert limiter.snapshot() == [pytest.approx(40, abs=0.1)]
        assert limiter.statistics().free == LIMIT - 1
        await exchange.aclose()

    run_virtually(main)


@pytest.mark.parametrize("make", [RefusingStore, FullStore])
def test_a_store_that_can_be_done_without_delays_no_call_and_is_no_error(make: type[MemoryStore]) -> None:
    async def main() -> None:
        exchange, limiter = optional(make(await opened_state()))
        await exchange.open()
        await limiter.acquire()
        later = exchange.make_limiter("servers.start", LIMIT, reserve=0.0, binding=LoopBinding())
        await later.acquire()
        assert anyio.current_time() < 1
        assert exchange.statistics.is_alone
        assert later.statistics().free == LIMIT - 1
        await exchange.aclose()

    run_virtually(main)


def test_one_failure_that_passes_is_no_reason_to_do_without_the_store() -> None:
    class ResettingStore(MemoryStore):
        has_failed = False

        async def ask(self, account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
            if not self.has_failed:
                self.has_failed = True
                raise ConnectionResetError
            return await super().ask(account, questions)

    async def main() -> None:
        exchange, limiter = optional(ResettingStore(await opened_state()))
        await exchange.open()
        await limiter.acquire()
        assert not exchange.statistics.is_alone
        await exchange.aclose()

    run_virtually(main)


def test_a_store_that_can_be_opened_and_not_asked_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        store = FullStore(await opened_state())
        exchange = make_exchange(store)
        limiter = exchange.make_limiter(OPERATION, LIMIT, reserve=0.0, binding=LoopBinding())
        await exchange.open()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(limiter.acquire)
            await anyio.sleep(60)
            assert [record.message.count("does not answer") for record in caplog.records] == [1]
            store.has_room = True
            await anyio.sleep(5)
            tasks.cancel_scope.cancel()
        assert caplog.records[-1].message.endswith("answers again")
        assert len(caplog.records) == 2
        await exchange.aclose()

    with caplog.at_level(logging.WARNING, "bms_async.limits"):
        run_virtually(main)


def test_a_store_that_hangs_is_not_waited_for_where_nothing_is_to_be_handed_back() -> None:
    class SilentStore(MemoryStore):
        async def open(self) -> None:
            await anyio.sleep_forever()

    async def main() -> None:
        exchange = make_exchange(SilentStore(await opened_state()))
        with anyio.move_on_after(1):
            await exchange.open()
        assert anyio.current_time() == pytest.approx(1, abs=0.01)
        assert not exchange.statistics.questions

    run_virtually(main)
