"""A store in memory, for the virtual clock, that fails when it is asked to."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio

from bms_async.limits.shared.ledger import deal, open_account
from bms_async.limits.shared.messages import Answer, Question
from bms_async.limits.shared.store import AccountUsage, decode_account, decode_ledger, encode, usage_of


class MemoryState:
    """What several stores keep together, as bytes.

    Args:
        clock: The store's time in seconds; that of the event loop if there is none.

    Attributes:
        accounts: The accounts by name.
        limits: The limits by account and name.
        life: The life that the store lives.
        ahead: By how many seconds the store's clock was set.
        away: Whether nobody reaches it.
        lost_answers: How many of the next answers are lost, after the questions were dealt with.
        asked: Who asked what, in order: the account, the limit and the question.
    """

    def __init__(self, clock: Callable[[], float] = anyio.current_time) -> None:
        self._clock = clock
        self.accounts: dict[str, bytes] = {}
        self.limits: dict[tuple[str, str], bytes] = {}
        self.life = "life-1"
        self.ahead = 0.0
        self.away = False
        self.lost_answers = 0
        self.asked: list[tuple[str, str, Question]] = []

    def now(self) -> float:
        return self._clock() + self.ahead

    def forget(self) -> None:
        """Lose everything, as a store that is started anew without its data."""
        self.accounts.clear()
        self.limits.clear()


class MemoryStore:
    """A store of shared limits in memory.

    Args:
        state: What it keeps, together with other stores.
        delay: Seconds that an answer takes.
    """

    def __init__(self, state: MemoryState, *, delay: float = 0.0) -> None:
        self._state = state
        self._delay = delay
        self._is_open = False

    @property
    def label(self) -> str:
        return "memory"

    async def open(self) -> None:
        await self._reach()
        self._is_open = True

    async def ask(self, account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
        await self._reach(is_open=self._is_open)
        state, answers = self._state, []
        for name, question in questions:
            state.asked.append((account, name, question))
            kept = decode_account(state.accounts.get(account))
            ledger = decode_ledger(state.limits.get((account, name)))
            dealt = deal(kept, ledger, question, name=name, now=state.now(), life=state.life)
            state.accounts[account] = encode(dealt.account)
            state.limits[account, name] = encode(dealt.ledger)
            answers.append(dealt.answer)
        if state.lost_answers > 0:
            state.lost_answers -= 1
            raise ConnectionResetError("the answer was lost")
        return answers

    async def read(self, account: str) -> AccountUsage:
        await self._reach(is_open=self._is_open)
        state = self._state
        kept = decode_account(state.accounts.get(account))
        ledgers = ((name, data) for (owner, name), data in state.limits.items() if owner == account)
        return usage_of(kept, ledgers, now=state.now(), life=state.life)

    async def open_account(self, account: str) -> None:
        await self._reach(is_open=self._is_open)
        state = self._state
        opened = open_account(decode_account(state.accounts.get(account)), now=state.now(), life=state.life)
        state.accounts[account] = encode(opened)

    async def aclose(self) -> None:
        self._is_open = False

    async def _reach(self, *, is_open: bool = True) -> None:
        await anyio.sleep(self._delay)
        if not is_open:
            raise ConnectionError("the store is not open")
        if self._state.away:
            raise ConnectionRefusedError("the store is away")
