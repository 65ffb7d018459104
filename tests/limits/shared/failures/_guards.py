"""What a process of the controls does not guard itself by: each is taken away in that process alone."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable
from typing import Any, Literal
from weakref import WeakSet

from bms_async._postgres import begin
from bms_async.limits.shared import exchange, holding, postgres, redis
from bms_async.limits.shared import ledger as rules
from bms_async.limits.shared.holding import Holding
from bms_async.limits.shared.messages import Answer, Ledger, Terms
from bms_async.limits.shared.store_clock import StoreClock

Guard = Literal["lease", "life", "clock", "cooldown of the dead", "commit", "anew in a child", "own id of each loop"]


def take_away(guard: Guard) -> None:
    """Do without a guard from now on, in this process."""
    _HOW[guard]()


def _never_lose_a_lease() -> None:
    take_answer = Holding.take_answer

    def take_for_ever(self: Holding, answer: Answer) -> bool:
        is_known = take_answer(self, answer)
        self.lease_ends = math.inf if is_known else self.lease_ends
        return is_known

    def is_lost(self: Holding, held: int) -> bool:
        return False

    Holding.take_answer = take_for_ever  # type: ignore[method-assign]
    Holding.is_lost = is_lost  # type: ignore[method-assign]


def _believe_that_the_store_is_the_same() -> None:
    greet, open_database = redis.RedisStore._greet, postgres.PostgresStore.open
    lives: list[str] = []

    async def greet_as_before(self: redis.RedisStore, connection: Any) -> None:
        await greet(self, connection)
        lives.append(self._life)
        self._life = lives[0]

    async def open_as_before(self: postgres.PostgresStore) -> None:
        await open_database(self)
        lives.append(await self._connected().fetchval(f"SELECT {self._life}"))
        self._life = f"'{lives[0]}'"

    redis.RedisStore._greet = greet_as_before  # type: ignore[method-assign]
    postgres.PostgresStore.open = open_as_before  # type: ignore[method-assign]


def _believe_the_clock() -> None:
    def goes_on(self: StoreClock, shown: float, *, sent: float, received: float) -> bool:
        return True

    StoreClock.goes_on = goes_on  # type: ignore[method-assign]


def _free_at_once_what_the_dead_held() -> None:
    def end_leases(ledger: Ledger, terms: Terms, now: float) -> None:
        ledger.holders = [one for one in ledger.holders if one.ends > now]

    rules._end_leases = end_leases


def _leave_commits_to_later() -> None:
    def begin_and_commit_later(access: Literal["READ WRITE", "READ ONLY"]) -> str:
        return begin(access).replace("synchronous_commit = on", "synchronous_commit = off")

    postgres.__dict__["begin"] = begin_and_commit_later


def _go_on_in_a_child() -> None:
    class Nobody(WeakSet[exchange.Exchange]):
        def __iter__(self) -> Any:
            return iter(())

    exchange._exchanges = Nobody()


def _call_all_alike() -> None:
    class Same:
        hex = "0" * 32

    holding.__dict__["uuid4"] = Same


_HOW: dict[Guard, Callable[[], None]] = {
    "lease": _never_lose_a_lease,
    "life": _believe_that_the_store_is_the_same,
    "clock": _believe_the_clock,
    "cooldown of the dead": _free_at_once_what_the_dead_held,
    "commit": _leave_commits_to_later,
    "anew in a child": _go_on_in_a_child,
    "own id of each loop": _call_all_alike,
}


def use_shifted_clock(key: str) -> None:
    """Have the script read a clock that is off by as many seconds as a key of the server says."""
    load = redis._load_script

    def load_shifted() -> redis._Script:
        text = load().text.replace("tonumber(time[1])", f'tonumber(time[1]) + (redis.call("GET", "{key}") or 0)')
        return redis._Script(text, hashlib.sha1(text.encode()).hexdigest())

    redis._load_script = load_shifted  # type: ignore[assignment]
