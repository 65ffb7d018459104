"""Models as plain values, for JSON."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from bms_async.models import Model

__all__ = ["plain"]


def plain(value: object) -> object:
    """Return a model as dicts, lists and texts with Python names; absent fields are left out, secrets are masked."""
    if isinstance(value, Model):
        return {name: plain(field) for name, field in value.__rich_repr__()}
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value.value if isinstance(value, Enum) else value
