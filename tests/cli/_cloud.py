"""What tests do to a simulated cloud behind the command's back, and what it has counted."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Mapping
from typing import Any

from tests.cli._helpers import Bms

NEVER = {"type": "Delay", "seconds": 3600.0}
"""The cloud acts, and its answer comes on no day of ours."""


def counted(bms: Bms, operation: str) -> tuple[int, int]:
    """Return how many calls came to the cloud, and how many of them it refused for its limit."""
    found = _ask(bms, "calls")["operations"].get(operation, {"arrived": 0, "refused": 0})
    return found["arrived"], found["refused"]


def arrived(bms: Bms, operation: str) -> int:
    """Return how many calls came to the cloud."""
    return counted(bms, operation)[0]


def plan_fault(bms: Bms, operation: str, fault: Mapping[str, object], *calls: int) -> None:
    """Have these calls of an operation go wrong, of which the next one is the first."""
    before = arrived(bms, operation)
    _ask(bms, "faults", [{"operation": operation, "nth": before + each, "fault": fault} for each in calls or (1,)])


def no_fault_waits(bms: Bms) -> bool:
    """Return whether all calls have come that were to go wrong."""
    return bool(_ask(bms, "status")["faults_waiting"] == 0)


def _ask(bms: Bms, path: str, body: object = None) -> Any:
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(f"{bms.exports['BMS_ENDPOINT']}/_admin/{path}", data) as answer:
        return json.load(answer)
