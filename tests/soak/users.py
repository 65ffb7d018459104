"""What users do, each with servers of his own; and what is wrong with what they are told."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import aclosing
from dataclasses import dataclass, field
from random import Random
from typing import Any

import anyio
import msgspec

from bms_async import BmsClient, BmsError, ClientClosedError, FleetRun, JobHandle, Outcome, WaitTooLongError
from tests.support.machine import patience

from .judge import judge_deeds, judge_report
from .messages import ask
from .processes import Surroundings
from .proxy import ProxyBooks
from .remains import tell_waits

ACTIONS = ("stop", "start", "reboot")
_ENDLESS = patience(45.0)
"""Seconds after which a run, a call or a wait counts as one that never ends."""

_CALLBACK_GRACE = patience(6.0)
"""Seconds that a run which was left has for its report."""


@dataclass(slots=True)
class Told:
    """What came of it all.

    Attributes:
        broken: What should not have been.
        asked: How often a reboot of each server was asked for.
    """

    broken: list[str] = field(default_factory=list)
    runs: int = 0
    clients: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)


async def read_proxy(around: Surroundings) -> ProxyBooks:
    """Read the proxy's books."""
    return msgspec.convert(await ask(around.control, "GET", "/books"), ProxyBooks, dec_hook=_count)


async def read_work(around: Surroundings) -> dict[str, dict[str, int]]:
    """Read how often the cloud has begun which power operation with which server."""
    return msgspec.convert(await ask(around.cloud, "GET", "/_admin/servers/work"), dict[str, dict[str, int]])


def _count(_type: type, told: dict[str, int]) -> Counter[str]:
    return Counter(told)


class User:
    """Somebody with servers of his own, who does one thing after another.

    Args:
        bms: The client, which others use as well.
        servers: His.
        random: What he does is drawn from it.
        told: Where it is noted.
    """

    def __init__(self, bms: BmsClient, servers: list[str], random: Random, told: Told, around: Surroundings) -> None:
        self._bms = bms
        self._servers = servers
        self._random = random
        self._told = told
        self._around = around
        # Whether something may still be on its way to the cloud that nobody waits for.
        self._untidy = False
        self._run: FleetRun | None = None

    async def until(self, ends_at: float, *deeds: Callable[[], Awaitable[None]]) -> None:
        """Do one thing after another until a time."""
        while anyio.current_time() < ends_at:
            await self.do(self._random.choice(deeds))

    async def do(self, deed: Callable[[], Awaitable[None]]) -> None:
        """Do one thing, and note if it breaks or has no end."""
        name = getattr(deed, "__name__", "")
        waits: list[str] = []
        # Before it is cancelled, for afterwards nobody waits there any more.
        watch = asyncio.get_running_loop().call_later(_ENDLESS - 1, lambda: waits.extend(self._tell_waits()))
        try:
            with anyio.fail_after(_ENDLESS):
                await deed()
        except BmsError as error:
            self._told.errors[type(error).__name__] += 1
        except TimeoutError:
            self._told.broken.append("\n    ".join([f"{name} has no end:", *waits]))
        except Exception as error:  # noqa: BLE001 - it is what is looked for
            self._told.broken.append(f"{name}: {error!r}")
        finally:
            watch.cancel()
        self._told.calls[name] += 1

    def _tell_waits(self) -> list[str]:
        run = self._run
        return [*tell_waits("FleetRun"), *([] if run is None else [f"{run!r}, {run.progress}"])]

    async def run_fleet(self) -> None:
        """Have something done to some servers; some of those who do so leave before the end."""
        random, told = self._random, self._told
        action = random.choice(ACTIONS)
        servers = random.sample(self._servers, random.randint(1, len(self._servers)))
        if action == "reboot":
            told.asked.update(servers)
        called: list[str] = []
        options = self._draw_options(called)
        before = await self._begun(action)
        given: list[str] = []
        start: Callable[..., FleetRun] = getattr(self._bms.fleet, action)
        self._run = run = start(self._give(servers, given), **options)
        leaves = random.random() < 0.15
        seen: list[list[Outcome]] = []
        try:
            async with anyio.create_task_group() as consumers:
                if leaves:
                    consumers.start_soon(self._leave, run)
                else:
                    for _ in range(random.randint(1, 2)):
                        consumers.start_soon(self._consume, run, seen)
                if random.random() < 0.1:
                    await anyio.sleep(random.uniform(0.0, 0.4))
                    run.cancel(detach=leaves)
        finally:
            # Those who left have ended nothing, and a run that is let go has its end a moment later.
            if leaves:
                run.cancel(detach=True)
            with anyio.move_on_after(_CALLBACK_GRACE, shield=True):
                while run.report is None:  # noqa: ASYNC110 - waiting for it in the usual way is what was left off
                    await anyio.sleep(0.01)
            told.runs += 1
            told.broken += judge_report(f"servers.{action}", run.report, given, seen)
        assert run.report is not None
        told.outcomes.update(outcome.state.value for outcome in run.report.outcomes)
        if any(count > 1 for count in Counter(called).values()) or (
            "on_outcome" in options and set(called) < set(given)
        ):
            told.broken.append(f"R2 on_outcome was called {len(called)} times for {len(given)} servers")
        if not leaves and not self._untidy:
            after = await self._settled(action)
            told.broken += judge_deeds(action, run.report, before, after, alone=not self._untidy)
        self._untidy |= leaves
        self._run = None

    async def call(self) -> None:
        """Ask for something in one call, and wait for its job in one of many ways."""
        random = self._random
        action = random.choice(ACTIONS)
        servers = random.sample(self._servers, random.randint(1, min(5, len(self._servers))))
        if action == "reboot":
            self._told.asked.update(servers)
        # An answer may be lost, and what was asked for then arrives when nobody waits for it.
        self._untidy = True
        ask_for: Callable[[list[str]], Awaitable[JobHandle]] = getattr(self._bms.servers, action)
        with anyio.move_on_after(random.choice((math.inf, math.inf, 0.05))):
            handle = await ask_for(servers)
            if random.random() < 0.3:
                handle = self._bms.jobs.restore(handle.to_json())
            with anyio.move_on_after(random.choice((math.inf, math.inf, 0.1))):
                await self._wait(handle, servers)

    async def read(self) -> None:
        """Read servers, as fast as the limit allows."""
        patient = self._bms.with_options(max_wait=0.05)
        for _ in range(20):
            with anyio.move_on_after(self._random.choice((math.inf, math.inf, 0.002))):
                server_id = self._random.choice(self._servers)
                try:
                    await patient.servers.get(server_id)
                    await patient.servers.list_interfaces(server_id)
                except WaitTooLongError:
                    await anyio.sleep(0.1)

    async def list_all(self) -> None:
        """List all servers, or some and then leave."""
        most = self._random.choice((10_000, 10_000, 30))
        with anyio.move_on_after(self._random.choice((math.inf, math.inf, 0.02))):
            count = 0
            async for _ in self._bms.servers.list(page_size=self._random.choice((50, 1000))):
                count += 1
                if count == most:
                    break

    async def listen(self) -> None:
        """Hear of jobs for a moment."""
        with anyio.move_on_after(self._random.uniform(0.0, 0.5)):
            async with self._bms.jobs.events(max_buffer_size=50) as events:
                async for _ in events:
                    await anyio.sleep(0.001)

    async def _wait(self, handle: JobHandle, servers: list[str]) -> None:
        match self._random.randrange(3):
            case 0:
                await handle
            case 1:
                async with aclosing(handle.sub_jobs()) as subs:  # type: ignore[type-var]
                    async for _ in subs:
                        pass
            case _:
                futures = [handle.sub_job(server_id) for server_id in servers]
                try:
                    await asyncio.wait(futures)
                finally:
                    for future in futures:
                        if not future.cancel() and not future.cancelled():
                            future.exception()

    async def _consume(self, run: FleetRun, seen: list[list[Outcome]]) -> None:
        outcomes: list[Outcome] = []
        try:
            if self._random.random() < 0.5:
                outcomes += (await run).outcomes
            else:
                async for outcome in run:
                    outcomes.append(outcome)
        except ClientClosedError:
            return
        seen.append(outcomes)

    async def _leave(self, run: FleetRun) -> None:
        if self._random.random() < 0.5:
            with anyio.move_on_after(self._random.uniform(0.0, 0.3)):
                await run
        else:
            async with aclosing(aiter(run)) as outcomes:  # type: ignore[type-var]
                async for _ in outcomes:
                    break

    def _draw_options(self, called: list[str]) -> dict[str, Any]:
        random = self._random
        options: dict[str, Any] = {"verify": random.random() < 0.2, "retry_transient": random.random() < 0.5}
        if random.random() < 0.3:
            options["wave_size"] = random.randint(3, 30)
        if random.random() < 0.1:
            options |= {"abort_above": 0.2, "abort_sample": 5}
        if random.random() < 0.3:
            options["on_outcome"] = lambda outcome: called.append(outcome.server_id)
        return options

    def _give(self, servers: list[str], given: list[str]) -> list[str] | Iterator[str] | AsyncIterator[str]:
        def give() -> Iterator[str]:
            for server_id in servers:
                given.append(server_id)
                yield server_id

        async def give_slowly() -> AsyncIterator[str]:
            for server_id in give():
                yield server_id
                await anyio.sleep(0.001)

        kind = self._random.randrange(3)
        if kind == 0:
            given += servers
            return servers
        return give() if kind == 1 else give_slowly()

    async def _begun(self, action: str) -> dict[str, int]:
        """Return how often the cloud has begun that with each server."""
        return (await read_work(self._around))[action]

    async def _settled(self, action: str) -> dict[str, int]:
        """Return it once nothing is on its way there that is about these servers."""
        mine = set(self._servers)
        while True:
            if mine.isdisjoint((await read_proxy(self._around)).busy):
                return await self._begun(action)
            await anyio.sleep(0.05)
