"""Credentials.

The kinds that need signatures, a token service or a file lock are imported on first use: a process uses one kind.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from bms_async.redaction import Secret

from .base import TOKEN_OPERATION, Auth, Notify, ObservableAuth, RenewableAuth, ScopedAuth, Send, SendingAuth, StartTask
from .token import StaticToken

if TYPE_CHECKING:
    from .aksk import AkSkAuth
    from .password import PasswordAuth

__all__ = [
    "TOKEN_OPERATION",
    "AkSkAuth",
    "Auth",
    "Notify",
    "ObservableAuth",
    "PasswordAuth",
    "RenewableAuth",
    "ScopedAuth",
    "Secret",
    "Send",
    "SendingAuth",
    "StartTask",
    "StaticToken",
]

_ON_DEMAND = {"AkSkAuth": "aksk", "PasswordAuth": "password"}


if not TYPE_CHECKING:  # a type checker would take any name for a public one

    def __getattr__(name: str) -> object:
        if name in _ON_DEMAND:
            return getattr(import_module(f"{__name__}.{_ON_DEMAND[name]}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
