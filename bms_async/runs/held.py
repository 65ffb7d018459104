"""A batch that a worker holds, and how it is carried on.

However that ends, the batch is not left with the worker: it has ended, another worker has it, or it is handed back.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import partial

import anyio

from bms_async.errors import ClientClosedError
from bms_async.fleet.batch import Batch, BatchWithdrawnError
from bms_async.fleet.durable import DurableBatch
from bms_async.fleet.packed import unpack_batch
from bms_async.fleet.rollout.gate import Gate
from bms_async.fleet.rollout.known import ReadServers
from bms_async.fleet.rollout.reader import RolloutReader
from bms_async.fleet.rollout.recovery import Recovery
from bms_async.fleet.rollout.rollout import Check, Rollout
from bms_async.fleet.sending import make_sender
from bms_async.fleet.state_reader import StateReader
from bms_async.fleet.tracker import RunTracker
from bms_async.jobs import Watcher
from bms_async.journal import BatchState, Journal, KeptBatch, RunStatus
from bms_async.session import Session

from .batch_log import JournalLog, read_open_ids
from .options import KeptOptions, decode_options

_log = logging.getLogger("bms_async.runs")

ENDING = (RunStatus.CANCELLED, RunStatus.ABORTED)
"""What a run is whose batches are not sent any more."""

SEND_GRACE = 5.0
"""Seconds that a worker which is closed waits for the responses of what it has just sent."""

HAND_BACK_GRACE = 3.0
"""Seconds that a worker which is closed waits for its journal; what it cannot hand back is free after its lease."""

PAUSE_AFTER_BUG = 30.0
"""Seconds before something is tried again that ought not to have failed."""


class Held:
    """A batch that a worker holds.

    Args:
        kept: What the journal has of it.
        batch: Its servers that have no outcome yet.
        work: Carries it on.
        log: Where it is written down.
        watcher: What polls its job.

    Attributes:
        claim: The claim to it.
        action: The action of its run.
        waits: Whether it waits for its slot.
    """

    __slots__ = ("_batch", "_is_over", "_log", "_scope", "_watcher", "action", "claim", "kept", "waits", "work")

    def __init__(self, kept: KeptBatch, batch: Batch, work: DurableBatch, log: JournalLog, watcher: Watcher) -> None:
        self.kept = kept
        self.claim = kept.claim
        self.action = kept.action
        self.work = work
        self.waits = kept.state is BatchState.WAITING
        self._batch = batch
        self._log = log
        self._watcher = watcher
        self._is_over = False
        self._scope = anyio.CancelScope()

    def lose(self) -> None:
        """Leave it at once: another worker has it."""
        self._is_over = True
        self._scope.cancel()

    async def carry_on(self, *, on_sent: Callable[[], None]) -> bool:
        """Carry it on to its end, and hand it back if that cannot be reached.

        Args:
            on_sent: Called once it was sent, or will not be.

        Returns:
            Whether it has ended.

        Raises:
            ClientClosedError: The client is closed.
        """
        try:
            with self._scope:
                async with anyio.create_task_group() as tasks:
                    tasks.start_soon(self._note_sent, on_sent)
                    error = await self._work_on()
                if error is None:
                    self._is_over = True
                    return True
                _log.info("a batch of the run %r is left: %s", self.kept.key, error)
                await self._hand_back()
                if isinstance(error.__cause__, ClientClosedError):
                    raise error.__cause__
        finally:
            if not self._is_over:
                # What was marked as sent and was not, for instance while this is closed, is no mystery to the next one.
                with anyio.move_on_after(HAND_BACK_GRACE, shield=True):
                    await self._log.hand_back(self._batch, patience=HAND_BACK_GRACE)
            self.waits = False
        return False

    async def _work_on(self) -> BatchWithdrawnError | None:
        """Carry it on; return why it is left if it is."""
        kept = self.kept
        try:
            if kept.status in ENDING or not await self._log.may_be_sent():
                self.work.stop()
            job = None
            if kept.state is BatchState.WATCHING and kept.job is not None:
                job = self._watcher.watch(kept.job, servers=self._batch.ids, action=kept.action, started=False)
            await self.work.run(kept.state, job)
        except BatchWithdrawnError as error:
            return error
        except ClientClosedError as error:
            withdrawn = BatchWithdrawnError("the client was closed")
            withdrawn.__cause__ = error
            return withdrawn
        except Exception:  # noqa: BLE001 - one batch of many, and the worker goes on
            _log.exception("a batch of the run %r broke, and is tried again", kept.key)
            self.work.sent_or_failed.set()
            await anyio.sleep(PAUSE_AFTER_BUG)
            return BatchWithdrawnError("it broke")
        finally:
            self.work.sent_or_failed.set()
        return None

    async def _hand_back(self) -> None:
        await self._log.hand_back(self._batch, delay=self.work.delay)
        self._is_over = True

    async def _note_sent(self, on_sent: Callable[[], None]) -> None:
        await self.work.sent_or_failed.wait()
        self.waits = False
        on_sent()


class _SharedReader:
    """The reader of a run, whose calls are counted with whichever batch ends next."""

    __slots__ = ("_taken", "reader")

    def __init__(self, reader: StateReader) -> None:
        self.reader = reader
        self._taken = 0

    def take_calls(self) -> int:
        """Return how many calls it has made since this was called last."""
        taken, self._taken = self._taken, self.reader.calls
        return self._taken - taken


class Opener:
    """Makes what carries a claimed batch on; batches of one run share a reader of states.

    Args:
        journal: The journal, open.
        session: What makes the calls.
        watcher: What polls jobs.
        on_answer: Called with the answers to batches, as a `DurableBatch` calls it.
    """

    def __init__(
        self, journal: Journal, session: Session, watcher: Watcher, *, on_answer: Callable[[float | None], None]
    ) -> None:
        self._journal = journal
        self._on_answer = on_answer
        self._session = session
        self._watcher = watcher
        self._readers: dict[str, _SharedReader] = {}

    async def open(self, kept: KeptBatch, on_room: Callable[[], None]) -> Held:
        """Return a claimed batch, to be carried on.

        Args:
            kept: What the journal has of it.
            on_room: Called when there is more room in the wave of its run.

        Raises:
            JournalError: The journal cannot be read.
            Exception: What it has of the batch cannot be understood.
        """
        ids = await read_open_ids(self._journal, kept)
        batch = unpack_batch(ids, kept.details)
        # From the first moment on: what is left before anything is done for it must not pass for a batch that was not
        # sent.
        batch.in_doubt = kept.state is not BatchState.WAITING
        options = decode_options(kept.options)
        rollout = None if options.rollout is None else options.rollout.rollout()
        check = None if rollout is None else rollout.ready
        # In a wave, each server that has its outcome makes room for another one.
        log = JournalLog(
            self._journal,
            kept.claim,
            kept.sequence,
            on_outcomes=on_room if options.prompt else None,
            term=options.term,
        )
        reader = self._readers.get(kept.claim.run)
        if reader is None:
            reader = self._readers[kept.claim.run] = _SharedReader(StateReader(self._session, options.lane))
        work = DurableBatch(
            batch,
            log,
            action=kept.action,
            send=make_sender(self._session, self._watcher, kept.action, options.lane),
            reader=reader.reader,
            retry=options.retry_transient,
            verify=options.verify,
            splits=kept.parts,
            prompt=options.prompt,
            gate=None if rollout is None else Gate(rollout.window),
            recovery=None if check is None else partial(self._recover, check, batch.ids, options),
            read_calls=reader.take_calls,
            on_answer=self._on_answer,
        )
        return Held(kept, batch, work, log, self._watcher)

    def _recover(self, check: Check, ids: Sequence[str], options: KeptOptions, tracker: RunTracker) -> Recovery:
        """Return what holds the outcomes of a batch back until its servers are ready."""
        return Recovery(
            tracker,
            ReadServers(RolloutReader(self._session, options.lane), ids),
            check,
            timeout=Rollout().ready_timeout if options.rollout is None else options.rollout.ready_timeout,
            redact=self._session.redact,
            # Whoever carries the plan out counts by outcomes.
            on_recovered=None,
        )

    def forget(self, run: str) -> None:
        """Forget the reader of a run of which no batch is held any more."""
        self._readers.pop(run, None)
