"""What foreign code raises is an error of that call, and ends nothing else."""

import asyncio
from collections.abc import AsyncIterator, Iterator

import anyio
import pytest

from bms_async import ForeignCodeError
from bms_async._foreign import call_foreign, call_foreign_now, iterate_foreign, iterate_foreign_async

NO_ERRORS = [asyncio.CancelledError, SystemExit, GeneratorExit]


@pytest.mark.parametrize("raised", NO_ERRORS)
async def test_what_is_not_an_error_becomes_one(raised: type[BaseException]) -> None:
    async def waits() -> None:
        raise raised

    def does_not_wait() -> None:
        raise raised

    for function in (waits, does_not_wait):
        with pytest.raises(ForeignCodeError, match=f"on_job raised {raised.__name__}") as caught:
            await call_foreign("on_job", function)
        assert isinstance(caught.value.__cause__, raised)
    with pytest.raises(ForeignCodeError, match="a hook raised"):
        call_foreign_now("a hook", does_not_wait)


async def test_an_error_stays_what_it_is() -> None:
    async def breaks() -> None:
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        await call_foreign("on_job", breaks)


def test_ctrl_c_is_the_programs_and_not_the_callbacks() -> None:
    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        call_foreign_now("a hook", interrupted)


async def test_what_a_function_returns_is_awaited_where_it_can_be() -> None:
    async def waits(number: int) -> int:
        await anyio.lowlevel.checkpoint()
        return number + 1

    assert await call_foreign("on_job", waits, 1) == 2
    assert await call_foreign("on_job", abs, -3) == 3


async def test_the_cancellation_of_the_task_itself_goes_through() -> None:
    begun = asyncio.Event()

    async def waits() -> None:
        begun.set()
        await anyio.sleep_forever()

    async def call() -> None:
        await call_foreign("on_job", waits)

    task = asyncio.ensure_future(call())
    await begun.wait()
    task.cancel()

    await asyncio.wait({task})
    assert task.cancelled()


async def test_a_scope_of_anyio_ends_the_call_too() -> None:
    with anyio.CancelScope() as scope:
        scope.cancel()
        await call_foreign("on_job", anyio.sleep_forever)

    assert scope.cancelled_caught


async def test_a_source_ends_where_it_ends_or_breaks() -> None:
    def numbers() -> Iterator[int]:
        yield 1
        raise SystemExit(3)

    async def later() -> AsyncIterator[int]:
        yield 1
        raise asyncio.CancelledError

    assert list(iterate_foreign("the source", iter([1, 2]))) == [1, 2]
    assert [number async for number in iterate_foreign_async("the source", _of(1, 2))] == [1, 2]
    broken, broken_later = iterate_foreign("the source", numbers()), iterate_foreign_async("the source", later())
    assert next(broken) == await anext(broken_later) == 1
    with pytest.raises(ForeignCodeError, match="the source raised SystemExit"):
        next(broken)
    with pytest.raises(ForeignCodeError, match="the source raised CancelledError"):
        await anext(broken_later)


async def _of(*numbers: int) -> AsyncIterator[int]:
    for number in numbers:
        yield number
