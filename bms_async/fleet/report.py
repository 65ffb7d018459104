"""What became of all servers of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from heapq import nlargest
from typing import Any

import msgspec

from bms_async.errorcodes import explain
from bms_async.errors import FleetError, InvalidRequestError
from bms_async.redaction import shown_text

from .outcome import Outcome, OutcomeState
from .outcomes import Outcomes

_VERSION = 1


class FleetReport(msgspec.Struct, frozen=True, kw_only=True):
    """What became of all servers of a run: exactly one outcome for each id that was handed to it.

    It never changes, and so may be looked at in a thread. Where it is large, what goes through all outcomes belongs
    there: each such method says so.

    Attributes:
        action: What was asked for, such as ``servers.stop``.
        outcomes: In the order in which they were known.
        by_state: How many servers are in each state; every state is there.
        by_code: How many servers are not as asked, by the code or, without one, the name of the error or the state.
        batches: How many batches the cloud accepted.
        cancelled: Whether the run was ended before its end.
        started: When the run began.
        ended: When the last outcome was known.
        aborted: Why nothing more was asked for, when too many servers failed; None if it did not come to that.
        timed_out: Whether the `total_timeout` was over before the end: what was not asked for is SKIPPED, what was
            not proved is UNKNOWN.
        extra_calls: How many calls it took to find out what no job told: which servers a batch was refused for, what
            became of those whose answer was lost, and whether all are as they should be.
        unverified: How many outcomes could not be verified, for no state could be read; None where none was to be.
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

    @property
    def seconds(self) -> float:
        """How long the run took."""
        return (self.ended - self.started).total_seconds()

    @property
    def measures(self) -> Mapping[str, str]:
        """What to do about each of the codes in `by_code` that chapter 6.2 knows."""
        documented = {code: explain(code) for code in self.by_code}
        return {code: row.measure for code, row in documented.items() if row is not None}

    def slowest(self, n: int = 10) -> list[Outcome]:
        """Return the outcomes that took longest, the longest first.

        It goes through all outcomes, in about half a second for 1,000,000: from a coroutine, call it in a thread.

        Args:
            n: How many.
        """
        timed = ((took, place, each) for place, each in enumerate(self.outcomes) if (took := each.seconds) is not None)
        return [outcome for _, _, outcome in nlargest(n, timed)]

    def timeline(self, bucket: float = 10.0) -> list[Mapping[OutcomeState, int]]:
        """Return how many servers ended in each state, for each stretch of time from the beginning of the run.

        It goes through all outcomes, in about half a second for 1,000,000: from a coroutine, call it in a thread.

        Args:
            bucket: Seconds a stretch.

        Raises:
            InvalidRequestError: That is no stretch of time.
        """
        if not bucket > 0:
            raise InvalidRequestError("bucket", bucket, "more than 0 seconds are needed")
        buckets: list[Mapping[OutcomeState, int]] = []
        counts: dict[int, dict[OutcomeState, int]] = {}
        for outcome in self.outcomes:
            if outcome.ended is not None:
                place = int(max(0.0, (outcome.ended - self.started).total_seconds()) // bucket)
                by_state = counts.setdefault(place, {})
                by_state[outcome.state] = by_state.get(outcome.state, 0) + 1
        for place in range(max(counts, default=-1) + 1):
            buckets.append(counts.get(place, {}))  # noqa: PERF401 - a stretch in which nothing ended counts too
        return buckets

    def to_json(self) -> bytes:
        """Return all of it as JSON with a ``version``, in UTF-8; errors as their class, code and text.

        It takes about a second for 200,000 servers: from a coroutine, call it in a thread.
        """
        head = {
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
            "by_state": dict(self.by_state),
            "by_code": dict(self.by_code),
            "measures": self.measures,
        }
        # One by one: what a single call of msgspec does holds all threads up until it is done.
        encode = msgspec.json.Encoder().encode
        text = bytearray(encode(head))
        text[-1:] = b',"outcomes":['
        for outcome in self.outcomes:
            text += encode(_plain(outcome))
            text += b","
        if self.outcomes:
            del text[-1]
        text += b"]}"
        return bytes(text)

    def __len__(self) -> int:
        return len(self.outcomes)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {state.value}" for state, count in self.by_state.items() if count)
        end = " aborted" if self.aborted else " timed out" if self.timed_out else ""
        return f"<FleetReport {self.action}{end} of {len(self)} servers: {counts or 'none'} in {self.seconds:.1f} s>"

    def raise_for_failures(self) -> None:
        """Raise if any server is not as it was asked to be.

        It looks at those servers and not at all of them. Where there are 100,000 of them, it takes about 60 ms: from a
        coroutine, call it in a thread then.

        Raises:
            ExceptionGroup: One `FleetError` for each code, with the servers and what to do.
        """
        servers: dict[str, list[Outcome]] = {}
        for outcome in self._not_as_asked():
            servers.setdefault(outcome.reason, []).append(outcome)
        if servers:
            total = sum(map(len, servers.values()))
            raise ExceptionGroup(
                f"{self.action}: {total} of {len(self)} servers are not as asked"
                + (f"; {self.aborted}" if self.aborted else ""),
                [_fleet_error(self.action, reason, outcomes) for reason, outcomes in servers.items()],
            )

    def _not_as_asked(self) -> Iterator[Outcome]:
        if isinstance(self.outcomes, Outcomes):
            return self.outcomes.not_as_asked()
        return (outcome for outcome in self.outcomes if not outcome.state.is_success)


def _fleet_error(action: str, reason: str, outcomes: list[Outcome]) -> FleetError:
    first = outcomes[0]
    more = f" and {len(outcomes) - 1} more" if len(outcomes) > 1 else ""
    text = f"{action}: {reason}: {len(outcomes)} servers, {first.server_id}{more}"
    if first.error is not None:
        text += f": {first.error}"
    return FleetError(text, code=first.code, server_ids=tuple(outcome.server_id for outcome in outcomes))


def _plain(outcome: Outcome) -> dict[str, Any]:
    plain = {name: getattr(outcome, name) for name in outcome.__struct_fields__}
    if outcome.error is not None:
        error, code = outcome.error, shown_text(outcome.code)
        plain["error"] = {"type": type(error).__name__, "code": code, "message": str(error)}
    return plain
