"""The one place where a task is made that no caller waits in.

Guarantee (R4): once an owner is closed, none of its tasks is left, from wherever it was closed: in another task than it
was opened in, after somebody has cancelled every task of the loop, under Ctrl-C, and from inside one of its own tasks.

How: an owner holds its tasks in a set, from the first `open` to the last `aclose`, cancels each of them once and waits
until all have ended. A keeper task stands for the whole: whoever cancels the tasks of a loop cancels it too, and then
the owner counts as closed. Each task knows by a context variable whose it is, so that closing does not wait for the
very task that asks for it. Foreign code can refuse to be cancelled; it is waited for so long and no longer.

Rejected: an anyio task group. It has to be left by the task that entered it, which the start-up and shut-down hooks of
web frameworks do not do, and it keeps the loop spinning for as long as one task refuses to end.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterable
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, TypeVar, TypeVarTuple

import anyio

from bms_async._foreign import is_own_cancellation
from bms_async.errors import ClientClosedError

_log = logging.getLogger("bms_async")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

GRACE = 10.0
"""Seconds that a task has to end once it is cancelled, and that a cancelled caller waits for what must be finished."""

_LAST_CHANCE = 1.0

_owners: ContextVar[tuple[BackgroundTasks, ...]] = ContextVar("bms_async owners", default=())


async def run_to_completion(work: Coroutine[Any, Any, T], *, grace: float | None = GRACE) -> T:
    """Run work to completion even if the caller is cancelled meanwhile; the cancellation is raised afterwards.

    A cancel scope's shield does not hold off `asyncio.timeout` and `Task.cancel`, which know nothing of it.

    Args:
        work: The work.
        grace: Seconds that a cancelled caller waits for it at most, after which it is cancelled too; None for no bound.
    """
    return await finish_task(asyncio.ensure_future(work), grace=grace)


async def finish_task(task: asyncio.Task[T], *, grace: float | None = GRACE) -> T:
    """Do the same with work that is under way already."""
    cancelled: asyncio.CancelledError | None = None
    ends_at: float | None = None
    with anyio.CancelScope(shield=True):
        while not task.done():
            left = None if ends_at is None else ends_at - anyio.current_time()
            if left is not None and left <= 0:
                _log.error("%s did not end within %g s, and is given up", task.get_name(), grace)
                task.cancel()
                break
            try:
                await asyncio.wait({task}, timeout=left)
            except asyncio.CancelledError as error:
                cancelled = error
                if ends_at is None and grace is not None:
                    ends_at = anyio.current_time() + grace
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


def is_owned() -> bool:
    """Tell whether this is called from a task of any owner, or from one that such a task has started."""
    return bool(_owners.get())


def runs_on(loop: asyncio.AbstractEventLoop) -> bool:
    """Tell whether the caller runs on an event loop, and not on another one or in another thread."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


class BackgroundTasks:
    """Owns tasks from when it is first opened until it was closed as often as it was opened."""

    __slots__ = ("_keeper", "_loop", "_name", "_tasks", "_users")

    def __init__(self, name: str) -> None:
        self._name = name
        self._users = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_open(self) -> bool:
        """Whether tasks can be started."""
        keeper = self._keeper
        # A loop that ends without us ends the keeper, and so does whoever cancels all tasks of the loop.
        return keeper is not None and not keeper.done() and not keeper.cancelling()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that it was opened on, None if it is not open."""
        return self._loop

    @property
    def users(self) -> int:
        """How often it was opened and not closed again."""
        return self._users

    @property
    def has_current_task(self) -> bool:
        """Whether this is called from one of its tasks, or from one that such a task has started."""
        return self in _owners.get()

    async def open(self) -> None:
        """Open the owner, or count one more user of an open one; a caller that is cancelled meanwhile is not counted.

        Raises:
            ClientClosedError: It is open on another event loop.
        """
        if self._keeper is not None:
            check_loop(self._loop, self._name)
        self._users += 1
        if self._keeper is None:
            self._loop = asyncio.get_running_loop()
            self._keeper = self._loop.create_task(self._keep(), name=self._name)
        try:
            # The keeper begins before anything else does, so that it can be cancelled with all others.
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await self.aclose()
            raise

    def start(self, function: Callable[[*Ts], Coroutine[Any, Any, Any]], *args: *Ts, name: str | None = None) -> None:
        """Start a task; the function must deal with its own errors.

        Raises:
            RuntimeError: The owner is not open.
        """
        if self._loop is None or not self.is_open:
            raise RuntimeError(f"{self._name} is not open")
        create = partial(self._loop.create_task, _run_contained(self, function, args), name=name)
        if self.has_current_task:
            task = create()
        else:
            context = copy_context()
            context.run(_owners.set, (*_owners.get(), self))
            task = context.run(create)
        self._tasks.add(task)
        task.add_done_callback(self._forget)

    async def aclose(self) -> None:
        """Count one user less; after the last one, cancel every task and wait until each has ended.

        Called from one of its own tasks it does not wait, for that one waits for this call. Called again after it was
        cancelled, it waits for what it had not seen end.

        Raises:
            ClientClosedError: It is open on another event loop.
        """
        if self._keeper is None or self._loop is None:
            if not self.has_current_task:
                here = asyncio.get_running_loop()
                await _wait_for(self._name, [task for task in self._tasks if task.get_loop() is here])
            return
        if not self._loop.is_closed():
            check_loop(self._loop, self._name)
        self._users -= 1
        if self._users > 0:
            return
        keeper, self._keeper, loop, self._loop = self._keeper, None, self._loop, None
        if loop.is_closed():
            # What has ended with its loop cannot be waited for on another, and nothing of it runs.
            self._tasks.clear()
            return
        tasks = [keeper, *self._tasks]
        _cancel(tasks)
        if not self.has_current_task:
            await _wait_for(self._name, tasks)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # What ends a task but by being cancelled was told where it was raised.
            task.exception()

    async def _keep(self) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            # Somebody has cancelled it by hand: what has lost its owner must not go on.
            if self._keeper is not None:
                _cancel(self._tasks)


def outside_of_all(function: Callable[[], Coroutine[Any, Any, T]], name: str) -> asyncio.Task[T]:
    """Start work that belongs to no owner, for what closes owners, in whichever task that is asked for.

    Args:
        function: The work; whoever keeps the task must wait for it.
        name: The name of the task.
    """
    context = copy_context()
    context.run(_owners.set, ())
    return context.run(partial(asyncio.get_running_loop().create_task, function(), name=name))


def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks, but not those that are at it: a second cancellation would break their clean-up off."""
    for task in tasks:
        if not task.cancelling():
            task.cancel()


async def _wait_for(owner: str, tasks: Iterable[asyncio.Task[None]]) -> None:
    """Wait until cancelled tasks have ended; those that refuse to are given up, with a word in the log."""
    pending = {task for task in tasks if not task.done()}
    with anyio.CancelScope(shield=True):
        for grace in (GRACE, _LAST_CHANCE):
            if not pending:
                return
            _, pending = await asyncio.wait(pending, timeout=grace)
            for task in pending:
                task.cancel()
    for task in pending:
        _log.error("%s: %s does not end though it was cancelled, and is given up", owner, task.get_name())


async def _run_contained(
    owner: BackgroundTasks, function: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...]
) -> None:
    """Log what breaks in a task: nobody waits for it who could be told."""
    try:
        await function(*args)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # A scope of anyio that is cancelled in the same pass counts the owner's cancellation as its own.
        if is_own_cancellation(error) or (isinstance(error, asyncio.CancelledError) and not owner.is_open):
            raise
        _log.exception("a task of the client broke")
