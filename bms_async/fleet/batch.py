"""Servers on their way to the cloud together."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

import anyio
import msgspec

from bms_async.errors import BmsError

from .evidence import RefusalCause
from .outcome import OutcomeState


class SplitBudget(msgspec.Struct, kw_only=True):
    """How often it has come to what in the search for the servers that a batch was refused for; its parts share it.

    Attributes:
        batches_sent: How many batches are sent because of the refusal.
    """

    batches_sent: int = 0


class EarlierAttempts(msgspec.Struct, kw_only=True):
    """What a server has behind it that is to be asked for again.

    Attributes:
        deferrals: How often it was put off.
        state: What it is if it comes to no other try, and below why.
    """

    server_id: str
    deferrals: int
    attempts: int
    started: datetime | None
    state: OutcomeState
    error: BmsError | None
    job_id: str | None = None
    sub_job_id: str | None = None


class Batch:
    """Servers on their way to the cloud.

    Attributes:
        ids: The servers.
        started: When the cloud was first asked, None before.
        asked: How often.
        error: What it, or what it was parted from, ended in the last time: a refusal, or why nothing was told of it.
        job_id: Its job, None as long as it came to none.
        in_doubt: Whether the cloud may act on it: it was asked and has not surely refused.
        was_in_doubt: Whether it, or what it was parted from, was so when it was asked again.
        moved: Those that have gone on to another batch.
        earlier: What those have behind them that were put off.
        split_budget: Shared with the other parts of a batch that was refused; None as long as none was.
        readings: How often states were read because it, or what it was parted from, was refused.
        shared_cause: What its servers are all suspected of, None where it is not the same or nothing.
    """

    __slots__ = (
        "asked",
        "earlier",
        "error",
        "ids",
        "in_doubt",
        "job_id",
        "moved",
        "readings",
        "scope",
        "shared_cause",
        "split_budget",
        "started",
        "was_in_doubt",
    )  # fmt: skip

    def __init__(self, ids: tuple[str, ...], *, past: Iterable[EarlierAttempts] = ()) -> None:
        self.ids = ids
        self.scope = anyio.CancelScope()
        self.started: datetime | None = None
        self.asked = 0
        self.error: BmsError | None = None
        self.job_id: str | None = None
        self.in_doubt = False
        self.was_in_doubt = False
        self.moved: set[str] = set()
        self.earlier = {each.server_id: each for each in past}
        self.split_budget: SplitBudget | None = None
        self.readings = 0
        self.shared_cause: RefusalCause | None = None

    def split_off(self, ids: Iterable[str], *, shared_cause: RefusalCause | None = None) -> Batch:
        """Return a batch of some of its servers; they are not its own any more."""
        part = Batch(tuple(ids))
        part.started = self.started
        part.asked = self.asked
        part.was_in_doubt = self.was_in_doubt
        part.earlier = {server_id: self.earlier[server_id] for server_id in part.ids if server_id in self.earlier}
        part.split_budget = self.split_budget = self.split_budget or SplitBudget()
        part.split_budget.batches_sent += 1
        part.readings = self.readings
        part.error = self.error
        part.shared_cause = shared_cause
        self.moved.update(part.ids)
        return part

    @property
    def remaining(self) -> tuple[str, ...]:
        """Its servers, without those that have gone on."""
        if not self.moved:
            return self.ids
        return tuple(server_id for server_id in self.ids if server_id not in self.moved)

    @property
    def default_state(self) -> OutcomeState:
        """What its servers are if it comes to no job: the cloud surely did nothing, or nobody knows."""
        return OutcomeState.UNKNOWN if self.in_doubt or self.was_in_doubt else OutcomeState.SKIPPED

    def is_in_doubt(self, server_id: str) -> bool:
        """Whether the cloud may have set to work on a server before it was asked the last time."""
        past = self.earlier.get(server_id)
        return self.was_in_doubt or (past is not None and past.state is OutcomeState.UNKNOWN)

    def attempts_of(self, server_id: str) -> int:
        """Return how often the cloud was asked for a server."""
        past = self.earlier.get(server_id)
        return self.asked + (past.attempts if past is not None else 0)

    def started_for(self, server_id: str) -> datetime | None:
        """Return when the cloud was first asked for a server."""
        past = self.earlier.get(server_id)
        return past.started if past is not None and past.started is not None else self.started
