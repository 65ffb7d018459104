"""How many servers are not as asked in each zone, of each flavor and with each tag. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Final, NamedTuple

from bms_async import FleetReport
from bms_async.cli.access.known import KnownServer, KnownServers

from .reasons import printable

__all__ = ["SHOWN", "Share", "Shares", "shares_of"]

SHOWN: Final = 12
"""How many values of each kind are shown, those with the most servers that are not as asked first."""
_MAX_KEPT: Final = 10_000
_MAX_NAME: Final = 64


class Share(NamedTuple):
    """A zone, a flavor or a tag.

    Attributes:
        name: Its name; empty for servers of which it is not known.
        bad: How many of its servers are not as asked.
        servers: How many servers it has in the run.
    """

    name: str
    bad: int
    servers: int

    @property
    def share(self) -> float:
        """The part of its servers that is not as asked."""
        return self.bad / max(1, self.servers)


class Shares(NamedTuple):
    """All zones, flavors or tags.

    Attributes:
        kind: What they are, such as ``zone``.
        rows: Those that are shown.
        left_out: How many are not.
        bad_left_out: How many servers of these are not as asked.
        overlaps: Whether a server is in several rows.
    """

    kind: str
    rows: Sequence[Share]
    left_out: int
    bad_left_out: int
    overlaps: bool


_KINDS: Final[dict[str, Callable[[KnownServer], Iterable[str]]]] = {
    "zone": lambda server: (server.zone,),
    "tag": lambda server: server.tags or ("",),
    "flavor": lambda server: (server.flavor,),
}


def shares_of(report: FleetReport, known: KnownServers) -> list[Shares]:
    """Return the zones, tags and flavors of the servers, for each kind of which there is more than one.

    Args:
        report: The report of the run.
        known: What is known of the servers.
    """
    if not len(known) or all(outcome_state.is_success or not count for outcome_state, count in report.by_state.items()):
        return []
    servers = {kind: Counter[str]() for kind in _KINDS}
    bad = {kind: Counter[str]() for kind in _KINDS}
    for outcome in report.outcomes:
        server, is_bad = known.get(outcome.server_id), not outcome.state.is_success
        for kind, read in _KINDS.items():
            for name in read(server):
                if name in servers[kind] or len(servers[kind]) < _MAX_KEPT:
                    servers[kind][name] += 1
                    if is_bad:
                        bad[kind][name] += 1
    for kind in _KINDS:
        # What all servers share says nothing.
        servers[kind] = Counter({name: count for name, count in servers[kind].items() if count < len(report)})
    return [_shares(kind, servers[kind], bad[kind], len(report)) for kind in _KINDS if _is_worth(servers[kind])]


def _is_worth(counts: Counter[str]) -> bool:
    return len(counts) > 1 and any(counts[name] for name in counts if name)


def _shares(kind: str, servers: Counter[str], bad: Counter[str], total: int) -> Shares:
    ranked = sorted(servers, key=lambda name: (-bad[name], -bad[name] / servers[name], name))
    rows = [Share(printable(name, _MAX_NAME), bad[name], servers[name]) for name in ranked[:SHOWN]]
    return Shares(
        kind, rows, len(ranked) - len(rows), sum(bad[name] for name in ranked[SHOWN:]), servers.total() > total
    )
