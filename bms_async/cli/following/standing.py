"""How far a rollout is, as text: its groups, what is unavailable, and why nothing begins."""

from __future__ import annotations

from collections.abc import Sequence

from bms_async import Progress
from bms_async.cli.terminal.texts import pluralize, strip_control_chars
from bms_async.errors.fleet import shown_group

__all__ = ["describe_groups", "describe_unavailable", "describe_waiting", "standing_fields"]

_MAX_NAMED = 3


def describe_groups(progress: Progress) -> str:
    """Return how many groups are done, touched and blocked, and the first of the blocked ones; empty for one group."""
    standing = progress.rollout
    if standing is None or standing.groups <= 1:
        return ""
    parts = [f"{standing.groups_done:,} of {pluralize(standing.groups, 'group')} done"]
    if standing.groups_touched:
        parts.append(f"{standing.groups_touched:,} touched")
    if standing.groups_blocked:
        named = _named([shown_group(group) for group in standing.blocked_groups], standing.groups_blocked)
        parts.append(f"{standing.groups_blocked:,} blocked ({named})")
    return ", ".join(parts)


def describe_unavailable(progress: Progress) -> str:
    """Return how many servers are unavailable and why, and the first that will not come back; empty if none is."""
    standing = progress.rollout
    if standing is None:
        return ""
    total = standing.under_way + standing.settling + standing.lost
    parts = [f"{standing.under_way:,} under way"] if standing.under_way else []
    if standing.settling:
        parts.append(f"{standing.settling:,} settling")
    if standing.lost:
        parts.append(f"{standing.lost:,} for good ({_named(standing.lost_servers, standing.lost)})")
    return f"{total:,} unavailable: {', '.join(parts)}" if total else ""


def describe_waiting(progress: Progress) -> str:
    """Return why nothing begins; empty if something may."""
    return f"waits: {strip_control_chars(progress.waits_for)}" if progress.waits_for else ""


def standing_fields(progress: Progress) -> dict[str, object] | None:
    """Return how far a rollout is, for JSON; None without one."""
    standing = progress.rollout
    if standing is None:
        return None
    return {
        "phase": standing.phase.value,
        "waiting": standing.waiting,
        "under_way": standing.under_way,
        "settling": standing.settling,
        "lost": standing.lost,
        "groups": standing.groups,
        "groups_touched": standing.groups_touched,
        "groups_done": standing.groups_done,
        "groups_blocked": standing.groups_blocked,
        "waits_for": progress.waits_for,
    }


def _named(names: Sequence[str], total: int) -> str:
    shown = [strip_control_chars(name) for name in names[:_MAX_NAMED]]
    return ", ".join([*shown, "..."] if total > len(shown) else shown)
