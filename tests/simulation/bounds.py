"""How long a scenario may take: what limits, jobs and polls dictate, and what goes wrong."""

from __future__ import annotations

import math
from fractions import Fraction

from bms_async.simulator import Answer
from tests.simulation.scenario import Call, Deed, RunFleet, Scenario, Suspend
from tests.simulation.wants import Reconcile, WishMany

_MINUTE = 60.0
_POWER = ("servers.start", "servers.stop", "servers.reboot")

# How long things may take, with room to spare: an end that comes too late is told, and one that is merely slow is not.
_POLLS_A_JOB = 8
_WAYS = 12
_GRACE = 240.0
_A_MISHAP = 150.0
_PATIENCE = 4000.0
_TRIES = 7
_PUT_OFF = 620.0
_READS_A_SERVER = 4
_FEW = 50
_A_POLL = 30.0
_A_TOLD_LIMIT = 5
# For so long a server is watched that is at something.
_MOVING = 1800.0
_LEASE = 20.0
_SLOWER = 10
_ENDLESS = 20
_ABSORBED, _RECHECK = 8.0, 11.0


def longest(scenario: Scenario) -> float:
    """Seconds by which a scenario must be over: what limits, jobs and polls dictate, and each mishap's due."""
    begins = [_last_word(deed) for deed in scenario.deeds]
    calls = sum(_batches(scenario, deed) for deed in scenario.deeds)
    # A token may have ended, and a refused batch is parted.
    tries = (1 + (scenario.auth == "password")) * (4 if scenario.refuse_batches else 1)
    power = min((scenario.limits.get(name, 50) for name in _POWER), default=50) * scenario.others * 0.6
    polls = scenario.limits.get("jobs.get", 2000) * scenario.others * 0.5
    if any(isinstance(mishap.trouble, Answer) and mishap.trouble.status == 429 for mishap in scenario.mishaps):
        # It names a limit, and is believed.
        power, polls = min(power, _A_TOLD_LIMIT * 0.6), min(polls, _A_TOLD_LIMIT * 0.5)
    dictated = (
        (_MINUTE + 1) * (tries * calls / max(1.0, power) + 1)
        + scenario.job_seconds[1]
        + _POLLS_A_JOB * _jobs_a_batch(scenario) * calls * _MINUTE / max(1.0, polls)
        + max((_waves(scenario, deed) for deed in scenario.deeds), default=0.0)
        + max((_retries(scenario, deed) for deed in scenario.deeds), default=0.0)
        + max((_walked(scenario, deed) for deed in scenario.deeds), default=0.0)
        + max((_each(scenario, deed) for deed in scenario.deeds), default=0.0)
        + max((_wished(scenario, deed) for deed in scenario.deeds), default=0.0)
        + sum(_reconciled(scenario, deed) for deed in scenario.deeds)
        + sum(after + pause for deed in scenario.deeds if isinstance(deed, RunFleet) for after, pause in deed.pauses)
        + _MINUTE * _READS_A_SERVER * min(scenario.servers, _FEW) / scenario.limits.get("servers.get", 1000)
        + _WAYS * scenario.latency[1]
        + _GRACE
    )
    pages = -(scenario.servers // -scenario.page_cap)
    dictated += _MINUTE * _TRIES * pages / scenario.limits.get("servers.list", 500)
    return max(begins, default=0.0) + dictated + misfortune(scenario)


def misfortune(scenario: Scenario) -> float:
    """Seconds that a scenario may take longer because of what goes wrong in it."""
    mishaps = sum(_A_MISHAP * min(mishap.count, 20) for mishap in scenario.mishaps)
    if scenario.stuck_share:
        mishaps += _TRIES * (2 * scenario.no_news + _MOVING + _GRACE)
    if scenario.stillborn_share:
        mishaps += _TRIES * _GRACE
    if any(foreign.where in ("credentials", "transport") for foreign in scenario.foreign):
        mishaps += _TRIES * _PATIENCE
    mishaps += sum(deed.seconds for deed in scenario.deeds if isinstance(deed, Suspend))
    if scenario.workers:
        # A lease, and until states have settled what was left; and credentials that break are waited for.
        mishaps += len(scenario.deaths) * (_LEASE + _MOVING + _GRACE) + _PUT_OFF
        mishaps += sum(deed.durable.pause for deed in scenario.deeds if isinstance(deed, RunFleet) and deed.durable)
        mishaps += sum(death.at + death.seconds for death in scenario.deaths)
    losses = sum(len(deed.losses) for deed in scenario.deeds if isinstance(deed, Reconcile))
    mishaps += losses * (_LEASE + _MOVING + _GRACE)
    # Each of the tries of a server may end in a job that nothing can be learned of.
    mishaps += _TRIES * _PATIENCE * sum(mishap.count > 20 for mishap in scenario.mishaps)
    if scenario.latency[1] > scenario.timeout:
        # Half of all calls fail by themselves, polls and looks at servers too.
        mishaps += 4 * _PATIENCE
    return mishaps


def _last_word(deed: Deed) -> float:
    """When a deed has said all it wants."""
    return deed.at + (deed.count * deed.pause if isinstance(deed, RunFleet) and deed.source == "slow" else 0.0)


def wave_of(deed: RunFleet, servers: int) -> int | None:
    """How many servers of a deed may be under way at once; None for any number."""
    size, share = deed.options.wave_size, deed.options.abort_above
    if size is not None or share is None or share >= 1:
        return size
    return max(1, math.floor(Fraction(str(share)) * servers))


def _waves(scenario: Scenario, deed: Deed) -> float:
    """How long a deed takes because few servers may be under way at once."""
    if not isinstance(deed, RunFleet) or (size := wave_of(deed, deed.count)) is None:
        return 0.0
    waves = -(deed.count // -size)
    lost = _GRACE if scenario.job_kept_seconds is not None or scenario.stillborn_share else 0.0
    lost += 2 * scenario.no_news + _MOVING if scenario.stuck_share else 0.0
    return waves * (scenario.job_seconds[1] + scenario.job_hidden_seconds + 4 * scenario.latency[1] + _A_POLL + lost)


def _walked(scenario: Scenario, deed: Deed) -> float:
    """How long a rollout may take beside the rest: each of its servers may have to wait for all others."""
    if not isinstance(deed, RunFleet) or deed.walk is None:
        return 0.0
    walk = deed.walk
    one = scenario.job_seconds[1] + scenario.job_hidden_seconds + 4 * scenario.latency[1] + _A_POLL + walk.settle
    one += scenario.boot_seconds[1] + (walk.ready_timeout if walk.ready else 0.0) + _MINUTE
    one += _GRACE if scenario.job_kept_seconds is not None or scenario.stillborn_share else 0.0
    one += 2 * scenario.no_news + _MOVING if scenario.stuck_share else 0.0
    one += _retries(scenario, deed) if scenario.fail_share or scenario.locked_share else 0.0
    one += _natively(scenario) if deed.native else 0.0
    closed = 60.0 * walk.hours[-1][0] if walk.hours else 0.0
    return (deed.count + deed.unknown) * one + closed


def _each(scenario: Scenario, deed: Deed) -> float:
    """How long a call for each server takes."""
    if not isinstance(deed, RunFleet) or not (deed.is_each or deed.native):
        return 0.0
    most = scenario.limits.get(deed.operation, 50) * scenario.others * 0.6
    calls = (_MINUTE + 1) * (_TRIES * (deed.count + deed.unknown) / max(1.0, most) + 1) + _TRIES * _A_MISHAP
    return calls + (_natively(scenario) if deed.native else 0.0)


def _wished(scenario: Scenario, deed: Deed) -> float:
    """How long wishes for one server take, one after the other."""
    if not isinstance(deed, WishMany):
        return 0.0
    one = scenario.job_seconds[1] + scenario.job_hidden_seconds + 4 * scenario.latency[1] + _A_POLL + _PUT_OFF
    one += _GRACE if scenario.job_kept_seconds is not None or scenario.stillborn_share else 0.0
    one += 2 * scenario.no_news + _MOVING if scenario.stuck_share else 0.0
    return max(wish.after for wish in deed.wishes) + deed.longest_chain * one


def _reconciled(scenario: Scenario, deed: Deed) -> float:
    if not isinstance(deed, Reconcile):
        return 0.0
    return deed.last_word + tight(scenario, deed) + deed.stays + _GRACE


def tight(scenario: Scenario, deed: Reconcile) -> float:
    """Seconds by which a reconciler has done its work after the last disturbance, if nothing goes wrong.

    One reading, and what jobs and limits take.
    """
    pages = -(scenario.servers // -scenario.page_cap)
    reading = _ABSORBED + 4 * pages * scenario.latency[1]
    one = scenario.job_seconds[1] + scenario.job_hidden_seconds + scenario.state_lag + _A_POLL + 4 * scenario.latency[1]
    seconds = deed.resync + reading + -(deed.wanted // -deed.at_once) * one
    if deed.replicas:
        # A lease, and looks at the journal.
        seconds += 2 * _LEASE + _A_POLL
    if scenario.state_lag:
        # What shows a task is looked at by the next reading, and what contradicts a success once more.
        seconds += deed.resync + reading + _RECHECK
    if deed.drifts or deed.wishes:
        # What is undone again and again counts as failed.
        seconds += _RECHECK + deed.backoff[1] + deed.resync
    if scenario.limits:
        calls = sum(_batches(scenario, each) for each in scenario.deeds)
        power = min(scenario.limits.get(name, 50) for name in _POWER) * scenario.others * 0.6
        seconds += (_MINUTE + 1) * (calls / max(1.0, power) + 1)
        readings = 2 + seconds / deed.resync
        seconds += (_MINUTE + 1) * readings * pages / (scenario.limits.get("servers.list", 500) * scenario.others * 0.6)
        seconds += _MINUTE * _READS_A_SERVER * deed.wanted / scenario.limits.get("servers.get", 1000)
        # Polls of many jobs are put off for as long as all of them together want more than there are.
        seconds += _A_POLL * calls
    return seconds


def is_hopeless(scenario: Scenario) -> bool:
    """Whether calls or jobs fail for ever."""
    endless = any(mishap.count > _ENDLESS for mishap in scenario.mishaps)
    return endless or bool(scenario.foreign) or scenario.stillborn_share == 1.0


def _natively(scenario: Scenario) -> float:
    """How long it may take until it is known what became of a native action."""
    return _SLOWER * scenario.job_seconds[1] + _MOVING + _PUT_OFF + 2 * _GRACE


def _retries(scenario: Scenario, deed: Deed) -> float:
    """How long a server is asked for again and again, where a job that is not kept may be the answer each time."""
    if not isinstance(deed, RunFleet) or not deed.options.retry_transient:
        return 0.0
    return _PUT_OFF + (0.0 if scenario.job_kept_seconds is None else _TRIES * (_GRACE + scenario.job_hidden_seconds))


def _jobs_a_batch(scenario: Scenario) -> int:
    """How many jobs a batch may come to: where they are not kept, its servers may be asked for again each time."""
    return 1 if scenario.job_kept_seconds is None else _TRIES


def _batches(scenario: Scenario, deed: Deed) -> int:
    if isinstance(deed, WishMany):
        return len(deed.wishes)
    if isinstance(deed, Reconcile):
        return len(deed.wishes) + 2 * (len(deed.drifts) + len(deed.wants) + len(deed.restarts))
    if not isinstance(deed, RunFleet) or deed.is_each or deed.native:
        return int(isinstance(deed, Call))
    if deed.walk is not None:
        # Each server may go in a call of its own.
        return deed.count + deed.unknown
    # A slow source may give each server a batch of its own.
    return deed.count + deed.unknown if deed.source == "slow" else -(deed.count // -scenario.batch) + 1
