"""What workflows, activities and their callers hand to each other: JSON and packed ids, and no credential.

Temporal keeps each of them in a history, and refuses a payload above 2 MB. So ids go in blocks of at most 100 batches
and `MAX_BLOCK` bytes. All of it is `str` and `bytes` for Temporal, whatever converter or codec a client has.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TypeVar

import msgspec

from bms_async.errors import InvalidRequestError
from bms_async.journal import Counts, pack_ids
from bms_async.runs import NextBatch
from bms_async.validation.aborting import why_abort

SEND = "bms_async.send_batch"
WATCH = "bms_async.watch_job"
SETTLE = "bms_async.settle_batch"
SKIP = "bms_async.skip_batch"

VERSION = 1
MAX_BATCHES = 100
"""Batches of a block at most: a workflow's history is bounded, and that of a block is never cut."""

MAX_BLOCK = 480_000
"""Bytes of a block at most: above 512 kB a client of Temporal warns at each use, and above 2 MB its server refuses."""

M = TypeVar("M", bound=msgspec.Struct)


class FleetOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options of a run.

    Attributes:
        wave_size: How many servers may be in flight at once. None for no bound but the one that follows from
            `abort_above`.
        abort_above: Abort threshold, 0 to 1: once FAILED and UNKNOWN exceed this share of the servers that have ended
            so far, no further batch is sent. What is in flight then may fail as well. So without a `wave_size` no more
            servers are in flight than may fail of the whole fleet, and one at least. None for never.
        abort_sample: How many servers must have ended before `abort_above` counts: more than 1 tolerates failures at
            the beginning.
        retry_transient: Whether busy servers are sent again.
        verify: Whether states are read back before outcomes are known.
        send_timeout: Seconds without a sign of life after which a worker that sends is taken for dead. It should
            outlast an outage of Temporal's server, since a reboot is then settled by states alone.
        watch_timeout: The same for one that watches or settles.
    """

    wave_size: int | None = None
    abort_above: float | None = None
    abort_sample: int = 1
    retry_transient: bool = True
    verify: bool = False
    send_timeout: float = 30.0
    watch_timeout: float = 15.0


class FleetInput(msgspec.Struct, frozen=True, kw_only=True):
    """What a run begins with, or goes on with as a new execution.

    Attributes:
        action: Such as ``servers.reboot``.
        key: The run's key.
        blocks: How many blocks it has.
        servers: How many servers it has.
        options: Its options.
        search_attribute: The search attribute that its key goes into, None for none.
        invalid: The outcomes of ids that are invalid.
        started: The blocks whose workflow was started.
        ended: What became of blocks.
        current: The last block that may send.
        is_paused: Whether it is paused.
        is_cancelled: Whether it was cancelled.
        aborted: The reason, if too many servers failed.
        began: When it was started, in seconds since 1970.
        executions: How often it has gone on as a new execution.
        version: The version of this JSON.
    """

    action: str
    key: str
    blocks: int
    servers: int
    options: FleetOptions
    search_attribute: str | None
    invalid: bytes = b""
    started: tuple[int, ...] = ()
    ended: dict[int, BlockSummary] = {}
    current: int = -1
    is_paused: bool = False
    is_cancelled: bool = False
    aborted: str | None = None
    began: float | None = None
    executions: int = 0
    version: int = VERSION


class BlockInput(msgspec.Struct, frozen=True, kw_only=True):
    """What the workflow of a block begins with, beside its ids."""

    action: str
    key: str
    number: int
    parent: str
    options: FleetOptions
    version: int = VERSION


class SendRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the activity `send_batch` takes.

    Attributes:
        action: Such as ``servers.reboot``.
        key: The key of the batch.
        batches: What to send: one, or several that share a call.
        options: The options of the run.
        first_run_id: The first execution of the workflow: where the activity's is another one, the workflow was reset.
    """

    action: str
    key: str
    batches: tuple[NextBatch, ...]
    options: FleetOptions
    first_run_id: str


class SkipRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What the activity `skip_batch` takes."""

    key: str
    batch: NextBatch
    why: str | None


class BlockSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What became of a block so far.

    Attributes:
        counts: How many servers have ended, by state.
        submitted: How many servers were sent.
        in_flight: How many servers are in a batch and have not ended.
        accepted: How many batches the cloud accepted.
        extra_calls: How many calls were made only to find out what no job says.
        aborted: The reason, if too many servers failed.
        failed: The reason, if its workflow ended without its outcomes.
    """

    counts: Counts = Counts()
    submitted: int = 0
    in_flight: int = 0
    accepted: int = 0
    extra_calls: int = 0
    aborted: str | None = None
    failed: str | None = None


class BlockOutcomes(msgspec.Struct, frozen=True, kw_only=True):
    """The outcomes of a block.

    Attributes:
        packed: Outcomes, packed.
        skipped: Servers that were never sent, packed.
        unknown: Servers of which no activity could say what became of them, packed, and why not.
        why: The reason for those that were skipped.
    """

    packed: tuple[bytes, ...] = ()
    skipped: tuple[bytes, ...] = ()
    unknown: tuple[tuple[bytes, str], ...] = ()
    why: str | None = None


class FleetProgress(msgspec.Struct, frozen=True, kw_only=True):
    """The progress of a run.

    Attributes:
        total: How many servers it has.
        blocks: How many blocks.
        arrived: How many blocks have arrived; nothing is sent before all have.
        ended: How many blocks have ended.
        running: The blocks that may send or watch now.
        done: The servers that have ended, by state.
        submitted: How many servers were sent.
        in_flight: How many servers are in a batch and have not ended.
        is_paused: Whether it is paused.
        is_cancelled: Whether it was cancelled.
        aborted: The reason, if too many servers failed.
        executions: How often it has gone on as a new execution.
    """

    total: int
    blocks: int
    arrived: int
    ended: int
    running: tuple[int, ...]
    done: Counts
    submitted: int
    in_flight: int
    is_paused: bool
    is_cancelled: bool
    aborted: str | None
    executions: int


class FleetSummary(msgspec.Struct, frozen=True, kw_only=True):
    """What a run ends with; the outcomes are the results of its blocks."""

    action: str
    blocks: int
    total: BlockSummary
    failed: dict[int, str]
    invalid: bytes
    is_cancelled: bool
    aborted: str | None
    began: float
    ended: float
    wave_size: int | None = None


def to_json(message: msgspec.Struct) -> str:
    """Return a message as JSON."""
    return msgspec.json.encode(message).decode()


def from_json(text: str, kind: type[M]) -> M:
    """Return the message that `to_json` wrote, in this version or an earlier one."""
    return msgspec.json.decode(text, type=kind)


def pack_blocks(batches: Sequence[Sequence[str]]) -> Iterator[bytes]:
    """Return batches of ids as blocks.

    Args:
        batches: The ids of each batch.

    Raises:
        InvalidRequestError: The ids of one batch are longer than a block may be.
    """
    block: list[bytes] = []
    size = 0
    for ids in batches:
        packed = pack_ids(ids)
        if len(packed) > MAX_BLOCK:
            raise InvalidRequestError("ids", "...", f"expected ids that fit into {MAX_BLOCK} bytes a batch")
        if block and (len(block) == MAX_BATCHES or size + len(packed) > MAX_BLOCK):
            yield msgspec.msgpack.encode(block)
            block, size = [], 0
        block.append(packed)
        size += len(packed)
    if block:
        yield msgspec.msgpack.encode(block)


def unpack_block(data: bytes) -> list[bytes]:
    """Return the packed batches of a block."""
    return msgspec.msgpack.decode(data, type=list[bytes])


def add_up(summaries: Sequence[BlockSummary]) -> BlockSummary:
    """Return the sums of summaries."""
    states = Counts.__struct_fields__
    return BlockSummary(
        counts=Counts(**{state: sum(getattr(each.counts, state) for each in summaries) for state in states}),
        submitted=sum(each.submitted for each in summaries),
        in_flight=sum(each.in_flight for each in summaries),
        accepted=sum(each.accepted for each in summaries),
        extra_calls=sum(each.extra_calls for each in summaries),
        aborted=next((each.aborted for each in summaries if each.aborted), None),
    )


def reason_to_abort(options: FleetOptions, counts: Counts) -> str | None:
    """Return the reason if too many servers failed, None as long as not.

    Args:
        options: The options of the run.
        counts: How many servers have ended, by state.
    """
    ended, failed = counts.total - counts.skipped, counts.failed + counts.unknown
    return why_abort(options.abort_above, options.abort_sample, failed=failed, ended=ended)
