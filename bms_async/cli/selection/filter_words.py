"""The kinds of words that servers are chosen by, which words of each a server has, and what may be meant by another.

Pure, but for how long a search among thousands of words takes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final, NamedTuple, TypeAlias

from bms_async import Server, ServerStatus
from bms_async.api.bms.server_ids import ShortServer

from .filters import Query, may_match

__all__ = [
    "ANY",
    "FLAVOR",
    "NAME",
    "NOT",
    "PROJECT",
    "SAYING",
    "STATUS",
    "TAG",
    "ZONE",
    "Kind",
    "Listed",
    "WordsOf",
    "find_meant",
    "tags_of",
]

_MEANT: Final[Mapping[str, str]] = {
    **dict.fromkeys(("ON", "RUNNING", "UP", "STARTED", "POWERED_ON", "OK", "ONLINE"), "ACTIVE"),
    **dict.fromkeys(("OFF", "STOPPED", "DOWN", "SHUTDOWN", "SHUT_OFF", "POWERED_OFF", "OFFLINE", "HALTED"), "SHUTOFF"),
    **dict.fromkeys(("FAILED", "FAULTY", "BROKEN", "FAIL"), "ERROR"),
    **dict.fromkeys(("BUILDING", "CREATING", "NEW"), "BUILD"),
    **dict.fromkeys(("REBOOTING", "RESTARTING", "RESTART"), "REBOOT"),
}
"""What people call the statuses."""

Listed: TypeAlias = Server | ShortServer
WordsOf: TypeAlias = Callable[[Listed, Query], Iterable[str | None]]
"""Returns which words of a kind a server has, given what the cloud was asked for."""


class Kind(NamedTuple):
    """A kind of words.

    Attributes:
        option: The option that they are typed after.
        lacks: What is true of no server, for people.
        field: What the list of the cloud is filtered by; empty if it cannot be.
        words: Returns which of them a server has.
    """

    option: str
    lacks: str
    field: str
    words: WordsOf


def tags_of(server: Listed, _query: Query) -> Iterable[str]:
    """Return the tags of a server, whatever was asked for."""
    return server.tags or ()


def _flavors(server: Listed, _query: Query) -> Iterable[str | None]:
    return (server.flavor.id, server.flavor.name) if server.flavor else ()


def _statuses(server: Listed, _query: Query) -> Iterable[str]:
    return (str(server.status).upper(),) if server.status else ()


def _zones(server: Listed, _query: Query) -> Iterable[str | None]:
    return (server.availability_zone,)


def _names(server: Listed, query: Query) -> Iterable[str | None]:
    # How names are matched is known to the cloud alone.
    name = query["name"]
    return (name,) if name is not None and may_match(name, server.name or "") else ()


def _projects(server: Listed, query: Query) -> Iterable[str | None]:
    asked = query["enterprise_project_id"]
    return (asked,) if server.enterprise_project_id in {None, "", asked} else ()


PROJECT: Final = Kind(
    "--enterprise-project", "no server is in this enterprise project", "enterprise_project_id", _projects
)
TAG: Final = Kind("--tag", "no server has this tag", "tags", tags_of)
ANY: Final = TAG._replace(option="--tag-any")
NOT: Final = TAG._replace(option="--not-tag")
ZONE: Final = Kind("--zone", "no server is in this zone", "", _zones)
NAME: Final = Kind("--name", "no server has a name that it matches", "name", _names)
STATUS: Final = Kind("--status", "no server has this status", "status", _statuses)
# The cloud knows a flavor by its id, and people by its name.
FLAVOR: Final = Kind("--flavor", "no server is of this flavor", "", _flavors)
SAYING: Final = (tags_of, _zones, _flavors, _statuses)
"""Words of these kinds say what may be meant by another."""


def find_meant(kind: Kind, word: str, seen: Collection[str]) -> str | None:
    """Return what may be meant by a word; None if nothing is like it.

    Args:
        kind: Its kind.
        word: The word.
        seen: What servers have of that kind.
    """
    from difflib import get_close_matches

    statuses = ServerStatus.__members__ if kind is STATUS else ()
    if kind is STATUS and word in _MEANT:
        return _MEANT[word]
    folded = {known.casefold(): known for known in sorted({*seen, *statuses}, reverse=True)}
    return next((folded[each] for each in get_close_matches(word.casefold(), folded, n=1, cutoff=0.7)), None)
