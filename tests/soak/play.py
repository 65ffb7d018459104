"""Many users at once, round after round, on real sockets; judged after each round, when nothing is under way."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

import anyio
import msgspec

from bms_async import (
    AiohttpTransport,
    BmsClient,
    Http1Transport,
    HttpxTransport,
    Limits,
    PasswordAuth,
    Patience,
    RetryPolicy,
    StaticToken,
)
from bms_async.auth import Auth
from bms_async.simulator import CallCounts
from tests.soak.faults import draw_script
from tests.soak.hurry import PATIENCE, hurried
from tests.soak.judge import judge_books, judge_growth, judge_remains
from tests.soak.messages import ask
from tests.soak.processes import LIMITS, SERVERS, Surroundings, surroundings
from tests.soak.proxy import ProxyBooks
from tests.soak.remains import Remains, count_sockets, listening, look
from tests.soak.users import Told, User, read_proxy, read_work

TRANSPORTS: dict[str, Callable[..., AiohttpTransport | Http1Transport | HttpxTransport]] = {
    "aiohttp": AiohttpTransport,
    "http1": Http1Transport,
    "httpx": HttpxTransport,
}
CONNECTIONS = 24
_GUESTS_CONNECTIONS = 4
_USERS = 8
_GUESTS = 2
_REST = 20.0
_RETRY = RetryPolicy(initial_delay=0.05, max_delay=1.0)
_WINDOW = 62.0


@dataclass(slots=True)
class Soaked:
    """What a soak came to.

    Attributes:
        told: What users did and were told.
        rounds: What there was after each round, and when.
        most_tasks: The most tasks that there were at once; likewise sockets.
    """

    transport: str
    seed: int
    told: Told = field(default_factory=Told)
    rounds: list[tuple[float, Remains]] = field(default_factory=list)
    cloud: CallCounts | None = None
    proxy: ProxyBooks | None = None
    base: Remains | None = None
    closed: Remains | None = None
    most_tasks: int = 0
    most_sockets: int = 0
    seconds: float = 0.0

    @property
    def broken(self) -> list[str]:
        return self.told.broken

    def __str__(self) -> str:
        assert self.cloud
        assert self.proxy
        assert self.base
        assert self.closed
        told = self.told
        first, last = (self.rounds[0][1], self.rounds[-1][1]) if self.rounds else (self.base, self.base)
        arrived = {name: book.arrived for name, book in sorted(self.cloud.operations.items())}
        memory = [f"{at:.0f} s {remains.megabytes:.1f}" for at, remains in self.rounds]
        tasks = [each.tasks.total() for each in (self.base, first, last, self.closed)]
        sockets = [each.sockets for each in (self.base, first, last, self.closed)]
        objects = [each.objects for each in (self.base, first, last, self.closed)]
        lines = [
            f"{self.transport}, seed {self.seed}: {len(self.rounds)} rounds in {self.seconds:.0f} s",
            f"  calls at the cloud: {sum(arrived.values())} ({_list(arrived)}), {self.proxy.refused} refused by script",
            f"  mishaps: {sum(self.proxy.mishaps.values())} ({_list(self.proxy.mishaps)})",
            f"  {told.runs} fleet runs, outcomes: {sum(told.outcomes.values())} ({_list(told.outcomes)})",
            f"  {1 + told.clients} clients, {self.proxy.connections} connections; done: {_list(told.calls)}",
            f"  errors that users got: {_list(told.errors)}",
            "  before the first round, after it, after the last, in the end:",
            f"    tasks {tasks}, {self.most_tasks} at most",
            f"    sockets {sockets}, {self.most_sockets} at most",
            f"    objects {objects}",
            f"  memory in MB: {', '.join(memory[:: max(1, len(memory) // 8)])}; {self.closed.megabytes:.1f} in the end",
            f"  {len(told.broken)} rules broken",
        ]
        return "\n".join([*lines, *(f"  {each}" for each in told.broken[:20])])


def soak(
    transport: str,
    *,
    seconds: float,
    seed: int,
    round_seconds: float = 4.0,
    share: float = 0.05,
    growth: float | None = 8.0,
) -> Soaked:
    """Play for so long.

    Args:
        transport: Which one.
        seconds: How long rounds are begun.
        seed: What users do, and what goes wrong, is drawn from it.
        round_seconds: How long users begin something new.
        share: How many of the requests something goes wrong with.
        growth: How many MB more there may be at the end than after the warm-up; None does not look at that.
    """
    soaked = Soaked(transport, seed)
    began = time.monotonic()
    with hurried(), surroundings(seed=seed, share=share, patience=PATIENCE) as around, listening() as complaints:
        asyncio.run(_Soak(soaked, around, complaints).play(seconds, round_seconds))
    soaked.seconds = time.monotonic() - began
    # A slot comes back after a minute, and so there are ever more of them until then.
    warm_at = _WINDOW if seconds > 1.5 * _WINDOW else 0.0
    soaked.broken.extend(complaints)
    if growth is not None:
        soaked.broken.extend(judge_growth(soaked.rounds, warm_at, growth))
    return soaked


class _Soak:
    def __init__(self, soaked: Soaked, around: Surroundings, complaints: list[str]) -> None:
        self._soaked = soaked
        self._told = soaked.told
        self._around = around
        self._complaints = complaints
        self._make = TRANSPORTS[soaked.transport]
        self._limits = Limits(LIMITS)
        self._ids: list[str] = []

    async def play(self, seconds: float, round_seconds: float) -> None:
        loop, soaked, around = asyncio.get_running_loop(), self._soaked, self._around
        loop.set_exception_handler(
            lambda _, context: self._complaints.append(f"{context.get('message')}: {context.get('exception')!r}")
        )
        self._ids = (await ask(around.cloud, "GET", "/_admin/servers/ids"))["ids"]
        await ask(around.cloud, "POST", "/_admin/faults", msgspec.json.encode(draw_script(soaked.seed)))
        before = look()
        began = anyio.current_time()
        async with self._client(CONNECTIONS, self._password()) as bms:
            soaked.base = await self._rest(bms, before)
            number = 0
            while anyio.current_time() - began < seconds:
                await self._play_round(bms, number, round_seconds)
                remains = await self._rest(bms, soaked.base)
                soaked.rounds.append((anyio.current_time() - began, remains))
                number += 1
            soaked.proxy = await read_proxy(around)
            books = await ask(around.cloud, "GET", "/_admin/calls")
            soaked.cloud = msgspec.convert(books, CallCounts)
            work = await read_work(around)
        del bms
        self._told.broken += judge_books(soaked.cloud, soaked.proxy, work["reboot"], self._told.asked, soaked.seed)
        await anyio.sleep(0.05)
        soaked.closed = look()
        self._told.broken += judge_remains(before, soaked.closed, 0)

    def _client(self, connections: int, auth: Auth) -> BmsClient:
        return BmsClient(
            endpoint=self._around.proxy,
            project_id=self._around.project_id,
            auth=auth,
            transport=self._make(connections=connections),
            limits=self._limits,
            timeout=PATIENCE,
            retry=_RETRY,
            patience=Patience(not_found=3 * PATIENCE, incomplete=3 * PATIENCE),
        )

    def _password(self) -> PasswordAuth:
        around = self._around
        return PasswordAuth(
            auth_url=f"{around.proxy}/v3",
            username=around.username,
            password=around.password,
            user_domain_name=around.user_domain_name,
            project_id=around.project_id,
        )

    async def _play_round(self, bms: BmsClient, number: int, seconds: float) -> None:
        ends_at = anyio.current_time() + seconds
        each = SERVERS // (_USERS + _GUESTS)
        shares = [self._ids[start : start + each] for start in range(0, SERVERS, each)]
        rng = Random(f"{self._soaked.seed}/{number}")
        rng.shuffle(shares)
        watching = anyio.CancelScope()
        async with anyio.create_task_group() as everybody:
            everybody.start_soon(self._watch, watching)
            everybody.start_soon(self._trouble, rng.random() * seconds, number)
            async with anyio.create_task_group() as users:
                for place in range(_USERS):
                    random = Random(f"{self._soaked.seed}/{number}/{place}")
                    user = User(bms, shares.pop(), random, self._told, self._around)
                    deeds = (user.run_fleet,) if place < 5 else (user.call, user.read, user.list_all, user.listen)
                    users.start_soon(user.until, ends_at, *deeds)
                for place in range(_GUESTS):
                    random = Random(f"{self._soaked.seed}/{number}/guest/{place}")
                    users.start_soon(self._visit, shares.pop(), random, ends_at)
            watching.cancel()

    async def _visit(self, servers: list[str], random: Random, ends_at: float) -> None:
        """Open clients, use them, and close them, often in the middle of all."""
        while anyio.current_time() < ends_at:
            auth = StaticToken(self._around.token) if random.random() < 0.5 else self._password()
            bms = self._client(_GUESTS_CONNECTIONS, auth)
            self._told.clients += 1
            user = User(bms, servers, random, self._told, self._around)
            leaves_after = random.uniform(0.0, 1.5)
            async with anyio.create_task_group() as both, bms:
                for deed in (user.run_fleet, user.call, user.read):
                    both.start_soon(user.do, deed)
                await anyio.sleep(leaves_after)
                await bms.aclose()

    async def _trouble(self, after: float, number: int) -> None:
        """Have all tokens revoked, or nobody listen for a moment."""
        await anyio.sleep(after)
        if number % 2:
            await ask(self._around.cloud, "DELETE", "/_admin/tokens")
        else:
            await ask(self._around.control, "POST", "/outage/0.1")

    async def _watch(self, scope: anyio.CancelScope) -> None:
        with scope:
            while True:
                self._soaked.most_tasks = max(self._soaked.most_tasks, len(asyncio.all_tasks()))
                self._soaked.most_sockets = max(self._soaked.most_sockets, count_sockets())
                await anyio.sleep(0.05)

    async def _rest(self, bms: BmsClient, base: Remains) -> Remains:
        """Wait until nothing is under way, and judge what there is."""
        gives_up_at = anyio.current_time() + _REST
        while True:
            gc.collect()
            session, watcher = bms.statistics().session, bms.statistics().watcher
            books = await read_proxy(self._around)
            under_way = {
                "open calls": session.open_calls,
                "live jobs": watcher.polled,
                "sleeping jobs": watcher.idle,
                "polls": watcher.in_flight,
                "requests at the proxy": books.open,
            }
            if not any(under_way.values()):
                await anyio.sleep(0.05)
                remains = look()
                # The first look is what the others are held against.
                wrong = [] if not self._soaked.base else list(judge_remains(base, remains, CONNECTIONS))
                if not wrong:
                    return remains
            else:
                wrong = [f"{count} {name} are left" for name, count in under_way.items() if count]
            if anyio.current_time() > gives_up_at:
                self._told.broken += wrong
                return look()
            await anyio.sleep(0.1)


def _list(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
