"""The cloud's requests and responses as frozen, typed Structs with Python names."""

from .base import Model, Moment, OpenEnum, OpenIntEnum, read_datetime
from .creation import Bandwidth, DataVolume, EipExtendParam, ExtendParam, NewEip, Nic, PublicIp, RootVolume
from .flavors import BootSource, ExtraSpecs, Flavor, FlavorLink, FlavorStatus
from .jobs import Job, JobAccepted, JobEntities, JobStatus, SubJob, SubJobEntities
from .nics import FixedIp, Interface, PortState
from .nova import BriefServer, CreatedServer, KeyPair, Network
from .passwords import WindowsPassword
from .projects import Project
from .quotas import Quota, Quotas
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
from .versions import ApiVersion, VersionStatus
from .volumes import VolumeAttachment

__all__ = [
    "BARE_METAL_TAG",
    "Address",
    "ApiVersion",
    "AttachedVolume",
    "Bandwidth",
    "BootSource",
    "BriefServer",
    "CreatedServer",
    "DataVolume",
    "EipExtendParam",
    "ExtendParam",
    "ExtraSpecs",
    "Fault",
    "FixedIp",
    "Flavor",
    "FlavorLink",
    "FlavorStatus",
    "Image",
    "Interface",
    "Job",
    "JobAccepted",
    "JobEntities",
    "JobStatus",
    "KeyPair",
    "Link",
    "Model",
    "Moment",
    "Network",
    "NewEip",
    "Nic",
    "OpenEnum",
    "OpenIntEnum",
    "PortState",
    "PowerState",
    "Project",
    "PublicIp",
    "Quota",
    "Quotas",
    "RootVolume",
    "SchedulerHints",
    "SecurityGroup",
    "Server",
    "ServerFlavor",
    "ServerStatus",
    "SubJob",
    "SubJobEntities",
    "SystemTag",
    "VersionStatus",
    "VolumeAttachment",
    "WindowsPassword",
    "convert",
    "decode",
    "read_datetime",
]
