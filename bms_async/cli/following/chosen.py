"""What a plan says of the servers themselves: how they are, where they are, and which they are."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final, NamedTuple

import anyio.lowlevel
import msgspec

from bms_async.cli.access.known import KnownServer
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.output import write_aside
from bms_async.cli.terminal.rows import RowWriter, Table, write_record
from bms_async.cli.terminal.texts import strip_control_chars

if TYPE_CHECKING:
    from bms_async.cli.access.cloud import OpenClient

__all__ = ["Chosen", "look_at", "write_planned"]

_FIRST: Final = 10
_MOST_KINDS: Final = 8
_AT_ONCE: Final = 500

_DONE: Final[Mapping[str, str]] = {"start": "ACTIVE", "stop": "SHUTOFF"}
"""The status that an action leads to, in which there is nothing to do for a server."""


class Chosen(NamedTuple):
    """What is known of the servers of a plan.

    Attributes:
        statuses: How many have each status; ``unknown`` of those that are not known.
        zones: How many are in each availability zone.
        done: The status in which there is nothing to do; empty if there always is.
        missing: Those that the cloud says it does not have.
        first: The first servers, for people.
        ids: All of them.
    """

    statuses: Mapping[str, int]
    zones: Mapping[str, int]
    done: str
    missing: Sequence[str]
    first: Sequence[str]
    ids: Sequence[str]

    @property
    def fields(self) -> dict[str, object]:
        """What is said of them in JSON."""
        fields: dict[str, object] = {"by_status": self.statuses, "by_zone": self.zones}
        if self.done:
            fields["already"] = self.statuses.get(self.done, 0)
        return fields | {"missing": len(self.missing)}

    @property
    def lines(self) -> list[str]:
        """What is said of them to people."""
        lines = [f"by status: {_counted(self.statuses)}", f"by zone: {_counted(self.zones)}"]
        already = self.statuses.get(self.done, 0)
        if already:
            verb = "is" if already == 1 else "are"
            which = "it" if already == 1 else "them"
            lines[0] += f"; {already:,} {verb} {self.done} already: nothing to do for {which}"
        if self.missing:
            some = ", ".join(self.missing[:_FIRST]) + (", ..." if len(self.missing) > _FIRST else "")
            lines.append(f"the cloud does not have {len(self.missing):,} of these: {some}")
        lines += [f"  {line}" for line in self.first]
        if len(self.ids) > len(self.first):
            lines.append(f"  and {len(self.ids) - len(self.first):,} more")
        return [strip_control_chars(line) for line in lines]


async def look_at(cloud: OpenClient, action: str, ids: Sequence[str], missing: Sequence[str] = ()) -> Chosen:
    """Return what is known of the servers of a plan; nothing is read.

    Args:
        cloud: The client.
        action: What is to be done to them, in a word.
        ids: The servers.
        missing: Those that the cloud says it does not have.
    """
    statuses, zones = Counter[str](), Counter[str]()
    for start in range(0, len(ids), _AT_ONCE):
        some = [cloud.known.get(server_id) for server_id in ids[start : start + _AT_ONCE]]
        statuses.update([known.status or "unknown" for known in some])
        zones.update([known.zone or "unknown" for known in some])
        await anyio.lowlevel.checkpoint()
    first: list[str] = []
    for server_id in ids[:_FIRST]:
        known = cloud.known.get(server_id)
        first.append("   ".join(part for part in (cloud.known.label(server_id), known.status, known.zone) if part))
    order = dict(statuses.most_common()), dict(zones.most_common())
    return Chosen(*order, _DONE.get(action, ""), missing, first, ids)


class _Planned(NamedTuple):
    id: str
    known: KnownServer
    is_missing: bool

    def fields(self) -> dict[str, object]:
        fields: dict[str, object] = {"type": "server", "id": self.id}
        fields |= {name: value for name, value in msgspec.structs.asdict(self.known).items() if value}
        return fields | ({"missing": True} if self.is_missing else {})


_TABLE: Final = Table[_Planned](
    columns={
        "id": lambda server: server.id,
        "name": lambda server: server.known.name,
        "status": lambda server: server.known.status,
        "zone": lambda server: server.known.zone,
        "flavor": lambda server: server.known.flavor,
        "tags": lambda server: server.known.tags,
    },
    usual=("id", "name", "status", "zone"),
    ids=lambda server: server.id,
    fields=_Planned.fields,
)


async def write_planned(
    plan: Mapping[str, object], cloud: OpenClient, chosen: Chosen | None, output: OutputOptions
) -> None:
    """Write a plan in a form that was asked for: the plan itself where there are objects, then each of its servers.

    Args:
        plan: What is said of the plan.
        cloud: The client.
        chosen: What is known of its servers; None where they are not known.
        output: The form.
    """
    if chosen is None:
        write_record(plan, output)
        return
    pending: list[str] = []
    rows = RowWriter(_TABLE, output, out=pending.append)
    rows.add_object({**plan, **chosen.fields})
    absent = frozenset(chosen.missing)
    for index, server_id in enumerate(chosen.ids, 1):
        rows.add(_Planned(server_id, cloud.known.get(server_id), server_id in absent))
        if index % _AT_ONCE == 0:
            await write_aside("".join(pending))
            pending.clear()
            await anyio.lowlevel.checkpoint()
    for _ in rows.rest():
        await write_aside("".join(pending))
        pending.clear()


def _counted(counts: Mapping[str, int]) -> str:
    shown = [f"{count:,} {name}" for name, count in list(counts.items())[:_MOST_KINDS]]
    if len(counts) > _MOST_KINDS:
        shown.append(f"{sum(list(counts.values())[_MOST_KINDS:]):,} others")
    return ", ".join(shown)
