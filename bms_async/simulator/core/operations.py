"""The names of all operations, and their limits."""

from typing import Final

__all__ = ["ANY_POWER", "DOCUMENTED_LIMITS", "NATIVE", "OPERATIONS"]

ANY_POWER: Final = "servers.action"
"""The budget of the power URI: of all three operations if they share one, else of bodies without an operation."""

NATIVE: Final = "nova"
"""The budget of all native calls together, for clouds that set one."""

DOCUMENTED_LIMITS: Final[dict[str, int]] = {
    "servers.list": 500,
    "servers.get": 1000,
    "servers.rename": 100,
    "servers.reinstall_os": 50,
    "servers.start": 50,
    "servers.stop": 50,
    "servers.reboot": 50,
    ANY_POWER: 50,
    "flavors.list": 500,
    "servers.list_interfaces": 500,
    "servers.attach_volume": 100,
    "servers.detach_volume": 100,
    "servers.list_volumes": 500,
    "servers.update_metadata": 100,
    "quotas.get": 500,
    "servers.get_windows_password": 50,
    "servers.delete_windows_password": 50,
    "jobs.get": 2000,
    "versions.list": 2000,
    "versions.get": 2000,
}
"""Calls a minute by operation (API reference, table 2-2, by its URIs and not by its titles)."""

_UNLIMITED: Final = (
    "servers.create", "servers.can_reset_password", "servers.reset_password", "identity.version",
    "identity.create_token", "identity.projects",
    "nova.versions", "nova.servers.action",
    "nova.servers.create", "nova.servers.delete", "nova.servers.get", "nova.servers.list",
    "nova.servers.list_details", "nova.servers.rename", "nova.servers.start", "nova.servers.stop",
    "nova.servers.reboot",
    "nova.flavors.list", "nova.flavors.get", "nova.flavors.extra_specs",
    "nova.keypairs.list", "nova.keypairs.get", "nova.keypairs.create", "nova.keypairs.delete",
    "nova.tags.list", "nova.tags.replace", "nova.tags.clear", "nova.tags.add", "nova.tags.has", "nova.tags.remove",
    "nova.metadata.get", "nova.metadata.update", "nova.metadata.set", "nova.metadata.delete",
    "nova.addresses.list", "nova.addresses.get", "nova.interfaces.list", "nova.interfaces.get",
    "nova.volumes.list", "nova.volumes.get", "nova.volumes.attach", "nova.volumes.detach",
)  # fmt: skip

OPERATIONS: Final = (*DOCUMENTED_LIMITS, *_UNLIMITED, NATIVE)
"""Every name that a limit can be set for."""
