"""Runs over a plain OpenStack cloud, judged by what it did for each server, and by how often it was asked."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from bms_async import Outcome, OutcomeState
from bms_async.errors import CallError, TransportError
from tests.simulation.actors import RanFleet
from tests.simulation.evidence import SLACK, Evidence
from tests.simulation.ledger import Part

_READINGS = ("nova.servers.list_details", "nova.servers.get")
_DISTANCE = 1.0
_NO_NEWS = 1790.0
_WHOLE_SECONDS = 2.0
"""Seconds by which the times that a cloud tells may be off, each cut to a whole one."""


def judge_native(evidence: Evidence, ran: RanFleet, outcome: Outcome) -> str | None:
    """Tell what is wrong with a server that is said to have failed, or of which nothing is said to be known."""
    if outcome.state is OutcomeState.UNKNOWN:
        return None if _why_unknown(evidence, ran, outcome) else f"nothing was lost ({outcome.error!r})"
    server_id = outcome.server_id
    parts = evidence.parts(ran.deed, server_id, ran.began)
    is_certain = evidence.is_alone(server_id) and not _is_denied(evidence, server_id)
    if is_certain and any(part.changes for part in parts):
        return f"it was done ({outcome.error!r})"
    return None if _why_failed(evidence, ran, outcome, parts) else f"nothing went wrong ({outcome.error!r})"


def _why_failed(evidence: Evidence, ran: RanFleet, outcome: Outcome, parts: list[Part]) -> str | None:
    server_id, error = outcome.server_id, outcome.error
    at = evidence.known_at(ran, outcome)
    of_all = evidence.ledger.parts.get(server_id, [])
    gone = any(part.gone and part.ends <= at for part in of_all)
    if gone or server_id not in evidence.ledger.powered or _is_denied(evidence, server_id):
        return "no server has this id, or so it was told"
    if any(part.obeyed and part.code is not None and part.ends <= at for part in parts):
        return "the cloud could not do it"
    asked = evidence.exchanges(ran.deed, server_id, ran.began)
    if any(each.is_refusal for each in asked):
        return "it was refused"
    is_lost = isinstance(error, TransportError) and not error.maybe_delivered
    is_tokenless = isinstance(error, CallError) and error.operation == "identity.create_token"
    if (is_lost or is_tokenless or evidence.breaks) and not any(each.is_doubtful for each in asked):
        return "it never came to the cloud"
    is_shared = not evidence.is_alone(server_id) and any(part.obeyed for part in of_all)
    return "somebody else did something to it" if is_shared else None


def _is_denied(evidence: Evidence, server_id: str) -> bool:
    looks = (each for each in evidence.asked.get(server_id, ()) if each.operation == "nova.servers.get")
    return any(each.status == 404 for each in looks)


def _why_unknown(evidence: Evidence, ran: RanFleet, outcome: Outcome) -> str | None:
    why = evidence.why_unknown(ran, outcome)
    if why is not None:
        return why
    at, scenario = evidence.known_at(ran, outcome), evidence.played.scenario
    asked = evidence.exchanges(ran.deed, outcome.server_id, ran.began)
    if any(not part.obeyed for each in asked for part in each.parts):
        return "it was accepted, and nothing came of it"
    for each in asked:
        for part in each.parts:
            quick = part.ends <= (each.ended or at) + _WHOLE_SECONDS + scenario.latency[1]
            if quick or scenario.clock_skew:
                # It was over before a reading could show it, or the cloud's times do not tell.
                return "nobody can have seen it"
    if not evidence.is_alone(outcome.server_id):
        return "somebody else is at it"
    accepted = max((each.ended or 0.0 for each in asked), default=0.0)
    readings = [each for each in evidence.played.exchanges if each.operation in _READINGS and each.began >= accepted]
    good = [each.ended or 0.0 for each in readings if each.status == 200 and not each.garbled]
    if at - max(good, default=accepted) >= _NO_NEWS:
        return "it could not be read for half an hour"
    return None


def judge_listings(evidence: Evidence) -> Iterator[str]:
    """Tell whether a cloud was asked for states more often than once a second for each run, or for each server."""
    played = evidence.played
    if sum(ran.deed.native for ran in played.done.runs) != 1:
        return
    readings = (each for each in played.exchanges if each.operation in _READINGS)
    for earlier, later in pairwise(readings):
        if later.began - earlier.began < _DISTANCE - SLACK:
            yield f"R1 two readings of states came within {later.began - earlier.began:.3f} s, at {later.began:.3f}"
            return
