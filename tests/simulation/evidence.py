"""What a scenario's evidence says of one server or one job: the ground on which outcomes are judged."""

from __future__ import annotations

from itertools import pairwise

from bms_async import Outcome
from bms_async.errors import ServerStateError
from bms_async.simulator import GarbledJob
from tests.simulation.actors import RanFleet
from tests.simulation.ledger import Exchange, Part
from tests.simulation.network import LOOKS
from tests.simulation.scenario import Call, RunFleet
from tests.simulation.world import Played

SLACK = 0.01
"""Seconds by which times that are told in different ways may differ."""

# A little less than what the SDK's page on its design says that it waits.
_MISSING, _BARRED, _FAILING = 55.0, 290.0, 3500.0
_WRITTEN_LATE = 0.01
_IN_TRANSITION = frozenset({"BMS.0035", "BMS.0036", "BMS.0037"})


class Evidence:
    """Looks things up in what was played."""

    def __init__(self, played: Played) -> None:
        self.played = played
        self.ledger = played.ledger
        self.asked: dict[str, list[Exchange]] = {}
        self.polls: dict[str, list[Exchange]] = {}
        self.mentions: dict[str, int] = {}
        for exchange in played.exchanges:
            for server_id in exchange.servers:
                self.asked.setdefault(server_id, []).append(exchange)
            if exchange.job_id is not None:
                self.polls.setdefault(exchange.job_id, []).append(exchange)
        for ran in played.done.runs:
            self._mention(set(ran.handed))
        for called in played.done.calls:
            self._mention(set(called.servers))
        self.absences = played.cloud.availability.absences() if _has_walks(played) else []
        self.reinstalls = any(ran.deed.action == "reinstall" for ran in played.done.runs)
        self.breaks = any(each.where in ("credentials", "transport") for each in played.scenario.foreign)
        self.closed_early = any(type(deed).__name__ == "Close" for deed in played.scenario.deeds)
        self.token_failed = [
            each
            for each in played.exchanges
            if each.operation == "identity.create_token"
            and not (each.issued and each.status == 201 and not each.garbled)
        ]

    def _mention(self, servers: set[str]) -> None:
        for server_id in servers:
            self.mentions[server_id] = self.mentions.get(server_id, 0) + 1

    def is_alone(self, server_id: str) -> bool:
        """Whether only one deed is about a server, so that all that was asked of it is that deed's."""
        return self.mentions.get(server_id) == 1

    def exchanges(self, deed: RunFleet | Call, server_id: str, began: float) -> list[Exchange]:
        """The calls for a server that may be a deed's."""
        return [
            each
            for each in self.asked.get(server_id, ())
            if each.operation == deed.operation and each.began >= began - SLACK
        ]

    def begun(self, ran: RanFleet, server_id: str) -> list[float]:
        """When a server was asked for, which may not be while nothing may begin."""
        sent = [each.began for each in self.exchanges(ran.deed, server_id, ran.began)]
        if ran.deed.native:
            # What was refused for its server's sake is called again later; all else is repeated at once.
            exchanges = self.exchanges(ran.deed, server_id, ran.began)
            return sent[:1] + [
                later.began for earlier, later in pairwise(exchanges) if earlier.status in (404, 409)
            ]  # fmt: skip
        # A function that has begun is carried to its end, the repetitions of its call included.
        return sent[:1] if ran.deed.is_each else sent

    def parts(self, deed: RunFleet | Call, server_id: str, began: float) -> list[Part]:
        """What the cloud accepted for a server that may be a deed's."""
        return [
            part
            for part in self.ledger.parts.get(server_id, ())
            if part.action == deed.action and part.asked_at >= began - SLACK
        ]

    def told_at(self, ran: RanFleet, outcome: Outcome) -> float:
        """When an outcome says that it was known, by the cloud's clock."""
        report = None if ran.run is None else ran.run.report
        assert report is not None
        assert outcome.ended is not None
        return ran.began + (outcome.ended - report.started).total_seconds() + SLACK

    def known_at(self, ran: RanFleet, outcome: Outcome) -> float:
        """When all was known that an outcome rests on, by the cloud's clock."""
        if ran.ended is not None and (ran.options.get("verify") or isinstance(outcome.error, ServerStateError)):
            # What its state says was read when all had ended.
            return ran.ended
        return self.told_at(ran, outcome)

    def is_denied(self, ran: RanFleet, outcome: Outcome) -> bool:
        """Whether a look at a server was answered 404 between the beginning of a run and the server's outcome."""
        looks = (each for each in self.asked.get(outcome.server_id, ()) if each.operation in LOOKS)
        # A durable run reads its servers before it is written down that it has begun.
        since, until = ran.deed.at - SLACK, self.told_at(ran, outcome)
        return any(each.status == 404 and since <= each.began <= until for each in looks)

    def why_lost(self, job_id: str, at: float) -> str | None:
        """Why it may not be known how a job ended; None if that should be known."""
        if job_id in self.ledger.stuck or job_id in self.ledger.stillborn:
            return "it says RUNNING for ever, or ended before it had told of any server"
        polls = [each for each in self.polls.get(job_id, ()) if each.ended is not None and each.ended <= at]
        if any(each.garbled and each.status is not None and each.status < 300 for each in polls) and self.is_garbled():
            return "its sub-jobs were told in a garbled way"
        seen = [each.ended or 0.0 for each in polls if each.status == 200 and not each.garbled]
        since = max(seen, default=0.0)
        tail = [each for each in polls if (each.ended or 0.0) > since]
        # What was not answered tells nothing, and nor does a 401 that the call itself has mended.
        told = [each for each in tail if each.status not in (None, 401) and (each.status or 0) < 500]
        if _spans(_last(told, {404}), _MISSING):
            return "it answered 404 for a minute"
        token_fails = self.may_be_barred() or any(each.began >= since for each in self.token_failed)
        # What could not even be sent for want of a token is no exchange.
        if at - since >= _BARRED and (token_fails or _spans(_last(tail, {401, 403}), _BARRED)):
            return "nobody was allowed to look at it"
        if at - since >= _FAILING and (tail or self.breaks):
            return "it could not be read for an hour"
        return None

    def may_be_barred(self) -> bool:
        """Whether a token may have been refused young, after which no other is asked for at once."""
        return self.played.scenario.auth == "password" and any(each.status == 401 for each in self.played.exchanges)

    def is_garbled(self) -> bool:
        return any(isinstance(mishap.trouble, GarbledJob) for mishap in self.played.scenario.mishaps)

    def why_unknown(self, ran: RanFleet, outcome: Outcome) -> str | None:
        """Why it may not be known what became of a server; None if that should be known."""
        at = self.known_at(ran, outcome)
        asked = self.exchanges(ran.deed, outcome.server_id, ran.began)
        if any(each.is_doubtful and each.began <= at for each in asked):
            return "an answer was lost"
        # A function of the application's may have done anything before its first request.
        was_begun = asked or (ran.deed.is_each and outcome.attempts)
        if was_begun and (ran.may_be_let_go or ran.timed_out or self.closed_early):
            return "nobody watched it to its end"
        jobs = {outcome.job_id} if outcome.job_id else {each.accepted for each in asked}
        for job_id in jobs:
            if job_id is not None and (why := self.why_lost(job_id, at)) is not None:
                return why
        if outcome.attempts > 1 and outcome.code in (None, *_IN_TRANSITION):
            return "it was asked twice, and is at work"
        if not self.is_alone(outcome.server_id) and isinstance(outcome.error, ServerStateError):
            return "somebody else is at it"
        return self._why_forgotten(ran, asked)

    def _why_forgotten(self, ran: RanFleet, asked: list[Exchange]) -> str | None:
        """Why it may not be written down what came of what a durable run asked; None if it should be."""
        for began, ended in self.played.troubled if ran.deed.durable is not None else ():
            for each in asked:
                # What a worker that stood still was told is written down too late.
                if each.began - SLACK <= ended and began <= (each.ended or ended) + _WRITTEN_LATE:
                    return "its worker died, or stood still, while it asked"
        return None

    def why_skipped(self, ran: RanFleet) -> str | None:
        """Why a server may not have been asked for, though its id is fit; None if it should have been."""
        if ran.cancelled_at is not None or ran.may_be_let_go or self.closed_early:
            return "the run was ended"
        if ran.timed_out:
            return "the run's time was over"
        if ran.deed.options.abort_above is not None:
            return "the run may have been aborted"
        if self.token_failed or self.breaks or self.may_be_barred():
            return "no token came, or the credentials or the transport broke"
        if any(not each.sent for each in self.played.exchanges if each.operation == ran.deed.operation):
            return "nobody took the connection"
        return None


def _has_walks(played: Played) -> bool:
    return any(ran.deed.walk is not None or ran.deed.is_each for ran in played.done.runs)


def _last(polls: list[Exchange], statuses: set[int]) -> list[Exchange]:
    """The last polls as far back as each was answered like this."""
    found: list[Exchange] = []
    for poll in reversed(polls):
        if poll.status not in statuses:
            break
        found.append(poll)
    return found


def _spans(polls: list[Exchange], seconds: float) -> bool:
    ends = [poll.ended for poll in polls if poll.ended is not None]
    return len(ends) > 1 and max(ends) - min(ends) >= seconds
