"""What shared limits cost a call that finds a slot at hand, in this process and without a server.

The questions to the store are asked between the slices that are measured; `benchmarks.shared_limits` measures what one
costs, and how many there are.
"""

from __future__ import annotations

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

from benchmarks._hooked import AtOnce
from benchmarks._samples import JOB_ID, PROJECT, TOKEN
from benchmarks._shared_limiters import OPERATION
from bms_async import BmsClient, Limits, StaticToken
from bms_async.limits import WindowLimiter
from bms_async.limits.limiter import Limiter
from bms_async.limits.loop_binding import LoopBinding
from bms_async.limits.shared.exchange import Exchange
from bms_async.limits.shared.messages import Answer, Question, Terms
from tests.limits.shared._memory import MemoryState, MemoryStore

PLENTY = 10**9
_CALLS, _ROUNDS = 3_000, 61
_CLIENT_CALLS, _CLIENT_ROUNDS = 300, 41

Part = Callable[[], Coroutine[Any, Any, None]]


class GenerousStore(MemoryStore):
    """A store that grants whatever a slice may use, so that slots are always at hand."""

    async def ask(self, account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
        """Grant very many slots to each."""
        del account
        return [Answer(seq=question.seq, known=True, granted=PLENTY, capacity=PLENTY) for _, question in questions]


async def take_turns(parts: Mapping[str, Part], *, calls: int, rounds: int) -> dict[str, list[float]]:
    """Run all parts by turns; return for each the µs of CPU of a call, round by round.

    Other load on the machine falls on all alike, and the loop's own tasks run between the slices.
    """
    figures: dict[str, list[float]] = {name: [] for name in parts}
    for round_ in range(rounds):
        for name, part in parts.items():
            await asyncio.sleep(0.002)
            begun = time.thread_time()
            await part()
            if round_:
                figures[name].append((time.thread_time() - begun) / calls * 1e6)
    return figures


async def limiters() -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Measure acquiring and releasing of both limiters, with `acquire` and with `acquire_nowait`."""
    binding = LoopBinding()
    exchange = Exchange("a", lambda: GenerousStore(MemoryState()), Terms())
    shared = exchange.make_limiter(OPERATION, PLENTY, reserve=0, binding=binding)
    both: dict[str, Limiter] = {"alone": WindowLimiter(OPERATION, PLENTY), "shared": shared}

    async def waiting(limiter: Limiter) -> None:
        for _ in range(_CALLS):
            (await limiter.acquire()).release()

    async def at_once(limiter: Limiter) -> None:
        for _ in range(_CALLS):
            slot = limiter.acquire_nowait()
            assert slot is not None
            slot.release()

    await exchange.open()
    try:
        (await shared.acquire()).release()
        first = await take_turns(
            {name: lambda limiter=limiter: waiting(limiter) for name, limiter in both.items()},  # type: ignore[misc]
            calls=_CALLS,
            rounds=_ROUNDS,
        )
        second = await take_turns(
            {name: lambda limiter=limiter: at_once(limiter) for name, limiter in both.items()},  # type: ignore[misc]
            calls=_CALLS,
            rounds=_ROUNDS,
        )
    finally:
        await exchange.aclose()
    return first, second


async def clients() -> dict[str, list[float]]:
    """Measure a call of a whole client with limits of its own, and with limits that are shared in a SQLite file."""
    with tempfile.TemporaryDirectory(prefix="bms_async-") as folder:
        changes = {"jobs.get": 1_000_000}
        shared = Limits.shared(f"sqlite://{Path(folder) / 'limits.db'}", account="a", changes=changes)
        async with AsyncExitStack() as stack:
            store = shared._exchange.store  # type: ignore[union-attr]  # noqa: SLF001
            await store.open()
            await store.open_account("a")
            await store.aclose()
            made = {
                name: await stack.enter_async_context(
                    BmsClient(
                        endpoint=f"https://{name}.test",
                        project_id=PROJECT,
                        auth=StaticToken(TOKEN),
                        transport=AtOnce(),
                        limits=limits,
                    )
                )
                for name, limits in (("alone", Limits(changes)), ("shared", shared))
            }

            async def call(client: BmsClient) -> None:
                for _ in range(_CLIENT_CALLS):
                    await client.jobs.get(JOB_ID)

            parts: dict[str, Part] = {
                name: lambda client=client: call(client)  # type: ignore[misc]
                for name, client in made.items()
            }
            return await take_turns(parts, calls=_CLIENT_CALLS, rounds=_CLIENT_ROUNDS)


def ratio(figures: Mapping[str, Sequence[float]]) -> float:
    """Return the median of the ratios of the slices."""
    pairs = zip(figures["shared"], figures["alone"], strict=True)
    return statistics.median(shared / alone for shared, alone in pairs)


def measure() -> list[dict[str, object]]:
    """Return the figures of all."""
    waiting, at_once = asyncio.run(limiters())
    rows = {
        "acquire and release": waiting,
        "acquire_nowait and release": at_once,
        "a call of a client, SQLite": asyncio.run(clients()),
    }
    return [
        {
            "what": what,
            "alone, µs": statistics.median(figures["alone"]),
            "shared, µs": statistics.median(figures["shared"]),
            "ratio": ratio(figures),
        }
        for what, figures in rows.items()
    ]
