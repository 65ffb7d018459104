"""Checks of the native OpenStack calls against the reference's rules (API reference, chapter 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address

from bms_async.errors import InvalidRequestError
from bms_async.models import Network, ServerStatus
from bms_async.redaction import kind_of

from .common import ENCODABLE_RULE, is_encodable
from .text import check_metadata_value

TAGS_MICROVERSION = "2.26"
"""The first microversion that supports tags (API reference 5.10)."""

SERVER_SORT_KEYS = (
    "uuid", "vm_state", "display_name", "task_state", "power_state", "created_at", "updated_at", "availability_zone",
)  # fmt: skip
FLAVOR_SORT_KEYS = ("name", "memory_mb", "vcpus", "root_gb", "flavorid")

_MAX_NETWORKS = 4
_MAX_KEY_LENGTH = 255
_REFUSED_IN_KEYS = '`~!@#$%^&*()=+<,>?/";{[]}\\'
_REFUSED_IN_VALUES = '\\"'
_MICROVERSION = re.compile(r"(\d{1,4})\.(\d{1,4})", re.ASCII)


def check_segment(argument: str, value: object) -> str:
    """Return a non-empty segment of a path; called whatever the client's ``check`` says.

    An empty segment turns the call into another one: removing the tag ``""`` would remove every tag (API reference
    5.10.6).
    """
    if not isinstance(value, str) or not value:
        raise InvalidRequestError(argument, value, "expected a non-empty str; it becomes a part of the path")
    return _check_encodable(argument, value)


def check_text(argument: str, value: object) -> str:
    """Return a text that is not blank."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequestError(argument, value, "expected a str that is not blank")
    return _check_encodable(argument, value)


def check_new_metadata(argument: str, values: object) -> dict[str, str]:
    """Return the metadata of a new server: keys and values of at most 255 characters (API reference table 5-3).

    A value may be a password, and so appears in no error.
    """
    if not isinstance(values, Mapping):
        rule = f"expected a mapping of keys to values, got {kind_of(values)}"
        raise InvalidRequestError(argument, values, rule, secret=True)
    for key, value in values.items():
        check_metadata_lookup(argument, key)
        check_metadata_value(f"{argument}[{key!r}]", value)
    return dict(values)


def check_changed_metadata(argument: str, values: object) -> dict[str, str]:
    """Return metadata to be added or changed, at least one pair (API reference table 5-48).

    A value may be a password, and so appears in no error.
    """
    changed = check_new_metadata(argument, values)
    if not changed:
        raise InvalidRequestError(argument, {}, "expected at least one key")
    for key, value in changed.items():
        if not set(_REFUSED_IN_KEYS).isdisjoint(key):
            raise InvalidRequestError(argument, key, f"expected a key without any of {_REFUSED_IN_KEYS}")
        if not set(_REFUSED_IN_VALUES).isdisjoint(value):
            rule = "expected a value without backslashes and double quotes"
            raise InvalidRequestError(f"{argument}[{key!r}]", value, rule, secret=True)
    return changed


def check_metadata_lookup(argument: str, key: object) -> str:
    """Return a metadata key, of 1 to 255 characters (API reference table 5-11)."""
    if not isinstance(key, str) or not 0 < len(key) <= _MAX_KEY_LENGTH:
        raise InvalidRequestError(argument, key, f"expected a key of 1 to {_MAX_KEY_LENGTH} characters")
    return _check_encodable(argument, key)


def check_networks(argument: str, values: object) -> tuple[Network, ...]:
    """Return the networks of a new server, 1 to 4, each identified (API reference 5.2.1, table 5-5)."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise InvalidRequestError(argument, values, "expected a list of Network")
    if not 0 < len(values) <= _MAX_NETWORKS:
        raise InvalidRequestError(argument, f"{len(values)} networks", f"expected 1 to {_MAX_NETWORKS}")
    for index, network in enumerate(values):
        _check_network(f"{argument}[{index}]", network)
    return tuple(values)


def _check_network(argument: str, network: object) -> None:
    if not isinstance(network, Network):
        raise InvalidRequestError(argument, network, "expected a Network, such as Network(uuid=...)")
    for name in ("port", "uuid", "fixed_ip"):
        if getattr(network, name) is not None:
            check_text(f"{argument}.{name}", getattr(network, name))
    if network.port is None and network.uuid is None:
        raise InvalidRequestError(argument, network, "expected a port or the uuid of a network")
    if network.fixed_ip is not None:
        if network.uuid is None:
            raise InvalidRequestError(argument, network, "expected the uuid of the network that fixed_ip is in")
        _check_address(f"{argument}.fixed_ip", network.fixed_ip)


def check_security_groups(argument: str, values: object) -> tuple[str, ...]:
    """Return the names of a new server's security groups: at most one (API reference table 5-2)."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise InvalidRequestError(argument, values, "expected a list of names")
    if len(values) > 1:
        raise InvalidRequestError(argument, f"{len(values)} names", "expected at most one for a new server")
    return tuple(check_text(f"{argument}[{index}]", name) for index, name in enumerate(values))


def check_availability_zone(argument: str, value: object) -> str:
    """Return an availability zone, without a host in it (API reference table 5-2)."""
    zone = check_text(argument, value)
    if ":" in zone:
        raise InvalidRequestError(argument, value, "expected a zone alone; leave the host out")
    return zone


def check_status(argument: str, value: object) -> str:
    """Return a documented status of a server (API reference table 5-11)."""
    documented = {status.value for status in ServerStatus}
    if not isinstance(value, str) or str(value) not in documented:
        raise InvalidRequestError(argument, value, f"expected one of {', '.join(sorted(documented))}")
    return str(value)


def check_sorting(
    keys: str | Sequence[str] | None, directions: str | Sequence[str] | None, *, allowed: Sequence[str]
) -> None:
    """Refuse an undocumented order: unknown keys, unknown directions, or more directions than keys."""
    given_keys = _as_sequence("sort_key", keys)
    for key in given_keys:
        if key not in allowed:
            raise InvalidRequestError("sort_key", key, f"expected one of {', '.join(allowed)}")
    given_directions = _as_sequence("sort_dir", directions)
    for direction in given_directions:
        if direction not in {"asc", "desc"}:
            raise InvalidRequestError("sort_dir", direction, "expected 'asc' or 'desc'")
    # A direction without a key applies to the cloud's default key.
    if len(given_directions) > max(1, len(given_keys)):
        raise InvalidRequestError("sort_dir", directions, "expected no more directions than keys")


def check_microversion(argument: str, value: object, *, at_least: str | None = None) -> str:
    """Return a microversion such as ``2.26``, or ``latest``.

    Args:
        argument: The argument's name.
        value: The microversion.
        at_least: The first one that supports the request; an earlier one would ignore a filter silently.
    """
    found = _MICROVERSION.fullmatch(value) if isinstance(value, str) else None
    if not isinstance(value, str) or (found is None and value != "latest"):
        raise InvalidRequestError(argument, value, "expected a microversion such as '2.26', or 'latest'")
    if found and at_least is not None:
        minimum = tuple(int(part) for part in at_least.split("."))
        if (int(found[1]), int(found[2])) < minimum:
            raise InvalidRequestError(argument, value, f"expected {at_least} or later, for a filter that is given")
    return value


def check_int(argument: str, value: object, *, minimum: int, maximum: int | None = None) -> None:
    """Refuse what is not an int within the bounds."""
    is_valid = type(value) is int and minimum <= value and (maximum is None or value <= maximum)
    if not is_valid:
        bounds = f"of at least {minimum}" if maximum is None else f"from {minimum} to {maximum}"
        raise InvalidRequestError(argument, value, f"expected an int {bounds}")


def check_datetime(argument: str, value: object) -> datetime:
    """Return a datetime that has a time zone."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        rule = "expected a datetime with a time zone, such as datetime.now(UTC)"
        raise InvalidRequestError(argument, value, rule)
    return value


def format_datetime(moment: datetime) -> str:
    """Format a datetime as the reference does: in UTC, truncated to whole seconds so that a filter misses nothing."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_encodable(argument: str, value: str) -> str:
    if not is_encodable(value):
        raise InvalidRequestError(argument, value, ENCODABLE_RULE)
    return value


def _check_address(argument: str, value: str) -> None:
    try:
        ip_address(value)
    except ValueError as error:
        raise InvalidRequestError(argument, value, "expected an IP address, such as '192.168.0.12'") from error


def _as_sequence(argument: str, values: str | Sequence[str] | None) -> Sequence[str]:
    if values is None:
        return ()
    if isinstance(values, str):
        return (values,)
    if not isinstance(values, Sequence):
        raise InvalidRequestError(argument, values, "expected a str or a list of str")
    return values
