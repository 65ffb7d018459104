"""What the report of a durable run says of its rollout: its plan, which the journal keeps, beside its outcomes.

The plan and the outcomes say all of it but the pauses: that a run was paused is nowhere kept.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime

import anyio.lowlevel
import msgspec

from bms_async.errors import GroupBlockedError
from bms_async.fleet.outcomes import Outcomes
from bms_async.fleet.rollout.report import MAX_PAUSES, GroupReport, RolloutReport, RolloutTally, closed_times
from bms_async.fleet.rollout.room import allowed_of
from bms_async.fleet.sharded import Table
from bms_async.journal import Journal, KeptRun

from .options import decode_options
from .plan_records import read_servers
from .rollouts import end_of

_YIELD_EVERY = 500


class _Plan:
    """The group of each server of a plan, the canaries, and how large the groups are."""

    def __init__(self, canaries: int) -> None:
        self.groups: Table[str] = Table()
        self.sizes: Counter[str] = Counter()
        self.canaries: set[str] = set()
        self._canaries = canaries

    def add(self, server_id: str, group: str) -> None:
        self.groups[server_id] = group
        self.sizes[group] += 1
        if len(self.canaries) < self._canaries:
            self.canaries.add(server_id)


async def report_rollout(journal: Journal, run: KeptRun, outcomes: Outcomes, ended: datetime) -> RolloutReport | None:
    """Return what a report says of the rollout of its run; None if it has none.

    Args:
        journal: The journal, open.
        run: The run.
        outcomes: The outcomes of the report.
        ended: The end of the report.

    Raises:
        JournalError: The journal cannot be read.
    """
    kept = decode_options(run.options).rollout
    if kept is None:
        return None
    rollout = kept.rollout()
    plan = await _read_plan(journal, run.id, rollout.canary)
    tally, blocked = RolloutTally(), set[str]()
    for index, outcome in enumerate(outcomes, 1):
        group = plan.groups.get(outcome.server_id)
        is_canary, is_lost = outcome.server_id in plan.canaries, not end_of(outcome).available
        tally.add(outcome, group, is_canary=is_canary, is_lost=is_lost)
        if isinstance(outcome.error, GroupBlockedError) and group is not None:
            blocked.add(group)
        if index % _YIELD_EVERY == 0:
            await anyio.lowlevel.checkpoint()

    def allowed(group: str) -> int:
        return allowed_of(plan.sizes[group], rollout.max_unavailable)

    groups: list[GroupReport] = []
    for group_report in tally.groups(allowed, blocked.__contains__):
        # Of a run that goes on, some servers have no outcome yet.
        groups.append(msgspec.structs.replace(group_report, servers=plan.sizes[group_report.name]))
        if len(groups) % _YIELD_EVERY == 0:
            await anyio.lowlevel.checkpoint()
    for _ in plan.groups.dismantle():
        await anyio.lowlevel.checkpoint()
    closed = list(closed_times(rollout.window, datetime.fromtimestamp(run.created, UTC), ended))
    return tally.report(tuple(groups), tuple(closed[:MAX_PAUSES]))


async def _read_plan(journal: Journal, run: str, canaries: int) -> _Plan:
    plan = _Plan(canaries)
    async for server_id, group in read_servers(journal, run):
        plan.add(server_id, group)
    return plan
