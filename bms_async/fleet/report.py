"""The report of a fleet run."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from heapq import nlargest
from itertools import repeat
from typing import Any

import msgspec

from bms_async.errorcodes import explain
from bms_async.errors import FleetError, InvalidRequestError

from .outcome import Outcome, OutcomeState, plain_outcome
from .outcomes import Outcomes
from .rollout.report import RolloutReport

_VERSION = 1


class FleetReport(msgspec.Struct, frozen=True, kw_only=True):
    """The outcomes of all servers of a run: exactly one for each different id.

    Iterating over it gives its outcomes. It is immutable, so that a thread may read it. Methods that go through all
    outcomes say so: on a large report they belong in a thread.

    Attributes:
        action: The requested action, such as ``servers.stop``.
        outcomes: In the order in which they became known. The error of a sub-job is made when its outcome is read,
            and is the same object for as long as anything refers to it.
        by_state: How many servers are in each state, all states included.
        by_code: How many servers are not as asked, by `Outcome.reason`: the code, else the class of the error, else the
            state.
        batches: How many batches the cloud accepted.
        cancelled: Whether the run was cancelled before its end.
        started: When the run began.
        ended: When the last outcome became known.
        aborted: The reason, if `abort_above` ended the run; else None.
        timed_out: Whether `total_timeout` ended the run: a server that was not sent is SKIPPED, one whose state proves
            nothing is UNKNOWN.
        extra_calls: How many calls were made only to find out what no job says: which servers a batch was refused for
            (its parts included), how those ended whose response was lost, and whether all states are as reported.
        unverified: How many outcomes could not be verified, since no state could be read; None without `verify`.
        rollout: What became of its groups; None without a rollout.
        wave_size: How many servers could be in flight at once: the option of that name, or what followed from
            `abort_above`; None for no bound.
    """

    action: str
    outcomes: Sequence[Outcome]
    by_state: Mapping[OutcomeState, int]
    by_code: Mapping[str, int]
    batches: int
    cancelled: bool
    started: datetime
    ended: datetime
    aborted: str | None = None
    timed_out: bool = False
    extra_calls: int = 0
    unverified: int | None = None
    rollout: RolloutReport | None = None
    wave_size: int | None = None

    @property
    def seconds(self) -> float:
        """How long the run took, in seconds."""
        return (self.ended - self.started).total_seconds()

    @property
    def measures(self) -> Mapping[str, str]:
        """The measure for each code of `by_code` that chapter 6.2 documents."""
        return find_measures(self.by_code)

    def slowest(self, n: int = 10) -> list[Outcome]:
        """Return the outcomes that took longest, the longest first.

        This goes through all outcomes, in about half a second for 1,000,000: from a coroutine, call it in a thread.

        Args:
            n: How many.
        """
        timed = (
            (seconds, index, outcome)
            for index, outcome in enumerate(self.outcomes)
            if (seconds := outcome.seconds) is not None
        )
        return [outcome for _, _, outcome in nlargest(n, timed)]

    def timeline(self, bucket: float = 10.0) -> list[Mapping[OutcomeState, int]]:
        """Return how many servers ended in each state, for each bucket of time from the beginning of the run.

        This goes through all outcomes, in about half a second for 1,000,000: from a coroutine, call it in a thread.

        Args:
            bucket: The length of a bucket, in seconds.

        Raises:
            InvalidRequestError: It is not a positive number.
        """
        if not bucket > 0:
            raise InvalidRequestError("bucket", bucket, "expected more than 0 seconds")
        counts: dict[int, dict[OutcomeState, int]] = {}
        for outcome in self.outcomes:
            if outcome.ended is not None:
                index = int(max(0.0, (outcome.ended - self.started).total_seconds()) // bucket)
                by_state = counts.setdefault(index, {})
                by_state[outcome.state] = by_state.get(outcome.state, 0) + 1
        return [counts.get(index, {}) for index in range(max(counts, default=-1) + 1)]

    def summary(self) -> dict[str, Any]:
        """Return all but the outcomes as what JSON can hold, with the keys of `to_json`: for a response or a log."""
        plain: dict[str, Any] = msgspec.to_builtins(self._head())
        return plain

    def to_json(self) -> bytes:
        """Return the report as JSON with a ``version``, in UTF-8; errors as their class, code and text.

        This takes about a second for 200,000 servers: from a coroutine, call it in a thread.
        """
        head = self._head()
        # One by one: a single call of msgspec would block all threads until it is done.
        encode = msgspec.json.Encoder().encode
        text = bytearray(encode(head))
        text[-1:] = b',"outcomes":['
        places = repeat(None) if self.rollout is None else self.rollout.places
        for outcome, place in zip(self.outcomes, places, strict=False):
            plain = plain_outcome(outcome)
            if place is not None:
                plain["group"] = None if place.group is None else place.group.name
                plain["canary"], plain["lost"] = place.is_canary, place.is_lost
            text += encode(plain)
            text += b","
        if self.outcomes:
            del text[-1]
        text += b"]}"
        return bytes(text)

    def failures(self) -> Iterator[Outcome]:
        """Iterate over the outcomes that are not as asked: FAILED, UNKNOWN and SKIPPED ones.

        ::

            again = await bms.fleet.stop(outcome.server_id for outcome in report.failures())

        This goes through those servers only. From a coroutine, go through 100,000 of them in a thread.
        """
        return (self.outcomes[index] for _, _, index in self._not_as_asked())

    def __len__(self) -> int:
        return len(self.outcomes)

    def __iter__(self) -> Iterator[Outcome]:
        return iter(self.outcomes)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state.value}" for state, count in self.by_state.items() if count)
        end = " aborted" if self.aborted else " timed out" if self.timed_out else ""
        return f"<FleetReport {self.action}{end} of {len(self)} servers: {counts or 'none'} in {self.seconds:.1f} s>"

    def raise_for_failures(self) -> None:
        """Raise if any server is not as asked.

        This goes through those servers only. For 100,000 of them it takes about 60 ms: from a coroutine, call it in a
        thread then.

        Raises:
            ExceptionGroup: One `FleetError` for each `Outcome.reason`, with its servers and the measure.
        """
        servers: dict[str, list[str]] = {}
        first: dict[str, Outcome] = {}
        for reason, server_id, index in self._not_as_asked():
            if reason not in servers:
                servers[reason], first[reason] = [], self.outcomes[index]
            servers[reason].append(server_id)
        if servers:
            total = sum(map(len, servers.values()))
            raise ExceptionGroup(
                f"{self.action}: {total} of {len(self)} servers are not as asked"
                + (f"; {self.aborted}" if self.aborted else ""),
                [_fleet_error(self.action, reason, first[reason], ids) for reason, ids in servers.items()],
            )

    def _head(self) -> dict[str, Any]:
        head: dict[str, Any] = {
            "version": _VERSION,
            "action": self.action,
            "started": self.started,
            "ended": self.ended,
            "batches": self.batches,
            "cancelled": self.cancelled,
            "aborted": self.aborted,
            "timed_out": self.timed_out,
            "extra_calls": self.extra_calls,
            "unverified": self.unverified,
            "wave_size": self.wave_size,
            "by_state": dict(self.by_state),
            "by_code": dict(self.by_code),
            "measures": self.measures,
        }
        if self.rollout is not None:
            head["groups"], head["pauses"] = self.rollout.groups, self.rollout.pauses
        return head

    def _not_as_asked(self) -> Iterator[tuple[str, str, int]]:
        if isinstance(self.outcomes, Outcomes):
            return self.outcomes.not_as_asked()
        return (
            (outcome.reason, outcome.server_id, index)
            for index, outcome in enumerate(self.outcomes)
            if not outcome.state.is_success
        )


def find_measures(codes: Iterable[str]) -> Mapping[str, str]:
    """Return the measure for each code that chapter 6.2 documents.

    Args:
        codes: The codes; others are left out.
    """
    documented = {code: explain(code) for code in codes}
    return {code: row.measure for code, row in documented.items() if row is not None}


def _fleet_error(action: str, reason: str, first: Outcome, server_ids: list[str]) -> FleetError:
    more = f" and {len(server_ids) - 1} more" if len(server_ids) > 1 else ""
    text = f"{action}: {reason}: {len(server_ids)} servers, {first.server_id}{more}"
    if first.error is not None:
        text += f": {first.error}"
    return FleetError(text, code=first.code, server_ids=tuple(server_ids))
