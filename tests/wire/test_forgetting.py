"""Emptying the frames of an error, and only of those that have ended by it."""

from __future__ import annotations

import asyncio
import traceback
from pathlib import Path

import pytest

from bms_async.wire import forgetting
from bms_async.wire.forgetting import forget, forgetful

SECRET = "open-sesame"


@pytest.fixture(autouse=True)
def of_the_package(monkeypatch: pytest.MonkeyPatch) -> None:
    """Take this folder for the package."""
    monkeypatch.setattr(forgetting, "_PACKAGE", str(Path(__file__).parent))


def shown(error: BaseException) -> str:
    return "".join(traceback.TracebackException.from_exception(error, capture_locals=True).format())


async def fails(secret: str) -> None:
    try:
        await asyncio.sleep(0)
        raise ValueError("no")
    finally:
        del secret


async def fails_with(secret: str) -> None:
    kept = f"Bearer {secret}"
    try:
        await fails(secret)
    except ValueError:
        assert kept
        raise


async def test_no_variable_is_left_in_the_frames_that_an_error_went_through() -> None:
    with pytest.raises(ValueError, match="no") as caught:
        await forgetful(fails_with)("".join(SECRET))
    # The frames of this test are its own; what lies below them is looked at.
    error = caught.value
    assert error.__traceback__ is not None
    error.__traceback__ = error.__traceback__.tb_next
    assert SECRET not in shown(error)
    assert "fails_with" in shown(error)


async def test_who_has_dealt_with_an_error_and_goes_on_is_not_ended_by_it() -> None:
    failed: asyncio.Future[BaseException] = asyncio.get_running_loop().create_future()
    going_on = asyncio.Event()

    async def deals_with_it() -> str:
        try:
            await fails("x")
        except ValueError as error:
            failed.set_result(error)
        await going_on.wait()
        return "went on"

    task = asyncio.ensure_future(deals_with_it())
    forget(await failed)
    going_on.set()

    assert await task == "went on"
