"""The one place where a task is made that no caller waits in.

A client is opened in one task and may be closed in another: a web framework's start-up and shut-down hooks and the
fixtures of pytest-asyncio do so, and an anyio task group refuses it. So a task of the owner's own holds the task
group, from the first `open` to the last `aclose`, and every task that outlives a call lives in that group.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar, TypeVarTuple

import anyio
from anyio.abc import TaskGroup

from bms_async.errors import ClientClosedError

_log = logging.getLogger("bms_async")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def finish(work: Coroutine[Any, Any, T]) -> T:
    """Do work that must come to its end, also when who waits for it is cancelled; he is so afterwards.

    A cancel scope's shield does not hold off `asyncio.timeout` and `Task.cancel`, which know nothing of it.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        raise cancelled
    return task.result()


def check_loop(loop: asyncio.AbstractEventLoop | None, what: str) -> None:
    """Refuse to wait on another event loop than the one that would wake the waiter.

    Args:
        loop: The one that it belongs to, None if that is not known.
        what: What belongs to it, for the error.

    Raises:
        ClientClosedError: The caller runs on another event loop, or on none.
    """
    try:
        here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if loop is not None and here is not loop:
        raise ClientClosedError(
            f"{what} belongs to another event loop; from a thread, hand the coroutine to that loop by "
            "asyncio.run_coroutine_threadsafe()"
        )


class TaskOwner:
    """Owns tasks from when it is first opened until it was closed as often as it was opened."""

    __slots__ = ("_closing", "_group", "_holder", "_name", "_users")

    def __init__(self, name: str) -> None:
        self._name = name
        self._users = 0
        self._group: asyncio.Future[TaskGroup] | None = None
        self._holder: asyncio.Task[None] | None = None
        self._closing = asyncio.Event()

    @property
    def is_open(self) -> bool:
        """Whether tasks can be started."""
        group, holder = self._group, self._holder
        # A loop that ends without us ends the holder, and with him what he held.
        return group is not None and group.done() and holder is not None and not holder.done()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that it was opened on, None if it is not open."""
        return None if self._holder is None else self._holder.get_loop()

    @property
    def users(self) -> int:
        """How often it was opened and not closed again."""
        return self._users

    async def open(self) -> None:
        """Open the owner, or count one more user of an open one; who is cancelled meanwhile is not counted."""
        self._users += 1
        if self._group is None:
            loop = asyncio.get_running_loop()
            self._closing = asyncio.Event()
            self._group = loop.create_future()
            self._holder = loop.create_task(self._hold(self._group, self._closing), name=self._name)
        try:
            with anyio.CancelScope(shield=True):
                await asyncio.shield(self._group)
        except asyncio.CancelledError:
            await self.aclose()
            raise

    def start(self, function: Callable[[*Ts], Coroutine[Any, Any, Any]], *args: *Ts, name: str | None = None) -> None:
        """Start a task; the function must deal with its own errors.

        Raises:
            RuntimeError: The owner is not open.
        """
        if self._group is None or not self.is_open:
            raise RuntimeError(f"{self._name} is not open")
        self._group.result().start_soon(_contained, function, args, name=name)

    async def aclose(self) -> None:
        """Count one user less; after the last one, cancel every task and wait until each has ended."""
        if self._holder is None:
            return
        self._users -= 1
        if self._users > 0:
            return
        holder, self._holder, self._group = self._holder, None, None
        self._closing.set()
        with anyio.CancelScope(shield=True):
            # A loop that ends without us cancels the holder; its end is what counts here, not how it came. Who has
            # ended on a loop that is gone cannot be waited for on another.
            if not holder.done():
                await asyncio.wait({holder})
        if not holder.cancelled():
            holder.result()

    async def _hold(self, opened: asyncio.Future[TaskGroup], closing: asyncio.Event) -> None:
        async with anyio.create_task_group() as group:
            opened.set_result(group)
            await closing.wait()
            group.cancel_scope.cancel()


async def _contained(function: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...]) -> None:
    """Keep what breaks in one task from ending all others of the group."""
    try:
        await function(*args)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        if is_cancelled(error):
            raise
        _log.exception("a task of the client broke")


def is_cancelled(error: BaseException) -> bool:
    """Tell whether an error is this task's own cancellation, and not one that something it waited for let out."""
    task = asyncio.current_task()
    return isinstance(error, asyncio.CancelledError) and task is not None and task.cancelling() > 0
