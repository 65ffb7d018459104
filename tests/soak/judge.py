"""What may not be: pure, of what was told and what the books say."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from statistics import median

from bms_async import FleetReport, Outcome, OutcomeState
from bms_async.simulator import CallCounts
from tests.soak.faults import draw_script
from tests.soak.processes import LIMITS
from tests.soak.proxy import ProxyBooks
from tests.soak.remains import SENDING, Remains


def judge_report(
    action: str, report: FleetReport | None, handed: Sequence[str], seen: Sequence[Sequence[Outcome]]
) -> Iterator[str]:
    """Tell what is wrong with what a run said of the servers that it was handed.

    Args:
        action: What it was to do.
        report: Its report.
        handed: The ids that it has taken.
        seen: What those saw who stayed to the end.
    """
    if report is None:
        yield f"R2 a run of {action} has no report"
        return
    told = Counter(outcome.server_id for outcome in report.outcomes)
    if missing := set(handed) - told.keys():
        yield f"R2 {len(missing)} of {len(set(handed))} servers have no outcome of {action}, such as {min(missing)}"
    if twice := [server_id for server_id, count in told.items() if count > 1]:
        yield f"R2 {len(twice)} servers have several outcomes of {action}, such as {twice[0]}"
    states = Counter(outcome.state for outcome in report.outcomes)
    if {state: count for state, count in report.by_state.items() if count} != states:
        yield f"R2 a report of {action} counts {dict(report.by_state)}, and its outcomes are {dict(states)}"
    for outcomes in seen:
        if list(outcomes) != list(report.outcomes):
            yield f"R2 somebody saw {len(outcomes)} outcomes of {action}, and the report has {len(report.outcomes)}"


def judge_deeds(
    action: str, report: FleetReport, before: Mapping[str, int], after: Mapping[str, int], *, alone: bool
) -> Iterator[str]:
    """Tell where a run's word and what the cloud did contradict each other.

    Args:
        action: What it was to do.
        report: Its report.
        before: How often the cloud had begun that with each server when the run began.
        after: And how often afterwards.
        alone: Whether nothing else can have been asked for these servers.
    """
    for outcome in report.outcomes if alone else ():
        server_id, state = outcome.server_id, outcome.state
        times = after.get(server_id, 0) - before.get(server_id, 0)
        if action == "reboot" and times > 1:
            yield f"R3 {server_id} was restarted {times} times for one request ({state.value})"
        if state is OutcomeState.SKIPPED and times:
            yield f"R2 {action} of {server_id} is SKIPPED, and the cloud has done it"
        if state is OutcomeState.SUCCEEDED and not times:
            yield f"R2 {action} of {server_id} is SUCCEEDED, and the cloud has not done it"
        if state is OutcomeState.UNCHANGED and action == "reboot":
            yield f"R2 reboot of {server_id} is UNCHANGED"


def judge_books(
    cloud: CallCounts, proxy: ProxyBooks, restarted: Mapping[str, int], asked: Mapping[str, int], seed: int
) -> Iterator[str]:
    """Tell what the books of the cloud and of the proxy have against the client.

    Args:
        cloud: The cloud's.
        proxy: The proxy's.
        restarted: How often the cloud has restarted each server.
        asked: How often a reboot of each server was asked for.
        seed: What the cloud's own faults were drawn from.
    """
    yield from proxy.failures
    if cloud.refused:
        yield f"R1 the cloud has counted {cloud.refused} calls out"
    arrived = {name: book.arrived for name, book in cloud.operations.items()}
    for name, limit in LIMITS.items():
        worst = cloud.operations[name].worst_minute if name in arrived else 0
        if worst > limit:
            yield f"R1 {worst} calls of {name} in one minute, and {limit} are allowed"
        if (had := arrived.get(name, 0)) != (given := proxy.delivered[name]):
            yield f"the cloud has had {had} calls of {name}, and the proxy gave it {given}"
    drawn = sum(
        type(each.fault).__name__ == "Throttled" and each.nth <= arrived.get(each.operation, 0)
        for each in draw_script(seed)
    )
    if proxy.refused != drawn:
        yield f"R1 {proxy.refused} calls were refused, and {drawn} were to be"
    for server_id, times in restarted.items():
        if times > asked.get(server_id, 0):
            yield f"R3 {server_id} was restarted {times} times, and asked for {asked.get(server_id, 0)} times"


def judge_remains(base: Remains, now: Remains, connections: int) -> Iterator[str]:
    """Tell what has not gone away after a round.

    Args:
        base: What was there before the first.
        now: What is there when nothing is under way.
        connections: How many the open client may keep.
    """
    senders = now.tasks[SENDING]
    if senders > connections:
        yield f"{senders} tasks send over {connections} connections"
    for name, count in now.tasks.items():
        if name != SENDING and count > base.tasks[name]:
            yield f"{count} tasks are called {name!r}, and {base.tasks[name]} were"
    if now.sockets > base.sockets + connections:
        yield f"{now.sockets} sockets are open, {base.sockets} were, and {connections} may be kept"
    for name, count in now.ours.items():
        if count > base.ours[name]:
            yield f"there is {count} {name}, and was {base.ours[name]}"


def judge_growth(rounds: Sequence[tuple[float, Remains]], warm_at: float, most: float) -> Iterator[str]:
    """Tell whether memory grows; a few rounds together are less of a draw than one.

    Args:
        rounds: What was there after each, and when that was.
        warm_at: When all is as large as it is to be.
        most: How many MB more there may be at the end.
    """
    warm = [remains.megabytes for at, remains in rounds if at >= warm_at]
    if len(warm) < 2:
        yield "it did not last long enough to tell whether memory grows"
        return
    some = max(1, len(warm) // 3)
    first, last = median(warm[:some]), median(warm[-some:])
    if last - first > most:
        yield f"memory has grown from {first:.1f} to {last:.1f} MB, by more than {most:g}"
