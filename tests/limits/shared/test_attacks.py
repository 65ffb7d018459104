"""What may go wrong between a process and its store, one by one: no window over the limit, and no call that hangs."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
from collections.abc import Callable, Sequence

import anyio
import pytest
from msgspec import structs

from bms_async import WaitTooLongError
from bms_async.limits import Lane
from bms_async.limits.loop_binding import LoopBinding
from bms_async.limits.shared.exchange import Exchange
from bms_async.limits.shared.limiter import SharedLimiter
from bms_async.limits.shared.messages import Answer, Question, Refusal, Terms
from tests.limits.shared._memory import MemoryState, MemoryStore
from tests.limits.shared._processes import LIMIT, OPERATION, Gateway, make_exchange, opened_state, process, store_time
from tests.support.virtual_clock import run_virtually

CLOSED = Terms().closed


def make_pair(store: MemoryStore, *, without_store: float | None = None) -> tuple[Exchange, SharedLimiter]:
    exchange = make_exchange(store, without_store=without_store)
    return exchange, exchange.make_limiter(OPERATION, LIMIT, reserve=0.0, binding=LoopBinding())


def test_a_process_that_had_nothing_to_ask_waits_as_long_before_it_goes_on_alone() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        async with process(state) as busy, process(state, without_store=1 / 4) as idle:
            await gateway.call(idle)
            await anyio.sleep(3600)
            await gateway.call_often(busy, LIMIT)
            state.away = True
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(gateway.call_often, idle, 12)
                await anyio.sleep(CLOSED - 1)
                assert len(gateway.came) == 1 + LIMIT
                await anyio.sleep(5)
                assert len(gateway.came) == 1 + LIMIT + 12
        assert gateway.busiest() == LIMIT

    run_virtually(main)


def test_a_process_that_is_started_as_the_store_comes_back_lets_those_report_that_were_alone() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        async with process(state, without_store=1 / 2) as old:
            state.away = True
            await asyncio.sleep(0)
            waiting = [asyncio.ensure_future(gateway.call(old)) for _ in range(LIMIT // 2)]
            await asyncio.gather(*waiting)
            began = anyio.current_time()
            async with process(state, without_store=1 / 2) as new, anyio.create_task_group() as tasks:
                tasks.start_soon(gateway.call_often, new, LIMIT)
                await anyio.sleep(0.3)
                state.away = False
            assert gateway.busiest() <= LIMIT
            assert anyio.current_time() - began < 75

    run_virtually(main)


def test_a_store_that_opens_and_never_answers_does_not_make_what_was_sent_alone_count_twice() -> None:
    class Mute(MemoryStore):
        is_mute = False

        async def ask(self, account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
            if self.is_mute:
                raise OSError(28, "No space left on device")
            return await super().ask(account, questions)

    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        store = Mute(state)
        exchange, limiter = make_pair(store, without_store=1 / 5)
        await exchange.open()
        store.is_mute = True
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.call_often, limiter, 100)
            await anyio.sleep(CLOSED + 130)
            assert len(gateway.came) == 30
            assert limiter.statistics().shared.is_alone  # type: ignore[union-attr]
            store.is_mute = False
            await anyio.sleep(30)
            tasks.cancel_scope.cancel()
        adopted = max(question.adopted for _, _, question in state.asked)
        assert adopted <= LIMIT // 5
        assert gateway.busiest() <= LIMIT
        await exchange.aclose()

    run_virtually(main)


def test_what_was_sent_alone_is_adopted_though_the_first_question_about_it_is_lost() -> None:
    async def main() -> None:
        state = await opened_state()
        exchange, limiter = make_pair(MemoryStore(state), without_store=1.0)
        await exchange.open()
        (await limiter.acquire()).release()
        await anyio.sleep(2)
        state.away = True
        slots = [await limiter.acquire() for _ in range(LIMIT)]
        state.away, state.lost_answers = False, 10**9
        await anyio.sleep(1)
        for slot in slots[:10]:
            slot.release()
        slots[10].refund()
        # A lease later the process begins anew; what was asked last was not answered.
        await anyio.sleep(16)
        state.forget()
        for name, data in (await opened_state()).accounts.items():
            state.accounts[name] = data
        state.lost_answers = 0
        await anyio.sleep(5)
        assert limiter.statistics().used == LIMIT - 1
        usage = await _read(state)
        assert usage == (LIMIT - 11, 10)
        for slot in slots[11:]:
            slot.release()
        await anyio.sleep(61)
        assert await _read(state) == (0, LIMIT - 1)
        await exchange.aclose()

    run_virtually(main)


async def _read(state: MemoryState) -> tuple[int, int]:
    """Return how many slots the ledger holds, and how many are in their cooldown."""
    store = MemoryStore(state)
    await store.open()
    ledger = (await store.read("prod")).ledgers[OPERATION]
    return sum(holder.held for holder in ledger.holders), sum(count for _, count in ledger.cooldowns)


def test_the_end_of_a_call_that_was_made_alone_is_not_taken_for_that_of_a_later_one() -> None:
    async def main() -> None:
        state = await opened_state()
        exchange, limiter = make_pair(MemoryStore(state), without_store=1 / 2)
        await exchange.open()
        (await limiter.acquire()).release()
        state.away = True
        slow = await limiter.acquire()
        state.away = False
        await anyio.sleep(15)
        assert await _read(state) == (1, 0)
        # The store is away for a lease, and the process begins anew.
        state.away = True
        await anyio.sleep(40)
        state.away = False
        later = await limiter.acquire()
        held, _ = await _read(state)
        slow.release()
        await anyio.sleep(2)
        assert held == 1
        assert (await _read(state))[0] == 1
        later.release()
        await exchange.aclose()

    run_virtually(main)


def test_the_calls_counted_never_become_fewer() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        async with process(state, without_store=1 / 2) as limiter, anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.call_often, limiter, 500)
            seen = 0
            for second in range(700):
                state.away = 20 < second < 300
                await anyio.sleep(1)
                calls = limiter.statistics().calls
                assert calls >= seen
                assert calls >= len(gateway.came)
                seen = calls
            tasks.cancel_scope.cancel()

    run_virtually(main)


def test_a_client_that_is_opened_again_while_the_store_is_away_is_not_alone_at_once() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        exchange, limiter = make_pair(MemoryStore(state), without_store=1 / 4)
        await exchange.open()
        state.away = True
        await gateway.call(limiter)
        alone = [exchange.statistics.is_alone]
        await exchange.aclose()
        state.away = False
        async with process(state) as other:
            await anyio.sleep(600)
            await gateway.call_often(other, LIMIT)
        state.away = True
        await exchange.open()
        alone.append(exchange.statistics.is_alone)
        assert alone == [True, False]
        assert limiter.acquire_nowait() is None
        await exchange.aclose()

    run_virtually(main)


def test_what_was_sent_alone_is_reported_by_a_client_that_closes_right_after_the_store_is_back() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        exchange, limiter = make_pair(MemoryStore(state, delay=0.5), without_store=1 / 2)
        await exchange.open()
        state.away = True
        await gateway.call_often(limiter, LIMIT // 2)
        state.away = False
        for _ in range(500):
            await anyio.sleep(0.01)
            if not exchange.statistics.is_alone:
                break
        await exchange.aclose()
        async with process(state) as other, anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.call_often, other, LIMIT)
        assert gateway.busiest() <= LIMIT

    run_virtually(main)


def test_a_child_process_has_neither_the_share_of_its_parent_nor_what_that_has_to_report() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        exchange, limiter = make_pair(MemoryStore(state), without_store=1 / 2)
        await exchange.open()
        state.away = True
        await gateway.call(limiter)
        limiter._holding.refusals.append(Refusal())
        tasks = exchange._tasks
        # What the hook does in a child process, which this one is not.
        exchange.renew()
        await tasks.aclose()
        state.away = False
        began = len(state.asked)
        await exchange.open()
        assert not exchange.statistics.is_alone
        (await limiter.acquire()).release()
        await exchange.aclose()
        assert not any(question.adopted or question.refusals for _, _, question in state.asked[began:])

    run_virtually(main)


class Odd(MemoryStore):
    """A store whose answers are changed on their way."""

    def __init__(self, state: MemoryState, change: Callable[[list[Answer]], object]) -> None:
        super().__init__(state, delay=0.0)
        self.change, self.is_odd = change, True
        self.times: list[float] = []

    async def ask(self, account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
        self.times.append(anyio.current_time())
        if self.is_odd and self.change is nothing_at_all:
            return [Answer(seq=question.seq, known=True, capacity=LIMIT) for _, question in questions]
        answers = await super().ask(account, questions)
        return self.change(answers) if self.is_odd else answers  # type: ignore[return-value]


def each(**changes: object) -> Callable[[list[Answer]], object]:
    return lambda answers: [structs.replace(answer, **changes) for answer in answers]


def nothing_at_all(answers: list[Answer]) -> object:
    return answers


ODD: dict[str, Callable[[list[Answer]], object]] = {
    "nothing": lambda _: None,
    "no answer": lambda _: [],
    "one too many": lambda answers: [*answers, answers[0]],
    "no answers at all": lambda answers: [None for _ in answers],
    "another number": each(seq=77),
    "very many slots": each(granted=10**9),
    "fewer than none": each(granted=-5),
    "a negative wait": each(again=-3.0),
    "an endless wait": each(again=math.inf),
    "a wait that is no number": each(again=math.nan),
    "a clock that is no number": each(now=math.nan),
    "text": each(now="noon"),
    "unknown": each(known=False),
    "nothing granted, nothing to wait for": nothing_at_all,
    "a very long wait": each(again=1e12),
}


@pytest.mark.parametrize("change", ODD.values(), ids=ODD.keys())
def test_a_store_that_answers_oddly_is_asked_again_in_measure_and_nothing_hangs(
    change: Callable[[list[Answer]], object],
) -> None:
    async def main() -> None:
        gateway = Gateway()
        store = Odd(await opened_state(), change)
        exchange, limiter = make_pair(store)
        await exchange.open()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(gateway.call_often, limiter, LIMIT)
            await anyio.sleep(20)
            assert gateway.busiest() <= LIMIT
            assert busiest_second(store.times) <= MOST_A_SECOND
            store.is_odd = False
            await anyio.sleep(CLOSED + 61)
            assert not limiter.has_waiters
        assert gateway.busiest() <= LIMIT
        await exchange.aclose()
        assert len(asyncio.all_tasks()) == 1

    run_virtually(main)


MOST_A_SECOND = 101


def busiest_second(times: Sequence[float]) -> int:
    return max(sum(begin <= at < begin + 1 for at in times) for begin in {math.floor(at) for at in times})


def test_a_store_whose_clock_jumps_with_every_answer_is_asked_in_measure_and_logged_once(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        state = await opened_state()

        def jump(answers: list[Answer]) -> list[Answer]:
            state.ahead += 1
            return answers

        store = Odd(state, jump)
        exchange, limiter = make_pair(store)
        await exchange.open()
        with anyio.move_on_after(10):
            for _ in range(2 * LIMIT):
                await limiter.acquire()
        assert len(store.times) > LIMIT
        assert busiest_second(store.times) <= MOST_A_SECOND
        assert sum("jumped ahead" in record.message for record in caplog.records) == 1
        await exchange.aclose()

    run_virtually(main)


def test_many_refusals_and_restored_calls_are_reported_together() -> None:
    async def main() -> None:
        state = await opened_state()
        store = Odd(state, lambda answers: answers)
        exchange, limiter = make_pair(store)
        await exchange.open()
        for _ in range(2000):
            limiter.on_rate_limited(1.0)
            limiter.restore([30.0])
            await anyio.sleep(0.001)
        assert busiest_second(store.times) <= MOST_A_SECOND
        await exchange.aclose()

    run_virtually(main)


def test_a_call_that_may_not_wait_says_that_the_store_does_not_answer() -> None:
    async def main() -> None:
        state = await opened_state()
        async with process(state) as limiter:
            state.away = True
            with pytest.raises(WaitTooLongError) as caught:
                await limiter.acquire(max_wait=5)
            assert str(caught.value) == (
                "servers.stop: the store of its shared limit does not answer (ConnectionRefusedError: the store is "
                "away), and max_wait is 5 s (nothing was sent)"
            )
            assert caught.value.reason is not None
            state.away = False
            await anyio.sleep(3)
            slots = [await limiter.acquire() for _ in range(LIMIT)]
            with pytest.raises(WaitTooLongError, match="its rate limit requires a wait of at least") as caught:
                await limiter.acquire(max_wait=1)
            assert caught.value.reason is None
            for slot in slots:
                slot.release()

    run_virtually(main)


class UnspeakableError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")


@pytest.mark.parametrize("cancels_it", [False, True])
def test_the_task_that_asks_outlives_an_error_without_a_text_and_its_own_cancellation(cancels_it: bool) -> None:
    class Hostile(MemoryStore):
        is_hostile = True

        async def ask(self, account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
            if self.is_hostile:
                self.is_hostile = False
                task = asyncio.current_task()
                if cancels_it and task is not None:
                    task.cancel()
                    await asyncio.sleep(1)
                raise UnspeakableError
            return await super().ask(account, questions)

    async def main() -> None:
        exchange, limiter = make_pair(Hostile(await opened_state()))
        await exchange.open()
        with anyio.fail_after(10):
            (await limiter.acquire()).release()
        await exchange.aclose()
        assert len(asyncio.all_tasks()) == 1

    run_virtually(main)


LOOP_AFTER_LOOP = """
import asyncio, gc, sys
from bms_async.limits.loop_binding import LoopBinding
from bms_async.limits.shared.exchange import Exchange
from bms_async.limits.shared.messages import Terms
from tests.limits.shared._memory import MemoryState, MemoryStore
from tests.limits.shared._timed import open_state

state = MemoryState()
class Collecting(MemoryStore):
    # What was left on a loop that is gone ends when it is collected: here, while the next loop waits for its answer.
    async def open(self):
        gc.collect()
        await super().open()

exchange = Exchange("a", lambda: Collecting(state), Terms())
limiter = exchange.make_limiter("servers.stop", 50, reserve=0.0, binding=LoopBinding())

async def use(closes_client):
    if not state.accounts:
        state.accounts.update(open_state().accounts)
    await exchange.open()
    kept.append(await limiter.acquire())
    await asyncio.sleep(0.01)
    if closes_client:
        await exchange.aclose()

kept = []
for closes_client in (True, False, False, True):
    loop = asyncio.new_event_loop()
    loop.run_until_complete(asyncio.wait_for(use(closes_client), 30))
    loop.close()
    kept[-1].release()
print("served on four loops")
"""


def test_a_loop_that_is_gone_leaves_the_limits_to_the_next_one_whether_the_client_was_closed_or_not() -> None:
    # In a process of its own, because asyncio complains of what was left on a loop that is closed without a word.
    done = subprocess.run(
        [sys.executable, "-c", LOOP_AFTER_LOOP], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "served on four loops\n", done.stderr


def test_closing_is_counted_though_the_one_who_closes_is_cancelled() -> None:
    async def main() -> None:
        exchange, limiter = make_pair(MemoryStore(await opened_state(), delay=1.0))
        for _ in range(3):
            await exchange.open()
            (await limiter.acquire()).release()
            closing = asyncio.ensure_future(exchange.aclose())
            await anyio.sleep(0.1)
            closing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await closing
            assert exchange._tasks.open_count == 0
        assert len(asyncio.all_tasks()) == 1

    run_virtually(main)


@pytest.mark.parametrize("after", [0.0, 0.0005, 0.01, 0.2, 0.5, 0.9])
def test_opening_that_is_cancelled_at_any_moment_leaves_nothing(after: float) -> None:
    async def main() -> None:
        exchange, _ = make_pair(MemoryStore(await opened_state(), delay=0.5))
        opening = asyncio.ensure_future(exchange.open())
        other = asyncio.ensure_future(exchange.open())
        await anyio.sleep(after)
        opening.cancel()
        await asyncio.wait({opening})
        await other
        await exchange.aclose()
        if not opening.cancelled():
            await exchange.aclose()
        assert exchange._tasks.open_count == 0
        assert len(asyncio.all_tasks()) == 1

    run_virtually(main)


def test_all_tasks_of_the_loop_are_cancelled_and_the_limits_are_opened_again() -> None:
    async def main() -> None:
        exchange, limiter = make_pair(MemoryStore(await opened_state()))
        await exchange.open()
        waiting = [asyncio.ensure_future(limiter.acquire()) for _ in range(2 * LIMIT)]
        await anyio.sleep(1)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await anyio.sleep(1)
        for task in waiting[:LIMIT]:
            task.result().release()
        await exchange.aclose()
        assert len(asyncio.all_tasks()) == 1
        await exchange.open()
        with anyio.fail_after(CLOSED + 2):
            (await limiter.acquire()).release()
        await exchange.aclose()

    run_virtually(main)


def test_very_many_that_wait_are_cancelled_without_holding_the_loop_or_staying_in_memory() -> None:
    async def main() -> None:
        exchange, limiter = make_pair(MemoryStore(await opened_state()))
        await exchange.open()
        waiting = [asyncio.ensure_future(limiter.acquire(Lane.BULK)) for _ in range(20_000)]
        await anyio.sleep(10)
        for task in waiting[LIMIT:]:
            task.cancel()
        await asyncio.wait(waiting)
        assert not limiter.has_waiters
        assert len(limiter._lanes[1]._waiters) <= 64
        for task in waiting[:LIMIT]:
            task.result().release()
        await exchange.aclose()

    run_virtually(main)


def test_what_a_limiter_keeps_is_bounded_however_many_calls_there_were() -> None:
    async def main() -> None:
        gateway, state = Gateway(wire=(0.0, 0.0)), MemoryState(store_time)
        async with process(await opened_state(), limit=200) as limiter:
            del state
            for _ in range(50):
                await gateway.call_often(limiter, 200)
            holding, usage = limiter._holding, limiter._usage
            assert len(usage.cooldowns) <= 201
            assert len(usage._others) <= 201
            assert len(holding.unreported) <= 201
            assert not holding.elsewhere

    run_virtually(main)
