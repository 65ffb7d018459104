"""What a web service answers for each error: nobody is blamed for what is not theirs to change."""

from __future__ import annotations

import msgspec
import pytest

from bms_async import (
    BmsError,
    ClientClosedError,
    ConfigurationError,
    ForeignCodeError,
    InvalidRequestError,
    JournalError,
    Problem,
    RunNotFoundError,
    SubJobFailedError,
    TransportError,
    WaitTooLongError,
)
from bms_async.errors.calls import CallTimeoutError, error_class
from bms_async.redaction import mask_when_shown


def refusal(status: int, code: str | None = None, **more: object) -> BmsError:
    kind = error_class(status, code)
    return kind(status=status, code=code, message="no", **more)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequestError("ids", "", "expected an id"), 400),
        (RunNotFoundError("key", "tonight", "expected the key of a run"), 404),
        (refusal(400), 400),
        (refusal(400, "BMS.0040"), 404),
        (refusal(404), 404),
        (refusal(409), 409),
        (refusal(400, "BMS.0038"), 409),
        (refusal(400, "BMS.0036"), 409),
        (refusal(400, "BMS.0025"), 409),
        (SubJobFailedError(server_id="a", job_id="j", code="BMS.0037", reason=None), 409),
        (refusal(401), 502),
        (refusal(403), 502),
        (refusal(400, "BMS.0004"), 502),
        (refusal(500), 502),
        (SubJobFailedError(server_id="a", job_id="j", code=None, reason="burnt"), 502),
        (TransportError("cut", maybe_delivered=True), 502),
        (refusal(429), 503),
        (WaitTooLongError(operation="servers.stop", wait=7.2, max_wait=2.0), 503),
        (JournalError("full"), 503),
        (ClientClosedError("closed"), 503),
        (CallTimeoutError("late", maybe_delivered=False), 504),
        (refusal(408), 504),
        (ConfigurationError("no project"), 500),
        (ForeignCodeError("a callback raised"), 500),
        (BmsError("anything else"), 502),
    ],
)
def test_an_error_has_the_status_of_who_can_change_it(error: BmsError, status: int) -> None:
    problem = Problem.of(error)

    assert (problem.status, problem.detail) == (status, str(error))
    assert msgspec.json.decode(problem.to_json(), type=Problem) == problem
    assert ("Retry-After" in problem.headers) == (status == 503)
    assert problem.headers["Content-Type"] == "application/problem+json"


def test_who_has_to_wait_is_given_the_seconds() -> None:
    assert Problem.of(WaitTooLongError(operation="a", wait=7.2, max_wait=2.0)).headers["Retry-After"] == "8"
    assert Problem.of(refusal(429, retry_after=12.0)).retry_after == 12
    assert Problem.of(refusal(429)).retry_after == 30


def test_whether_the_cloud_may_have_acted_is_in_the_answer() -> None:
    assert Problem.of(TransportError("cut", maybe_delivered=True)).maybe_done
    assert b"maybe_done" not in Problem.of(TransportError("cut", maybe_delivered=False)).to_json()


def test_a_code_or_an_id_that_holds_a_secret_is_masked_in_the_answer() -> None:
    secret = mask_when_shown("BMS.hunter2", lambda text: text.replace("hunter2", "***"))
    problem = Problem.of(refusal(400, secret, request_id=secret))

    assert (problem.code, problem.request_id) == ("BMS.***", "BMS.***")
    assert b"hunter2" not in problem.to_json()


def test_the_text_of_an_error_that_is_not_ours_stays_here() -> None:
    assert Problem.of(RuntimeError("postgresql://ops:hunter2@db")) == Problem(
        status=500, title="Internal Server Error", detail="RuntimeError"
    )
    assert Problem.of(TimeoutError()).status == 504
