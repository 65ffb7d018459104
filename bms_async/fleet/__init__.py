"""Any number of servers, one outcome for each."""

from .fleet import Fleet
from .outcome import FleetReport, Outcome, OutcomeState, Progress
from .run import FleetRun

__all__ = ["Fleet", "FleetReport", "FleetRun", "Outcome", "OutcomeState", "Progress"]
