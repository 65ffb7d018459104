"""The time zone of this machine, by its IANA name."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["machine_zone"]

_LOCAL = Path("/etc/localtime")
_DATABASE = "/zoneinfo/"


def machine_zone(local: Path = _LOCAL) -> str | None:
    """Return the name of the time zone that programs of this machine use; None if it cannot be found out.

    Args:
        local: The link to the zone's file in the database of time zones.
    """
    named = os.environ.get("TZ")
    if named is not None:
        # An empty one is UTC. What names no file of the database, such as CET-1CEST, is no name of a zone.
        path = named.strip().removeprefix(":")
        return _in_database(path) if path.startswith("/") else path or "UTC"
    return _in_database(os.path.realpath(local)) if local.is_symlink() else None


def _in_database(path: str) -> str | None:
    _, found, name = path.partition(_DATABASE)
    return name if found and name else None
