"""Passwords that the cloud made up (API reference 4.10)."""

from __future__ import annotations

from typing import ClassVar

from .base import Model


class WindowsPassword(Model, frozen=True, kw_only=True):
    """The password that a Windows server was installed with, as ciphertext.

    It is base64, encrypted with the public half of the key pair that the server was made with; only who holds the
    private half can read it::

        base64 -d <<< "$PASSWORD" | openssl pkeyutl -decrypt -inkey key.pem

    Attributes:
        password: The ciphertext, kept out of the repr; empty where there is none, or none any more.
    """

    _secret: ClassVar[frozenset[str]] = frozenset({"password"})

    password: str = ""

    @property
    def is_set(self) -> bool:
        """Whether there is one."""
        return bool(self.password)
