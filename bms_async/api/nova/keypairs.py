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
    """What `GET` of one and `POST` answer: the key pair in an envelope; a list holds each in one, too."""

    key_pair: KeyPair


class KeyPairsResponse(Model, frozen=True, kw_only=True, rename={"key_pairs": "keypairs", "links": "keypairs_links"}):
    """What `GET` of all key pairs answers, or of as many as come at once."""

    key_pairs: tuple[KeyPairResponse, ...] | Literal[""] | None
    links: tuple[Link, ...] = ()


_KEY_PAIRS = "/v2.1/{project_id}/os-keypairs"
_KEY_PAIR = _KEY_PAIRS + "/{keypair_name}"

LIST = define(
    "nova.keypairs.list",
    "GET",
    _KEY_PAIRS,
    KeyPairsResponse,
    title="Read the key pairs",
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
    title="Make a key pair, or import a public key",
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
            items=lambda response: [(each.key_pair.name, each.key_pair) for each in response.key_pairs or ()],
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
        """Let the cloud make a key pair, and return it with its private key, which is told this once only.

        Not sent again when an answer is lost: the pair may be there then, but nobody has its private key. Delete it
        and make another.

        Args:
            name: 1 to 255 characters; the name of no key pair that there is.

        Raises:
            InvalidRequestError: The name is invalid; nothing was sent.
            ConflictError: The name is taken.

        Source: API reference 5.9.3.
        """
        response = await self._session.call(CREATE, body={"keypair": {"name": self._name(name)}})
        return response.key_pair

    async def import_key(self, name: str, public_key: str) -> KeyPair:
        """Give the cloud a public key that you made yourself; nobody else ever has the private one.

        Args:
            name: 1 to 255 characters; the name of no key pair that there is.
            public_key: The key as OpenSSH writes it (``ssh-rsa AAAA...``), at most 1024 bytes.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            ConflictError: The name is taken.

        Source: API reference 5.9.3.
        """
        # Whatever else is checked or not: a private key must not leave the house, not even in an error.
        public_key = wrap_secrets(public_key)
        if not isinstance(public_key, str):
            raise InvalidRequestError("public_key", kind_of(public_key), "a text is wanted")
        if "PRIVATE KEY" in public_key or "Private-Lines:" in public_key:
            raise InvalidRequestError("public_key", None, "this is a private key: the public one is wanted")
        if self._check:
            check_public_key("public_key", public_key)
        body = {"keypair": {"name": self._name(name), "public_key": public_key}}
        response = await self._session.call(CREATE, body=body)
        return response.key_pair

    async def delete(self, name: str) -> None:
        """Delete a key pair; servers that were made with it keep its public key.

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
