"""Credentials."""

from .base import Auth, RenewableAuth, ScopedAuth, Send, SendingAuth, Start
from .token import StaticToken

__all__ = ["Auth", "RenewableAuth", "ScopedAuth", "Send", "SendingAuth", "Start", "StaticToken"]
