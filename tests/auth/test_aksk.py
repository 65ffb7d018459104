"""An access key: signs what is sent, mends a wrong clock and changed keys, and is shown nowhere."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import threading
import traceback
from collections.abc import Callable, Coroutine, Mapping
from contextlib import AbstractAsyncContextManager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import anyio
import httpx
import msgspec
import pytest
from rich.pretty import pretty_repr

from bms_async import (
    AkSkAuth,
    AuthenticationError,
    BmsClient,
    ConfigurationError,
    HttpRequest,
    HttpResponse,
    HttpxTransport,
    InvalidRequestError,
    OutcomeState,
    Secret,
    TransportError,
)
from bms_async.auth import Auth, RenewableAuth, aksk
from bms_async.auth.aksk import MAX_INLINE_BYTES, MAX_SIGNED_BYTES
from bms_async.simulator import Cloud, CloudSettings, create_app
from bms_async.simulator.core.tokens import AccessKey
from bms_async.wire.signing import SigningKey, sign, sign_arranged
from tests.support.virtual_clock import advance, run_virtually

AK, SK, TOKEN = "AKIDTESTACCESSKEY", "very/secret+key/of=mine", "temporary/token+with=signs"
PROJECT = "0123456789abcdef"
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)

Provider = Callable[[], Coroutine[Any, Any, tuple[str, str, str | None]]]


def request(
    path: str = f"/v1/{PROJECT}/jobs/1", body: bytes = b"", headers: Mapping[str, str] | None = None
) -> HttpRequest:
    return HttpRequest(
        operation="jobs.get", method="GET", url=f"https://bms.example.com{path}", headers=headers or {}, body=body
    )


def answer(status: int = 401, date: datetime | None = None) -> HttpResponse:
    return HttpResponse(status=status, headers=[] if date is None else [("Date", format_datetime(date, usegmt=True))])


async def sent(auth: AkSkAuth, wanted: HttpRequest | None = None) -> HttpRequest:
    """What the session sends."""
    wanted = wanted or request()
    return msgspec.structs.replace(wanted, headers={**wanted.headers, **await auth.headers(wanted)})


class Keys:
    """A provider that counts, and takes some time."""

    def __init__(self, *keys: tuple[str, str, str | None] | BaseException) -> None:
        self.keys = list(keys)
        self.fetches = 0
        self.begun = asyncio.Event()

    async def __call__(self) -> tuple[str, str, str | None]:
        self.fetches += 1
        self.begun.set()
        await asyncio.sleep(0)
        given = self.keys.pop(0) if len(self.keys) > 1 else self.keys[0]
        await asyncio.sleep(0)
        if isinstance(given, BaseException):
            raise given
        return given


def virtual(test: Callable[[], Coroutine[Any, Any, None]]) -> Callable[[], None]:
    def run() -> None:
        run_virtually(test)

    run.__name__ = test.__name__
    return run


def clock_of(cloud: Cloud, wrong_by: float = 0.0) -> Callable[[], datetime]:
    return lambda: datetime.fromtimestamp(cloud.unix_now() + wrong_by, UTC)


def client_of(cloud: Cloud, auth: Auth) -> AbstractAsyncContextManager[BmsClient]:
    client = httpx.AsyncClient(transport=httpx.ASGITransport(app=create_app(cloud)))
    return BmsClient(
        endpoint="http://localhost",
        project_id=cloud.settings.project_id,
        auth=auth,
        transport=HttpxTransport(client),
    )


def cloud_of(**settings: Any) -> Cloud:
    return Cloud(CloudSettings(**settings), clock=asyncio.get_running_loop().time)


def key_of(cloud: Cloud, wrong_by: float = 0.0) -> AkSkAuth:
    return AkSkAuth(cloud.settings.access_key, cloud.settings.secret_key, clock=clock_of(cloud, wrong_by))


def test_it_is_what_the_session_asks_for() -> None:
    assert isinstance(AkSkAuth(AK, SK), RenewableAuth)


async def test_the_headers_of_a_signed_request() -> None:
    headers = await AkSkAuth(AK, SK, TOKEN, clock=lambda: NOW).headers(
        request(headers={"Accept": "a", "Content-Type": "b"})
    )

    authorization = headers["Authorization"]
    assert {name: value for name, value in headers.items() if name != "Authorization"} == {
        "Host": "bms.example.com",
        "X-Sdk-Date": "20260304T050607Z",
        "X-Project-Id": PROJECT,
        "X-Security-Token": TOKEN,
    }
    names = "content-type;host;x-project-id;x-sdk-date;x-security-token"
    assert authorization.startswith(f"SDK-HMAC-SHA256 Access={AK}, SignedHeaders={names}, Signature=")
    assert SK not in str(headers)


@pytest.mark.parametrize(
    ("path", "given", "expected"),
    [
        (f"/v1/{PROJECT}/baremetalservers/detail", None, PROJECT),
        (f"/v2.1/{PROJECT}/servers/1/action?x=/v1/other/", None, PROJECT),
        (f"/behind/a/proxy/v1/{PROJECT}/jobs/1", None, PROJECT),
        (f"/v1/{PROJECT}/jobs/1", "mine", "mine"),
        ("/v3/auth/projects", "mine", "mine"),
        ("/v3/auth/projects", None, None),
        ("/v1", None, None),
        ("", None, None),
    ],
)
async def test_the_project_is_the_one_of_the_path_or_the_given_one(
    path: str, given: str | None, expected: str | None
) -> None:
    headers = await AkSkAuth(AK, SK, project_id=given).headers(request(path))

    assert headers.get("X-Project-Id") == expected


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://bms.example.com:443/v1", "bms.example.com"),
        ("http://bms.example.com:80/v1", "bms.example.com"),
        ("http://bms.example.com:443/v1", "bms.example.com:443"),
        ("https://bms.example.com:8443", "bms.example.com:8443"),
        ("http://[::1]:8080/", "[::1]:8080"),
    ],
)
async def test_the_host_is_what_http_libraries_send(url: str, host: str) -> None:
    headers = await AkSkAuth(AK, SK).headers(HttpRequest(operation="x", method="GET", url=url, headers={}))

    assert headers["Host"] == host == httpx.Request("GET", url).headers["Host"]


async def test_a_request_is_signed_anew_whenever_it_is_asked_for() -> None:
    now = NOW
    auth = AkSkAuth(AK, SK, clock=lambda: now)
    first = await auth.headers(request())
    now += timedelta(seconds=1)
    second = await auth.headers(request())

    assert first["X-Sdk-Date"] < second["X-Sdk-Date"]
    assert first["Authorization"] != second["Authorization"]


@pytest.mark.parametrize(
    ("length", "elsewhere"), [(MAX_INLINE_BYTES, False), (MAX_INLINE_BYTES + 1, True), (MAX_SIGNED_BYTES, True)]
)
async def test_a_long_body_is_hashed_while_other_calls_go_on(
    length: int, elsewhere: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def sign_and_tell(*arguments: Any, **named: Any) -> str:
        threads.append(threading.current_thread())
        return sign_arranged(*arguments, **named)

    monkeypatch.setattr(aksk, "sign_arranged", sign_and_tell)
    auth = AkSkAuth("AK", "SK", clock=lambda: NOW)
    body = bytes(length)
    wanted = HttpRequest(operation="x", method="PUT", url="https://h/v1/p/x", headers={}, body=body)

    headers = await auth.headers(wanted)

    assert [thread is not threading.main_thread() for thread in threads] == [elsewhere]
    authorization = headers["Authorization"]
    plain = {name: value for name, value in headers.items() if name != "Authorization"}
    assert authorization == sign("PUT", wanted.url, plain, body, access_key="AK", key=SigningKey("SK"))


async def test_what_requests_have_in_common_is_told_anew_when_it_changes() -> None:
    now = [NOW]
    auth = AkSkAuth("AK", "SK", clock=lambda: now[0])

    async def signed(url: str) -> tuple[str, str | None, str]:
        headers = await auth.headers(HttpRequest(operation="x", method="GET", url=url, headers={}))
        again = await auth.headers(HttpRequest(operation="x", method="GET", url=url, headers={}))
        assert headers == again
        return headers["Host"], headers.get("X-Project-Id"), headers["X-Sdk-Date"][-3:]

    assert await signed("https://a/v1/p/x") == ("a", "p", "07Z")
    assert await signed("https://a/v1/p2/x") == ("a", "p2", "07Z")
    assert await signed("https://a/v1/p/x") == ("a", "p", "07Z")
    assert await signed("https://ab/v1/p/x?y=/v1/q/") == ("ab", "p", "07Z")
    assert await signed("https://ab/x?y=/v1/q/") == ("ab", None, "07Z")
    assert await signed("https://ab/v2.1/p/x") == ("ab", "p", "07Z")
    now[0] += timedelta(seconds=1)
    assert await signed("https://ab/v2.1/p/x") == ("ab", "p", "08Z")


async def test_a_body_of_more_than_12_mb_is_refused_with_advice() -> None:
    auth = AkSkAuth(AK, SK)

    await auth.headers(request(body=bytes(12 * 1024 * 1024)))
    with pytest.raises(InvalidRequestError, match=r"12 MB.*token"):
        await auth.headers(request(body=bytes(12 * 1024 * 1024 + 1)))


@pytest.mark.parametrize("secret", [SK, Secret(SK), f" {SK}\n"], ids=["text", "Secret", "blanks around it"])
async def test_a_key_may_be_a_secret_and_have_blanks_around_it(secret: str | Secret) -> None:
    plain = await AkSkAuth(AK, SK, TOKEN, clock=lambda: NOW).headers(request())

    assert await AkSkAuth(f"{AK} ", secret, Secret(TOKEN), clock=lambda: NOW).headers(request()) == plain


async def test_an_empty_token_is_none() -> None:
    assert "X-Security-Token" not in await AkSkAuth(AK, SK, "").headers(request())


BAD: list[dict[str, Any]] = [
    {"access_key": "", "secret_key": SK},
    {"access_key": AK, "secret_key": " "},
    {"access_key": AK},
    {},
    {"access_key": AK, "secret_key": "very secret"},
    {"access_key": AK, "secret_key": "veryse\ncret"},
    {"access_key": "A,B", "secret_key": SK},
    {"access_key": "AKü", "secret_key": SK},
    {"access_key": AK, "secret_key": SK, "security_token": "very\r\nX-Injected: cret"},
    {"access_key": AK, "secret_key": SK, "project_id": ""},
    {"access_key": AK, "secret_key": SK, "provider": Keys((AK, SK, None))},
    {"provider": (AK, SK, None)},
    {"access_key": AK, "secret_key": SK, "clock": lambda: datetime(2026, 1, 1)},  # noqa: DTZ001 - what is wrong
]


@pytest.mark.parametrize("arguments", BAD, ids=range(len(BAD)))
def test_what_cannot_sign_is_refused_and_not_repeated(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="AkSkAuth: ") as caught:
        AkSkAuth(**arguments)

    assert "very" not in str(caught.value)
    assert SK not in repr(caught.value)


async def test_nothing_shows_the_secrets() -> None:
    auth = AkSkAuth(AK, SK, TOKEN)
    client = BmsClient(endpoint="https://bms.example.com", project_id="p", auth=auth)

    for shown in (repr(auth), str(auth), f"{auth}", pretty_repr([auth]), repr(client), repr(await sent(auth))):
        assert SK not in shown
        assert TOKEN not in shown
    assert repr(auth) == f"AkSkAuth({AK}, ***)"
    for copied in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError, match="not pickled") as caught:
            copied(auth)
        assert SK not in str(caught.value)


def test_an_echoed_secret_is_hidden_however_it_is_spelled() -> None:
    auth = AkSkAuth(AK, SK, TOKEN)
    echo = f"{SK} {TOKEN} very%2Fsecret%2Bkey%2Fof%3Dmine temporary\\/token+with=signs {AK}"

    assert auth.redact(echo) == f"*** *** *** *** {AK}"


# The clock.


@pytest.mark.parametrize("ahead", [timedelta(hours=1), timedelta(hours=-1), timedelta(seconds=62)])
@pytest.mark.parametrize("status", [401, 403])
async def test_a_wrong_clock_is_corrected_by_the_clouds(
    ahead: timedelta, status: int, caplog: pytest.LogCaptureFixture
) -> None:
    auth = AkSkAuth(AK, SK, clock=lambda: NOW)
    refused = await sent(auth)

    assert await auth.renew(refused, answer(status, NOW + ahead))

    assert (await sent(auth)).headers["X-Sdk-Date"] == (NOW + ahead).strftime("%Y%m%dT%H%M%SZ")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert f"{abs(ahead.total_seconds()):.0f} s {'behind' if ahead > timedelta() else 'ahead of'}" in record.message
    # Refused again, and the clock is right: it is something else.
    assert not await auth.renew(await sent(auth), answer(status, NOW + ahead))
    # Another call was signed before the clock was corrected, and is worth another try.
    assert await auth.renew(refused, answer(status, NOW + ahead))
    assert len(caplog.records) == 1


@pytest.mark.parametrize("date", [None, "", "nonsense", "Wed, 99 Foo 2015", "Wed, 04 Mar 2026 05:06:30 GMT"])
async def test_a_clock_that_is_right_enough_stays(date: str | None, caplog: pytest.LogCaptureFixture) -> None:
    auth = AkSkAuth(AK, SK, clock=lambda: NOW)
    response = HttpResponse(status=401, headers=[] if date is None else [("date", date)])

    assert not await auth.renew(await sent(auth), response)
    assert (await sent(auth)).headers["X-Sdk-Date"] == "20260304T050607Z"
    assert not caplog.records


async def test_other_refusals_correct_nothing() -> None:
    auth = AkSkAuth(AK, SK, clock=lambda: NOW)

    assert not await auth.renew(await sent(auth), answer(500, NOW + timedelta(hours=1)))


# Keys that change.


async def test_keys_are_fetched_once_however_many_ask() -> None:
    keys = Keys((AK, SK, TOKEN))
    auth = AkSkAuth(provider=keys)
    assert repr(auth) == "AkSkAuth(no keys yet, ***)"

    several = await asyncio.gather(*(auth.headers(request()) for _ in range(50)))

    assert keys.fetches == 1
    assert {each["X-Security-Token"] for each in several} == {TOKEN}


async def test_refused_keys_are_fetched_anew_once_for_all_calls() -> None:
    keys = Keys((AK, SK, TOKEN), ("NEWKEY", "new-secret", None))
    auth = AkSkAuth(provider=keys)
    refused = await asyncio.gather(*(sent(auth) for _ in range(50)))

    assert all(await asyncio.gather(*(auth.renew(each, answer()) for each in refused)))
    # One whose refusal comes late has nothing to fetch: the keys are others already.
    assert await auth.renew(refused[0], answer())

    assert keys.fetches == 2
    now = await auth.headers(request())
    assert " Access=NEWKEY," in now["Authorization"]
    assert "X-Security-Token" not in now
    assert auth.redact(f"{SK} {TOKEN} new-secret") == "*** *** ***"


async def test_the_same_keys_again_are_not_worth_another_try() -> None:
    keys = Keys((AK, SK, TOKEN))
    auth = AkSkAuth(provider=keys)
    refused = await asyncio.gather(*(sent(auth) for _ in range(9)))

    assert not any(await asyncio.gather(*(auth.renew(each, answer()) for each in refused)))
    assert keys.fetches == 2


async def test_a_403_fetches_no_keys() -> None:
    keys = Keys((AK, SK, None))
    auth = AkSkAuth(provider=keys)

    assert not await auth.renew(await sent(auth), answer(403))
    assert keys.fetches == 1


async def test_a_provider_that_fails_fails_all_who_wait_and_is_asked_again_later() -> None:
    keys = Keys(OSError(f"no route for {SK}"), (AK, SK, None))
    auth = AkSkAuth(provider=keys)

    errors = await asyncio.gather(*(auth.headers(request()) for _ in range(5)), return_exceptions=True)

    assert keys.fetches == 1
    assert len(set(map(id, errors))) == 5
    for error in errors:
        assert isinstance(error, TransportError)
        assert not error.maybe_delivered
        assert "OSError" in str(error)
        assert SK not in str(error)
        assert isinstance(error.__cause__, OSError)
    assert "Authorization" in await auth.headers(request())


async def test_new_keys_that_cannot_be_fetched_leave_the_refusal(caplog: pytest.LogCaptureFixture) -> None:
    auth = AkSkAuth(provider=Keys((AK, SK, None), OSError(SK)))

    assert not await auth.renew(await sent(auth), answer())
    assert "OSError" in caplog.text
    assert SK not in caplog.text


@pytest.mark.parametrize("given", [None, (AK, SK), [AK, SK, None], (AK, "very secret", None), ("", SK, None)])
async def test_a_provider_of_nonsense_is_told_so(given: Any) -> None:
    auth = AkSkAuth(provider=Keys(given))

    with pytest.raises(ConfigurationError, match="AkSkAuth") as caught:
        await auth.headers(request())
    assert "very secret" not in "".join(traceback.format_exception(caught.value))


async def test_who_leaves_takes_no_fetch_away_from_others() -> None:
    keys = Keys((AK, SK, None))
    auth = AkSkAuth(provider=keys)
    first, second = (asyncio.ensure_future(auth.headers(request())) for _ in range(2))
    await keys.begun.wait()
    first.cancel()

    assert "Authorization" in await second
    with pytest.raises(asyncio.CancelledError):
        await first
    assert keys.fetches == 2


# Against a cloud that verifies.


@virtual
async def test_a_fleet_is_stopped_with_signed_calls_and_none_is_refused() -> None:
    cloud = cloud_of(servers=3000, seed=3)
    async with client_of(cloud, key_of(cloud)) as bms:
        report = await bms.fleet.stop(cloud.servers)
        assert {outcome.state for outcome in report.outcomes} == {OutcomeState.SUCCEEDED}
        assert bms.statistics().session.failed == 0
    assert cloud.count_servers()["SHUTOFF"] == 3000
    assert sum(book.refused for book in cloud.call_counts().operations.values()) == 0


@pytest.mark.parametrize("wrong_by", [3600, -3600])
def test_a_client_whose_clock_is_an_hour_wrong_corrects_itself_once(
    wrong_by: int, caplog: pytest.LogCaptureFixture
) -> None:
    async def run() -> None:
        cloud = cloud_of(servers=40, seed=3)
        async with client_of(cloud, key_of(cloud, wrong_by)) as bms:
            async with anyio.create_task_group() as group:
                for server_id in cloud.servers:
                    group.start_soon(bms.servers.get, server_id)
            statistics = bms.statistics().session
            assert (statistics.failed, statistics.calls) == (0, 40)
            assert 41 <= statistics.attempts <= 80
            await advance(3600)
            await bms.servers.get(next(iter(cloud.servers)))
            assert bms.statistics().session.attempts == statistics.attempts + 1

    run_virtually(run)
    messages = [record.getMessage() for record in caplog.records if record.name == "bms_async.auth"]
    assert len(messages) == 1
    assert f"clock is 3600 s {'ahead of' if wrong_by > 0 else 'behind'} the cloud's" in messages[0]


@virtual
async def test_a_wrong_secret_key_is_one_error_after_one_try() -> None:
    cloud = cloud_of(servers=1)
    auth = AkSkAuth(cloud.settings.access_key, SK, clock=clock_of(cloud))
    async with client_of(cloud, auth) as bms:
        with pytest.raises(AuthenticationError, match=r"APIGW\.0301"):
            await bms.servers.get(next(iter(cloud.servers)))
        assert bms.statistics().session.attempts == 1


@virtual
async def test_keys_that_change_while_a_fleet_is_stopped_cost_one_fetch() -> None:
    cloud = cloud_of(servers=500, seed=3)
    cloud.access_keys = {"FIRST": AccessKey("first-secret", "first-token")}
    keys = Keys(("FIRST", "first-secret", "first-token"), ("SECOND", "second-secret", "second-token"))
    async with client_of(cloud, AkSkAuth(provider=keys, clock=clock_of(cloud))) as bms:
        run = bms.fleet.stop(cloud.servers)
        await advance(10)
        cloud.access_keys = {"SECOND": AccessKey("second-secret", "second-token")}
        report = await run
        assert {outcome.state for outcome in report.outcomes} == {OutcomeState.SUCCEEDED}
    assert keys.fetches == 2
