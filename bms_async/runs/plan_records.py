"""The servers of a rollout as the journal has them: in the order in which they may go, with their groups."""

from __future__ import annotations

import zlib
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence

import anyio.lowlevel
import msgspec

from bms_async.errors import JournalError
from bms_async.fleet.rollout.standing import RolloutStanding
from bms_async.fleet.tracker import YIELD_EVERY
from bms_async.journal import COPY_ADVICE, Journal, KeptPlan, NewPlan, pack_ids, unpack_ids
from bms_async.journal.transactions.plans import read_plan

SERVERS_A_PART = 10_000
"""Servers of a part of a plan: to pack or unpack one takes some milliseconds."""

_LEVEL = 1


class _Groups(msgspec.Struct, frozen=True, array_like=True):
    names: list[str]
    at: list[int]


class KeptStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How far a rollout is, as whoever carries it out has written it down.

    Attributes:
        standing: How far it is.
        closed: Why nothing may begin at the moment, whatever the standing; None if something may.
    """

    standing: RolloutStanding
    closed: str | None = None

    def encode(self) -> bytes:
        """Return it as JSON."""
        return msgspec.json.encode(self)


def decode_standing(data: bytes | None) -> KeptStanding | None:
    """Return what `KeptStanding.encode` encoded; None for what another version has, which is but a word on progress."""
    if data is None:
        return None
    try:
        return msgspec.json.decode(data, type=KeptStanding)
    except msgspec.DecodeError:
        return None


def pack_plan(servers: Sequence[tuple[str, str]]) -> list[NewPlan]:
    """Return a plan in parts.

    Args:
        servers: Each server and its group, in the order in which they may go.
    """
    return [_pack_part(servers[at : at + SERVERS_A_PART]) for at in range(0, len(servers), SERVERS_A_PART)]


def unpack_part(part: KeptPlan) -> Iterator[tuple[str, str]]:
    """Iterate over the servers of a part, and their groups.

    Raises:
        JournalError: It is not what this version writes.
    """
    ids = unpack_ids(part.ids)
    try:
        groups = msgspec.msgpack.decode(zlib.decompress(part.details), type=_Groups)
    except (zlib.error, msgspec.DecodeError) as error:
        raise JournalError(
            f"a plan in the journal: expected what this version writes, got {error}; update bms_async here, "
            f"{COPY_ADVICE}"
        ) from error
    return ((server_id, groups.names[at]) for server_id, at in zip(ids, groups.at, strict=True))


async def read_servers(journal: Journal, run: str) -> AsyncIterator[tuple[str, str]]:
    """Iterate over the servers of a run's plan and their groups, in the order in which they may go.

    Args:
        journal: The journal, open.
        run: The run's id.

    Raises:
        JournalError: The plan cannot be read.
    """
    after = -1
    while (part := await journal.run(read_plan, run, after, writes=False)) is not None:
        after = part.number
        for index, server in enumerate(unpack_part(part), 1):
            yield server
            if index % YIELD_EVERY == 0:
                await anyio.lowlevel.checkpoint()


def _pack_part(servers: Iterable[tuple[str, str]]) -> NewPlan:
    ids, at = [], []
    places: dict[str, int] = {}
    for server_id, group in servers:
        ids.append(server_id)
        at.append(places.setdefault(group, len(places)))
    details = zlib.compress(msgspec.msgpack.encode(_Groups(list(places), at)), _LEVEL)
    return NewPlan(ids=pack_ids(ids), servers=len(ids), details=details)
