"""The times of a worker, at full length or so short that a whole run takes seconds; they are of this process alone."""

from __future__ import annotations

import msgspec

from bms_async.fleet import durable, isolate, proving, requeue
from bms_async.jobs import board, board_follower, schedule
from bms_async.journal.transactions import claims, jobs, plans, steps
from bms_async.runs import batch_log, options, rollouts, worker
from bms_async.runs import run as reading
from bms_async.simulator import CloudSettings
from tests.support.machine import measure, slowness


class Times(msgspec.Struct, frozen=True, kw_only=True):
    """How long things take, in seconds.

    Attributes:
        lease: A lease.
        renew: From one renewal of it to the next.
        look: From one look at the journal to the next.
        take_over: From one look for what others have left to the next.
        write: For how long outcomes are collected.
        idle: For how long idle servers are watched where nothing is known of them.
        polls: Between two readings of states.
        call: By which each call of such a reading delays the next one.
        retries: Before servers that were busy are sent again.
        settle: Between a refusal and the reading of states.
        poll: Between two polls of a job, at least.
        longest_poll: The same, at most.
        job: What a server takes, at least and at most.
        latency: Each way of a call, at least and at most.
    """

    lease: float = 15.0
    renew: float = 5.0
    look: float = 1.0
    take_over: float = 2.0
    write: float = 2.0
    idle: float = 60.0
    polls: tuple[float, ...] = (2.0, 5.0, 10.0, 20.0, 30.0)
    call: float = 0.25
    retries: tuple[float, ...] = (10.0, 20.0, 40.0, 80.0, 160.0, 300.0)
    settle: float = 5.0
    poll: float = 1.0
    longest_poll: float = 30.0
    job: tuple[float, float] = (10.0, 30.0)
    latency: tuple[float, float] = (0.05, 0.5)

    @property
    def margin(self) -> float:
        """Before the end of its lease a job is not polled any more for so long."""
        return self.lease / 15


_SLOWNESS = min(3.0, slowness(measure()))

FULL = Times()
SHORT = Times(
    # A process that waits for a core does not renew its lease, which proves nothing.
    lease=1.5 * _SLOWNESS,
    renew=0.4 * _SLOWNESS,
    look=0.2,
    take_over=0.3,
    write=0.2,
    idle=1.2,
    polls=(0.2, 0.4),
    call=0.01,
    retries=(1.0,) * 6,
    settle=0.2,
    poll=0.2,
    longest_poll=0.8,
    job=(0.5, 2.5),
    latency=(0.01, 0.08),
)


_LONGEST = ("_MAX_DELAY", "_MAX_PROFILED_DELAY", "_MAX_BEFORE_ONSET", "_MAX_AFTER_FAILURE")


def use(times: Times, *, batch: int) -> None:
    """Have this process go by these times, and by batches of so many servers."""
    for module in (claims, steps, plans, jobs, batch_log, worker, board):
        module.__dict__["LEASE"] = times.lease
    for module in (requeue, durable):
        module.__dict__["RETRY_DELAYS"] = times.retries
    for module, name, value in (
        (worker, "RENEW_EVERY", times.renew),
        (board, "RENEW_EVERY", times.renew),
        (board_follower, "_LOOK_EVERY", times.look),
        (board_follower, "_TAKE_OVER_EVERY", times.take_over),
        (board, "_MARGIN", times.margin),
        (worker, "_LOOK_EVERY", times.look),
        (worker, "_LOOK_FOR_PLANS_EVERY", times.take_over),
        (rollouts, "_LOOK_EVERY", times.look),
        (reading, "_LOOK_EVERY", times.look),
        (worker, "_TAKE_OVER_EVERY", times.take_over),
        (durable, "_WRITE_DELAY", times.write),
        (proving, "_IDLE_TIMEOUT", times.idle),
        (proving, "_POLL_DELAYS", times.polls),
        (proving, "_SECONDS_A_CALL", times.call),
        (isolate, "_SETTLE_DELAY", times.settle),
        (schedule, "_MIN_DELAY", times.poll),
        *((schedule, name, min(times.longest_poll, schedule.__dict__[name])) for name in _LONGEST),
        (options, "MAX_BATCH_SIZE", batch),
    ):
        assert name in module.__dict__
        module.__dict__[name] = value


def cloud_of(times: Times, servers: int, seed: int, *, is_off: bool) -> CloudSettings:
    """What a cloud is like whose servers take these times, and are all on or all off at first."""
    return CloudSettings(
        servers=servers, seed=seed, job_seconds=times.job, throttle="none", stopped_share=float(is_off)
    )
