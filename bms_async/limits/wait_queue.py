"""Who waits for a slot: two lanes, each first come, first served."""

from __future__ import annotations

import asyncio
from collections import deque
from enum import IntEnum
from typing import Generic, TypeVar

T = TypeVar("T")

_FEW = 64
"""Dead tickets that are not worth clearing away."""


class Lane(IntEnum):
    """Who goes first when calls must wait."""

    INTERACTIVE = 0
    BULK = 1


class WaitingLine(Generic[T]):
    """Tickets in the order in which they came.

    Who leaves stays in the line as a ticket that is done and is passed over, for taking it out of the middle would cost
    more than it weighs; when most are such, they are cleared away together. So joining, leaving and serving cost the
    same however many wait.
    """

    __slots__ = ("_tickets", "length")

    def __init__(self) -> None:
        self._tickets: deque[asyncio.Future[T]] = deque()
        self.length = 0

    def join(self, ticket: asyncio.Future[T]) -> None:
        """Put a ticket at the end."""
        self._tickets.append(ticket)
        self.length += 1

    def leave(self) -> None:
        """Count out one whose ticket is done without having been served."""
        self.length -= 1
        if len(self._tickets) > 2 * self.length + _FEW:
            self._tickets = deque(ticket for ticket in self._tickets if not ticket.done())

    def serve(self) -> asyncio.Future[T] | None:
        """Take the first who still waits; None when nobody does."""
        while self._tickets:
            ticket = self._tickets.popleft()
            if not ticket.done():
                self.length -= 1
                return ticket
        return None
