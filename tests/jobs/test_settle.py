"""What the end of a job tells of the servers that it does not name: what is certain, and nothing else."""

from __future__ import annotations

from bms_async.jobs.settle import settle
from tests.jobs.watching import job


def test_the_code_of_a_failed_job_is_not_told_of_servers_whose_sub_jobs_it_does_not_show() -> None:
    hidden = job("FAIL", total=2, error_code="BMS.0038", fail_reason="one was on")

    assert list(settle(hidden, ["a", "b"], [])) == []


def test_a_job_that_failed_before_it_had_sub_jobs_failed_for_each_of_its_servers() -> None:
    whole = job("FAIL", error_code="BMS.0006", fail_reason="locked")

    told = list(settle(whole, ["a", "b"], []))
    assert [(sub.server_id, sub.error_code) for sub in told] == [("a", "BMS.0006"), ("b", "BMS.0006")]
