"""The environment: every kind of credentials, contradictions, and errors that say all and show nothing."""

from __future__ import annotations

import itertools
import os
import re
import traceback
from pathlib import Path
from typing import Any
from unittest import mock

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from bms_async import (
    AkSkAuth,
    BmsClient,
    ConfigurationError,
    HttpxTransport,
    Limits,
    PasswordAuth,
    StaticToken,
    WaitTooLongError,
)
from bms_async.config import Settings, read_environment
from bms_async.config.environment import VARIABLES

ENDPOINT = {"BMS_ENDPOINT": "https://bms.example.com"}
PROJECT = {"OS_PROJECT_ID": "p"}
TOKEN = {"OS_TOKEN": "SECRET-token"}
PASSWORD = {
    "OS_USERNAME": "ann",
    "OS_PASSWORD": "SECRET-password",
    "OS_USER_DOMAIN_NAME": "acme",
    "OS_AUTH_URL": "https://iam.example.com/v3",
}
KEYS = {"HUAWEICLOUD_SDK_AK": "AK1", "HUAWEICLOUD_SDK_SK": "SECRET-sk"}
KINDS: dict[str, tuple[dict[str, str], type[Any]]] = {
    "token": (TOKEN, StaticToken),
    "password": (PASSWORD, PasswordAuth),
    "aksk": (KEYS, AkSkAuth),
}
SECRETS = ("OS_TOKEN", "OS_AUTH_TOKEN", "OS_PASSWORD", "HUAWEICLOUD_SDK_SK", "HUAWEICLOUD_SDK_SECURITY_TOKEN")


def failure(environment: dict[str, str]) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read_environment(environment)
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))
    return str(caught.value)


def named(text: str) -> set[str]:
    return set(re.findall(r"(?:OS|BMS|HUAWEICLOUD)_\w+", text))


@pytest.fixture
def made() -> Any:
    """What `PasswordAuth` and `AkSkAuth` are called with, instead of what they make of it."""
    with mock.patch.multiple(
        "bms_async.auth", StaticToken=mock.DEFAULT, PasswordAuth=mock.DEFAULT, AkSkAuth=mock.DEFAULT
    ) as classes:
        yield classes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("asked", [False, True])
def test_each_kind_of_credentials_is_made(kind: str, asked: bool) -> None:
    variables, expected = KINDS[kind]
    settings = read_environment(ENDPOINT | PROJECT | variables | ({"OS_AUTH_TYPE": kind} if asked else {}))

    assert isinstance(settings.auth, expected)
    assert (settings.endpoint, settings.project_id) == ("https://bms.example.com", "p")


@pytest.mark.parametrize("kind", KINDS)
def test_a_client_is_made_of_each_kind(kind: str) -> None:
    with mock.patch.dict(os.environ, ENDPOINT | PROJECT | KINDS[kind][0], clear=True):
        assert repr(BmsClient.from_env()) == "<BmsClient closed, https://bms.example.com, project p>"


def test_a_client_of_an_empty_environment_is_a_configuration_error() -> None:
    with mock.patch.dict(os.environ, clear=True), pytest.raises(ConfigurationError, match="BMS_ENDPOINT"):
        BmsClient.from_env()


def test_a_client_needs_no_project_id_where_keystone_finds_it_by_name() -> None:
    with mock.patch.dict(os.environ, ENDPOINT | PASSWORD | {"OS_PROJECT_NAME": "ae-ad-1"}, clear=True):
        assert BmsClient.from_env().project_id is None


@pytest.mark.parametrize(
    "user", [{"OS_USERNAME": "ann"}, {"OS_USER_ID": "u1"}, {"OS_USERNAME": "ann", "OS_USER_ID": "u1"}]
)
@pytest.mark.parametrize(
    "home",
    [
        {"OS_USER_DOMAIN_NAME": "acme"},
        {"OS_USER_DOMAIN_ID": "d1"},
        {"OS_USER_DOMAIN_NAME": "a", "OS_USER_DOMAIN_ID": "d"},
    ],
)
@pytest.mark.parametrize(
    "project",
    [
        {"OS_PROJECT_NAME": "n"},
        {"OS_PROJECT_NAME": "n", "OS_PROJECT_DOMAIN_NAME": "acme"},
        {"OS_PROJECT_NAME": "n", "OS_PROJECT_DOMAIN_ID": "d2"},
        {"OS_PROJECT_ID": "p"},
        {"HUAWEICLOUD_SDK_PROJECT_ID": "p"},
        {"OS_TENANT_ID": "p"},
        {"OS_PROJECT_NAME": "n", "OS_PROJECT_DOMAIN_NAME": "acme", "OS_PROJECT_ID": "p"},
    ],
)
def test_a_password_goes_with_every_way_to_name_user_domain_and_project_and_ids_win(
    user: dict[str, str], home: dict[str, str], project: dict[str, str], made: Any
) -> None:
    rest = {"OS_PASSWORD": "SECRET", "OS_AUTH_URL": "https://iam.example.com/v3/"}
    settings = read_environment(ENDPOINT | user | home | project | rest)

    user_id, domain_id = user.get("OS_USER_ID"), home.get("OS_USER_DOMAIN_ID")
    ids = ("OS_PROJECT_ID", "HUAWEICLOUD_SDK_PROJECT_ID", "OS_TENANT_ID")
    project_id = next((project[name] for name in ids if name in project), None)
    made["PasswordAuth"].assert_called_once_with(
        auth_url="https://iam.example.com",
        username=None if user_id else "ann",
        user_id=user_id,
        password="SECRET",
        user_domain_name=None if user_id or domain_id else home["OS_USER_DOMAIN_NAME"],
        user_domain_id=None if user_id else domain_id,
        project_name=None if project_id else "n",
        project_id=project_id,
        project_domain_name=None if project_id else project.get("OS_PROJECT_DOMAIN_NAME"),
        project_domain_id=None if project_id else project.get("OS_PROJECT_DOMAIN_ID"),
    )
    assert settings.project_id == project_id
    # And the class itself takes what it was given here.
    mock.patch.stopall()
    PasswordAuth(**made["PasswordAuth"].call_args.kwargs)


@pytest.mark.parametrize("session", [{}, {"HUAWEICLOUD_SDK_SECURITY_TOKEN": "SECRET-session"}])
def test_keys_are_given_on_with_their_security_token(session: dict[str, str], made: Any) -> None:
    read_environment(ENDPOINT | PROJECT | KEYS | session)
    made["AkSkAuth"].assert_called_once_with("AK1", "SECRET-sk", "SECRET-session" if session else None)


@pytest.mark.parametrize("name", ["OS_TOKEN", "OS_AUTH_TOKEN"])
def test_a_token_is_given_on_by_either_name(name: str, made: Any) -> None:
    read_environment(ENDPOINT | PROJECT | {name: "SECRET"})
    made["StaticToken"].assert_called_once_with("SECRET")


# Contradictions.


@pytest.mark.parametrize("kinds", [*itertools.combinations(KINDS, 2), tuple(KINDS)])
def test_complete_kinds_contradict_each_other_and_all_their_variables_are_named(kinds: tuple[str, ...]) -> None:
    variables = {name: value for kind in kinds for name, value in KINDS[kind][0].items()}
    text = failure(ENDPOINT | PROJECT | variables)

    assert named(text) == set(variables) | {"OS_AUTH_TYPE"}
    assert "contradict" in text


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        ("token", StaticToken),
        ("v3token", StaticToken),
        ("password", PasswordAuth),
        ("v3password", PasswordAuth),
        ("V3Password", PasswordAuth),
        ("aksk", AkSkAuth),
    ],
)
def test_the_type_decides_between_complete_kinds(asked: str, expected: type[Any]) -> None:
    everything = ENDPOINT | PROJECT | TOKEN | PASSWORD | KEYS | {"OS_AUTH_TYPE": asked}
    assert isinstance(read_environment(everything).auth, expected)


def test_a_type_that_is_not_known_is_told_with_those_that_are() -> None:
    text = failure(ENDPOINT | PROJECT | TOKEN | {"OS_AUTH_TYPE": "v3oidc"})
    assert "OS_AUTH_TYPE" in text
    assert "v3oidc" in text
    assert "v3password" in text


def test_a_type_whose_variables_are_not_there_is_not_replaced_by_another() -> None:
    text = failure(ENDPOINT | PROJECT | KEYS | {"OS_AUTH_TYPE": "token"})
    assert named(text) == {"OS_TOKEN", "OS_AUTH_TOKEN"}


@pytest.mark.parametrize("kind", KINDS)
def test_a_complete_kind_is_taken_whatever_is_left_over_of_another(kind: str) -> None:
    variables, expected = KINDS[kind]
    left = {"OS_USERNAME": "bob", "OS_PASSWORD": "SECRET"} if kind != "password" else {"HUAWEICLOUD_SDK_AK": "A"}
    assert isinstance(read_environment(ENDPOINT | PROJECT | left | variables).auth, expected)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("OS_PROJECT_ID", "HUAWEICLOUD_SDK_PROJECT_ID"),
        ("OS_PROJECT_ID", "OS_TENANT_ID"),
        ("OS_REGION_NAME", "HUAWEICLOUD_SDK_REGION"),
        ("OS_TOKEN", "OS_AUTH_TOKEN"),
    ],
)
def test_two_names_of_one_setting_must_agree(one: str, other: str) -> None:
    environment = ENDPOINT | {"OS_PROJECT_ID": "p", "OS_TOKEN": "SECRET-a"}
    text = failure({**environment, one: "SECRET-a", other: "SECRET-b"})
    assert named(text) == {one, other}
    assert "contradict" in text

    assert read_environment({**environment, one: "SECRET-a", other: "SECRET-a"})


# What is missing.


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("blank", [None, "", "  "])
def test_everything_that_is_missing_is_named_at_once(kind: str, blank: str | None) -> None:
    complete = ENDPOINT | PROJECT | KINDS[kind][0]
    for missing in itertools.chain.from_iterable(itertools.combinations(complete, n) for n in range(1, len(complete))):
        kept = {name: value for name, value in complete.items() if name not in missing}
        if not kept.keys() & KINDS[kind][0].keys() - {"OS_USER_DOMAIN_NAME", "OS_AUTH_URL"}:
            continue  # Nothing shows any more which kind is meant.
        text = failure(kept | ({} if blank is None else dict.fromkeys(missing, blank)))
        assert named(text) & complete.keys() == set(missing)
        assert text.startswith("not set in the environment: ")


def test_an_empty_environment_names_all_the_ways() -> None:
    text = failure({})
    optional = {
        "BMS_LIMITS",
        "BMS_LIMITS_ACCOUNT",
        "BMS_COMPUTE_ENDPOINT",
        "BMS_RUNS",
        "BMS_BARE_METAL",
        "OS_PROJECT_DOMAIN_NAME",
        "OS_PROJECT_DOMAIN_ID",
        "OS_DEFAULT_DOMAIN_NAME",
        "OS_DEFAULT_DOMAIN_ID",
        "OS_DEFAULT_DOMAIN",
        "OS_DOMAIN_NAME",
        "OS_DOMAIN_ID",
        "OS_CACERT",
        "OS_INSECURE",
        "OS_AUTH_TYPE",
        "HUAWEICLOUD_SDK_SECURITY_TOKEN",
    }
    assert named(text) == {name for several in VARIABLES.values() for name in several} - optional
    assert text.count("or else") == 3
    with pytest.raises(ConfigurationError) as caught:
        read_environment({})
    assert caught.value.missing == {
        "credentials": "OS_TOKEN",
        "project": "OS_PROJECT_ID",
        "endpoint": "BMS_ENDPOINT",
    }


def test_of_two_kinds_begun_both_are_told() -> None:
    text = failure(ENDPOINT | PROJECT | {"OS_USERNAME": "ann", "HUAWEICLOUD_SDK_AK": "A"})
    assert {"OS_PASSWORD", "OS_USER_DOMAIN_NAME", "OS_AUTH_URL", "HUAWEICLOUD_SDK_SK"} <= named(text)
    assert named(text).isdisjoint({"OS_TOKEN", "OS_USERNAME", "HUAWEICLOUD_SDK_AK"})


@pytest.mark.parametrize("kind", KINDS)
def test_a_project_may_be_given_by_name_with_every_kind(kind: str) -> None:
    environment = ENDPOINT | KINDS[kind][0] | {"OS_PROJECT_NAME": "n"}
    settings = read_environment(environment)
    # A password's token has the project that it is for.
    assert (settings.project_id, settings.project_name) == (None, None if kind == "password" else "n")
    with mock.patch.dict(os.environ, environment, clear=True):
        assert BmsClient.from_env().project_id is None

    settings = read_environment(environment | PROJECT)
    assert (settings.project_id, settings.project_name) == ("p", None)


@pytest.mark.parametrize("region", ["OS_REGION_NAME", "HUAWEICLOUD_SDK_REGION"])
def test_with_keys_the_project_is_the_one_named_like_the_region_where_none_is_given(region: str) -> None:
    environment = ENDPOINT | KEYS | {region: "ae-ad-1"}
    assert read_environment(environment).project_name == "ae-ad-1"
    assert read_environment(environment | {"OS_PROJECT_NAME": "n"}).project_name == "n"
    assert read_environment(environment | PROJECT).project_name is None
    # A token is for one project, and nothing says that it is this one.
    assert named(failure(ENDPOINT | TOKEN | {region: "ae-ad-1"})) == {
        "OS_PROJECT_ID",
        "HUAWEICLOUD_SDK_PROJECT_ID",
        "OS_TENANT_ID",
        "OS_PROJECT_NAME",
        "OS_TENANT_NAME",
    }


@pytest.mark.parametrize("name", ["OS_DEFAULT_DOMAIN_NAME", "OS_DOMAIN_NAME"])
@pytest.mark.parametrize("by_id", ["OS_DEFAULT_DOMAIN_ID", "OS_DOMAIN_ID", "OS_DEFAULT_DOMAIN"])
def test_a_default_domain_is_the_users_and_the_projects_where_nothing_else_is_said(
    name: str, by_id: str, made: Any
) -> None:
    user = {key: value for key, value in PASSWORD.items() if key != "OS_USER_DOMAIN_NAME"}

    def domains_of(**more: str) -> list[str | None]:
        read_environment(ENDPOINT | user | {"OS_PROJECT_NAME": "n"} | more)
        given_on = made["PasswordAuth"].call_args.kwargs
        return [given_on[f"{who}_domain_{what}"] for who in ("user", "project") for what in ("name", "id")]

    assert domains_of(**{name: "d"}) == ["d", None, "d", None]
    assert domains_of(**{name: "d", by_id: "i"}) == [None, "i", None, "i"]
    assert domains_of(**{by_id: "i", "OS_USER_DOMAIN_NAME": "u"}) == ["u", None, None, "i"]
    assert domains_of(**{by_id: "i", "OS_USER_DOMAIN_NAME": "u", "OS_PROJECT_DOMAIN_ID": "j"}) == ["u", None, None, "j"]


def test_certificates_to_trust_are_named_and_never_left_unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    complete = ENDPOINT | PROJECT | TOKEN
    assert read_environment(complete).ca_bundle is None
    assert read_environment(complete | {"OS_CACERT": "/etc/ca.pem"}).ca_bundle == Path("/etc/ca.pem")
    monkeypatch.setenv("HOME", "/home/ann")
    assert read_environment(complete | {"OS_CACERT": "~/ca.pem"}).ca_bundle == Path("/home/ann/ca.pem")
    for value in ("false", "False", "0", ""):
        assert read_environment(complete | {"OS_INSECURE": value})
    for value in ("true", "True", "1", "yes"):
        text = failure(complete | {"OS_INSECURE": value})
        assert text.startswith("OS_INSECURE in the environment: the cloud's certificate is always verified")
        assert "OS_CACERT" in text
    assert failure(complete | {"OS_INSECURE": "SECRET"}) == "OS_INSECURE in the environment: expected true or false"


def test_a_client_trusts_the_certificates_that_the_environment_names(tmp_path: Path) -> None:
    environment = ENDPOINT | PROJECT | TOKEN | {"OS_CACERT": str(tmp_path / "absent.pem")}
    with mock.patch.dict(os.environ, environment, clear=True):
        with mock.patch("bms_async.config.arguments.DefaultTransport") as made_of:
            BmsClient.from_env()
        assert made_of.call_args.kwargs["ca_bundle"] == tmp_path / "absent.pem"
        # A given transport has certificates of its own.
        assert BmsClient.from_env(
            transport=HttpxTransport(httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200))))
        )


@pytest.mark.parametrize(
    ("place", "names"),
    [
        ({"OS_REGION_NAME": "r"}, {"BMS_ENDPOINT", "BMS_DOMAIN"}),
        ({"BMS_DOMAIN": "d"}, {"BMS_ENDPOINT", "OS_REGION_NAME", "HUAWEICLOUD_SDK_REGION"}),
        ({}, {"BMS_ENDPOINT", "OS_REGION_NAME", "HUAWEICLOUD_SDK_REGION", "BMS_DOMAIN"}),
    ],
)
def test_half_of_a_place_says_what_the_other_half_is(place: dict[str, str], names: set[str]) -> None:
    assert named(failure(PROJECT | TOKEN | place)) == names


def test_who_selects_a_cloud_is_sent_to_from_cloud() -> None:
    assert "from_cloud" in failure({"OS_CLOUD": "acme"})
    assert "from_cloud" not in failure({})


# Addresses.

PLACE = {"OS_REGION_NAME": "r1", "BMS_DOMAIN": "example.com"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        (PLACE, ("https://bms.r1.example.com", "https://ecs.r1.example.com", "https://iam.r1.example.com")),
        (
            {"HUAWEICLOUD_SDK_REGION": "r1", "BMS_DOMAIN": "example.com", "BMS_COMPUTE_ENDPOINT": "https://c"},
            ("https://bms.r1.example.com", "https://c", "https://iam.r1.example.com"),
        ),
        (
            PLACE | {"BMS_ENDPOINT": "https://b"},
            ("https://b", "https://ecs.r1.example.com", "https://iam.r1.example.com"),
        ),
        ({"BMS_ENDPOINT": "https://b/"}, ("https://b",) * 3),
        ({"BMS_ENDPOINT": "https://b", "OS_REGION_NAME": "r1"}, ("https://b",) * 3),
        ({"BMS_ENDPOINT": "https://b", "OS_AUTH_URL": "https://i/v3"}, ("https://b", "https://b", "https://i")),
        ({"BMS_ENDPOINT": "https://b", "OS_AUTH_URL": "https://i/v3/"}, ("https://b", "https://b", "https://i")),
        ({"BMS_ENDPOINT": "https://b", "OS_AUTH_URL": "https://i:5000"}, ("https://b", "https://b", "https://i:5000")),
        ({"BMS_ENDPOINT": "https://b", "OS_AUTH_URL": "https://i/k/v3"}, ("https://b", "https://b", "https://i/k")),
        ({"BMS_ENDPOINT": "https://b", "OS_AUTH_URL": "https://v3"}, ("https://b", "https://b", "https://v3")),
        (
            {"BMS_ENDPOINT": "https://b", "OS_AUTH_URL": "https://i/v3", "BMS_IDENTITY_ENDPOINT": "https://j"},
            ("https://b", "https://b", "https://j"),
        ),
        (
            PLACE | {"BMS_IDENTITY_ENDPOINT": "https://j/v3", "BMS_COMPUTE_ENDPOINT": "https://c/v2.1/%(project_id)s"},
            ("https://bms.r1.example.com", "https://c", "https://j"),
        ),
        (
            {"BMS_ENDPOINT": "https://b", "BMS_COMPUTE_ENDPOINT": "https://v2/x"},
            ("https://b", "https://v2/x", "https://b"),
        ),
    ],
)
def test_addresses_are_given_or_made(variables: dict[str, str], expected: tuple[str, str, str]) -> None:
    found = read_environment(PROJECT | TOKEN | variables)
    assert (found.endpoint, found.compute_endpoint, found.identity_endpoint) == expected


@pytest.mark.parametrize(
    ("variables", "asked"),
    [
        ({"OS_AUTH_URL": "https://i/v3", "BMS_IDENTITY_ENDPOINT": "https://j"}, "https://i"),
        ({"BMS_IDENTITY_ENDPOINT": "https://j/v3"}, "https://j"),
        (PLACE, "https://iam.r1.example.com"),
    ],
)
def test_a_password_goes_to_the_auth_url_or_else_to_the_identity_endpoint(
    variables: dict[str, str], asked: str, made: Any
) -> None:
    user = {name: value for name, value in PASSWORD.items() if name != "OS_AUTH_URL"}
    read_environment(ENDPOINT | PROJECT | user | variables)
    assert made["PasswordAuth"].call_args.kwargs["auth_url"] == asked


@pytest.mark.parametrize("name", ["BMS_ENDPOINT", "BMS_COMPUTE_ENDPOINT", "BMS_IDENTITY_ENDPOINT", "OS_AUTH_URL"])
def test_a_bad_address_is_told_by_its_variable(name: str) -> None:
    base = ENDPOINT | PROJECT | TOKEN
    assert failure({**base, name: "https://ann:SECRET@iam.example.com"}).startswith(name)
    assert failure({**base, name: "http://iam.example.com"}).startswith(name)


@pytest.mark.parametrize("name", ["OS_REGION_NAME", "HUAWEICLOUD_SDK_REGION", "BMS_DOMAIN"])
def test_a_bad_region_or_domain_is_told_by_its_variable_and_not_shown(name: str) -> None:
    assert failure({**ENDPOINT, **PROJECT, **TOKEN, name: "https://SECRET/"}).startswith(name)


# R5.


@given(
    canary=st.text(st.characters(codec="ascii", min_codepoint=33, max_codepoint=126), min_size=8, max_size=20),
    secrets=st.sets(st.sampled_from(SECRETS)),
    others=st.sets(st.sampled_from(sorted({name for each in VARIABLES.values() for name in each} - set(SECRETS)))),
    asked=st.sampled_from(["", "token", "password", "aksk", "other"]),
)
def test_no_secret_leaves_whatever_is_set(canary: str, secrets: set[str], others: set[str], asked: str) -> None:
    canary = f"Q7{canary}"
    environment = {**dict.fromkeys(others, "value"), **dict.fromkeys(secrets, canary), "OS_AUTH_TYPE": asked}
    for name in others & {"BMS_ENDPOINT", "BMS_COMPUTE_ENDPOINT", "BMS_IDENTITY_ENDPOINT", "OS_AUTH_URL"}:
        environment[name] = "https://value.example.com"
    try:
        settings = read_environment(environment)
    except ConfigurationError as error:
        shown = [*traceback.format_exception(error), repr(error), repr(error.__context__)]
    else:
        shown = [repr(settings), str(settings), pretty_repr(settings), pretty_repr([settings]), repr(settings.auth)]
    assert not [text for text in shown if canary in text]


def test_settings_show_what_is_no_secret() -> None:
    settings = read_environment(ENDPOINT | PROJECT | KEYS)
    assert isinstance(settings, Settings)
    for shown in (repr(settings), pretty_repr(settings)):
        assert "AkSkAuth" in shown
        assert "bms.example.com" in shown
        assert "AK1" not in shown


async def test_what_is_no_matter_of_the_environment_is_given_beside_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"BMS_ENDPOINT": "http://localhost:1", "OS_PROJECT_ID": "p", "OS_TOKEN": "t"}.items():
        monkeypatch.setenv(name, value)
    limits = Limits({"servers.get": 1})
    client = BmsClient.from_env(limits=limits, max_wait=0.0, total_timeout=5.0, retry=None, timeout=3.0, check=False)
    async with client as bms:
        (await bms.limits["servers.get"].acquire()).release()
        with pytest.raises(WaitTooLongError):
            await bms.servers.get("any thing")
    with pytest.raises(TypeError, match="endpoint"):
        BmsClient.from_env(endpoint="http://localhost:2")  # type: ignore[call-arg]
