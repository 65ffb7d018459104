"""Models of the native calls: brief servers, new servers, key pairs, and networks to join (API reference 5)."""

from __future__ import annotations

from typing import ClassVar

from .base import Model, Moment
from .servers import Link, SecurityGroup


class Network(Model, frozen=True, kw_only=True):
    """A network that a new server joins (API reference table 5-5).

    ::

        Network(uuid="8470310b-...")                            # any free address of the network
        Network(uuid="8470310b-...", fixed_ip="192.168.0.12")   # that address
        Network(port="ce531f90-...")                            # an existing port; it has its own address

    Attributes:
        port: The id of a port. It takes precedence: with a port, neither ``uuid`` nor ``fixed_ip`` is sent.
        uuid: The id of a network.
        fixed_ip: An address in the network that ``uuid`` names.
    """

    port: str | None = None
    uuid: str | None = None
    fixed_ip: str | None = None


class BriefServer(Model, frozen=True, kw_only=True):
    """A server as the brief list shows it (API reference table 5-20)."""

    id: str
    name: str | None = None
    links: tuple[Link, ...] = ()


class CreatedServer(
    Model, frozen=True, kw_only=True, rename={"admin_password": "adminPass", "disk_config": "OS-DCF:diskConfig"}
):
    """A server whose creation has begun (API reference table 5-6).

    Attributes:
        id: The id that every call takes; ``bms.nova.servers.wait_for(id, "ACTIVE")`` waits until the server runs.
        admin_password: The administrator's first password. Only this response has it; kept out of the repr.
        disk_config: How the disk is partitioned: ``MANUAL`` or ``AUTO``.
    """

    _secret: ClassVar[frozenset[str]] = frozenset({"admin_password"})

    id: str
    admin_password: str | None = None
    links: tuple[Link, ...] = ()
    security_groups: tuple[SecurityGroup, ...] = ()
    disk_config: str | None = None


class KeyPair(Model, frozen=True, kw_only=True):
    """An SSH key pair (API reference tables 5-82, 5-84 and 5-87); each call returns a part of it.

    Attributes:
        name: The name by which other calls refer to it.
        type: ``ssh``, if the cloud says so.
        private_key: Returned once, when the cloud has made the pair; kept out of the repr. Save it at once.
        id: The cloud's internal number.
        deleted: Whether the pair was deleted and only its record is kept.
    """

    _secret: ClassVar[frozenset[str]] = frozenset({"private_key"})

    name: str
    fingerprint: str | None = None
    type: str | None = None
    public_key: str | None = None
    private_key: str | None = None
    user_id: str | None = None
    id: str | None = None
    created_at: Moment = None
    updated_at: Moment = None
    deleted: bool | None = None
    deleted_at: Moment = None
