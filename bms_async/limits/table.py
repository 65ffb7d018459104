"""The documented limits: calls a minute, by the dotted name of the method (API reference, table 2-2).

In the reference's table, the rows for one server and for the list carry each other's titles; the URI is what counts.
Native OpenStack calls have no documented limit.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

POWER_OPERATIONS = ("servers.start", "servers.stop", "servers.reboot")
"""The three calls that share one URI."""

DOCUMENTED_LIMITS: Mapping[str, int] = MappingProxyType(
    {
        "flavors.list": 500,
        "jobs.get": 2000,
        "quotas.get": 500,
        "servers.attach_volume": 100,
        "servers.delete_windows_password": 50,
        "servers.detach_volume": 100,
        "servers.get": 1000,
        "servers.get_windows_password": 50,
        "servers.list": 500,
        "servers.list_interfaces": 500,
        "servers.list_volumes": 500,
        "servers.reboot": 50,
        "servers.reinstall_os": 50,
        "servers.rename": 100,
        "servers.start": 50,
        "servers.stop": 50,
        "servers.update_metadata": 100,
        "versions.get": 2000,
        "versions.list": 2000,
    }
)

UNDOCUMENTED_OPERATIONS = (
    "identity.create_token",
    "identity.projects",
    "nova.addresses.get",
    "nova.addresses.list",
    "nova.flavors.extra_specs",
    "nova.flavors.get",
    "nova.flavors.list",
    "nova.interfaces.get",
    "nova.interfaces.list",
    "nova.keypairs.create",
    "nova.keypairs.delete",
    "nova.keypairs.get",
    "nova.keypairs.list",
    "nova.metadata.delete",
    "nova.metadata.get",
    "nova.metadata.set",
    "nova.metadata.update",
    "nova.servers.create",
    "nova.servers.delete",
    "nova.servers.get",
    "nova.servers.list",
    "nova.servers.list_details",
    "nova.servers.reboot",
    "nova.servers.rename",
    "nova.servers.start",
    "nova.servers.stop",
    "nova.tags.add",
    "nova.tags.clear",
    "nova.tags.has",
    "nova.tags.list",
    "nova.tags.remove",
    "nova.tags.replace",
    "nova.volumes.attach",
    "nova.volumes.detach",
    "nova.volumes.get",
    "nova.volumes.list",
    "request",
    "servers.can_reset_password",
    "servers.create",
    "servers.reset_password",
)
"""Calls that have no documented limit, and may be given one."""
