"""What a simulated cloud is like: its size, its limits, its temper."""

import math
from datetime import UTC, datetime
from typing import Final, Literal

import msgspec

__all__ = ["ANY_POWER", "DOCUMENTED_LIMITS", "CloudSettings", "ThrottleKind"]

ThrottleKind = Literal["fixed", "sliding", "bucket", "none"]

ANY_POWER: Final = "servers.action"
"""The budget of the power URI: of all three operations when they share one, else of bodies that name none."""

DOCUMENTED_LIMITS: Final[dict[str, int]] = {
    "servers.list": 500,
    "servers.get": 1000,
    "servers.start": 50,
    "servers.stop": 50,
    "servers.reboot": 50,
    ANY_POWER: 50,
    "jobs.get": 2000,
    "versions.list": 2000,
    "versions.get": 2000,
}
"""Calls a minute by operation (API reference, table 2-2, by its URIs and not by its titles)."""


class CloudSettings(msgspec.Struct, frozen=True, kw_only=True):
    """How a simulated cloud behaves; equal settings and an equal order of calls give equal answers.

    Attributes:
        servers: How many servers the project has.
        seed: Where every drawn value comes from.
        throttle: How calls are counted against a minute's limit.
        limits: Calls a minute by operation, over the documented ones.
        shared_power_budget: Count start, stop and reboot as one operation, by their URI.
        retry_after: Send `Retry-After` with a 429.
        fail_share: Share of the servers on which every power operation fails.
        stopped_share: Share of the servers that are off at the beginning.
        job_seconds: Shortest and longest time from the acceptance of a batch to a sub-job's end.
        latency: Shortest and longest time on the wire, split at random into the way there, before the
            call is counted, and the way back.
        refuse_batches: Refuse a whole batch for one server in the wrong state, instead of failing
            that server's sub-job.
        shuffle_sub_jobs: List the sub-jobs in another order at every poll.
        anonymous_failures: Leave `server_id` out of sub-jobs that failed.
        job_hidden_seconds: How long a new job answers 404.
        job_kept_seconds: How long an ended job can still be read.
        project_id: The only project there is.
        token: The token that is accepted at first; `Cloud.tokens` can change while the cloud runs.
        access_key: The access key that signed calls must name.
        epoch: Wall-clock time at the cloud's beginning.
    """

    servers: int = 1000
    seed: int = 0
    throttle: ThrottleKind = "sliding"
    limits: dict[str, int] = msgspec.field(default_factory=dict)
    shared_power_budget: bool = False
    retry_after: bool = False
    fail_share: float = 0.0
    stopped_share: float = 0.0
    job_seconds: tuple[float, float] = (20.0, 90.0)
    latency: tuple[float, float] = (0.0, 0.0)
    refuse_batches: bool = False
    shuffle_sub_jobs: bool = False
    anonymous_failures: bool = False
    job_hidden_seconds: float = 0.0
    job_kept_seconds: float = math.inf
    project_id: str = "51a0c10d51a0c10d51a0c10d51a0c10d"
    token: str = "simulated-token"  # noqa: S105 - opens nothing but a toy on the loopback
    access_key: str = "SIMULATEDACCESSKEY"
    epoch: datetime = datetime(2024, 1, 1, tzinfo=UTC)

    def __post_init__(self) -> None:
        """Refuse what no cloud can be.

        Raises:
            ValueError: A value is out of its range; the text names the setting.
        """
        if self.servers < 0:
            raise ValueError(f"servers must not be negative: {self.servers}")
        for name in ("fail_share", "stopped_share"):
            share = getattr(self, name)
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"{name} must lie between 0 and 1: {share}")
        for name in ("job_seconds", "latency"):
            low, high = getattr(self, name)
            if not 0.0 <= low <= high < math.inf:
                raise ValueError(f"{name} must be two times, the shorter one first: {low} {high}")
        if self.job_hidden_seconds < 0 or self.job_kept_seconds < 0:
            raise ValueError("job_hidden_seconds and job_kept_seconds must not be negative")
        for name in ("project_id", "token", "access_key"):
            if not getattr(self, name):
                raise ValueError(f"{name} must not be empty")
        if self.epoch.tzinfo is None:
            raise ValueError("epoch must be an aware datetime")
        self._check_limits()

    def limit_of(self, operation: str) -> int:
        """Calls a minute that this cloud allows for an operation."""
        return self.limits.get(operation, DOCUMENTED_LIMITS[operation])

    def budget_of(self, operation: str) -> str:
        """The name under which an operation's calls are counted against a limit."""
        if self.shared_power_budget and operation in {
            "servers.start",
            "servers.stop",
            "servers.reboot",
        }:
            return ANY_POWER
        return operation

    def _check_limits(self) -> None:
        for operation, limit in self.limits.items():
            if operation not in DOCUMENTED_LIMITS:
                known = ", ".join(DOCUMENTED_LIMITS)
                raise ValueError(f"limits: no operation is called {operation!r}; there are {known}")
            if limit < 1:
                raise ValueError(f"limits: {operation} must allow at least one call: {limit}")
