"""Single flight: something is fetched once, however many callers wait for it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeAlias, TypeVar

import anyio

from bms_async._foreign import contain, is_own_cancellation
from bms_async.errors import ClientClosedError
from bms_async.errors.base import own_copy

T = TypeVar("T")

StartTask: TypeAlias = Callable[[Callable[[], Coroutine[Any, Any, None]]], None]


class SingleFlight(Generic[T]):
    """Fetches a value on the first call of `get`; calls that come meanwhile share its result.

    A background task fetches it, so that a caller that is cancelled does not take it away from the others. The value is
    kept; after a failure, the next call fetches it again.

    Args:
        fetch: Fetches the value.
        start_task: Starts a task that outlives the call that asked for it.
    """

    __slots__ = ("_fetch", "_flight", "_start_task")

    def __init__(self, fetch: Callable[[], Awaitable[T]], start_task: StartTask) -> None:
        self._fetch = fetch
        self._start_task = start_task
        self._flight: _Flight[T] | None = None

    async def get(self) -> T:
        """Return the value.

        Raises:
            Exception: The error of `fetch`; each caller gets a copy of its own.
            ClientClosedError: The client is not open, or was closed meanwhile.
        """
        flight = self._flight
        if flight is None:
            flight = _Flight()
            self._start_task(lambda: self._run(flight))
            self._flight = flight
        await flight.done.wait()
        if flight.error is not None:
            raise own_copy(flight.error)
        return flight.result[0]

    async def _run(self, flight: _Flight[T]) -> None:
        try:
            flight.result.append(await self._fetch())
        except BaseException as error:
            if is_own_cancellation(error):
                raise
            flight.error = contain("the look-up", error)
        finally:
            if not flight.result:
                flight.error = flight.error or ClientClosedError("the client was closed before the response arrived")
                self._flight = None
            flight.done.set()


class _Flight(Generic[T]):
    """One fetch that callers wait for, and its result: a list of one, since the value may be None."""

    __slots__ = ("done", "error", "result")

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.error: Exception | None = None
        self.result: list[T] = []
