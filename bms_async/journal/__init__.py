"""What must outlive the process: runs, their batches and their outcomes, in a file or in a database."""

from .job_records import (
    AppendedJobs,
    ClaimedJobs,
    EventBlock,
    EventPage,
    FreeJob,
    JobOffer,
    KeptJobRow,
    NewEvents,
    RenewedJobs,
)
from .journal import Journal
from .packing import digest_ids, pack_ids, unpack_ids
from .records import (
    COPY_ADVICE,
    BatchState,
    Block,
    Claim,
    Counts,
    KeptBatch,
    KeptPlan,
    KeptRun,
    NewBatch,
    NewBlock,
    NewPlan,
    NewRun,
    RunStatus,
    Step,
)
from .store import JournalStore

__all__ = [
    "COPY_ADVICE",
    "AppendedJobs",
    "BatchState",
    "Block",
    "Claim",
    "ClaimedJobs",
    "Counts",
    "EventBlock",
    "EventPage",
    "FreeJob",
    "JobOffer",
    "Journal",
    "JournalStore",
    "KeptBatch",
    "KeptJobRow",
    "KeptPlan",
    "KeptRun",
    "NewBatch",
    "NewBlock",
    "NewEvents",
    "NewPlan",
    "NewRun",
    "RenewedJobs",
    "RunStatus",
    "Step",
    "digest_ids",
    "pack_ids",
    "unpack_ids",
]
