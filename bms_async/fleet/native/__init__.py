"""Fleets on a plain OpenStack cloud: one action call a server, one shared listing for all of them."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .fleet import NativeFleet, NativeFleetOptions
    from .nova import ClientNova
    from .watch import NativeWatch

__all__ = ["ClientNova", "NativeFleet", "NativeFleetOptions", "NativeWatch"]

_ON_DEMAND = {"ClientNova": "nova", "NativeFleet": "fleet", "NativeFleetOptions": "fleet", "NativeWatch": "watch"}


if not TYPE_CHECKING:  # a type checker would take any name for a public one

    def __getattr__(name: str) -> object:
        if name in _ON_DEMAND:
            return getattr(import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
