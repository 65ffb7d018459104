"""Reconcilers, judged by the cloud's books: they converge, act on what differs alone, and leave all else alone."""

from __future__ import annotations

import math
from collections.abc import Iterator

from bms_async.reconcile.conditions import Progressing, Synced
from tests.simulation.bounds import is_hopeless, misfortune, tight
from tests.simulation.evidence import SLACK, Evidence
from tests.simulation.ledger import Exchange, Part
from tests.simulation.reconciling import Reconciled
from tests.simulation.scenario import Scenario
from tests.simulation.wants import Reconcile

_STATUS = {"servers.start": "ACTIVE", "servers.stop": "SHUTOFF"}
_SOON = 5.0
_WRITTEN = 0.05
_A_WHILE = 400.0


def judge_reconcilers(evidence: Evidence) -> Iterator[str]:
    """Tell what is wrong with what reconcilers did."""
    for one in evidence.played.done.reconciled:
        judge = _Judge(evidence, one)
        for wrong in (*judge.touched(), *judge.acted_in_vain(), *judge.waves(), *judge.converged(), *judge.said()):
            yield f"desired: {wrong}"


class _Judge:
    def __init__(self, evidence: Evidence, one: Reconciled) -> None:
        self.evidence, self.one, self.deed = evidence, one, one.deed
        self.scenario = evidence.played.scenario
        self.wanted = {server_id for _, server_id, _ in one.desired}
        # What was read is not acted on when it is older; and a reading may take long.
        is_smooth = _is_smooth(self.scenario)
        self.old = 2 * self.deed.resync + (_SOON if is_smooth else _A_WHILE + tight(self.scenario, self.deed))

    def touched(self) -> Iterator[str]:
        """Nothing is done to a server but what is desired of it, or just was."""
        for server_id in self.one.servers:
            for each in self.calls(server_id):
                if self._is_of_a_wish(server_id, each):
                    continue
                status = _STATUS.get(each.operation)
                if status is None or not self._was_desired(server_id, status, each.began):
                    yield f"{each.operation} of {server_id} was sent at {each.began:.3f} s, and nobody desired it"
                    return

    def acted_in_vain(self) -> Iterator[str]:
        """No server is asked that is as desired, or that the reconciler itself is at, as far as it could know."""
        for server_id in self.wanted:
            for each in self.calls(server_id):
                if each.arrived is None or self._is_excused(server_id, each):
                    continue
                if part := next((part for part in self.parts(server_id) if self._is_at(part, each)), None):
                    yield (
                        f"{each.operation} of {server_id} came at {each.arrived:.3f} s, "
                        f"and a {part.action} was under way since {part.asked_at:.3f}"
                    )
                    return
                if self.powered(server_id, each.arrived) is (each.operation == "servers.start"):
                    yield f"{each.operation} of {server_id} came at {each.arrived:.3f} s, and it was so already"
                    return

    def waves(self) -> Iterator[str]:
        """No more servers are under way at once than a wave has."""
        if self.one.absent or self.one.lost or self.deed.wishes or self.one.was_closed or not _is_smooth(self.scenario):
            return
        changes = sorted(
            change
            for server_id in self.wanted
            for part in self.parts(server_id)
            if part.obeyed
            for change in ((part.asked_at, 1), (part.ends, -1))
        )
        under_way = worst = 0
        for _, change in changes:
            under_way += change
            worst = max(worst, under_way)
        if worst > self.deed.at_once:
            yield f"{worst} servers were under way at once, and {self.deed.at_once} may be"

    def converged(self) -> Iterator[str]:
        """All is as desired within a reading after the last disturbance, and what jobs and limits take."""
        if self.one.was_closed or self.evidence.closed_early or is_hopeless(self.scenario):
            return
        if self.deed.room is not None and (self.scenario.fail_share or self.scenario.locked_share):
            # Those that fail take the room of the others.
            return
        if self.one.not_synced is not None:
            yield f"it is not in time: {self.one.not_synced}"
            return
        last = self._last_disturbance()
        most = tight(self.scenario, self.deed) + misfortune(self.scenario)
        for server_id, status in self.one.now_desired.items():
            if not self.is_well(server_id):
                continue
            parts = [part.ends for part in self.parts(server_id) if part.changes and part.ends > last]
            if parts and min(parts) > last + most:
                took = min(parts) - last
                yield f"{server_id} is {status} {took:.0f} s after the last disturbance, and {most:.0f} is long"
                return

    def said(self) -> Iterator[str]:
        """What it says in the end is so, to subscribers too."""
        at = self.one.looked_at
        if at is None or self.one.was_closed or self.evidence.closed_early:
            return
        if self.one.conditions.keys() != self.one.now_desired.keys():
            yield f"it has {len(self.one.conditions)} conditions, and {len(self.one.now_desired)} servers are desired"
        for server_id, condition in self.one.conditions.items():
            told = self.one.told_then.get(server_id)
            # Of a server of which nothing is known yet, nobody is told; and what a machine that slept tells of times.
            is_told = isinstance(condition, Progressing) if told is None else type(told.condition) is type(condition)
            if not is_told:
                yield f"{server_id} is {condition}, and who subscribed was told {told}"
                return
            is_read = not is_hopeless(self.scenario)
            if isinstance(condition, Synced) and is_read and not self._was_so(server_id, at):
                yield f"{server_id} is said to be as desired, and it is not"
                return

    def calls(self, server_id: str) -> list[Exchange]:
        """Return the calls that ask something of a server."""
        return [
            each
            for each in self.evidence.asked.get(server_id, ())
            if each.operation in ("servers.start", "servers.stop", "servers.reboot")
        ]

    def parts(self, server_id: str) -> list[Part]:
        """Return what the cloud accepted for a server."""
        return self.evidence.ledger.parts.get(server_id, [])

    def powered(self, server_id: str, at: float) -> bool:
        """Return whether a server showed that it is on."""
        ledger = self.evidence.ledger
        lag = self.scenario.state_lag
        changes = [
            # A reboot that fails leaves it off.
            (part.ends + lag, part.changes and part.action != "stop")
            for part in self.parts(server_id)
            if part.changes or (part.obeyed and part.action == "reboot")
        ]
        changes += [(each.ended, each.status == "ACTIVE") for each in ledger.drifts.get(server_id, ())]
        past = [change for change in sorted(changes) if change[0] <= at]
        return past[-1][1] if past else ledger.powered[server_id]

    def _was_so(self, server_id: str, at: float) -> bool:
        """Return whether a server was as desired when it was last read, or is by a job that its state lags behind."""
        wanted = self.one.now_desired.get(server_id) == "ACTIVE"
        read = at - self.deed.resync - (_SOON if _is_smooth(self.scenario) else _A_WHILE)
        ends = [
            change.ended - SLACK for change in self.evidence.ledger.drifts.get(server_id, ()) if change.ended > read
        ]
        shown = at + self.scenario.state_lag
        return any(self.powered(server_id, moment) is wanted for moment in (read, at - SLACK, shown, *ends))

    def is_well(self, server_id: str) -> bool:
        """Return whether a server can be brought to what is desired."""
        machine = self.evidence.played.machines[server_id]
        return not machine.faulty and not machine.locked and machine.status != "ERROR"

    def _was_desired(self, server_id: str, status: str, at: float) -> bool:
        """Return whether a status was desired when a call was sent, or was so a moment before."""
        # What has been begun waits for its slot, and for its wave.
        is_quick = _is_smooth(self.scenario) and self.deed.wanted <= self.deed.at_once
        since = at - (_SOON if is_quick else _A_WHILE + tight(self.scenario, self.deed))
        last = None
        for when, named, desired in self.one.desired:
            if named != server_id or when > at:
                continue
            if when >= since and last == status:
                return True
            last = desired
        return last == status

    def _is_of_a_wish(self, server_id: str, each: Exchange) -> bool:
        return any(
            wished.server_id == server_id
            and wished.began - SLACK <= each.began
            and (wished.ended is None or wished.left or each.began <= wished.ended + SLACK)
            for wished in self.one.wished
        )

    def _is_excused(self, server_id: str, each: Exchange) -> bool:
        """Return whether the reconciler could not know better: somebody else was at it, or an answer was not clear."""
        since, arrived = each.began - self.old, each.arrived or each.began
        drifts = self.evidence.ledger.drifts.get(server_id, ())
        return (
            any(change.ended >= since and change.began <= arrived for change in drifts)
            or any(began <= arrived and ended >= since for began, ended in self.one.absent)
            or any(part.ends <= arrived <= part.ends + self.scenario.state_lag for part in self.parts(server_id))
            or any(wished.server_id == server_id and wished.began <= each.began for wished in self.one.wished)
            or any(not self._is_clear(other) for other in self.calls(server_id) if other.began < each.began)
            or any(self._is_lost(part, each.began) for part in self.parts(server_id) if part.asked_at < each.began)
        )

    def _is_clear(self, other: Exchange) -> bool:
        ended = math.inf if other.ended is None else other.ended
        # What is not written down is not known to who comes after.
        died = any(other.began - SLACK <= last and first <= ended + _WRITTEN for first, last in self.one.lost)
        return other.status is not None and other.status < 300 and not other.garbled and not died

    def _is_lost(self, part: Part, at: float) -> bool:
        return self.evidence.why_lost(part.job_id, at) is not None

    def _is_at(self, part: Part, each: Exchange) -> bool:
        assert each.arrived is not None
        return part.obeyed and part not in each.parts and part.asked_at < each.arrived < part.ends - SLACK

    def _last_disturbance(self) -> float:
        begins = [at for at, _, _ in self.one.desired]
        ends = [change.ended for each in self.one.servers for change in self.evidence.ledger.drifts.get(each, ())]
        wishes = [wished.ended or 0.0 for wished in self.one.wished]
        done = [
            part.ends
            for wished in self.one.wished
            for part in self.parts(wished.server_id)
            if part.asked_at <= (wished.ended or 0.0)
        ]
        lives = [ended for _, ended in (*self.one.lost, *self.one.absent)]
        return max([self.one.began, *begins, *ends, *wishes, *done, *lives])


def _is_smooth(scenario: Scenario) -> bool:
    """Whether each call is sent at once and answered soon."""
    return not (scenario.limits or scenario.mishaps or scenario.foreign or scenario.latency[1] > 1) and all(
        isinstance(deed, Reconcile) for deed in scenario.deeds
    )
