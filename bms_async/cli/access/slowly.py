"""Going over any number of servers without keeping the event loop, and without leaving a list half read."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable, Sequence
from contextlib import aclosing
from typing import Final, TypeVar, cast

import anyio.lowlevel

T = TypeVar("T")

__all__ = ["closing", "one_by_one", "slowly"]

_AT_ONCE: Final = 500


async def slowly(items: Iterable[T]) -> AsyncIterator[T]:
    """Iterate over many items, and let other tasks run in between.

    Args:
        items: The items, which are at hand.
    """
    for number, item in enumerate(items, 1):
        if number % _AT_ONCE == 0:
            await anyio.lowlevel.checkpoint()
        yield item


def closing(items: AsyncIterable[T]) -> aclosing[AsyncGenerator[T, None]]:
    """Return a context in which a list is read; once it is left, nothing more of the list is fetched.

    Args:
        items: The list, which a generator reads.
    """
    return aclosing(cast("AsyncGenerator[T, None]", aiter(items)))


async def one_by_one(items: AsyncIterable[T]) -> AsyncIterator[Sequence[T]]:
    """Iterate over a list as over one that comes in pages.

    Args:
        items: The list, which a generator reads.
    """
    async with closing(items) as each:
        async for item in each:
            yield (item,)
