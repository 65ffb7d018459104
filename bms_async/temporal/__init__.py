"""Fleet runs as workflows of Temporal, for those who run its server (extra ``temporal``).

::

    from bms_async.temporal import start, worker

    async with BmsClient.from_env() as bms, worker(client, bms):     # in each worker process
        ...
    run = await start(client, ids, "reboot", key="kernel-42")        # from anywhere
    report = await run.report()

All ids are with Temporal before the first call leaves. The workflow sends, watches and settles each batch by activities
that call `bms.runs.send_batch`, `watch_job` and `settle_batch`; a worker that dies is replaced by any other one.
"""

from importlib import import_module as _import
from typing import TYPE_CHECKING

from bms_async._extras import missing_extra as _missing_extra
from bms_async._extras import present as _present

if TYPE_CHECKING:
    from .activities import FleetActivities
    from .block import BlockWorkflow
    from .client import SEARCH_ATTRIBUTE, FleetHandle, get, start
    from .messages import FleetOptions, FleetProgress
    from .serving import TASK_QUEUE, worker
    from .workflow import FleetWorkflow

__all__ = [
    "SEARCH_ATTRIBUTE",
    "TASK_QUEUE",
    "BlockWorkflow",
    "FleetActivities",
    "FleetHandle",
    "FleetOptions",
    "FleetProgress",
    "FleetWorkflow",
    "get",
    "start",
    "worker",
]

_EXTRA = ("temporal", "temporalio")
_HOMES = {
    "SEARCH_ATTRIBUTE": "client",
    "TASK_QUEUE": "serving",
    "BlockWorkflow": "block",
    "FleetActivities": "activities",
    "FleetHandle": "client",
    "FleetOptions": "messages",
    "FleetProgress": "messages",
    "FleetWorkflow": "workflow",
    "get": "client",
    "start": "client",
    "worker": "serving",
}
__all__[:] = _present(__all__, dict.fromkeys(__all__, _EXTRA))


if not TYPE_CHECKING:  # a type checker would take any name for a public one

    def __getattr__(name: str) -> object:
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        try:
            found = getattr(_import(f"{__name__}.{_HOMES[name]}"), name)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] != _EXTRA[1]:
                raise
            raise _missing_extra(__name__, name, _EXTRA[0]) from error
        globals()[name] = found
        return found


def __dir__() -> list[str]:
    return __all__
