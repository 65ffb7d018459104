"""What a client asked for, checked by hand: the simulator must be able to disagree with the SDK."""

from typing import Any, Final, NamedTuple

import msgspec

from bms_async.simulator.refusals import Refusal
from bms_async.simulator.settings import ANY_POWER
from bms_async.simulator.state import Action, Filters

__all__ = ["PageRequest", "PowerRequest", "read_page", "read_power", "sort_power"]

_ACTIONS: Final[dict[str, Action]] = {"os-start": "start", "os-stop": "stop", "reboot": "reboot"}
_MOST: Final = 1000
_DEFAULT_PAGE: Final = 25


class PowerRequest(NamedTuple):
    """A batch that is well formed."""

    action: Action
    server_ids: list[str]


class PageRequest(NamedTuple):
    """A page of a filtered list."""

    filters: Filters
    first: int
    most: int


def sort_power(body: bytes) -> tuple[str, dict[str, Any] | None]:
    """Which operation a body asks for, as far as a gateway can tell, and the body read."""
    try:
        content = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ANY_POWER, None
    if not isinstance(content, dict):
        return ANY_POWER, None
    named = [action for key, action in _ACTIONS.items() if key in content]
    return f"servers.{named[0]}" if len(named) == 1 else ANY_POWER, content


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
        raise _invalid(f"type must be HARD, not {kind!r}.")
    return PowerRequest(_ACTIONS[key], _read_ids(wish.get("servers")))


def _read_ids(servers: object) -> list[str]:
    if not isinstance(servers, list) or not 1 <= len(servers) <= _MOST:
        raise _invalid(f"servers must be a list of 1 to {_MOST}.")
    ids = [server.get("id") if isinstance(server, dict) else None for server in servers]
    named = [each for each in ids if isinstance(each, str)]
    if len(named) != len(ids):
        raise _invalid("every server must be an object with an id.")
    if len(set(named)) != len(named):
        raise _invalid("a server is named twice.")
    return named


def read_page(query: dict[str, str]) -> PageRequest:
    """Check what a list is asked for (API reference 4.3.2); `offset` counts pages from 1.

    Raises:
        Refusal: A number is none, or is out of its range.
    """
    most = _read_number(query, "limit", _DEFAULT_PAGE, _MOST)
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
        raise _invalid(f"{name} must be a number from 1" + (f" to {most}." if most else "."))
    return number


def _invalid(why: str) -> Refusal:
    return Refusal(400, "BMS.0018", f"A parameter cannot be used: {why}")
