"""Rollouts, judged by the cloud's books of who was away: nothing is taken from the SDK but its outcomes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from datetime import timedelta
from fractions import Fraction

from bms_async import ApiError, Outcome, OutcomeState
from bms_async.simulator import Absence
from bms_async.simulator.core.availability import most_away
from tests.simulation.actors import UNFIT, RanFleet
from tests.simulation.evidence import SLACK, Evidence
from tests.simulation.rollouts import group_of
from tests.simulation.scenario import Suspend
from tests.simulation.walk import Walk

_A_MOMENT = 1e-3
_AWAY_WHILE_ASKED = ("rename", "tag")
_LAST_CHECK = 2.1
"""Seconds before the end of its time by which a server may have been checked for the last time."""


class Rolled:
    """A run with a rollout, and what the cloud saw of its servers.

    Attributes:
        planned: The servers that it is about, in the order in which they go.
        alone: Those of which all that was done to them is this run's doing.
        absences: When these were away, in the order of their asking.
        asked: When each of these was first asked.
    """

    def __init__(self, evidence: Evidence, ran: RanFleet, walk: Walk) -> None:
        self.evidence, self.ran, self.walk = evidence, ran, walk
        self.outcomes = {outcome.server_id: outcome for outcome in ran.outcomes}
        planned = [each for each in dict.fromkeys(ran.handed[: ran.given]) if each not in UNFIT]
        if walk.needs_servers:
            planned = [each for each in planned if not _is_unseen(evidence, ran, each, self.outcomes.get(each))]
        self.planned = sorted(planned) if walk.order_by else planned
        self.alone = {each for each in planned if evidence.is_alone(each)}
        self.absences = sorted(self._absences(), key=lambda absence: absence.asked)
        sent = ((each, evidence.exchanges(ran.deed, each, ran.began)) for each in self.alone)
        self.asked = {each: exchanges[0].began for each, exchanges in sent if exchanges}

    @property
    def canaries(self) -> list[str]:
        """The servers that go first."""
        return self.planned[: self.walk.canary]

    def group(self, server_id: str) -> str:
        """Return the group of a server."""
        played = self.evidence.played
        return group_of(self.walk, played.cloud, played.machines.get(server_id))

    def allowed(self, group: str) -> int:
        """Return how many of a group may be away at once: a share is rounded down, and is one at least."""
        size = sum(self.group(each) == group for each in self.planned)
        most = self.walk.max_unavailable
        if most is None:
            return size
        return max(1, math.floor(Fraction(str(most)) * size)) if isinstance(most, float) else most

    def back(self, server_id: str) -> float | None:
        """Return when a server was back for the last time; None if it never was away."""
        return next((each.back for each in reversed(self.absences) if each.server_id == server_id), None)

    def settling(self) -> Iterator[Absence]:
        """Yield when servers were away or settled; the room of one to which nothing was done is free at once."""
        seconds = max(0.0, self.walk.settle - SLACK)
        for each in self.absences:
            yield each if self._was_refused(each.server_id) else each._replace(back=each.back + seconds)

    def _was_refused(self, server_id: str) -> bool:
        """Whether what is away while it is asked was refused each time, and ended by that."""
        if self.ran.deed.action not in _AWAY_WHILE_ASKED:
            return False
        outcome = self.outcomes.get(server_id)
        if outcome is None or outcome.state is not OutcomeState.FAILED or not isinstance(outcome.error, ApiError):
            return False
        exchanges = self.evidence.exchanges(self.ran.deed, server_id, self.ran.began)
        return all(each.is_refusal for each in exchanges if each.sent)

    def _absences(self) -> Iterator[Absence]:
        evidence, deed, began = self.evidence, self.ran.deed, self.ran.began
        if deed.action in _AWAY_WHILE_ASKED:
            for server_id in self.alone:
                for each in evidence.exchanges(deed, server_id, began):
                    if each.sent:
                        yield Absence(server_id, deed.action, each.began, each.ended or math.inf)
        elif self.walk.ready:
            for absence in evidence.absences:
                if absence.server_id in self.alone and absence.asked >= began - SLACK:
                    yield absence
        elif not deed.is_each:
            # The end of its job is enough, whatever becomes of it then.
            for server_id in self.alone:
                for part in evidence.parts(deed, server_id, began):
                    if part.obeyed:
                        yield Absence(server_id, part.action, part.asked_at, part.ends if part.changes else math.inf)


def judge_walks(evidence: Evidence) -> Iterator[str]:
    """Tell what is wrong with how fleets were walked through."""
    for ran in evidence.played.done.runs:
        if ran.deed.walk is None or ran.run is None:
            continue
        rolled = Rolled(evidence, ran, ran.deed.walk)
        for wrong in (
            *_too_many_away(rolled),
            *_before_canaries(rolled),
            *_too_many_groups(rolled),
            *_out_of_hours(rolled),
        ):
            yield f"R2 {ran.deed.action}: {wrong}"


def _too_many_away(rolled: Rolled) -> Iterator[str]:
    walk = rolled.walk
    if walk.max_unavailable is None:
        return
    found = most_away(rolled.settling(), rolled.group)
    for group, (servers, at) in found.items():
        if servers > (allowed := rolled.allowed(group)):
            yield f"{servers} servers of {group!r} were away at {at:.3f} s, and {allowed} may be"


def _before_canaries(rolled: Rolled) -> Iterator[str]:
    canaries, ran = rolled.canaries, rolled.ran
    others = {each: at for each, at in rolled.asked.items() if each not in canaries}
    if not canaries or not others:
        return
    server_id, first = min(others.items(), key=lambda each: each[1])
    for canary in canaries:
        outcome = rolled.outcomes.get(canary)
        if outcome is None or ran.options.get("verify"):
            # What it was when the others began is told to nobody.
            continue
        if not outcome.state.is_success:
            yield f"{server_id} was asked for, and canary {canary} is {outcome.state.value}"
            return
        well = max(rolled.evidence.told_at(ran, outcome), rolled.back(canary) or 0.0) + rolled.walk.settle
        if first < well - 2 * SLACK:
            yield f"{server_id} was asked for at {first:.3f} s, and canary {canary} had settled at {well:.3f} s"
            return


def _too_many_groups(rolled: Rolled) -> Iterator[str]:
    most = rolled.walk.max_groups
    if most is None:
        return
    spans: dict[tuple[str, bool, int | None], tuple[float, float]] = {}
    failed = {rolled.group(each) for each, outcome in rolled.outcomes.items() if outcome.state.is_failure}
    for number, absence in enumerate(rolled.absences):
        outcome, name = rolled.outcomes.get(absence.server_id), rolled.group(absence.server_id)
        known = math.inf if outcome is None else rolled.evidence.told_at(rolled.ran, outcome) - 2 * SLACK
        # Of one whose outcome is known nothing is waited for any more.
        end = max(absence.asked, min(absence.back, known))
        # A group is left when it is blocked, and when its canaries are well.
        key = (name, absence.server_id in rolled.canaries, number if name in failed else None)
        first, last = spans.get(key, (absence.asked, end))
        spans[key] = first, max(last, end)
    for at, _ in spans.values():
        touched = {name for (name, *_), (first, last) in spans.items() if first <= at < last - _A_MOMENT}
        if len(touched) > most:
            yield f"{len(touched)} groups were touched at {at:.3f} s, and {most} may be"
            return


def _out_of_hours(rolled: Rolled) -> Iterator[str]:
    epoch = rolled.evidence.played.scenario.epoch
    if not rolled.walk.hours or epoch is None:
        return
    for server_id in rolled.alone:
        for at in rolled.evidence.begun(rolled.ran, server_id):
            if not any(rolled.walk.is_open(epoch + timedelta(seconds=each)) for each in (at, at - SLACK)):
                yield f"{server_id} was asked for at {at:.3f} s, outside of {rolled.walk.window}"
                return


def why_left_out(evidence: Evidence, ran: RanFleet, outcome: Outcome) -> str | None:
    """Why a rollout may have left a server out; None if it should not have."""
    walk = ran.deed.walk
    if walk is None:
        return None
    rolled = Rolled(evidence, ran, walk)
    if walk.needs_servers and _is_unseen(evidence, ran, outcome.server_id, outcome):
        return "nobody knows its group"
    if ran.raiser.raised and ran.deed.foreign is not None and ran.deed.foreign.where in _PLANS:
        return "the application's part of the plan broke"
    if walk.needs_servers and "could not be planned" in str(outcome.error) and has_trouble_reading(evidence):
        return "the servers could not be read"
    states = {rolled.outcomes[each].state for each in rolled.canaries if each in rolled.outcomes}
    # One that was left out itself needs a reason of its own.
    was_ill = any(state.is_failure for state in states)
    if was_ill or (walk.canary and ran.options.get("verify")):
        return "a canary was not well"
    return "its group is blocked" if _is_blocked(rolled, outcome.server_id) else None


def _is_unseen(evidence: Evidence, ran: RanFleet, server_id: str, outcome: Outcome | None) -> bool:
    """Whether nothing could be planned for a server: there is none, or the cloud denied it to a run that says so."""
    if server_id not in evidence.ledger.powered:
        return True
    says_so = outcome is not None and outcome.state is OutcomeState.SKIPPED and _UNSEEN in str(outcome.error)
    return outcome is not None and says_so and evidence.is_denied(ran, outcome)


_UNSEEN = "the cloud does not show it"
_PLANS = ("group_by", "order_by", "source")


def has_trouble_reading(evidence: Evidence) -> bool:
    """Whether something went wrong while servers were read."""
    return any(
        each.operation.removeprefix("nova.") in ("servers.list", "servers.list_details", "servers.get")
        and (each.status is None or each.status >= 300 or each.garbled)
        for each in evidence.played.exchanges
    )


def _is_blocked(rolled: Rolled, server_id: str) -> bool:
    if rolled.walk.max_unavailable is None:
        return False
    group = rolled.group(server_id)
    lost = sum(
        outcome.state.is_failure and outcome.attempts > 0 and rolled.group(other) == group
        for other, outcome in rolled.outcomes.items()
    )
    # Of one that was proved to be well afterwards, nobody was told what it was before.
    return lost >= rolled.allowed(group) or bool(rolled.ran.options.get("verify"))


def judge_not_ready(evidence: Evidence, ran: RanFleet, outcome: Outcome) -> str | None:
    """Whether a server that is said not to be ready was reachable while it was asked, or was given up too early."""
    walk, server_id = ran.deed.walk, outcome.server_id
    if walk is None or not walk.ready:
        return "nobody asked whether it is ready"
    if not evidence.is_alone(server_id):
        return None
    rolled, told = Rolled(evidence, ran, walk), evidence.told_at(ran, outcome)
    began = rolled.asked.get(server_id)
    if began is None:
        return "it was not asked for"
    if told < began + walk.ready_timeout - SLACK:
        return f"it was given {told - began:.3f} s of {walk.ready_timeout:g}"
    suspended = any(isinstance(deed, Suspend) for deed in evidence.played.scenario.deeds)
    # Whoever goes on with a batch has to read its servers' addresses first.
    unread = ran.deed.durable is not None and (evidence.breaks or has_trouble_reading(evidence))
    if (
        suspended
        or unread
        or (ran.deed.foreign is not None and ran.deed.foreign.where == "ready" and ran.raiser.raised)
    ):
        return None
    back = rolled.back(server_id)
    if ran.deed.action in ("rename", "tag") or back is None:
        # Nothing was done that would have changed it.
        back = began if evidence.ledger.powered.get(server_id) is (ran.deed.action != "stop") else math.inf
    return f"it was well at {back:.3f} s, and {told:.3f} is late" if back < told - _LAST_CHECK else None


def judge_ready(evidence: Evidence, ran: RanFleet, outcome: Outcome) -> str | None:
    """Whether a server that is said to be well was so when that was told."""
    walk, server_id = ran.deed.walk, outcome.server_id
    if walk is None or not walk.ready or not evidence.is_alone(server_id) or ran.deed.action in ("rename", "tag"):
        return None
    back, told = Rolled(evidence, ran, walk).back(server_id), evidence.told_at(ran, outcome)
    if back is not None and back > told and outcome.state is OutcomeState.SUCCEEDED:
        return f"it was back at {back:.3f} s only, and {told:.3f} is early"
    return None
