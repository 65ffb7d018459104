"""Fetching a page before the reader needs it, and decoding it a few servers at a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, Generic, Never, TypeVar

import anyio
import msgspec

from bms_async._foreign import contain, is_own_cancellation
from bms_async.errors import ClientClosedError
from bms_async.models import Model
from bms_async.session import Session

P = TypeVar("P")

YIELD_EVERY = 50
"""Servers decoded between two yields to the event loop: half a millisecond, or a few if each needs repairs."""


def raise_not_awaitable(a_list: object) -> Never:
    """Raise for a list that is awaited, or iterated over by a plain ``for``."""
    raise TypeError(
        f"expected `async for` over a {type(a_list).__name__}, which is read page by page; "
        "use [server async for server in bms.servers.list()]"
    )


class Prefetch(Generic[P]):
    """Fetches a page in a task of the client's; cancelling `scope` ends it.

    Attributes:
        page: Resolves with the page, or with the error of fetching it.
    """

    __slots__ = ("page", "scope")

    def __init__(self, session: Session, fetch: Callable[[], Coroutine[Any, Any, P]]) -> None:
        self.page: asyncio.Future[P] = asyncio.get_running_loop().create_future()
        self.scope = anyio.CancelScope()
        session.start(self._run, fetch, name="bms_async page")

    async def _run(self, fetch: Callable[[], Coroutine[Any, Any, P]]) -> None:
        try:
            with self.scope:
                page = await fetch()
                # Cancelling the reader cancels the future that it awaits.
                if not self.page.done():
                    self.page.set_result(page)
        except BaseException as error:
            if is_own_cancellation(error):
                raise
            # Raised where the reader awaits the page.
            self._fail(contain("what fetches a page", error))
        finally:
            # Reached also when closing the client cancels this task.
            self._fail(ClientClosedError("the client was closed before the page came"))

    def _fail(self, error: Exception) -> None:
        if not self.page.done():
            self.page.set_exception(error)
            # Marks it as retrieved, for the reader may be gone.
            self.page.exception()


class _Identified(Model, frozen=True, kw_only=True):
    id: str


def read_id(server: msgspec.Raw) -> str:
    """Return a server's id; "" if it has none, which is an error as soon as the server is decoded."""
    try:
        return _ID.decode(server).id
    except (msgspec.DecodeError, ValueError, RecursionError):
        return ""


_ID = msgspec.json.Decoder(_Identified)
