"""Filters of the server list as they are typed: what is sent to the cloud of them, and what is looked at here.

The cloud filters by one tag, one status, one flavor and one name at a time. Several values of a kind are several lists,
as long as these are few; whatever else was typed is looked at in the servers that come, and so is all of it once more.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Final, NamedTuple, TypedDict

import msgspec

from bms_async import Server
from bms_async.api.bms.server_ids import ShortServer
from bms_async.cli.terminal.exit import UsageError
from bms_async.cli.terminal.texts import strip_control_chars

__all__ = [
    "ALL_PROJECTS",
    "FilterArguments",
    "Filters",
    "Query",
    "SelectionArguments",
    "Split",
    "make_filters",
    "may_match",
    "split",
]

_MAX_LISTS = 8
"""Lists that one command reads; more values of a kind are looked at here."""

ALL_PROJECTS: Final = "all_granted_eps"
"""What stands for all enterprise projects."""

_PATTERN: Final = re.compile(r"[\\^$|?*+()\[\]{}%]")
"""What only a pattern has."""


class FilterArguments(TypedDict):
    """The filters, as click has read them."""

    tag: Sequence[str]
    tag_any: Sequence[str]
    not_tag: Sequence[str]
    zone: Sequence[str]
    name: Sequence[str]
    status: Sequence[str]
    flavor: Sequence[str]
    enterprise_project: str | None
    allow_unknown: bool


class SelectionArguments(FilterArguments):
    """What else chooses servers, as click has read it."""

    excluded: Sequence[str]
    fail_if_none: bool


class Query(TypedDict):
    """What one list is filtered by."""

    tags: str | None
    name: str | None
    status: str | None
    flavor: str | None
    enterprise_project_id: str | None


class Filters(msgspec.Struct, frozen=True, kw_only=True):
    """Filters of the server list; it is false where nothing is filtered, and its text is for people.

    Attributes:
        tags: Tags that a server has all of.
        any_tags: Tags that it has at least one of.
        not_tags: Tags that it has none of.
        zones: Availability zones that it is in one of.
        names: Names that one of matches its own, as the cloud does it.
        statuses: Statuses that it has one of.
        flavors: Flavors, by id or name, that it is of one of.
        enterprise_project: Its enterprise project.
        allow_unknown: Whether words that no server has are no mistake.
    """

    tags: tuple[str, ...] = ()
    any_tags: tuple[str, ...] = ()
    not_tags: tuple[str, ...] = ()
    zones: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    statuses: tuple[str, ...] = ()
    flavors: tuple[str, ...] = ()
    enterprise_project: str | None = None
    allow_unknown: bool = False

    def __bool__(self) -> bool:
        return any(self._parts())

    def __str__(self) -> str:
        return strip_control_chars(" and ".join(self._parts()))

    def fits(self, server: Server | ShortServer) -> bool:
        """Return whether a server is one of these.

        How names are compared is the cloud's to say: one that is surely none of these does not fit.

        Args:
            server: A server of the list.
        """
        tags, flavor = frozenset(server.tags or ()), server.flavor
        return (
            tags.issuperset(self.tags)
            and (not self.any_tags or not tags.isdisjoint(self.any_tags))
            and tags.isdisjoint(self.not_tags)
            and (not self.zones or server.availability_zone in self.zones)
            and (not self.statuses or str(server.status or "").upper() in self.statuses)
            and (not self.flavors or (flavor is not None and not {flavor.id, flavor.name}.isdisjoint(self.flavors)))
            and (not self.names or any(may_match(name, server.name or "") for name in self.names))
            and self.enterprise_project in {None, ALL_PROJECTS, server.enterprise_project_id or self.enterprise_project}
        )

    def _parts(self) -> Iterator[str]:
        if self.tags:
            yield f"tag {' and '.join(self.tags)}"
        for noun, values in (("tag", self.any_tags), ("name", self.names), ("status", self.statuses),
                             ("flavor", self.flavors), ("zone", self.zones)):  # fmt: skip
            if values:
                yield f"{noun} {' or '.join(values)}"
        if self.not_tags:
            yield f"no tag {' or '.join(self.not_tags)}"
        if self.enterprise_project:
            yield f"enterprise project {self.enterprise_project}"


class Split(NamedTuple):
    """What is asked of the cloud, and what is left to be looked at.

    Attributes:
        queries: What each of the lists is filtered by.
        rest: What is left.
    """

    queries: Sequence[Query]
    rest: Filters


def make_filters(typed: FilterArguments) -> Filters:
    """Return the filters that were typed.

    Args:
        typed: As click has read them.

    Raises:
        UsageError: One of them is empty, or a tag has a comma.
    """
    project = typed["enterprise_project"]
    spelled: Mapping[str, Sequence[str]] = {
        "--tag": typed["tag"],
        "--tag-any": typed["tag_any"],
        "--not-tag": typed["not_tag"],
        "--zone": typed["zone"],
        "--name": typed["name"],
        "--status": typed["status"],
        "--flavor": typed["flavor"],
        "--enterprise-project": () if project is None else (project,),
    }
    for option, values in spelled.items():
        for value in values:
            # An empty filter matches all servers: an unset variable of a script must not stop every one.
            if not value.strip(" ,\t\r\n"):
                raise UsageError(f"{option} is empty: expected a value; give one, or leave the option out")
            if "tag" in option and "," in value:
                each = " ".join(f"{option} {tag.strip()}" for tag in value.split(",") if tag.strip())
                raise UsageError(f"{option} {value}: a tag has no comma; repeat the option: {each}")
    return Filters(
        tags=_distinct(typed["tag"]),
        any_tags=_distinct(typed["tag_any"]),
        not_tags=_distinct(typed["not_tag"]),
        zones=_distinct(typed["zone"]),
        names=_distinct(typed["name"]),
        statuses=_distinct([_read_status(status) for status in typed["status"]]),
        flavors=_distinct(typed["flavor"]),
        enterprise_project=project,
        allow_unknown=typed["allow_unknown"],
    )


def split(filters: Filters, *, by_flavor: bool = True) -> Split:
    """Return what is sent to the cloud of filters, and what is left to be looked at here.

    Args:
        filters: The filters.
        by_flavor: Whether flavors are sent, which the cloud knows by their ids alone.
    """
    rest = msgspec.structs.replace(filters, names=(), enterprise_project=None)
    names, lists = filters.names or (None,), max(1, len(filters.names))
    tags: Sequence[str | None] = (None,)
    if filters.tags:
        tags, rest = filters.tags[:1], msgspec.structs.replace(rest, tags=filters.tags[1:])
    statuses: Sequence[str | None] = (None,)
    if filters.statuses and lists * len(filters.statuses) <= _MAX_LISTS:
        statuses, rest = filters.statuses, msgspec.structs.replace(rest, statuses=())
        lists *= len(statuses)
    flavors: Sequence[str | None] = (None,)
    if by_flavor and filters.flavors and lists * len(filters.flavors) <= _MAX_LISTS:
        flavors, rest = filters.flavors, msgspec.structs.replace(rest, flavors=())
        lists *= len(flavors)
    if not filters.tags and filters.any_tags and lists * len(filters.any_tags) <= _MAX_LISTS:
        tags, rest = filters.any_tags, msgspec.structs.replace(rest, any_tags=())
    queries: list[Query] = [
        {
            "tags": tag,
            "name": name,
            "status": status,
            "flavor": flavor,
            "enterprise_project_id": filters.enterprise_project,
        }
        for tag, name, status, flavor in product(tags, names, statuses, flavors)
    ]
    return Split(queries, rest)


def may_match(wanted: str, name: str) -> bool:
    """Return whether a cloud may find a name by what was typed, which it may take for a regular expression.

    Args:
        wanted: What was typed.
        name: The name.
    """
    if _PATTERN.search(wanted):
        return True
    typed, there = _folded(wanted), _folded(name)
    return typed in there or re.search(re.escape(typed).replace("_", ".").replace(r"\.", "."), there) is not None


def _folded(text: str) -> str:
    """Return a text without case and accents, which databases do not tell apart."""
    return "".join(char for char in unicodedata.normalize("NFKD", text) if not unicodedata.combining(char)).casefold()


def _distinct(values: Sequence[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(values))


def _read_status(typed: str) -> str:
    """Return a status as the cloud spells it."""
    return re.sub(r"[\s-]+", "_", typed.strip()).upper()
