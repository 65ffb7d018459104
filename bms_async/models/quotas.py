"""Quotas of a project, and what is used of them (API reference 4.9)."""

from __future__ import annotations

from .base import Model

_UNLIMITED = -1


class Quota(Model, frozen=True, kw_only=True):
    """The quota of one kind of resource.

    Attributes:
        limit: The limit; None if there is none, or if the cloud does not say.
        used: How much is used; None if the cloud does not count it.
        is_unlimited: Whether the cloud says that there is no limit.
    """

    limit: int | None = None
    used: int | None = None
    is_unlimited: bool = False

    @property
    def left(self) -> int | None:
        """How much is left, at least 0; None without a limit or a count."""
        if self.limit is None or self.used is None:
            return None
        return max(0, self.limit - self.used)

    def allows(self, more: int) -> bool:
        """Return whether the quota has room for more; True if the cloud does not say.

        Args:
            more: How much more is to be used.
        """
        left = self.left
        return left is None or more <= left


class Quotas(
    Model,
    frozen=True,
    kw_only=True,
    rename={
        "max_image_meta": "maxImageMeta",
        "max_personality": "maxPersonality",
        "max_personality_size": "maxPersonalitySize",
        "max_security_group_rules": "maxSecurityGroupRules",
        "max_security_groups": "maxSecurityGroups",
        "max_server_group_members": "maxServerGroupMembers",
        "max_server_groups": "maxServerGroups",
        "max_server_meta": "maxServerMeta",
        "max_total_cores": "maxTotalCores",
        "max_total_floating_ips": "maxTotalFloatingIps",
        "max_total_instances": "maxTotalInstances",
        "max_total_keypairs": "maxTotalKeypairs",
        "max_total_ram_size": "maxTotalRAMSize",
        "total_cores_used": "totalCoresUsed",
        "total_floating_ips_used": "totalFloatingIpsUsed",
        "total_instances_used": "totalInstancesUsed",
        "total_ram_used": "totalRAMUsed",
        "total_security_groups_used": "totalSecurityGroupsUsed",
        "total_server_groups_used": "totalServerGroupsUsed",
    },
):
    """The quotas of a project (API reference table 4-78).

    The properties return each quota with its use; the fields are the cloud's own figures, in which -1 means
    unlimited::

        quotas = await bms.quotas.get()
        quotas.instances.left           # how many servers may still be created, None without a limit
        quotas.ram.is_unlimited
        quotas.max_total_ram_size       # -1
    """

    max_total_instances: int | None = None
    total_instances_used: int | None = None
    max_total_cores: int | None = None
    total_cores_used: int | None = None
    max_total_ram_size: int | None = None
    total_ram_used: int | None = None
    max_total_keypairs: int | None = None
    max_total_floating_ips: int | None = None
    total_floating_ips_used: int | None = None
    max_security_groups: int | None = None
    total_security_groups_used: int | None = None
    max_security_group_rules: int | None = None
    max_server_groups: int | None = None
    total_server_groups_used: int | None = None
    max_server_group_members: int | None = None
    max_server_meta: int | None = None
    max_image_meta: int | None = None
    max_personality: int | None = None
    max_personality_size: int | None = None

    @property
    def instances(self) -> Quota:
        """Servers."""
        return _quota(self.max_total_instances, self.total_instances_used)

    @property
    def cores(self) -> Quota:
        """Cores of all servers."""
        return _quota(self.max_total_cores, self.total_cores_used)

    @property
    def ram(self) -> Quota:
        """Memory of all servers, in MB."""
        return _quota(self.max_total_ram_size, self.total_ram_used)

    @property
    def keypairs(self) -> Quota:
        """SSH key pairs."""
        return _quota(self.max_total_keypairs)

    @property
    def floating_ips(self) -> Quota:
        """Elastic IP addresses."""
        return _quota(self.max_total_floating_ips, self.total_floating_ips_used)

    @property
    def security_groups(self) -> Quota:
        """Security groups; the VPC service's own quota counts."""
        return _quota(self.max_security_groups, self.total_security_groups_used)

    @property
    def security_group_rules(self) -> Quota:
        """Rules of one security group; the VPC service's own quota counts."""
        return _quota(self.max_security_group_rules)

    @property
    def server_groups(self) -> Quota:
        """Server groups."""
        return _quota(self.max_server_groups, self.total_server_groups_used)

    @property
    def server_group_members(self) -> Quota:
        """Servers of one server group."""
        return _quota(self.max_server_group_members)

    @property
    def server_metadata(self) -> Quota:
        """Metadata of one server."""
        return _quota(self.max_server_meta)

    @property
    def image_metadata(self) -> Quota:
        """Metadata of one image."""
        return _quota(self.max_image_meta)

    @property
    def injected_files(self) -> Quota:
        """Files that may be injected into a server."""
        return _quota(self.max_personality)

    @property
    def injected_file_size(self) -> Quota:
        """Bytes of one file that is injected."""
        return _quota(self.max_personality_size)


def _quota(limit: int | None, used: int | None = None) -> Quota:
    is_unlimited = limit == _UNLIMITED
    return Quota(limit=None if is_unlimited else limit, used=used, is_unlimited=is_unlimited)
