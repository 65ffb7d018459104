"""The activities: steps of `bms.runs`, called by a worker of Temporal.

What they guarantee: an activity that has sent a batch returns its answer, also when its worker is being shut down; and
none sends a reboot for a workflow that was reset, since what was sent before the reset is not in its history any more.
Temporal does not see the latter: it begins an activity of a workflow that was reset once more, as its first attempt.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from datetime import timedelta
from functools import partial
from typing import Any, TypeVar

import anyio
import msgspec
from temporalio import activity
from temporalio.exceptions import ApplicationError

from bms_async._tasks import finish_task, outside_of_all
from bms_async._threads import run_in_thread
from bms_async.client import BmsClient
from bms_async.errors import BmsError, InvalidRequestError, SubJobFailedError
from bms_async.fleet.outcome import Outcome, make_outcome
from bms_async.fleet.packed import pack_outcomes
from bms_async.runs import BatchResult, SentBatch
from bms_async.runs.plain_steps import merge

from .messages import SEND, SETTLE, SKIP, WATCH, SendRequest, SkipRequest, from_json

T = TypeVar("T")

_SEND_GRACE = 600.0
"""Seconds that a send goes on after its worker began to shut down."""

_BEATS_A_TIMEOUT = 3
_BYTES_A_SERVER = 120
"""How long outcomes may be before the texts of their errors are left out: a history keeps them for ever."""


class FleetActivities:
    """The activities of a client.

    Args:
        bms: The client, open for as long as the worker runs. With a journal (``runs=``) a batch is sent once for its
            key, whatever becomes of the workflow.
    """

    def __init__(self, bms: BmsClient) -> None:
        self._bms = bms

    @property
    def all(self) -> list[Callable[..., Awaitable[str]]]:
        """The activities, for a worker."""
        return [self.send_batch, self.watch_job, self.settle_batch, self.skip_batch]

    @activity.defn(name=SEND)
    async def send_batch(self, text: str) -> str:
        """Send a batch; for a reboot, by a workflow that was reset, only say that nothing is known of it."""
        request = from_json(text, SendRequest)
        if request.action == "servers.reboot" and _was_reset(request):
            return _lost(request).to_json()
        return await _beating("null", partial(self._send, request))

    @activity.defn(name=WATCH)
    async def watch_job(self, text: str) -> str:
        """Watch a batch to its end; the sign of life is its job."""
        sent = SentBatch.from_json(text)
        job = msgspec.json.encode({"version": 1, "job_id": sent.job, "project_id": "", "action": sent.action})
        return await _beating(job.decode(), partial(self._end, sent, self._bms.runs.watch_job))

    @activity.defn(name=SETTLE)
    async def settle_batch(self, text: str) -> str:
        """Settle a batch whose answer was lost, by the states of its servers; it takes what `send_batch` does."""
        lost = _lost(from_json(text, SendRequest))
        return await _beating("null", partial(self._end, lost, self._bms.runs.settle_batch))

    @activity.defn(name=SKIP)
    async def skip_batch(self, text: str) -> str:
        """Give a batch up that was to be sent again."""
        request = from_json(text, SkipRequest)
        result = await self._bms.runs.skip_batch(request.batch, key=request.key, why=request.why)
        return await _to_json(result)

    async def _send(self, request: SendRequest) -> str:
        options = request.options
        task = outside_of_all(
            partial(
                self._bms.runs.send_batch,
                request.action,
                request.batches,
                key=request.key,
                retry_transient=options.retry_transient,
                verify=options.verify,
            ),
            "bms_async sending for Temporal",
        )
        sent = await _finish(task)
        if sent.result is None:
            return sent.to_json()
        short = await run_in_thread(_shorten, sent.result)
        return msgspec.structs.replace(sent, result=short, packed=b"").to_json()

    async def _end(self, sent: SentBatch, step: Callable[[SentBatch], Awaitable[BatchResult]]) -> str:
        return await _to_json(await step(sent))


async def _beating(text: str, step: Callable[[], Coroutine[Any, Any, str]]) -> str:
    """Take a step with a sign of life every few seconds.

    Args:
        text: What Temporal keeps of it.
        step: The step.
    """
    timeout = activity.info().heartbeat_timeout or timedelta(seconds=15)
    failed: Exception | None = None
    answer = ""
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_beat, text, timeout.total_seconds() / _BEATS_A_TIMEOUT)
        try:
            answer = await step()
        except InvalidRequestError as error:
            failed = ApplicationError(str(error), type=type(error).__name__, non_retryable=True)
        except BmsError as error:
            # By its text alone: Temporal would keep its frames, and what is in them.
            failed = ApplicationError(str(error), type=type(error).__name__)
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed
    return answer


async def _beat(text: str, pause: float) -> None:
    while True:
        activity.heartbeat(text)
        await anyio.sleep(pause)


async def _finish(task: asyncio.Task[T]) -> T:
    """Wait for the answer of a send, also where the activity is cancelled meanwhile."""
    try:
        return await finish_task(task, grace=_SEND_GRACE)
    except asyncio.CancelledError:
        if task.done() and not task.cancelled():
            return task.result()
        raise


async def _to_json(result: BatchResult) -> str:
    return (await run_in_thread(_shorten, result)).to_json()


def _was_reset(request: SendRequest) -> bool:
    return activity.info().workflow_run_id != request.first_run_id


def _lost(request: SendRequest) -> SentBatch:
    options = request.options
    batch = merge(request.batches)
    return SentBatch.lost(
        request.action, batch, key=request.key, retry_transient=options.retry_transient, verify=options.verify
    )


def _shorten(result: BatchResult) -> BatchResult:
    """Return a result without what a history has no room for: the ids of sub-jobs, and long texts of errors."""
    outcomes = result.outcomes
    packed = pack_outcomes([msgspec.structs.replace(outcome, sub_job_id=None) for outcome in outcomes])
    if len(packed) > _BYTES_A_SERVER * len(outcomes) + 4096:
        packed = pack_outcomes([_without_text(outcome) for outcome in outcomes])
    return msgspec.structs.replace(result, packed=(packed,) if outcomes else ())


def _without_text(outcome: Outcome) -> Outcome:
    error = outcome.error
    if isinstance(error, SubJobFailedError):
        error = SubJobFailedError(
            server_id=outcome.server_id, job_id=outcome.job_id or "", code=error.code, reason=None, job_reason=None
        )
    fields = msgspec.structs.asdict(outcome) | {"sub_job_id": None, "error": error}
    return make_outcome(**fields)
