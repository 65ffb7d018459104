"""Fleets on a plain OpenStack cloud: one action call a server, one shared listing for all of them."""

from .watch import NativeWatch

__all__ = ["NativeWatch"]
