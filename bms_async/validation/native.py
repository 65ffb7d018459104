"""Refusing what the reference does not allow in native OpenStack calls (API reference, chapter 5)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from ipaddress import ip_address

from bms_async.errors import InvalidRequestError
from bms_async.models import Network, ServerStatus
from bms_async.redaction import kind_of

TAGS_MICROVERSION = "2.26"
"""The first microversion that knows tags (API reference 5.10)."""

SERVER_SORT_KEYS = (
    "uuid", "vm_state", "display_name", "task_state", "power_state", "created_at", "updated_at", "availability_zone",
)  # fmt: skip
FLAVOR_SORT_KEYS = ("name", "memory_mb", "vcpus", "root_gb", "flavorid")

_MOST_NETWORKS = 4
_LONGEST_TEXT = 255
_ENCODABLE_RULE = "text that can be written as UTF-8 is wanted"
_KEY_REFUSES = frozenset('`~!@#$%^&*()=+<,>?/";{[]}\\')
_VALUE_REFUSES = frozenset('\\"')
_MICROVERSION = re.compile(r"(\d{1,4})\.(\d{1,4})", re.ASCII)


def check_segment(argument: str, value: object) -> str:
    """Return a part of a path that is one; this is asked for whatever the client's ``check`` says.

    An empty part makes another call of it: removing the tag ``""`` would remove every tag (API reference 5.10.6).
    """
    if not isinstance(value, str) or not value:
        raise InvalidRequestError(argument, value, "a part of the address: a text that is not empty")
    return _check_encodable(argument, value)


def check_text(argument: str, value: object) -> str:
    """Return a text that says something."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidRequestError(argument, value, "a text that is not blank")
    return _check_encodable(argument, value)


def check_new_metadata(argument: str, values: object) -> dict[str, str]:
    """Return the metadata of a new server: keys and values of at most 255 characters (API reference table 5-3).

    A value may be a password, and so is in no error.
    """
    if not isinstance(values, Mapping):
        raise InvalidRequestError(argument, kind_of(values), "a mapping of keys to values is wanted")
    for key, value in values.items():
        check_metadata_lookup(argument, key)
        if not isinstance(value, str) or len(value) > _LONGEST_TEXT:
            raise InvalidRequestError(
                f"{argument}[{key!r}]", None, f"a value is a text of at most {_LONGEST_TEXT} characters"
            )
        if not _is_encodable(value):
            raise InvalidRequestError(f"{argument}[{key!r}]", None, _ENCODABLE_RULE)
    return dict(values)


def check_changed_metadata(argument: str, values: object) -> dict[str, str]:
    """Return metadata to be added or changed, at least one pair (API reference table 5-48).

    A value may be a password, and so is in no error.
    """
    changed = check_new_metadata(argument, values)
    if not changed:
        raise InvalidRequestError(argument, {}, "at least one key is needed")
    for key, value in changed.items():
        if not _KEY_REFUSES.isdisjoint(key):
            raise InvalidRequestError(argument, key, 'a key has none of `~!@#$%^&*()=+<,>?/";{[]}\\')
        if not _VALUE_REFUSES.isdisjoint(value):
            raise InvalidRequestError(f"{argument}[{key!r}]", None, "a value has no backslash and no double quote")
    return changed


def check_metadata_lookup(argument: str, key: object) -> str:
    """Return a key of metadata that there may be: 1 to 255 characters (API reference table 5-11)."""
    if not isinstance(key, str) or not 0 < len(key) <= _LONGEST_TEXT:
        raise InvalidRequestError(argument, key, f"a key has 1 to {_LONGEST_TEXT} characters")
    return _check_encodable(argument, key)


def check_networks(argument: str, values: object) -> tuple[Network, ...]:
    """Return the networks of a new server, 1 to 4, each with what identifies it (API reference 5.2.1, table 5-5)."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise InvalidRequestError(argument, values, "a list of Network is wanted")
    if not 0 < len(values) <= _MOST_NETWORKS:
        raise InvalidRequestError(argument, f"{len(values)} networks", f"a server has 1 to {_MOST_NETWORKS} networks")
    for position, network in enumerate(values):
        place = f"{argument}[{position}]"
        if not isinstance(network, Network):
            raise InvalidRequestError(place, network, "a Network is wanted, such as Network(uuid=...)")
        for name in ("port", "uuid", "fixed_ip"):
            if getattr(network, name) is not None:
                check_text(f"{place}.{name}", getattr(network, name))
        if network.port is None and network.uuid is None:
            raise InvalidRequestError(place, network, "a port or the uuid of a network is needed")
        if network.fixed_ip is not None:
            if network.uuid is None:
                raise InvalidRequestError(place, network, "fixed_ip needs the uuid of its network")
            _check_address(f"{place}.fixed_ip", network.fixed_ip)
    return tuple(values)


def check_security_groups(argument: str, values: object) -> tuple[str, ...]:
    """Return the names of a new server's security groups: at most one (API reference table 5-2)."""
    if not isinstance(values, Sequence) or isinstance(values, str):
        raise InvalidRequestError(argument, values, "a list of names is wanted")
    if len(values) > 1:
        raise InvalidRequestError(argument, f"{len(values)} names", "a new server takes one security group at most")
    return tuple(check_text(f"{argument}[{position}]", name) for position, name in enumerate(values))


def check_availability_zone(argument: str, value: object) -> str:
    """Return an availability zone, without a host in it (API reference table 5-2)."""
    zone = check_text(argument, value)
    if ":" in zone:
        raise InvalidRequestError(argument, value, "a zone alone: a host in it is not allowed")
    return zone


def check_status(argument: str, value: object) -> str:
    """Return a documented status of a server (API reference table 5-11)."""
    documented = {status.value for status in ServerStatus}
    if not isinstance(value, str) or str(value) not in documented:
        raise InvalidRequestError(argument, value, f"one of {', '.join(sorted(documented))}")
    return str(value)


def check_sorting(
    keys: str | Sequence[str] | None, directions: str | Sequence[str] | None, *, allowed: Sequence[str]
) -> None:
    """Refuse an order that is not documented: unknown keys, directions that are none, or more of them than keys."""
    given = _many("sort_key", keys)
    for key in given:
        if key not in allowed:
            raise InvalidRequestError("sort_key", key, f"one of {', '.join(allowed)}")
    ways = _many("sort_dir", directions)
    for way in ways:
        if way not in {"asc", "desc"}:
            raise InvalidRequestError("sort_dir", way, "'asc' or 'desc'")
    # A direction alone is for the key that the cloud sorts by without one.
    if len(ways) > max(1, len(given)):
        raise InvalidRequestError("sort_dir", directions, "no more directions than keys")


def check_microversion(argument: str, value: object, *, at_least: str | None = None) -> str:
    """Return a microversion such as ``2.26``, or ``latest``.

    Args:
        argument: The argument's name.
        value: What was given.
        at_least: The first one that knows what is asked for; an earlier one would leave a filter out without a word.
    """
    found = _MICROVERSION.fullmatch(value) if isinstance(value, str) else None
    if not isinstance(value, str) or (found is None and value != "latest"):
        raise InvalidRequestError(argument, value, "a microversion such as '2.26', or 'latest'")
    if found and at_least is not None:
        least = tuple(int(part) for part in at_least.split("."))
        if (int(found[1]), int(found[2])) < least:
            raise InvalidRequestError(argument, value, f"what is asked for needs {at_least} or later")
    return value


def check_int(argument: str, value: object, *, minimum: int, maximum: int | None = None) -> None:
    """Refuse what is not a whole number within bounds."""
    fits = type(value) is int and minimum <= value and (maximum is None or value <= maximum)
    if not fits:
        bounds = f"at minimum {minimum}" if maximum is None else f"{minimum} to {maximum}"
        raise InvalidRequestError(argument, value, f"a whole number, {bounds}")


def check_datetime(argument: str, value: object) -> datetime:
    """Return a moment that knows its zone."""
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise InvalidRequestError(argument, value, "a datetime with its zone, such as datetime.now(UTC)")
    return value


def format_datetime(moment: datetime) -> str:
    """Write a moment as the reference does, in UTC and whole seconds: a part of one is left off, to miss nothing."""
    if moment.tzinfo is not None:
        moment = moment.astimezone(UTC)
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")


def _check_encodable(argument: str, value: str) -> str:
    if not _is_encodable(value):
        raise InvalidRequestError(argument, value, _ENCODABLE_RULE)
    return value


def _is_encodable(value: str) -> bool:
    # Encoding it would tell as well, but with an error that carries the text, which may be a secret.
    return not any("\ud800" <= character <= "\udfff" for character in value)


def _check_address(argument: str, value: str) -> None:
    try:
        ip_address(value)
    except ValueError as error:
        raise InvalidRequestError(argument, value, "an IP address, such as '192.168.0.12'") from error


def _many(argument: str, values: str | Sequence[str] | None) -> Sequence[str]:
    if values is None:
        return ()
    if isinstance(values, str):
        return (values,)
    if not isinstance(values, Sequence):
        raise InvalidRequestError(argument, values, "a text, or a list of texts")
    return values
