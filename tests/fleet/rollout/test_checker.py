"""Checking many servers until they are ready, on the virtual clock: when, how many at once, and what ends it."""

from __future__ import annotations

import asyncio
import logging
import math
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from functools import partial
from itertools import pairwise
from typing import Any, TypeVar

import anyio
import pytest

from bms_async import NotReadyError, Server, all_of, tcp_open
from bms_async.fleet.rollout.checker import ReadinessChecker
from bms_async.models import Address
from bms_async.redaction import mask
from tests.support.virtual_clock import run_virtually

T = TypeVar("T")
Check = Callable[[Server], Awaitable[Any]]


class Ended:
    """What was reported of each server, and when."""

    def __init__(self) -> None:
        self.errors: dict[str, NotReadyError | None] = {}
        self.at: dict[str, float] = {}
        self._news = asyncio.Event()

    def note(self, server_id: str, error: NotReadyError | None) -> None:
        assert server_id not in self.errors
        self.errors[server_id] = error
        self.at[server_id] = anyio.current_time()
        self._news.set()

    async def until(self, count: int) -> None:
        while len(self.errors) < count:
            self._news.clear()
            await self._news.wait()

    def text(self, server_id: str = "s-1") -> str:
        return str(self.errors[server_id])


def virtually(
    check: Check, work: Callable[[ReadinessChecker, Ended], Coroutine[Any, Any, T]], **options: Any
) -> tuple[T, Ended]:
    """Run a checker and do some work with it; then close it, and see that nothing of it is left."""

    async def main() -> tuple[T, Ended]:
        checker = ReadinessChecker(check, **{"timeout": 900.0, **options})
        ended = Ended()
        async with anyio.create_task_group() as group:
            group.start_soon(checker.run)
            result = await work(checker, ended)
            checker.close()
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
        return result, ended

    return run_virtually(main)


def begin(checker: ReadinessChecker, ended: Ended, *ids: str) -> None:
    for each in ids:
        checker.begin(each, partial(Server, id=each), ended.note)


def begins(
    count: int = 1, *, ends: int | None = None
) -> Callable[[ReadinessChecker, Ended], Coroutine[Any, Any, None]]:
    async def work(checker: ReadinessChecker, ended: Ended) -> None:
        begin(checker, ended, *(f"s-{number}" for number in range(1, count + 1)))
        await ended.until(count if ends is None else ends)

    return work


class Comes:
    """A check that finds each server well a while after its first attempt, and notes when it was made."""

    def __init__(self, after: float, takes: float = 0.0) -> None:
        self.times: dict[str, list[float]] = {}
        self.under_way = self.most = 0
        self._after = after
        self._takes = takes

    async def __call__(self, server: Server) -> bool:
        now = anyio.current_time()
        times = self.times.setdefault(server.id, [])
        times.append(now)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await anyio.sleep(self._takes)
        self.under_way -= 1
        return now - times[0] >= self._after


def test_a_server_that_is_ready_at_once_is_asked_once() -> None:
    check = Comes(0.0)
    _, ended = virtually(check, begins())
    assert ended.errors == {"s-1": None}
    assert len(check.times["s-1"]) == 1


def test_a_server_is_asked_again_after_a_fiftieth_of_the_time_at_least_a_second_and_at_most_ten() -> None:
    check = Comes(800.0)
    _, ended = virtually(check, begins())
    assert ended.errors == {"s-1": None}
    times = check.times["s-1"]
    gaps = [after - before for before, after in pairwise(times)]
    for at, gap in zip(times, gaps, strict=False):
        assert gap == pytest.approx(min(max(0.02 * at, 1.0), 10.0), rel=0.01)
    assert 190 < len(times) < 205


def test_a_server_that_is_not_ready_in_time_is_failed_with_what_was_answered_last() -> None:
    async def check(server: Server) -> bool:
        checks.append(anyio.current_time())
        return False

    checks: list[float] = []
    _, ended = virtually(check, begins())
    error = ended.errors["s-1"]
    assert isinstance(error, NotReadyError)
    assert error.answered == "returned False"
    assert (error.server_id, error.seconds, error.attempts) == ("s-1", 900.0, len(checks))
    assert error.asked.endswith("check()")
    assert f"returned False ({len(checks)} attempts)" in str(error)
    assert "not ready within 900 s of the first check" in str(error)
    assert ended.at["s-1"] == pytest.approx(900.0, abs=0.01)
    assert checks[-1] == pytest.approx(899.0, abs=1.01)


@pytest.mark.parametrize("timeout", [0.3, 1.0, 1.5, 2.0, 30.0])
def test_at_least_one_attempt_is_made_and_none_outlasts_the_time(timeout: float) -> None:
    async def check(server: Server) -> bool:
        starts.append(anyio.current_time())
        await anyio.sleep_forever()
        return True

    starts: list[float] = []
    _, ended = virtually(check, begins(), timeout=timeout)
    assert ended.at["s-1"] == pytest.approx(timeout, abs=0.01)
    assert len(starts) == 1
    assert f"no answer within {timeout:g} s (1 attempt)" in ended.text()


def test_a_queue_before_a_server_takes_nothing_of_its_time_and_bounds_what_is_under_way() -> None:
    check = Comes(5.0, takes=2.0)
    _, ended = virtually(check, begins(100), timeout=60.0, max_workers=10)
    assert set(ended.errors.values()) == {None}
    assert check.most == 10
    # The last ones began after others had used up more than a third of what each has.
    assert max(times[0] for times in check.times.values()) > 15.0
    assert sum(map(len, check.times.values())) < 100 * 5

    never = Comes(1e9, takes=2.0)
    _, ended = virtually(never, begins(100), timeout=5.0, max_workers=10)
    assert None not in ended.errors.values()
    assert len(never.times) == 100
    for server_id, at in ended.at.items():
        assert at - never.times[server_id][0] >= 5.0 - 0.001


def test_ten_thousand_servers_take_no_task_each() -> None:
    seen: list[int] = []

    async def check(server: Server) -> bool:
        await anyio.sleep(1.0)
        if server.id.endswith("00"):
            seen.append(len(asyncio.all_tasks()))
        return True

    _, ended = virtually(check, begins(10_000))
    assert set(ended.errors.values()) == {None}
    assert max(seen) < 520


def test_servers_that_are_not_well_do_not_keep_new_ones_from_being_asked() -> None:
    slow = Comes(1e9, takes=4.0)

    async def check(server: Server) -> bool:
        return True if server.id.startswith("new") else await slow(server)

    async def work(checker: ReadinessChecker, ended: Ended) -> None:
        begin(checker, ended, *(f"s-{number}" for number in range(40)))
        for number in range(20):
            await anyio.sleep(10.0)
            begin(checker, ended, f"new-{number}")
        await ended.until(60)

    _, ended = virtually(check, work, timeout=300.0, max_workers=5)
    for number in range(20):
        assert ended.at[f"new-{number}"] < 10.0 * (number + 1) + 40.0
    # And none of the others was forgotten over them.
    assert min(map(len, slow.times.values())) > 5


def test_new_servers_do_not_keep_the_others_from_being_asked_again() -> None:
    times: list[float] = []

    async def check(server: Server) -> bool:
        if server.id == "s-1":
            times.append(anyio.current_time())
            return False
        await anyio.sleep(4.0)
        return True

    async def work(checker: ReadinessChecker, ended: Ended) -> None:
        begin(checker, ended, "s-1")
        for number in range(20):
            # The only place is never free for long.
            begin(checker, ended, f"a-{number}", f"b-{number}")
            await anyio.sleep(4.0)
        await ended.until(41)

    virtually(check, work, timeout=100.0, max_workers=1)
    assert len([each for each in times if each < 80.0]) >= 4


@pytest.mark.parametrize(
    "error", [ValueError("boom"), asyncio.CancelledError(), SystemExit(3), GeneratorExit(), TimeoutError("late")]
)
@pytest.mark.parametrize("nested", [False, True])
def test_whatever_a_check_raises_is_not_yet_and_ends_nothing_else(error: BaseException, nested: bool) -> None:
    async def check(server: Server) -> bool:
        if server.id == "s-1":
            raise error
        return True

    _, ended = virtually(all_of(check) if nested else check, begins(3), timeout=10.0)
    assert {server_id: found is None for server_id, found in ended.errors.items()} == {
        "s-1": False,
        "s-2": True,
        "s-3": True,
    }
    assert ended.at["s-1"] == pytest.approx(10.0, abs=0.01)
    assert type(error).__name__ in ended.text()


def test_a_check_that_cancels_its_own_task_ends_nothing_else() -> None:
    attempts: Counter[str] = Counter()

    async def check(server: Server) -> bool:
        attempts[server.id] += 1
        if attempts["s-1"] == 1:
            return False
        if server.id == "s-1":
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(0)
        return True

    _, ended = virtually(check, begins(2), timeout=10.0)
    assert ended.errors["s-2"] is None
    assert "cancelled the task that it ran in" in ended.text()
    assert ended.at["s-1"] == pytest.approx(10.0, abs=0.01)


def test_a_check_that_refuses_to_end_is_given_up_with_its_server_and_keeps_no_place(
    caplog: pytest.LogCaptureFixture,
) -> None:
    refused: list[asyncio.Event] = []

    async def check(server: Server) -> bool:
        if server.id != "s-1":
            return True
        released = asyncio.Event()
        refused.append(released)
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        return True

    async def work(checker: ReadinessChecker, ended: Ended) -> None:
        begin(checker, ended, "s-1")
        await ended.until(1)
        # The only place is free again.
        begin(checker, ended, "s-2")
        await ended.until(2)
        for each in refused:
            each.set()

    with caplog.at_level(logging.ERROR):
        _, ended = virtually(check, work, timeout=10.0, max_workers=1)
    assert ended.errors["s-2"] is None
    assert "does not end though it was cancelled" in ended.text()
    assert "mend the function" in ended.text()
    assert ended.at["s-1"] == pytest.approx(15.0, abs=0.01)
    assert caplog.records == []


@pytest.mark.parametrize("found", [None, "ok", 1])
def test_a_check_that_returns_neither_true_nor_false_is_not_repeated(found: object) -> None:
    async def check(server: Server) -> Any:
        return found

    _, ended = virtually(check, begins())
    assert ended.at["s-1"] < 0.1
    assert "its readiness cannot be checked; mend the function" in ended.text()
    assert "expected True or False (1 attempt)" in ended.text()


def test_a_server_that_cannot_be_read_is_not_ready_yet() -> None:
    async def check(server: Server) -> bool:
        return True

    calls: Counter[str] = Counter()

    def get_server() -> Server:
        calls["read"] += 1
        if calls["read"] < 3:
            raise ConnectionResetError("gone for a moment")
        return Server(id="s-1")

    def never() -> Server:
        raise asyncio.CancelledError

    async def work(checker: ReadinessChecker, ended: Ended) -> str | None:
        checker.begin("s-1", get_server, ended.note)
        checker.begin("s-2", never, ended.note)
        checker.begin("s-3", lambda: None, ended.note)  # type: ignore[arg-type, return-value]
        await ended.until(2)
        told = checker.last_answer("s-2")
        await ended.until(3)
        return told

    told, ended = virtually(check, work, timeout=20.0)
    assert ended.errors["s-1"] is None
    assert calls["read"] == 3
    assert "the server cannot be read: ForeignCodeError" in ended.text("s-2")
    assert (told or "").endswith("which is not an error: it ended nothing else")
    assert "expected a Server, got a value of type NoneType" in ended.text("s-3")


def test_a_read_that_waits_for_the_limit_takes_nothing_of_the_time_of_its_server() -> None:
    async def check(server: Server) -> bool:
        return anyio.current_time() > 70.0

    async def read(server_id: str, seconds: float) -> Server:
        await anyio.sleep(seconds)
        return Server(id=server_id)

    async def work(checker: ReadinessChecker, ended: Ended) -> None:
        for server_id, seconds in (("s-1", 60.0), ("s-2", math.inf)):
            checker.begin(server_id, partial(read, server_id, seconds), ended.note)
        await ended.until(2)

    _, ended = virtually(check, work, timeout=90.0)
    assert ended.errors["s-1"] is None
    assert ended.at["s-1"] == pytest.approx(121.0, abs=0.1)
    # No wait is without an end, however.
    assert ended.at["s-2"] == pytest.approx(300.0, abs=0.1)
    assert "the server cannot be read: no answer within 300 s" in ended.text("s-2")


def test_the_answer_of_a_port_reaches_the_error(monkeypatch: pytest.MonkeyPatch) -> None:
    async def refuse(host: str, port: int) -> None:
        raise ConnectionRefusedError(111, "Connect call failed")

    monkeypatch.setattr("bms_async.fleet.rollout.probes.connect_socket", refuse)
    found = Server(id="s-1", addresses={"vpc": (Address(address="192.168.0.7", type="fixed"),)})

    async def work(checker: ReadinessChecker, ended: Ended) -> None:
        checker.begin("s-1", lambda: found, ended.note)
        await ended.until(1)

    _, ended = virtually(tcp_open(22), work, timeout=30.0)
    assert "server s-1: not ready within 30 s of the first check: tcp 22 at 192.168.0.7: connection refused (" in (
        ended.text()
    )


def test_a_text_of_foreign_code_is_masked_and_cut() -> None:
    async def check(server: Server) -> bool:
        raise ValueError("hunter22\n" + "x" * 5000)

    _, ended = virtually(check, begins(), timeout=1.0, redact=lambda text: mask(text, "hunter22"))
    error = ended.errors["s-1"]
    assert error is not None
    assert error.answered is not None
    assert error.answered.startswith("ValueError: *** xxx")
    assert len(error.answered) == 200
    assert error.__cause__ is error.__context__ is None

    def fails(text: str) -> str:
        raise RuntimeError(text)

    _, ended = virtually(check, begins(), timeout=1.0, redact=fails)
    assert "hunter22" not in ended.text()


def test_a_forgotten_server_is_not_reported_and_its_attempt_ends() -> None:
    ends: list[str] = []

    async def check(server: Server) -> bool:
        try:
            await anyio.sleep(50.0)
        finally:
            ends.append(server.id)
        return True

    async def work(checker: ReadinessChecker, ended: Ended) -> None:
        begin(checker, ended, "s-1", "s-2")
        await anyio.sleep(1.0)
        checker.forget("s-1")
        checker.forget("s-1")
        checker.forget("unknown")
        assert checker.pending == 1
        await anyio.sleep(1.0)
        assert ends == ["s-1"]
        # It may be wanted again.
        begin(checker, ended, "s-1")
        await ended.until(2)
        assert checker.pending == 0

    _, ended = virtually(check, work)
    assert ended.errors == {"s-1": None, "s-2": None}
    assert ended.at["s-1"] == pytest.approx(52.0, abs=0.01)


def test_a_server_that_is_begun_anew_is_reported_once() -> None:
    check = Comes(10.0)

    async def work(checker: ReadinessChecker, ended: Ended) -> None:
        begin(checker, ended, "s-1")
        await anyio.sleep(1.5)
        begin(checker, ended, "s-1")
        await ended.until(1)
        await anyio.sleep(100.0)

    _, ended = virtually(check, work)
    assert ended.errors == {"s-1": None}


def test_a_server_that_is_given_up_early_has_an_error_that_says_so() -> None:
    async def check(server: Server) -> bool:
        if server.id == "s-2":
            await anyio.sleep_forever()
        return False

    async def work(checker: ReadinessChecker, ended: Ended) -> list[NotReadyError]:
        begin(checker, ended, "s-1")
        await anyio.sleep(5.5)
        begin(checker, ended, "s-2", "s-3")
        await anyio.sleep(3.0)
        errors = [checker.give_up(f"s-{number}") for number in (1, 2, 3, 4)]
        assert checker.pending == 0
        await anyio.sleep(1000.0)
        return errors

    errors, ended = virtually(check, work, max_workers=1)
    assert ended.errors == {}
    assert all("the run ended before the server was seen to be ready" in str(error) for error in errors)
    # The third one waited for the only place, and the last one was never begun.
    assert [error.seconds for error in errors] == pytest.approx([8.5, 3.0, 0.0, 0.0], abs=0.01)
    assert [error.attempts for error in errors] == [6, 1, 0, 0]
    assert [error.answered for error in errors] == ["returned False", None, None, None]


def test_closing_ends_what_is_under_way_and_reports_nothing_more() -> None:
    cancelled: list[str] = []

    async def check(server: Server) -> bool:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(server.id)
        return True

    async def work(checker: ReadinessChecker, ended: Ended) -> None:
        begin(checker, ended, *(f"s-{number}" for number in range(20)))
        await anyio.sleep(5.0)

    _, ended = virtually(check, work, max_workers=8)
    assert ended.errors == {}
    assert len(cancelled) == 8


def test_cancelling_the_group_ends_it_too() -> None:
    async def check(server: Server) -> bool:
        await anyio.sleep_forever()
        return True

    async def main() -> Ended:
        checker, ended = ReadinessChecker(check, timeout=900.0), Ended()
        async with anyio.create_task_group() as group:
            group.start_soon(checker.run)
            begin(checker, ended, "s-1")
            await anyio.sleep(5.0)
            group.cancel_scope.cancel()
        assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []
        return ended

    assert run_virtually(main).errors == {}
