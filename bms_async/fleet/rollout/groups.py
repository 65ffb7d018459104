"""The groups of a fleet that a rollout respects: what fails together, such as the servers of a rack (pure).

A server that has no group, because its field is empty or it has no such tag, is in the group "", which is shown as
``(none)``. All such servers share it, and so its limit: nothing says that they do not stand in one rack. For the same
reason a server with two tags of one prefix is refused, and not put into the group of either: the other group would have
one more unavailable than is allowed.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Final, TypeAlias

from bms_async._foreign import call_foreign_now
from bms_async.errors import InvalidRequestError
from bms_async.errors.base import show_value
from bms_async.models import Image, Server, ServerFlavor

GroupBy: TypeAlias = str | Callable[[Server], str | int | None]
"""What a server's group is: a field, ``tag:PREFIX``, ``metadata:KEY``, or a function of the server."""

NO_GROUP: Final = ""

_TAG: Final = "tag:"
_METADATA: Final = "metadata:"
_PASSWORD: Final = "admin_pass"  # noqa: S105 - the key under which a Windows server has its password
_SEPARATORS: Final = ("-", ":", "=", "/", ".", "_")


def _id_or_name(part: ServerFlavor | Image | None) -> str | None:
    return None if part is None else part.id or part.name


_FIELDS: Final[Mapping[str, Callable[[Server], str | None]]] = {
    "availability_zone": lambda server: server.availability_zone,
    "enterprise_project_id": lambda server: server.enterprise_project_id,
    "flavor": lambda server: _id_or_name(server.flavor),
    "host": lambda server: server.host,
    "host_id": lambda server: server.host_id,
    "hypervisor_hostname": lambda server: server.hypervisor_hostname,
    "image": lambda server: _id_or_name(server.image),
    "key_name": lambda server: server.key_name,
    "tenant_id": lambda server: server.tenant_id,
}
_RULE: Final = (
    f"expected a field of the server ({', '.join(_FIELDS)}), a tag's beginning such as "
    '"tag:rack", a key of the metadata such as "metadata:cluster", or a function of the Server'
)


def check_group_by(value: object) -> None:
    """Check what servers are grouped by.

    Args:
        value: What was given; None for one group of all.

    Raises:
        InvalidRequestError: It is none of the allowed forms.
    """
    if value is None:
        return
    if isinstance(value, str):
        kind, mark, name = value.partition(":")
        if value in _FIELDS or (mark and f"{kind}:" in (_TAG, _METADATA) and name and name == name.strip()):
            if value == f"{_METADATA}{_PASSWORD}":
                raise InvalidRequestError("group_by", value, "expected a key that holds no password: groups are shown")
            return
        raise InvalidRequestError("group_by", value, _RULE)
    if inspect.iscoroutinefunction(value):
        raise InvalidRequestError("group_by", value, "expected a function that is not a coroutine function")
    if not callable(value):
        raise InvalidRequestError("group_by", value, _RULE)


def group_of(server: Server, group_by: GroupBy | None) -> str:
    """Return the group of a server.

    A server's tag belongs to ``tag:PREFIX`` if it is PREFIX, or begins with it and one of ``- : = / . _`` after it:
    ``tag:rack`` finds ``rack-7``, ``rack:7`` and ``rack=7``, and ``tag:rack-`` only the first. The tag is the group.

    Args:
        server: The server.
        group_by: What `check_group_by` has accepted; None for one group of all.

    Raises:
        InvalidRequestError: The server has several tags of the prefix, or the function returned neither a str nor an
            int nor None.
        Exception: The function raised it.
        ForeignCodeError: The function raised something that is not an `Exception`.
    """
    if group_by is None:
        return NO_GROUP
    if not isinstance(group_by, str):
        return _group_by_function(server, group_by)
    if group_by.startswith(_TAG):
        return _group_by_tag(server, group_by)
    if group_by.startswith(_METADATA):
        return server.metadata.get(group_by.removeprefix(_METADATA)) or NO_GROUP
    return _FIELDS[group_by](server) or NO_GROUP


def _group_by_tag(server: Server, group_by: str) -> str:
    prefix = group_by.removeprefix(_TAG)
    beginnings = (prefix,) if prefix.endswith(_SEPARATORS) else tuple(f"{prefix}{sign}" for sign in _SEPARATORS)
    found = sorted({tag for tag in server.tags if tag == prefix or tag.startswith(beginnings)})
    if len(found) > 1:
        raise InvalidRequestError(
            "group_by",
            group_by,
            f"expected at most one such tag a server, but {server.id} has {', '.join(map(show_value, found))}; name a "
            "longer beginning, remove a tag, or pass a function of the Server",
        )
    return found[0] if found else NO_GROUP


def _group_by_function(server: Server, function: Callable[[Server], str | int | None]) -> str:
    found: object = call_foreign_now("group_by", function, server)
    if found is None:
        return NO_GROUP
    if isinstance(found, str) or type(found) is int:
        return str(found)
    if inspect.iscoroutine(found):
        # Python warns of one that is never awaited.
        found.close()
    raise InvalidRequestError(
        "group_by", found, f"expected the function to return a str, an int or None, also for the server {server.id}"
    )
