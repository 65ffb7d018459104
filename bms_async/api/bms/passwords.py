"""Passwords of servers (API reference 4.10 and 7.8)."""

from __future__ import annotations

from bms_async.api._registry import define
from bms_async.models import Model, WindowsPassword
from bms_async.redaction import wrap_secrets
from bms_async.validation.text import check_password
from bms_async.wire import Safety

from ._base import SERVER, ServerResource


class ResetFlag(Model, frozen=True, kw_only=True):
    """Whether a password can be reset."""

    resetpwd_flag: bool = False


GET_WINDOWS_PASSWORD = define(
    "servers.get_windows_password",
    "GET",
    SERVER + "/os-server-password",
    WindowsPassword,
    title="Read the password that a Windows server was installed with",
    chapter="4.10.1",
    safety=Safety.READ,
    permission="bms:servers:get",
)
DELETE_WINDOWS_PASSWORD = define(
    "servers.delete_windows_password",
    "DELETE",
    SERVER + "/os-server-password",
    type(None),
    title="Delete the password that a Windows server was installed with",
    chapter="4.10.2",
    safety=Safety.IDEMPOTENT,
    success=(202,),
    permission="bms:servers:deletePassword",
)
CAN_RESET_PASSWORD = define(
    "servers.can_reset_password",
    "GET",
    SERVER + "/os-resetpwd-flag",
    ResetFlag,
    title="Check whether a server's password can be reset",
    chapter="7.8",
    safety=Safety.READ,
    permission="bms:servers:get",
)
RESET_PASSWORD = define(
    "servers.reset_password",
    "PUT",
    SERVER + "/os-reset-password",
    type(None),
    title="Reset a server's password",
    chapter="7.8",
    safety=Safety.IDEMPOTENT,
    success=(204,),
    permission="bms:servers:resetServerPwd",
)


class Passwords(ServerResource):
    """The calls about passwords."""

    async def get_windows_password(self, server_id: str) -> WindowsPassword:
        """Return the password that a Windows server was installed with, as ciphertext.

        The cloud encrypted it with the server's key pair, so the private key is needed to read it; see
        `WindowsPassword`. The repr does not show it.

        Args:
            server_id: The server.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 4.10.1; 50 calls a minute.
        """
        return await self._session.call(GET_WINDOWS_PASSWORD, path={"server_id": self._checked(server_id)})

    async def delete_windows_password(self, server_id: str) -> None:
        """Delete the cloud's copy of the password that a Windows server was installed with.

        The password itself stays valid.

        Args:
            server_id: The server.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 4.10.2; 50 calls a minute.
        """
        await self._session.call(DELETE_WINDOWS_PASSWORD, path={"server_id": self._checked(server_id)})

    async def can_reset_password(self, server_id: str) -> bool:
        """Return whether `reset_password` works for a server; False if the cloud does not say.

        Args:
            server_id: The server.

        Raises:
            InvalidRequestError: The id is invalid; nothing was sent.
            NotFoundError: There is no such server in this project.

        Source: API reference 7.8; no limit is documented.
        """
        response = await self._session.call(CAN_RESET_PASSWORD, path={"server_id": self._checked(server_id)})
        return response.resetpwd_flag

    async def reset_password(self, server_id: str, new_password: str) -> None:
        """Reset the administrator's password.

        Args:
            server_id: The server.
            new_password: 8 to 26 characters of at least three classes: upper case, lower case, digits, special.

        Raises:
            InvalidRequestError: The id or the password is invalid; nothing was sent. The error hides the password.
            NotFoundError: There is no such server in this project.

        Source: API reference 7.8; no limit is documented.
        """
        new_password = wrap_secrets(new_password)
        path = {"server_id": self._checked(server_id)}
        if self._check:
            check_password("new_password", new_password)
        await self._session.call(
            RESET_PASSWORD, path=path, body={"reset-password": {"new_password": new_password}}, secrets=(new_password,)
        )
