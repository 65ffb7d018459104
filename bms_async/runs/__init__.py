"""Durable runs: begun by one process, finished by whichever worker lives."""

from bms_async.journal import RunStatus

from .leader import Term
from .options import DurableOptions
from .resource import DurableRuns
from .run import DurableRun, RunOutcomes
from .runs import Runs
from .step_records import BatchResult, NextBatch, SentBatch, SentState
from .steps import BatchSteps
from .worker import BatchEvent, Worker, WorkerStatistics

__all__ = [
    "BatchEvent",
    "BatchResult",
    "BatchSteps",
    "DurableOptions",
    "DurableRun",
    "DurableRuns",
    "NextBatch",
    "RunOutcomes",
    "RunStatus",
    "Runs",
    "SentBatch",
    "SentState",
    "Term",
    "Worker",
    "WorkerStatistics",
]
