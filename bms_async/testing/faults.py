"""The faults of a test: by operation, and by the number of the call."""

from __future__ import annotations

import difflib

import msgspec

from bms_async.simulator import OPERATIONS, Fault

__all__ = ["FaultPlan", "PlannedFault", "check_occurrence", "check_operation"]


class PlannedFault(msgspec.Struct, kw_only=True):
    """A planned fault, and how often it has happened.

    Attributes:
        operation: The operation.
        fault: The fault.
        first: The first call that it affects, counted from 1 at the first call that reached the plan.
        last: The last one; None for all that follow.
        happened: How often it has happened.
    """

    operation: str
    fault: Fault
    first: int
    last: int | None
    happened: int = 0

    def __repr__(self) -> str:
        until = "" if self.last == self.first else " and all that follow" if self.last is None else f" to {self.last}"
        return f"<PlannedFault {self.operation}, call {self.first}{until}: {self.fault!r}>"


class FaultPlan:
    """Faults by operation and occurrence; a hook for `bms_async.simulator.Cloud.faults`.

    ::

        plan = FaultPlan()
        plan.add("servers.stop", CutAfter(), nth=2)  # the second call of servers.stop from now on
        cloud.faults.append(plan)

    Calls that the cloud's own limit refuses with 429 are not counted. If two faults are planned for one call, the one
    that was added last happens.
    """

    __slots__ = ("_faults", "_seen")

    def __init__(self) -> None:
        self._faults: list[PlannedFault] = []
        self._seen: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"<FaultPlan of {len(self._faults)}, {len(self.unused)} not happened>"

    def __call__(self, operation: str, nth: int, path: str) -> Fault | None:  # noqa: ARG002 - a hook's arguments
        """Return the fault for this call, None without one."""
        number = self._seen[operation] = self._seen.get(operation, 0) + 1
        for planned in reversed(self._faults):
            if (
                planned.operation == operation
                and planned.first <= number
                and (planned.last is None or number <= planned.last)
            ):
                planned.happened += 1
                return planned.fault
        return None

    def add(self, operation: str, fault: Fault, *, nth: int = 1, times: int | None = 1) -> PlannedFault:
        """Plan a fault.

        Args:
            operation: The operation's name, such as ``servers.stop``; see `OPERATIONS`.
            fault: The fault: `Answer`, `CutAfter`, `CutBefore`, `Delay`, `DroppedMarker`, `GarbledJob`,
                `HalfBody`, `NotFoundJob`, `ShortPage`, `Throttled` or `Unauthorized`.
            nth: The first call that it affects, counted from now: 1 is the next one.
            times: The number of consecutive calls; None for all that follow.

        Returns:
            The planned fault, whose `happened` can be read later.

        Raises:
            ValueError: The operation does not exist, or a number is less than 1.
            TypeError: `fault` is not a fault.
        """
        check_operation(operation)
        check_occurrence(fault, nth, 1 if times is None else times)
        first = self._seen.get(operation, 0) + nth
        planned = PlannedFault(
            operation=operation, fault=fault, first=first, last=None if times is None else first + times - 1
        )
        self._faults.append(planned)
        return planned

    def clear(self) -> None:
        """Remove all faults."""
        self._faults.clear()

    @property
    def planned(self) -> list[PlannedFault]:
        """All faults, in the order in which they were added."""
        return list(self._faults)

    @property
    def unused(self) -> list[PlannedFault]:
        """The faults that have not happened as often as planned; with `times=None`, not once."""
        return [planned for planned in self._faults if planned.happened < _planned_count(planned)]


def check_operation(operation: str) -> None:
    """Refuse an unknown operation, whose fault would never happen.

    Raises:
        ValueError: The operation does not exist.
    """
    if operation not in OPERATIONS:
        near = difflib.get_close_matches(str(operation), OPERATIONS, n=3) or OPERATIONS
        raise ValueError(f"operation={operation!r}: unknown operation; did you mean {', '.join(near)}?")


def check_occurrence(fault: object, nth: object, times: object) -> None:
    """Refuse what no call could be.

    Raises:
        ValueError: A number is less than 1.
        TypeError: `fault` is not a fault, but a class, for instance.
    """
    if not isinstance(fault, Fault):
        given = f"{fault.__name__}, the class" if isinstance(fault, type) else type(fault).__name__
        raise TypeError(f"fault={given}: expected a fault, such as CutAfter()")
    for name, value in (("nth", nth), ("times", times)):
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise ValueError(f"{name}={value!r}: expected a number from 1 on")


def _planned_count(planned: PlannedFault) -> int:
    return 1 if planned.last is None else planned.last - planned.first + 1
