"""The settings of a cloud as JSON, for the simulator's command."""

from __future__ import annotations

import math

import msgspec

from bms_async.simulator import CloudSettings

__all__ = ["to_json_line"]


def to_json_line(settings: CloudSettings) -> str:
    """Return the settings that differ from the default, as one line of JSON.

    Raises:
        ValueError: A time is infinite, which JSON cannot express.
    """
    default = CloudSettings()
    values = {name: getattr(settings, name) for name in settings.__struct_fields__}
    if math.isinf(settings.job_hidden_seconds):
        raise ValueError("job_hidden_seconds=inf: expected a finite time for a simulator in a process of its own")
    return (
        msgspec.json.encode({name: value for name, value in values.items() if value != getattr(default, name)}).decode()
        + "\n"
    )
