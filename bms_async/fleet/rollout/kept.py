"""A rollout as a durable run keeps it: what any process can carry out."""

from __future__ import annotations

import msgspec

from .readiness import decode_check, encode_check
from .rollout import Rollout
from .window import Window


class KeptRollout(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What is kept of a rollout; the groups and the order of its servers are kept with these.

    Attributes:
        ready: The check, as `encode_check` encodes it; None for none.
        group_by: What made the groups, if that is a text; else it is not kept.
        is_grouped_by_function: Whether a function made the groups.
    """

    canary: int = 0
    max_unavailable: int | float | None = None
    max_groups: int | None = None
    ready: bytes | None = None
    ready_timeout: float = 0.0
    settle: float = 0.0
    window: Window | None = None
    group_by: str | None = None
    is_grouped_by_function: bool = False

    def rollout(self) -> Rollout:
        """Return the rollout, without the functions that only its first process could call."""
        return Rollout(
            canary=self.canary,
            group_by=self.group_by,
            max_unavailable=self.max_unavailable,
            max_groups=self.max_groups,
            ready=None if self.ready is None else decode_check(self.ready),
            ready_timeout=self.ready_timeout or Rollout().ready_timeout,
            settle=self.settle,
            window=self.window,
        )


def keep(rollout: Rollout) -> KeptRollout:
    """Return what is kept of a rollout.

    Raises:
        InvalidRequestError: Its check is a function that another process cannot call.
    """
    return KeptRollout(
        canary=rollout.canary,
        max_unavailable=rollout.max_unavailable,
        max_groups=rollout.max_groups,
        ready=None if rollout.ready is None else encode_check(rollout.ready),
        ready_timeout=rollout.ready_timeout,
        settle=rollout.settle,
        window=rollout.window,
        group_by=rollout.group_by if isinstance(rollout.group_by, str) else None,
        is_grouped_by_function=callable(rollout.group_by),
    )
