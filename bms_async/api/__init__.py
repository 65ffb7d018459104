"""The resources of the API: one module for each, and one `Operation` for each documented call.

The native calls are in `bms_async.api.nova`, which is imported for who makes them.
"""

from ._registry import operations
from .bms.creation import CreationJob
from .bms.flavors import Flavors
from .bms.jobs import Jobs, poll_job
from .bms.quotas import ProjectQuotas
from .bms.servers import Servers
from .bms.versions import Versions
from .identity import Identity, find_project
from .nova.bare_metal import BareMetal, BareMetalFilter
from .raw import ServiceName, request, wrap_body_secrets

__all__ = [
    "BareMetal",
    "BareMetalFilter",
    "CreationJob",
    "Flavors",
    "Identity",
    "Jobs",
    "ProjectQuotas",
    "Servers",
    "ServiceName",
    "Versions",
    "find_project",
    "operations",
    "poll_job",
    "request",
    "wrap_body_secrets",
]
