"""R2, judged by the cloud's books: every id has one outcome, and each outcome is true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from fractions import Fraction

from bms_async import CallError, Outcome, OutcomeState, TransportError
from bms_async.errors import NotReadyError, ServerStateError
from tests.simulation.actors import UNFIT, RanFleet
from tests.simulation.bounds import wave_of
from tests.simulation.evidence import SLACK, Evidence
from tests.simulation.ledger import Exchange
from tests.simulation.natives import judge_native
from tests.simulation.scenario import Suspend
from tests.simulation.single_calls import judge_single, was_done
from tests.simulation.walk_rules import has_trouble_reading, judge_not_ready, judge_ready, why_left_out

# A last look, what callbacks are given, and how seldom it is looked whether a run has ended.
_LAST_SECONDS = 10.0 + 5.0 + 5.0 + 4.0
_ALREADY = {"start": "BMS.0038", "stop": "BMS.0039"}


def judge_runs(evidence: Evidence) -> Iterator[str]:
    """Tell what is wrong with what fleet runs said."""
    for ran in evidence.played.done.runs:
        if ran.run is None:
            could_not = ran.deed.durable and (
                ran.raiser.raised
                or evidence.played.scenario.deaths
                or (ran.deed.walk is not None and has_trouble_reading(evidence))
            )
            if not (evidence.closed_early or could_not):
                yield f"R2 a run of {ran.deed.action} was not begun"
            continue
        yield from _count(evidence, ran)
        yield from _judge_time(evidence, ran)
        yield from _judge_wave(evidence, ran)
        yield from _judge_abort(ran)
        yield from _judge_pauses(evidence, ran)
        for outcome in ran.outcomes:
            wrong = _judge(evidence, ran, outcome)
            if wrong is not None:
                yield f"R2 {ran.deed.action} of {outcome.server_id} is {outcome.state.value}, but {wrong}"


def fit_of(ran: RanFleet) -> set[str]:
    """The different servers of a run whose ids are fit."""
    return {each.lower() for each in ran.handed if each not in UNFIT}


def _count(evidence: Evidence, ran: RanFleet) -> Iterator[str]:
    assert ran.run is not None
    report = ran.run.report
    if report is None:
        yield f"R2 a run of {ran.deed.action} never ended"
        return
    wanted = set(ran.handed[: ran.given])
    told = Counter(outcome.server_id for outcome in report.outcomes)
    if missing := wanted - told.keys():
        yield f"R2 {len(missing)} ids have no outcome, such as {min(missing)}"
    if strange := told.keys() - set(ran.handed):
        yield f"R2 {len(strange)} outcomes are of ids that were not handed over, such as {min(strange)}"
    if twice := [server_id for server_id, count in told.items() if count > 1]:
        yield f"R2 {len(twice)} ids have several outcomes, such as {twice[0]}"
    states = Counter(outcome.state for outcome in report.outcomes)
    if {state: count for state, count in report.by_state.items() if count} != states:
        yield f"R2 the report counts {dict(report.by_state)}, and its outcomes are {dict(states)}"
    # What breaks while a closing client ends the run looks like the closing itself.
    if (
        ran.raiser.raised
        and ran.deed.foreign is not None
        and ran.deed.foreign.where not in ("ready", "call")
        and not (ran.deed.foreign.where in ("group_by", "order_by") and (ran.cancelled_at or ran.timed_out))
        and not evidence.closed_early
        and any(seen.stayed and seen.raised is None for seen in ran.seen)
    ):
        yield f"R2 a fault of {ran.deed.foreign} was told to nobody who waited for the run"
    for seen in ran.seen:
        if seen.stayed and list(map(_gist, seen.outcomes)) != list(map(_gist, report.outcomes)):
            yield f"R2 somebody saw {len(seen.outcomes)} outcomes of {len(report.outcomes)}, or in another order"
    if "on_outcome" in ran.options:
        called = Counter(ran.told_back)
        stayed = not (ran.may_be_let_go or ran.timed_out or evidence.closed_early)
        if any(count > 1 for count in called.values()) or (stayed and called.keys() != told.keys()):
            yield f"R2 on_outcome was called for {len(called)} ids of {len(told)}, or twice for one"


def _judge_time(evidence: Evidence, ran: RanFleet) -> Iterator[str]:
    bound = ran.options.get("total_timeout")
    # A machine that sleeps counts no seconds.
    slept = sum(deed.seconds for deed in evidence.played.scenario.deeds if isinstance(deed, Suspend))
    if bound is None:
        if ran.timed_out:
            yield "R2 a run's time was over, and it had no bound"
        return
    if ran.ended is not None and ran.ended - ran.began > bound + _LAST_SECONDS + slept:
        yield f"R2 a run had {bound:g} s, and took {ran.ended - ran.began:.0f}"
    if ran.timed_out and ran.ended is not None and ran.ended - ran.began < bound:
        yield f"R2 a run had {bound:g} s, and its time was over after {ran.ended - ran.began:.3f}"


def _gist(outcome: Outcome) -> tuple[object, ...]:
    """What two readings of one outcome have in common: each has made the error anew."""
    return outcome.server_id, outcome.state, outcome.code, outcome.job_id, outcome.ended, repr(outcome.error)


def _judge_pauses(evidence: Evidence, ran: RanFleet) -> Iterator[str]:
    for began, ended in ran.pauses:
        for server_id in set(ran.handed):
            if not evidence.is_alone(server_id):
                continue
            if late := [at for at in evidence.begun(ran, server_id) if began + SLACK < at < ended - SLACK]:
                yield f"R2 {server_id} was asked for at {late[0]:.3f} s, in a pause from {began:.3f} to {ended:.3f} s"
                return


def _judge_abort(ran: RanFleet) -> Iterator[str]:
    """Hold what ended after the share was exceeded against what can have been under way then."""
    options, deed = ran.deed.options, ran.deed
    most = wave_of(deed, len(fit_of(ran)))
    # What is held back, and what several workers write down, comes in another order than it was counted in.
    if options.abort_above is None or most is None or options.verify or deed.durable is not None:
        return
    failed = ended = late = 0
    is_over = False
    for outcome in ran.outcomes:
        if outcome.state is OutcomeState.SKIPPED:
            continue
        ended += 1
        late += is_over
        failed += outcome.state in (OutcomeState.FAILED, OutcomeState.UNKNOWN)
        exceeds = failed > Fraction(str(options.abort_above)) * ended
        is_over = is_over or (exceeds and ended >= (options.abort_sample or 1))
    if late >= most:
        yield f"R2 {late} servers ended after the share was exceeded, and {most} could be under way"


def _judge_wave(evidence: Evidence, ran: RanFleet) -> Iterator[str]:
    most = wave_of(ran.deed, len(fit_of(ran)))
    if most is None:
        return
    # Of one whose outcome is known, nobody can see to it any more that it is not under way. A user is given it a moment
    # after the run knows it.
    known = {outcome.server_id: evidence.told_at(ran, outcome) for outcome in ran.outcomes}
    changes = sorted(
        change
        for server_id in set(ran.handed)
        if evidence.is_alone(server_id)
        for part in evidence.parts(ran.deed, server_id, ran.began)
        if part.obeyed
        for change in ((part.asked_at, 1), (min(part.ends, known.get(server_id, part.ends) - SLACK), -1))
    )
    under_way = worst = 0
    for _, change in changes:
        under_way += change
        worst = max(worst, under_way)
    if worst > most:
        yield f"R2 {worst} servers were under way at once, and the wave is {most}"


def _judge(evidence: Evidence, ran: RanFleet, outcome: Outcome) -> str | None:
    if outcome.server_id in UNFIT:
        return None if outcome.state is OutcomeState.SKIPPED else "its id is unfit"
    if isinstance(outcome.error, NotReadyError) and outcome.state is OutcomeState.FAILED:
        return judge_not_ready(evidence, ran, outcome)
    if outcome.state is OutcomeState.SKIPPED:
        return _judge_skipped(evidence, ran, outcome)
    if ran.deed.native and outcome.state in (OutcomeState.FAILED, OutcomeState.UNKNOWN):
        return judge_native(evidence, ran, outcome)
    return (judge_single if ran.deed.is_each else _judge_asked)(evidence, ran, outcome)


def _judge_asked(evidence: Evidence, ran: RanFleet, outcome: Outcome) -> str | None:
    match outcome.state:
        case OutcomeState.SUCCEEDED:
            return judge_ready(evidence, ran, outcome) or _judge_success(evidence, ran, outcome)
        case OutcomeState.UNCHANGED:
            return _judge_unchanged(evidence, ran, outcome)
        case OutcomeState.FAILED:
            return _judge_failure(evidence, ran, outcome)
        case _:
            return None if evidence.why_unknown(ran, outcome) else f"nothing was lost ({outcome.error!r})"


def _judge_success(evidence: Evidence, ran: RanFleet, outcome: Outcome) -> str | None:
    at = evidence.known_at(ran, outcome)
    if outcome.job_id is not None:
        part = evidence.ledger.jobs.get(outcome.job_id, {}).get(outcome.server_id)
        if part is None or part.action != ran.deed.action:
            return f"job {outcome.job_id} is not about it"
        if part.changes and part.ends > at:
            return f"it ends at {part.ends:.3f} s only, and now it is {at:.3f}"
    # Its state may have proved it, whatever its last job said.
    done = [part for part in evidence.parts(ran.deed, outcome.server_id, ran.began) if part.changes and part.ends <= at]
    if done:
        return None
    if ran.deed.action == "reboot":
        parts = evidence.ledger.parts.get(outcome.server_id, ())
        rebooted = any(part.action == "reboot" and part.changes and ran.began <= part.ends <= at for part in parts)
        # Whose reboot it was that was seen cannot be told where several ask for one at the same time.
        return None if rebooted else "nobody has rebooted it"
    # Where several are at one server, its state does not tell whose doing it is.
    wanted = ran.deed.action != "stop"
    is_so = evidence.ledger.ever_powered(outcome.server_id, wanted, ran.began, at)
    return None if is_so and not evidence.is_alone(outcome.server_id) else "nothing happened to it"


def _judge_unchanged(evidence: Evidence, ran: RanFleet, outcome: Outcome) -> str | None:
    if ran.deed.action == "reboot":
        return "no server is restarted already"
    wanted, at = ran.deed.action == "start", evidence.known_at(ran, outcome)
    if outcome.job_id is not None:
        part = evidence.ledger.jobs.get(outcome.job_id, {}).get(outcome.server_id)
        if part is not None and part.code == _ALREADY[ran.deed.action]:
            return None if part.powered is wanted else "it was not so"
    was_so = evidence.ledger.ever_powered(outcome.server_id, wanted, ran.began, at)
    return None if was_so else "it never was so"


def _judge_failure(evidence: Evidence, ran: RanFleet, outcome: Outcome) -> str | None:
    server_id, error = outcome.server_id, outcome.error
    asked = evidence.exchanges(ran.deed, server_id, ran.began)
    if evidence.is_alone(server_id):
        done = [part for part in evidence.parts(ran.deed, server_id, ran.began) if part.changes]
        if done:
            return f"it was done, in job {done[0].job_id}"
    if isinstance(error, ServerStateError):
        return _judge_state(evidence, ran, outcome)
    if outcome.job_id is not None:
        return _judge_code(evidence, outcome)
    refused = [each for each in asked if each.is_refusal]
    if any(each.code == outcome.code for each in refused):
        return None
    if _was_never_answered(asked, outcome):
        # It was refused, or nobody took the connection, and it could not be asked for again.
        return None
    return f"no refusal says {outcome.code}"


def _was_never_answered(asked: list[Exchange], outcome: Outcome) -> bool:
    """Whether the last try never came to the cloud, and those before it were refused or did not either."""
    error = outcome.error
    lost = isinstance(error, TransportError) and not error.maybe_delivered
    tokenless = isinstance(error, CallError) and error.operation == "identity.create_token"
    return bool(asked) and (lost or tokenless) and not any(each.is_doubtful for each in asked)


def _judge_code(evidence: Evidence, outcome: Outcome) -> str | None:
    """Whether a server's part of its job failed with what is said."""
    job_id = outcome.job_id or ""
    part = evidence.ledger.jobs.get(job_id, {}).get(outcome.server_id)
    if part is None or part.code is None:
        return f"its part of job {job_id} did not fail"
    scenario = evidence.played.scenario
    vague = scenario.anonymous_failures or evidence.is_garbled() or scenario.reason_place in ("job", "nowhere")
    if outcome.code != part.code and not (vague and outcome.code in (None, *_codes(evidence, job_id))):
        return f"it says {outcome.code}, and the cloud {part.code}"
    return None


def _judge_state(evidence: Evidence, ran: RanFleet, outcome: Outcome) -> str | None:
    """Whether a server's state speaks against it, as is said: it is at something, not there, or not as asked."""
    at = evidence.known_at(ran, outcome)
    if outcome.code is not None:
        busy = any(part.obeyed and part.ends >= ran.began for part in evidence.ledger.parts.get(outcome.server_id, ()))
        unknown = outcome.server_id not in evidence.ledger.powered
        of_its_job = outcome.code in _codes(evidence, outcome.job_id or "")
        return None if busy or unknown or of_its_job else f"it never was at anything ({outcome.code})"
    wanted = ran.deed.action != "stop"
    was_not_so = evidence.ledger.ever_powered(outcome.server_id, not wanted, ran.began, at)
    return None if was_not_so else "it always was as asked"


def _codes(evidence: Evidence, job_id: str) -> set[str]:
    """What any server of a job failed with: that of a nameless one may be another's."""
    return {part.code for part in evidence.ledger.jobs.get(job_id, {}).values() if part.code is not None}


def _judge_skipped(evidence: Evidence, ran: RanFleet, outcome: Outcome) -> str | None:
    parts = evidence.parts(ran.deed, outcome.server_id, ran.began)
    if evidence.is_alone(outcome.server_id) and (
        any(part.obeyed for part in parts) or (ran.deed.is_each and was_done(evidence, ran, outcome))
    ):
        return "the cloud was asked, and has set to work"
    if outcome.attempts == 0 and outcome.started is not None:
        return "it was started without being asked for"
    if evidence.why_skipped(ran) is None and why_left_out(evidence, ran, outcome) is None:
        return f"nothing kept it from being asked for ({outcome.error!r})"
    return None
