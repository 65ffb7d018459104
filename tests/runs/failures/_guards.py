"""What a process of the controls does not guard itself by: each is taken away in that process alone."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Literal

import msgspec

from bms_async.fleet.batch import Batch
from bms_async.fleet.packed import pack_details
from bms_async.jobs import JobHandle
from bms_async.journal import BatchState, KeptBatch
from bms_async.journal.transactions import steps
from bms_async.runs.batch_log import JournalLog
from bms_async.runs.worker import Worker

Guard = Literal["settling", "intent", "fence"]


def take_away(guard: Guard) -> None:
    """Do without a guard from now on, in this process."""
    _HOW[guard]()


def _send_again_what_was_marked_as_sent() -> None:
    begin = Worker._begin

    async def begin_as_waiting(self: Worker, kept: KeptBatch, tasks: Any) -> None:
        if kept.state is BatchState.SENDING:
            kept = msgspec.structs.replace(kept, state=BatchState.WAITING)
        await begin(self, kept, tasks)

    Worker._begin = begin_as_waiting  # type: ignore[method-assign]


def _mark_as_sent_what_was_answered() -> None:
    watching = JournalLog.watching

    async def send(self: JournalLog, batch: Batch) -> None:
        """Leave it to later."""

    async def mark_and_watch(self: JournalLog, batch: Batch, job: JobHandle) -> None:
        # From the module, in which the process looks at what it passes.
        from bms_async.runs import batch_log

        await self._step(partial(batch_log.__dict__["mark_sending"], is_first=True), pack_details(batch))
        await watching(self, batch, job)

    JournalLog.sending = send  # type: ignore[method-assign]
    JournalLog.watching = mark_and_watch  # type: ignore[method-assign]


def _ignore_who_has_it() -> None:
    def heed(self: Worker, held: Any, found: Any) -> None:
        """Go on with whatever it is."""

    # It names all values that it is given, which a store may insist on.
    steps.IS_MINE = "run = $1 AND number = $2 AND $3 = $3 AND $4 = $4"
    Worker._heed = heed  # type: ignore[method-assign]


_HOW: dict[Guard, Callable[[], None]] = {
    "settling": _send_again_what_was_marked_as_sent,
    "intent": _mark_as_sent_what_was_answered,
    "fence": _ignore_who_has_it,
}
