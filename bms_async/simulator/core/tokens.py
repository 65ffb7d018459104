"""What callers show for credentials: the tokens that were issued, how long each is good, and access keys."""

import base64
import random
from typing import Final, NamedTuple

__all__ = ["AccessKey", "Grant", "TokenStore"]

# Real tokens are signed documents of a few thousand characters; clients must send them on as they are.
_BEGINNING: Final = "MIIR"
_BYTES: Final = 1201


class Grant(NamedTuple):
    """What a token is good for: one project or none, and until when by the cloud's clock."""

    project_id: str | None
    ends: float


class AccessKey(NamedTuple):
    """What belongs to an access key that is known."""

    secret_key: str
    security_token: str = ""


class TokenStore:
    """Issues tokens, knows them again, and takes them back.

    Args:
        lifetime: Seconds that a token is good.
        rng: What tokens are drawn from.
    """

    __slots__ = ("_grants", "_lifetime", "_rng")

    def __init__(self, lifetime: float, rng: random.Random) -> None:
        self._lifetime = lifetime
        self._rng = rng
        self._grants: dict[str, Grant] = {}

    def __repr__(self) -> str:
        return f"<TokenStore tokens={len(self._grants)}>"

    def issue(self, project_id: str | None, now: float) -> str:
        """Make a token for a project, or for none."""
        # All live equally long: the oldest end first.
        while self._grants and self._grants[oldest := next(iter(self._grants))].ends <= now:
            del self._grants[oldest]
        text = base64.b64encode(self._rng.randbytes(_BYTES)).decode()
        half = len(text) // 2
        # A cloud's tokens have a minus in the place of some of the slashes.
        token = _BEGINNING + text[:half].replace("/", "-") + text[half:]
        self._grants[token] = Grant(project_id, now + self._lifetime)
        return token

    def find(self, token: str, now: float) -> Grant | None:
        """What a token is good for now; None if for nothing."""
        grant = self._grants.get(token)
        return grant if grant is not None and now < grant.ends else None

    def revoke(self, now: float) -> int:
        """Take all tokens back; returns how many of them were still good."""
        good = sum(now < grant.ends for grant in self._grants.values())
        self._grants.clear()
        return good
