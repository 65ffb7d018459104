"""The environment variables that lead a program to a simulated cloud."""

from __future__ import annotations

from typing import Literal, TypeAlias

from bms_async.simulator import CloudSettings

__all__ = ["Credentials", "environment_of"]

Credentials: TypeAlias = Literal["token", "password", "aksk"]


def environment_of(address: str, settings: CloudSettings, credentials: Credentials) -> dict[str, str]:
    """Return the variables that `BmsClient.from_env()` reads.

    Raises:
        ValueError: `credentials` is not one of the three kinds.
    """
    found = {"BMS_ENDPOINT": address, "OS_PROJECT_ID": settings.project_id, "OS_AUTH_TYPE": credentials}
    match credentials:
        case "token":
            return {**found, "OS_TOKEN": settings.token}
        case "password":
            return {
                **found,
                "OS_AUTH_URL": f"{address}/v3",
                "OS_USERNAME": settings.username,
                "OS_PASSWORD": settings.password,
                "OS_USER_DOMAIN_NAME": settings.user_domain_name,
            }
        case "aksk":
            keys = {"HUAWEICLOUD_SDK_AK": settings.access_key, "HUAWEICLOUD_SDK_SK": settings.secret_key}
            if settings.security_token:
                keys["HUAWEICLOUD_SDK_SECURITY_TOKEN"] = settings.security_token
            return {**found, **keys}
        case _:
            raise ValueError(f"credentials={credentials!r}: expected token, password or aksk")
