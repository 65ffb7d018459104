"""A worker of Temporal for the runs of a client."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from temporalio.client import Client
from temporalio.worker import Worker

from bms_async.client import BmsClient

from .activities import FleetActivities
from .block import BlockWorkflow
from .workflow import FleetWorkflow

TASK_QUEUE = "bms-fleet"
"""The task queue of runs, where none is named."""

_ACTIVITIES = 300
"""A watch holds a slot for minutes, and sends must not wait behind watches."""

_STICKY_TIMEOUT = timedelta(seconds=2)
"""By default a workflow waits 10 s for a worker that was killed before another one gets its next task."""


def worker(client: Client, bms: BmsClient, task_queue: str = TASK_QUEUE, **more: Any) -> Worker:
    """Return what works on runs, with values that suit them; use it with ``async with``.

    Args:
        client: The client of Temporal.
        bms: What makes the calls, open for as long as the worker runs. With a journal (``runs=``) that all workers
            share, a batch is sent once for its key, also where Temporal begins its activity a second time.
        task_queue: The task queue. Use one for each project: a worker takes runs for its client's project.
        **more: Further arguments of Temporal's `Worker`, such as ``workflows`` and ``activities`` of the program's own.
    """
    workflows = [FleetWorkflow, BlockWorkflow, *more.pop("workflows", ())]
    activities = [*FleetActivities(bms).all, *more.pop("activities", ())]
    ours: dict[str, Any] = {
        "max_concurrent_activities": None if "tuner" in more else _ACTIVITIES,
        "sticky_queue_schedule_to_start_timeout": _STICKY_TIMEOUT,
    }
    return Worker(client, task_queue=task_queue, workflows=workflows, activities=activities, **ours | more)
