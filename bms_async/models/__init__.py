"""What travels: the cloud's answers as frozen, typed Structs with Python names."""

from .base import Model, Moment, OpenEnum, OpenIntEnum
from .jobs import Job, JobAccepted, JobEntities, JobStatus, SubJob, SubJobEntities
from .reading import convert, decode
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
    "Moment",
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
    "convert",
    "decode",
]
