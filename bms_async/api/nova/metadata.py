"""Metadata of servers (API reference 5.4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from bms_async.api._envelopes import UpdatedMetadataResponse
from bms_async.api._registry import define
from bms_async.models import Model
from bms_async.redaction import wrap_secrets
from bms_async.validation.native import check_changed_metadata, check_metadata_lookup, check_segment
from bms_async.wire import Safety, Service

from ._resource import SERVER, Resource


class MetadataResponse(Model, frozen=True, kw_only=True):
    """The metadata of a server; required, for a body without them does not mean that there are none."""

    metadata: Mapping[str, str] | Literal[""] | None


class MetaResponse(Model, frozen=True, kw_only=True):
    """One key of a server's metadata after it was set."""

    meta: Mapping[str, str] = msgspec.field(default_factory=dict)


_METADATA = SERVER + "/metadata"
_PASSWORD = "admin_pass"  # noqa: S105 - the name of a key, not a password

GET = define(
    "nova.metadata.get",
    "GET",
    _METADATA,
    MetadataResponse,
    title="Read a server's metadata",
    chapter="5.4.1",
    safety=Safety.READ,
    service=Service.COMPUTE,
)
UPDATE = define(
    "nova.metadata.update",
    "POST",
    _METADATA,
    UpdatedMetadataResponse,
    title="Add or change keys of a server's metadata",
    chapter="5.4.2",
    safety=Safety.IDEMPOTENT,
    service=Service.COMPUTE,
)
SET = define(
    "nova.metadata.set",
    "PUT",
    _METADATA + "/{key}",
    MetaResponse,
    title="Set one key of a server's metadata",
    chapter="5.4.3",
    safety=Safety.IDEMPOTENT,
    service=Service.COMPUTE,
)
DELETE = define(
    "nova.metadata.delete",
    "DELETE",
    _METADATA + "/{key}",
    type(None),
    title="Delete one key of a server's metadata",
    chapter="5.4.4",
    safety=Safety.IDEMPOTENT,
    success=(204,),
    service=Service.COMPUTE,
)


class Metadata(Resource):
    """Metadata of servers: ``bms.nova.metadata``."""

    async def get(self, server_id: str) -> Mapping[str, str]:
        """Return a server's metadata.

        Args:
            server_id: The server.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 5.4.1.
        """
        response = await self._session.call(GET, path={"server_id": self._id("server_id", server_id)})
        return response.metadata or {}

    async def update(self, server_id: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        r"""Add or change keys of a server's metadata, keep the others, and return the response's metadata.

        Args:
            server_id: The server; its ``vm_state`` must be active, stopped or paused.
            metadata: Keys and values of at most 255 characters; no backslash and no double quote in a value, and no
                special character but ``' | : - _ .`` in a key.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.
            ConflictError: The server is in a state that does not allow it.

        Source: API reference 5.4.2.
        """
        metadata = wrap_secrets(metadata)
        path = {"server_id": self._id("server_id", server_id)}
        changed = check_changed_metadata("metadata", metadata) if self._check else dict(metadata)
        response = await self._session.call(
            UPDATE, path=path, body={"metadata": changed}, secrets=(changed.get(_PASSWORD),)
        )
        return response.metadata

    async def set(self, server_id: str, key: str, value: str) -> Mapping[str, str]:
        """Set one key of a server's metadata, and return the pair as the cloud stores it.

        Args:
            server_id: The server; its ``vm_state`` must be active, stopped or paused.
            key: 1 to 255 characters, as in `update`.
            value: At most 255 characters, as in `update`.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.
            ConflictError: The server is in a state that does not allow it.

        Source: API reference 5.4.3.
        """
        value = wrap_secrets(value)
        path = {"server_id": self._id("server_id", server_id), "key": check_segment("key", key)}
        changed = check_changed_metadata("metadata", {key: value}) if self._check else {key: value}
        response = await self._session.call(SET, path=path, body={"meta": changed}, secrets=(changed.get(_PASSWORD),))
        return response.meta

    async def delete(self, server_id: str, key: str) -> None:
        """Delete one key of a server's metadata.

        Args:
            server_id: The server; its ``vm_state`` must be active, stopped or paused.
            key: 1 to 255 characters.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            NotFoundError: The server does not have the key, or does not exist.
            ConflictError: The server is in a state that does not allow it.

        Source: API reference 5.4.4.
        """
        path = {"server_id": self._id("server_id", server_id), "key": check_segment("key", key)}
        if self._check:
            check_metadata_lookup("key", key)
        await self._delete(DELETE, path)
