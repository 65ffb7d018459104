"""Which servers go into which batch: pure."""

from __future__ import annotations

from collections import deque

from bms_async.errors import InvalidRequestError
from bms_async.wire.checks import MOST_SERVERS, check_id


class Intake:
    """Takes ids in, each once, and hands them out in batches.

    Attributes:
        admitted: How many different ids came in.
    """

    __slots__ = ("_check", "_ready", "_size", "admitted", "unsettled")

    def __init__(self, *, size: int = MOST_SERVERS, check: bool = True) -> None:
        self._size = size
        self._check = check
        self._ready: deque[str] = deque()
        self.admitted = 0
        # One table is both what came in and what has no outcome yet: at a million ids a second one would be felt.
        self.unsettled: dict[str, bool] = {}

    @property
    def ready(self) -> int:
        """How many ids wait for a batch."""
        return len(self._ready)

    @property
    def is_full(self) -> bool:
        """Whether a whole batch waits."""
        return len(self._ready) >= self._size

    def admit(self, value: object) -> tuple[str, InvalidRequestError] | None:
        """Take one id in; one that came before changes nothing.

        Args:
            value: What the caller handed over.

        Returns:
            None, or for an unfit id how it is called in its outcome, and why it is refused.
        """
        name = value if isinstance(value, str) else repr(value)
        if name in self.unsettled:
            return None
        self.admitted += 1
        self.unsettled[name] = True
        if self._check or not isinstance(value, str):
            try:
                check_id("ids", value)
            except InvalidRequestError as error:
                return name, error
        self._ready.append(name)
        return None

    def take(self) -> tuple[str, ...]:
        """Return the next batch, empty if no id waits."""
        return tuple(self._ready.popleft() for _ in range(min(self._size, len(self._ready))))

    def settle(self, server_id: str) -> bool:
        """Note that an id has its outcome; tell whether it was the first for an id that came in."""
        first = self.unsettled.get(server_id, False)
        if first:
            self.unsettled[server_id] = False
        return first
