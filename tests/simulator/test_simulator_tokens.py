"""The simulator's identity service: who gets a token, what it looks like, and when it is good no more."""

from __future__ import annotations

import math
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import Any

import httpx
import pytest
from rich.pretty import pretty_repr

from bms_async.simulator import Answer, Cloud, CloudSettings, Script, ScriptedFault
from bms_async.simulator.http.token_requests import read_login
from tests.simulator._helpers import Hand, Open, Worlds, code_of, native_code_of

DEFAULT = CloudSettings()
EPOCH = DEFAULT.epoch
DOMAIN = {"name": DEFAULT.user_domain_name}
BY_NAME = {"name": DEFAULT.username, "domain": DOMAIN, "password": DEFAULT.password}
PROJECT = {"project": {"name": DEFAULT.project_name}}
TOKENS = "http://bms.test/v3/auth/tokens"
OTHER_ID = "0ther0c10d51a0c10d51a0c10d51a0c1"
NEW_YEAR_WITH_TIME_TO_SPARE = "2024-01-02T00:00:00.000000Z"


def login(user: Any = None, scope: Any = PROJECT, **changes: Any) -> dict[str, Any]:
    """The body of a request for a token; a scope of None leaves it out."""
    identity = {"methods": ["password"], "password": {"user": BY_NAME | (user or {}) | changes}}
    return {"auth": {"identity": identity} | ({} if scope is None else {"scope": scope})}


async def log_in(client: httpx.AsyncClient, body: dict[str, Any] | None = None) -> str:
    answer = await client.post(TOKENS, json=body or login())
    assert answer.status_code == 201, answer.text
    token = answer.headers["X-Subject-Token"]
    assert isinstance(token, str)
    return token


async def tried(client: httpx.AsyncClient, token: str, path: str = "/baremetalservers/detail") -> httpx.Response:
    return await client.get(path, headers={"X-Auth-Token": token})


async def test_a_user_gets_a_token_that_opens_the_project(served: Open) -> None:
    cloud, client = served(servers=7)
    answer = await client.post(TOKENS, json=login(), headers={"X-Auth-Token": "none is needed"})
    assert answer.status_code == 201
    token = answer.json()["token"]
    settings = cloud.settings
    domain = {"id": settings.user_domain_id, "name": settings.user_domain_name}
    assert token["methods"] == ["password"]
    assert (token["issued_at"], token["expires_at"]) == ("2024-01-01T00:00:00.000000Z", NEW_YEAR_WITH_TIME_TO_SPARE)
    assert token["project"] == {"id": settings.project_id, "name": settings.project_name, "domain": domain}
    assert (token["user"]["id"], token["user"]["name"]) == (settings.user_id, settings.username)
    assert token["user"]["domain"] == domain
    assert [role["name"] for role in token["roles"]] == ["admin"]
    urls = {each["type"]: each["endpoints"][0]["url"] for each in token["catalog"]}
    assert urls == {
        "identity": "http://bms.test/v3",
        "compute": f"http://bms.test/v2.1/{settings.project_id}",
        "bms": f"http://bms.test/v1/{settings.project_id}",
    }
    assert settings.password not in answer.text
    listed = await tried(client, answer.headers["X-Subject-Token"])
    assert (listed.status_code, listed.json()["count"]) == (200, 7)


async def test_a_token_looks_like_a_real_one(served: Open) -> None:
    _, client = served()
    tokens = [await log_in(client) for _ in range(5)]
    assert len(set(tokens)) == 5
    for token in tokens:
        assert token.startswith("MII")
        assert len(token) > 1000
        assert set("/+-=") < set(token)
        assert token.isascii()
        assert not set(" ,;\t\r\n") & set(token)


async def test_the_same_tokens_come_from_the_same_seed(served: Open) -> None:
    first, again, other = [await log_in(served(seed=seed)[1]) for seed in (5, 5, 6)]
    assert first == again != other


@pytest.mark.parametrize(
    "user",
    [
        {"name": DEFAULT.username, "domain": {"id": DEFAULT.user_domain_id}},
        {"name": DEFAULT.username, "domain": {"id": DEFAULT.user_domain_id, "name": DEFAULT.user_domain_name}},
        {"id": DEFAULT.user_id},
    ],
)
@pytest.mark.parametrize(
    "project",
    [
        {"id": DEFAULT.project_id},
        {"name": DEFAULT.project_name, "domain": DOMAIN},
        {"name": DEFAULT.project_name, "domain": {"id": DEFAULT.user_domain_id}},
    ],
)
async def test_users_and_projects_are_told_by_id_or_by_name(
    served: Open, user: dict[str, Any], project: dict[str, Any]
) -> None:
    _, client = served()
    body = login(scope={"project": project})
    body["auth"]["identity"]["password"]["user"] = {**user, "password": DEFAULT.password}
    assert (await tried(client, await log_in(client, body))).status_code == 200


@pytest.mark.parametrize(
    "body",
    [
        login(password="wrong"),
        login(password=""),
        login(password=DEFAULT.password + " "),
        login(name="nobody"),
        login(id="nobody"),
        login(domain={"name": "another"}),
        login(domain={"id": "another"}),
        login(domain={"name": DEFAULT.user_domain_name, "id": "another"}),
        login(scope={"project": {"name": "another"}}),
        login(scope={"project": {"id": "another"}}),
        login(scope={"project": {"id": "another", "name": DEFAULT.project_name}}),
        login(scope={"project": {"name": DEFAULT.project_name, "domain": {"name": "another"}}}),
        login(scope={"domain": {"name": "another"}}),
        {"auth": {"identity": {"methods": ["totp"], "totp": {}}}},
    ],
)
async def test_whoever_is_not_known_learns_nothing_but_that(served: Open, body: dict[str, Any]) -> None:
    cloud, client = served()
    answer = await client.post(TOKENS, json=body)
    assert answer.status_code == 401
    assert "X-Subject-Token" not in answer.headers
    error = answer.json()["error"]
    assert (error["code"], error["title"]) == (401, "Unauthorized")
    assert error["message"] == (await client.post(TOKENS, json=login(password="any"))).json()["error"]["message"]
    book = cloud.call_counts().operations["identity.create_token"]
    assert (book.arrived, book.unauthorized, book.limit) == (2, 2, None)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b"{}",
        b'{"auth": []}',
        b'{"auth": {"identity": {}}}',
        b'{"auth": {"identity": {"methods": []}}}',
        b'{"auth": {"identity": {"methods": "password"}}}',
        b'{"auth": {"identity": {"methods": [1]}}}',
        b'{"auth": {"identity": {"methods": ["password"]}}}',
        b'{"auth": {"identity": {"methods": ["password"], "password": {}}}}',
        b'{"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": "x"}}}}}',
        b'{"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": "x", "password": 1}}}}}',
        b'{"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": 7, "password": "p"}}}}}',
        b'{"auth": {"identity": {"methods": ["password"], "password": {"user": {"password": "p"}}}}}',
        b'{"auth": {"identity": {"methods": ["password"], "password": {"user": {"name": "x", "password": "p"}}}}}',
        b'{"auth": {"identity": {"methods": ["password"], "password": {"user": {"id": "x", "password": "\\ud800"}}}}}',
    ],
)
async def test_what_is_no_request_for_a_token_is_a_bad_one(served: Open, content: bytes) -> None:
    _, client = served()
    answer = await client.post(TOKENS, content=content)
    assert answer.status_code == 400
    assert (answer.json()["error"]["code"], answer.json()["error"]["title"]) == (400, "Bad Request")


@pytest.mark.parametrize(
    "scope",
    [
        {},
        [],
        "all",
        {"system": {"all": True}},
        {"project": "name"},
        {"project": {}},
        {"project": {"name": 7}},
        {"project": {"name": "x", "domain": {}}},
        {"project": {"name": "x", "domain": "y"}},
        {"project": {"id": "x"}, "domain": {"id": "y"}},
    ],
)
async def test_a_scope_that_cannot_be_is_a_bad_request(served: Open, scope: Any) -> None:
    _, client = served()
    assert (await client.post(TOKENS, json=login(scope=scope))).status_code == 400


@pytest.mark.parametrize(
    ("scope", "keys"),
    [
        (None, set()),
        ("unscoped", set()),
        ({"unscoped": {}}, set()),
        ({"domain": DOMAIN}, {"domain", "roles", "catalog"}),
        ({"domain": {"id": DEFAULT.user_domain_id}}, {"domain", "roles", "catalog"}),
    ],
)
async def test_a_token_for_no_project_reads_projects_and_opens_none(world: Worlds, scope: Any, keys: set[str]) -> None:
    here = world()
    answer = await here.bms.post(TOKENS, json=login(scope=scope))
    assert answer.status_code == 201
    assert answer.json()["token"].keys() == {"methods", "user", "issued_at", "expires_at"} | keys
    token = answer.headers["X-Subject-Token"]
    assert code_of(await tried(here.bms, token)) == (401, "APIGW.0301")
    assert code_of(await tried(here.nova, token, "/servers/detail")) == (401, "APIGW.0301")
    own = await tried(here.bms, token, "http://bms.test/v3/auth/projects")
    assert [each["name"] for each in own.json()["projects"]] == [DEFAULT.project_name]


async def test_a_token_for_another_project_does_not_open_this_one(world: Worlds) -> None:
    here = world(other_projects={"elsewhere": OTHER_ID})
    for target in ({"name": "elsewhere"}, {"id": OTHER_ID}):
        answer = await here.bms.post(TOKENS, json=login(scope={"project": target}))
        assert answer.json()["token"]["project"]["id"] == OTHER_ID
        token = answer.headers["X-Subject-Token"]
        assert code_of(await tried(here.bms, token)) == (400, "Common.0018")
        assert native_code_of(await tried(here.nova, token, "/servers/detail")) == (400, "badRequest")
    for path in ("/v3/projects", "/v3/auth/projects"):
        all_of_them = (await tried(here.bms, token, f"http://bms.test{path}")).json()["projects"]
        assert [each["id"] for each in all_of_them] == [here.cloud.settings.project_id, OTHER_ID]
        one = await here.bms.get(f"http://bms.test{path}", params={"name": "elsewhere"})
        assert [each["id"] for each in one.json()["projects"]] == [OTHER_ID]


async def test_who_is_no_administrator_is_told_so_in_the_token_and_sees_only_projects_of_his_own(served: Open) -> None:
    _, client = served(administrator=False)
    answer = await client.post(TOKENS, json=login())
    assert [role["name"] for role in answer.json()["token"]["roles"]] == ["member"]
    token = answer.headers["X-Subject-Token"]
    refused = await tried(client, token, "http://bms.test/v3/projects")
    assert (refused.status_code, refused.json()["error"]["code"]) == (403, 403)
    assert (await tried(client, token, "http://bms.test/v3/auth/projects")).status_code == 200


@pytest.mark.parametrize("skew", [0.0, 86400.0 * 3650, -3600.0])
async def test_a_token_ends_when_the_answer_said_by_the_clouds_clock(served: Open, skew: float) -> None:
    hand = Hand()
    cloud, client = served(hand, token_lifetime=90.0, clock_skew=skew)
    hand.now += 0.25
    answer = await client.post(TOKENS, json=login())
    now = EPOCH + timedelta(seconds=skew + 0.25)
    told = answer.json()["token"]
    assert datetime.fromisoformat(told["issued_at"]) == now
    assert datetime.fromisoformat(told["expires_at"]) == now + timedelta(seconds=90)
    assert parsedate_to_datetime(answer.headers["Date"]) == now.replace(microsecond=0)
    token = answer.headers["X-Subject-Token"]
    hand.now += 89.9
    assert (await tried(client, token)).status_code == 200
    hand.now += 0.1
    refused = await tried(client, token)
    assert code_of(refused) == (401, "APIGW.0301")
    assert token not in refused.text
    assert cloud.call_counts().operations["servers.list"].unauthorized == 1
    assert (await tried(client, await log_in(client))).status_code == 200


async def test_a_password_that_no_request_can_hold_lets_nobody_in(served: Open) -> None:
    _, client = served(password="half \udc80")
    assert (await client.post(TOKENS, json=login())).status_code == 401


async def test_tokens_that_ended_are_not_kept_for_ever(served: Open) -> None:
    hand = Hand()
    cloud, client = served(hand, token_lifetime=10.0)
    for _ in range(50):
        await log_in(client)
        hand.now += 1
    assert repr(cloud._token_store) == "<TokenStore tokens=10>"


async def test_tokens_can_be_revoked_and_the_one_of_the_settings_stays(served: Open) -> None:
    hand = Hand()
    cloud, client = served(hand, token_lifetime=60.0)
    await log_in(client)
    hand.now += 30
    first, second = await log_in(client), await log_in(client)
    hand.now += 30
    assert cloud.revoke_tokens() == 2
    for token in (first, second):
        assert code_of(await tried(client, token)) == (401, "APIGW.0301")
    assert (await tried(client, cloud.settings.token)).status_code == 200
    assert (await tried(client, await log_in(client))).status_code == 200


async def test_tokens_can_be_revoked_over_http(served: Open) -> None:
    _, client = served()
    token = await log_in(client)
    for revoked in (1, 0):
        answer = await client.delete("http://bms.test/_admin/tokens")
        assert (answer.status_code, answer.json()) == (200, {"revoked": revoked})
    assert (await tried(client, token)).status_code == 401


async def test_a_request_for_a_token_is_counted_limited_and_goes_wrong_like_any_other(served: Open) -> None:
    cloud, client = served(limits={"identity.create_token": 2}, retry_after=True)
    broken = ScriptedFault(operation="identity.create_token", nth=1, fault=Answer(status=503))
    cloud.faults.append(Script([broken]))
    answers = [await client.post(TOKENS, json=login()) for _ in range(3)]
    assert [each.status_code for each in answers] == [503, 201, 429]
    assert "Retry-After" in answers[-1].headers
    book = cloud.call_counts().operations["identity.create_token"]
    assert (book.arrived, book.refused, book.limit) == (3, 1, 2)


async def test_the_catalog_can_be_left_out_and_the_version_is_told(served: Open) -> None:
    _, client = served()
    assert (await client.post(TOKENS, params={"nocatalog": ""}, json=login())).json()["token"]["catalog"] == []
    for path in ("/v3", "/v3/"):
        version = (await client.get(f"http://bms.test{path}")).json()["version"]
        assert (version["id"], version["links"][0]["href"]) == ("v3.14", "http://bms.test/v3/")
    assert (await client.get(TOKENS)).status_code == 405


def test_no_secret_is_shown() -> None:
    settings = CloudSettings(password="OPEN-1", token="OPEN-2", secret_key="OPEN-3", security_token="OPEN-4")
    shown = [repr(settings), str(settings), pretty_repr(settings), repr(Cloud(settings)), repr(read_login(login()))]
    assert not [text for text in shown if "OPEN" in text or DEFAULT.password in text]
    assert "username='operator'" in shown[0]
    assert "username='operator'" in shown[2]


@pytest.mark.parametrize(
    "wrong",
    [
        {"password": ""},
        {"username": ""},
        {"user_id": ""},
        {"user_domain_name": ""},
        {"user_domain_id": ""},
        {"token_lifetime": 0.0},
        {"token_lifetime": math.inf},
        {"token_lifetime": math.nan},
        {"other_projects": {DEFAULT.project_name: "new-id"}},
        {"other_projects": {"new": DEFAULT.project_id}},
        {"other_projects": {"one": "same", "two": "same"}},
        {"other_projects": {"": "id"}},
        {"other_projects": {"name": ""}},
    ],
)
def test_settings_that_no_identity_service_can_have_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        CloudSettings(**wrong)


def test_a_cloud_that_lives_in_the_present_issues_tokens_of_today() -> None:
    cloud = Cloud(CloudSettings(servers=1))
    assert datetime.fromtimestamp(cloud.unix_now(), UTC).year >= 2024
    token = cloud.issue_token(DEFAULT.project_id)
    grant = cloud.grant_of(token)
    assert grant is not None
    assert grant.project_id == DEFAULT.project_id
    assert cloud.grant_of(None) is None
