"""Passwords and fresh systems (API reference 4.4.2, 4.10 and 7.8)."""

import base64
import binascii
import re
from typing import Final

from starlette.routing import Route

from bms_async.simulator.core.cloud import Cloud
from bms_async.simulator.core.refusals import Refusal
from bms_async.simulator.core.servers import BUSY
from bms_async.simulator.http.gateway import Call, Gateway, Reply
from bms_async.simulator.http.requests import read_wish

__all__ = ["check_password", "check_user_data", "password_routes"]

_MIN_LENGTH: Final = 8
_MAX_LENGTH: Final = 26
_KINDS: Final = ("[A-Z]", "[a-z]", "[0-9]", re.escape("!") + r"|[@#$%^_=+\[{}\]:,./?-]")
_ENOUGH_KINDS: Final = 3
_MAX_USER_DATA: Final = 32 * 1024


def password_routes(cloud: Cloud, gateway: Gateway) -> list[Route]:
    """The routes for passwords, and for the reinstallation that sets one."""
    calls, guard = _PasswordRoutes(cloud), gateway.guard
    server = "/v1/{project_id}/baremetalservers/{server_id}"
    stored = f"{server}/os-server-password"
    return [
        Route(f"{server}/reinstallos", guard("servers.reinstall_os", calls.reinstall), methods=["POST"]),
        Route(stored, guard("servers.get_windows_password", calls.get)),
        Route(stored, guard("servers.delete_windows_password", calls.delete), methods=["DELETE"]),
        Route(f"{server}/os-resetpwd-flag", guard("servers.can_reset_password", calls.can_reset)),
        Route(f"{server}/os-reset-password", guard("servers.reset_password", calls.reset), methods=["PUT"]),
    ]


def check_password(password: object, code: str = "BMS.3039") -> None:
    """Check a new password; the error does not contain it.

    Raises:
        Refusal: It breaks a rule.
    """
    if not isinstance(password, str) or not _MIN_LENGTH <= len(password) <= _MAX_LENGTH:
        raise Refusal(400, code, f"A password has {_MIN_LENGTH} to {_MAX_LENGTH} characters.")
    if sum(re.search(kind, password) is not None for kind in _KINDS) < _ENOUGH_KINDS:
        raise Refusal(400, code, "A password has three of: capitals, small letters, digits and special characters.")
    if "root" in password.lower() or "toor" in password.lower():
        raise Refusal(400, code, "A password must not hold the user's name, forwards or backwards.")


def check_user_data(data: object) -> str:
    """Check what is to be injected, and return it.

    Raises:
        Refusal: It is too much, or not encoded.
    """
    if data is None:
        return ""
    try:
        plain = base64.b64decode(data, validate=True) if isinstance(data, str) else None
    except binascii.Error:
        plain = None
    if plain is None:
        raise Refusal(400, "BMS.0018", "user_data must be base64.")
    if len(plain) > _MAX_USER_DATA:
        raise Refusal(400, "BMS.0210", f"user_data holds {len(plain)} bytes, and may hold {_MAX_USER_DATA}.")
    return str(data)


class _PasswordRoutes:
    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud

    async def reinstall(self, call: Call) -> bytes:
        """API reference 4.4.2."""
        await self._cloud.settle()
        cloud, server = self._cloud, self._cloud.server(call.path("server_id"))
        wish = read_wish(call.content, "os-reinstall")
        metadata = wish.get("metadata") or {}
        user_data = metadata.get("user_data") if isinstance(metadata, dict) else None
        password, key = wish.get("adminpass") or None, wish.get("keyname") or None
        check_user_data(user_data)
        if (password is not None) == (key is not None) and (password is not None or not user_data):
            raise Refusal(400, "BMS.0111", "Name a password or a key pair, and not both.")
        if password is not None:
            check_password(password)
        if key is not None and key not in cloud.keys:
            raise Refusal(400, "BMS.0049", "No key pair has this name.")
        if server.action is not None:
            raise Refusal(400, BUSY[server.action], "Something else is being done to this server.")
        if server.status != "SHUTOFF":
            raise Refusal(400, "BMS.0018", "The system can only be reinstalled on a server that is off.")
        kind = "baremetalReinstallOs"
        if any(disk.device == "/dev/sda" for disk in cloud.disks_of(server)):
            kind = "baremetalVolumeBootReinstallOs"
        job = cloud.activity.start_single(kind, server, {}, failure="BMS.3037", action="reinstall")
        return b'{"job_id":"%b"}' % job.id.encode()

    async def get(self, call: Call) -> bytes:
        """API reference 4.10.1; a server that runs something else has no password here."""
        extra = self._cloud.attributes_of(self._cloud.server(call.path("server_id")))
        return b'{"password":"%b"}' % ("" if extra is None else extra.password).encode()

    async def delete(self, call: Call) -> Reply:
        """API reference 4.10.2."""
        server = self._cloud.server(call.path("server_id"))
        self._cloud.change(server).password = ""
        return Reply(202)

    async def can_reset(self, call: Call) -> bytes:
        """API reference 7.8; the plug-in that it takes is there on what is not Windows."""
        extra = self._cloud.attributes_of(self._cloud.server(call.path("server_id")))
        return b'{"resetpwd_flag":"%b"}' % str(extra is None or not extra.windows).encode()

    async def reset(self, call: Call) -> Reply:
        """API reference 7.8."""
        server = self._cloud.server(call.path("server_id"))
        check_password(read_wish(call.content, "reset-password").get("new_password"))
        extra = self._cloud.attributes_of(server)
        if extra is not None and extra.windows:
            raise Refusal(400, "BMS.0006", "The password of this server cannot be reset.")
        return Reply(204)
