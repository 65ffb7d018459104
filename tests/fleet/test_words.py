"""What the cloud said reaches whoever reads an outcome: its codes, its words and the id of its call."""

from __future__ import annotations

import json

import pytest

from bms_async import ApiError, FleetError, FleetTimeoutError, JobLostError, OutcomeState, ServerStateError
from bms_async.fleet.outcome import Outcome, code_of_error, judge_refusal, judge_sub_job
from bms_async.models import JobStatus, SubJob
from bms_async.simulator import Answer, Fault
from tests.fleet._helpers import states
from tests.support.clouds import Simulated, simulated
from tests.support.virtual_clock import run_virtually

S = OutcomeState


def say(sim: Simulated, operation: str, status: int, body: object, *, times: int = 10**6) -> None:
    """Have the cloud answer an operation like this."""

    def answer(called: str, nth: int, path: str) -> Fault | None:
        return Answer(status=status, body=json.dumps(body).encode()) if called == operation and nth <= times else None

    sim.cloud.faults.append(answer)


def test_servers_whose_sub_jobs_never_came_have_what_the_job_failed_with() -> None:
    async def main() -> None:
        async with simulated(servers=3) as sim:
            job = {
                "job_id": "j",
                "status": "FAIL",
                "error_code": "BMS.3033",
                "fail_reason": "rack 7 has no power",
                "entities": {"sub_jobs_total": 3, "sub_jobs": []},
            }
            say(sim, "servers.reboot", 200, {"job_id": "j"})
            say(sim, "jobs.get", 200, job)
            report = await sim.bms.fleet.reboot(sim.ids)
            assert states(report.outcomes) == {S.UNKNOWN: 3}
            for outcome in report.outcomes:
                assert outcome.code == "BMS.3033"
                assert isinstance(outcome.error, JobLostError)
                assert "BMS.3033" in str(outcome.error)
                assert "rack 7 has no power" in str(outcome.error)
            assert report.by_code == {"BMS.3033": 3}

    run_virtually(main)


def test_what_another_server_failed_with_is_not_said_of_one_that_nothing_was_told_of() -> None:
    async def main() -> None:
        async with simulated(servers=2) as sim:
            told, untold = sim.ids
            sub = {
                "status": "FAIL",
                "error_code": "BMS.0018",
                "fail_reason": "only this one",
                "entities": {"server_id": told},
            }
            job = {"job_id": "j", "status": "FAIL", "entities": {"sub_jobs_total": 2, "sub_jobs": [sub]}}
            say(sim, "servers.reboot", 200, {"job_id": "j"})
            say(sim, "jobs.get", 200, job)
            report = await sim.bms.fleet.reboot(sim.ids)
            outcomes = {outcome.server_id: outcome for outcome in report.outcomes}
            assert (outcomes[told].state, outcomes[told].code) == (S.FAILED, "BMS.0018")
            assert (outcomes[untold].state, outcomes[untold].code) == (S.UNKNOWN, None)
            assert "only this one" not in str(outcomes[untold].error)

    run_virtually(main)


def test_a_server_that_is_busy_has_the_refusal_of_its_batch_with_it() -> None:
    async def main() -> None:
        async with simulated(servers=3, job_seconds=(4000, 4000), refuse_batches=True) as sim:
            await sim.bms.servers.stop(sim.ids)
            report = await sim.bms.fleet.start(sim.ids)
            assert report.by_code == {"BMS.0036": 3}
            for outcome in report.outcomes:
                refusal: BaseException | None = outcome.error
                if isinstance(refusal, ServerStateError):
                    refusal = refusal.__cause__
                assert isinstance(refusal, ApiError)
                assert refusal.request_id is not None
                assert refusal.request_id in str(outcome.error)
                assert refusal.message in str(outcome.error)

    run_virtually(main)


def test_a_job_that_is_lost_has_the_code_that_it_was_lost_by() -> None:
    async def main() -> None:
        async with simulated(servers=2) as sim:
            say(sim, "jobs.get", 403, {"error": {"code": "APIGW.0302", "message": "not any more"}})
            report = await sim.bms.fleet.reboot(sim.ids)
            assert states(report.outcomes) == {S.UNKNOWN: 2}
            assert report.by_code == {"APIGW.0302": 2}
            assert all(isinstance(outcome.error, JobLostError) for outcome in report.outcomes)

    run_virtually(main)


def test_a_code_is_found_through_what_an_error_was_caused_by_and_only_the_clouds_own() -> None:
    refusal = ApiError(status=400, code="BMS.0036", message="busy")
    lost = JobLostError("lost", job_id="j", job=None)
    lost.__cause__ = refusal
    assert code_of_error(lost) == "BMS.0036"
    lost.__cause__ = SystemExit("1")
    assert code_of_error(lost) is None
    assert Outcome(server_id="a", state=S.UNKNOWN, error=lost).code is None
    assert code_of_error(None) is None


def test_what_a_batch_was_refused_for_is_not_said_of_a_server_whose_own_state_speaks_against_it() -> None:
    state = ServerStateError("it is ACTIVE", server_id="a", code=None, status="ACTIVE", task_state=None)
    state.__cause__ = ApiError(status=400, code="BMS.0039", message="another one is off")
    assert code_of_error(state) is None


@pytest.mark.parametrize(
    ("action", "code", "state"),
    [
        ("servers.start", "BMS.0038", S.UNCHANGED),
        ("servers.stop", "BMS.0039", S.UNCHANGED),
        ("servers.start", "BMS.0039", S.FAILED),
        ("servers.stop", "BMS.0038", S.FAILED),
        ("servers.reboot", "BMS.0038", S.FAILED),
        ("servers.reboot", "BMS.0039", S.FAILED),
    ],
)
def test_a_code_says_that_a_server_is_as_asked_only_where_it_was_asked_for_that(
    action: str, code: str, state: OutcomeState
) -> None:
    sub = SubJob(status=JobStatus.FAIL, error_code=code)
    judged, error = judge_sub_job(action, sub, "a", "j")
    assert judged is state
    assert (error is None) == state.is_success
    assert judge_refusal(action, ApiError(status=400, code=code), 1) is state


def test_what_failed_before_it_came_to_a_server_says_nothing_of_an_earlier_request_whose_answer_was_lost() -> None:
    of_the_job = SubJob(status=JobStatus.FAIL, error_code="BMS.0006")
    of_the_server = SubJob(status=JobStatus.FAIL, error_code="BMS.0006", job_id="its own")

    judged = [
        judge_sub_job("servers.start", sub, "a", "j", in_doubt=in_doubt)[0]
        for sub in (of_the_job, of_the_server)
        for in_doubt in (True, False)
    ]
    assert judged == [OutcomeState.UNKNOWN, OutcomeState.FAILED, OutcomeState.FAILED, OutcomeState.FAILED]


def test_what_was_skipped_is_counted_by_one_word_whether_or_not_it_is_said_why() -> None:
    plain = FleetError("servers.stop: not sent, since the run was aborted", code=None, server_ids=())
    reasons = {Outcome(server_id="a", state=S.SKIPPED, error=error).reason for error in (None, plain)}
    assert reasons == {"SKIPPED"}
    late = FleetTimeoutError("servers.stop: not sent in time", code=None, server_ids=())
    assert Outcome(server_id="a", state=S.SKIPPED, error=late).reason == "FleetTimeoutError"


def test_a_report_names_the_servers_that_an_abort_skipped_by_that_word() -> None:
    async def main() -> None:
        async with simulated(servers=20) as sim:
            say(sim, "servers.stop", 400, {"error": {"code": "BMS.0006", "message": "no"}})
            report = await sim.bms.fleet.stop(sim.ids, wave_size=4, abort_above=0)
            assert report.aborted
            # Three more were refused with the batch of the one that failed.
            assert report.by_code == {"SKIPPED": 16, "BMS.0006": 4}
            with pytest.raises(ExceptionGroup) as raised:
                report.raise_for_failures()
            texts = [str(error) for error in raised.value.exceptions]
            assert any(text.startswith("servers.stop: SKIPPED: 16 servers, ") for text in texts)

    run_virtually(main)
