"""Going over any number of servers without keeping the event loop."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from typing import Final, TypeVar

import anyio.lowlevel

T = TypeVar("T")

__all__ = ["slowly"]

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
