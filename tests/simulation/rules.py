"""The rules that may never break, as far as they are not about outcomes: R1, R3, R4, R6, R8, R10, and an end to it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from bms_async.simulator import DOCUMENTED_LIMITS, Answer
from tests.simulation.evidence import Evidence
from tests.simulation.ledger import Exchange
from tests.simulation.natives import judge_listings
from tests.simulation.outcomes import judge_runs
from tests.simulation.scenario import Call, Close, Deed, RunFleet, Scenario, Suspend
from tests.simulation.single_calls import judge_repetitions
from tests.simulation.waiters import judge_calls, judge_listeners
from tests.simulation.walk_rules import judge_walks
from tests.simulation.wants import WishMany
from tests.simulation.wish_rules import judge_wishes
from tests.simulation.world import Played

_MINUTE = 60.0
_POWER = ("servers.start", "servers.stop", "servers.reboot")
_CONNECTIONS = 64
_GRAIN = 1e-6

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


def broken_rules(played: Played) -> list[str]:
    """Tell which rules a scenario broke, and how."""
    evidence = Evidence(played)
    return [
        *_ended(played),
        *_r1(played),
        *judge_runs(evidence),
        *judge_walks(evidence),
        *judge_wishes(evidence),
        *judge_calls(evidence),
        *judge_listeners(evidence),
        *_r3(played),
        *judge_repetitions(evidence),
        *judge_listings(evidence),
        *_r4_and_r10(played),
        *(() if _stood_still(played) else _r6(evidence)),
        *_r8(played),
        *_lists(played),
        *(f"a surprise: {text}" for text in played.done.surprises),
        *(f"the SDK complains of itself: {text}" for text in played.complaints),
    ]


def _stood_still(played: Played) -> bool:
    """Whether a worker may have gone on with what another one has taken over meanwhile."""
    scenario = played.scenario
    return scenario.workers > 0 and (
        any(death.kind == "stalls" for death in scenario.deaths)
        or any(isinstance(deed, Suspend) for deed in scenario.deeds)
    )


def _ended(played: Played) -> Iterator[str]:
    if not played.done.whole:
        yield "somebody waits for ever"
    elif played.ended_at > (bound := longest(played.scenario)):
        yield f"it took {played.ended_at:.0f} virtual seconds, and {bound:.0f} would be long"


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
        + sum(after + pause for deed in scenario.deeds if isinstance(deed, RunFleet) for after, pause in deed.pauses)
        + _MINUTE * _READS_A_SERVER * min(scenario.servers, _FEW) / scenario.limits.get("servers.get", 1000)
        + _WAYS * scenario.latency[1]
        + _GRACE
    )
    pages = -(scenario.servers // -scenario.page_cap)
    dictated += _MINUTE * _TRIES * pages / scenario.limits.get("servers.list", 500)
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
    # Each of the tries of a server may end in a job that nothing can be learned of.
    mishaps += _TRIES * _PATIENCE * sum(mishap.count > 20 for mishap in scenario.mishaps)
    if scenario.latency[1] > scenario.timeout:
        # Half of all calls fail by themselves, polls and looks at servers too.
        mishaps += 4 * _PATIENCE
    return max(begins, default=0.0) + dictated + mishaps


def _last_word(deed: Deed) -> float:
    """When a deed has said all it wants."""
    return deed.at + (deed.count * deed.pause if isinstance(deed, RunFleet) and deed.source == "slow" else 0.0)


def _waves(scenario: Scenario, deed: Deed) -> float:
    """How long a deed takes because few servers may be under way at once."""
    if not isinstance(deed, RunFleet) or deed.options.wave_size is None:
        return 0.0
    waves = -(deed.count // -deed.options.wave_size)
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
    if not isinstance(deed, RunFleet) or deed.is_each or deed.native:
        return int(isinstance(deed, Call))
    if deed.walk is not None:
        # Each server may go in a call of its own.
        return deed.count + deed.unknown
    # A slow source may give each server a batch of its own.
    return deed.count + deed.unknown if deed.source == "slow" else -(deed.count // -scenario.batch) + 1


def _lists(played: Played) -> Iterator[str]:
    """A list that ends without an error holds each server once; some may be deleted meanwhile."""
    there = played.ledger.powered.keys()
    gone = {part.server_id for parts in played.ledger.parts.values() for part in parts if part.gone}
    for listed in played.done.lists:
        if {*listed, *gone} != there or len(listed) != len(set(listed)):
            found = f"{len(listed)} entries, {len(set(listed))} of {len(there)} servers"
            yield f"R2 a list ended with {found}, and no error"


def _r1(played: Played) -> Iterator[str]:
    scenario = played.scenario
    limits = {**DOCUMENTED_LIMITS, **scenario.limits}
    budgets: dict[str, tuple[str, ...]] = {
        name: (name,) for name in limits if name not in _POWER or not scenario.shared_power_budget
    }
    if scenario.shared_power_budget:
        budgets["servers.stop"] = _POWER
    for name, operations in budgets.items():
        arrivals = sorted(
            each.arrived for each in played.exchanges if each.operation in operations and each.arrived is not None
        )
        limit = limits[name]
        for earlier, later in zip(arrivals, arrivals[limit:], strict=False):
            if later - earlier < _MINUTE - _GRAIN:
                yield f"R1 {limit + 1} calls of {name} came within {later - earlier:.3f} s, at {later:.3f}"
                break
    if played.refused and scenario.others == 1.0:
        yield f"R1 {played.refused} calls were counted out though nobody else uses the account"


def _r3(played: Played) -> Iterator[str]:
    requests: dict[str, int] = {}
    for ran in played.done.runs:
        for server_id in set(ran.handed) if ran.deed.action == "reboot" else ():
            requests[server_id] = requests.get(server_id, 0) + 1
    for called in played.done.calls:
        for server_id in called.servers if called.deed.action == "reboot" else ():
            requests[server_id] = requests.get(server_id, 0) + 1
    for one in played.done.wished:
        requests[one.server_id] = requests.get(one.server_id, 0) + (one.wish.action == "reboot")
    for server_id, parts in played.ledger.parts.items():
        reboots = sum(part.action == "reboot" and part.obeyed for part in parts)
        if reboots > requests.get(server_id, 0):
            yield f"R3 server {server_id} was rebooted {reboots} times for {requests.get(server_id, 0)} requests"


def _r4_and_r10(played: Played) -> Iterator[str]:
    for what, size in played.left.items():
        yield f"R4 {size} {what} are left after the client was closed"
    scenario = played.scenario
    if not any(_leaves(deed) for deed in scenario.deeds):
        # A token may be on its way ahead of time.
        renewing = scenario.auth == "password"
        for what, size in played.before_close.items():
            if renewing and what == "requests in flight":
                continue
            yield f"R10 {size} {what} are kept when there is nothing more to do"
    if played.most_open > _CONNECTIONS * (1 + scenario.workers):
        yield f"R10 {played.most_open} requests were under way at once"
    batches = sum(each.operation in _POWER for each in played.exchanges)
    users = sum(len(ran.seen) + 3 for ran in played.done.runs) + sum(len(called.waited) for called in played.done.calls)
    batches += (4 * batches + 20 * (scenario.workers + len(scenario.deaths))) if scenario.workers else 0
    # Workers, and checks.
    users += sum(len(ran.handed) for ran in played.done.runs if _has_many_tasks(ran.deed))
    users += 3 * len(played.done.wished)
    bound = 60 * len(played.done.runs) + batches + users + 3 * _CONNECTIONS + len(scenario.deeds) + 30
    if played.most_tasks > bound:
        yield f"R10 there were {played.most_tasks} tasks at once, and {bound} would be many"


def _has_many_tasks(deed: RunFleet) -> bool:
    return deed.is_each or deed.native or deed.walk is not None


def _leaves(deed: object) -> bool:
    people = (*getattr(deed, "consumers", ()), *getattr(deed, "waiters", ()), *getattr(deed, "wishes", ()))
    return (
        isinstance(deed, Close)
        or getattr(deed, "cancel_after", None) is not None
        or getattr(deed, "leaves_after", None) is not None
        or any(person.leaves_after is not None for person in people)
        or (isinstance(deed, RunFleet) and deed.options.total_timeout is not None)
    )


def _r6(evidence: Evidence) -> Iterator[str]:
    for job_id, polls in evidence.polls.items():
        for earlier, later in pairwise(polls):
            if earlier.ended is None or later.began < earlier.ended:
                yield f"R6 job {job_id} had two polls under way at {later.began:.3f} s"
                break


def _r8(played: Played) -> Iterator[str]:
    asked = [each for each in played.exchanges if each.operation == "identity.create_token"]
    for earlier, later in pairwise(asked):
        if earlier.ended is None or later.began < earlier.ended:
            yield f"R8 two tokens were asked for at once, at {later.began:.3f} s"
        elif _is_success(earlier) and not _is_explained(played, earlier, later):
            yield f"R8 a token was asked for at {later.began:.3f} s, and the last one was good"


def _is_success(exchange: Exchange) -> bool:
    return exchange.status == 201 and exchange.issued is not None and not exchange.garbled


def _is_explained(played: Played, earlier: Exchange, later: Exchange) -> bool:
    """Whether a token had to be replaced: it was to end soon, or a call was refused with it."""
    scenario = played.scenario
    lifetime = scenario.token_lifetime
    # Times are told in whole seconds, hence up to two are lost; and the life of a token counts from when it was asked
    # for, which may have waited for a connection.
    if later.began >= earlier.began + lifetime - min(scenario.margin, lifetime / 2) - 6.0:
        return True
    return any(
        each.token == earlier.issued and each.status == 401 and each.ended is not None and each.ended <= later.began
        for each in played.exchanges
    )
