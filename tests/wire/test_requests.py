"""Requests: what is sent is what was meant, whatever characters it has."""

from __future__ import annotations

import copy
import json
import pickle
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import httpx
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from bms_async import InvalidRequestError
from bms_async.api.bms import jobs, power
from bms_async.models import Job
from bms_async.wire import HttpRequest, HttpResponse, Operation, Query, Safety, build_request

# JSON and URLs carry UTF-8, which has no half of a surrogate pair.
TEXT = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40)
ENDPOINT = "https://bms.example.com"
PROJECT = {"project_id": "bbf1946d374b44a0a2a95533562ba954"}


def request_of(
    operation: Operation[Any] = jobs.GET, *, endpoint: str = ENDPOINT, query: Query | None = None, **path: str
) -> HttpRequest:
    return build_request(operation, endpoint=endpoint, path={**PROJECT, "job_id": "j", **path}, query=query)


@given(segment=TEXT)
def test_any_text_travels_in_one_segment_of_the_path(segment: str) -> None:
    path = urlsplit(request_of(job_id=segment).url).path

    assert path.count("/") == 4
    assert unquote(path.rpartition("/")[2]) == segment


@given(segment=TEXT | st.sampled_from([".", "..", "...", "%2e", "../..", "a/b", "a?b", "a#b", "a b", "é", "💾"]))
@settings(deadline=None)
def test_httpx_sends_the_path_as_it_was_built(segment: str) -> None:
    url = request_of(job_id=segment).url

    assert httpx.URL(url).raw_path.decode() == url.removeprefix(ENDPOINT)


@given(names=st.lists(TEXT, max_size=4, unique=True), values=st.lists(TEXT | st.just(""), min_size=4, max_size=4))
@settings(deadline=None)
def test_any_text_travels_in_the_query(names: list[str], values: list[str]) -> None:
    query = dict(zip(names, values, strict=False))
    url = request_of(query=query).url

    assert dict(parse_qsl(urlsplit(url).query, keep_blank_values=True)) == query
    assert httpx.URL(url).params.multi_items() == list(query.items())


def test_a_query_leaves_out_none_repeats_a_sequence_and_spells_flags_as_json_does() -> None:
    query: Query = {"a": None, "b": ["x", "y z"], "c": True, "d": False, "e": 0, "f": 25, "g": "", "h": [], "i": "ü&=+"}

    assert urlsplit(request_of(query=query).url).query == ("b=x&b=y%20z&c=true&d=false&e=0&f=25&g=&i=%C3%BC%26%3D%2B")


@pytest.mark.parametrize("query", [None, {}, {"a": None}, {"a": []}])
def test_a_query_without_anything_leaves_no_question_mark(query: Query | None) -> None:
    assert "?" not in request_of(query=query).url


@pytest.mark.parametrize(
    ("endpoint", "begins"),
    [
        ("https://bms.example.com", "https://bms.example.com/v1/"),
        ("https://bms.example.com/", "https://bms.example.com/v1/"),
        ("https://bms.example.com//", "https://bms.example.com/v1/"),
        ("https://proxy.example.com:8443/clouds/bms", "https://proxy.example.com:8443/clouds/bms/v1/"),
        ("https://proxy.example.com/clouds/bms/", "https://proxy.example.com/clouds/bms/v1/"),
        ("http://[::1]:8080", "http://[::1]:8080/v1/"),
    ],
)
def test_an_endpoint_may_have_a_path_and_a_slash_at_its_end(endpoint: str, begins: str) -> None:
    assert request_of(endpoint=endpoint).url == f"{begins}{PROJECT['project_id']}/jobs/j"


def test_a_body_is_json_and_says_so() -> None:
    body = {"os-stop": {"type": "HARD", "servers": [{"id": "ä"}]}}
    request = build_request(power.STOP, endpoint=ENDPOINT, path=PROJECT, body=body)

    assert json.loads(request.body) == body
    assert request.headers["Content-Type"] == "application/json"
    assert request.method == "POST"


def test_an_empty_body_is_still_a_body() -> None:
    request = build_request(power.STOP, endpoint=ENDPOINT, path=PROJECT, body={})

    assert request.body == b"{}"
    assert "Content-Type" in request.headers


def test_a_request_without_a_body_has_no_type_of_one() -> None:
    request = request_of()

    assert request.body == b""
    assert "Content-Type" not in request.headers


def test_every_request_says_what_it_takes_and_who_asks() -> None:
    request = build_request(
        jobs.GET, endpoint=ENDPOINT, path={**PROJECT, "job_id": "j"}, user_agent="someone/2", timeout=7.0
    )

    assert request.headers == {"Accept": "application/json", "User-Agent": "someone/2"}
    assert request.timeout == 7.0
    assert request.operation == "jobs.get"


def test_a_header_of_the_call_takes_the_place_of_the_usual_one_in_whatever_case_it_is_written() -> None:
    given = {"accept": "text/plain", "CONTENT-TYPE": "application/json; charset=utf-8", "X-Mine": "1"}
    request = build_request(power.STOP, endpoint=ENDPOINT, path=PROJECT, body={}, headers=given)

    assert request.headers == {"User-Agent": "bms-async", **given}


def test_a_part_that_is_given_twice_in_a_path_is_filled_twice() -> None:
    operation = Operation(name="x", method="GET", path="/{a}/{b}/{a}", result=Job, safety=Safety.READ, chapter="none")

    assert build_request(operation, endpoint=ENDPOINT, path={"a": "1", "b": "{a}"}).url == f"{ENDPOINT}/1/%7Ba%7D/1"


def test_neither_a_repr_nor_a_pretty_printer_shows_credentials_a_query_or_a_body() -> None:
    request = HttpRequest(
        operation="servers.list",
        method="GET",
        url=f"{ENDPOINT}/v1/p/baremetalservers/detail?name=SECRET",
        headers={"X-Auth-Token": "SECRET"},
        body=b"SECRET",
    )
    response = HttpResponse(status=200, headers=[("X-Subject-Token", "SECRET")], body=b"SECRET")

    for shown in (repr(request), str(request), pretty_repr(request), repr(response), pretty_repr(response)):
        assert "SECRET" not in shown
    assert "servers.list" in pretty_repr(request)
    assert "200" in pretty_repr(response)


def test_a_header_is_found_whatever_its_case_and_in_the_order_of_the_names() -> None:
    response = HttpResponse(status=200, headers=[("x-b", "2"), ("X-A", "1"), ("X-a", "3")])

    assert response.header("x-A") == "1"
    assert response.header("X-A", "X-B") == "1"
    assert response.header("X-None", "X-B") == "2"
    assert response.header("X-None") is None


def test_a_query_that_cannot_be_written_is_refused_and_an_odd_number_is_written_as_it_is() -> None:
    with pytest.raises(InvalidRequestError, match="can be encoded as UTF-8"):
        request_of(query={"name": "\ud800"})
    assert request_of(query={"ratio": 2.5}).url.endswith("?ratio=2.5")  # type: ignore[dict-item]


def test_the_headers_of_a_response_are_read_as_pairs_and_shown_by_none() -> None:
    pairs = (("X-Subject-Token", "t0ken"), ("Link", "<a>"), ("Link", "<b>"))
    response = HttpResponse(status=201, headers=pairs)

    assert list(response.headers) == list(pairs)
    assert (response.headers[0], response.headers[-1], len(response.headers)) == (pairs[0], pairs[2], 3)
    assert response.headers[1:] == pairs[1:]
    assert response.headers == HttpResponse(status=201, headers=list(pairs)).headers
    assert response.headers != HttpResponse(status=201, headers=pairs[:2]).headers
    assert dict(response.headers)["Link"] == "<b>"
    assert ("Link", "<a>") in response.headers
    shown = [
        repr(response.headers),
        repr(response.headers[:1]),
        repr(list(response.headers)),
        repr([*response.headers]),
    ]
    assert not any("t0ken" in text for text in shown)
    assert copy.deepcopy(response.headers) == pairs


def test_the_headers_of_a_response_get_into_no_store() -> None:
    headers = HttpResponse(status=201, headers=(("X-Subject-Token", "t0ken"),)).headers

    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(headers)
    with pytest.raises(TypeError, match="unsupported"):
        msgspec.json.encode(headers)
