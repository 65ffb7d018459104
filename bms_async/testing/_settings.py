"""The settings of a cloud, as the simulator's command reads them."""

from __future__ import annotations

import math

import msgspec

from bms_async.simulator import CloudSettings

__all__ = ["to_json_line"]


def to_json_line(settings: CloudSettings) -> str:
    """Return the settings that are not as by default, as one line of JSON.

    Raises:
        ValueError: JSON has no word for a time without end.
    """
    default = CloudSettings()
    told = {name: getattr(settings, name) for name in settings.__struct_fields__}
    if math.isinf(settings.job_hidden_seconds):
        raise ValueError("job_hidden_seconds=inf: a simulator in a process of its own cannot be told this one")
    return (
        msgspec.json.encode({name: value for name, value in told.items() if value != getattr(default, name)}).decode()
        + "\n"
    )
