"""The rules that may never break, as far as they are not about outcomes: R1, R3, R4, R6, R8, R10, and an end to it."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from bms_async.simulator import DOCUMENTED_LIMITS
from tests.simulation.bounds import longest
from tests.simulation.evidence import Evidence
from tests.simulation.ledger import Exchange
from tests.simulation.natives import judge_listings
from tests.simulation.outcomes import judge_runs
from tests.simulation.reconcile_rules import judge_reconcilers
from tests.simulation.scenario import Close, RunFleet, Suspend
from tests.simulation.single_calls import judge_repetitions
from tests.simulation.waiters import judge_calls, judge_listeners
from tests.simulation.walk_rules import judge_walks
from tests.simulation.wants import Reconcile
from tests.simulation.wish_rules import judge_wishes
from tests.simulation.world import Played

_MINUTE = 60.0
_POWER = ("servers.start", "servers.stop", "servers.reboot")
_CONNECTIONS = 64
_GRAIN = 1e-6


def broken_rules(played: Played) -> list[str]:
    """Tell which rules a scenario broke, and how."""
    evidence = Evidence(played)
    return [
        *_ended(played),
        *_r1(played),
        *judge_runs(evidence),
        *judge_walks(evidence),
        *judge_wishes(evidence),
        *judge_reconcilers(evidence),
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
    if any(loss.kind == "stalls" for one in played.done.reconciled for loss in one.deed.losses):
        return True
    return scenario.workers > 0 and (
        any(death.kind == "stalls" for death in scenario.deaths)
        or any(isinstance(deed, Suspend) for deed in scenario.deeds)
    )


def _ended(played: Played) -> Iterator[str]:
    if not played.done.whole:
        yield "somebody waits for ever"
    elif played.ended_at > (bound := longest(played.scenario)):
        yield f"it took {played.ended_at:.0f} virtual seconds, and {bound:.0f} would be long"


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
    reconciled = (each for one in played.done.reconciled for each in one.wished)
    for wished in (*played.done.wished, *reconciled):
        requests[wished.server_id] = requests.get(wished.server_id, 0) + (wished.wish.action == "reboot")
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
    clients = 1 + scenario.workers + sum(len(one.clients) for one in played.done.reconciled)
    if played.most_open > _CONNECTIONS * clients:
        yield f"R10 {played.most_open} requests were under way at once"
    batches = sum(each.operation in _POWER for each in played.exchanges)
    users = sum(len(ran.seen) + 3 for ran in played.done.runs) + sum(len(called.waited) for called in played.done.calls)
    batches += (4 * batches + 20 * (scenario.workers + len(scenario.deaths))) if scenario.workers else 0
    # Workers, and checks.
    users += sum(len(ran.handed) for ran in played.done.runs if _has_many_tasks(ran.deed))
    users += 3 * len(played.done.wished) + sum(
        40 * (1 + len(each.clients)) + 3 * len(each.deed.wishes) for each in played.done.reconciled
    )
    bound = 60 * len(played.done.runs) + batches + users + 3 * _CONNECTIONS + len(scenario.deeds) + 30
    if played.most_tasks > bound:
        yield f"R10 there were {played.most_tasks} tasks at once, and {bound} would be many"


def _has_many_tasks(deed: RunFleet) -> bool:
    return deed.is_each or deed.native or deed.walk is not None


def _leaves(deed: object) -> bool:
    people = (*getattr(deed, "consumers", ()), *getattr(deed, "waiters", ()), *getattr(deed, "wishes", ()))
    return (
        isinstance(deed, Close | Reconcile)
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
