"""Errors: the tree as documented, texts that hold all one needs, and safe passage between processes."""

from __future__ import annotations

import copy
import inspect
import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bms_async
from bms_async import errors
from bms_async.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    BmsError,
    CallError,
    CallTimeoutError,
    ClientClosedError,
    ConfigurationError,
    ConflictError,
    DecodeError,
    FleetError,
    FleetTimeoutError,
    ForeignCodeError,
    GroupBlockedError,
    InvalidRequestError,
    JobError,
    JobFailedError,
    JobLostError,
    JobTimeoutError,
    JournalError,
    LeadershipLostError,
    NotFoundError,
    NotReadyError,
    NotSyncedError,
    PermissionDeniedError,
    RateLimitedError,
    ResponseTooLargeError,
    RunNotFoundError,
    ServerError,
    ServerFaultError,
    ServerLostError,
    ServerStateError,
    ServerWaitError,
    ServerWaitTimeoutError,
    SubJobFailedError,
    TransportError,
    WaitTooLongError,
)
from bms_async.errors.calls import error_class
from bms_async.models import Fault, Job, JobEntities, JobStatus, Server, SubJob, SubJobEntities

JOB = Job(
    job_id="j",
    status=JobStatus.FAIL,
    entities=JobEntities(
        sub_jobs_total=3,
        sub_jobs=(
            SubJob(status=JobStatus.SUCCESS, about=SubJobEntities(server_id="a")),
            SubJob(
                status=JobStatus.FAIL,
                about=SubJobEntities(server_id="b"),
                error_code="BMS.0036",
                fail_reason="it is being stopped",
            ),
            SubJob(status=JobStatus.RUNNING, about=SubJobEntities(server_id="c")),
        ),
    ),
)


def an_api_error(kind: type[ApiError] = RateLimitedError) -> ApiError:
    return kind(
        status=429,
        code="APIGW.0308",
        message="too many",
        request_id="req-1",
        operation="servers.stop",
        retry_after=7.0,
        quota=(50, 60.0),
    )


def a_tried_error() -> TransportError:
    error = TransportError("ReadError", maybe_delivered=True, operation="servers.stop")
    error.previous = (an_api_error(), DecodeError("half", status=200, request_id="req-2", operation="servers.stop"))
    return error


FAULTY = Server(id="a", fault=Fault(code=500, message="No valid host was found"))

ONE_OF_EACH: list[BmsError] = [
    BmsError("any"),
    ConfigurationError("endpoint: missing"),
    InvalidRequestError("server_ids", ("a",), "a rule"),
    CallError("any"),
    a_tried_error(),
    CallTimeoutError("no answer within 60 s", maybe_delivered=True, operation="servers.stop"),
    DecodeError("half a body", status=200, request_id="req-1", operation="jobs.get"),
    WaitTooLongError(operation="servers.stop", wait=42.0, max_wait=5.0),
    ResponseTooLargeError(limit=64, status=200, operation="servers.list"),
    *(
        an_api_error(kind)
        for kind in (
            ApiError,
            BadRequestError,
            AuthenticationError,
            PermissionDeniedError,
            NotFoundError,
            ConflictError,
            RateLimitedError,
            ServerError,
        )
    ),
    JobError("any", job_id="j", job=JOB),
    JobFailedError(JOB),
    SubJobFailedError(server_id="a", job_id="j", code="BMS.0036", reason="stopping"),
    JobLostError("forgotten", job_id="j", job=None),
    JobTimeoutError("after 5 s", job_id="j", job=JOB, resume="{}"),
    ServerWaitError("any", server_id="a", wanted="ACTIVE", server=FAULTY),
    ServerFaultError(FAULTY, wanted="ACTIVE"),
    ServerLostError("gone", server_id="a", wanted=None, server=None),
    ServerWaitTimeoutError("after 5 s", server_id="a", wanted="ACTIVE", server=FAULTY),
    FleetError("3 servers", code="BMS.0036", server_ids=("a", "b", "c")),
    FleetTimeoutError("the total_timeout is over", code=None, server_ids=()),
    ServerStateError("not as asked", server_id="a", code=None, status="ACTIVE", task_state=None),
    NotReadyError(server_id="a", asked="tcp 22", answered=None, seconds=900.0, attempts=31),
    GroupBlockedError(group="rack-7", unavailable=("b",), allowed=1),
    JournalError("the disk is full"),
    LeadershipLostError("another process leads", name="power", fence=3),
    ForeignCodeError("on_job raised CancelledError"),
    ClientClosedError("closed"),
    RunNotFoundError("key", "tonight", "expected the key of a run"),
    NotSyncedError.of({"a": "busy"}, 2, 600.0),
]


def kinds_below(kind: type[BmsError]) -> set[type[BmsError]]:
    # Other tests make classes of their own, and so does the command, which reports them itself.
    ours = [
        each
        for each in kind.__subclasses__()
        if each.__module__.startswith("bms_async.") and not each.__module__.startswith("bms_async.cli.")
    ]
    return {kind}.union(*map(kinds_below, ours))


def name_of(error: BmsError) -> str:
    return type(error).__name__


def test_the_sample_below_has_one_of_each() -> None:
    assert {type(error) for error in ONE_OF_EACH} == kinds_below(BmsError)


def test_every_error_is_a_public_name_of_the_package() -> None:
    public = {name for name, value in vars(errors).items() if inspect.isclass(value) and issubclass(value, BmsError)}

    assert public == set(errors.__all__)
    assert public <= set(bms_async.__all__)
    assert all(getattr(bms_async, name) is getattr(errors, name) for name in public)


@pytest.mark.parametrize(
    ("kind", "parent"),
    [
        (ConfigurationError, BmsError),
        (InvalidRequestError, BmsError),
        (InvalidRequestError, ValueError),
        (TransportError, CallError),
        (CallTimeoutError, TransportError),
        (CallTimeoutError, TimeoutError),
        (DecodeError, CallError),
        (ResponseTooLargeError, DecodeError),
        (WaitTooLongError, CallError),
        (WaitTooLongError, TimeoutError),
        (ApiError, CallError),
        (CallError, BmsError),
        (BadRequestError, ApiError),
        (AuthenticationError, ApiError),
        (PermissionDeniedError, ApiError),
        (NotFoundError, ApiError),
        (ConflictError, ApiError),
        (RateLimitedError, ApiError),
        (ServerError, ApiError),
        (JobError, BmsError),
        (JobFailedError, JobError),
        (SubJobFailedError, JobError),
        (JobLostError, JobError),
        (JobTimeoutError, JobError),
        (JobTimeoutError, TimeoutError),
        (FleetError, BmsError),
        (ServerStateError, FleetError),
        (NotReadyError, FleetError),
        (GroupBlockedError, FleetError),
        (FleetTimeoutError, FleetError),
        (FleetTimeoutError, TimeoutError),
        (ForeignCodeError, BmsError),
        (ClientClosedError, BmsError),
    ],
)
def test_the_tree_is_as_documented(kind: type[BmsError], parent: type[Exception]) -> None:
    assert issubclass(kind, parent)


def test_siblings_do_not_catch_each_other() -> None:
    answers = [kind for kind in kinds_below(ApiError) if kind is not ApiError]

    assert not [(a, b) for a in answers for b in answers if a is not b and issubclass(a, b)]
    assert not issubclass(TransportError, TimeoutError | ValueError)


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=name_of)
@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_every_error_survives_pickling(error: BmsError, protocol: int) -> None:
    assert_alike(pickle.loads(pickle.dumps(error, protocol)), error)


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=name_of)
def test_every_error_survives_copying(error: BmsError) -> None:
    assert_alike(copy.copy(error), error)
    assert_alike(copy.deepcopy(error), error)


def assert_alike(other: Any, error: BaseException) -> None:
    assert type(other) is type(error)
    assert str(other) == str(error)
    assert repr(other) == repr(error)
    assert other.args == error.args
    mine, theirs = dict(vars(error)), dict(vars(other))
    before, after = mine.pop("previous", ()), theirs.pop("previous", ())
    assert theirs == mine
    assert len(before) == len(after)
    for one, another in zip(before, after, strict=True):
        assert_alike(another, one)


def test_an_api_errors_text_holds_operation_status_code_words_meaning_measure_and_request_id() -> None:
    error = BadRequestError(
        status=400, code="BMS.0036", message="server busy", request_id="req-1", operation="servers.stop"
    )

    assert str(error) == (
        "servers.stop: 400 BMS.0036: server busy "
        "[The server is being stopped, and takes nothing else meanwhile. Wait until that has ended, then ask again.] "
        "(request id req-1)"
    )
    assert error.documented is not None
    assert (error.meaning, error.measure) == (error.documented.meaning, error.documented.measure)


def test_an_undocumented_code_has_no_meaning_and_no_measure() -> None:
    error = BadRequestError(status=400, code="X.1", message="no")

    assert str(error) == "400 X.1: no"
    assert (error.documented, error.meaning, error.measure) == (None, None, None)


@given(
    status=st.integers(100, 999),
    code=st.none() | st.sampled_from(["BMS.0040", "X"]),
    message=st.text(max_size=20),
    request_id=st.none() | st.text(min_size=1, max_size=10),
    operation=st.none() | st.just("servers.get"),
)
def test_the_text_of_an_api_error_leaves_nothing_out(
    status: int, code: str | None, message: str, request_id: str | None, operation: str | None
) -> None:
    error = error_class(status, code)(
        status=status, code=code, message=message, request_id=request_id, operation=operation
    )

    parts = (str(status), code, message, request_id, operation, error.meaning, error.measure)
    assert all(part in str(error) for part in parts if part)


@pytest.mark.parametrize(("maybe_delivered", "fate"), [(True, "the cloud may have received it"), (False, "nothing")])
def test_a_transport_error_says_whether_the_cloud_may_have_acted(maybe_delivered: bool, fate: str) -> None:
    error = TransportError("ReadError", maybe_delivered=maybe_delivered, operation="servers.reboot")

    assert str(error).startswith("servers.reboot: ReadError (")
    assert fate in str(error)
    assert error.maybe_done is maybe_delivered


@pytest.mark.parametrize(
    ("error", "maybe_done"),
    [
        (TransportError("x", maybe_delivered=False), False),
        (TransportError("x", maybe_delivered=True), True),
        (DecodeError("x", status=200), True),
        (ServerError(status=503), True),
        (BadRequestError(status=408), True),
        (BadRequestError(status=400), False),
        (RateLimitedError(status=429), False),
        (RateLimitedError(status=503, code="APIGW.0308"), False),
        (RateLimitedError(status=408, code="BMS.0212"), False),
        (NotFoundError(status=404), False),
    ],
    ids=str,
)
def test_an_error_knows_whether_what_was_asked_may_have_been_done(error: CallError, maybe_done: bool) -> None:
    assert error.maybe_done is maybe_done


def test_what_an_earlier_try_may_have_done_is_not_forgotten() -> None:
    error = BadRequestError(status=400, code="BMS.0039")
    error.previous = (RateLimitedError(status=429), TransportError("cut", maybe_delivered=True))

    assert error.maybe_done


def test_an_invalid_request_neither_shows_nor_keeps_a_value_that_may_be_a_secret() -> None:
    error = InvalidRequestError("new_password", "Sesame!77", "expected 8 to 26 characters", secret=True)

    assert str(error) == "new_password=***: expected 8 to 26 characters"
    assert error.value is None
    assert "Sesame" not in repr(error) + repr(vars(error))


def test_an_invalid_request_names_argument_value_and_rule_and_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="page_size=1001: expected an int from 1 to 1000") as caught:
        raise InvalidRequestError("page_size", 1001, "expected an int from 1 to 1000")

    error = caught.value
    assert isinstance(error, InvalidRequestError)
    assert (error.argument, error.value, error.rule) == ("page_size", 1001, "expected an int from 1 to 1000")


def test_a_long_value_is_cut_in_the_text_and_whole_in_the_error() -> None:
    error = InvalidRequestError("server_id", "x" * 1000, "a rule")

    assert len(str(error)) < 110
    assert str(error).endswith("...: a rule")
    assert error.value == "x" * 1000


def test_a_failed_job_tells_how_many_failed_with_what_and_why() -> None:
    error = JobFailedError(JOB)

    assert str(error) == "job j failed for 1 of 3 servers with BMS.0036: it is being stopped"
    assert error.job is JOB
    assert error.job_id == "j"


@pytest.mark.parametrize(
    ("job", "text"),
    [
        (Job(job_id="j", status=JobStatus.FAIL), "job j failed"),
        (Job(job_id="j", status=JobStatus.FAIL, error_code="BMS.3004"), "job j failed with BMS.3004"),
        (Job(job_id="j", status=JobStatus.FAIL, fail_reason="no power"), "job j failed: no power"),
    ],
)
def test_a_failed_job_without_sub_jobs_tells_what_it_can(job: Job, text: str) -> None:
    assert str(JobFailedError(job)) == text


def test_a_failed_sub_job_has_its_meaning_and_measure() -> None:
    error = SubJobFailedError(server_id="a", job_id="j", code="BMS.0040", reason="gone")

    assert str(error).startswith("server a failed in job j with BMS.0040: gone [There is no such server. ")
    assert (error.server_id, error.code, error.reason) == ("a", "BMS.0040", "gone")
    assert error.meaning == "There is no such server."
    assert error.measure is not None


def test_a_failed_sub_job_without_a_code_says_so_by_silence() -> None:
    error = SubJobFailedError(server_id="a", job_id="j", code=None, reason=None)

    assert str(error) == "server a failed in job j"
    assert (error.meaning, error.measure) == (None, None)


def test_a_job_timeout_is_a_timeout_and_holds_what_resumes_the_wait() -> None:
    with pytest.raises(TimeoutError, match="after 5 s") as caught:
        raise JobTimeoutError("after 5 s", job_id="j", job=JOB, resume='{"version":1}')

    error = caught.value
    assert isinstance(error, JobTimeoutError)
    assert error.resume == '{"version":1}'
    assert error.job is JOB
    # TimeoutError is an OSError, whose arguments are read as a number and its meaning.
    assert error.errno is None


def test_a_fleet_error_has_the_measure_of_its_code() -> None:
    assert FleetError("x", code="BMS.0036", server_ids=("a",)).measure == "Wait until that has ended, then ask again."
    assert FleetError("x", code=None, server_ids=()).measure is None


def failed_job(*reasons: str | None, **fields: Any) -> Job:
    subs = tuple(
        SubJob(status=JobStatus.FAIL, about=SubJobEntities(server_id=f"s{place}", errorcode_message=reason))
        for place, reason in enumerate(reasons)
    )
    entities = JobEntities(sub_jobs_total=len(subs), sub_jobs=subs)
    return Job(job_id="j", status=JobStatus.FAIL, entities=entities, **fields)


@pytest.mark.parametrize(
    ("job", "text"),
    [
        (failed_job("slot 7"), "job j failed for 1 of 1 servers: slot 7"),
        (failed_job("slot 7", "slot 7"), "job j failed for 2 of 2 servers: slot 7"),
        (
            failed_job("no power", "slot 7", "slot 7"),
            "job j failed for 3 of 3 servers: slot 7 (2 servers); no power (1 server)",
        ),
        (
            failed_job("a", "a", "b", "c", "d", "e"),
            "job j failed for 6 of 6 servers: a (2 servers); b (1 server); c (1 server); 2 more reasons",
        ),
        (
            failed_job("slot 7", fail_reason="1 of 1 failed", error_code="BMS.0006"),
            "job j failed for 1 of 1 servers with BMS.0006: slot 7; of the job as a whole: 1 of 1 failed",
        ),
        (failed_job(None, fail_reason="rack 7 is dark"), "job j failed for 1 of 1 servers: rack 7 is dark"),
        (failed_job(None, message="rack 7 is dark"), "job j failed for 1 of 1 servers: rack 7 is dark"),
        (failed_job("x" * 1000), f"job j failed for 1 of 1 servers: {'x' * 253}..."),
    ],
)
def test_a_failed_job_tells_the_clouds_own_words_the_most_frequent_first(job: Job, text: str) -> None:
    assert str(JobFailedError(job)) == text


def test_what_the_cloud_says_of_a_lost_job_is_in_its_error() -> None:
    error = JobLostError("job j ended", job_id="j", job=None, code="BMS.0031", reason="none is left")

    assert str(error).startswith("job j ended; of the job the cloud says: BMS.0031: none is left [")
    assert str(JobLostError("job j ended", job_id="j", job=None)) == "job j ended"


def test_the_words_of_a_job_stand_in_only_where_the_sub_job_has_none() -> None:
    silent = SubJobFailedError(server_id="s", job_id="j", code=None, reason=None, job_reason="BMS.0031: none is left")
    with_code = SubJobFailedError(server_id="s", job_id="j", code="BMS.0006", reason=None, job_reason="BMS.0031: none")

    assert str(silent) == "server s failed in job j; of the job as a whole the cloud says: BMS.0031: none is left"
    assert silent.code is None
    assert "BMS.0031" not in str(with_code)
