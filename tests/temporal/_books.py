"""A cloud that many processes call, and what its books say of a run."""

from __future__ import annotations

import json
import urllib.request
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from bms_async import FleetReport, OutcomeState
from bms_async.testing import CloudSettings, SimulatorProcess
from tests.temporal._worker import LIMITS

BATCH = 20
"""Servers of a batch, where tests have less than a thousand in each."""


@contextmanager
def running_cloud(servers: int, **settings: object) -> Iterator[SimulatorProcess]:
    """A cloud without limits whose jobs are short, and that takes some time to answer."""
    chosen = {"job_seconds": (0.2, 0.6), "limits": LIMITS, "seed": 5} | settings
    with SimulatorProcess(CloudSettings(servers=servers, **chosen)) as cloud:  # type: ignore[arg-type]  # as they are
        yield cloud


def begun(cloud: SimulatorProcess, action: str) -> Mapping[str, int]:
    """How often the cloud has begun an action, by server."""
    with urllib.request.urlopen(f"{cloud.address}/_admin/servers/work") as answer:
        return Counter(json.load(answer).get(action, {}))


def judge(cloud: SimulatorProcess, report: FleetReport, ids: list[str], *, most_unknown: int) -> None:
    """Hold a report against the books: one outcome each, no reboot twice, and no success that was not."""
    action = report.action.removeprefix("servers.")
    states = {outcome.server_id: outcome.state for outcome in report.outcomes}
    assert len(report.outcomes) == len(states) == len(ids)
    assert states.keys() == set(ids)
    times = begun(cloud, action)
    if action == "reboot":
        assert max(times.values(), default=0) <= 1, "a server was rebooted twice"
    done = {server_id for server_id, state in states.items() if state is OutcomeState.SUCCEEDED}
    assert done <= times.keys()
    unknown = [server_id for server_id, state in states.items() if state is OutcomeState.UNKNOWN]
    assert len(unknown) <= most_unknown, f"{len(unknown)} are unknown"
