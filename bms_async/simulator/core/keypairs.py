"""SSH key pairs, and keys that open nothing (API reference 5.9)."""

import base64
import binascii
import hashlib
import random
import re
from typing import Final, NamedTuple

from bms_async.simulator.core.attributes import KEY_NAME
from bms_async.simulator.core.refusals import bad_request, native
from bms_async.simulator.core.settings import CloudSettings

__all__ = ["KeyPair", "KeyPairStore"]

_NAME: Final = re.compile(r"[\w .:@-]{1,255}", re.ASCII)
_MAX_BYTES: Final = 1024
_RSA: Final = b"\x00\x00\x00\x07ssh-rsa\x00\x00\x00\x03\x01\x00\x01\x00\x00\x00\x81\x00"


class KeyPair(NamedTuple):
    """The public half of a pair."""

    id: int
    name: str
    public_key: str
    fingerprint: str
    at: float


class KeyPairStore:
    """The key pairs of the project; the one that the servers name exists from the start."""

    __slots__ = ("_draws", "_made", "_max_pairs", "_pairs")

    def __init__(self, settings: CloudSettings, born: float) -> None:
        self._draws = random.Random(f"{settings.seed}/keys")
        self._max_pairs = settings.quota_keypairs
        self._made = 0
        self._pairs: dict[str, KeyPair] = {}
        self._keep(KEY_NAME, self._draw_public(), born)

    def __len__(self) -> int:
        return len(self._pairs)

    def __contains__(self, name: object) -> bool:
        return name in self._pairs

    def all(self) -> list[KeyPair]:
        """Return all pairs, sorted by name."""
        return [self._pairs[name] for name in sorted(self._pairs)]

    def get(self, name: str) -> KeyPair:
        """Return a pair.

        Raises:
            Refusal: It does not exist.
        """
        if name not in self._pairs:
            raise native(404, f"Keypair {name} not found.")
        return self._pairs[name]

    def create(self, name: object, at: float) -> tuple[KeyPair, str]:
        """Create a pair; returns it with a dummy text in place of its private key.

        Raises:
            Refusal: The name is invalid or taken, or the quota is used up.
        """
        pair = self._keep(self._check(name), self._draw_public(), at)
        nothing = base64.encodebytes(b"simulated " + self._draws.randbytes(600)).decode()
        return pair, f"-----BEGIN SIMULATED PRIVATE KEY-----\n{nothing}-----END SIMULATED PRIVATE KEY-----\n"

    def take(self, name: object, public_key: object, at: float) -> KeyPair:
        """Import a public key.

        Raises:
            Refusal: It is not a public key, or as for `create`.
        """
        checked = self._check(name)
        if not isinstance(public_key, str) or len(public_key.encode()) > _MAX_BYTES:
            raise bad_request(f"public_key must be a text of at most {_MAX_BYTES} bytes.")
        if not _is_key(public_key):
            raise bad_request("Keypair data is invalid: failed to generate fingerprint")
        return self._keep(checked, public_key, at)

    def delete(self, name: str) -> None:
        """Delete a pair.

        Raises:
            Refusal: It does not exist.
        """
        del self._pairs[self.get(name).name]

    def _check(self, name: object) -> str:
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise bad_request("name must be 1 to 255 letters, digits, blanks and _ . : @ -")
        if name in self._pairs:
            raise native(409, f"Key pair '{name}' already exists.")
        if self._max_pairs >= 0 and len(self._pairs) >= self._max_pairs:
            raise native(403, "Quota exceeded, too many key pairs.")
        return name

    def _keep(self, name: str, public_key: str, at: float) -> KeyPair:
        self._made += 1
        digest = hashlib.sha256(public_key.split()[1].encode()).hexdigest()[:32]
        fingerprint = ":".join(digest[i : i + 2] for i in range(0, 32, 2))
        pair = self._pairs[name] = KeyPair(self._made, name, public_key, fingerprint, at)
        return pair

    def _draw_public(self) -> str:
        blob = _RSA + self._draws.randbytes(128)
        return f"ssh-rsa {base64.b64encode(blob).decode()} Generated-by-Nova"


def _is_key(text: str) -> bool:
    kind, _, rest = text.strip().partition(" ")
    try:
        blob = base64.b64decode(rest.split(" ")[0], validate=True)
    except binascii.Error:
        return False
    # A key's blob begins with the length of its kind, and its kind.
    return bool(kind) and blob[4 : 4 + len(kind)] == kind.encode()
