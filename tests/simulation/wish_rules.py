"""Wishes, judged by the cloud's books: each is answered truly, in its turn, and what nobody wishes is not sent."""

from __future__ import annotations

from collections.abc import Iterator

from bms_async import Outcome, OutcomeState
from tests.simulation.evidence import SLACK, Evidence
from tests.simulation.ledger import Exchange, Part
from tests.simulation.wishing import Wished

_POWER = {"servers.start": "start", "servers.stop": "stop", "servers.reboot": "reboot"}


class WishedServer:
    """A server that something was wished for, and all that came of it.

    Attributes:
        wished: The wishes for it, by when they came.
        exchanges: The calls that name it.
        parts: What the cloud accepted for it.
    """

    def __init__(self, evidence: Evidence, server_id: str, wished: list[Wished]) -> None:
        self.evidence, self.server_id = evidence, server_id
        self.wished = sorted(wished, key=lambda one: one.began)
        self.exchanges = [each for each in evidence.asked.get(server_id, ()) if each.operation in _POWER]
        self.parts: list[Part] = evidence.ledger.parts.get(server_id, [])

    def since(self, one: Wished) -> float:
        """Return when its turn came at the earliest: when the wish before it was answered."""
        ended = [other.ended for other in self.wished if other.outcome not in (None, one.outcome) and other.ended]
        return max((end for end in ended if end < (one.ended or 0.0)), default=0.0)

    def was_sent(self, one: Wished, until: float) -> bool:
        """Return whether a call that may be a wish's had begun by some moment."""
        return any(
            _POWER[each.operation] == one.wish.action and self.since(one) - SLACK <= each.began <= until + SLACK
            for each in self.exchanges
        )


def judge_wishes(evidence: Evidence) -> Iterator[str]:
    """Tell what is wrong with what wishes came to."""
    by_server: dict[str, list[Wished]] = {}
    for one in evidence.played.done.wished:
        by_server.setdefault(one.server_id, []).append(one)
    for server_id, wished in by_server.items():
        server = WishedServer(evidence, server_id, wished)
        for one in server.wished:
            if (wrong := _judge(server, one)) is not None:
                what = "unanswered" if one.outcome is None else one.outcome.state.value
                yield f"R2 the wish to {one.wish.action} {server_id} is {what}, but {wrong}"
        yield from _unwished(server)
        yield from _out_of_turn(server)
        yield from _rebooted_twice(server)


def _judge(server: WishedServer, one: Wished) -> str | None:
    if one.outcome is None:
        is_over = one.left or (one.was_closed and server.evidence.closed_early)
        return None if is_over else "its client was not closed, or somebody waits for it"
    if one.outcome.server_id != server.server_id:
        return f"it is of {one.outcome.server_id}"
    return _judge_outcome(server, one, one.outcome)


def _judge_outcome(server: WishedServer, one: Wished, outcome: Outcome) -> str | None:
    at = (one.ended or 0.0) + SLACK
    since = server.since(one) - SLACK
    parts = [part for part in server.parts if part.action == one.wish.action and since <= part.asked_at <= at]
    done = [part for part in parts if part.changes and part.ends <= at]
    state = outcome.state
    if state is OutcomeState.SUCCEEDED:
        return None if done else "nothing happened to it"
    if state is OutcomeState.UNCHANGED:
        wanted = one.wish.action == "start"
        was_so = server.evidence.ledger.ever_powered(server.server_id, wanted, since, at)
        return None if was_so and one.wish.action != "reboot" else "it never was so"
    if state is OutcomeState.FAILED:
        # What was over before it came was done for somebody who has left.
        is_done = any(part.ends > one.began for part in done)
        return "it was done" if is_done else _why_not_failed(server, outcome, parts, since)
    if state is OutcomeState.UNKNOWN:
        return _why_not_unknown(server, parts, since, at)
    return _why_not_skipped(server, parts)


def _why_not_failed(server: WishedServer, outcome: Outcome, parts: list[Part], since: float) -> str | None:
    refused = any(each.is_refusal or not each.sent for each in server.exchanges if each.began >= since)
    if refused or _may_break(server.evidence) or any(part.code is not None for part in parts):
        return None
    return f"nothing refused it ({outcome.error!r})"


def _why_not_unknown(server: WishedServer, parts: list[Part], since: float, at: float) -> str | None:
    evidence = server.evidence
    if evidence.closed_early or any(each.is_doubtful and since <= each.began <= at for each in server.exchanges):
        return None
    if any(evidence.why_lost(part.job_id, at) is not None for part in parts):
        return None
    asked = sum(each.sent and each.began >= since for each in server.exchanges)
    return None if asked > 1 else "nothing was lost"


def _why_not_skipped(server: WishedServer, parts: list[Part]) -> str | None:
    evidence = server.evidence
    if any(part.obeyed for part in parts) and not evidence.closed_early:
        return "the cloud was asked, and has set to work"
    if evidence.closed_early or _may_break(evidence) or any(not each.sent for each in evidence.played.exchanges):
        return None
    return "nothing kept it from being asked for"


def _may_break(evidence: Evidence) -> bool:
    return bool(evidence.token_failed or evidence.breaks or evidence.may_be_barred())


def _unwished(server: WishedServer) -> Iterator[str]:
    """A call is made for those who wait, and goes on once it is sent."""
    for each in server.exchanges:
        if not any(_justifies(server, one, each) for one in server.wished):
            yield f"R3 {each.operation} of {server.server_id} was sent at {each.began:.3f} s, and nobody wished it then"
            return


def _justifies(server: WishedServer, one: Wished, each: Exchange) -> bool:
    if one.wish.action != _POWER[each.operation] or one.began > each.began + SLACK:
        return False
    if one.ended is None or one.ended >= each.began - SLACK:
        return True
    return one.left and server.was_sent(one, one.ended)


def _out_of_turn(server: WishedServer) -> Iterator[str]:
    """What was accepted is over before the server is asked for anything else, as far as that could be known."""
    for part in server.parts:
        exchange = next((each for each in server.exchanges if part in each.parts), None)
        if not part.obeyed or exchange is None or exchange.ended is None or exchange.is_doubtful or exchange.garbled:
            continue
        for later in server.exchanges:
            if exchange.ended < later.began < part.ends - SLACK:
                if server.evidence.why_lost(part.job_id, later.began) is None:
                    yield f"R3 {later.operation} of {server.server_id} was sent while a {part.action} was under way"
                return


def _rebooted_twice(server: WishedServer) -> Iterator[str]:
    """One reboot answers all who wish for one before its end."""
    wished = [one for one in server.wished if one.wish.action == "reboot"]
    answers = {id(one.outcome) for one in wished if one.outcome is not None}
    most = len(answers) + sum(one.outcome is None for one in wished)
    reboots = sum(part.action == "reboot" and part.obeyed for part in server.parts)
    if reboots > most:
        yield f"R3 server {server.server_id} was rebooted {reboots} times for {most} wishes"
