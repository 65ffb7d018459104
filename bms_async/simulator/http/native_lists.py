"""The native lists: filters, orders and pages (API reference 5.2.4)."""

import re
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

import anyio.lowlevel
from starlette.datastructures import QueryParams

from bms_async.simulator.core.attributes import (
    CREATED,
    IMAGE,
    Attributes,
    flavor_of,
    name_of,
    reservation_of,
    tags_of,
    zone_of,
)
from bms_async.simulator.core.cloud import Cloud
from bms_async.simulator.core.refusals import bad_request, native
from bms_async.simulator.core.servers import Server
from bms_async.simulator.http.microversions import TAGS, Microversion

__all__ = ["find_machines"]

_MAX_PAGE: Final = 1000
_YIELD_EVERY: Final = 2000

_Test = Callable[[Server, Attributes | None], bool]
_Key = Callable[[Server, Attributes | None], Any]


class _Wish(NamedTuple):
    tests: list[_Test]
    orders: Sequence[tuple[_Key, bool]] = ()
    oldest_first: bool = False
    most: int = _MAX_PAGE
    marker: str | None = None
    deleted: bool | None = False


async def find_machines(cloud: Cloud, query: QueryParams, version: Microversion) -> tuple[list[Server], bool]:
    """One page of all machines that match, and whether there are more.

    Raises:
        Refusal: A parameter cannot be used.
    """
    wish = _read(cloud, query, version)
    most = min(wish.most, cloud.settings.page_cap)
    await cloud.settle()
    rows = cloud.machines()
    # In the order of creation, one page is enough; any other order needs all rows.
    inline = iter(rows) if wish.oldest_first else reversed(rows)
    if wish.orders:
        matching = [each async for each in _matching(cloud, inline, wish)]
        inline, wish = iter(await _sort(cloud, matching, wish.orders)), wish._replace(tests=[])
    if wish.marker is not None:
        inline = _after(inline, wish.marker)
    found: list[Server] = []
    async for server in _matching(cloud, inline, wish):
        if len(found) == most:
            return found, True
        found.append(server)
    return found, False


async def _matching(cloud: Cloud, rows: Iterable[Server], wish: _Wish) -> AsyncIterator[Server]:
    tests, deleted = wish.tests, wish.deleted
    for number, server in enumerate(rows, 1):
        if deleted is not None and server.is_deleted is not deleted:
            continue
        extra = cloud.attributes_of(server)
        for test in tests:
            if not test(server, extra):
                break
        else:
            yield server
        if number % _YIELD_EVERY == 0:
            await anyio.lowlevel.checkpoint()


async def _sort(cloud: Cloud, found: list[Server], orders: Sequence[tuple[_Key, bool]]) -> list[Server]:
    # The last key first: sorting keeps what was in order before.
    for key, descending in reversed(orders):
        await anyio.lowlevel.checkpoint()
        found.sort(key=lambda server: key(server, cloud.attributes_of(server)), reverse=descending)
    return found


def _after(rows: Iterator[Server], marker: str) -> Iterator[Server]:
    for server in rows:
        if server.id == marker:
            return rows
    raise bad_request(f"marker [{marker}] not found")


def _read(cloud: Cloud, query: QueryParams, version: Microversion) -> _Wish:
    image = query.get("image")
    if image is not None:
        # By an image alone or not at all: nothing else counts beside it.
        return _Wish([lambda _, extra: image == _image_of(extra)])
    tests = [make(query[name]) for name, make in _TESTS.items() if query.get(name)]
    if version >= TAGS:
        tests += [make(query[name]) for name, make in _TAG_TESTS.items() if query.get(name)]
    if query.get("changes-since"):
        tests.append(_changed_since(cloud, query["changes-since"]))
    orders, oldest_first = _read_orders(cloud, query)
    deleted = _read_deleted(cloud, query)
    return _Wish(tests, orders, oldest_first, _read_limit(query), query.get("marker") or None, deleted)


def _read_deleted(cloud: Cloud, query: QueryParams) -> bool | None:
    """Whether only deleted servers are listed, or none of them; None lists both.

    Changes include the deleted ones, for everyone. The filter `deleted` is for administrators, and ignored for others.
    """
    asks = query.get("status", "").upper() == "DELETED"
    if asks and not cloud.settings.administrator:
        raise native(403, "Only administrators may list deleted instances")
    if not cloud.settings.administrator or "deleted" not in query:
        return True if asks else None if query.get("changes-since") else False
    return asks or query["deleted"].lower() in {"1", "t", "true", "on", "y", "yes"}


def _read_limit(query: QueryParams) -> int:
    text = query.get("limit")
    if text is None:
        return _MAX_PAGE
    if not (text.isascii() and text.isdecimal() and len(text) <= len(str(2**63))):
        raise bad_request(f"limit must be a number: {text}")
    # Nova cuts a limit that is too high, and takes none at all for its own.
    return min(int(text), _MAX_PAGE) or _MAX_PAGE


def _read_orders(cloud: Cloud, query: QueryParams) -> tuple[list[tuple[_Key, bool]], bool]:
    """The keys to sort by and whether downwards; and, where it is the order of their making, whether upwards."""
    names, directions = query.getlist("sort_key"), query.getlist("sort_dir")
    names = names or ["created_at"]
    orders = []
    for index, name in enumerate(names):
        direction = directions[index] if index < len(directions) else directions[0] if directions else "desc"
        key = _key(cloud, name)
        if key is None or direction not in {"asc", "desc"}:
            raise bad_request(f"Cannot sort by {name} {direction}.")
        orders.append((key, direction == "desc"))
    if names == ["created_at"]:
        return [], not orders[0][1]
    return orders, False


def _key(cloud: Cloud, name: str) -> _Key | None:
    if name == "created_at":
        return lambda _, extra: _created(cloud, extra)
    if name == "updated_at":
        return lambda server, extra: _updated(cloud, server, extra)
    return _KEYS.get(name)


def _updated(cloud: Cloud, server: Server, extra: Attributes | None) -> float:
    return _created(cloud, extra) if server.updated is None else server.updated


def _created(cloud: Cloud, extra: Attributes | None) -> float:
    return cloud.born + CREATED if extra is None or extra.birth is None else extra.birth.at


def _image_of(extra: Attributes | None) -> str:
    return IMAGE if extra is None or extra.birth is None else extra.birth.image


def _named(pattern: str) -> _Test:
    try:
        search = re.compile(pattern).search
    except re.error as error:
        raise bad_request(f"name is not a regular expression: {error}") from None
    return lambda server, extra: search(name_of(server, extra)) is not None


def _changed_since(cloud: Cloud, text: str) -> _Test:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise bad_request(f"changes-since is not a time: {text}") from None
    aware = moment if moment.tzinfo else moment.replace(tzinfo=UTC)
    # The database keeps whole seconds, so that what changed later in the same second is found too.
    since, unix = aware.timestamp(), cloud.wall.unix
    # This alone decides for nearly all servers, at half the cost.
    surely_before = cloud.wall.moment(since) - 1.0

    def has_changed(server: Server, extra: Attributes | None) -> bool:
        at = server.updated
        if at is None:
            at = _created(cloud, extra)
        return at >= surely_before and unix(at) >= since

    return has_changed


_TESTS: Final[dict[str, Callable[[str], _Test]]] = {
    "flavor": lambda text: lambda server, extra: flavor_of(server, extra).name == text,
    "name": _named,
    "status": lambda text: lambda server, _: server.status == text.upper(),
}
_TAG_TESTS: Final[dict[str, Callable[[str], _Test]]] = {
    "tags": lambda text: lambda server, extra: {*text.split(",")} <= {*tags_of(server, extra)},
    "not-tags": lambda text: lambda server, extra: not {*text.split(",")} <= {*tags_of(server, extra)},
    "reservation_id": lambda text: lambda server, extra: reservation_of(server, extra) == text,
}
_KEYS: Final[dict[str, _Key]] = {
    "uuid": lambda server, _: server.id,
    "vm_state": lambda server, _: server.vm_state,
    "display_name": name_of,
    "task_state": lambda server, _: server.task_state or "",
    "power_state": lambda server, _: server.power_state,
    "availability_zone": zone_of,
}
