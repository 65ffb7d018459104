"""A bare-metal cloud on one's own machine, for tests, examples and measurements.

```python
cloud = Cloud(CloudSettings(servers=100_000, seed=7), clock=loop.time)
transport = httpx.ASGITransport(app=create_app(cloud))
```

`python -m bms_async.simulator --servers 10000` serves one on a port of the loopback interface. The
SDK and the simulator read the API reference separately and share no code, so that they can disagree.
"""

try:
    import starlette as _starlette  # noqa: F401 - only to say what is missing
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "the simulator needs an extra: pip install 'bms-async[simulator]'", name=error.name
    ) from error

from bms_async.simulator.core.availability import Absence, Availability, MostAway
from bms_async.simulator.core.cloud import Cloud
from bms_async.simulator.core.drift import Drift
from bms_async.simulator.core.faults import (
    Answer,
    CutAfter,
    CutBefore,
    Delay,
    DroppedMarker,
    Fault,
    FaultHook,
    GarbledJob,
    HalfBody,
    NotFoundJob,
    Script,
    ScriptedFault,
    ShortPage,
    SimulatedCut,
    Throttled,
    Unauthorized,
)
from bms_async.simulator.core.operations import DOCUMENTED_LIMITS, OPERATIONS
from bms_async.simulator.core.servers import Server
from bms_async.simulator.core.settings import CloudSettings
from bms_async.simulator.core.throttle import (
    CallCounts,
    FixedWindow,
    OperationCounts,
    SlidingWindow,
    Throttle,
    TokenBucket,
    Unlimited,
)
from bms_async.simulator.http.app import create_app

__all__ = [
    "DOCUMENTED_LIMITS",
    "OPERATIONS",
    "Absence",
    "Answer",
    "Availability",
    "CallCounts",
    "Cloud",
    "CloudSettings",
    "CutAfter",
    "CutBefore",
    "Delay",
    "Drift",
    "DroppedMarker",
    "Fault",
    "FaultHook",
    "FixedWindow",
    "GarbledJob",
    "HalfBody",
    "MostAway",
    "NotFoundJob",
    "OperationCounts",
    "Script",
    "ScriptedFault",
    "Server",
    "ShortPage",
    "SimulatedCut",
    "SlidingWindow",
    "Throttle",
    "Throttled",
    "TokenBucket",
    "Unauthorized",
    "Unlimited",
    "create_app",
]
