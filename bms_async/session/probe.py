"""Probes: what somebody else's function does with clients while it runs.

A fleet run that calls a function of the application for each server does not see the calls that this makes. A probe is
set for the function's context, and so for the tasks that the function starts. It has the calls wait in the run's lane,
sees each of them wait, leave and be refused, and can keep one from being sent.

Tasks that a client starts for its own work, to watch a job or to carry out a fleet run, have no probe, whoever was the
first to need them: they outlive the function.
"""

from __future__ import annotations

from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Protocol

from bms_async._tasks import not_inherited
from bms_async.limits import Lane

if TYPE_CHECKING:
    from bms_async.wire import Operation


class Probe(Protocol):
    """Sees the calls that are made in a context.

    Attributes:
        lane: The lane that calls wait in which name none.
    """

    lane: Lane

    async def on_wait(self) -> None:
        """Note that a call begins to wait for its slot.

        Raises:
            Exception: It may not be sent at the moment; it ends with this.
        """
        ...

    def on_wait_end(self) -> None:
        """Note that it waits no more, with or without a slot."""
        ...

    async def check_may_send(self) -> None:
        """Check that a call which has its slot may be sent.

        Raises:
            Exception: It may not; the call ends with this.
        """
        ...

    def on_begin(self) -> None:
        """Note that something was begun that goes on by itself, and makes calls which the probe does not see."""
        ...

    def on_send(self, operation: Operation[Any]) -> None:
        """Note that a request was handed to the transport."""
        ...

    def on_refused(self, operation: Operation[Any]) -> None:
        """Note that a request was surely not executed."""
        ...


current_probe: ContextVar[Probe | None] = not_inherited(ContextVar("bms_async probe", default=None))
"""The probe of the current context; None where nobody wants to see."""
