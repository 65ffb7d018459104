"""A page that is fetched before the reader has come to it, and read a few servers at a time."""

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
"""How many servers are read before others get their turn: half a millisecond, or some where each needs repairs."""


def raise_not_awaitable(a_list: object) -> Never:
    """Tell who awaits a list, or loops over it by a plain ``for``, how it is read."""
    raise TypeError(
        f"a {type(a_list).__name__} comes page by page: read it by `async for`, "
        "such as [server async for server in bms.servers.list()]"
    )


class Prefetch(Generic[P]):
    """Fetches a page in a task of the client's; cancelling `scope` ends that.

    Attributes:
        page: Resolves with the page, or with what came instead of it.
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
                # A reader who was cancelled has cancelled the future that he waited for.
                if not self.page.done():
                    self.page.set_result(page)
        except BaseException as error:
            if is_own_cancellation(error):
                raise
            # It is the reader's, and raised where the reader waits.
            self._fail(contain("what fetches a page", error))
        finally:
            # Also when it is the client's closing that ends this task.
            self._fail(ClientClosedError("the client was closed before the page came"))

    def _fail(self, error: Exception) -> None:
        if not self.page.done():
            self.page.set_exception(error)
            # A reader who has left will not ask.
            self.page.exception()


class _Identified(Model, frozen=True, kw_only=True):
    id: str


def read_id(server: msgspec.Raw) -> str:
    """Return a server's id; "" where it has none, which is an error when the server itself is read."""
    try:
        return _ID.decode(server).id
    except msgspec.DecodeError:
        return ""


_ID = msgspec.json.Decoder(_Identified)
