"""Blocking work, each piece in a thread of its own that ends with it (R4, R9).

The pools of anyio and asyncio keep their idle threads, and the threads of anyio's pool end only with a loop that
`run_until_complete` drives. With them, a program whose loop is driven by `run_forever` and `stop` could not exit. The
work is rare (imports, certificates, token files, very large bodies), so a new thread each time costs little.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor, Future
from contextvars import copy_context
from functools import partial
from threading import Thread
from typing import Any, TypeVar, TypeVarTuple

import anyio

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


async def run_in_thread(function: Callable[[*Ts], T], *args: *Ts) -> T:
    """Call a function in a thread of its own, and return its result once the thread has ended.

    Work in a thread cannot be stopped, so a cancelled caller waits for it too; the cancellation is raised afterwards.

    Args:
        function: The function.
        *args: Its arguments.
    """
    thread = _OneThread()
    # By way of the loop, because a virtual clock in tests does not advance while its executors work.
    future = asyncio.get_running_loop().run_in_executor(thread, partial(copy_context().run, function, *args))
    cancelled: asyncio.CancelledError | None = None
    with anyio.CancelScope(shield=True):
        while not future.done() or thread.is_alive():
            try:
                # The last thing that a thread does is to wake the loop; it ends a few iterations later.
                await (asyncio.sleep(0) if future.done() else asyncio.wait({future}))
            except asyncio.CancelledError as error:
                cancelled = error
    if cancelled is not None:
        future.exception()
        raise cancelled
    return future.result()


class _OneThread(Executor):
    """An executor for a single piece of work; its thread does not keep the process alive."""

    def __init__(self) -> None:
        self._thread: Thread | None = None

    def is_alive(self) -> bool:
        """Return whether the thread has begun and not ended."""
        return self._thread is not None and self._thread.is_alive()

    def submit(self, fn: Callable[..., T], /, *args: Any, **kwargs: Any) -> Future[T]:
        """Start the thread."""
        future: Future[T] = Future()
        self._thread = Thread(target=_work, args=(future, partial(fn, *args, **kwargs)), name="bms_async", daemon=True)
        self._thread.start()
        return future


def _work(future: Future[T], function: Callable[[], T]) -> None:
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function()
    except BaseException as error:  # noqa: BLE001 - the waiter raises it
        future.set_exception(error)
    else:
        future.set_result(result)
