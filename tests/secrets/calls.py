"""Every kind of call that carries a secret or answers one, and some that do neither."""

from __future__ import annotations

from collections.abc import AsyncIterable, Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from bms_async import BmsClient, Network, Nic
from tests.secrets.canaries import ADMIN, FIRST, METADATA, PRIVATE_KEY, RESET, USER_DATA, WINDOWS

SERVER = "53206ed0-56de-4d6b-b7ee-ffc62ca26f43"
JOB = "ff808082739334d80173941ec8b42f1a"

NEW: Mapping[str, Any] = {
    "name": "b",
    "image_id": "i",
    "flavor_id": "f",
    "availability_zone": "z",
    "vpc_id": "v",
    "nics": [Nic(subnet_id="n")],
}
NEW_NATIVE: Mapping[str, Any] = {
    "name": "b",
    "image": "i",
    "flavor": "f",
    "availability_zone": "z",
    "networks": [Network(uuid="n-1")],
}


class Call(NamedTuple):
    """A call.

    Attributes:
        make: Makes it.
        answer: What the cloud answers, secrets included.
        carries: The marks of the secrets that its body may have, and nothing else of the request.
    """

    make: Callable[[BmsClient], Awaitable[object]]
    answer: Any
    carries: tuple[str, ...] = ()


ACCEPTED: Any = {"job_id": JOB}
_PAIR: Any = {"keypair": {"name": "k", "private_key": PRIVATE_KEY, "public_key": "ssh-rsa A", "fingerprint": "f"}}
_TOLD: Any = {
    "server": {
        "id": SERVER,
        "metadata": {"admin_pass": METADATA},
        "OS-EXT-SRV-ATTR:user_data": USER_DATA,
        "adminPass": FIRST,
    }
}


async def _all(things: AsyncIterable[object]) -> list[object]:
    return [each async for each in things]


CALLS: Mapping[str, Call] = {
    "servers.reset_password": Call(lambda bms: bms.servers.reset_password(SERVER, RESET), None, ("RESET",)),
    "servers.reinstall_os": Call(
        lambda bms: bms.servers.reinstall_os(SERVER, admin_password=ADMIN, user_data=USER_DATA),
        ACCEPTED,
        ("BOOTPASS", "USERDATA"),
    ),
    "servers.reinstall_os of bytes": Call(
        lambda bms: bms.servers.reinstall_os(SERVER, user_data=USER_DATA.encode()), ACCEPTED, ("USERDATA",)
    ),
    "servers.create": Call(
        lambda bms: bms.servers.create(
            **NEW, admin_password=ADMIN, metadata={"admin_pass": METADATA}, user_data=USER_DATA
        ),
        ACCEPTED,
        ("BOOTPASS", "METAPASS", "USERDATA"),
    ),
    "servers.update_metadata": Call(
        lambda bms: bms.servers.update_metadata(SERVER, {"admin_pass": METADATA}),
        {"metadata": {"admin_pass": METADATA}},
        ("METAPASS",),
    ),
    "servers.get_windows_password": Call(lambda bms: bms.servers.get_windows_password(SERVER), {"password": WINDOWS}),
    "servers.get": Call(lambda bms: bms.servers.get(SERVER), _TOLD),
    "servers.list": Call(lambda bms: _all(bms.servers.list()), {"servers": [_TOLD["server"]], "count": 1}),
    "servers.start": Call(lambda bms: bms.servers.start([SERVER]), ACCEPTED),
    "jobs.get": Call(lambda bms: bms.jobs.get(JOB), {"job_id": JOB, "status": "RUNNING"}),
    "nova.servers.create": Call(
        lambda bms: bms.nova.servers.create(
            **NEW_NATIVE,
            admin_password=ADMIN,
            metadata={"admin_pass": METADATA.replace('"\\', "")},
            user_data=USER_DATA,
        ),
        _TOLD,
        ("BOOTPASS", "METAPASS", "USERDATA"),
    ),
    "nova.servers.get": Call(lambda bms: bms.nova.servers.get(SERVER), _TOLD),
    "nova.servers.list_details": Call(
        lambda bms: _all(bms.nova.servers.list_details()), {"servers": [_TOLD["server"]]}
    ),
    "nova.metadata.update": Call(
        lambda bms: bms.nova.metadata.update(SERVER, {"admin_pass": METADATA.replace('"\\', "")}),
        {"metadata": {"admin_pass": METADATA}},
        ("METAPASS",),
    ),
    "nova.metadata.set": Call(
        lambda bms: bms.nova.metadata.set(SERVER, "admin_pass", METADATA.replace('"\\', "")),
        {"meta": {"admin_pass": METADATA}},
        ("METAPASS",),
    ),
    "nova.keypairs.create": Call(lambda bms: bms.nova.keypairs.create("k"), _PAIR),
    "request": Call(lambda bms: bms.request("GET", "/v1/{project_id}/anything", query={"a": "b"}), {"a": 1}),
}


def other_shape(answer: object) -> object:
    """Return an answer's secrets where something of another kind is to be."""
    if isinstance(answer, dict):
        return {
            key: [value, str(value)] if isinstance(value, str) else other_shape(value) for key, value in answer.items()
        }
    return ["another shape"]


def wrong_type(answer: object) -> object:
    """Return an answer with its secrets where an object is to be."""
    return {key: str(value) for key, value in answer.items()} if isinstance(answer, dict) else "text"
