"""Reading short lists to their end: usually a single response, unless the cloud links to a next page."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import TypeVar
from urllib.parse import parse_qsl, urlsplit

import anyio

from bms_async.errors import DecodeError
from bms_async.models import Link
from bms_async.wire import Query

A = TypeVar("A")
T = TypeVar("T")

_REFETCH_DELAYS = (1.0, 2.0, 4.0)
"""Seconds before a page without a new item is fetched again although another page links to it."""


async def read_pages(
    fetch: Callable[[Query], Awaitable[A]],
    query: Query,
    *,
    items: Callable[[A], Iterable[tuple[str | None, T]]],
    link: Callable[[A], str | None],
    operation: str,
) -> tuple[T, ...]:
    """Return all items of a list, without duplicates.

    Args:
        fetch: Returns the page of a query.
        query: The query of the first page.
        items: Returns the items of a page, each with its key; items with the key None are all kept.
        link: Returns the address of the next page, whose query is used; None on the last page.
        operation: The name of the call, for errors.

    Raises:
        DecodeError: A page links to a next page that has nothing new.
    """
    found: list[T] = []
    seen: set[str] = set()
    refetches = 0
    while True:
        page = await fetch(query)
        new = [(key, item) for key, item in items(page) if key not in seen]
        found += [item for _, item in new]
        seen.update(key for key, _ in new if key is not None)
        address = link(page)
        if address is None:
            return tuple(found)
        if new:
            refetches = 0
            query = {**query, **dict(parse_qsl(urlsplit(address).query))}
        elif refetches == len(_REFETCH_DELAYS):
            raise _incomplete_error(operation, len(found))
        else:
            await anyio.sleep(_REFETCH_DELAYS[refetches])
            refetches += 1


def _incomplete_error(operation: str, found: int) -> DecodeError:
    return DecodeError(
        f"expected more than {found} items, as the page links to a next one, got nothing new "
        f"{len(_REFETCH_DELAYS) + 1} times; list them again later",
        status=200,
        operation=operation,
    )


def next_link(links: Iterable[Link] | None) -> str | None:
    """Return the address of the next page from a list of links; None if there is none."""
    return next((link.href for link in links or () if link.rel == "next" and link.href), None)


def next_of(links: Mapping[str, str | None] | None) -> str | None:
    """Return the address of the next page from the identity service's links, which are keyed by relation."""
    return (links or {}).get("next") or None
