"""What happens in one simulated run: a cloud, a network, and what users do, drawn from one number.

A scenario is plain data, so that it can be printed, replayed, and made smaller. It is drawn from a `random.Random`, or
from the one that Hypothesis hands out, which then finds the smallest scenario that breaks a rule (`draw.py`).
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal, TypeAlias

import msgspec

from bms_async.simulator import Fault
from tests.simulation.walk import Walk
from tests.simulation.wants import Reconcile, WishMany

Action: TypeAlias = Literal["start", "stop", "reboot"]
SingleCall: TypeAlias = Literal["rename", "tag", "reinstall"]
"""What is called for one server at a time, by `Fleet.each`."""

OPERATIONS: dict[str, str] = {
    "start": "servers.start",
    "stop": "servers.stop",
    "reboot": "servers.reboot",
    "rename": "servers.rename",
    "tag": "nova.tags.add",
    "reinstall": "servers.reinstall_os",
}
"""The call of each action."""


class Refused(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Nobody takes the connection: nothing leaves."""


class LostThere(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """The connection breaks before the request is there; the client cannot know that."""


class LostBack(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """The connection breaks before the answer is here."""


class Torn(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """The connection breaks in the middle of the answer; to a client this is a lost answer."""


class Slow(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """The way takes so many seconds more, in each direction."""

    there: float = 0.0
    back: float = 0.0


Trouble: TypeAlias = Fault | Refused | LostThere | LostBack | Torn | Slow


class Foreign(msgspec.Struct, frozen=True, omit_defaults=True):
    """What code of the application's raises: at its `nth` call, counted from 1, and at each `every`th later one.

    Attributes:
        where: ``credentials``, ``transport`` and ``hook`` are the client's; the others are a fleet run's, of which
            ``ready``, ``group_by`` and ``order_by`` are its rollout's, and ``call`` is what is called for each server,
            which raises before its call is made where `nth` is odd, and else after it.
        raised: A `CancelledError` that is not the task's own, a `SystemExit`, or an ordinary error.
    """

    where: Literal[
        "credentials",
        "transport",
        "hook",
        "on_outcome",
        "on_job",
        "source",
        "ready",
        "group_by",
        "order_by",
        "call",
    ]
    raised: Literal["cancelled", "exit", "error"] = "cancelled"
    nth: int = 1
    every: int = 0


class Mishap(msgspec.Struct, frozen=True, omit_defaults=True):
    """Trouble for `count` calls of an operation, from the `first` of them on, which are counted from 1; * is any."""

    operation: str
    first: int
    count: int
    trouble: Trouble


class Options(msgspec.Struct, frozen=True, omit_defaults=True):
    """What a fleet run may be told, as far as this version of it can be."""

    wave_size: int | None = None
    abort_above: float | None = None
    abort_sample: int | None = None
    verify: bool = False
    retry_transient: bool = True
    on_outcome: Literal["sync", "async"] | None = None
    total_timeout: float | None = None


class Consumer(msgspec.Struct, frozen=True, omit_defaults=True):
    """Somebody who looks at a run, or waits for a job; who leaves is cancelled so many seconds after he came."""

    kind: Literal["await", "iterate"]
    leaves_after: float | None = None


class Death(msgspec.Struct, frozen=True, omit_defaults=True):
    """What becomes of a worker of durable runs, and after how many seconds another one is there in its place.

    Attributes:
        kind: It is killed in the middle of whatever it does; it is closed, and hands back what it has; or it stands
            still for so many seconds, and goes on.
    """

    at: float
    worker: int
    kind: Literal["killed", "closed", "stalls"] = "killed"
    seconds: float = 5.0


class Durable(msgspec.Struct, frozen=True, omit_defaults=True):
    """That a run is a durable one.

    Attributes:
        detach: Whether its beginner has no part in it.
        pause_after: Seconds after which it is paused.
        pause: For how many seconds.
    """

    detach: bool = False
    pause_after: float | None = None
    pause: float = 10.0


class RunFleet(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """A fleet run, over every `step`th server from the `first` on.

    Attributes:
        source: Where the ids come from; a `slow` one gives one every `pause` seconds.
        odd: How many ids of each odd kind come with them: unfit ones, and some that come twice.
        unknown: How many ids come with them that no server has.
        cancel_after: Seconds after which it is cancelled.
        let_go: Whether that also lets go of what was asked for.
        spelling: How the ids are written: as the cloud does, in capitals, or each in both ways.
        foreign: What a callback or the source raises.
        durable: Whether it is written down, and finished by whichever worker lives.
        walk: Its rollout.
        pauses: After how many seconds it is paused, and for how many.
        native: Whether it is one of the native API's: a call for each server, and no jobs.
        as_servers: Whether servers are handed over as a list shows them, and not by their ids.
    """

    at: float
    action: Action | SingleCall
    first: int
    count: int
    step: int = 1
    source: Literal["list", "iterator", "slow"] = "list"
    pause: float = 0.5
    odd: int = 0
    unknown: int = 0
    cancel_after: float | None = None
    let_go: bool = False
    consumers: tuple[Consumer, ...] = (Consumer("await"),)
    options: Options = Options()
    spelling: Literal["plain", "capitals", "both"] = "plain"
    foreign: Foreign | None = None
    durable: Durable | None = None
    walk: Walk | None = None
    pauses: tuple[tuple[float, float], ...] = ()
    native: bool = False
    as_servers: bool = False

    @property
    def is_each(self) -> bool:
        """Whether it calls a function of the application's for each server."""
        return self.action in ("rename", "tag", "reinstall")

    @property
    def operation(self) -> str:
        """The call that it makes."""
        return f"nova.servers.{self.action}" if self.native else OPERATIONS[self.action]


class Call(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """One power call with at most a thousand servers, whose job several wait for.

    Attributes:
        asked: For how many of the servers a future is asked for, by each who waits.
        restored: Whether the waiters use a handle that was saved and restored.
    """

    at: float
    action: Action
    first: int
    count: int
    waiters: tuple[Consumer, ...] = (Consumer("await"),)
    asked: int = 1
    restored: bool = False

    @property
    def operation(self) -> str:
        """The call that it makes."""
        return OPERATIONS[self.action]


class Read(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """A call that changes nothing; its caller may leave after so many seconds."""

    at: float
    what: Literal["get", "list"]
    server: int = 0
    leaves_after: float | None = None


class Rename(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Somebody gives a server another name: it changes, and nothing that a run asks for has been done to it."""

    at: float
    server: int = 0


class Listen(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """Somebody subscribes to the events of jobs, reads them as they come or slowly, and leaves after so many seconds.

    Attributes:
        limit: How many events may wait for him.
        pause: Seconds that he takes for each.
    """

    at: float
    leaves_after: float
    limit: int = 10_000
    pause: float = 0.0


class Revoke(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """All tokens are taken back."""

    at: float


class Suspend(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """The machine sleeps for so many seconds: the loop's clock stands still, and the world goes on."""

    at: float
    seconds: float


class Close(msgspec.Struct, frozen=True, tag=True, omit_defaults=True):
    """The client is closed, whatever is under way."""

    at: float


Deed: TypeAlias = RunFleet | Call | Read | Rename | Listen | Revoke | Suspend | Close | WishMany | Reconcile


class Scenario(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """All of it.

    Attributes:
        limits: Calls a minute that the client is told; the cloud's are lower by the factor `others`, if there are any
            others that use the account.
        locked_share: Share of the servers that somebody has locked.
        batch: How many servers go into a batch of a fleet run, 1000 outside of tests.
        auth: What the client has: a token without end, a password that tokens are given for, or an access key.
        carrier: Whether httpx stands between the client and the network.
        timeout: Seconds for one try of a call.
        early_failures: Whether a job says FAIL as soon as one of its servers has failed.
        stuck_share: Share of the sub-jobs that say RUNNING for ever.
        stillborn_share: Share of the jobs that fail before their sub-jobs are made.
        no_news: Seconds of nothing new after which a job counts as lost.
        page_cap: Servers a page at most, whatever is asked for.
        list_count: What a list says of its length.
        foreign: What credentials, the transport or a hook raise.
        workers: How many processes work on durable runs, beside the client of all else.
        deaths: What becomes of these.
        rack_size: How many servers a rack has.
        boot_seconds: How long a server boots that was started, rebooted or reinstalled.
        never_back_share: Share of the servers that are never reachable after that.
        epoch: The time of day at the beginning, of the cloud and of its users; None where it is all the same.
        wish_window: Seconds in which wishes gather.
        state_lag: Seconds after the end of a sub-job until its server shows it.
        native_error_share: Share of the native actions that leave their server in ERROR.
        native_ignored_share: Share of those that are accepted, and of which nothing comes.
        native_slow_share: Share of those that take ten times as long.
        native_vanish_share: Share of those during which somebody deletes the server.
    """

    seed: int
    servers: int = 1
    limits: dict[str, int] = {}
    others: float = 1.0
    throttle: Literal["fixed", "sliding", "bucket"] = "sliding"
    shared_power_budget: bool = False
    retry_after: bool = False
    fail_share: float = 0.0
    stopped_share: float = 0.0
    locked_share: float = 0.0
    job_seconds: tuple[float, float] = (2.0, 8.0)
    latency: tuple[float, float] = (0.0, 0.0)
    refuse_batches: bool = False
    shuffle_sub_jobs: bool = False
    anonymous_failures: bool = False
    job_hidden_seconds: float = 0.0
    job_kept_seconds: float | None = None
    batch: int = 1000
    auth: Literal["token", "password", "keys"] = "token"
    token_lifetime: float = 86400.0
    margin: float = 600.0
    clock_skew: float = 0.0
    carrier: Literal["direct", "httpx"] = "direct"
    timeout: float = 60.0
    early_failures: bool = False
    stuck_share: float = 0.0
    stillborn_share: float = 0.0
    reason_place: Literal["sub_job", "entities", "job", "nowhere"] = "sub_job"
    no_news: float = 7200.0
    page_cap: int = 1000
    list_count: Literal["all", "page", "none"] = "all"
    foreign: tuple[Foreign, ...] = ()
    deeds: tuple[Deed, ...] = ()
    mishaps: tuple[Mishap, ...] = ()
    workers: int = 0
    deaths: tuple[Death, ...] = ()
    rack_size: int = 40
    boot_seconds: tuple[float, float] = (0.0, 0.0)
    never_back_share: float = 0.0
    epoch: datetime | None = None
    wish_window: float = 0.05
    state_lag: float = 0.0
    native_error_share: float = 0.0
    native_ignored_share: float = 0.0
    native_slow_share: float = 0.0
    native_vanish_share: float = 0.0
