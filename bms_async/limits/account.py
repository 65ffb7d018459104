"""What an account is, and its name in a store of limits: one form, however its address and its project are written.

Guarantee (R1): processes of one project that reach it at one address have one name for it in a store, and those of two
projects have two, whatever their settings have of the project.

How: an account is an address and the project's id. An id is known before the first call that is counted, since the path
of such a call has it: it is set, or the token says it, or it is looked up. Until then the account has no name.

Rejected: the project's name where no id is set. One process has the id and another one the name, and each would have
the whole limit; and projects of two domains may have one name.
"""

from __future__ import annotations

import re
from typing import Self
from urllib.parse import urlsplit

import msgspec

_HEX = re.compile(r"[0-9a-f]{32}")
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Account(msgspec.Struct, frozen=True):
    """An account whose calls the cloud counts together.

    The address of the ECS service is not a part of it: clients with and without one reach the same BMS service.

    Attributes:
        bms: The address of the BMS service.
        project: The project's id; None until it is known.
    """

    bms: str
    project: str | None

    @classmethod
    def at(cls, bms: str, project: str | None) -> Self:
        """Return an account, with its address and its project in canonical form."""
        return cls(_normalize(bms), None if project is None else _canonical(project))

    @property
    def name(self) -> str | None:
        """The account's name in a store, such as ``bms.example.com/51a0...``; None until its project is known."""
        if self.project is None:
            return None
        scheme, _, address = self.bms.partition("://")
        host, slash, path = address.partition("/")
        host = host.removesuffix(f":{_DEFAULT_PORTS.get(scheme)}")
        return f"{host}{slash}{path}/{self.project}"


def _normalize(address: str) -> str:
    parts = urlsplit(address)
    host = (parts.hostname or "").rstrip(".")
    port = parts.port or _DEFAULT_PORTS.get(parts.scheme, 443)
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}{parts.path.rstrip('/')}"


def _canonical(project: str) -> str:
    """Return a project's id as Keystone makes them: 32 hexadecimal digits, in lower case; others as they are."""
    plain = project.replace("-", "").lower()
    return plain if _HEX.fullmatch(plain) else project
