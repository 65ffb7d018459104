"""The hook events of a reconciler."""

from __future__ import annotations

from bms_async.hooks import ConditionChanged, Hooks, ResyncEnded
from bms_async.redaction import shown_text

from .books import Books
from .conditions import Condition, Degraded
from .telling import Teller


class ReconcilerHookEvents:
    """Emits the events of one reconciler.

    Args:
        hooks: The client's hooks.
        name: The reconciler's name.
        books: What is known.
        teller: Makes the conditions.
    """

    __slots__ = ("_books", "_hooks", "_name", "_teller")

    def __init__(self, hooks: Hooks, name: str, books: Books, teller: Teller) -> None:
        self._hooks = hooks
        self._name = name
        self._books = books
        self._teller = teller

    def on_change(self, server_id: str) -> None:
        """Emit `ConditionChanged`."""
        change = self._teller.change(server_id)
        if change is None:
            return
        condition = change.condition
        self._hooks.emit(
            ConditionChanged(
                reconciler=self._name,
                server_id=server_id,
                desired=change.desired.value,
                condition=type(condition).__name__,
                reason=_reason_of(condition),
                attempts=condition.attempts if isinstance(condition, Degraded) else 0,
            )
        )

    def on_resync(self, seconds: float, error: BaseException | None) -> None:
        """Emit `ResyncEnded`."""
        books = self._books
        self._hooks.emit(
            ResyncEnded(
                reconciler=self._name,
                seconds=seconds,
                synced=books.synced,
                progressing=books.progressing,
                degraded=books.degraded,
                error=None if error is None else type(error).__name__,
            )
        )


def _reason_of(condition: Condition) -> str | None:
    if not isinstance(condition, Degraded):
        return None
    if isinstance(condition.reason, str):
        return condition.reason
    code = getattr(condition.reason, "code", None)
    return shown_text(code) if isinstance(code, str) and code else type(condition.reason).__name__
