"""Passwords that the cloud has generated (API reference 4.10)."""

from __future__ import annotations

from typing import ClassVar

from .base import Model


class WindowsPassword(Model, frozen=True, kw_only=True):
    """The password that a Windows server was installed with, as ciphertext.

    It is base64, encrypted with the public key of the key pair that the server was created with. The private key
    decrypts it::

        base64 -d <<< "$PASSWORD" | openssl pkeyutl -decrypt -inkey key.pem

    Attributes:
        password: The ciphertext, kept out of the repr; empty if there is none, or none any more.
    """

    _secret: ClassVar[frozenset[str]] = frozenset({"password"})

    password: str = ""

    @property
    def is_set(self) -> bool:
        """Whether there is a password."""
        return bool(self.password)
