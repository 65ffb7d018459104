"""Many projects and regions in one object."""

from .clouds import Clouds
from .fleet import CallInCloud, CloudsFleet
from .options import CloudsEachOptions, CloudsFleetOptions
from .outcome import CloudOutcome, CloudsProgress
from .report import CloudsReport
from .run import CloudsRun

__all__ = [
    "CallInCloud",
    "CloudOutcome",
    "Clouds",
    "CloudsEachOptions",
    "CloudsFleet",
    "CloudsFleetOptions",
    "CloudsProgress",
    "CloudsReport",
    "CloudsRun",
]
