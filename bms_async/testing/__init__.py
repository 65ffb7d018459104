"""What we test ourselves with, for testing what is built on `bms_async`.

A simulated cloud with faults on demand (`SimulatedCloud`, `SimulatorProcess`), a clock on which hours take no time
(`run_virtually`), and the pytest fixtures ``bms_simulator`` and ``bms_client``, which are found once the package is
installed. It needs the extra ``simulator``.
"""

from importlib import import_module as _import
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bms_async.simulator import (
        Answer,
        CloudSettings,
        CutAfter,
        CutBefore,
        Delay,
        DroppedMarker,
        Fault,
        GarbledJob,
        HalfBody,
        NotFoundJob,
        ShortPage,
        Throttled,
        Unauthorized,
    )
    from bms_async.testing._witness import ArrivedCall, SimulatedJob
    from bms_async.testing.clock import DeadlockError, VirtualClockLoop, advance, run_virtually
    from bms_async.testing.cloud import SimulatedCloud
    from bms_async.testing.faults import FaultPlan, PlannedFault
    from bms_async.testing.process import SimulatorProcess

__all__ = [
    "Answer",
    "ArrivedCall",
    "CloudSettings",
    "CutAfter",
    "CutBefore",
    "DeadlockError",
    "Delay",
    "DroppedMarker",
    "Fault",
    "FaultPlan",
    "GarbledJob",
    "HalfBody",
    "NotFoundJob",
    "PlannedFault",
    "ShortPage",
    "SimulatedCloud",
    "SimulatedJob",
    "SimulatorProcess",
    "Throttled",
    "Unauthorized",
    "VirtualClockLoop",
    "advance",
    "run_virtually",
]

# The pytest plugin lies in this package, and is loaded by test runs that need nothing of it.
_ON_DEMAND = {
    "ArrivedCall": "bms_async.testing._witness",
    "DeadlockError": "bms_async.testing.clock",
    "FaultPlan": "bms_async.testing.faults",
    "PlannedFault": "bms_async.testing.faults",
    "SimulatedCloud": "bms_async.testing.cloud",
    "SimulatedJob": "bms_async.testing._witness",
    "SimulatorProcess": "bms_async.testing.process",
    "VirtualClockLoop": "bms_async.testing.clock",
    "advance": "bms_async.testing.clock",
    "run_virtually": "bms_async.testing.clock",
}
_NEEDED = frozenset({"starlette", "uvicorn"})


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(_import(_ON_DEMAND.get(name, "bms_async.simulator")), name)
    except ModuleNotFoundError as error:
        if error.name not in _NEEDED:
            raise
        raise ImportError(
            f"bms_async.testing.{name} needs the extra 'simulator': pip install 'bms-async[simulator]'"
        ) from error


def __dir__() -> list[str]:
    return __all__
