"""SSH key pairs (API reference 5.9)."""

from __future__ import annotations

from typing import Literal

from bms_async.api._pages import next_link, read_pages
from bms_async.api._registry import define
from bms_async.errors import InvalidRequestError
from bms_async.models import KeyPair, Link, Model
from bms_async.redaction import kind_of, wrap_secrets
from bms_async.validation.native import check_segment
from bms_async.validation.text import check_native_name, check_public_key
from bms_async.wire import Safety, Service

from ._resource import Resource


class KeyPairResponse(Model, frozen=True, kw_only=True, rename={"key_pair": "keypair"}):
    """One key pair; a list has each in an envelope of its own, too."""

    key_pair: KeyPair


class KeyPairsResponse(Model, frozen=True, kw_only=True, rename={"key_pairs": "keypairs", "links": "keypairs_links"}):
    """All key pairs, or one page of them."""

    key_pairs: tuple[KeyPairResponse, ...] | Literal[""] | None
    links: tuple[Link, ...] = ()


_KEY_PAIRS = "/v2.1/{project_id}/os-keypairs"
_KEY_PAIR = _KEY_PAIRS + "/{keypair_name}"

LIST = define(
    "nova.keypairs.list",
    "GET",
    _KEY_PAIRS,
    KeyPairsResponse,
    title="List the key pairs",
    chapter="5.9.1",
    safety=Safety.READ,
    service=Service.COMPUTE,
)
GET = define(
    "nova.keypairs.get",
    "GET",
    _KEY_PAIR,
    KeyPairResponse,
    title="Read one key pair",
    chapter="5.9.2",
    safety=Safety.READ,
    service=Service.COMPUTE,
)
CREATE = define(
    "nova.keypairs.create",
    "POST",
    _KEY_PAIRS,
    KeyPairResponse,
    title="Create a key pair, or import a public key",
    chapter="5.9.3",
    safety=Safety.UNSAFE,
    service=Service.COMPUTE,
)
DELETE = define(
    "nova.keypairs.delete",
    "DELETE",
    _KEY_PAIR,
    type(None),
    title="Delete a key pair",
    chapter="5.9.4",
    safety=Safety.IDEMPOTENT,
    success=(204,),
    service=Service.COMPUTE,
)


class KeyPairs(Resource):
    """SSH key pairs: ``bms.nova.keypairs``."""

    async def list(self) -> tuple[KeyPair, ...]:
        """Return the caller's key pairs, with their public keys.

        Raises:
            DecodeError: The response links to a next page that has nothing new.

        Source: API reference 5.9.1.
        """
        return await read_pages(
            lambda query: self._session.call(LIST, query=query),
            {},
            items=lambda response: [(item.key_pair.name, item.key_pair) for item in response.key_pairs or ()],
            link=lambda response: next_link(response.links),
            operation=LIST.name,
        )

    async def get(self, name: str) -> KeyPair:
        """Return one key pair, with its public key.

        Args:
            name: The key pair's name.

        Raises:
            InvalidRequestError: The name is invalid; nothing was sent.
            NotFoundError: There is no such key pair.

        Source: API reference 5.9.2.
        """
        response = await self._session.call(GET, path={"keypair_name": self._name(name)})
        return response.key_pair

    async def create(self, name: str) -> KeyPair:
        """Create a key pair in the cloud and return it with its private key, which is never returned again.

        Not sent again when a response is lost: the key pair may exist then, but its private key is lost. Delete it and
        create another.

        Args:
            name: 1 to 255 characters; not the name of an existing key pair.

        Raises:
            InvalidRequestError: The name is invalid; nothing was sent.
            ConflictError: The name is taken.

        Source: API reference 5.9.3.
        """
        response = await self._session.call(CREATE, body={"keypair": {"name": self._name(name)}})
        return response.key_pair

    async def import_key(self, name: str, public_key: str) -> KeyPair:
        """Import a public key; the private key stays with the caller.

        Args:
            name: 1 to 255 characters; not the name of an existing key pair.
            public_key: The key in OpenSSH format (``ssh-rsa AAAA...``), at most 1024 bytes.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            ConflictError: The name is taken.

        Source: API reference 5.9.3.
        """
        # Checked whatever `check` says: a private key must never be sent, nor shown in an error.
        public_key = wrap_secrets(public_key)
        if not isinstance(public_key, str):
            raise InvalidRequestError("public_key", None, f"expected a str, got {kind_of(public_key)}", secret=True)
        if "PRIVATE KEY" in public_key or "Private-Lines:" in public_key:
            rule = "expected the public key, got a private key"
            raise InvalidRequestError("public_key", public_key, rule, secret=True)
        if self._check:
            check_public_key("public_key", public_key)
        body = {"keypair": {"name": self._name(name), "public_key": public_key}}
        response = await self._session.call(CREATE, body=body)
        return response.key_pair

    async def delete(self, name: str) -> None:
        """Delete a key pair; servers that were created with it keep its public key.

        Args:
            name: The key pair's name.

        Raises:
            InvalidRequestError: The name is invalid; nothing was sent.
            NotFoundError: There is no such key pair.

        Source: API reference 5.9.4.
        """
        await self._delete(DELETE, {"keypair_name": self._name(name)})

    def _name(self, name: str) -> str:
        return check_segment("name", check_native_name("name", name) if self._check else name)
