"""Completes where a command acts: the name of the project, and the user that the credentials are of.

A password and an access key know whose they are. Of a token the identity service is asked, once a command, for two
seconds at most; if it does not answer, or refuses, the command goes on without the user's name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import anyio
import msgspec

from bms_async import AkSkAuth, BmsClient, BmsError, HttpRequest, PasswordAuth
from bms_async.auth import Auth
from bms_async.cli.terminal.exit import print_error
from bms_async.config import Settings

from .cloud import OpenClient
from .place import Place
from .refusals import shorten_key

__all__ = ["read_place", "read_token", "show_place"]

_PATIENCE: Final = 2.0
"""Seconds that the identity service has to say whose a token is."""


async def show_place(cloud: OpenClient, *, quiet: bool = False) -> Place:
    """Print, before anything is changed, which cloud, project and user is meant, on standard error.

    Args:
        cloud: The client.
        quiet: Whether to print nothing; it is read all the same.
    """
    place = await read_place(cloud)
    if not quiet:
        print_error(str(place))
    return place


async def read_place(cloud: OpenClient) -> Place:
    """Return where a command acts, completed once; `cloud.place` is that from then on.

    Args:
        cloud: The client.
    """
    if cloud.is_place_read:
        return cloud.place
    token: Mapping[str, object] = {}
    user = _user_of(cloud.settings.auth)
    if user is None or (cloud.place.project_name is None and not isinstance(cloud.settings.auth, AkSkAuth)):
        with anyio.move_on_after(_PATIENCE):
            token = await read_token(cloud.bms, cloud.settings)
    place = cloud.place
    cloud.complete_place(
        msgspec.structs.replace(
            place,
            user=user or _name_in(token, "user"),
            project_id=place.project_id or _text_in(token, "project", "id"),
            project_name=place.project_name or _text_in(token, "project", "name"),
        )
    )
    return cloud.place


async def read_token(bms: BmsClient, settings: Settings) -> Mapping[str, object]:
    """Return the identity service's data about our token; empty without a token, or if it refuses.

    Args:
        bms: The client.
        settings: Its settings.
    """
    request = HttpRequest(operation="login", method="GET", url=settings.identity_endpoint, headers={})
    try:
        headers = await settings.auth.headers(request)
        token = headers.get("X-Auth-Token")
        if token is None:
            return {}
        response = await bms.request("GET", "/v3/auth/tokens", headers={"X-Subject-Token": token}, service="identity")
    except BmsError:
        return {}
    token_data = response.get("token") if isinstance(response, dict) else None
    return token_data if isinstance(token_data, dict) else {}


def _user_of(auth: Auth) -> str | None:
    if isinstance(auth, PasswordAuth):
        return auth.user
    if isinstance(auth, AkSkAuth):
        key = shorten_key(auth)
        return f"access key {key}" if key else None
    return None


def _name_in(token: Mapping[str, object], key: str) -> str | None:
    return _text_in(token, key, "name") or _text_in(token, key, "id")


def _text_in(token: Mapping[str, object], key: str, name: str) -> str | None:
    found = token.get(key)
    value = found.get(name) if isinstance(found, dict) else None
    return str(value) if isinstance(value, str) and value else None
