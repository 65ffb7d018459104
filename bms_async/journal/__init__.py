"""What must outlive the process: runs, their batches and their outcomes, in a file or in a database."""

from .journal import Journal
from .packing import digest_ids, pack_ids, unpack_ids
from .records import (
    BatchState,
    Block,
    Claim,
    Counts,
    EventBlock,
    EventPage,
    FreeJob,
    JobOffer,
    KeptBatch,
    KeptJobRow,
    KeptRun,
    NewBatch,
    NewBlock,
    NewEvents,
    NewRun,
    RunStatus,
    Step,
)
from .store import JournalStore

__all__ = [
    "BatchState",
    "Block",
    "Claim",
    "Counts",
    "EventBlock",
    "EventPage",
    "FreeJob",
    "JobOffer",
    "Journal",
    "JournalStore",
    "KeptBatch",
    "KeptJobRow",
    "KeptRun",
    "NewBatch",
    "NewBlock",
    "NewEvents",
    "NewRun",
    "RunStatus",
    "Step",
    "digest_ids",
    "pack_ids",
    "unpack_ids",
]
