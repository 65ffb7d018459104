"""How a run walks through its fleet: the rollouts of scenarios, as plain data."""

from __future__ import annotations

from datetime import datetime
from typing import Literal
from zoneinfo import ZoneInfo

import msgspec


class Walk(msgspec.Struct, frozen=True, omit_defaults=True):
    """A rollout.

    Attributes:
        ready: Whether a server has to be reachable before it counts as well; where it is stopped, the contrary.
        hours: When something may begin, by the local clock: from and until, in minutes of the day; none for always.
        zone: Whose local clock that is.
        order_by: Whether the servers go in the order of their ids.
    """

    canary: int = 0
    group: Literal["rack", "zone", "flavor"] | None = None
    max_unavailable: int | float | None = None
    max_groups: int | None = None
    ready: bool = False
    ready_timeout: float = 300.0
    settle: float = 0.0
    hours: tuple[tuple[int, int], ...] = ()
    zone: str = "Europe/Berlin"
    order_by: bool = False

    @property
    def needs_servers(self) -> bool:
        """Whether more has to be known of a server than its id."""
        return self.group is not None or self.ready or self.order_by

    @property
    def window(self) -> str:
        """The hours, as they are written."""
        return "; ".join(f"{_shown(opens)}-{_shown(closes)}" for opens, closes in self.hours)

    def is_open(self, at: datetime) -> bool:
        """Whether something may begin, by what the local clock shows: its minutes alone, without any table."""
        shown = at.astimezone(ZoneInfo(self.zone))
        minute = shown.hour * 60 + shown.minute
        return not self.hours or any(opens <= minute < closes for opens, closes in self.hours)


def _shown(minute: int) -> str:
    return f"{minute // 60:02d}:{minute % 60:02d}"
