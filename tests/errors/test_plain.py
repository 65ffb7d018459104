"""Errors as plain data: what is written is what is read, by whichever version, and never a secret."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async._plain_errors import _classes, _read, _values, from_plain, to_plain
from bms_async.errors import (
    ApiError,
    BadRequestError,
    BmsError,
    CallError,
    CallTimeoutError,
    ConflictError,
    FleetError,
    ForeignCodeError,
    InvalidRequestError,
    JobError,
    JobFailedError,
    JobLostError,
    ServerError,
    ServerFaultError,
    ServerStateError,
    SubJobFailedError,
    TransportError,
)
from bms_async.fleet.outcome import OutcomeState, code_of_error, judge_refusal, make_outcome
from bms_async.models import Fault, Job, JobEntities, JobStatus, Server, SubJob, SubJobEntities
from bms_async.redaction import MaskedStr, Secret, SecretBytes, SecretStr
from tests.errors.test_errors import ONE_OF_EACH, assert_alike, name_of

PASSWORD = "Sesame!77"
SERVER = "53206ed0-56de-4d6b-b7ee-ffc62ca26f43"
SUB_JOB_FAILED = SubJobFailedError(
    server_id=SERVER, job_id="ff808082739334d80173941ec8b42f1a", code="BMS.0036", reason="it is being stopped"
)


def stored(error: BmsError) -> bytes:
    return msgspec.msgpack.encode(to_plain(error))


def read(data: bytes) -> BmsError:
    return from_plain(msgspec.msgpack.decode(data))


def again(error: BmsError) -> BmsError:
    return read(stored(error))


def chain_of(error: BaseException | None) -> list[BaseException]:
    return [] if error is None else [error, *chain_of(error.__cause__)]


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=name_of)
def test_every_error_is_read_as_it_was_written(error: BmsError) -> None:
    if isinstance(error, InvalidRequestError):
        error = InvalidRequestError("page_size", 1001, "a rule")
    assert_alike(again(error), error)
    assert_alike(from_plain(json.loads(json.dumps(to_plain(error)))), error)


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=name_of)
def test_the_table_of_attributes_has_all_that_a_class_sets(error: BmsError) -> None:
    assert set(vars(error)) <= set(_classes.fields_of(type(error)))


@pytest.mark.parametrize("error", ONE_OF_EACH, ids=name_of)
def test_an_error_without_its_attributes_is_unreadable_and_not_half_an_error(error: BmsError) -> None:
    written = {name: part for name, part in to_plain(error).items() if name not in ("attributes", "models")}
    shown = from_plain(written)

    assert type(shown) in (type(error), BmsError)
    if type(shown) is BmsError and type(error) is not BmsError:
        assert "cannot be read: expected" in str(shown)
    else:
        assert str(shown) == str(error)
        assert getattr(shown, "maybe_done", None) == getattr(error, "maybe_done", None)


TEXTS = st.text(max_size=12)
MAYBE = st.none() | TEXTS
CODES = st.sampled_from([None, "", "BMS.0036", "BMS.0006", "X.1"])
NUMBERS = st.none() | st.floats(0, 1000)
API_ERRORS = st.builds(
    lambda kind, **fields: kind(**fields),
    st.sampled_from([ApiError, BadRequestError, ServerError, ConflictError]),
    status=st.integers(100, 999),
    code=CODES,
    message=TEXTS,
    request_id=MAYBE,
    operation=MAYBE,
    retry_after=NUMBERS,
    quota=st.none() | st.tuples(st.integers(1, 99), st.floats(1, 60)),
)
TRANSPORT_ERRORS = st.builds(
    lambda kind, text, delivered: kind(text, maybe_delivered=delivered),
    st.sampled_from([TransportError, CallTimeoutError]),
    TEXTS,
    st.booleans(),
)
SUB_JOBS = st.builds(
    lambda server_id, code, reason: SubJob(
        status=JobStatus.FAIL, about=SubJobEntities(server_id=server_id), error_code=code, fail_reason=reason
    ),
    TEXTS,
    CODES,
    MAYBE,
)
JOBS = st.builds(
    lambda subs, code, reason: Job(
        job_id="j",
        status=JobStatus.FAIL,
        error_code=code,
        fail_reason=reason,
        entities=JobEntities(sub_jobs=tuple(subs), sub_jobs_total=len(subs)),
    ),
    st.lists(SUB_JOBS, max_size=3),
    CODES,
    MAYBE,
)
ERRORS: st.SearchStrategy[BmsError] = st.one_of(
    st.builds(BmsError, TEXTS),
    st.builds(BmsError, TEXTS, st.integers() | st.floats() | st.binary(max_size=3) | MAYBE),
    st.builds(ForeignCodeError, TEXTS),
    st.builds(
        InvalidRequestError, TEXTS, st.integers() | TEXTS | st.lists(TEXTS, max_size=3) | st.binary(max_size=3), TEXTS
    ),
    API_ERRORS,
    TRANSPORT_ERRORS,
    st.builds(JobFailedError, JOBS),
    st.builds(SubJobFailedError, server_id=TEXTS, job_id=TEXTS, code=CODES, reason=MAYBE, job_reason=MAYBE),
    st.builds(JobLostError, TEXTS, job_id=TEXTS, job=st.none() | JOBS, code=CODES, reason=MAYBE),
    st.builds(ServerStateError, TEXTS, server_id=TEXTS, code=CODES, status=MAYBE, task_state=MAYBE),
    st.builds(FleetError, TEXTS, code=CODES, server_ids=st.lists(TEXTS, max_size=3).map(tuple)),
)
FOREIGN: st.SearchStrategy[BaseException] = st.builds(ValueError, TEXTS) | st.builds(ConnectionResetError, TEXTS)


@given(
    st.lists(ERRORS | FOREIGN, max_size=5),
    ERRORS,
    st.lists(API_ERRORS | TRANSPORT_ERRORS, max_size=4),
    st.lists(TEXTS, max_size=3),
)
def test_an_error_that_is_read_says_and_counts_as_what_the_written_one_did(
    causes: list[BaseException], error: BmsError, previous: list[CallError], notes: list[str]
) -> None:
    for effect, cause in zip([error, *causes], causes, strict=False):
        effect.__cause__ = cause
    for note in notes:
        error.add_note(note)
    if isinstance(error, CallError):
        error.previous = tuple(previous)
    shown = again(error)

    assert type(shown) is type(error)
    assert str(shown) == str(error)
    assert getattr(shown, "__notes__", []) == notes
    assert getattr(shown, "code", None) == getattr(error, "code", None)
    assert getattr(shown, "maybe_done", None) == getattr(error, "maybe_done", None)
    assert code_of_error(shown) == code_of_error(error)
    outcomes = [make_outcome("a", OutcomeState.FAILED, error=each) for each in (error, shown)]
    assert outcomes[0].reason == outcomes[1].reason
    assert len(chain_of(shown)) == len(chain_of(error))
    assert to_plain(shown) == to_plain(error)


PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.binary(max_size=3),
    lambda parts: st.lists(parts, max_size=3) | st.dictionaries(TEXTS, parts, max_size=3),
    max_leaves=6,
)


@given(st.data(), st.sampled_from(ONE_OF_EACH))
def test_malformed_data_become_an_error_whose_every_question_can_be_asked(data: st.DataObject, error: BmsError) -> None:
    written: Any = to_plain(error)
    place = data.draw(st.sampled_from([written, *(part for part in written.values() if isinstance(part, dict))]))
    names = [*place, "cause", "notes", "errors", "maybe_done", "_maybe_done", "says", "__class__", "args", "code"]
    place[data.draw(st.sampled_from(names))] = data.draw(PLAIN)
    shown = from_plain(written)

    assert isinstance(shown, BmsError)
    assert_can_be_asked(shown)


def assert_can_be_asked(error: BmsError) -> None:
    assert isinstance(str(error), str)
    assert isinstance(repr(error), str)
    code_of_error(error)
    judge_refusal("servers.stop", error, 1)
    if isinstance(error, ApiError):
        error.says("over limit")
    stored(error)


@given(PLAIN)
def test_data_that_are_no_error_at_all_become_an_error_that_says_so(data: object) -> None:
    assert "cannot be read: expected" in str(from_plain(data))
    assert type(from_plain(data)) is BmsError


def test_data_cannot_hide_a_method_of_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    written: Any = to_plain(ServerError(status=503))
    written["attributes"] |= {"_maybe_done": 1, "says": 1, "add_note": 1, "__class__": 1}
    del written["maybe_done"]
    shown = from_plain(written)

    assert_can_be_asked(shown)
    assert judge_refusal("servers.reboot", shown, 1) is OutcomeState.UNKNOWN
    # Control: where data may set any attribute, the question raises.
    monkeypatch.setattr(_read, "may_be_set", lambda kind, name: True)
    with pytest.raises(TypeError, match="not callable"):
        assert_can_be_asked(from_plain(written))


def test_an_unreadable_error_keeps_the_text_and_its_place_in_the_chain() -> None:
    error = BmsError("above")
    error.__cause__ = TransportError("cut off", maybe_delivered=True)
    written: Any = to_plain(error)
    written["cause"]["attributes"]["maybe_delivered"] = "perhaps"
    cause = from_plain(written).__cause__

    assert type(cause) is BmsError
    assert "expected maybe_delivered of a TransportError as bool, got str" in str(cause)
    assert "its text is: cut off (the cloud may have received it)" in str(cause)


def renamed(error: BmsError, name: str, *bases: str) -> dict[str, object]:
    written = to_plain(error)
    return {**written, "class": name, "bases": list(bases)}


def test_a_class_of_a_later_version_becomes_the_nearest_base_that_this_one_has() -> None:
    error = BadRequestError(status=400, code="BMS.0036", message="busy", operation="servers.stop")
    shown = from_plain(renamed(error, "ServerBusyError", "ServerRefusedError", "BadRequestError", "ApiError"))

    assert type(shown) is BadRequestError
    assert str(shown) == str(error)
    assert (shown.code, shown.status, shown.operation) == ("BMS.0036", 400, "servers.stop")
    assert shown.__notes__ == ["its class is ServerBusyError, which this version of bms_async does not have"]


def test_a_class_without_a_known_base_becomes_a_bms_error_with_its_text_and_code() -> None:
    shown = from_plain(renamed(JobFailedError(Job(job_id="j", error_code="BMS.0006")), "LaterError", "OtherError"))

    assert type(shown) is BmsError
    assert str(shown) == "job j failed with BMS.0006"
    assert code_of_error(shown) == "BMS.0006"


def test_a_later_class_that_is_written_without_its_text_shows_its_attributes_instead() -> None:
    written = {"class": "LaterError", "bases": [], "attributes": {"server_id": "a", "reason": "no power"}}

    assert str(from_plain(written)) == "server_id='a', reason='no power'"


def test_a_later_class_that_may_have_been_done_is_not_read_as_one_that_was_not() -> None:
    written = renamed(TransportError("cut", maybe_delivered=True), "LaterError", "CallError")
    shown = from_plain(written)

    assert type(shown) is CallError
    assert shown.maybe_done
    assert judge_refusal("servers.reboot", shown, 1) is OutcomeState.UNKNOWN
    # Control: without the word of the written one, the base denies it.
    del written["maybe_done"]
    assert judge_refusal("servers.reboot", from_plain(written), 1) is OutcomeState.FAILED


def test_of_many_attempts_the_last_are_kept_and_what_an_earlier_one_may_have_done() -> None:
    error = BadRequestError(status=400)
    error.previous = (TransportError("cut", maybe_delivered=True), *[ConflictError(status=409) for _ in range(50)])
    shown = again(error)

    assert isinstance(shown, BadRequestError)
    assert len(shown.previous) == 17
    assert shown.maybe_done


class BoomError(BadRequestError):
    """An application's own."""

    def __str__(self) -> str:
        return "boom"


class NotFoundError(BmsError):
    """An application's own, with the name of one of ours."""


def test_a_class_of_the_applications_becomes_its_base_and_keeps_its_name_in_a_note() -> None:
    shown = again(BoomError(status=400, code="X.1"))
    other = again(NotFoundError("nothing"))

    assert (type(shown), str(shown)) == (BadRequestError, "boom")
    assert "BoomError" in shown.__notes__[0]
    assert (type(other), str(other)) == (BmsError, "nothing")
    assert "test_plain.NotFoundError" in other.__notes__[0]


def test_a_foreign_cause_becomes_an_error_with_its_class_and_words_and_hides_no_code_that_it_hid_before() -> None:
    error = BmsError("above")
    error.__cause__ = ConnectionResetError("peer")
    error.__cause__.__cause__ = json.JSONDecodeError("half", "{", 1)
    error.__cause__.__cause__.__cause__ = ConflictError(status=409, code="BMS.0036")
    chain = chain_of(again(error))

    assert [type(each) for each in chain[1:]] == [ForeignCodeError] * 3
    assert str(chain[1]) == "ConnectionResetError: peer"
    assert str(chain[2]).startswith("json.decoder.JSONDecodeError: half")
    assert str(chain[3]).startswith("bms_async.errors.calls.ConflictError: 409 BMS.0036")
    assert code_of_error(chain[0] if isinstance(chain[0], BmsError) else None) is code_of_error(error) is None
    assert chain_of(again(again(error)))[3].args == chain[3].args


def test_an_error_whose_text_raises_is_written_all_the_same() -> None:
    class RudeError(Exception):
        def __str__(self) -> str:
            raise SystemExit

    error = BmsError("above")
    error.__cause__ = RudeError()

    assert "a RudeError whose text raises SystemExit" in str(again(error).__cause__)


def a_ring() -> BmsError:
    error, cause = BmsError("a"), BmsError("b")
    error.__cause__, cause.__cause__ = cause, error
    return error


def a_long_chain() -> BmsError:
    errors = [BmsError(str(number)) for number in range(100)]
    for effect, cause in pairwise(errors):
        effect.__cause__ = cause
    return errors[0]


def a_bush() -> BmsError:
    error = CallError("a leaf")
    for _ in range(6):
        above = CallError("a branch")
        above.previous, above.__cause__ = (error,) * 6, error
        error = above
    return error


def a_ring_of_attempts() -> BmsError:
    error = CallError("again")
    error.previous = (error,)
    return error


@pytest.mark.parametrize(
    ("make", "length"),
    [(a_ring, 2), (a_long_chain, 8), (a_bush, 7), (a_ring_of_attempts, 1)],
    ids=lambda value: getattr(value, "__name__", value),
)
def test_what_is_written_of_causes_ends(make: Callable[[], BmsError], length: int) -> None:
    error = make()

    assert len(chain_of(again(error))) == length
    assert stored(error).count(b"class") <= 32


def test_data_that_are_nested_deeper_than_what_is_written_are_read_that_deep() -> None:
    written: dict[str, object] = {"class": "BmsError", "args": ["x"]}
    for _ in range(5000):
        written = {"class": "BmsError", "args": ["x"], "cause": written}

    assert len(chain_of(from_plain(written))) == 8


def job_with(sub_jobs: int) -> Job:
    subs = tuple(SubJob(status=JobStatus.FAIL, about=SubJobEntities(server_id=f"s{each}")) for each in range(sub_jobs))
    return Job(job_id="j", error_code="BMS.0006", entities=JobEntities(sub_jobs=subs, sub_jobs_total=sub_jobs))


@pytest.mark.parametrize(("sub_jobs", "kept"), [(0, 0), (50, 50), (51, 0), (1000, 0)])
def test_a_job_is_kept_and_a_large_one_without_its_sub_jobs(sub_jobs: int, kept: int) -> None:
    shown = again(JobFailedError(job_with(sub_jobs)))

    assert isinstance(shown, JobFailedError)
    assert (len(shown.job.sub_jobs), shown.job.sub_jobs_total, shown.code) == (kept, sub_jobs, "BMS.0006")


def test_the_error_of_a_sub_job_takes_little_room_as_an_outage_leaves_a_million() -> None:
    assert len(stored(SUB_JOB_FAILED)) < 300
    assert "args" not in to_plain(SUB_JOB_FAILED)


def test_a_sub_jobs_error_with_another_text_is_written_with_it() -> None:
    error = SubJobFailedError(server_id="a", job_id="j", code=None, reason=None)
    error.args = ("as an older version said it",)

    assert str(again(error)) == "as an older version said it"


def test_what_is_no_data_is_left_out_or_written_as_errors_show_it() -> None:
    error = SubJobFailedError(server_id="a", job_id="j", code=None, reason="half a pair: \ud800")
    error.rack, error.when, error.count = ("r1", 7), object(), 10**30  # type: ignore[attr-defined]
    shown: Any = again(error)
    refused: Any = again(InvalidRequestError("server_ids", {"a"}, "a rule"))
    waits: Any = again(ApiError(status=429, retry_after=float("inf")))

    assert (shown.rack, shown.reason) == (("r1", 7), "half a pair: \\ud800")
    assert not hasattr(shown, "when")
    assert not hasattr(shown, "count")
    assert refused.value == "{'a'}"
    assert waits.retry_after > 10**300


def with_a_note(error: BmsError, note: str) -> BmsError:
    error.add_note(note)
    return error


def with_a_cause(error: BmsError, cause: BaseException) -> BmsError:
    error.__cause__ = cause
    return error


def with_an_attribute(error: BmsError, value: object) -> BmsError:
    error.mine = value  # type: ignore[attr-defined]
    return error


ECHO = MaskedStr(f"bad password {PASSWORD}", "bad password ***")


class EchoingError(BmsError):
    """An application's own."""

    def __str__(self) -> str:
        return ECHO


SECRETS: dict[str, Callable[[], BmsError]] = {
    "a reason": lambda: SubJobFailedError(server_id="a", job_id="j", code=None, reason=ECHO),
    "a code": lambda: SubJobFailedError(server_id="a", job_id="j", code=ECHO, reason=None),
    "a message": lambda: ApiError(status=400, message=str(ECHO), said=ECHO),
    "a job": lambda: JobError("x", job_id="j", job=Job(job_id="j", fail_reason=ECHO)),
    "a fault": lambda: ServerFaultError(Server(id="a", fault=Fault(message=ECHO)), wanted=None),
    "an argument of the error": lambda: BmsError(SecretStr(PASSWORD)),
    "a note": lambda: with_a_note(BmsError("x"), ECHO),
    "a secret text": lambda: with_an_attribute(BmsError("x"), SecretStr(PASSWORD)),
    "a mapping": lambda: with_an_attribute(BmsError("x"), {"a": [ECHO, SecretStr(PASSWORD)], ECHO: 1}),
    "a text of a class of the application's": lambda: EchoingError("x"),
    "a cause": lambda: with_a_cause(BmsError("x"), ValueError(SecretStr(PASSWORD))),
    "an earlier attempt's": lambda: with_an_attribute(BmsError("x"), (ApiError(status=400, said=ECHO),)),
}
HIDDEN: dict[str, Callable[[], BmsError]] = {
    "a secret": lambda: with_an_attribute(BmsError("x"), Secret(PASSWORD)),
    "secret bytes": lambda: with_an_attribute(BmsError("x"), SecretBytes(PASSWORD.encode())),
    "a server's metadata": lambda: ServerFaultError(Server(id="a", metadata={"admin_pass": PASSWORD}), wanted=None),
    "a server's injected data": lambda: ServerFaultError(Server(id="a", user_data=PASSWORD), wanted=None),
    "one of its arguments": lambda: BmsError("x", SecretStr(PASSWORD)),
    "a masked cause": lambda: with_a_cause(BmsError("x"), ValueError(ECHO)),
    "a refused argument": lambda: InvalidRequestError("body", [SecretStr(PASSWORD)], "a rule"),
}


@pytest.mark.parametrize("make", [*SECRETS.values(), *HIDDEN.values()], ids=[*SECRETS, *HIDDEN])
def test_r5_no_secret_is_written(make: Callable[[], BmsError]) -> None:
    error = make()

    assert PASSWORD.encode() not in stored(error)
    assert PASSWORD not in json.dumps(to_plain(error))
    assert isinstance(error, type(again(error)))


class Nothing:
    """What no value is."""


@pytest.mark.parametrize("make", SECRETS.values(), ids=list(SECRETS))
def test_r5_without_the_masking_the_secret_is_found(
    make: Callable[[], BmsError], monkeypatch: pytest.MonkeyPatch
) -> None:
    error = make()
    for name in ("MaskedStr", "SecretStr"):
        monkeypatch.setattr(_values, name, Nothing)

    assert PASSWORD.encode() in stored(error)
