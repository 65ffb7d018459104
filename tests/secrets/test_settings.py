"""R5: settings that contradict each other, or cannot be read, are named in errors and not shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from bms_async import BmsClient, ConfigurationError
from tests.secrets._search import watching
from tests.secrets.canaries import PASSWORD, SECRET_KEY, SECURITY_TOKEN, TOKEN

SET = {
    "OS_TOKEN": TOKEN,
    "OS_USERNAME": "operator",
    "OS_PASSWORD": PASSWORD,
    "OS_USER_DOMAIN_NAME": "account",
    "OS_AUTH_URL": "https://iam.example.com/v3",
    "HUAWEICLOUD_SDK_AK": "AKIDEXAMPLE",
    "HUAWEICLOUD_SDK_SK": SECRET_KEY,
    "HUAWEICLOUD_SDK_SECURITY_TOKEN": SECURITY_TOKEN,
    "OS_PROJECT_ID": "p",
    "BMS_ENDPOINT": "https://bms.example.com",
}
SECRET_ADDRESS = f"https://operator:{TOKEN.replace('/', '')}@bms.example.com/?token={TOKEN}"

# What is changed in them, None unset.
ENVIRONMENTS: dict[str, dict[str, str | None]] = {
    "three kinds": {},
    "two tokens": {"OS_AUTH_TYPE": "token", "OS_AUTH_TOKEN": f"{TOKEN}2"},
    "a token of two lines": {"OS_AUTH_TYPE": "token", "OS_TOKEN": f"{TOKEN}\n{TOKEN}"},
    "a secret key with a blank": {"OS_AUTH_TYPE": "aksk", "HUAWEICLOUD_SDK_SK": f"{SECRET_KEY} x"},
    "a secret key alone": {"OS_AUTH_TYPE": "aksk", "HUAWEICLOUD_SDK_AK": None},
    "a password alone": {"OS_TOKEN": None, "HUAWEICLOUD_SDK_SK": None, "OS_USERNAME": None},
    "no endpoint": {"OS_AUTH_TYPE": "token", "BMS_ENDPOINT": None},
    "no project": {"OS_AUTH_TYPE": "token", "OS_PROJECT_ID": None},
    "secrets in the endpoint": {"OS_AUTH_TYPE": "token", "BMS_ENDPOINT": SECRET_ADDRESS},
    "secrets in the identity endpoint": {"OS_AUTH_TYPE": "token", "BMS_IDENTITY_ENDPOINT": SECRET_ADDRESS},
    "secrets in the address of the password": {"OS_AUTH_TYPE": "password", "OS_AUTH_URL": SECRET_ADDRESS},
    "an address over plain http": {"OS_AUTH_TYPE": "password", "OS_AUTH_URL": "http://iam.example.com"},
    "no such kind": {"OS_AUTH_TYPE": "kerberos"},
}


@pytest.mark.parametrize("changed", ENVIRONMENTS.values(), ids=ENVIRONMENTS)
def test_r5_no_secret_of_an_environment_that_will_not_do_shows(
    changed: dict[str, str | None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**SET, **changed}.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    with watching() as eye:
        with pytest.raises(ConfigurationError) as caught:
            BmsClient.from_env()
        eye.look_at_error("error", caught.value)
    assert eye.found == {}


@pytest.mark.parametrize("kind", ["token", "password", "aksk"])
def test_r5_a_client_from_the_environment_shows_no_secret(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**SET, "OS_AUTH_TYPE": kind}.items():
        monkeypatch.setenv(name, value)
    with watching() as eye:
        bms = BmsClient.from_env()
        for thing in (bms, *vars(bms).values(), *vars(bms._core).values()):
            eye.look(type(thing).__name__, thing)
    assert eye.found == {}


AUTH: dict[str, Any] = {
    "token": TOKEN,
    "username": "operator",
    "password": PASSWORD,
    "user_domain_name": "account",
    "auth_url": "https://iam.example.com",
    "ak": "AK",
    "sk": SECRET_KEY,
    "security_token": SECURITY_TOKEN,
    "project_id": "p",
}


def _clouds(cloud: dict[str, Any], **auth: Any) -> str:
    given = {"bms_endpoint_override": "https://bms.example.com", "auth": {**AUTH, **auth}, **cloud}
    return json.dumps({"clouds": {"c": given}}, indent=1)


FILES: dict[str, tuple[str, str]] = {
    "three kinds": ("json", _clouds({})),
    "a password in a list": ("json", _clouds({"auth_type": "password"}, password=[PASSWORD])),
    "a token of two lines": ("json", _clouds({"auth_type": "token"}, token=f"{TOKEN}\n{TOKEN}")),
    "secrets in an address": ("json", _clouds({"auth_type": "token", "bms_endpoint_override": SECRET_ADDRESS})),
    "no such region": ("json", _clouds({"regions": [TOKEN], "region_name": "r"})),
    "auth that is a text": ("json", json.dumps({"clouds": {"c": {"auth": PASSWORD}}})),
    "clouds that are a text": ("json", json.dumps({"clouds": PASSWORD})),
    "half a JSON": ("json", _clouds({})[:-9]),
    "no mapping": ("json", json.dumps([PASSWORD, TOKEN])),
    "half a YAML": ("yaml", f"clouds:\n  c:\n    auth: {{token: '{TOKEN}', password: [\n"),
    "YAML with a tab": ("yaml", f"clouds:\n\tpassword: {TOKEN}\n"),
    "YAML with an anchor that is none": ("yaml", f"clouds: *{TOKEN[:9]}\n"),
    "YAML with a tag": ("yaml", f"clouds: !!int '{TOKEN}'\n"),
    "YAML with a character that it has not": ("yaml", f"clouds: '{TOKEN}\x07'\n"),
    "JSON nested deeply": ("json", f'["{TOKEN}",' + "[" * 100_000),
}


@pytest.mark.parametrize(("suffix", "text"), FILES.values(), ids=FILES)
def test_r5_no_secret_of_a_file_that_will_not_do_shows(
    suffix: str, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / f"clouds.{suffix}"
    file.write_text(text)
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(file))
    with watching() as eye:
        with pytest.raises(ConfigurationError) as caught:
            BmsClient.from_cloud("c")
        eye.look_at_error("error", caught.value)
    assert eye.found == {}


def test_r5_no_secret_of_a_file_of_another_encoding_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "clouds.json"
    file.write_bytes(_clouds({}).encode().replace(b"operator", PASSWORD.encode("latin-1")))
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(file))
    with watching() as eye:
        with pytest.raises(ConfigurationError, match="UTF-8") as caught:
            BmsClient.from_cloud("c")
        eye.look_at_error("error", caught.value)
    assert eye.found == {}
