"""What travels: the cloud's answers as frozen, typed Structs with Python names."""

from ._fields import Model, OpenEnum, OpenIntEnum, Whole, convert, read_field
from .jobs import Job, JobAccepted, JobEntities, JobStatus, SubJob, SubJobEntities
from .servers import (
    BARE_METAL_TAG,
    Address,
    AttachedVolume,
    Fault,
    Image,
    Link,
    PowerState,
    SchedulerHints,
    SecurityGroup,
    Server,
    ServerFlavor,
    ServerStatus,
    SystemTag,
)

__all__ = [
    "BARE_METAL_TAG",
    "Address",
    "AttachedVolume",
    "Fault",
    "Image",
    "Job",
    "JobAccepted",
    "JobEntities",
    "JobStatus",
    "Link",
    "Model",
    "OpenEnum",
    "OpenIntEnum",
    "PowerState",
    "SchedulerHints",
    "SecurityGroup",
    "Server",
    "ServerFlavor",
    "ServerStatus",
    "SubJob",
    "SubJobEntities",
    "SystemTag",
    "Whole",
    "convert",
    "read_field",
]
