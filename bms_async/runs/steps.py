"""Steps of a fleet run for somebody else's engine: a batch is sent, watched and settled by whichever process is asked.

What it guarantees: a step takes and returns plain JSON, and each server of a batch ends in one outcome, or in a batch
that the result asks to have sent again. With a journal (``runs=``) a batch is sent once for its key, however often and
wherever the step is called: it is written down as a run of one batch, and carried on by the same worker as all durable
runs, with its intents, leases and fences. Nothing is then left for the engine to send again.

Without a journal nothing is remembered by the key. What is known of a batch is in the JSON alone, and whether it was
sent is known to the process that sent it. An engine must then call `send_batch` for a reboot once at most, and hand
what `SentBatch.lost` makes to `settle_batch` if the answer was lost. A start or a stop may be called again.

How, without a journal: each step is the `DurableBatch` that a worker runs, with a log that keeps what it is given, and
withdraws the batch once its job is known.

Rejected: a journal that keeps only whether a batch was sent. What is to be sent again would be in the engine's history
alone, and a worker that stood still while the engine gave it up would send it a second time. So runs of steps have a
place of their own in the journal, where the worker of a client that takes steps looks, and no other one.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable, Sequence
from typing import TypeAlias

import anyio
import msgspec

from bms_async._foreign import call_foreign
from bms_async._tasks import BackgroundTasks
from bms_async._threads import run_in_thread
from bms_async.errors import BmsError, InvalidRequestError
from bms_async.fleet.packed import pack_outcomes
from bms_async.jobs import Watcher
from bms_async.jobs.handle import SavedJob
from bms_async.journal import pack_ids
from bms_async.limits import Lane
from bms_async.session import Session
from bms_async.validation.common import MAX_BATCH_SIZE

from .begin import read_ids
from .journaled_steps import JournaledSteps
from .options import CheckedOptions, check_key
from .plain_steps import PlainSteps, merge
from .runs import Runs
from .step_records import BatchResult, NextBatch, SentBatch, SentState, check_action
from .worker import Worker

_log = logging.getLogger("bms_async.runs")

BatchIds: TypeAlias = Iterable[str] | AsyncIterable[str] | NextBatch | Sequence[NextBatch]

OnProgress: TypeAlias = Callable[[str], object]
"""Takes the job as JSON, such as `JobHandle.to_json` returns; ``null`` while there is none."""

_PROGRESS_EVERY = 5.0
"""Seconds between two calls of `on_progress`."""


class BatchSteps:
    """The steps of a batch for somebody else's engine, of which `bms.runs` has those of a client."""

    def __init__(self, runs: Runs | None, session: Session, watcher: Watcher, *, check: bool) -> None:
        self._runs = runs
        self._session = session
        self._watcher = watcher
        self._check = check
        self._tasks = BackgroundTasks("bms_async workers")
        self._workers: dict[str, Worker] = {}
        self._plain = PlainSteps(session, watcher)
        self._journaled = (
            None if runs is None else JournaledSteps(runs.journal, session, watcher, self._tasks, self._workers)
        )

    async def send_batch(
        self,
        action: str,
        ids: BatchIds,
        *,
        key: str | None = None,
        retry_transient: bool = True,
        verify: bool = False,
        lane: Lane = Lane.BULK,
    ) -> SentBatch:
        """Send a batch, as one step of somebody else's engine.

        With a journal (``runs=``) this is done once for its key: called again, by whichever process, it returns what is
        known of the batch. Without one the key is only a name. Then an engine that calls it for a reboot must call it
        once at most, and hand `SentBatch.lost` to `settle_batch` where the answer was lost.

        Args:
            action: ``start``, ``stop`` or ``reboot``.
            ids: At most 1000 servers; or one `NextBatch` of a result, or several that have a grid.
            key: The batch's name in this project; for instance that of the run, and the number of the batch. None makes
                a new one.
            retry_transient: Whether busy servers are sent again: with a journal by its worker, else by the caller, from
                `BatchResult.again`.
            verify: Whether states are read back before outcomes are known.
            lane: The priority of its calls in the rate limiter's queue.

        Returns:
            What is known, for `watch_job`; as JSON by its `to_json`. Neither a refusal nor a lost response is raised.

        Raises:
            InvalidRequestError: An argument is invalid, or the key is that of another batch.
            JournalError: The journal cannot be used.
            ClientClosedError: The client is closed.

        Source: API reference 4.4.3 to 4.4.5; 50 calls a minute, 1000 servers a call.
        """
        name = check_action(action)
        CheckedOptions(retry_transient=retry_transient, verify=verify, lane=lane).check(name)
        self._session.check_open()
        checked = f"{name.removeprefix('servers.')}-{secrets.token_hex(6)}" if key is None else check_key(key)
        batch, invalid = await self._read(name, ids)
        sent = SentBatch(
            action=name,
            key=checked,
            state=SentState.UNKNOWN,
            packed=batch.packed,
            servers=batch.servers,
            details=batch.details,
            parts=batch.parts,
            invalid=invalid,
            retry_transient=retry_transient,
            verify=verify,
            lane=lane,
        )
        if self._journaled is not None:
            return await self._journaled.send(sent, await self._place())
        return await self._plain.send(sent)

    async def watch_job(self, sent: SentBatch | str | bytes, *, on_progress: OnProgress | None = None) -> BatchResult:
        """Watch a batch that was sent to its end, as one step of somebody else's engine.

        It may be called again by whichever process, and returns the same. Servers that the job does not report are
        settled by their states.

        Args:
            sent: What `send_batch` returned, or its JSON.
            on_progress: Called every 5 s with the job as JSON, for an engine that wants a sign of life.

        Returns:
            The outcomes; as JSON by its `to_json`.

        Raises:
            InvalidRequestError: It is not what `send_batch` returned.
            JournalError: The journal cannot be used.
            ClientClosedError: The client is closed.
        """
        batch = _read_sent(sent)
        self._session.check_open()
        return await self._beating(batch, on_progress, self._plain.watch)

    async def settle_batch(
        self, sent: SentBatch | str | bytes, *, on_progress: OnProgress | None = None
    ) -> BatchResult:
        """Find out what became of a batch whose answer was lost, as one step of somebody else's engine.

        The servers' states say it. A server that a reboot may have reached is not sent again, and is UNKNOWN where its
        state proves nothing; a start or a stop is sent again. With a journal the journal says it, and a batch that was
        never written down is sent, once.

        Args:
            sent: What `send_batch` returned, or `SentBatch.lost`; or its JSON.
            on_progress: As for `watch_job`.

        Returns:
            The outcomes; as JSON by its `to_json`.

        Raises:
            InvalidRequestError: It is not what `send_batch` returned.
            JournalError: The journal cannot be used.
            ClientClosedError: The client is closed.
        """
        batch = _read_sent(sent)
        self._session.check_open()
        return await self._beating(await self._without_invalid(batch), on_progress, self._plain.settle)

    async def skip_batch(self, batch: NextBatch | str | bytes, *, key: str, why: str | None = None) -> BatchResult:
        """Give up a batch that a result asks to have sent again, as an engine does whose run was cancelled.

        Servers that were never sent are SKIPPED; the others have the outcome of their last attempt.

        Args:
            batch: Of `BatchResult.again`, or its JSON.
            key: The key that it would be sent under.
            why: The reason, for the outcomes of what was never sent.

        Raises:
            InvalidRequestError: It is no such batch.
        """
        given_up = NextBatch.from_json(batch) if isinstance(batch, str | bytes) else batch
        return await self._plain.skip(given_up, key=key, why=why)

    async def _place(self) -> str:
        raise NotImplementedError

    async def _read(self, action: str, ids: BatchIds) -> tuple[NextBatch, bytes]:
        """Return what is to be sent, and the outcomes of ids that are invalid."""
        if isinstance(ids, NextBatch):
            batch = ids
        elif isinstance(ids, Sequence) and ids and isinstance(ids[0], NextBatch):
            batch = merge([each for each in ids if isinstance(each, NextBatch)])
        else:
            return await self._read_ids(action, ids)
        if batch.action != action or batch.servers > MAX_BATCH_SIZE:
            raise InvalidRequestError("ids", "...", f"expected at most {MAX_BATCH_SIZE} servers of {action}")
        return batch, b""

    async def _read_ids(self, action: str, ids: object) -> tuple[NextBatch, bytes]:
        intake, invalid = await read_ids(ids, action=action, check=self._check)  # type: ignore[arg-type]  # it checks
        if intake.admitted + len(invalid) > MAX_BATCH_SIZE:
            raise InvalidRequestError(
                "ids", intake.admitted, f"expected at most {MAX_BATCH_SIZE} servers; bms.runs.reboot takes any number"
            )
        known = intake.pop_batch(MAX_BATCH_SIZE)
        packed = await run_in_thread(pack_outcomes, invalid) if invalid else b""
        return NextBatch(action=action, packed=pack_ids(known), servers=len(known)), packed

    async def _without_invalid(self, sent: SentBatch) -> SentBatch:
        """Return a batch as it was sent: `SentBatch.lost` has the ids as they were asked for, which it cannot check."""
        if sent.run or sent.job or sent.result is not None or sent.invalid or sent.details:
            return sent
        batch, invalid = await self._read_ids(sent.action, sent.ids)
        return msgspec.structs.replace(sent, packed=batch.packed, servers=batch.servers, invalid=invalid)

    async def _beating(
        self, sent: SentBatch, on_progress: OnProgress | None, plain: Callable[[SentBatch], Awaitable[BatchResult]]
    ) -> BatchResult:
        """Take a step, and say every few seconds that it goes on."""
        failed: BmsError | None = None
        async with anyio.create_task_group() as tasks:
            if on_progress is not None:
                tasks.start_soon(_say_progress, sent, on_progress)
            try:
                if self._journaled is not None:
                    result = await self._journaled.finish(sent, await self._place())
                else:
                    result = await plain(sent)
            except BmsError as error:
                # Kept until here, since the group would raise it in a group of its own.
                failed = error
            tasks.cancel_scope.cancel()
        if failed is not None:
            raise failed
        return result


def _read_sent(sent: SentBatch | str | bytes) -> SentBatch:
    batch = SentBatch.from_json(sent) if isinstance(sent, str | bytes) else sent
    if not isinstance(batch, SentBatch):
        raise InvalidRequestError("sent", sent, "expected what send_batch returned, or its JSON")
    return batch


async def _say_progress(sent: SentBatch, on_progress: OnProgress) -> None:
    # Without the servers, since an engine keeps what it is sent so often.
    saved = None if sent.job is None else SavedJob(version=1, job_id=sent.job, project_id="", action=sent.action)
    text = msgspec.json.encode(saved).decode()
    while True:
        try:
            await call_foreign("on_progress", on_progress, text)
        except Exception:  # noqa: BLE001 - the caller's own fault, and the batch goes on
            _log.exception("on_progress raised, and the batch is still looked after")
        await anyio.sleep(_PROGRESS_EVERY)
