"""Test tools for programs that are built on `bms_async`; the SDK itself is tested with them.

A simulated cloud with faults on demand (`SimulatedCloud`, `SimulatorProcess`), a clock on which hours take no time
(`run_virtually`), and the pytest fixtures ``bms_simulator`` and ``bms_client``, which come with
``pytest_plugins = ["bms_async.testing.plugin"]`` in a ``conftest.py``. It needs the extra ``simulator``.
"""

from importlib import import_module as _import
from typing import TYPE_CHECKING

from bms_async._extras import missing_extra as _missing_extra
from bms_async._extras import present as _present

if TYPE_CHECKING:
    from bms_async.simulator import (
        Answer,
        CloudSettings,
        CutAfter,
        CutBefore,
        Delay,
        Drift,
        DroppedMarker,
        Fault,
        GarbledJob,
        HalfBody,
        NotFoundJob,
        ShortPage,
        Throttled,
        Unauthorized,
    )
    from bms_async.testing._recording_cloud import ArrivedCall, SimulatedJob
    from bms_async.testing.clock import DeadlockError, VirtualClockLoop, advance, run_virtually, suspend
    from bms_async.testing.cloud import SimulatedCloud
    from bms_async.testing.faults import FaultPlan, PlannedFault
    from bms_async.testing.process import SimulatorProcess
    from bms_async.testing.settling import NotSettledError, settled

__all__ = [
    "Answer",
    "ArrivedCall",
    "CloudSettings",
    "CutAfter",
    "CutBefore",
    "DeadlockError",
    "Delay",
    "Drift",
    "DroppedMarker",
    "Fault",
    "FaultPlan",
    "GarbledJob",
    "HalfBody",
    "NotFoundJob",
    "NotSettledError",
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
    "settled",
    "suspend",
]

# Imported on demand: test runs load the pytest plugin of this package, and many of their tests need nothing else.
_ON_DEMAND = {
    "Answer": "bms_async.simulator",
    "ArrivedCall": "bms_async.testing._recording_cloud",
    "CloudSettings": "bms_async.simulator",
    "CutAfter": "bms_async.simulator",
    "CutBefore": "bms_async.simulator",
    "DeadlockError": "bms_async.testing.clock",
    "Delay": "bms_async.simulator",
    "Drift": "bms_async.simulator",
    "DroppedMarker": "bms_async.simulator",
    "Fault": "bms_async.simulator",
    "FaultPlan": "bms_async.testing.faults",
    "GarbledJob": "bms_async.simulator",
    "HalfBody": "bms_async.simulator",
    "NotFoundJob": "bms_async.simulator",
    "NotSettledError": "bms_async.testing.settling",
    "PlannedFault": "bms_async.testing.faults",
    "ShortPage": "bms_async.simulator",
    "SimulatedCloud": "bms_async.testing.cloud",
    "SimulatedJob": "bms_async.testing._recording_cloud",
    "SimulatorProcess": "bms_async.testing.process",
    "Throttled": "bms_async.simulator",
    "Unauthorized": "bms_async.simulator",
    "VirtualClockLoop": "bms_async.testing.clock",
    "advance": "bms_async.testing.clock",
    "run_virtually": "bms_async.testing.clock",
    "settled": "bms_async.testing.settling",
    "suspend": "bms_async.testing.clock",
}
_NEEDED = frozenset({"starlette", "uvicorn"})
_ON_CLOCK = frozenset({"DeadlockError", "VirtualClockLoop", "advance", "run_virtually"})
__all__[:] = _present(__all__, {name: ("simulator", "starlette") for name in __all__ if name not in _ON_CLOCK})


if not TYPE_CHECKING:  # a type checker would take any name for a public one

    def __getattr__(name: str) -> object:
        if name not in _ON_DEMAND:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            return getattr(_import(_ON_DEMAND[name]), name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in _NEEDED:
                raise
            raise _missing_extra(__name__, name, "simulator") from error


def __dir__() -> list[str]:
    return __all__
