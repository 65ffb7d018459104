"""The resources of the API: one module for each, and one `Operation` for each documented call."""

from ._registry import operations
from .bms.creation import CreationJob
from .bms.flavors import Flavors
from .bms.jobs import Jobs, poll_job
from .bms.quotas import ProjectQuotas
from .bms.servers import Servers
from .bms.versions import Versions
from .identity import Identity, find_project
from .nova.bare_metal import BareMetal, BareMetalFilter
from .nova.nova import Nova
from .nova.server_filters import ServerFilterOptions
from .nova.server_poller import ServerPoller
from .nova.servers import make_poller
from .raw import ServiceName, request, wrap_body_secrets

__all__ = [
    "BareMetal",
    "BareMetalFilter",
    "CreationJob",
    "Flavors",
    "Identity",
    "Jobs",
    "Nova",
    "ProjectQuotas",
    "ServerFilterOptions",
    "ServerPoller",
    "Servers",
    "ServiceName",
    "Versions",
    "find_project",
    "make_poller",
    "operations",
    "poll_job",
    "request",
    "wrap_body_secrets",
]
