"""What may be a hook, and what one may do: nothing of it harms the call."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from bms_async import BmsClient, CallStarted, ConfigurationError, Hook, HookEvent, StaticToken
from bms_async.hooks import Hooks
from tests.hooks._helpers import Ear, hooked
from tests.support.virtual_clock import run_virtually


class _Async:
    async def __call__(self, event: HookEvent) -> None: ...


async def _coroutine(event: HookEvent) -> None: ...


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (1, r"^hooks=int: expected a function that takes one event, or an iterable of such functions$"),
        ("print", r"^hooks\[0\]=str: expected a function that takes one event"),
        ([print, None], r"^hooks\[1\]=NoneType: expected a function that takes one event"),
        (Ear, r"^hooks=Ear: expected a function, got a class; give Ear\(\.\.\.\)$"),
        (
            _coroutine,
            r"^hooks=_coroutine: expected a plain function, got a coroutine function; have a plain one put the event",
        ),
        ([_Async()], r"^hooks\[0\]=_Async: expected a plain function, got a coroutine function"),
    ],
)
def test_what_is_no_hook_is_refused_when_the_client_is_made(given: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        BmsClient(endpoint="https://bms.example.com", project_id="0" * 32, auth=StaticToken("x"), hooks=given)


def test_hooks_may_be_one_function_or_any_iterable_of_them_and_nest_in_their_order() -> None:
    calls: list[int] = []

    async def main(hooks: Any) -> None:
        async with hooked(hooks, servers=1) as sim:
            await sim.bms.servers.get(sim.ids[0])

    given: list[Hook] = [lambda event: calls.append(1), lambda event: calls.append(2)]
    for hooks in (given, iter(given), tuple(given)):
        calls.clear()
        run_virtually(lambda hooks=hooks: main(hooks))  # type: ignore[misc]
        # A call and its try begin, and then end.
        assert calls == [1, 2] * 2 + [2, 1] * 2
    calls.clear()
    run_virtually(lambda: main(given[0]))
    assert calls == [1] * 4
    run_virtually(lambda: main([]))
    run_virtually(lambda: main(None))


def test_from_env_takes_hooks_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BMS_ENDPOINT": "https://bms.example.com", "OS_PROJECT_ID": "0" * 32, "OS_TOKEN": "x"}.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigurationError, match=r"^hooks=int"):
        BmsClient.from_env(hooks=1)  # type: ignore[arg-type]
    assert BmsClient.from_env(hooks=print)._hooks == (print,)


@pytest.mark.parametrize("error", [ValueError("broken"), asyncio.CancelledError(), GeneratorExit(), SystemExit(3)])
def test_what_a_hook_raises_is_logged_once_a_kind_of_event_and_goes_no_further(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    ear = Ear()

    def broken(event: HookEvent) -> None:
        raise error

    async def main() -> None:
        async with hooked([broken, ear], servers=10) as sim:
            await sim.bms.servers.get(sim.ids[0])
            await sim.bms.servers.get(sim.ids[1])
            report = await sim.bms.fleet.stop(sim.ids)
            assert len(report) == 10

    with caplog.at_level(logging.INFO, "bms_async"):
        run_virtually(main)
    said = [record for record in caplog.records if record.name == "bms_async.hooks"]
    assert [record.getMessage() for record in said[:4]] == [
        f"hook 1 raised on {name}; it still gets later events"
        for name in ("CallStarted", "RequestSent", "AttemptEnded", "CallEnded")
    ]
    assert len(said) == len(set(ear.names))
    assert all(record.levelno == logging.ERROR and record.exc_info and record.exc_info[1] is error for record in said)
    assert len(ear.events) > len(said)


def test_ctrl_c_that_comes_while_a_hook_is_called_ends_the_program() -> None:
    def interrupted(event: HookEvent) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Hooks((interrupted,)).emit(_event())


def test_a_hook_that_returns_a_coroutine_is_told_so_and_the_coroutine_is_closed(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def hook(event: HookEvent) -> object:
        return _coroutine(event)

    Hooks((hook,)).emit(_event())
    (record,) = caplog.records
    assert record.exc_info
    assert "put the event into a queue" in str(record.exc_info[1])


def test_a_cancelled_caller_is_cancelled_whatever_his_hooks_raise() -> None:
    def broken(event: HookEvent) -> None:
        raise asyncio.CancelledError

    async def main() -> None:
        async with hooked(broken, servers=1, latency=(10.0, 10.0)) as sim:
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.0):
                    await sim.bms.servers.get(sim.ids[0])
            task = asyncio.get_running_loop().create_task(sim.bms.servers.get(sim.ids[0]))
            await asyncio.sleep(1.0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert sim.bms.statistics().session.open_calls == 0

    run_virtually(main)


def test_no_error_is_being_handled_while_a_hook_is_told_of_it() -> None:
    # What reports the error at hand, as `logging.exception` and Sentry do, would send variables that are not emptied.
    import sys

    from bms_async.simulator import Answer, Throttled
    from tests.hooks._helpers import first

    at_hand: list[tuple[str, BaseException | None]] = []

    async def main() -> None:
        async with hooked(lambda event: at_hand.append((type(event).__name__, sys.exc_info()[1])), servers=3) as sim:
            sim.cloud.faults.append(first("servers.get", Throttled(retry_after=1), Answer(status=503)))
            sim.cloud.faults.append(first("jobs.get", Answer(status=500)))
            await sim.bms.servers.get(sim.ids[0])
            await sim.bms.fleet.stop(sim.ids)

    run_virtually(main)
    assert len({name for name, _ in at_hand}) >= 10
    assert [name for name, error in at_hand if error is not None] == []


def _event() -> HookEvent:
    return CallStarted(
        call=1, operation="servers.get", method="GET", template=None, parameters={}, project_id=None,
        host="localhost", port=80, lane="bulk", is_poll=False, run=None,
    )  # fmt: skip
