"""Whatever bytes a server sends, a request ends with a response or an error in its time, and the next one gets its own.

The bytes are valid responses that were cut and mixed, and no responses at all. The next request is sent when all of
them have arrived: what comes later cannot be told from its answer, by any client of HTTP/1.1.
"""

from __future__ import annotations

import ssl
from itertools import pairwise
from types import ModuleType

import httpx
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from bms_async import HttpResponse
from tests.transport._transports import make_transport
from tests.transport._trials import BOUND, OWN_SHOWN, TIMEOUT, Ending, Trial, attempt, request, says, shown
from tests.transport.loopback import Loopback, Talk, answer
from tests.transport.memory import MemoryServer, run_in_memory
from tests.transport.test_any_split import VALID

SMUGGLED = b'HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n"smuggled"'
TOKENS = [
    b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b":", b";", b",", b"\xff", b"\r\n\r\n", b"0\r\n\r\n", b"5\r\nabcde\r\n",
    b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9 ", b"HTTP/2 200\r\n", b"HTTP/1.1 100 Continue\r\n\r\n", b"200", b"99", b"-1",
    b"Content-Length: 3\r\n", b"content-length: -3\r\n", b"Content-Length: +3\r\n", b"Content-Length:\r\n",
    b"Content-Length: 99999999999999999999\r\n", b"Transfer-Encoding: chunked\r\n", b"Transfer-Encoding: identity\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n",
    b"Keep-Alive: timeout=-5\r\n", b"Content-Encoding: gzip\r\n", b"Content-Encoding: deflate\r\n", b" folded\r\n",
    b"Upgrade: h2c\r\nConnection: upgrade\r\n", b"HTTP/1.1 101 Switching Protocols\r\n\r\n", b"ffffffffffffffff\r\n",
    b"HTTP/1.1 204 No Content\r\n\r\n", b"X: " + b"y" * 9000 + b"\r\n", SMUGGLED,
]  # fmt: skip
FLOOD = b"HTTP/1.1 100 Continue\r\n\r\n" * 200


@st.composite
def mixed(draw: st.DrawFn) -> bytes:
    """Draw a valid response, and delete, repeat and insert some of it."""
    raw = draw(st.sampled_from([each.raw for each in VALID.values()]))
    for _ in range(draw(st.integers(0, 4))):
        begin, end = sorted((draw(st.integers(0, len(raw))), draw(st.integers(0, len(raw)))))
        kind = draw(st.sampled_from(["delete", "repeat", "insert", "cut"]))
        if kind == "delete":
            raw = raw[:begin] + raw[min(end, begin + 10) :]
        elif kind == "repeat":
            raw = raw[:end] + raw[begin:]
        elif kind == "insert":
            raw = raw[:begin] + draw(st.sampled_from(TOKENS)) + raw[begin:]
        else:
            raw = raw[:end]
    return raw


ANY_BYTES = mixed() | st.binary(max_size=200) | st.lists(st.sampled_from(TOKENS), max_size=8).map(b"".join)
METHODS = st.sampled_from(["GET", "GET", "POST", "HEAD"])
ENDINGS: st.SearchStrategy[Ending] = st.sampled_from(["stays", "closes", "resets"])


def check_bounds(trial: Trial) -> None:
    """Check what holds of every pair of requests, whatever the first was answered with."""
    assert trial.took <= TIMEOUT + 0.1
    assert trial.left_open == 0
    if isinstance(trial.first, HttpResponse):
        assert len(trial.first.body) <= BOUND
    else:
        assert not trial.reused
        assert shown(trial.second) == OWN_SHOWN


def split(raw: bytes, cuts: list[float]) -> list[bytes]:
    at = sorted({int(cut * len(raw)) for cut in cuts} | {0, len(raw)})
    return [raw[begin:end] for begin, end in pairwise(at)]


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=ANY_BYTES, cuts=st.lists(st.floats(0, 1), max_size=4), method=METHODS, ending=ENDINGS)
@example(raw=FLOOD + SMUGGLED, cuts=[], method="GET", ending="stays")
def test_any_bytes_are_a_response_or_an_error_in_time(
    library: ModuleType, trusting: ssl.SSLContext, raw: bytes, cuts: list[float], method: str, ending: Ending
) -> None:
    check_bounds(attempt(library, trusting, split(raw, cuts), ending, method=method, idle=0.5))


@settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=ANY_BYTES, cuts=st.lists(st.floats(0, 1), max_size=4), method=METHODS, ending=ENDINGS)
@example(raw=b"HTTP/1.1 204 No Content\r\n\r\n" + SMUGGLED, cuts=[], method="GET", ending="stays")
@example(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + SMUGGLED, cuts=[], method="HEAD", ending="stays")
def test_no_bytes_of_one_response_are_in_the_next(
    strict_library: ModuleType, trusting: ssl.SSLContext, raw: bytes, cuts: list[float], method: str, ending: Ending
) -> None:
    trial = attempt(strict_library, trusting, split(raw, cuts), ending, method=method, idle=0.5)
    check_bounds(trial)
    assert shown(trial.second) == OWN_SHOWN


@settings(max_examples=35, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=ANY_BYTES, cuts=st.lists(st.floats(0, 1), max_size=6), method=METHODS, ending=ENDINGS)
def test_any_bytes_have_one_outcome_however_they_are_split(
    library: ModuleType, trusting: ssl.SSLContext, raw: bytes, cuts: list[float], method: str, ending: Ending
) -> None:
    whole, pieces = (attempt(library, trusting, each, ending, method=method) for each in ([raw], split(raw, cuts)))
    assert shown(whole.first) == shown(pieces.first)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(raw=ANY_BYTES, ending=ENDINGS)
@example(raw=SMUGGLED, ending="stays")
def test_bytes_that_nobody_asked_for_are_no_reason_to_hang(
    library: ModuleType, trusting: ssl.SSLContext, raw: bytes, ending: Ending
) -> None:
    # They arrive with the connection, and so the request on its way may get them for its response.
    check_bounds(attempt(library, trusting, [raw], ending, unasked=True, idle=0.5))


STAYING = [name for name, each in VALID.items() if each.ending == "stays"]


@pytest.mark.parametrize("behind", [SMUGGLED, b"\0", b"\r\n\r\n" + SMUGGLED, FLOOD])
@pytest.mark.parametrize("name", STAYING)
def test_a_response_behind_another_answers_no_request(
    library: ModuleType, trusting: ssl.SSLContext, name: str, behind: bytes
) -> None:
    check_apart(library, trusting, name, behind)


@pytest.mark.parametrize("behind", [b"H", SMUGGLED[:-1], b"HTTP/1.1 200 OK\r\nX: "])
@pytest.mark.parametrize("name", STAYING)
def test_a_response_begun_behind_another_is_not_ended_by_the_next(
    strict_library: ModuleType, trusting: ssl.SSLContext, name: str, behind: bytes
) -> None:
    check_apart(strict_library, trusting, name, behind)


def check_apart(library: ModuleType, trust: ssl.SSLContext, name: str, behind: bytes) -> None:
    response = VALID[name]
    trial = attempt(library, trust, [response.raw + behind], method=response.method)
    if isinstance(trial.first, HttpResponse):
        assert shown(trial.first) == response.says
    assert shown(trial.second) == OWN_SHOWN
    assert not trial.reused


@pytest.mark.parametrize("behind", [b"\r", b"\n", b"\r\n"])
@pytest.mark.parametrize("name", STAYING)
def test_empty_lines_behind_a_response_harm_nobody(
    library: ModuleType, trusting: ssl.SSLContext, name: str, behind: bytes
) -> None:
    # A parser may pass over them, and a connection that has them may be used again.
    trial = attempt(library, trusting, [VALID[name].raw + behind], method=VALID[name].method)
    assert shown(trial.first) == VALID[name].says
    assert shown(trial.second) == OWN_SHOWN


def test_trailers_are_not_headers_of_the_next_response(strict_library: ModuleType, trusting: ssl.SSLContext) -> None:
    trailing = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX-Subject-Token: a\r\n\r\n"
    trial = attempt(strict_library, trusting, [trailing])
    assert trial.reused
    assert shown(trial.first) == (200, (("transfer-encoding", "chunked"),), b"{}")
    assert shown(trial.second) == OWN_SHOWN


async def test_what_follows_a_response_through_a_proxy_answers_no_other_request(
    library: ModuleType, trusting: ssl.SSLContext
) -> None:
    turns = iter([answer(body=b'"first"') + SMUGGLED, answer(body=b'"second"')])

    async def passes_on(talk: Talk) -> None:
        while await talk.hear() is not None:
            await talk.say(next(turns))

    async with Loopback(passes_on) as proxy, make_transport(library, trusting, 1, proxy=proxy.url) as transport:
        bodies = [(await transport.send(request("http://bms.example.com"))).body for _ in range(2)]
    assert bodies == [b'"first"', b'"second"']


def test_plain_httpx_takes_what_follows_a_response_for_the_next_one(trusting: ssl.SSLContext) -> None:
    # Without this one the tests above could not fail and would prove nothing.
    async def main() -> list[bytes]:
        behaviour = says([answer(body=b'"first"') + SMUGGLED], "stays")
        async with (
            MemoryServer(behaviour) as server,
            httpx.AsyncClient(verify=trusting, trust_env=False) as client,
        ):
            return [(await client.get(server.url)).content for _ in range(2)]

    assert run_in_memory(main) == [b'"first"', b'"smuggled"']
