"""Answers: good ones are read, and whatever else comes becomes an ApiError or a DecodeError that says what it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bms_async.api.bms import jobs, power, servers
from bms_async.errors import (
    ApiError,
    AuthenticationError,
    BadRequestError,
    ConflictError,
    DecodeError,
    NotFoundError,
    PermissionDeniedError,
    RateLimitedError,
    ServerError,
)
from bms_async.models import Job
from bms_async.wire import HttpResponse, Operation, Safety, read_error, read_response
from tests.reference.examples import ERROR_ANSWER, GATEWAY_ERROR_ANSWER, JOB_ANSWER, repair

GOOD_JOB = repair(JOB_ANSWER).encode()
THROTTLED = "The throttling threshold has been reached: policy user over ratelimit,limit:50,time:1 minute"

ODD_BODIES = [
    b"",
    b"null",
    b"[]",
    b"7",
    b'"a word"',
    b"{}",
    b'{"error": null}',
    b'{"error": []}',
    b'{"error": {}}',
    b'{"error": "a word"}',
    b'{"error": ["a", "list"]}',
    b'{"error_msg": null, "error_code": null}',
    b'{"error_msg": {"a": 1}, "error_code": [1]}',
    b'{"itemNotFound": null}',
    b'{"error": {"message": null, "code": null}}',
    b'{"error": {"message": {"a": 1}, "code": {"b": 2}}}',
    b'{"error_msg": "ratelimit,limit:' + b"9" * 5000 + b',time:1 minute"}',
    b'{"error_msg": "ratelimit,limit:1,time:' + b"9" * 400 + b' minute"}',
    b'{"error": {"code": ' + b"9" * 5000 + b"}}",
    b'{"error": {"message": "\\ud800"}}',
    b'{"job_id": "j", "status": "RUNN',
    b"\xff\xfe\x00",
    b"[" * 100_000,
    b'{"unknown":' + b"[" * 100_000,
    b"<html><body>502 Bad Gateway</body></html>",
]


def error_of(
    status: int, body: object = b"", *, headers: dict[str, str] | None = None, operation: str = "servers.stop"
) -> ApiError:
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    return read_error(operation, HttpResponse(status=status, headers=tuple((headers or {}).items()), body=raw))


# --- what is good ---


@given(status=st.integers(200, 299))
def test_any_2xx_is_good(status: int) -> None:
    assert read_response(jobs.GET, HttpResponse(status=status, body=GOOD_JOB)).status == "SUCCESS"


@given(status=st.integers(100, 199) | st.integers(300, 999), body=st.sampled_from([GOOD_JOB, b"", b"{}"]))
def test_nothing_else_is_good_whatever_its_body(status: int, body: bytes) -> None:
    with pytest.raises(ApiError) as caught:
        read_response(jobs.GET, HttpResponse(status=status, body=body))

    assert caught.value.status == status


@given(body=st.binary(max_size=64))
def test_an_operation_without_a_result_reads_no_body(body: bytes) -> None:
    operation = Operation(name="x", method="PUT", path="/", result=type(None), safety=Safety.IDEMPOTENT, chapter="none")

    read_response(operation, HttpResponse(status=204, body=body))


@pytest.mark.parametrize(
    ("headers", "body"),
    [((), b" <!DOCTYPE html><html>log in</html>"), ((("Content-Type", "text/html"),), b"log in")],
)
def test_a_page_is_no_good_answer_though_none_is_to_be_read(headers: tuple[tuple[str, str], ...], body: bytes) -> None:
    operation = Operation(name="x", method="PUT", path="/", result=type(None), safety=Safety.IDEMPOTENT, chapter="none")
    with pytest.raises(DecodeError, match="an HTML page"):
        read_response(operation, HttpResponse(status=200, headers=headers, body=body))
    read_response(operation, HttpResponse(status=200, headers=(("Content-Type", "text/html"),), body=b""))


# --- what is neither ---


@given(
    status=st.integers(100, 999),
    body=st.binary(max_size=200) | st.sampled_from(ODD_BODIES),
    kind=st.sampled_from(["application/json", "text/html; charset=utf-8", "", "image/png"]),
    again=st.text(max_size=20),
    date=st.sampled_from(["", "Wed, 21 Oct 2015 07:28:00 GMT", "Wed, 21 Oct 2015 07:28:00 -0000", "noon"]),
)
@settings(deadline=None, max_examples=300)
def test_no_answer_raises_anything_but_an_api_error_or_a_decode_error(
    status: int, body: bytes, kind: str, again: str, date: str
) -> None:
    response = HttpResponse(
        status=status, headers=(("Content-Type", kind), ("Retry-After", again), ("Date", date)), body=body
    )
    operations: tuple[Operation[Any], ...] = (jobs.GET, servers.GET, servers.LIST, power.STOP)
    for operation in operations:
        error = None
        try:
            read_response(operation, response)
        except (ApiError, DecodeError) as caught:
            error = caught
        assert error is None or (error.status, error.operation) == (status, operation.name)
        assert len(str(error)) < 1000


@pytest.mark.parametrize("body", ODD_BODIES, ids=lambda body: repr(body[:30]))
@pytest.mark.parametrize("status", [200, 400, 502])
def test_an_odd_body_is_an_api_error_or_a_decode_error(status: int, body: bytes) -> None:
    with pytest.raises(ApiError if status >= 300 else DecodeError):
        read_response(jobs.GET, HttpResponse(status=status, body=body))


@given(
    body=st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=10),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["error", "error_msg", "error_code", "message", "code", "request_id", "x"]),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
@settings(deadline=None, max_examples=300)
def test_an_error_of_any_shape_is_read_into_text(body: object) -> None:
    error = error_of(400, body)

    assert error.code is None or isinstance(error.code, str)
    assert isinstance(error.message, str)
    assert error.request_id is None or isinstance(error.request_id, str)


@pytest.mark.parametrize("cut", range(0, len(GOOD_JOB), 37))
def test_half_a_body_cannot_be_read(cut: int) -> None:
    with pytest.raises(DecodeError) as caught:
        read_response(jobs.GET, HttpResponse(status=200, headers=(("X-Request-Id", "req-1"),), body=GOOD_JOB[:cut]))

    assert (caught.value.status, caught.value.request_id, caught.value.operation) == (200, "req-1", "jobs.get")


@pytest.mark.parametrize(
    ("operation", "body"),
    [
        (jobs.GET, {"status": "SUCCESS"}),
        (jobs.GET, {"job_id": None}),
        (power.STOP, {}),
        (servers.GET, {"server": {"name": "no id"}}),
        (servers.GET, {"server": None}),
        (servers.GET, {}),
    ],
)
def test_an_answer_without_its_identifier_cannot_be_read(operation: Operation[object], body: object) -> None:
    with pytest.raises(DecodeError, match="cannot be read"):
        read_response(operation, HttpResponse(status=200, body=json.dumps(body).encode()))


def test_a_page_where_json_was_expected_is_named_and_not_quoted() -> None:
    page = HttpResponse(status=200, headers=(("Content-Type", "text/html"),), body=b"<html>SECRET</html>")

    with pytest.raises(DecodeError, match="an HTML page") as caught:
        read_response(jobs.GET, page)

    assert "SECRET" not in str(caught.value)
    assert "19 bytes" in str(caught.value)


# --- the shapes of an error ---


def test_the_services_own_error_has_its_code_in_an_envelope() -> None:
    error = error_of(400, repair(ERROR_ANSWER).encode())

    assert isinstance(error, BadRequestError)
    assert (error.code, error.message) == ("BMS.0040", "")
    assert error.meaning == "There is no such server."
    assert error.measure is not None


def test_the_gateways_error_is_flat() -> None:
    error = error_of(400, repair(GATEWAY_ERROR_ANSWER).encode())

    assert (error.code, error.message) == ("AS.0001", "The format of message is error")
    assert error.measure is None


def test_the_gateways_error_names_its_request_in_the_body() -> None:
    body = {"error_code": "APIGW.0308", "error_msg": THROTTLED, "request_id": "req-body"}

    assert error_of(429, body).request_id == "req-body"
    assert error_of(429, body, headers={"X-Request-Id": "req-head"}).request_id == "req-head"


@pytest.mark.parametrize("key", ["itemNotFound", "badRequest", "computeFault", "conflictingRequest", "anything"])
def test_novas_error_is_named_after_what_happened(key: str) -> None:
    error = error_of(404, {key: {"message": "Instance x could not be found.", "code": 404}})

    assert (error.code, error.message) == ("404", "Instance x could not be found.")


def test_keystones_error_has_a_title_and_a_number() -> None:
    body = {"error": {"message": "The request you have made requires authentication.", "code": 401, "title": "No"}}
    error = error_of(401, body)

    assert isinstance(error, AuthenticationError)
    assert (error.code, error.message) == ("401", "The request you have made requires authentication.")


def test_an_error_that_is_only_a_word_is_that_word() -> None:
    assert error_of(500, {"error": "down"}).message == "down"


def test_an_error_without_any_envelope_is_read_too() -> None:
    error = error_of(400, {"message": "no", "code": "X.1"})

    assert (error.code, error.message) == ("X.1", "no")


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        ({"errCode": "BMS.0036", "errMsg": "busy"}, "BMS.0036", "busy"),
        ({"errorCode": "BMS.0036", "errorMsg": "busy"}, "BMS.0036", "busy"),
        ({"error": {"errorCode": "BMS.0036", "errorMsg": "busy"}}, "BMS.0036", "busy"),
        ({"errors": ["one", "two"]}, None, "one; two"),
        ({"errors": [{"code": "X.1", "message": "one"}, {"code": "X.2", "message": "two"}]}, "X.1", "one; two"),
        ({"error": {"errors": [{"code": "X.1", "message": "deep"}]}}, "X.1", "deep"),
        ({"errors": {"name": ["too long", "odd"]}}, None, "name: too long; name: odd"),
        ({"error_msg": {"en": "no such zone"}}, None, "en: no such zone"),
        ([{"code": "X.1", "message": "in a list"}], "X.1", "in a list"),
        ({"servers": {"hint": "of another shape"}}, None, ""),
        ({"error": {"code": 400, "message": "no", "details": "field x"}}, "400", "no; field x"),
        ({"error": {"code": "X.1", "message": "no", "details": [{"message": "field x"}]}}, "X.1", "no; field x"),
        ({"itemNotFound": {"code": 404, "message": "gone", "details": "server 7"}}, "404", "gone; server 7"),
        ({"NeutronError": {"type": "PortNotFound", "message": "no port", "detail": ""}}, None, "no port"),
        ({"fault": {"faultstring": "quota", "detail": {"errorcode": "policies.q"}}}, "policies.q", "quota"),
        ({"faultcode": "Server", "faultstring": "no such call"}, None, "no such call"),
        ({"error": {"code": 401, "title": "Unauthorized"}}, "401", "Unauthorized"),
        ({"error": "invalid_grant", "error_description": "the token is old"}, None, "invalid_grant; the token is old"),
        ({"code": 400, "error": {"code": "X.1", "message": "no"}}, "X.1", "no"),
        ({"error_code": "", "error_msg": None, "code": "X.1", "message": "no"}, "X.1", "no"),
        ({"message": "no", "error": {"message": "no", "details": ["no", "yes"]}}, None, "no; yes"),
    ],
    ids=str,
)
def test_the_clouds_own_words_are_found_in_whatever_shape_they_come(
    body: object, code: str | None, message: str
) -> None:
    error = error_of(400, body)

    assert (error.code, error.message) == (code, message)


def test_the_words_the_documented_meaning_and_the_request_id_stand_beside_each_other() -> None:
    error = error_of(400, {"errCode": "BMS.0036", "errMsg": "slot 7 is busy"}, headers={"X-Request-Id": "req-9"})

    assert error.meaning is not None
    assert str(error).startswith(f"servers.stop: 400 BMS.0036: slot 7 is busy [{error.meaning}")
    assert str(error).endswith("(request id req-9)")


def test_an_error_may_be_nothing_at_all() -> None:
    error = error_of(503)

    assert (error.code, error.message) == (None, "answered with no body")
    assert str(error) == "servers.stop: 503: answered with no body"


@pytest.mark.parametrize("headers", [{"Content-Type": "text/html; charset=utf-8"}, {}])
def test_a_proxys_page_is_named_and_not_quoted(headers: dict[str, str]) -> None:
    error = error_of(502, b"\n<html><title>SECRET</title></html>", headers=headers)

    assert isinstance(error, ServerError)
    assert "an HTML page (a proxy or another service? check the endpoint)" in error.message
    assert "SECRET" not in str(error)


def test_a_huge_message_is_cut_and_so_is_a_huge_code() -> None:
    error = error_of(400, {"error_msg": "m" * 100_000, "error_code": "c" * 100_000, "request_id": "r" * 100_000})

    assert error.message == "m" * 256
    assert len(str(error)) < 1000


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
@pytest.mark.parametrize("body", [b"", b"<html>moved</html>", b'{"error": {"message": "moved"}}', b"{}"])
def test_a_redirect_is_explained_and_not_followed(status: int, body: bytes) -> None:
    error = error_of(status, body, headers={"Location": "https://elsewhere.example.com"})

    assert isinstance(error, BadRequestError)
    assert "redirects, which is never followed: check the endpoint" in error.message


# --- headers ---


@pytest.mark.parametrize("name", ["X-Request-Id", "x-request-id", "X-Openstack-Request-Id", "X-Compute-Request-Id"])
def test_the_request_id_is_found_in_each_header_that_carries_it(name: str) -> None:
    error = error_of(400, {}, headers={name: "req-9"})

    assert error.request_id == "req-9"
    assert str(error).endswith("(request id req-9)")


@pytest.mark.parametrize(
    ("retry_after", "seconds"),
    [
        ("0", 0.0),
        ("30", 30.0),
        (" 30 ", 30.0),
        ("1.5", 1.5),
        ("-5", 0.0),
        ("Wed, 21 Oct 2015 07:28:30 GMT", 30.0),
        ("Wed, 21 Oct 2015 07:28:30 -0000", 30.0),
        ("Wed, 21 Oct 2015 09:28:30 +0200", 30.0),
        ("Wed, 21 Oct 2015 07:27:00 GMT", 0.0),
        ("soon", None),
        ("", None),
        ("inf", None),
        ("-inf", None),
        ("nan", None),
        ("1e999", None),
        ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None),
        ("Wed, 21 Oct 2015 07:28:00 +99999999999999999999", None),
        ("Wed, 99 Oct 2015 99:28:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_by_the_answers_own_clock(retry_after: str, seconds: float | None) -> None:
    headers = {"Retry-After": retry_after, "Date": "Wed, 21 Oct 2015 07:28:00 GMT"}

    assert error_of(503, headers=headers).retry_after == seconds


def test_a_date_without_a_clock_to_compare_it_with_tells_nothing() -> None:
    assert error_of(503, headers={"Retry-After": "Wed, 21 Oct 2015 07:28:30 GMT"}).retry_after is None
    assert error_of(503).retry_after is None


@given(retry_after=st.text(max_size=40), date=st.none() | st.text(max_size=40))
@example(retry_after="Wed, 21 Oct 2015 07:28:00 -0000", date="Wed, 21 Oct 2015 07:28:00 GMT")
def test_whatever_retry_after_says_it_becomes_finite_seconds_or_none(retry_after: str, date: str | None) -> None:
    headers = {"Retry-After": retry_after, **({"Date": date} if date is not None else {})}
    seconds = error_of(503, headers=headers).retry_after

    assert seconds is None or 0 <= seconds < float("inf")


@pytest.mark.parametrize(
    ("text", "quota"),
    [
        (THROTTLED, (50, 60.0)),
        ("policy user over ratelimit,limit:200,time:5 minute", (200, 300.0)),
        ("policy user over ratelimit, limit: 10, time: 1 second", (10, 1.0)),
        ("POLICY APP OVER RATELIMIT,LIMIT:7,TIME:2 HOURS", (7, 7200.0)),
        ("over ratelimit,limit:1000,time:1 day", (1000, 86400.0)),
        ("over ratelimit,limit:9,time:60", (9, 60.0)),
        ("too many requests", None),
        ("limit:50,time:1 minute", None),
        ("ratelimit,limit:,time:1 minute", None),
    ],
)
def test_the_limit_that_a_429_names_is_read(text: str, quota: tuple[int, float] | None) -> None:
    assert error_of(429, {"error_code": "APIG.0308", "error_msg": text}).quota == quota


@given(calls=st.integers(0, 10**6), window=st.integers(0, 10**6), unit=st.sampled_from(["second", "minute", "hour"]))
def test_any_limit_that_a_429_names_is_read(calls: int, window: int, unit: str) -> None:
    quota = error_of(429, {"error_msg": f"policy user over ratelimit,limit:{calls},time:{window} {unit}"}).quota

    assert quota == (calls, window * {"second": 1, "minute": 60, "hour": 3600}[unit])


# --- the class of an error ---


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, BadRequestError),
        (401, AuthenticationError),
        (403, PermissionDeniedError),
        (404, NotFoundError),
        (405, BadRequestError),
        (407, BadRequestError),
        (409, ConflictError),
        (413, BadRequestError),
        (418, BadRequestError),
        (429, RateLimitedError),
        (500, ServerError),
        (501, ServerError),
        (503, ServerError),
        (599, ServerError),
        (302, BadRequestError),
    ],
)
def test_the_status_tells_the_class(status: int, kind: type[ApiError]) -> None:
    assert type(error_of(status, {})) is kind


@pytest.mark.parametrize("code", ["BMS.0212", " BMS.0212 ", "APIGW.0308", "APIG.0308"])
@pytest.mark.parametrize("status", [400, 403, 429, 500, 503])
def test_an_overload_is_told_by_its_code_whatever_the_status(status: int, code: str) -> None:
    assert type(error_of(status, {"error": {"code": code, "message": "overloaded"}})) is RateLimitedError


@pytest.mark.parametrize("code", ["BMS.0035", "BMS.0038", "BMS.0040", "BMS.9999", "nonsense", 212])
def test_no_other_code_changes_the_class(code: object) -> None:
    assert type(error_of(400, {"error": {"code": code}})) is BadRequestError
    assert type(error_of(500, {"error": {"code": code}})) is ServerError


def test_a_job_of_another_result_type_is_read_with_its_own_decoder() -> None:
    operation = Operation(name="x", method="GET", path="/", result=dict, safety=Safety.READ, chapter="none")

    assert read_response(operation, HttpResponse(status=200, body=b'{"a": 1}')) == {"a": 1}
    assert isinstance(read_response(jobs.GET, HttpResponse(status=200, body=GOOD_JOB)), Job)
