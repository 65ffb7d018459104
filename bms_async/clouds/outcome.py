"""The outcome of a server, and the progress of a run, where there are many clouds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from bms_async.fleet.frozen import FrozenDict
from bms_async.fleet.outcome import Outcome, OutcomeState, Progress, TrackedOutcome


class CloudOutcome(TrackedOutcome, frozen=True, kw_only=True):
    """How it ended for one server of one of many clouds: an `Outcome` that names its cloud.

    Attributes:
        cloud: The name of the cloud in `Clouds`.
    """

    cloud: str

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={getattr(self, name)!r}" for name in self.__struct_fields__)
        return f"{CloudOutcome.__name__}({shown})"

    def __eq__(self, other: object) -> bool:
        # An outcome without a cloud is another one, from whichever side they are compared.
        return isinstance(other, CloudOutcome) and super().__eq__(other)

    def __hash__(self) -> int:
        return hash((self.cloud, self.server_id, self.state, self.ended))


def name_cloud(cloud: str, outcome: Outcome) -> CloudOutcome:
    """Return an outcome that names its cloud.

    Args:
        cloud: The name.
        outcome: The outcome.
    """
    return CloudOutcome(
        cloud=cloud,
        server_id=outcome.server_id,
        state=outcome.state,
        job_id=outcome.job_id,
        sub_job_id=outcome.sub_job_id,
        error=outcome.error,
        attempts=outcome.attempts,
        started=outcome.started,
        ended=outcome.ended,
        result=outcome.result,
    )


class CloudsProgress(Progress, frozen=True, kw_only=True):
    """The progress of a run over many clouds: the sums, and each cloud's own.

    `total` is None until the sources of all clouds are exhausted. `waits_for` is None if something may begin in any
    cloud. `rollout` is None: each cloud has its own.

    Attributes:
        by_cloud: The progress in each cloud.
    """

    by_cloud: Mapping[str, Progress]


def add_progress(by_cloud: Mapping[str, Progress], running: Mapping[str, Progress]) -> CloudsProgress:
    """Return the progress of all clouds together.

    Args:
        by_cloud: The progress in each cloud.
        running: Of those, the clouds in which the run has not ended.
    """
    each = by_cloud.values()
    totals = [progress.total for progress in each]
    known = [total for total in totals if total is not None]
    return CloudsProgress(
        total=sum(known) if len(known) == len(totals) else None,
        submitted=sum(progress.submitted for progress in each),
        done=sum(progress.done for progress in each),
        by_state=add_states(progress.by_state for progress in each),
        in_flight=sum(progress.in_flight for progress in each),
        to_verify=sum(progress.to_verify for progress in each),
        extra_calls=sum(progress.extra_calls for progress in each),
        waits_for=_wait_of_all({name: progress.waits_for for name, progress in running.items()}),
        by_cloud=FrozenDict(by_cloud),
    )


def add_states(counts: Iterable[Mapping[OutcomeState, int]]) -> Mapping[OutcomeState, int]:
    """Return how many servers are in each state, all states included.

    Args:
        counts: The same of each cloud.
    """
    total = dict.fromkeys(OutcomeState, 0)
    for count in counts:
        for state, servers in count.items():
            total[state] += servers
    return FrozenDict(total)


def _wait_of_all(reasons: Mapping[str, str | None]) -> str | None:
    """Return why nothing begins in any cloud; None if something may."""
    different = set(reasons.values())
    if None in different or not different:
        return None
    if len(different) == 1:
        return different.pop()
    return "; ".join(f"{name}: {reason}" for name, reason in reasons.items())
