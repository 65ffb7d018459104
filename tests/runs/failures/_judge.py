"""What may not be: pure, of what the run reports and what the cloud's books say."""

from __future__ import annotations

from collections.abc import Iterator

from bms_async import OutcomeState
from bms_async.simulator.core.servers import PowerAction
from tests.runs.failures._stage import Result


def judge(result: Result, action: PowerAction = "reboot") -> list[str]:
    """Return what is wrong; nothing if all is as promised.

    Args:
        result: What came of a scenario.
        action: What the run did.
    """
    wrong = [result.error] if result.error else [*_judge_outcomes(result, action), *_judge_polls(result)]
    if action == "reboot" and result.twice:
        wrong.append(f"{result.twice} servers were rebooted twice")
    return wrong


def judge_rollout(result: Result, allowed: int) -> list[str]:
    """Return what is wrong with a rollout of reboots in which whoever plans it dies; nothing if all is as promised.

    Args:
        result: What came of a scenario.
        allowed: How many servers may be away at once.
    """
    # A batch whose answer was lost takes its room for good, and what is left may have to be skipped for it.
    wrong = [each for each in judge(result) if not (result.doubtful and each.endswith("are SKIPPED"))]
    if not 0 < result.away <= allowed:
        wrong.append(f"{result.away} servers were away at once, and {allowed} may be")
    return wrong


def _judge_outcomes(result: Result, action: PowerAction) -> Iterator[str]:
    ids = [outcome.server_id for outcome in result.outcomes]
    if sorted(ids) != sorted(result.servers):
        yield f"{len(ids)} outcomes of {len(set(ids))} servers, and there are {len(result.servers)}"
    by_state = {
        state: {outcome.server_id for outcome in result.outcomes if outcome.state is state} for state in OutcomeState
    }
    done = by_state[OutcomeState.SUCCEEDED] | by_state[OutcomeState.UNCHANGED]
    unknown = by_state[OutcomeState.UNKNOWN]
    for state in (OutcomeState.FAILED, OutcomeState.SKIPPED):
        if by_state[state]:
            yield f"{len(by_state[state])} servers are {state.value}"
    if action == "reboot":
        if untrue := {server_id for server_id in done if result.obeyed[server_id] != 1}:
            yield f"{len(untrue)} servers are SUCCEEDED, and were not rebooted once"
        if by_state[OutcomeState.UNCHANGED]:
            yield "a server is UNCHANGED after a reboot"
        if surplus := unknown - result.doubtful:
            yield f"{len(surplus)} servers are UNKNOWN, and the answer of their batch was not lost"
    else:
        if unknown:
            yield f"{len(unknown)} servers are UNKNOWN after a {action}"
        if left := set(result.servers) - result.wanted:
            yield f"{len(left)} servers are not as asked"


def _judge_polls(result: Result) -> Iterator[str]:
    if result.crowded:
        yield f"{result.crowded} jobs had two polls in flight, and nobody stood still"
    if result.very_crowded:
        yield f"{result.very_crowded} jobs had more than two polls in flight"
