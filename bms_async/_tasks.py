"""Background tasks: the one place where tasks are made that outlive the call that asked for them.

Guarantee (R4): once a `BackgroundTasks` is closed, none of its tasks is left, from wherever it was closed: in another
task than it was opened in, after all tasks of the loop were cancelled, under Ctrl-C, and from inside one of its own
tasks.

How: the tasks are in a set, from the first `open` to the last `aclose`. Closing cancels each of them once and waits
until all have ended. A group task stands for all of them: code that cancels every task of a loop cancels it too, and
then the group counts as closed. A context variable says which groups a task belongs to, so that closing does not wait
for the very task that asks for it. Foreign code can refuse to be cancelled; it is waited for during a grace period,
and then given up with an error in the log.

Rejected: an anyio task group. It has to be left by the task that entered it, which the start-up and shut-down hooks of
web frameworks do not do, and it keeps the loop spinning for as long as one task refuses to end.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
from collections.abc import Callable, Coroutine, Iterable
from contextvars import ContextVar, copy_context
from functools import partial
from typing import Any, TypeVar, TypeVarTuple
from weakref import WeakSet

import anyio

from bms_async._foreign import is_own_cancellation
from bms_async.errors import ClientClosedError

_log = logging.getLogger("bms_async")

T = TypeVar("T")
Ts = TypeVarTuple("Ts")

GRACE = 10.0
"""Seconds that a cancelled task has to end, and that a cancelled caller of `run_to_completion` waits at most."""

_SECOND_GRACE = 1.0

_groups: ContextVar[tuple[BackgroundTasks, ...]] = ContextVar("bms_async background tasks", default=())

_not_inherited: list[ContextVar[Any]] = []

_loops: WeakSet[asyncio.AbstractEventLoop] = WeakSet()
_loops_of_parent: WeakSet[asyncio.AbstractEventLoop] = WeakSet()


def _note_fork() -> None:
    """Note in a child process that the loops so far are its parent's: no thread runs them here."""
    _loops_of_parent.update(_loops)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_note_fork)


def not_inherited(variable: ContextVar[T | None]) -> ContextVar[T | None]:
    """Have background tasks begin with None in a context variable, and return it.

    A task copies the context of the caller that happens to be the first to need it, and may serve all others too.
    """
    _not_inherited.append(variable)
    return variable


async def run_to_completion(work: Coroutine[Any, Any, T], *, grace: float | None = GRACE) -> T:
    """Run work to completion even if the caller is cancelled meanwhile; the cancellation is raised afterwards.

    A cancel scope's shield does not hold off `asyncio.timeout` and `Task.cancel`, which know nothing of it.

    Args:
        work: The work.
        grace: Seconds that a cancelled caller waits for the work, after which that is cancelled too; None for no bound.
    """
    return await finish_task(asyncio.ensure_future(work), grace=grace)


async def finish_task(task: asyncio.Task[T], *, grace: float | None = GRACE) -> T:
    """Wait for a task in the same way as `run_to_completion`."""
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
    """Check that the caller runs on an event loop: on another one, nothing would wake it.

    Args:
        loop: The loop; None if it is not known.
        what: The object that belongs to the loop, for the error's text.

    Raises:
        ClientClosedError: The caller runs on another event loop, or on none.
    """
    try:
        here: asyncio.AbstractEventLoop | None = asyncio.get_running_loop()
    except RuntimeError:
        here = None
    if loop is not None and here is not loop:
        if loop in _loops_of_parent:
            raise ClientClosedError(
                f"{what} belongs to the process that this one was forked from; open a client of its own in each process"
            )
        raise ClientClosedError(
            f"{what} belongs to another event loop; from a thread, hand the coroutine to that loop by "
            "asyncio.run_coroutine_threadsafe()"
        )


def is_owned() -> bool:
    """Return whether this is called from any background task, or from a task that one has started."""
    return bool(_groups.get())


def runs_on(loop: asyncio.AbstractEventLoop) -> bool:
    """Return whether the caller runs on an event loop, and not on another one or in another thread."""
    try:
        return asyncio.get_running_loop() is loop
    except RuntimeError:
        return False


class BackgroundTasks:
    """A group of tasks, which is open from the first `open` until it was closed as often as it was opened."""

    __slots__ = ("_group_task", "_loop", "_name", "_open_count", "_tasks")

    def __init__(self, name: str) -> None:
        self._name = name
        self._open_count = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._group_task: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def is_open(self) -> bool:
        """Whether tasks can be started."""
        task = self._group_task
        # It ends with its loop, and when all tasks of the loop are cancelled.
        return task is not None and not task.done() and not task.cancelling()

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The event loop that it was opened on; None if it is not open."""
        return self._loop

    @property
    def open_count(self) -> int:
        """How often it was opened and not closed again."""
        return self._open_count

    @property
    def has_current_task(self) -> bool:
        """Whether this is called from one of its tasks, or from a task that one of them has started."""
        return self in _groups.get()

    async def open(self) -> None:
        """Open the group, or count one more user of an open one; a caller that is cancelled meanwhile is not counted.

        Raises:
            ClientClosedError: It is open on another event loop.
        """
        if self._group_task is not None:
            check_loop(self._loop, self._name)
        self._open_count += 1
        if self._group_task is None:
            self._loop = asyncio.get_running_loop()
            _loops.add(self._loop)
            self._group_task = self._loop.create_task(self._run_group(), name=self._name)
        try:
            # The group task begins before anything else does, so that it can be cancelled with all others.
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            await self.aclose()
            raise

    def start(
        self, function: Callable[[*Ts], Coroutine[Any, Any, Any]], *args: *Ts, name: str | None = None
    ) -> asyncio.Task[None]:
        """Start a task, and return it; the function must handle its own errors, which are only logged here.

        Raises:
            RuntimeError: The group is not open.
        """
        if self._loop is None or not self.is_open:
            raise RuntimeError(f"{self._name} is not open")
        create = partial(self._loop.create_task, _log_failure(self, function, args), name=name)
        inherited = [variable for variable in _not_inherited if variable.get() is not None]
        if self.has_current_task and not inherited:
            task = create()
        else:
            context = copy_context()
            if not self.has_current_task:
                context.run(_groups.set, (*_groups.get(), self))
            for variable in inherited:
                context.run(variable.set, None)
            task = context.run(create)
        self._tasks.add(task)
        task.add_done_callback(self._forget)
        return task

    async def aclose(self) -> None:
        """Count one user less; after the last one, cancel every task and wait until each has ended.

        Called from one of the group's own tasks it does not wait, for that task waits for this call. Called again after
        it was cancelled, it waits for the tasks that are left.

        Raises:
            ClientClosedError: It is open on another event loop.
        """
        if self._group_task is None or self._loop is None:
            if not self.has_current_task:
                here = asyncio.get_running_loop()
                await _wait_for(self._name, [task for task in self._tasks if task.get_loop() is here])
            return
        if not self._loop.is_closed():
            check_loop(self._loop, self._name)
        self._open_count -= 1
        if self._open_count > 0:
            return
        group_task, self._group_task, loop, self._loop = self._group_task, None, self._loop, None
        if loop.is_closed():
            # Tasks of a closed loop cannot run any more, and cannot be waited for on another one.
            self._tasks.clear()
            return
        tasks = [group_task, *self._tasks]
        _cancel(tasks)
        if not self.has_current_task:
            await _wait_for(self._name, tasks)

    def _forget(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled():
            # Retrieved, so that asyncio does not log it again: `_log_failure` has done so.
            task.exception()

    async def _run_group(self) -> None:
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            # It was not cancelled by `aclose`: no task may outlive the group.
            if self._group_task is not None:
                _cancel(self._tasks)


def outside_of_all(function: Callable[[], Coroutine[Any, Any, T]], name: str) -> asyncio.Task[T]:
    """Start a task that belongs to no group, from whichever task this is called: closing a client closes its groups.

    Args:
        function: The work; the caller must keep the task, and wait for it.
        name: The name of the task.
    """
    context = copy_context()
    context.run(_groups.set, ())
    for variable in _not_inherited:
        context.run(variable.set, None)
    return context.run(partial(asyncio.get_running_loop().create_task, function(), name=name))


def _cancel(tasks: Iterable[asyncio.Task[None]]) -> None:
    """Cancel tasks, but those that are being cancelled: a second cancellation would interrupt their clean-up.

    A task that has not begun takes its first step before: it would else end without a trace, and whoever waits for what
    it is to say would wait for ever.
    """
    for task in tasks:
        if task.cancelling() or task.done():
            continue
        coroutine = task.get_coro()
        if inspect.iscoroutine(coroutine) and inspect.getcoroutinestate(coroutine) == inspect.CORO_CREATED:
            task.get_loop().call_soon(_cancel, (task,))
        else:
            task.cancel()


async def _wait_for(group: str, tasks: Iterable[asyncio.Task[None]]) -> None:
    """Wait until cancelled tasks have ended; those that refuse to are given up, with an error in the log."""
    pending = {task for task in tasks if not task.done()}
    with anyio.CancelScope(shield=True):
        for grace in (GRACE, _SECOND_GRACE):
            if not pending:
                return
            _, pending = await asyncio.wait(pending, timeout=grace)
            for task in pending:
                task.cancel()
    for task in pending:
        _log.error("%s: %s does not end though it was cancelled, and is given up", group, task.get_name())


async def _log_failure(
    group: BackgroundTasks, function: Callable[..., Coroutine[Any, Any, Any]], args: tuple[Any, ...]
) -> None:
    """Call a function, and log the error that it fails with: no caller waits for it."""
    try:
        await function(*args)
    except (KeyboardInterrupt, SystemExit):
        raise
    except BaseException as error:
        # A cancel scope that is cancelled in the same iteration of the loop counts the group's cancellation as its own.
        if is_own_cancellation(error) or (isinstance(error, asyncio.CancelledError) and not group.is_open):
            raise
        _log.exception("a background task of the client failed")
