"""Writing a run down: all of its servers, before the first call.

Reading, checking and packing a million ids never hold the event loop: they are packed in a thread, and written in one
transaction. So a run is in the journal with all of its servers, or not at all.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence

import anyio.lowlevel
import msgspec

from bms_async._threads import run_in_thread
from bms_async.errors import InvalidRequestError, LeadershipLostError
from bms_async.fleet.clock import Clock
from bms_async.fleet.outcome import Outcome, OutcomeState, make_outcome
from bms_async.fleet.packed import count_states, pack_outcomes
from bms_async.fleet.plan import Intake
from bms_async.fleet.rollout.known import KnownServers, pop_all, unknown_group
from bms_async.fleet.source import Servers, read_all
from bms_async.fleet.walk import ServerSource
from bms_async.journal import Journal, KeptRun, LedBy, NewBatch, NewBlock, NewPlan, NewRun, digest_ids, pack_ids
from bms_async.journal.journal import PATIENCE
from bms_async.journal.transactions.runs import begin_led_run, begin_run
from bms_async.validation.common import MAX_BATCH_SIZE

from .options import CheckedOptions
from .plan_records import pack_plan


async def write_down(
    journal: Journal,
    ids: Servers,
    *,
    action: str,
    key: str,
    place: str,
    options: CheckedOptions,
    check: bool,
    servers: ServerSource,
    patience: float = PATIENCE,
    term: LedBy | None = None,
) -> tuple[KeptRun, bool]:
    """Write a run down, unless its place has one of that key.

    Args:
        journal: The journal, open.
        ids: The servers; a source that raises keeps anything from being written.
        action: Such as ``servers.reboot``.
        key: The caller's name for it.
        place: The endpoint and the project.
        options: Its options.
        check: Whether ids are checked against the reference.
        servers: Reads servers of which only the ids were given.
        patience: Seconds for which a journal that does not answer is asked again.
        term: The term of the leader that begins it; None if it is nobody's.

    Returns:
        The run, and whether it was written just now.

    Raises:
        InvalidRequestError: The key is that of a run of other servers or of another action.
        LeadershipLostError: The term is over, and nothing was written.
        JournalError: It could not be written; or not surely, in which case the same key says so the next time.
    """
    # Whoever checks whether a server is ready reads it then.
    known = None if options.rollout is None else KnownServers(msgspec.structs.replace(options.rollout, ready=None))
    intake, invalid = await read_ids(ids, action=action, check=check, known=known)
    plan: Sequence[NewPlan] = ()
    unknown: list[Outcome] = []
    if known is not None:
        planned, unknown = await _group(intake, known, servers, action)
        plan = await run_in_thread(pack_plan, planned)
        invalid += unknown
    wave = options.find_wave(sum(part.servers for part in plan) + intake.ready)
    sized = msgspec.structs.replace(options, wave_size=wave)
    batches, refused, digest = await run_in_thread(_pack, intake, sized.batch_size, invalid)
    if known is not None:
        # Those of which nothing is known are among them: the cloud may show them when the run is asked for again.
        unseen = pack_ids([outcome.server_id for outcome in unknown]) if unknown else None
        digest = await run_in_thread(digest_ids, [part.ids for part in plan] + ([unseen] if unseen else []))
    # To free a million at once would hold the loop.
    for _ in intake.pending.dismantle():
        await anyio.lowlevel.checkpoint()
    return await write_packed(
        journal,
        batches,
        refused,
        digest,
        action=action,
        key=key,
        place=place,
        options=sized,
        plan=plan,
        patience=patience,
        term=term,
        wave_follows=wave != options.wave_size,
    )


async def _group(
    intake: Intake, known: KnownServers, servers: ServerSource, action: str
) -> tuple[list[tuple[str, str]], list[Outcome]]:
    """Find out the groups and the order of servers.

    Args:
        intake: Has the servers; they are removed from it.
        known: What was seen of them.
        servers: Reads those that were not seen.
        action: Such as ``servers.reboot``.

    Returns:
        The servers with their groups, and the outcomes of those that the cloud does not show.

    Raises:
        CallError: They could not be read.
        Exception: A function of the rollout raised it.
    """
    planned, unknown = [], []
    ended = Clock(asyncio.get_running_loop()).now()
    async for server_id, group in known.placed(await pop_all(intake), servers):
        if group is None:
            error = unknown_group(action, server_id)
            unknown.append(make_outcome(server_id, OutcomeState.SKIPPED, error=error, ended=ended))
        else:
            planned.append((server_id, group))
    return planned, unknown


async def read_ids(
    ids: Servers, *, action: str, check: bool, known: KnownServers | None = None
) -> tuple[Intake, list[Outcome]]:
    """Read ids to their end.

    Args:
        ids: The servers.
        action: Such as ``servers.reboot``.
        check: Whether ids are checked against the reference.
        known: Takes the servers that are more than an id.

    Returns:
        The ids, each once, and the outcomes of those that are invalid.

    Raises:
        InvalidRequestError: It is no source of ids.
        Exception: The source raised it.
    """
    on_server = None if known is None else known.note
    tracker = await read_all(ids, action=action, check=check, on_server=on_server)
    return tracker.intake, list(tracker.outcomes)


async def write_packed(
    journal: Journal,
    batches: list[NewBatch],
    refused: list[NewBlock],
    digest: str,
    *,
    action: str,
    key: str,
    place: str,
    options: CheckedOptions,
    plan: Sequence[NewPlan] = (),
    patience: float = PATIENCE,
    term: LedBy | None = None,
    wave_follows: bool = False,
) -> tuple[KeptRun, bool]:
    """Write a run of packed batches down, unless its place has one of that key; see `write_down`.

    Args:
        journal: The journal, open.
        batches: Its batches.
        refused: The outcomes of ids that are invalid.
        digest: What two runs of the same servers have in common.
        action: Such as ``servers.reboot``.
        key: The caller's name for it.
        place: The endpoint and the project.
        options: Its options.
        plan: Its servers in the place of batches, if these are made by a rollout.
        patience: Seconds for which a journal that does not answer is asked again.
        term: The term of the leader that begins it; None if it is nobody's.
        wave_follows: Whether the wave of the options was not asked for, but follows from `abort_above`.
    """
    abort_above, abort_sample = options.abort_rule
    run = NewRun(
        id=secrets.token_hex(16),
        place=place,
        key=key,
        action=action,
        options=options.kept(term, wave_follows=wave_follows).encode(),
        digest=digest,
        wave=options.wave_size,
        abort_above=abort_above,
        abort_sample=abort_sample,
    )
    if term is None:
        kept, is_new = await journal.run(begin_run, run, batches, refused, plan, patience=patience)
    else:
        begun = await journal.run(begin_led_run, term, run, batches, refused, plan, patience=patience)
        if begun is None:
            raise LeadershipLostError(
                f"{action}: expected {term.name!r} to be led in term {term.fence}, which is over; nothing was sent",
                name=term.name,
                fence=term.fence,
            )
        kept, is_new = begun
    if kept.action != action:
        raise InvalidRequestError("key", key, f"expected a new one for {action}: it is that of a {kept.action}")
    if kept.digest != digest:
        raise InvalidRequestError(
            "key", key, f"expected the same servers as before, or a new key: it is that of a run of {kept.servers:,}"
        )
    return kept, is_new


def _pack(intake: Intake, size: int, invalid: list[Outcome]) -> tuple[list[NewBatch], list[NewBlock], str]:
    batches = []
    while chunk := intake.pop_batch(size):
        batches.append(NewBatch(ids=pack_ids(chunk), servers=len(chunk)))
    # In blocks, since a reader unpacks one at a time.
    refused = [
        NewBlock(counts=count_states(block), body=pack_outcomes(block))
        for block in (invalid[start : start + MAX_BATCH_SIZE] for start in range(0, len(invalid), MAX_BATCH_SIZE))
    ]
    return batches, refused, digest_ids([batch.ids for batch in batches])
