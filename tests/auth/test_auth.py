"""Credentials: sent, and shown nowhere else."""

from __future__ import annotations

import copy
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.pretty import pretty_repr

from bms_async import Auth, BmsClient, ConfigurationError, Secret, StaticToken
from bms_async.wire import HttpRequest

TOKEN = "MIIYXQYJKoZIhvcNAQcCoIIYTjCCGEoCAQExDTALBglghkgBZQMEAgEwghar+=/-"
REQUEST = HttpRequest(operation="servers.get", method="GET", url="https://bms.example.com", headers={})


async def test_a_token_goes_into_its_header_and_nowhere_else() -> None:
    assert await StaticToken(TOKEN).headers(REQUEST) == {"X-Auth-Token": TOKEN}


async def test_a_token_may_be_a_secret() -> None:
    assert await StaticToken(Secret(TOKEN)).headers(REQUEST) == {"X-Auth-Token": TOKEN}
    with pytest.raises(ConfigurationError, match="StaticToken: token: expected a text"):
        StaticToken(Secret(" "))


async def test_the_blanks_that_a_file_or_a_shell_adds_are_left_out() -> None:
    assert await StaticToken(f"  {TOKEN}\r\n").headers(REQUEST) == {"X-Auth-Token": TOKEN}


def test_no_printer_shows_a_token() -> None:
    auth = StaticToken(TOKEN)

    for shown in (repr(auth), str(auth), f"{auth}", pretty_repr(auth), pretty_repr([auth]), repr([auth])):
        assert TOKEN not in shown
    assert repr(auth) == "StaticToken(***)"


def test_a_clients_repr_shows_no_token() -> None:
    client = BmsClient(endpoint="https://bms.example.com", project_id="p", auth=StaticToken(TOKEN))

    assert TOKEN not in repr(client)
    assert TOKEN not in repr(client.statistics())


@pytest.mark.parametrize(
    "token",
    [
        "SECRET with blanks",
        "SECRET\r\nX-Injected: yes",
        "SECRET\x00",
        "SECRET\x7f",
        "SECRETü",
        "SEC\u2028RET",
        "SE\tCRET",
    ],
)
def test_a_token_that_no_header_can_carry_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(ConfigurationError, match="expected printable ASCII") as caught:
        StaticToken(token)

    assert "SECRET" not in str(caught.value)
    assert "SE" not in repr(caught.value).replace("StaticToken", "")


@pytest.mark.parametrize("token", ["", " ", "\n", None, 7, b"SECRET"])
def test_no_token_is_refused(token: str) -> None:
    with pytest.raises(ConfigurationError, match="StaticToken") as caught:
        StaticToken(token)

    assert "SECRET" not in str(caught.value)


@given(token=st.text(max_size=30))
def test_a_token_is_fit_for_a_header_or_refused(token: str) -> None:
    try:
        auth = StaticToken(token)
    except ConfigurationError:
        return
    carried = auth._headers["X-Auth-Token"]
    assert carried == token.strip()
    assert carried.encode("ascii").isascii()
    assert not any(character.isspace() or not character.isprintable() for character in carried)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_token_is_not_pickled(protocol: int) -> None:
    with pytest.raises(TypeError, match="not pickled"):
        pickle.dumps(StaticToken(TOKEN), protocol)


def test_a_token_is_not_copied_either() -> None:
    with pytest.raises(TypeError, match="not pickled"):
        copy.deepcopy({"auth": StaticToken(TOKEN)})


@given(before=st.text(max_size=20), after=st.text(max_size=20))
def test_a_token_is_taken_out_of_whatever_the_cloud_says(before: str, after: str) -> None:
    redacted = StaticToken(TOKEN).redact(f"{before}{TOKEN}{after}{TOKEN}")

    assert redacted == f"{before}***{after}***"


def test_a_static_token_is_an_auth_and_a_string_is_none() -> None:
    assert isinstance(StaticToken(TOKEN), Auth)
    assert not isinstance(TOKEN, Auth)
    with pytest.raises(ConfigurationError, match="auth=str: expected credentials") as caught:
        BmsClient(endpoint="https://bms.example.com", project_id="p", auth=TOKEN)  # type: ignore[arg-type]

    assert TOKEN not in str(caught.value)


def test_a_token_too_short_to_be_a_clouds_is_not_taken_out_of_answers() -> None:
    assert StaticToken("dev").redact('{"name": "dev-7f"}') == '{"name": "dev-7f"}'
    assert StaticToken("dev-token").redact("Incorrect dev-token") == "Incorrect ***"
