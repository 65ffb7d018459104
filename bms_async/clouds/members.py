"""The clients of many clouds: opened together, closed together, each for itself.

What it guarantees (R4): a cloud that cannot be opened costs only its own, and once `aclose` has ended no client that
was opened is left open, whatever the others did, whichever task was cancelled, and from wherever it was called.

How: each client is opened in a task, and so is the closing of each, so that a cloud that does not respond delays no
other. A client itself closes to its end however often its caller is cancelled. But a task that is cancelled before its
first step has begun no closing; so all clients are closed once more, one after another, when the tasks have ended. That
costs nothing where a client is closed.

Rejected: an `AsyncExitStack`. It closes one after another, and ten clouds that are away would take ten times as long.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from typing import Any

import anyio

from bms_async._foreign import call_foreign, is_own_cancellation
from bms_async._tasks import BackgroundTasks, check_loop
from bms_async.client import BmsClient
from bms_async.errors import BmsError, ClientClosedError, InvalidRequestError

_log = logging.getLogger("bms_async")


class Members:
    """The clients of many clouds, by name.

    Args:
        clients: The clients, not opened yet.

    Attributes:
        clients: The same.
        failures: Why those that could not be opened could not.
    """

    def __init__(self, clients: Mapping[str, BmsClient]) -> None:
        self.clients = dict(clients)
        self.failures: dict[str, BmsError] = {}
        self._tasks = BackgroundTasks("bms_async clouds")
        self._loop: asyncio.AbstractEventLoop | None = None
        self._is_closed = False
        self._begun: set[str] = set()

    @property
    def names(self) -> tuple[str, ...]:
        """All clouds, those that could not be opened included."""
        return tuple(self.clients)

    @property
    def is_open(self) -> bool:
        """Whether runs can be begun."""
        return self._tasks.is_open and not self._is_closed

    def client(self, name: str) -> BmsClient:
        """Return the client of a cloud.

        Raises:
            InvalidRequestError: There is no such cloud.
            ClientClosedError: It could not be opened; its cause says why.
        """
        if name in self.failures:
            error = self.failures[name]
            raise ClientClosedError(f"the cloud {name!r} could not be opened: {error}") from error
        if name not in self.clients:
            known = ", ".join(map(repr, self.clients))
            raise InvalidRequestError("name", name, f"expected one of the clouds {known}")
        return self.clients[name]

    def check_open(self) -> None:
        """Check that runs can be begun.

        Raises:
            ClientClosedError: They cannot.
        """
        check_loop(self._loop, "the clouds object")
        if not self.is_open:
            raise ClientClosedError("the clouds are not open; use them inside `async with Clouds(...) as clouds`")

    def start(self, function: Callable[[], Coroutine[Any, Any, None]], *, name: str) -> None:
        """Start a task that belongs to no client, and ends with the clouds."""
        self._tasks.start(function, name=name)

    async def open(self) -> None:
        """Open all clients; those that cannot be opened are in `failures` then.

        Raises:
            ClientClosedError: They were opened before, or closed meanwhile.
        """
        if self._loop is not None:
            raise ClientClosedError("clouds are opened once; make new ones")
        self._loop = asyncio.get_running_loop()
        try:
            await self._tasks.open()
            async with anyio.create_task_group() as tasks:
                for name in self.clients:
                    tasks.start_soon(self._open_one, name)
            self._check_not_closed()
        except BaseException:
            await self.aclose()
            raise

    def _check_not_closed(self) -> None:
        if self._is_closed:
            raise ClientClosedError("the clouds were closed while they were being opened")

    async def aclose(self) -> None:
        """Close all clients.

        Raises:
            ExceptionGroup: Closing some of them failed; the others are closed.
            ClientClosedError: They are open on another event loop, and stay open there.
        """
        if self._loop is None:
            return
        if not self._loop.is_closed():
            check_loop(self._loop, "the clouds object")
        self._is_closed = True
        errors: dict[str, Exception] = {}
        cancelled: asyncio.CancelledError | None = None
        try:
            async with anyio.create_task_group() as tasks:
                for name in self.clients:
                    tasks.start_soon(self._close_one, name, errors)
        except asyncio.CancelledError as error:
            cancelled = error
        for close in (*(self._closer_of(name, errors) for name in self.clients), self._tasks.aclose):
            try:
                await close()
            except asyncio.CancelledError as error:
                cancelled = error
        if cancelled is not None:
            raise cancelled
        if errors:
            raise ExceptionGroup(f"closing failed for {', '.join(errors)}; the others are closed", [*errors.values()])

    def _closer_of(self, name: str, errors: dict[str, Exception]) -> Callable[[], Coroutine[Any, Any, None]]:
        return lambda: self._close_one(name, errors)

    async def _open_one(self, name: str) -> None:
        if self._is_closed:
            return
        self._begun.add(name)
        try:
            await call_foreign(f"opening the cloud {name!r}", self.clients[name].__aenter__)
        except Exception as error:  # noqa: BLE001 - it costs only its own: its servers are SKIPPED with this reason
            _log.warning("the cloud %r could not be opened, and its servers are skipped: %s", name, _describe(error))
            self.failures[name] = error if isinstance(error, BmsError) else _wrap(error)

    async def _close_one(self, name: str, errors: dict[str, Exception]) -> None:
        if name in self.failures or name not in self._begun:
            # It may be open all the same, and somebody else's.
            return
        try:
            await self.clients[name].aclose()
        except asyncio.CancelledError as error:
            if is_own_cancellation(error):
                raise
            errors[name] = ClientClosedError(f"closing the cloud {name!r} was cancelled by something in it")
        except Exception as error:  # noqa: BLE001 - raised once all are closed
            errors[name] = error


def _describe(error: Exception) -> str:
    """Return what an error says; of a foreign one only its class, for its text may hold anything."""
    return str(error) if isinstance(error, BmsError) else type(error).__name__


def _wrap(error: Exception) -> ClientClosedError:
    wrapped = ClientClosedError(_describe(error))
    wrapped.__cause__ = error
    return wrapped
