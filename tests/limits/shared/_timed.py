"""A store in memory that notes when it is asked."""

from __future__ import annotations

from collections.abc import Sequence

import anyio

from bms_async.limits.shared.ledger import open_account
from bms_async.limits.shared.messages import Answer, Question
from bms_async.limits.shared.store import encode
from tests.limits.shared._memory import MemoryState, MemoryStore

ACCOUNT = "a"
_ROUND_TRIP = 0.001


class TimedStore(MemoryStore):
    """A store that answers after the time of a round trip in a data centre.

    Args:
        state: What it keeps, together with other stores.
        asked: Where it is noted when each question was asked, by the event loop's clock.
    """

    def __init__(self, state: MemoryState, asked: list[float]) -> None:
        super().__init__(state, delay=_ROUND_TRIP)
        self._asked = asked

    async def ask(self, account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
        self._asked += [anyio.current_time()] * len(questions)
        return await super().ask(account, questions)


def open_state() -> MemoryState:
    """What stores keep of an account that is open."""
    state = MemoryState()
    state.accounts[ACCOUNT] = encode(open_account(None, now=state.now(), life=state.life))
    return state
