"""Reading short lists to their end: those that come in one answer, unless the cloud links to a next page."""

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

_ASK_AGAIN_DELAYS = (1.0, 2.0, 4.0)
"""Seconds before a page is asked for again that brings nothing although another one links to it."""


async def read_pages(
    fetch: Callable[[Query], Awaitable[A]],
    query: Query,
    *,
    items: Callable[[A], Iterable[tuple[str | None, T]]],
    link: Callable[[A], str | None],
    operation: str,
) -> tuple[T, ...]:
    """Return all items of a list, leaving out what came on a page before.

    Args:
        fetch: Brings the page that a query asks for.
        query: What the list is asked for.
        items: The items of a page, and what tells them apart; None where nothing does.
        link: The address of the next page, of which the query counts; None on the last.
        operation: The name of the call, for errors.

    Raises:
        DecodeError: A page links to a next one, and nothing new comes of it.
    """
    found: list[T] = []
    seen: set[str] = set()
    asked_again = 0
    while True:
        page = await fetch(query)
        new = [(key, item) for key, item in items(page) if key not in seen]
        found += [item for _, item in new]
        seen.update(key for key, _ in new if key is not None)
        address = link(page)
        if address is None:
            return tuple(found)
        if new:
            asked_again = 0
            query = {**query, **dict(parse_qsl(urlsplit(address).query))}
        elif asked_again == len(_ASK_AGAIN_DELAYS):
            raise DecodeError(
                f"expected more than these {len(found)}, as the page links to a next one, got nothing new "
                f"{asked_again + 1} times; list them again later",
                status=200,
                operation=operation,
            )
        else:
            await anyio.sleep(_ASK_AGAIN_DELAYS[asked_again])
            asked_again += 1


def next_link(links: Iterable[Link] | None) -> str | None:
    """Return the address of the next page that a list of links names; None where there is none."""
    return next((link.href for link in links or () if link.rel == "next" and link.href), None)


def next_of(links: Mapping[str, str | None] | None) -> str | None:
    """Return the address of the next page in the way of the identity service, which names links by their kind."""
    return (links or {}).get("next") or None
