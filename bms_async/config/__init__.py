"""Where the cloud is, and who asks: endpoints, and settings from the environment and from clouds.yaml."""

from .clouds import read_cloud
from .endpoints import Endpoints, check_endpoint, find_endpoints
from .environment import read_environment
from .settings import Settings

__all__ = ["Endpoints", "Settings", "check_endpoint", "find_endpoints", "read_cloud", "read_environment"]
