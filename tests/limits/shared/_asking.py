"""Asking a store in few words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, TypeVar

from bms_async.limits.shared.messages import Answer, Question, Terms
from bms_async.limits.shared.store import Store

TERMS = Terms()
LIMIT = 50

AnyStore = TypeVar("AnyStore", bound=Store)


def question(holder: str, seq: int = 1, **what: Any) -> Question:
    """A holder's question; it has a limit of 50 a minute and the usual times unless it says otherwise."""
    return Question(holder=holder, seq=seq, **{"terms": TERMS, "limit": LIMIT, **what})


async def ask(
    store: Store, holder: str, seq: int = 1, *, account: str = "a", limit: str = "stop", **what: Any
) -> Answer:
    [answer] = await store.ask(account, [(limit, question(holder, seq, **what))])
    return answer


@asynccontextmanager
async def opened(store: AnyStore) -> AsyncIterator[AnyStore]:
    """A store that is open, and is closed at the end."""
    try:
        await store.open()
        yield store
    finally:
        await store.aclose()
