"""Processes that share a store, on the virtual clock: whatever fails, no minute over the limit (R1), no slot lost."""

from __future__ import annotations

import asyncio
import logging
import math
from collections.abc import Sequence
from contextlib import AsyncExitStack

import anyio
import pytest

from bms_async import ConfigurationError, WaitTooLongError
from bms_async.limits import Lane
from bms_async.limits.loop_binding import LoopBinding
from bms_async.limits.shared import exchange as exchange_module
from bms_async.limits.shared.limiter import SharedLimiter
from bms_async.limits.shared.messages import Answer, Question, Terms
from bms_async.limits.shared.store import StoreError
from bms_async.limits.shared.store_clock import StoreClock
from tests.limits.shared._memory import MemoryState, MemoryStore
from tests.limits.shared._processes import (
    LIMIT,
    OPERATION,
    Gateway,
    make_exchange,
    opened_state,
    process,
    store_time,
)
from tests.support.virtual_clock import run_virtually

CLOSED = Terms().closed


async def at_once(gateway: Gateway, state: MemoryState, processes: int, calls: int) -> None:
    async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
        for _ in range(processes):
            limiter = await stack.enter_async_context(process(state))
            tasks.start_soon(gateway.call_often, limiter, calls)


def test_four_processes_keep_one_limit_and_are_as_fast_as_it_allows() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        began = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            for _ in range(4):
                tasks.start_soon(at_once, gateway, state, 1, 40)
        assert len(gateway.came) == 160
        assert gateway.busiest() == LIMIT
        assert max(gateway.came) - began <= 1.01 * 180

    run_virtually(main)


def test_two_processes_that_share_nothing_are_over_the_limit() -> None:
    async def main() -> None:
        gateway = Gateway()
        async with anyio.create_task_group() as tasks:
            for _ in range(2):
                tasks.start_soon(at_once, gateway, await opened_state(), 1, 50)
        assert gateway.busiest() == 2 * LIMIT

    run_virtually(main)


def test_an_account_that_the_store_does_not_know_is_closed_at_first() -> None:
    async def main() -> None:
        gateway, state = Gateway(), MemoryState(store_time)
        async with process(state) as limiter:
            began = anyio.current_time()
            await gateway.call(limiter)
            assert CLOSED <= gateway.came[0] - began < CLOSED + 1
            await gateway.call(limiter)
            assert gateway.came[1] - gateway.came[0] < 1

    run_virtually(main)


def test_a_process_that_ends_hands_back_what_it_did_not_use() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        async with process(state) as first:
            slots = [await first.acquire() for _ in range(LIMIT)]
            for slot in slots:
                slot.refund()
        async with process(state) as second:
            with anyio.fail_after(1):
                await gateway.call_often(second, LIMIT)
            assert second.statistics().used == LIMIT

    run_virtually(main)


def test_the_slots_of_a_process_that_is_gone_come_back_after_lease_and_timeout_and_window() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        dead = make_exchange(MemoryStore(state))
        limiter = dead.make_limiter(OPERATION, LIMIT, reserve=0.0, binding=LoopBinding())
        await dead.open()
        for _ in range(LIMIT):
            await limiter.acquire()
        died = anyio.current_time()
        await dead._tasks.aclose()
        async with process(state) as living:
            await gateway.call(living)
            assert CLOSED - 1 <= gateway.came[0] - died <= CLOSED + 1

    run_virtually(main)


def test_a_question_whose_answer_was_lost_is_repeated_as_it_was_and_loses_no_slot() -> None:
    async def main() -> None:
        state = await opened_state()
        async with process(state) as limiter:
            state.lost_answers = 3
            slots = [await limiter.acquire() for _ in range(LIMIT)]
            assert len(slots) == LIMIT
            first, *repeated = (question for _, _, question in state.asked[:4])
            assert all(question == first for question in repeated[:3])
            assert anyio.current_time() < 5

    run_virtually(main)


def test_calls_wait_while_the_store_is_away_which_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        async with process(state) as limiter, anyio.create_task_group() as tasks:
            state.away = True
            tasks.start_soon(gateway.call_often, limiter, 10)
            await anyio.sleep(300)
            assert not gateway.came
            shared = limiter.statistics().shared
            assert shared is not None
            assert shared.unreachable_for is not None
            assert 290 < shared.unreachable_for <= 300
            assert shared.error == "ConnectionRefusedError: the store is away"
            with pytest.raises(WaitTooLongError):
                await limiter.acquire(max_wait=5)
            assert len(caplog.records) == 1
            state.away = False
            await anyio.sleep(5)
            assert len(gateway.came) == 10
            shared = limiter.statistics().shared
            assert shared is not None
            assert shared.unreachable_for is None
        assert [record.levelno for record in caplog.records] == [logging.WARNING] * 2
        assert "does not answer (ConnectionRefusedError: the store is away): calls wait" in caplog.text
        assert "answers again" in caplog.text

    caplog.set_level(logging.INFO, logger="bms_async.limits")
    run_virtually(main)


@pytest.mark.parametrize("guard", [True, False])
def test_a_store_that_forgot_everything_closes_the_account(guard: bool) -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        async with process(state) as first, process(state) as second:
            await gateway.call_often(first, LIMIT)
            state.forget()
            if not guard:
                state.accounts = (await opened_state()).accounts
            await gateway.call_often(second, LIMIT)
        assert gateway.busiest() == (LIMIT if guard else 2 * LIMIT)

    run_virtually(main)


def test_a_store_that_lives_another_life_closes_the_account_and_gives_up_what_was_held() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        async with process(state) as first, process(state) as second, anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.call_often, first, 30)
            await anyio.sleep(0.01)
            state.life = "life-2"
            began = anyio.current_time()
            tasks.start_soon(gateway.call_often, second, 50)
            await anyio.sleep(100)
            assert len(gateway.came) == 30
            await anyio.sleep(CLOSED)
            assert len(gateway.came) == 80
            assert gateway.came[30] - began >= CLOSED - 1
        assert gateway.busiest() <= LIMIT

    run_virtually(main)


@pytest.mark.parametrize("guard", [True, False])
def test_a_clock_of_the_store_that_jumps_ahead_closes_the_account(guard: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not guard:
        monkeypatch.setattr(StoreClock, "goes_on", lambda *_, **__: True)

    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        async with process(state) as first, process(state) as second:
            await gateway.call(second)
            await gateway.call_often(first, LIMIT - 1)
            await anyio.sleep(3)
            state.ahead = 70
            await gateway.call_often(second, LIMIT - 1)
        assert gateway.busiest() == (LIMIT if guard else 2 * LIMIT - 1)

    run_virtually(main)


def test_a_clock_that_is_set_back_an_hour_costs_no_hour() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        async with process(state) as limiter:
            await gateway.call_often(limiter, LIMIT)
            await anyio.sleep(3)
            state.ahead = -3600
            await gateway.call_often(limiter, LIMIT)
        assert gateway.busiest() == LIMIT
        assert anyio.current_time() < CLOSED + 10

    run_virtually(main)


def test_a_429_anywhere_stops_all() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        async with process(state) as first, process(state) as second:
            await gateway.call(first)
            await gateway.call(second)
            await anyio.sleep(2)
            first.on_rate_limited(30.0)
            await anyio.sleep(0.1)
            began = anyio.current_time()
            await gateway.call(second)
            assert 29 <= gateway.came[-1] - began <= 31
            statistics = second.statistics()
            assert statistics.capacity == LIMIT * 4 // 5
            assert first.statistics().refused == 1

    run_virtually(main)


def test_interactive_calls_of_one_process_go_before_bulk_calls_of_another() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        async with process(state) as bulk, process(state) as operator, anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.call_often, bulk, 200)
            await anyio.sleep(30)
            began = anyio.current_time()
            await gateway.call(operator, Lane.INTERACTIVE)
            waited = anyio.current_time() - began
            assert waited < 32
            tasks.cancel_scope.cancel()

    run_virtually(main)


def test_nothing_is_asked_while_nothing_is_held_and_nothing_wanted() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        async with process(state) as limiter:
            await gateway.call(limiter)
            await anyio.sleep(20)
            asked = len(state.asked)
            assert asked <= 3
            await anyio.sleep(3600)
            assert len(state.asked) == asked

    run_virtually(main)


def test_a_lease_is_renewed_while_a_slot_is_held() -> None:
    async def main() -> None:
        state = await opened_state()
        async with process(state) as limiter:
            slot = await limiter.acquire()
            await anyio.sleep(600)
            assert 115 <= len(state.asked) <= 125
            slot.release()
            await anyio.sleep(2)
            statistics = limiter.statistics()
            assert statistics.used == 1

    run_virtually(main)


def test_nothing_is_sent_with_a_slot_whose_lease_is_over() -> None:
    async def main() -> None:
        state = await opened_state()
        async with process(state) as limiter:
            (await limiter.acquire()).refund()
            assert limiter.acquire_nowait() is not None
            state.away = True
            await anyio.sleep(16)
            assert limiter.acquire_nowait() is None

    run_virtually(main)


def test_a_waiter_that_is_cancelled_leaves_no_trace() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        async with process(state) as first, process(state) as second:
            await gateway.call_often(first, LIMIT)
            with anyio.move_on_after(10):
                await gateway.call_often(second, 20)
            assert not second.has_waiters
            await anyio.sleep(60)
            began = anyio.current_time()
            await gateway.call_often(first, LIMIT)
            assert anyio.current_time() - began < 2

    run_virtually(main)


class Failing(MemoryStore):
    """A store whose next questions fail, or hang."""

    def __init__(self, state: MemoryState, *failures: BaseException | None) -> None:
        super().__init__(state)
        self.failures = list(failures)
        self.closed = 0

    async def ask(self, account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
        if self.failures:
            failure = self.failures.pop(0)
            if failure is None:
                await anyio.sleep(math.inf)
            else:
                raise failure
        return await super().ask(account, questions)

    async def aclose(self) -> None:
        self.closed += 1
        await super().aclose()


@pytest.mark.parametrize(
    "failures",
    [
        [ValueError("odd")],
        [asyncio.CancelledError()],
        [SystemExit(3)],
        [None],
        [StoreError("not allowed")],
        [ConnectionError("gone"), None, KeyError("x"), StoreError("no")],
    ],
    ids=["any error", "a cancellation", "an exit", "a hanging connection", "a refusal", "one after the other"],
)
def test_the_task_that_asks_outlives_whatever_the_store_raises(failures: list[BaseException | None]) -> None:
    async def main() -> None:
        store = Failing(await opened_state(), *failures)
        exchange = make_exchange(store)
        limiter = exchange.make_limiter(OPERATION, LIMIT, reserve=0.0, binding=LoopBinding())
        await exchange.open()
        with anyio.fail_after(40):
            (await limiter.acquire()).release()
        assert store.closed == len(failures)
        await exchange.aclose()
        assert len(asyncio.all_tasks()) == 1

    run_virtually(main)


class Refusing(MemoryStore):
    async def open(self) -> None:
        raise StoreError("the store at memory refuses the password; check it")


def test_a_store_that_refuses_is_an_error_at_opening_and_leaves_nothing_open() -> None:
    async def main() -> None:
        exchange = make_exchange(Refusing(MemoryState(store_time)))
        with pytest.raises(ConfigurationError, match="refuses the password; check it"):
            await exchange.open()
        assert len(asyncio.all_tasks()) == 1

    run_virtually(main)


def test_a_store_that_is_away_at_opening_is_waited_for_by_the_calls_and_not_by_the_client() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        state.away = True
        async with process(state) as limiter, anyio.create_task_group() as tasks:
            assert anyio.current_time() < 1
            tasks.start_soon(gateway.call, limiter)
            await anyio.sleep(30)
            assert not gateway.came
            state.away = False

    run_virtually(main)


def test_without_an_open_client_a_call_is_refused_and_does_not_hang() -> None:
    async def main() -> None:
        exchange = make_exchange(MemoryStore(await opened_state()))
        limiter = exchange.make_limiter(OPERATION, LIMIT, reserve=0.0, binding=LoopBinding())
        with pytest.raises(ConfigurationError, match="expected an open client"):
            await limiter.acquire()
        await exchange.open()
        (await limiter.acquire()).release()
        await exchange.aclose()
        with pytest.raises(ConfigurationError, match="expected an open client"):
            await limiter.acquire()

    run_virtually(main)


def test_closing_while_the_store_hangs_takes_some_seconds_and_no_more() -> None:
    async def main() -> None:
        exchange = make_exchange(Failing(await opened_state(), *[None] * 9))
        limiter: SharedLimiter = exchange.make_limiter(OPERATION, LIMIT, reserve=0.0, binding=LoopBinding())
        await exchange.open()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(limiter.acquire)
            await anyio.sleep(1)
            tasks.cancel_scope.cancel()
        began = anyio.current_time()
        await exchange.aclose()
        assert anyio.current_time() - began < 6
        assert len(asyncio.all_tasks()) == 1

    run_virtually(main)


def test_two_clients_of_one_process_are_one_holder_and_the_last_one_hands_back() -> None:
    async def main() -> None:
        state = await opened_state()
        exchange = make_exchange(MemoryStore(state))
        limiter = exchange.make_limiter(OPERATION, LIMIT, reserve=0.0, binding=LoopBinding())
        await exchange.open()
        await exchange.open()
        (await limiter.acquire()).release()
        await exchange.aclose()
        (await limiter.acquire()).release()
        assert len({question.holder for _, _, question in state.asked}) == 1
        await exchange.aclose()
        assert state.asked[-1][2].leaving

    run_virtually(main)


def test_a_client_that_is_opened_while_the_last_one_closes_is_served() -> None:
    async def main() -> None:
        exchange = make_exchange(MemoryStore(await opened_state(), delay=0.5))
        limiter = exchange.make_limiter(OPERATION, LIMIT, reserve=0.0, binding=LoopBinding())
        await exchange.open()
        (await limiter.acquire()).release()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(exchange.aclose)
            await anyio.sleep(0.1)
            await exchange.open()
            with anyio.fail_after(5):
                (await limiter.acquire()).release()
        await exchange.aclose()
        assert len(asyncio.all_tasks()) == 1

    run_virtually(main)


def test_a_share_of_the_limit_goes_on_without_the_store_once_nothing_earlier_counts() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        async with AsyncExitStack() as stack, anyio.create_task_group() as tasks:
            limiters = [await stack.enter_async_context(process(state, without_store=1 / 4)) for _ in range(4)]
            for limiter in limiters:
                tasks.start_soon(gateway.call_often, limiter, 200)
            await anyio.sleep(30)
            state.away = True
            await anyio.sleep(CLOSED - 10)
            assert len(gateway.came) == LIMIT
            await anyio.sleep(100)
            shared = limiters[0].statistics().shared
            assert shared is not None
            assert shared.is_alone
            # 12 of 50 are a quarter, rounded down; two windows began.
            assert len(gateway.came) == LIMIT + 2 * 48
            state.away = False
            await anyio.sleep(300)
            shared = limiters[0].statistics().shared
            assert shared is not None
            assert not shared.is_alone
            # Five minutes, less what the return to the store takes.
            assert len(gateway.came) >= LIMIT + 3 * 48 + 4 * LIMIT
            tasks.cancel_scope.cancel()
        assert gateway.busiest() <= LIMIT

    run_virtually(main)


def test_the_pause_between_two_attempts_stays_short() -> None:
    async def main() -> None:
        state = await opened_state()
        async with process(state) as limiter, anyio.create_task_group() as tasks:
            state.away = True
            tasks.start_soon(limiter.acquire)
            await anyio.sleep(3600)
            state.away = False
            await anyio.sleep(exchange_module._LONGEST_PAUSE + 0.5)
            assert not limiter.has_waiters

    run_virtually(main)
