"""Endpoints of the services, and settings from the environment and from clouds.yaml."""

from importlib import import_module
from typing import TYPE_CHECKING

from .endpoints import Endpoints, canonical_endpoint, check_endpoint, find_endpoints

if TYPE_CHECKING:
    from .clouds import read_cloud, read_cloud_names
    from .environment import read_environment
    from .settings import Settings

__all__ = [
    "Endpoints",
    "Settings",
    "canonical_endpoint",
    "check_endpoint",
    "find_endpoints",
    "read_cloud",
    "read_cloud_names",
    "read_environment",
]

# Reading settings imports every kind of credentials; a program that passes its own needs none of it.
_ON_DEMAND = {
    "Settings": "settings",
    "read_cloud": "clouds",
    "read_cloud_names": "clouds",
    "read_environment": "environment",
}


if not TYPE_CHECKING:  # a type checker would take any name for a public one

    def __getattr__(name: str) -> object:
        if name in _ON_DEMAND:
            return getattr(import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
