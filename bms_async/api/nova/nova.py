"""The native API as one object: ``bms.nova``."""

from __future__ import annotations

from bms_async.session import Session

from .addresses import Addresses
from .bare_metal import BareMetalFilter
from .flavors import NovaFlavors
from .interfaces import NovaInterfaces
from .keypairs import KeyPairs
from .metadata import Metadata
from .server_poller import ServerPoller
from .servers import NovaServers
from .tags import Tags
from .volumes import NovaVolumes


class Nova:
    """The native OpenStack calls: ``bms.nova``.

    They go to the endpoint of the ECS service (``compute_endpoint``), have no documented rate limits, and act on one
    server at a time.

    Attributes:
        servers: Servers: create, read, list, rename, delete, power, and waiting for a status.
        flavors: The available kinds of machine.
        keypairs: SSH key pairs.
        tags: Tags of servers.
        metadata: Metadata of servers.
        addresses: IP addresses of servers.
        interfaces: Network interfaces of servers.
        volumes: Disks of servers.
    """

    def __init__(self, session: Session, poller: ServerPoller, bare_metal: BareMetalFilter, *, check: bool) -> None:
        self.servers = NovaServers(session, poller, bare_metal, check=check)
        self.flavors = NovaFlavors(session, bare_metal, check=check)
        self.keypairs = KeyPairs(session, check=check)
        self.tags = Tags(session, check=check)
        self.metadata = Metadata(session, check=check)
        self.addresses = Addresses(session, check=check)
        self.interfaces = NovaInterfaces(session, check=check)
        self.volumes = NovaVolumes(session, check=check)
