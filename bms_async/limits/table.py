"""The documented limits: calls a minute, by the dotted name of the method (API reference, table 2-2).

The table's rows for one server and for the list carry each other's titles; what counts is the URI. Native OpenStack
calls have no documented limit, and so are not here.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

POWER_OPERATIONS = ("servers.start", "servers.stop", "servers.reboot")
"""The three calls that share one URI."""

DOCUMENTED_LIMITS: Mapping[str, int] = MappingProxyType(
    {
        "jobs.get": 2000,
        "servers.get": 1000,
        "servers.list": 500,
        "servers.reboot": 50,
        "servers.start": 50,
        "servers.stop": 50,
    }
)
