"""The request body for creating a server (API reference 5.2.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from bms_async.models import Network
from bms_async.validation.native import (
    check_availability_zone,
    check_networks,
    check_new_metadata,
    check_security_groups,
    check_text,
)
from bms_async.validation.text import check_native_name, check_password, encode_user_data, user_data_as_text


class NewServer(msgspec.Struct, frozen=True, kw_only=True):
    """The arguments of `create`; the repr does not show them, for they hold secrets."""

    name: str
    image: str
    flavor: str
    availability_zone: str
    networks: Sequence[Network]
    key_name: str | None
    admin_password: str | None
    metadata: Mapping[str, str] | None
    user_data: str | bytes | None
    security_groups: Sequence[str]

    def __repr__(self) -> str:
        return "<NewServer>"

    def __rich_repr__(self) -> list[tuple[str, str]]:
        return [("name", self.name)]


def check_new_server(new: NewServer) -> None:
    """Refuse arguments that the reference does not allow (API reference table 5-2).

    Raises:
        InvalidRequestError: An argument is invalid.
    """
    check_text("name", check_native_name("name", new.name))
    check_text("image", new.image)
    check_text("flavor", new.flavor)
    check_availability_zone("availability_zone", new.availability_zone)
    check_networks("networks", new.networks)
    if new.key_name is not None:
        check_text("key_name", check_native_name("key_name", new.key_name))
    if new.admin_password is not None:
        # It applies to Windows only (API reference table 5-2).
        check_password("admin_password", new.admin_password, windows=True)
    if new.metadata is not None:
        check_new_metadata("metadata", new.metadata)
    check_security_groups("security_groups", new.security_groups)


def write_new_server(new: NewServer, *, check: bool) -> dict[str, object]:
    """Return the body that creates a server.

    Args:
        new: The arguments.
        check: Whether to check the size of the injected data.
    """
    server: dict[str, object] = {
        "name": new.name,
        "imageRef": new.image,
        "flavorRef": new.flavor,
        "availability_zone": new.availability_zone,
        "networks": [_write_network(network) for network in new.networks],
    }
    if new.key_name is not None:
        server["key_name"] = new.key_name
    if new.admin_password is not None:
        server["adminPass"] = new.admin_password
    if new.metadata:
        server["metadata"] = dict(new.metadata)
    if new.user_data is not None:
        server["user_data"] = encode_user_data("user_data", new.user_data, check=check)
    if new.security_groups:
        server["security_groups"] = [{"name": name} for name in new.security_groups]
    return {"server": server}


def secrets_of(new: NewServer, body: Mapping[str, object]) -> tuple[str | None, ...]:
    """Return the secrets that a response may echo, as given and as sent.

    Args:
        new: The arguments.
        body: The body, as returned by `write_new_server`.
    """
    server = body["server"]
    encoded = server.get("user_data") if isinstance(server, Mapping) else None
    # Metadata hold the administrator's password of a Windows server.
    password = (new.metadata or {}).get("admin_pass")
    return new.admin_password, password, user_data_as_text(new.user_data), encoded


def _write_network(network: Network) -> dict[str, str]:
    # In the reference the port takes precedence; Nova itself refuses a port together with an address.
    if network.port is not None:
        return {"port": network.port}
    fields = {"uuid": network.uuid, "fixed_ip": network.fixed_ip}
    return {name: value for name, value in fields.items() if value is not None}
