"""Durable runs: begun by one process, finished by whichever worker lives."""

from bms_async.journal import RunStatus

from .leader import Term
from .options import DurableOptions
from .resource import DurableRuns
from .run import DurableRun, RunOutcomes
from .runs import Runs
from .worker import BatchEvent, Worker, WorkerStatistics

__all__ = [
    "BatchEvent",
    "DurableOptions",
    "DurableRun",
    "DurableRuns",
    "RunOutcomes",
    "RunStatus",
    "Runs",
    "Term",
    "Worker",
    "WorkerStatistics",
]
