"""What the journal keeps, as its users see it."""

from __future__ import annotations

from enum import StrEnum

import msgspec

COPY_ADVICE = (
    "name another journal, or put back a copy as the guide says, since it knows nothing of what was sent later"
)
"""What to do about a journal that cannot be read. The guide is "When a process dies"."""


class RunStatus(StrEnum):
    """What may happen to a run."""

    OPEN = "open"
    """Its batches are sent."""
    PAUSED = "paused"
    """No further batch is sent until it is resumed; what was sent is watched to its end."""
    CANCELLED = "cancelled"
    """No further batch is sent; servers that were not sent are SKIPPED."""
    ABORTED = "aborted"
    """The same, because too many servers failed."""


class BatchState(StrEnum):
    """How far a batch is."""

    PLANNING = "planning"
    """It is none to be sent: whoever has it plans which servers of a rollout go next, and makes batches of these."""
    WAITING = "waiting"
    """The cloud has surely not acted on it, unless an earlier attempt of its details says otherwise."""
    SENDING = "sending"
    """The request may be on its way."""
    WATCHING = "watching"
    """The cloud has accepted it, and its job is known."""
    DONE = "done"


class Counts(msgspec.Struct, frozen=True, kw_only=True):
    """How many servers are in each state."""

    succeeded: int = 0
    unchanged: int = 0
    failed: int = 0
    unknown: int = 0
    skipped: int = 0

    @property
    def total(self) -> int:
        """How many there are in all."""
        return self.succeeded + self.unchanged + self.failed + self.unknown + self.skipped


class LedBy(msgspec.Struct, frozen=True, kw_only=True):
    """The term of a leader that has begun a run; no batch of it is sent once that leads no more.

    Attributes:
        name: What is led.
        fence: The fence of the term.
    """

    name: str
    fence: int


class NewRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run that is about to be written down.

    Attributes:
        id: Its id, unique everywhere.
        place: The endpoint and the project that it is for.
        key: The caller's name for it, unique in its place.
        action: Such as ``servers.reboot``.
        options: Its options, encoded by the caller.
        digest: What two runs of the same servers have in common.
        wave: How many servers may be in flight at once, None for no bound.
        abort_above: The share of failures above which it is aborted, None for never.
        abort_sample: How many servers must have ended before that counts.
    """

    id: str
    place: str
    key: str
    action: str
    options: bytes
    digest: str
    wave: int | None = None
    abort_above: float | None = None
    abort_sample: int = 1


class NewPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A part of the servers of a rollout, in the order in which they may go.

    Attributes:
        ids: The servers, packed.
        servers: How many these are.
        details: Their groups, encoded by the caller.
    """

    ids: bytes
    servers: int
    details: bytes


class KeptPlan(msgspec.Struct, frozen=True, kw_only=True):
    """A part of a plan as the journal has it; `NewPlan` says what the ids and the details are.

    Attributes:
        number: Its number in the plan, from 0.
    """

    number: int
    ids: bytes
    details: bytes


class KeptRun(msgspec.Struct, frozen=True, kw_only=True):
    """A run as the journal has it; `NewRun` says what the first attributes are.

    Attributes:
        status: What may happen to it.
        aborted: The reason if it was aborted.
        servers: How many servers it has.
        open_batches: How many batches have not ended.
        in_flight: How many servers belong to a batch that was claimed, and have not ended.
        submitted: How many servers were sent.
        accepted: How many batches the cloud has accepted.
        extra_calls: How many calls were made only to find out what no job says.
        counts: How many servers have ended, by state.
        number: The number of its last block of outcomes.
        created: When it was written down, in seconds since 1970.
        ended: When it ended, None as long as it has not.
        standing: How far its rollout is, encoded by whoever plans it; None without a rollout.
        held: How many of its batches a worker holds.
        unready: How many servers their workers hold the outcomes of back until these are ready.
        sent: How many servers were sent, were not refused, and have no outcome yet.
    """

    id: str
    place: str
    key: str
    action: str
    options: bytes
    digest: str
    wave: int | None
    abort_above: float | None
    abort_sample: int
    status: RunStatus
    aborted: str | None
    servers: int
    open_batches: int
    in_flight: int
    submitted: int
    accepted: int
    extra_calls: int
    counts: Counts
    number: int
    created: float
    ended: float | None
    standing: bytes | None = None
    held: int = 0
    unready: int = 0
    sent: int = 0


class NewBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A batch that is about to be written down.

    Attributes:
        ids: Its servers, packed.
        servers: How many these are.
        details: What is known of earlier attempts, encoded by the caller; empty for none.
        rank: Which batches of a run go first: 0 for the parts of a refused one, 1 for deferred ones, 2 for new ones.
        delay: Seconds before it may be sent.
        grid: Seconds of the grid of the time of day that this is aligned to; 0 for none.
    """

    ids: bytes
    servers: int
    details: bytes = b""
    rank: int = 2
    delay: float = 0.0
    grid: float = 0.0


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """A worker's right to a batch, for as long as its fence is the batch's.

    Attributes:
        run: The id of the run.
        number: The number of the batch in it.
        owner: The worker.
        fence: Grows with each claim; what was claimed under an earlier one can change nothing any more.
    """

    run: str
    number: int
    owner: str
    fence: int


class KeptBatch(msgspec.Struct, frozen=True, kw_only=True):
    """A claimed batch as the journal has it; `NewBatch` says what the ids and the details are.

    Attributes:
        claim: The claim.
        state: How far it is.
        servers: How many of its servers have no outcome yet; of a plan, how many are in no batch either.
        job: Its job, once that is known.
        sequence: How many blocks of outcomes it has written.
        parts: Into how many parts the batch that it descends from was split so far.
        key: The key of its run.
        action: The action of its run.
        options: The options of its run.
        status: The status of its run.
        aborted: The reason if its run was aborted.
    """

    claim: Claim
    state: BatchState
    ids: bytes
    servers: int
    details: bytes
    job: str | None
    sequence: int
    parts: int
    key: str
    action: str
    options: bytes
    status: RunStatus
    aborted: str | None


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A block of outcomes as the journal has it.

    Attributes:
        number: Its number in its run; a later one is higher.
        servers: How many outcomes are in it.
        body: The outcomes, encoded by the caller.
    """

    number: int
    servers: int
    body: bytes


class NewBlock(msgspec.Struct, frozen=True, kw_only=True):
    """A block of outcomes that is about to be written down.

    Attributes:
        counts: How many outcomes are in it, by state.
        body: The outcomes, encoded by the caller.
        extra_calls: How many calls were made for them only to find out what no job says.
    """

    counts: Counts
    body: bytes
    extra_calls: int = 0


class Step(StrEnum):
    """What became of a step that a worker wanted to write down."""

    MADE = "made"
    """It is written down; also if it was already."""
    LOST = "lost"
    """The batch is not this worker's any more, and nothing was written down."""
    STOPPED = "stopped"
    """The run was paused or ended, and nothing was written down."""
