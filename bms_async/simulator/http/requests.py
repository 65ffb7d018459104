"""What a client asked for, checked by hand: the simulator must be able to disagree with the SDK."""

from typing import Any, Final, NamedTuple

import msgspec

from bms_async.simulator.core.operations import ANY_POWER
from bms_async.simulator.core.refusals import Refusal, bad_request, parameter
from bms_async.simulator.core.servers import Filters, PowerAction

__all__ = [
    "PageRequest",
    "PowerRequest",
    "read_native_wish",
    "read_object",
    "read_page",
    "read_power",
    "read_wish",
    "sort_power",
]

_ACTIONS: Final[dict[str, PowerAction]] = {"os-start": "start", "os-stop": "stop", "reboot": "reboot"}
_MAX_SERVERS: Final = 1000
_DEFAULT_PAGE: Final = 25


class PowerRequest(NamedTuple):
    """A batch that is well formed."""

    action: PowerAction
    server_ids: list[str]


class PageRequest(NamedTuple):
    """A page of a filtered list."""

    filters: Filters
    first: int
    most: int


def read_object(body: bytes) -> dict[str, Any] | None:
    """The object that a body holds, if it does."""
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    return content if isinstance(content, dict) else None


def sort_power(content: dict[str, Any] | None) -> str:
    """Return the power operation that a body names; a gateway does not check more."""
    named = [action for key, action in _ACTIONS.items() if key in (content or ())]
    return f"servers.{named[0]}" if len(named) == 1 else ANY_POWER


def read_wish(content: dict[str, Any] | None, key: str) -> dict[str, Any]:
    """The object under the one key that a BMS body must have.

    Raises:
        Refusal: There is none.
    """
    wish = None if content is None else content.get(key)
    if not isinstance(wish, dict):
        raise Refusal(400, "BMS.0001", f"The body must be a JSON object that holds {key}, an object.")
    return wish


def read_native_wish(content: dict[str, Any] | None, key: str) -> dict[str, Any]:
    """The object under the one key that a native body must have.

    Raises:
        Refusal: There is none.
    """
    wish = None if content is None else content.get(key)
    if not isinstance(wish, dict):
        raise bad_request(f"The body must be a JSON object that holds {key}, an object.")
    return wish


def read_power(content: dict[str, Any] | None) -> PowerRequest:
    """Check a batch (API reference 4.4.3 to 4.4.5).

    Raises:
        Refusal: It is not one.
    """
    if content is None:
        raise Refusal(400, "BMS.0001", "The body is not a JSON object.")
    if len(content) != 1 or not content.keys() <= _ACTIONS.keys():
        raise Refusal(400, "BMS.0001", "The body must hold one of os-start, os-stop and reboot.")
    key, wish = next(iter(content.items()))
    if not isinstance(wish, dict):
        raise Refusal(400, "BMS.0001", f"{key} must be an object.")
    kind = wish.get("type", None if key == "reboot" else "HARD")
    if kind != "HARD":
        raise parameter(f"type must be HARD, not {kind!r}.")
    return PowerRequest(_ACTIONS[key], _read_ids(wish.get("servers")))


def _read_ids(servers: object) -> list[str]:
    if not isinstance(servers, list) or not 1 <= len(servers) <= _MAX_SERVERS:
        raise parameter(f"servers must be a list of 1 to {_MAX_SERVERS}.")
    ids = [server.get("id") if isinstance(server, dict) else None for server in servers]
    named = [each for each in ids if isinstance(each, str)]
    if len(named) != len(ids):
        raise parameter("every server must be an object with an id.")
    if len(set(named)) != len(named):
        raise parameter("a server is named twice.")
    return named


def read_page(query: dict[str, str], *, cap: int = _MAX_SERVERS) -> PageRequest:
    """Check what a list is asked for (API reference 4.3.2); `offset` counts pages from 1.

    Args:
        query: What is asked for.
        cap: Servers a page at most, whatever is asked for.

    Raises:
        Refusal: A number is none, or is out of its range.
    """
    most = min(_read_number(query, "limit", _DEFAULT_PAGE, _MAX_SERVERS), cap)
    page = _read_number(query, "offset", 1, None)
    filters = Filters(**{name: query[name] for name in Filters._fields if query.get(name)})
    return PageRequest(filters, (page - 1) * most, most)


def _read_number(query: dict[str, str], name: str, default: int, most: int | None) -> int:
    text = query.get(name)
    if text is None:
        return default
    digits = text.isascii() and text.isdecimal() and len(text) <= len(str(2**63))
    number = int(text) if digits else 0
    if number < 1 or (most is not None and number > most):
        raise parameter(f"{name} must be a number from 1" + (f" to {most}." if most else "."))
    return number
