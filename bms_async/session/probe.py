"""Probes: what somebody else's function does with the client while it runs.

A fleet run that calls a function of the application for each server does not see the calls that this makes. A probe is
set for the function's context. It has the calls wait in the run's lane, sees whether one waits for its slot and whether
one was sent, and can keep the first one from being sent.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import Protocol

from bms_async.limits import Lane


class Probe(Protocol):
    """Sees the calls that are made in a context.

    Attributes:
        lane: The lane that calls wait in which name none.
    """

    lane: Lane

    def on_wait(self) -> None:
        """Note that a call begins to wait for its slot."""
        ...

    def check_may_send(self) -> None:
        """Check that a call which has its slot may be sent.

        Raises:
            Exception: It may not; the call ends with this.
        """
        ...

    def on_send(self) -> None:
        """Note that a request was handed to the transport."""
        ...


current_probe: ContextVar[Probe | None] = ContextVar("bms_async probe", default=None)
"""The probe of the current context; None where nobody wants to see."""
