"""Runs that make a call for each server, judged by what came to the cloud of each."""

from __future__ import annotations

from collections.abc import Iterator

from bms_async import Outcome, OutcomeState, TransportError
from bms_async.errors import CallError
from bms_async.simulator.core.attributes import name_of, tags_of
from tests.simulation.actors import RanFleet
from tests.simulation.evidence import SLACK, Evidence
from tests.simulation.rollouts import TAG, name_for
from tests.simulation.walk_rules import judge_ready


def judge_single(evidence: Evidence, ran: RanFleet, outcome: Outcome) -> str | None:
    """Tell what is wrong with the outcome of a server that was asked for; None if it is true."""
    match outcome.state:
        case OutcomeState.SUCCEEDED:
            return judge_ready(evidence, ran, outcome) or _judge_success(evidence, ran, outcome)
        case OutcomeState.FAILED:
            return _judge_failure(evidence, ran, outcome)
        case OutcomeState.UNKNOWN:
            why = evidence.why_unknown(ran, outcome)
            return None if why is not None else f"nothing was lost ({outcome.error!r})"
        case _:
            return "no call says that it was so already"


def was_done(evidence: Evidence, ran: RanFleet, outcome: Outcome) -> bool:
    """Whether the cloud has done what was asked of a server."""
    cloud, server_id = evidence.played.cloud, outcome.server_id
    server = evidence.played.machines.get(server_id)
    if server is None:
        return False
    if ran.deed.action == "reinstall":
        return any(each.server_id == server_id and each.action == "reinstall" for each in evidence.absences)
    extra = cloud.attributes_of(server)
    if ran.deed.action == "rename":
        return name_of(server, extra) == name_for(server_id)
    return TAG in tags_of(server, extra)


def _judge_success(evidence: Evidence, ran: RanFleet, outcome: Outcome) -> str | None:
    server_id = outcome.server_id
    if not was_done(evidence, ran, outcome):
        return "nothing happened to it"
    if ran.deed.action == "reinstall":
        begun = [each.asked for each in evidence.absences if each.server_id == server_id]
        if evidence.told_at(ran, outcome) < min(begun) + evidence.played.scenario.job_seconds[0] - SLACK:
            return "its job has not ended"
        return "its job has failed" if evidence.played.machines[server_id].faulty else None
    if outcome.result is not ran.returned.get(server_id):
        return f"its result is {outcome.result!r}"
    return None


def _judge_failure(evidence: Evidence, ran: RanFleet, outcome: Outcome) -> str | None:
    broke = ran.raiser.raised and ran.deed.foreign is not None and ran.deed.foreign.where == "call"
    if broke and not isinstance(outcome.error, CallError):
        # It may have been done before the function raised.
        return None
    if ran.deed.action == "reinstall" and was_done(evidence, ran, outcome):
        is_faulty = evidence.played.machines[outcome.server_id].faulty
        return None if is_faulty and outcome.job_id is not None else f"it was done ({outcome.error!r})"
    asked = evidence.exchanges(ran.deed, outcome.server_id, ran.began)
    if any(each.is_refusal and each.code == outcome.code for each in asked):
        return None
    if isinstance(outcome.error, TransportError) and not outcome.error.maybe_delivered:
        return None
    if evidence.token_failed or evidence.may_be_barred() or evidence.breaks:
        return None
    return f"no refusal says {outcome.code} ({outcome.error!r})"


def judge_repetitions(evidence: Evidence) -> Iterator[str]:
    """Tell which servers were reinstalled more than once, or asked for again when an answer was lost."""
    for ran in evidence.played.done.runs:
        is_native_reboot = ran.deed.native and ran.deed.action == "reboot"
        for server_id in set(ran.handed) if ran.deed.action == "reinstall" or is_native_reboot else ():
            asked = evidence.exchanges(ran.deed, server_id, ran.began)
            if any(each.is_doubtful for each in asked[:-1]) and evidence.is_alone(server_id):
                yield f"R3 {ran.deed.action} of {server_id} was asked for again though an answer was lost"
            begun = [each for each in evidence.absences if each.server_id == server_id and each.action == "reinstall"]
            if len(begun) > 1:
                yield f"R3 {server_id} was reinstalled more than once for one request"
