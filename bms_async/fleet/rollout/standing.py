"""What a planner tells of how far a rollout is."""

from __future__ import annotations

from enum import StrEnum

import msgspec

from .room import Group, GroupState


class RolloutPhase(StrEnum):
    """Which servers of a rollout may go."""

    CANARY = "canary"
    MAIN = "main"


class WaitReason(StrEnum):
    """Why no server is taken just now."""

    CANARY_FAILED = "a canary is not well"
    CANARIES = "the canaries are under way"
    CANARIES_SETTLE = "the canaries settle"
    IN_FLIGHT = "as many servers as may be are under way"
    ROOM = "as many servers of each group as may be are unavailable"
    SETTLE = "servers settle"
    GROUPS = "as many groups as may be are touched"
    PACKING = "more servers may soon go in the same call"
    BLOCKED = "the groups of all servers that wait are blocked"
    LAST = "the last servers are under way"


def describe_unready(count: int) -> str:
    """Return that so many servers are not ready yet."""
    return "1 server is not ready yet" if count == 1 else f"{count:,} servers are not ready yet"


class RolloutStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How far a rollout is.

    Attributes:
        phase: Whether canaries may go, or the rest.
        waiting: How many servers have not been taken, those of blocked groups included.
        under_way: How many are taken and have not ended.
        settling: How many have ended well, and their room is not free yet.
        lost: How many are unavailable for good.
        lost_servers: The first of these.
        groups: How many groups there are.
        groups_touched: How many are touched and neither done nor blocked.
        groups_done: How many are done.
        groups_blocked: How many are blocked.
        blocked_groups: The first of these.
        canary_failure: The first canary that ended not well.
        reason: Why no server is taken just now; None if some may go, or all is over.
    """

    phase: RolloutPhase
    waiting: int
    under_way: int
    settling: int
    lost: int
    lost_servers: tuple[str, ...]
    groups: int
    groups_touched: int
    groups_done: int
    groups_blocked: int
    blocked_groups: tuple[str, ...]
    canary_failure: str | None
    reason: WaitReason | None


class GroupStanding(msgspec.Struct, frozen=True, kw_only=True):
    """How far a group is.

    Attributes:
        name: The group.
        size: How many servers it has.
        allowed: How many may be unavailable at once.
        waiting: How many have not been taken.
        under_way: How many are taken and have not ended.
        unavailable: How many are unavailable: under way, settling, or for good.
        lost: How many are unavailable for good.
        touched: Whether some have been taken, and it is neither done nor blocked.
        done: Whether all of it have ended and settled.
        blocked: Whether those that wait can never go.
    """

    name: str
    size: int
    allowed: int
    waiting: int
    under_way: int
    unavailable: int
    lost: int
    touched: bool
    done: bool
    blocked: bool


def group_standing(group: Group) -> GroupStanding:
    """Return how far a group is."""
    return GroupStanding(
        name=group.name,
        size=group.size,
        allowed=group.allowed,
        waiting=group.waiting + group.later,
        under_way=group.under_way,
        unavailable=group.held,
        lost=group.lost,
        touched=group.touched,
        done=group.state is GroupState.DONE and not group.later,
        blocked=group.state is GroupState.BLOCKED,
    )
