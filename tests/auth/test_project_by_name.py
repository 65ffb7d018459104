"""A project that is given by its name: looked up once, when a call needs it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import anyio
import httpx
import pytest

from bms_async import (
    AkSkAuth,
    Auth,
    AuthenticationError,
    BmsClient,
    CallTimeoutError,
    ClientClosedError,
    ConfigurationError,
    HttpxTransport,
    Limits,
    PermissionDeniedError,
    StaticToken,
    TransportError,
)
from bms_async.wire import HttpRequest
from tests.auth.keystone import auth_of
from tests.support.mocked import virtually

BMS, IAM = "https://bms.example.com", "https://iam.example.com"
MINE = {"id": "p-1", "name": "ae-ad-1"}


class Directory:
    """An identity service that lists projects, and a BMS service of which only the addresses count."""

    def __init__(self, *projects: dict[str, Any], administrator: bool = True, delay: float = 1.0) -> None:
        self.projects = projects
        self.administrator = administrator
        self.delay = delay
        self.asked: list[str] = []
        self.called: list[str] = []
        self.answers: list[httpx.Response | Exception] = []

    async def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if request.url.host == "bms.example.com":
            self.called.append(path)
            return httpx.Response(200, json={"server": {"id": "s-1"}})
        if path.endswith("/auth/tokens"):
            return httpx.Response(201, headers={"X-Subject-Token": "T" * 40}, json={"token": {}})
        self.asked.append(request.url.raw_path.decode())
        await anyio.sleep(self.delay)
        if self.answers:
            answer = self.answers.pop(0)
            if isinstance(answer, Exception):
                raise answer
            return answer
        if path == "/v3/projects" and not self.administrator:
            return httpx.Response(403, json={"error": {"code": 403, "message": "no", "title": "Forbidden"}})
        return httpx.Response(200, json={"projects": list(self.projects)})


@asynccontextmanager
async def opened(directory: Directory, auth: Auth | None = None, **arguments: Any) -> AsyncIterator[BmsClient]:
    client = httpx.AsyncClient(transport=httpx.MockTransport(directory))
    given: dict[str, Any] = {"project_name": "ae-ad-1", **arguments}
    async with BmsClient(
        endpoint=BMS,
        identity_endpoint=IAM,
        auth=auth or StaticToken("token"),
        transport=HttpxTransport(client),
        limits=Limits.unlimited(),
        **given,
    ) as bms:
        yield bms


@pytest.mark.parametrize("auth", [StaticToken("token"), AkSkAuth("AK", "SK")], ids=["token", "keys"])
@virtually
async def test_a_thousand_calls_look_a_project_up_once(auth: Auth) -> None:
    directory = Directory({"id": "p-2", "name": "ae-ad-2"}, MINE)
    async with opened(directory, auth) as bms:
        assert repr(bms).endswith("project None>")
        await asyncio.gather(*(bms.servers.get("s-1") for _ in range(1000)))
        assert bms.project_id == "p-1"
        await bms.servers.get("s-1")

    assert directory.asked == ["/v3/projects?name=ae-ad-1"]
    assert directory.called == ["/v1/p-1/baremetalservers/s-1"] * 1001


@virtually
async def test_who_may_not_list_all_projects_is_asked_for_his_own() -> None:
    directory = Directory(MINE, {"id": "p-2", "name": "other"}, administrator=False)
    async with opened(directory) as bms:
        await bms.servers.get("s-1")
        assert bms.project_id == "p-1"

    assert directory.asked == ["/v3/projects?name=ae-ad-1", "/v3/auth/projects"]


@virtually
async def test_calls_that_need_no_project_look_none_up() -> None:
    directory = Directory(MINE)
    async with opened(directory) as bms:
        await bms.identity.projects()
        assert bms.project_id is None


@pytest.mark.parametrize(
    ("projects", "message"),
    [
        ([], r"project_name='ae-ad-1': expected one project of this name, got none; pass project_id"),
        ([{"id": "p-2", "name": "ae-ad-10"}], "got none"),
        ([MINE, {"id": "p-9", "name": "ae-ad-1"}], r"got 2: p-1, p-9; pass project_id"),
    ],
)
@virtually
async def test_none_or_several_are_told_to_each_call_and_looked_for_again_by_the_next(
    projects: list[dict[str, Any]], message: str
) -> None:
    directory = Directory(*projects)
    async with opened(directory) as bms:
        outcomes = await asyncio.gather(*(bms.servers.get("s-1") for _ in range(20)), return_exceptions=True)
        assert len({id(each) for each in outcomes}) == 20
        for each in outcomes:
            with pytest.raises(ConfigurationError, match=message):
                raise each  # type: ignore[misc]
        assert len(directory.asked) == 1
        assert directory.called == []

        directory.projects = (MINE,)
        await bms.servers.get("s-1")
        assert bms.project_id == "p-1"


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        (httpx.Response(401, json={}), AuthenticationError),
        (httpx.Response(403, json={}), PermissionDeniedError),
        # Of the identity service, and not "no such server".
        (httpx.Response(404, json={}), ConfigurationError),
        (httpx.Response(400, json={}), ConfigurationError),
        # The call itself was not sent, so that even a reboot may be asked for again.
        (httpx.Response(500, json={}), TransportError),
        (httpx.Response(200, text="<html>"), TransportError),
        (httpx.ConnectError("down"), TransportError),
        (httpx.ReadTimeout("slow"), CallTimeoutError),
    ],
)
@virtually
async def test_a_look_up_that_fails_is_told_as_what_it_is(answer: Any, kind: type[Exception]) -> None:
    directory = Directory(MINE)
    directory.answers = [answer] * 10
    async with opened(directory, retry=None) as bms:
        with pytest.raises(kind) as caught:
            await bms.servers.reboot(["s-1"])

    assert type(caught.value) is kind
    assert "project" in str(caught.value)
    assert not getattr(caught.value, "maybe_done", False)
    assert directory.called == []


class KeysAreGoneError(Exception):
    """An error of the application's that is made of more than its text, so that it cannot simply be copied."""

    def __init__(self, vault: str, *, sealed: bool) -> None:
        self.sealed = sealed
        super().__init__(f"the vault {vault} is sealed")


@pytest.mark.parametrize("raised", [KeysAreGoneError("v", sealed=True), LookupError("no key"), TimeoutError("slow")])
@virtually
async def test_what_credentials_raise_at_a_look_up_reaches_each_call_as_its_own_error(raised: Exception) -> None:
    class Broken(StaticToken):
        async def headers(self, request: HttpRequest) -> Mapping[str, str]:
            raise raised

    async with opened(Directory(MINE), Broken("token")) as bms:
        results = await asyncio.gather(*(bms.servers.get("s-1") for _ in range(3)), return_exceptions=True)

    assert [(type(each), str(each)) for each in results] == [(type(raised), str(raised))] * 3
    assert len({id(each) for each in (*results, raised)}) == 4
    assert [vars(each) for each in results if isinstance(each, Exception)] == [vars(raised)] * 3


@virtually
async def test_who_leaves_takes_the_look_up_away_from_nobody() -> None:
    directory = Directory(MINE, delay=10)
    async with opened(directory) as bms:
        first = asyncio.ensure_future(bms.servers.get("s-1"))
        second = asyncio.ensure_future(bms.servers.get("s-2"))
        await anyio.sleep(1)
        first.cancel()
        assert (await second).id == "s-1"

    assert len(directory.asked) == 1
    assert directory.called == ["/v1/p-1/baremetalservers/s-2"]


@virtually
async def test_closing_the_client_ends_all_who_wait_for_the_project() -> None:
    directory = Directory(MINE, delay=1000)
    async with opened(directory) as bms:
        calls = [asyncio.ensure_future(bms.servers.get("s-1")) for _ in range(10)]
        await anyio.sleep(1)
    outcomes = await asyncio.gather(*calls, return_exceptions=True)

    assert {type(each) for each in outcomes} == {ClientClosedError}


@virtually
async def test_a_password_whose_token_tells_no_project_has_it_looked_up_by_the_same_name() -> None:
    directory = Directory(MINE, administrator=False)
    async with opened(directory, auth_of(auth_url=IAM), project_name=None) as bms:
        await asyncio.gather(*(bms.servers.get("s-1") for _ in range(20)))
        assert bms.project_id == "p-1"

    assert directory.asked == ["/v3/projects?name=ae-ad-1", "/v3/auth/projects"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"project_id": "p", "project_name": "n"}, "project_id, project_name: expected one of them, got both"),
        ({"project_name": " "}, "project_name=' ': expected the name of a project"),
        ({"project_name": 7}, "project_name=7: expected the name of a project"),
        ({"project_name": "n", "auth": auth_of()}, "PasswordAuth has a project of its own"),
        ({}, "project_id"),
    ],
)
def test_a_name_that_cannot_be_right_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        BmsClient(**{"endpoint": BMS, "auth": StaticToken("token"), **arguments})


def test_the_name_may_be_said_twice_if_it_is_the_same() -> None:
    assert BmsClient(endpoint=BMS, project_name="ae-ad-1", auth=auth_of()).project_id is None
