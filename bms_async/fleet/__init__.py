"""Any number of servers, one outcome for each."""

from .fleet import Fleet
from .outcome import Outcome, OutcomeState, Progress
from .plan import batch_size
from .report import FleetReport
from .run import FleetRun

__all__ = ["Fleet", "FleetReport", "FleetRun", "Outcome", "OutcomeState", "Progress", "batch_size"]
