"""Credentials."""

from .base import Auth
from .token import StaticToken

__all__ = ["Auth", "StaticToken"]
