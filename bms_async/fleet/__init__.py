"""Any number of servers, one outcome for each."""

from .fleet import Fleet
from .options import EachOptions, FleetOptions
from .outcome import Outcome, OutcomeState, Progress
from .plan import batch_size
from .report import FleetReport
from .rollout.report import GroupReport, RolloutReport
from .run import FleetRun

__all__ = [
    "EachOptions",
    "Fleet",
    "FleetOptions",
    "FleetReport",
    "FleetRun",
    "GroupReport",
    "Outcome",
    "OutcomeState",
    "Progress",
    "RolloutReport",
    "batch_size",
]
