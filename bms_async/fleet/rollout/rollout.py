"""Rollouts: how a run walks through a fleet."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import TypeAlias

import msgspec

from bms_async.errors import InvalidRequestError
from bms_async.fleet.plan import check_abort
from bms_async.models import Server
from bms_async.validation.common import is_number

from .groups import GroupBy, check_group_by
from .window import Window

Check: TypeAlias = Callable[[Server], Awaitable[bool]]
"""A coroutine function of a server: True if the server is well."""

OrderBy: TypeAlias = Callable[[Server], object]

_READY_TIMEOUT = 900.0
_ABORT_SAMPLE = 1


class Rollout(msgspec.Struct, frozen=True, kw_only=True):
    """How a run walks through a fleet so that what runs on it stays up: the option ``rollout`` of any fleet run.

    A server is unavailable from the moment that it is asked until its job has ended and `ready` finds it well; `settle`
    seconds later another one of its group may go. One that is not ready in time is FAILED, with a `NotReadyError`. It
    stays unavailable for the rest of the run, as does one that failed after the cloud had accepted it, unless `ready`
    finds it well afterwards. Where such servers use up what `max_unavailable` allows, the rest of their group is
    SKIPPED, with a `GroupBlockedError`.

    ::

        report = await bms.fleet.reboot(
            bms.servers.list(tags="prod"),
            rollout=Rollout(canary=5, group_by="availability_zone", max_unavailable=1, ready=tcp_open(22), settle=30),
        )

    Attributes:
        canary: How many servers go first, alone. The others go only if all of these are well, and `settle` seconds
            later; if one is not, the run is aborted.
        group_by: What makes a group: ``availability_zone``, ``flavor`` or another text of a `Server`; ``tag:rack`` for
            the tag that begins so; ``metadata:cluster`` for that key; or a function of the `Server` that returns the
            name. None: all servers are one group.
        max_unavailable: How many servers of each group may be unavailable at once: a number; or a share above 0 and
            below 1, rounded down, at least 1. None for no bound.
        max_groups: How many groups may be touched at once; None for no bound. A group is touched from the first server
            that is asked until its last one has ended.
        ready: Says whether a server is well again: a coroutine function of the `Server` that returns True or False. It
            is called again until it says so. `tcp_open`, `http_ok` and `all_of` make such functions. None: the end of
            the job is enough.
        ready_timeout: Seconds that a server has to become ready, from the first check at its job's end on.
        settle: Seconds between the readiness of a server and the next of its group.
        window: When something may begin; what has begun is followed to its end. None for always.
        abort_above: Abort threshold, as the run's option of that name: no more servers are in flight than may fail of
            the whole fleet, unless the run has a `wave_size`; `max_unavailable` bounds each group beside that.
        abort_sample: How many servers must have ended before `abort_above` counts: more than 1 tolerates failures at
            the beginning.
        order_by: A function of the `Server`; servers go in the order of what it returns. None: as given.
    """

    canary: int = 0
    group_by: GroupBy | None = None
    max_unavailable: float | None = None
    max_groups: int | None = None
    ready: Check | None = None
    ready_timeout: float = _READY_TIMEOUT
    settle: float = 0.0
    window: Window | None = None
    abort_above: float | None = None
    abort_sample: int = _ABORT_SAMPLE
    order_by: OrderBy | None = None

    def __post_init__(self) -> None:
        if type(self.canary) is not int or self.canary < 0:
            raise InvalidRequestError("canary", self.canary, "expected 0 or more servers")
        if self.group_by is not None:
            check_group_by(self.group_by)
        _check_max_unavailable(self.max_unavailable)
        if self.max_groups is not None and (type(self.max_groups) is not int or self.max_groups < 1):
            raise InvalidRequestError("max_groups", self.max_groups, "expected 1 or more groups, or None for no bound")
        for name in ("ready", "order_by"):
            if getattr(self, name) is not None and not callable(getattr(self, name)):
                raise InvalidRequestError(name, getattr(self, name), "expected a function of a Server, or None")
        if not (is_number(self.ready_timeout) and 0 < self.ready_timeout < math.inf):
            raise InvalidRequestError("ready_timeout", self.ready_timeout, "expected a number of seconds above 0")
        if not (is_number(self.settle) and 0 <= self.settle < math.inf):
            raise InvalidRequestError("settle", self.settle, "expected a number of seconds, 0 or more")
        if self.window is not None and not isinstance(self.window, Window):
            raise InvalidRequestError(
                "window", self.window, 'expected a Window, such as Window("Sat 22:00-04:00", zone="Europe/Berlin")'
            )
        check_abort(self.abort_above, self.abort_sample)

    @property
    def needs_servers(self) -> bool:
        """Whether it has to know more of a server than its id."""
        return self.group_by is not None or self.order_by is not None or self.ready is not None


def _check_max_unavailable(value: object) -> None:
    if value is None or (type(value) is int and value >= 1) or (type(value) is float and 0 < value < 1):
        return
    raise InvalidRequestError(
        "max_unavailable", value, "expected 1 or more servers, a share above 0 and below 1 such as 0.1, or None"
    )
