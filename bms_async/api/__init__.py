"""What can be asked of the cloud: one module a resource, one Operation a documented call."""

from ._define import operations
from .bms.jobs import Jobs, poll_job
from .bms.servers import Servers

__all__ = ["Jobs", "Servers", "operations", "poll_job"]
