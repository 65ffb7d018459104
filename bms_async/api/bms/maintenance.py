"""Names, metadata and operating systems of servers (API reference 4.4 and 4.8)."""

from __future__ import annotations

from collections.abc import Mapping

from bms_async.api._envelopes import ServerResponse, UpdatedMetadataResponse
from bms_async.api._registry import define
from bms_async.errors import InvalidRequestError
from bms_async.jobs import JobHandle
from bms_async.models import JobAccepted, Server
from bms_async.redaction import wrap_secrets
from bms_async.validation.common import check_id
from bms_async.validation.text import (
    check_metadata,
    check_name,
    check_native_name,
    check_one_login,
    check_password,
    encode_user_data,
    user_data_as_text,
)
from bms_async.wire import Safety

from ._base import SERVER, ServerResource

RENAME = define(
    "servers.rename",
    "PUT",
    SERVER,
    ServerResponse,
    title="Rename a server",
    chapter="4.4.1",
    safety=Safety.IDEMPOTENT,
    permission="bms:servers:put",
)
REINSTALL_OS = define(
    "servers.reinstall_os",
    "POST",
    SERVER + "/reinstallos",
    JobAccepted,
    title="Reinstall a server's operating system",
    chapter="4.4.2",
    safety=Safety.UNSAFE,
    permission="bms:servers:reInstallOS",
)
UPDATE_METADATA = define(
    "servers.update_metadata",
    "POST",
    SERVER + "/metadata",
    UpdatedMetadataResponse,
    title="Add or change keys of a server's metadata",
    chapter="4.8.1",
    safety=Safety.IDEMPOTENT,
    permission="bms:servers:updateMetadata",
)


class Maintenance(ServerResource):
    """The calls about names, metadata and operating systems."""

    async def rename(self, server_id: str, name: str) -> Server:
        """Rename a server and return it.

        Its host name does not change. According to the cloud, the new name takes effect when the server is restarted.

        Args:
            server_id: The server.
            name: 1 to 63 letters, digits, ``_``, ``-`` and ``.``.

        Raises:
            InvalidRequestError: The id or the name is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 4.4.1; 100 calls a minute.
        """
        path = {"server_id": self._checked(server_id)}
        if self._check:
            check_name("name", name)
        response = await self._session.call(RENAME, path=path, body={"server": {"name": name}})
        return response.server

    async def reinstall_os(
        self,
        server_id: str,
        *,
        admin_password: str | None = None,
        key_name: str | None = None,
        user_id: str | None = None,
        user_data: str | bytes | None = None,
    ) -> JobHandle:
        """Reinstall a server's operating system from its image and return the job, which is watched from then on.

        The server must be stopped and must not be used meanwhile. Never sent again when a response is lost: the
        `TransportError` then says ``maybe_delivered``, and the server's own ``task_state`` shows what happened.

        Args:
            server_id: The server.
            admin_password: The administrator's password: 8 to 26 characters of at least three classes (upper case,
                lower case, digits, special). Ignored for a Linux server that gets ``user_data``.
            key_name: The key pair to log in with, instead of a password.
            user_id: The user that owns the key pair.
            user_data: A script for the first start, such as one that sets a password, in plain: it is encoded as base64
                here. Required if there is neither a password nor a key pair.

        Raises:
            InvalidRequestError: An argument is invalid, or there are two logins or none; nothing was sent.
            ApiError: The cloud refused, for instance because the server runs.

        Source: API reference 4.4.2; 50 calls a minute.
        """
        admin_password, user_data = wrap_secrets(admin_password), wrap_secrets(user_data)
        path = {"server_id": self._checked(server_id)}
        if self._check:
            _check_login(admin_password, key_name, user_data)
            if user_id is not None:
                check_id("user_id", user_id)
        data = None if user_data is None else encode_user_data("user_data", user_data, check=self._check)
        metadata = None if data is None else {"user_data": data}
        fields = {"adminpass": admin_password, "keyname": key_name, "userid": user_id, "metadata": metadata}
        body = {"os-reinstall": {name: value for name, value in fields.items() if value is not None}}
        secrets = (admin_password, data, user_data_as_text(user_data))
        accepted = await self._session.call(REINSTALL_OS, path=path, body=body, secrets=secrets)
        return self._watch(accepted, REINSTALL_OS, (path["server_id"],), secrets)

    async def update_metadata(self, server_id: str, metadata: Mapping[str, str]) -> Mapping[str, str]:
        """Add or change keys of a server's metadata and return the metadata in the response.

        Other keys do not change. The server must be active, stopped or paused.

        Args:
            server_id: The server.
            metadata: Keys of 1 to 255 letters, digits, ``-``, ``_``, ``:`` and ``.``; values of at most 255 characters.

        Raises:
            InvalidRequestError: An argument is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 4.8.1; 100 calls a minute.
        """
        # The administrator's password of a Windows server is in its metadata.
        metadata = wrap_secrets(metadata)
        path = {"server_id": self._checked(server_id)}
        values = check_metadata("metadata", metadata) if self._check else dict(metadata)
        response = await self._session.call(
            UPDATE_METADATA, path=path, body={"metadata": values}, secrets=(values.get("admin_pass"),)
        )
        return response.metadata


def _check_login(password: str | None, key_name: str | None, user_data: str | bytes | None) -> None:
    check_one_login(password, key_name)
    if password is not None:
        check_password("admin_password", password)
    if key_name is not None:
        check_native_name("key_name", key_name)
    if password is None and key_name is None and not user_data:
        rule = "expected a script that sets a login, as there is neither admin_password nor key_name"
        raise InvalidRequestError("user_data", user_data, rule)
