"""Batches: the servers of one call, and what is known of them before it."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import anyio
import msgspec

from bms_async.errors import BmsError

from .evidence import RefusalCause
from .outcome import OutcomeState


class SplitBudget(msgspec.Struct, kw_only=True):
    """The budget for splitting a refused batch, shared by all its parts.

    Attributes:
        batches_sent: How many parts were made so far; each is one more call.
    """

    batches_sent: int = 0


class EarlierAttempts(msgspec.Struct, kw_only=True):
    """A server's earlier attempts, carried along until it is retried.

    Attributes:
        deferrals: How often it was deferred.
        state: Its outcome if it is not sent again.
        error: The reason for that state.
    """

    server_id: str
    deferrals: int
    attempts: int
    started: datetime | None
    state: OutcomeState
    error: BmsError | None
    job_id: str | None = None
    sub_job_id: str | None = None


class BatchWithdrawnError(Exception):
    """A batch is not sent by this process: it is another worker's, or its run was paused. It gets no outcome here."""


class Batch:
    """The servers of one call.

    Attributes:
        ids: The servers.
        started: When it was first sent, None before.
        send_count: How often it was sent.
        error: What the last attempt ended in, also that of the batch it was split off from: a refusal, or the reason
            why nothing is known.
        job_id: Its job, None as long as there is none.
        in_doubt: Whether the cloud may act on it: it was sent and has not certainly been refused.
        was_in_doubt: Whether it, or the batch it was split off from, was in doubt when it was sent again.
        moved: The servers that now belong to another batch, or are deferred.
        earlier: The earlier attempts of the servers that were deferred.
        split_budget: Shared with the other parts of a refused batch; None as long as none was refused.
        state_reads: How often states were read because it, or the batch it was split off from, was refused.
        shared_cause: The cause that all its servers are suspected of; None where it is not the same for all.
        unsent_attempts: How often a durable run's batch could not be sent at all, for want of a token for instance.
    """

    __slots__ = (
        "earlier",
        "error",
        "ids",
        "in_doubt",
        "job_id",
        "moved",
        "scope",
        "send_count",
        "shared_cause",
        "split_budget",
        "started",
        "state_reads",
        "unsent_attempts",
        "was_in_doubt",
    )  # fmt: skip

    def __init__(self, ids: tuple[str, ...], *, earlier: Iterable[EarlierAttempts] = ()) -> None:
        self.ids = ids
        self.scope = anyio.CancelScope()
        self.started: datetime | None = None
        self.send_count = 0
        self.error: BmsError | None = None
        self.job_id: str | None = None
        self.in_doubt = False
        self.was_in_doubt = False
        self.moved: set[str] = set()
        self.earlier = {attempts.server_id: attempts for attempts in earlier}
        self.split_budget: SplitBudget | None = None
        self.state_reads = 0
        self.shared_cause: RefusalCause | None = None
        self.unsent_attempts = 0

    def split_off(self, ids: Iterable[str], *, shared_cause: RefusalCause | None = None) -> Batch:
        """Return a batch of some of its servers; they are moved there."""
        part = Batch(tuple(ids))
        part.started = self.started
        part.send_count = self.send_count
        part.was_in_doubt = self.was_in_doubt
        part.earlier = {server_id: self.earlier[server_id] for server_id in part.ids if server_id in self.earlier}
        part.split_budget = self.split_budget = self.split_budget or SplitBudget()
        part.split_budget.batches_sent += 1
        part.state_reads = self.state_reads
        part.error = self.error
        part.shared_cause = shared_cause
        self.moved.update(part.ids)
        return part

    @property
    def remaining(self) -> tuple[str, ...]:
        """Its servers, without those that have moved."""
        if not self.moved:
            return self.ids
        return tuple(server_id for server_id in self.ids if server_id not in self.moved)

    @property
    def is_new(self) -> bool:
        """Whether none of its servers was ever sent, or belonged to another batch."""
        return not (self.send_count or self.earlier or self.moved or self.split_budget is not None)

    @property
    def is_surely_unmade(self) -> bool:
        """Whether it is as it was cut, and the cloud has surely done nothing for it."""
        may_be_made = self.in_doubt or self.was_in_doubt
        return not (may_be_made or self.earlier or self.moved or self.split_budget is not None)

    @property
    def default_state(self) -> OutcomeState:
        """The state its servers get if no job results: SKIPPED if the cloud certainly did nothing, else UNKNOWN."""
        return OutcomeState.UNKNOWN if self.in_doubt or self.was_in_doubt else OutcomeState.SKIPPED

    def is_in_doubt(self, server_id: str) -> bool:
        """Return whether the cloud may have acted on a server before the last attempt."""
        earlier = self.earlier.get(server_id)
        return self.was_in_doubt or (earlier is not None and earlier.state is OutcomeState.UNKNOWN)

    def may_have_reached(self, server_id: str) -> bool:
        """Return whether the cloud may have acted on a server, by this call or an earlier one."""
        return self.in_doubt or self.is_in_doubt(server_id)

    def attempts_of(self, server_id: str) -> int:
        """Return how often a server was sent, in this batch and in earlier ones."""
        earlier = self.earlier.get(server_id)
        return self.send_count + (earlier.attempts if earlier is not None else 0)

    def started_for(self, server_id: str) -> datetime | None:
        """Return when a server was first sent."""
        earlier = self.earlier.get(server_id)
        return earlier.started if earlier is not None and earlier.started is not None else self.started
