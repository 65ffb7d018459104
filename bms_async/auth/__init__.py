"""Credentials."""

from .aksk import AkSkAuth
from .base import Auth, RenewableAuth, ScopedAuth, Send, SendingAuth, Start
from .password import PasswordAuth
from .secret import Secret
from .token import StaticToken

__all__ = [
    "AkSkAuth",
    "Auth",
    "PasswordAuth",
    "RenewableAuth",
    "ScopedAuth",
    "Secret",
    "Send",
    "SendingAuth",
    "Start",
    "StaticToken",
]
