"""What a simulated cloud is like: its size, its limits, its temper."""

import math
from datetime import UTC, datetime
from typing import Any, Final, Literal, get_args

import msgspec

from bms_async.simulator.core.operations import ANY_POWER, DOCUMENTED_LIMITS, NATIVE, OPERATIONS

__all__ = ["ANY_POWER", "DOCUMENTED_LIMITS", "CloudSettings", "ReasonPlace", "ThrottleKind"]

ListCount = Literal["all", "page", "none"]
ThrottleKind = Literal["fixed", "sliding", "bucket", "none"]
ReasonPlace = Literal["sub_job", "entities", "job", "nowhere"]

_SECRET: Final = frozenset({"password", "token", "secret_key", "security_token"})
_NEVER_EMPTY: Final = (
    "project_id", "project_name", "username", "user_id", "password", "user_domain_name", "user_domain_id", "token",
    "access_key", "secret_key",
)  # fmt: skip
_SHARES: Final = (
    "fail_share", "never_back_share", "stopped_share", "windows_share", "stuck_share", "stillborn_share",
    "native_error_share", "native_ignored_share", "native_slow_share", "native_vanish_share", "drift_error_share",
)  # fmt: skip
_MAX_LIFETIME: Final = 10 * 366 * 86400.0


class CloudSettings(msgspec.Struct, frozen=True, kw_only=True):
    """The settings of a simulated cloud; equal settings and an equal order of calls give equal responses.

    Attributes:
        servers: The number of servers of the project.
        rack_size: Servers a rack. Each one is tagged with its rack, such as ``rack-7``; racks take turns in the three
            availability zones.
        seed: Seed of all random values.
        throttle: How the limits of a minute are counted.
        limits: Calls a minute by operation, over the documented ones; `nova` is one budget for all native calls.
        shared_power_budget: Count start, stop and reboot as one operation, by their URI.
        retry_after: Send `Retry-After` with a 429.
        fail_share: Share of the servers on which every job fails, including servers that are created later.
        never_back_share: Share of the servers that are never reachable again after an action that leaves them on,
            although it succeeds and they are ACTIVE.
        stopped_share: Share of the servers that are off at the beginning.
        windows_share: Share of the servers that run Windows, and have a password to be read.
        virtual_machines: Virtual machines that the native lists show among the servers.
        job_seconds: Shortest and longest time from the acceptance of a batch to a sub-job's end, and of a native
            operation to its effect.
        boot_seconds: Shortest and longest time from the end of an action that leaves a server on until it is reachable.
        latency: Shortest and longest time on the wire, split at random into the way there, before the
            call is counted, and the way back.
        refuse_batches: Refuse a whole batch for one server in the wrong state, instead of failing
            that server's sub-job.
        shuffle_sub_jobs: List the sub-jobs in another order at every poll.
        anonymous_failures: Leave `server_id` out of sub-jobs that failed.
        early_failures: Report a job as FAIL as soon as one of its sub-jobs has failed, while the others continue.
        stuck_share: Share of the sub-jobs that stay RUNNING for ever, although their servers do what was asked.
        stillborn_share: Share of the batches of power operations that fail before their sub-jobs are made: a code and a
            reason at the job, and nothing done to any server.
        reason_place: Where the reason of a failed sub-job is reported: at the sub-job, in its entities
            (``errorcode_message``, which the vendor's SDK has), only at the job, or nowhere.
        native_error_share: Share of the native power operations after which the server is in ERROR, with a fault.
        native_ignored_share: Share of those that are accepted and change nothing, not even the server's `updated`.
        native_slow_share: Share of those that take ten times as long.
        native_vanish_share: Share of those during which somebody deletes the server.
        drift_share: Share of the servers that change each minute without being asked, on average and at random moments.
            One that is on turns off, and the contrary; one that is under way, or in ERROR, is passed over. More than 1
            is more than once a minute.
        drift_error_share: Share of those changes after which the server is in ERROR instead.
        drift_error_seconds: Shortest and longest time after which it recovers from that, to what it was.
        drift_task_seconds: Shortest and longest time for which such a change shows as a task before, like the work of
            another operator.
        state_lag_seconds: Seconds for which a server still shows what it was, and its task, after the end of its
            sub-job.
        page_cap: Maximum servers a page, in both lists, whatever was requested.
        list_count: The count in the BMS list: of all pages, of this page, or none.
        list_links: Whether native lists link to the next page.
        job_hidden_seconds: Seconds for which a new job is not found (404).
        job_kept_seconds: Seconds for which an ended job can still be read.
        quota_instances: Quota of bare-metal servers; -1 sets no limit, here and below.
        quota_cores: Quota of their cores.
        quota_ram: Quota of their memory, in MB.
        quota_keypairs: Quota of key pairs.
        administrator: Whether the caller may list all projects, which a plain Keystone allows administrators only.
        project_id: The project that the servers are in.
        project_name: Its name.
        other_projects: Ids, by name, of empty projects that the user may log in to as well.
        username: The user that can get tokens.
        user_id: The user's id.
        password: The user's password.
        user_domain_name: The name of the account (domain) that the user and the projects belong to.
        user_domain_id: Its id.
        token_lifetime: Lifetime of issued tokens in seconds.
        token: A token that is valid from the start and does not expire; `Cloud.tokens` can be changed at run time.
        access_key: The access key that signed calls must name.
        secret_key: The secret key of their signatures; `Cloud.access_keys` can be changed at run time.
        security_token: The security token of signed calls, as with temporary keys; empty for permanent ones.
        clock_skew: Seconds by which the cloud's clock, as `Date` and signatures know it, is ahead.
        epoch: Wall-clock time at the start of a cloud that is not on the real clock.
    """

    servers: int = 1000
    rack_size: int = 40
    seed: int = 0
    throttle: ThrottleKind = "sliding"
    limits: dict[str, int] = msgspec.field(default_factory=dict)
    shared_power_budget: bool = False
    retry_after: bool = False
    fail_share: float = 0.0
    never_back_share: float = 0.0
    stopped_share: float = 0.0
    windows_share: float = 0.0
    virtual_machines: int = 0
    job_seconds: tuple[float, float] = (20.0, 90.0)
    boot_seconds: tuple[float, float] = (0.0, 0.0)
    latency: tuple[float, float] = (0.0, 0.0)
    refuse_batches: bool = False
    shuffle_sub_jobs: bool = False
    anonymous_failures: bool = False
    early_failures: bool = False
    stuck_share: float = 0.0
    stillborn_share: float = 0.0
    reason_place: ReasonPlace = "sub_job"
    native_error_share: float = 0.0
    native_ignored_share: float = 0.0
    native_slow_share: float = 0.0
    native_vanish_share: float = 0.0
    drift_share: float = 0.0
    drift_error_share: float = 0.0
    drift_error_seconds: tuple[float, float] = (60.0, 600.0)
    drift_task_seconds: tuple[float, float] = (0.0, 0.0)
    state_lag_seconds: float = 0.0
    page_cap: int = 1000
    list_count: ListCount = "all"
    list_links: bool = True
    job_hidden_seconds: float = 0.0
    job_kept_seconds: float = math.inf
    quota_instances: int = -1
    quota_cores: int = -1
    quota_ram: int = -1
    quota_keypairs: int = 100
    administrator: bool = True
    project_id: str = "51a0c10d51a0c10d51a0c10d51a0c10d"
    project_name: str = "simulated"
    other_projects: dict[str, str] = msgspec.field(default_factory=dict)
    username: str = "operator"
    user_id: str = "0be1f0c10d51a0c10d51a0c10d51a0c1"
    password: str = "simulated-password"
    user_domain_name: str = "simulated-account"
    user_domain_id: str = "5d3b6d0e0f634c518a5e6b0d5f6f1c08"
    token_lifetime: float = 86400.0
    token: str = "simulated-token"
    access_key: str = "SIMULATEDACCESSKEY"
    secret_key: str = "simulated-secret-key"
    security_token: str = ""
    clock_skew: float = 0.0
    epoch: datetime = datetime(2024, 1, 1, tzinfo=UTC)

    def __post_init__(self) -> None:
        """Refuse what no cloud can be.

        Raises:
            ValueError: A value is out of its range; the text names the setting.
        """
        self._check_numbers()
        for name in ("job_seconds", "boot_seconds", "latency", "drift_error_seconds", "drift_task_seconds"):
            low, high = getattr(self, name)
            if not 0.0 <= low <= high < math.inf:
                raise ValueError(f"{name} must be two times, the shorter one first: {low} {high}")
        if self.job_hidden_seconds < 0 or self.job_kept_seconds < 0:
            raise ValueError("job_hidden_seconds and job_kept_seconds must not be negative")
        for name in ("drift_share", "state_lag_seconds"):
            if not 0.0 <= (value := getattr(self, name)) < math.inf:
                raise ValueError(f"{name} must be 0 or more, and not infinite: {value}")
        self._check_identity()
        if not math.isfinite(self.clock_skew):
            raise ValueError(f"clock_skew must be a number of seconds: {self.clock_skew}")
        if self.epoch.tzinfo is None:
            raise ValueError("epoch must be an aware datetime")
        self._check_limits()

    def __repr__(self) -> str:
        shown = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"CloudSettings({shown})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """Return the settings without secrets."""
        return [(name, getattr(self, name)) for name in self.__struct_fields__ if name not in _SECRET]

    @property
    def projects(self) -> dict[str, str]:
        """The ids of all projects by name, that of the servers first."""
        return {self.project_name: self.project_id, **self.other_projects}

    def limit_of(self, operation: str) -> int | None:
        """Return the calls a minute that this cloud allows for an operation; None without a limit."""
        return self.limits.get(operation, DOCUMENTED_LIMITS.get(operation))

    def budget_of(self, operation: str) -> str:
        """Return the name of the budget that an operation's calls count against."""
        if self.shared_power_budget and operation in {
            "servers.start",
            "servers.stop",
            "servers.reboot",
        }:
            return ANY_POWER
        if NATIVE in self.limits and operation.startswith(f"{NATIVE}."):
            return NATIVE
        return operation

    def _check_numbers(self) -> None:
        for name in ("servers", "virtual_machines"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative: {getattr(self, name)}")
        for name in ("rack_size", "page_cap"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be 1 or more: {getattr(self, name)}")
        if self.list_count not in get_args(ListCount):
            raise ValueError(f"list_count must be one of {', '.join(get_args(ListCount))}: {self.list_count!r}")
        for name in ("quota_instances", "quota_cores", "quota_ram", "quota_keypairs"):
            if getattr(self, name) < -1:
                raise ValueError(f"{name} must be -1 or more: {getattr(self, name)}")
        for name in _SHARES:
            share = getattr(self, name)
            if not 0.0 <= share <= 1.0:
                raise ValueError(f"{name} must lie between 0 and 1: {share}")

    def _check_identity(self) -> None:
        for name in _NEVER_EMPTY:
            if not getattr(self, name):
                raise ValueError(f"{name} must not be empty")
        ids = [self.project_id, *self.other_projects.values()]
        if self.project_name in self.other_projects or len(set(ids)) != len(ids) or not all([*self.projects, *ids]):
            raise ValueError(f"other_projects must have names and ids of their own: {self.other_projects}")
        if not 0.0 < self.token_lifetime <= _MAX_LIFETIME:
            raise ValueError(
                f"token_lifetime must be seconds, more than 0 and at most ten years: {self.token_lifetime}"
            )

    def _check_limits(self) -> None:
        for operation, limit in self.limits.items():
            if operation not in OPERATIONS:
                known = ", ".join(OPERATIONS)
                raise ValueError(f"limits: no operation is called {operation!r}; there are {known}")
            if limit < 1:
                raise ValueError(f"limits: {operation} must allow at least one call: {limit}")
