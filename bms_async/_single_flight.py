"""Something that is found once, however many wait for it."""

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
    """Finds something when it is first asked for; all who ask meanwhile share what comes of it.

    The task that looks is the client's, so that no caller who leaves takes it away from the others. What was found is
    kept; after a failure, the next who asks has it looked for again.

    Args:
        find: Looks for it.
        start: Starts a task that outlives the call which asked for it.
    """

    __slots__ = ("_find", "_search", "_start")

    def __init__(self, find: Callable[[], Awaitable[T]], start: StartTask) -> None:
        self._find = find
        self._start = start
        self._search: _Flight[T] | None = None

    async def get(self) -> T:
        """Return it.

        Raises:
            Exception: What the search raised; each caller gets one of its own.
            ClientClosedError: The client is not open, or was closed meanwhile.
        """
        search = self._search
        if search is None:
            search = _Flight()
            self._start(lambda: self._run(search))
            self._search = search
        await search.done.wait()
        if search.error is not None:
            raise own_copy(search.error)
        return search.found[0]

    async def _run(self, search: _Flight[T]) -> None:
        try:
            search.found.append(await self._find())
        except BaseException as error:
            if is_own_cancellation(error):
                raise
            search.error = contain("what was looked for", error)
        finally:
            if not search.found:
                search.error = search.error or ClientClosedError("the client was closed before the answer came")
                self._search = None
            search.done.set()


class _Flight(Generic[T]):
    """One search, and what came of it."""

    __slots__ = ("done", "error", "found")

    def __init__(self) -> None:
        self.done = anyio.Event()
        self.error: Exception | None = None
        self.found: list[T] = []
