"""The work of a power action: batches of servers, a job for each, and the states of servers where those fail.

``source -> scheduler -> submit -> (isolate | prove) -> tracker``
"""

from __future__ import annotations

from collections.abc import Collection

import anyio
from anyio.abc import TaskGroup

from bms_async.jobs import JobHandle

from .batch import Batch
from .isolate import Isolation
from .options import RunOptions
from .proving import StateProver
from .scheduler import BatchScheduler
from .source import IdSource
from .state_reader import StateReader
from .submit import SendBatch, Submitter
from .tracker import RunTracker
from .walk import Walk


class PowerWork:
    """Sends batches, and follows each to its end.

    Args:
        tracker: The run's.
        source: The source of ids.
        walk: As the attribute.
        send_batch: Sends a batch.
        reader: Reads states.
        options: The run's options.

    Attributes:
        walk: How the fleet is walked through.
    """

    def __init__(
        self,
        tracker: RunTracker,
        source: IdSource,
        walk: Walk,
        *,
        send_batch: SendBatch,
        reader: StateReader,
        options: RunOptions,
    ) -> None:
        self._tracker = tracker
        self._source = source
        self.walk = walk
        self._reader = reader
        self._options = options
        self._prover = StateProver(tracker, reader)
        self._scheduler = BatchScheduler(tracker, walk.feed, walk.gate, retry=options.retry_transient)
        self._submitter = Submitter(
            tracker,
            self._scheduler,
            send_batch,
            isolation=Isolation(tracker, self._scheduler, reader),
            prover=self._prover,
            on_job=options.on_job,
        )

    @property
    def extra_calls(self) -> int:
        """How many calls were made only to find out what no job says."""
        return self._tracker.extra_calls + self._reader.calls + self.walk.calls

    async def carry_out(self) -> None:
        """Read the source, send all servers and follow them to their ends."""
        async with self.walk, anyio.create_task_group() as tasks:
            for job in self._options.jobs:
                self._adopt(job, tasks)
            tasks.start_soon(self._source.read)
            await self.walk.prepare()
            await self._send_all(tasks)
            # No further batch is sent, so that the source need not be read to its end.
            self._source.scope.cancel()
        if self._tracker.awaiting_verification:
            await self._prover.verify()

    def stop(self) -> None:
        """Send nothing more."""
        self._source.scope.cancel()
        self.walk.stop()

    async def drain(self, *, unknown: list[Batch] | None = None) -> None:
        """Give all servers that wait their outcome."""
        await self._scheduler.drain(unknown=unknown)
        if unknown is None:
            await self._tracker.skip_unasked(self.walk.feed.pop_waiting)

    async def read_states(self, batches: Collection[Batch]) -> None:
        """Read the states of servers that are no longer followed once, and conclude what they prove."""
        await self._prover.prove_now(batches)

    async def release(self) -> None:
        """Give the servers whose outcome was held back theirs."""
        await self.walk.release()

    async def _send_all(self, tasks: TaskGroup) -> None:
        """Send all batches, one at a time in the queue of the limiter; tasks of the group follow them."""
        while (batch := await self._scheduler.next_batch()) is not None:
            sent_or_failed = anyio.Event()
            tasks.start_soon(self._submitter.send, batch, sent_or_failed)
            await sent_or_failed.wait()
        await self.drain()

    def _adopt(self, job: JobHandle, tasks: TaskGroup) -> None:
        """Follow a job that another run has started; its servers are this run's now."""
        batch = Batch(self._tracker.intake.adopt(job.servers))
        batch.send_count, batch.in_doubt = 1, True
        self._tracker.start_batch(batch)
        self._tracker.submitted += len(batch.ids)
        tasks.start_soon(self._submitter.follow, job, batch)
