"""Credentials: the issued tokens with their expiry, and access keys."""

import base64
import random
from typing import Final, NamedTuple

__all__ = ["AccessKey", "Grant", "TokenStore"]

# Real tokens are signed documents of a few thousand characters; clients must send them on as they are.
_BEGINNING: Final = "MIIR"
_BYTES: Final = 1201


class Grant(NamedTuple):
    """The scope of a token, one project or none, and its expiry by the cloud's clock."""

    project_id: str | None
    ends: float


class AccessKey(NamedTuple):
    """The secrets that belong to an access key."""

    secret_key: str
    security_token: str = ""


class TokenStore:
    """Issues, finds and revokes tokens.

    Args:
        lifetime: Lifetime of a token in seconds.
        rng: Source of the tokens.
    """

    __slots__ = ("_grants", "_lifetime", "_rng")

    def __init__(self, lifetime: float, rng: random.Random) -> None:
        self._lifetime = lifetime
        self._rng = rng
        self._grants: dict[str, Grant] = {}

    def __repr__(self) -> str:
        return f"<TokenStore tokens={len(self._grants)}>"

    def issue(self, project_id: str | None, now: float) -> str:
        """Issue a token for a project, or for none."""
        # All have the same lifetime, so that the oldest expire first.
        while self._grants and self._grants[oldest := next(iter(self._grants))].ends <= now:
            del self._grants[oldest]
        text = base64.b64encode(self._rng.randbytes(_BYTES)).decode()
        half = len(text) // 2
        # Real tokens have a minus in place of some slashes.
        token = _BEGINNING + text[:half].replace("/", "-") + text[half:]
        self._grants[token] = Grant(project_id, now + self._lifetime)
        return token

    def find(self, token: str, now: float) -> Grant | None:
        """Return the grant of a token; None if it is unknown or expired."""
        grant = self._grants.get(token)
        return grant if grant is not None and now < grant.ends else None

    def revoke(self, now: float) -> int:
        """Revoke all tokens; returns how many of them were valid."""
        valid = sum(now < grant.ends for grant in self._grants.values())
        self._grants.clear()
        return valid
