"""What PasswordAuth takes and what it refuses, and the Secret that it takes a password in."""

from __future__ import annotations

import copy
import json
import pickle
import re
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from bms_async import ConfigurationError, PasswordAuth, Secret
from tests.auth.keystone import auth_of

TEXT = "hunter2-SECRET"


def test_every_missing_argument_is_named_at_once() -> None:
    with pytest.raises(ConfigurationError) as caught:
        PasswordAuth(auth_url="", password="")

    for word in ("auth_url", "username or user_id", "project_name or project_id", "password"):
        assert word in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"user_id": "u"}, "username or user_id, not both; .*user_id or user_domain_name, not both"),
        ({"user_domain_id": "d"}, "user_domain_name or user_domain_id, not both"),
        ({"user_domain_name": None}, "user_domain_name or user_domain_id is missing"),
        ({"project_id": "p"}, "project_name or project_id, not both"),
        ({"project_name": None}, "project_name or project_id is missing"),
        (
            {"project_name": None, "project_id": "p", "project_domain_name": "d"},
            "project_id or project_domain_name, not both",
        ),
        (
            {"project_name": None, "project_id": "p", "project_domain_id": "d"},
            "project_id or project_domain_id, not both",
        ),
        (
            {"project_domain_name": "n", "project_domain_id": "d"},
            "project_domain_name or project_domain_id, not both",
        ),
        ({"project_domain_id": " "}, "project_domain_id: expected a text"),
        ({"username": 7}, "username: expected a text"),
        ({"project_name": " "}, "project_name: expected a text"),
        ({"password": None}, "password is missing"),
        ({"password": Secret(" ")}, "password is missing"),
        ({"password": f"{TEXT}\ud800"}, "password is missing, or is not a text"),
        ({"margin": -1}, "margin=-1"),
        ({"margin": float("nan")}, "margin=nan"),
        ({"margin": "600"}, "margin='600'"),
        ({"auth_url": None}, "auth_url is missing"),
        ({"auth_url": "iam.example.com"}, "expected an https address"),
        ({"auth_url": "ftp://iam.example.com"}, "expected an https address"),
        ({"auth_url": "https://iam.example.com/ v3"}, "expected an https address"),
        ({"auth_url": "http://iam.example.com/v3"}, "expected https, got http"),
        ({"auth_url": "https://iam.example.com:port"}, "auth_url="),
        ({"auth_url": f"https://operator:{TEXT}@iam.example.com"}, "without credentials, a query or a fragment"),
        ({"auth_url": f"https://iam.example.com/v3?key={TEXT}"}, "without credentials, a query or a fragment"),
        ({"auth_url": "https://iam.example.com/v2.0/"}, "version 3"),
    ],
)
def test_what_cannot_be_right_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        auth_of(**arguments)

    assert TEXT not in repr(caught.value)


@pytest.mark.parametrize(
    "auth_url",
    [
        "https://iam.example.com",
        "https://iam.example.com/",
        " https://iam.example.com/v3",
        "https://iam.example.com/v3/\n",
        "https://iam.example.com/v3/auth/tokens",
    ],
)
def test_an_address_may_be_given_with_and_without_its_version(auth_url: str) -> None:
    assert auth_of(auth_url=auth_url)._client.build_request().url == "https://iam.example.com/v3/auth/tokens"


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "[::1]", "keystone.localhost"])
def test_plain_http_is_for_loopback(host: str) -> None:
    url = auth_of(auth_url=f"http://{host}:5000/identity/v3")._client.build_request().url
    assert url == f"http://{host}:5000/identity/v3/auth/tokens"


@pytest.mark.parametrize("password", [TEXT, Secret(TEXT)])
def test_a_password_is_a_text_or_a_secret(password: str | Secret) -> None:
    assert TEXT.encode() in auth_of(password=password)._client.build_request().body


def test_a_secret_shows_itself_only_when_told_to() -> None:
    secret = Secret(TEXT)

    shown = [repr(secret), str(secret), f"{secret}", f"{secret!r}", "%s" % secret, pretty_repr([secret])]  # noqa: UP031
    shown += [json.dumps(secret, default=str), repr({"password": secret})]
    assert not any(TEXT in each for each in shown)
    assert secret.reveal() == TEXT
    assert Secret(secret) == secret
    assert not hasattr(secret, "__dict__")


@pytest.mark.parametrize("encode", [json.dumps, msgspec.json.encode, msgspec.msgpack.encode, copy.deepcopy])
def test_a_secret_is_not_encoded(encode: Any) -> None:
    with pytest.raises(TypeError) as caught:
        encode({"password": Secret(TEXT)})

    assert TEXT not in repr(caught.value)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_neither_a_secret_nor_the_credentials_are_pickled(protocol: int) -> None:
    for each in (Secret(TEXT), auth_of(password=TEXT)):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(each, protocol)


@given(one=st.text(), other=st.text())
def test_secrets_are_equal_when_their_texts_are(one: str, other: str) -> None:
    assert (Secret(one) == Secret(other)) is (one == other)
    assert Secret(one) != one
    assert hash(Secret(one)) == hash(Secret(one))


def test_a_secret_is_a_text() -> None:
    with pytest.raises(ConfigurationError, match="got bytes") as caught:
        Secret(TEXT.encode())  # type: ignore[arg-type]

    assert TEXT not in str(caught.value)


# None of what the mask and the marks around it are made of: with those, a new one could come out.
_PASSWORDS = st.text(st.characters(exclude_categories=["Cs", "Z", "C"], exclude_characters="*<>"), min_size=4)


@given(password=_PASSWORDS, before=st.text(max_size=9), after=st.text(max_size=9))
def test_a_password_is_taken_out_however_json_spells_it(password: str, before: str, after: str) -> None:
    auth = auth_of(password=password)
    for text in (password, json.dumps(password)[1:-1], msgspec.json.encode(password).decode()[1:-1]):
        assert text not in auth.redact(f"<{before}>{text}<{after}>")


def test_the_repr_tells_who_and_where_and_no_secret() -> None:
    shown = repr(auth_of(password=TEXT))

    assert re.fullmatch(
        r"PasswordAuth\('https://iam.example.com', user='operator', project='ae-ad-1', password=\*\*\*\)", shown
    )
    assert pretty_repr(auth_of(password=TEXT)) == shown
