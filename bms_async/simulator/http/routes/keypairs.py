"""The calls for SSH key pairs (API reference 5.9)."""

from typing import Any, Final

import msgspec
from starlette.routing import Route

from bms_async.simulator.core.attributes import USER
from bms_async.simulator.core.cloud import Cloud
from bms_async.simulator.core.keypairs import KeyPair
from bms_async.simulator.http.gateway import Call, Gateway, Reply
from bms_async.simulator.http.microversions import Microversion, microversion
from bms_async.simulator.http.requests import read_native_wish

__all__ = ["key_routes"]

_ENCODE: Final = msgspec.json.Encoder().encode
_TYPED: Final[Microversion] = (2, 2)


def key_routes(cloud: Cloud, gateway: Gateway) -> list[Route]:
    """The routes for key pairs."""
    calls = _KeyPairRoutes(cloud)
    guard = gateway.guard
    pairs = "/v2.1/{project_id}/os-keypairs"
    # Names come percent-encoded, and a server sees them decoded.
    one = f"{pairs}/{{name:path}}"
    return [
        Route(pairs, guard("nova.keypairs.list", calls.list)),
        Route(pairs, guard("nova.keypairs.create", calls.create), methods=["POST"]),
        Route(one, guard("nova.keypairs.get", calls.get)),
        Route(one, guard("nova.keypairs.delete", calls.delete), methods=["DELETE"]),
    ]


class _KeyPairRoutes:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def list(self, call: Call) -> bytes:
        """API reference 5.9.1."""
        version = microversion(call.request)
        return _ENCODE({"keypairs": [{"keypair": _brief(pair, version)} for pair in self._cloud.keys.all()]})

    async def get(self, call: Call) -> bytes:
        """API reference 5.9.2."""
        version = microversion(call.request)
        pair = self._cloud.keys.get(call.path("name"))
        created = f"{self._cloud.wall.millis(pair.at)[:-1]}000"
        more = {
            "id": pair.id,
            "user_id": USER,
            "created_at": created,
            "updated_at": None,
            "deleted": False,
            "deleted_at": None,
        }
        return _ENCODE({"keypair": _brief(pair, version) | more})

    async def create(self, call: Call) -> Reply:
        """API reference 5.9.3."""
        version = microversion(call.request)
        wish, now = read_native_wish(call.content, "keypair"), self._cloud.now()
        private: dict[str, Any] = {}
        if wish.get("public_key") is None:
            pair, text = self._cloud.keys.create(wish.get("name"), now)
            private["private_key"] = text
        else:
            pair = self._cloud.keys.take(wish.get("name"), wish["public_key"], now)
        status = 201 if version >= _TYPED else 200
        return Reply(status, _ENCODE({"keypair": _brief(pair, version) | private | {"user_id": USER}}))

    async def delete(self, call: Call) -> Reply:
        """API reference 5.9.4."""
        microversion(call.request)
        self._cloud.keys.delete(call.path("name"))
        return Reply(204)


def _brief(pair: KeyPair, version: Microversion) -> dict[str, Any]:
    shown = {"name": pair.name, "public_key": pair.public_key, "fingerprint": pair.fingerprint}
    return shown | {"type": "ssh"} if version >= _TYPED else shown
