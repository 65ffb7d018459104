"""The report of a run over many clouds: the reports of its clouds, and what they say together.

It has no copy of any outcome (R10): those are in the report of their cloud, and an outcome that names its cloud is made
when it is read.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import datetime

import msgspec

from bms_async.fleet.frozen import FrozenDict
from bms_async.fleet.outcome import OutcomeState
from bms_async.fleet.report import FleetReport, find_measures

from .outcome import CloudOutcome, add_states, name_cloud

_VERSION = 1


class CloudsReport(msgspec.Struct, frozen=True, kw_only=True):
    """The outcomes of all servers of a run over many clouds, each server once in each cloud that it was named for.

    It is immutable, so that a thread may read it. Its length is the number of servers. Iterating over it gives the
    outcomes, cloud by cloud; on a large report that belongs in a thread.

    Attributes:
        action: The requested action, such as ``servers.stop``.
        started: When the run began.
        ended: When the last outcome became known.
        by_cloud: The report of each cloud.
    """

    action: str
    started: datetime
    ended: datetime
    by_cloud: Mapping[str, FleetReport]

    @property
    def seconds(self) -> float:
        """How long the run took, in seconds."""
        return (self.ended - self.started).total_seconds()

    @property
    def by_state(self) -> Mapping[OutcomeState, int]:
        """How many servers are in each state, all states included."""
        return add_states(report.by_state for report in self.by_cloud.values())

    @property
    def by_code(self) -> Mapping[str, int]:
        """How many servers are not as asked, by `Outcome.reason`, the most frequent first."""
        total: Counter[str] = Counter()
        for report in self.by_cloud.values():
            total.update(report.by_code)
        return FrozenDict(total.most_common())

    @property
    def measures(self) -> Mapping[str, str]:
        """The measure for each code of `by_code` that chapter 6.2 documents."""
        return find_measures(self.by_code)

    @property
    def batches(self) -> int:
        """How many batches the clouds accepted."""
        return sum(report.batches for report in self.by_cloud.values())

    @property
    def extra_calls(self) -> int:
        """How many calls were made only to find out what no job says."""
        return sum(report.extra_calls for report in self.by_cloud.values())

    @property
    def cancelled(self) -> bool:
        """Whether the run was cancelled before its end, in any cloud."""
        return any(report.cancelled for report in self.by_cloud.values())

    @property
    def timed_out(self) -> bool:
        """Whether `total_timeout` ended the run, in any cloud."""
        return any(report.timed_out for report in self.by_cloud.values())

    @property
    def aborted(self) -> Mapping[str, str]:
        """The reason for each cloud in which `abort_above` ended the run."""
        reasons = {name: report.aborted for name, report in self.by_cloud.items()}
        return FrozenDict({name: reason for name, reason in reasons.items() if reason is not None})

    def __len__(self) -> int:
        return sum(map(len, self.by_cloud.values()))

    def __iter__(self) -> Iterator[CloudOutcome]:
        return (name_cloud(name, outcome) for name, report in self.by_cloud.items() for outcome in report.outcomes)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state.value}" for state, count in self.by_state.items() if count)
        return (
            f"<CloudsReport {self.action} of {len(self)} servers in {len(self.by_cloud)} clouds: "
            f"{counts or 'none'} in {self.seconds:.1f} s>"
        )

    def raise_for_failures(self) -> None:
        """Raise if any server is not as asked.

        This goes through those servers only. For 100,000 of them it takes about 60 ms: from a coroutine, call it in a
        thread then.

        Raises:
            ExceptionGroup: A group for each cloud in which servers are not as asked, with what
                `FleetReport.raise_for_failures` raises: one `FleetError` for each reason.
        """
        groups: list[ExceptionGroup[Exception]] = []
        for name, report in self.by_cloud.items():
            try:
                report.raise_for_failures()
            except ExceptionGroup as group:
                groups.append(ExceptionGroup(f"cloud {name!r}: {group.message}", group.exceptions))
        if groups:
            total = sum(report.by_state[state] for report in self.by_cloud.values() for state in _NOT_AS_ASKED)
            raise ExceptionGroup(
                f"{self.action}: {total} of {len(self)} servers are not as asked, "
                f"in {len(groups)} of {len(self.by_cloud)} clouds",
                groups,
            )

    def to_json(self) -> bytes:
        """Return the report as JSON with a ``version``, in UTF-8: the sums, and `FleetReport.to_json` of each cloud.

        This takes about a second for 200,000 servers: from a coroutine, call it in a thread.
        """
        encode = msgspec.json.encode
        text = bytearray(
            encode(
                {
                    "version": _VERSION,
                    "action": self.action,
                    "started": self.started,
                    "ended": self.ended,
                    "by_state": dict(self.by_state),
                    "by_code": dict(self.by_code),
                    "measures": self.measures,
                }
            )
        )
        text[-1:] = b',"by_cloud":{'
        for number, (name, report) in enumerate(self.by_cloud.items()):
            text += b"," if number else b""
            text += encode(name) + b":" + report.to_json()
        text += b"}}"
        return bytes(text)


_NOT_AS_ASKED = [state for state in OutcomeState if not state.is_success]
