"""Reads server-sent events."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple


class Event(NamedTuple):
    name: str
    id: str
    data: Any


def read_events(lines: Iterator[str]) -> Iterator[Event]:
    """Yield the events of a stream whose data is JSON."""
    fields: dict[str, str] = {}
    for line in lines:
        if line and not line.startswith(":"):
            name, _, value = line.partition(": ")
            fields[name] = value
        elif fields:
            yield Event(fields["event"], fields.get("id", ""), json.loads(fields["data"]))
            fields = {}
