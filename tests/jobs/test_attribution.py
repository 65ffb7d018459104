"""What the end of a job says about the servers that it does not name: what is certain, and nothing else."""

from __future__ import annotations

from bms_async import JobStatus, SubJob
from bms_async.jobs.attribution import attribute_unnamed
from bms_async.models import SubJobEntities
from tests.jobs._helpers import job


def test_the_code_of_a_failed_job_is_not_told_of_servers_whose_sub_jobs_it_does_not_show() -> None:
    hidden = job("FAIL", total=2, error_code="BMS.0038", fail_reason="one was on")

    assert list(attribute_unnamed(hidden, ["a", "b"], [], servers=2)) == []


def test_a_job_that_failed_before_it_had_sub_jobs_failed_for_each_of_its_servers() -> None:
    whole = job("FAIL", error_code="BMS.0006", fail_reason="locked")

    failures = list(attribute_unnamed(whole, ["a", "b"], [], servers=2))
    assert [(sub.server_id, sub.error_code) for sub in failures] == [("a", "BMS.0006"), ("b", "BMS.0006")]


def test_a_job_of_one_server_that_failed_before_its_sub_job_was_shown_failed_for_that_server() -> None:
    hidden = job("FAIL", total=1, error_code="BMS.0031", fail_reason="no quota is left")

    (failure,) = attribute_unnamed(hidden, ["a"], [], servers=1)
    assert (failure.server_id, failure.error_code, failure.reason) == ("a", "BMS.0031", "no quota is left")
    # One of two is untold, and the failure may be that of the other.
    assert list(attribute_unnamed(hidden, ["a"], [], servers=2)) == []


def test_failures_without_a_server_keep_the_words_wherever_the_cloud_put_them() -> None:
    words = SubJobEntities(errorcode_message="slot 7 did not answer")
    nameless = SubJob(status=JobStatus.FAIL, about=words)

    (failure,) = attribute_unnamed(job("FAIL", nameless), ["a"], [nameless], servers=1)
    assert (failure.server_id, failure.reason) == ("a", "slot 7 did not answer")
