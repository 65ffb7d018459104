from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from bms_async import AkSkAuth, AuthenticationError, BmsClient, PasswordAuth, StaticToken
from bms_async.auth import TOKEN_OPERATION, Auth
from bms_async.cli.access import whoami
from bms_async.cli.access.cloud import OpenClient
from bms_async.cli.access.known import KnownServers
from bms_async.cli.access.refusals import note_refusal
from bms_async.cli.acting import power
from bms_async.cli.terminal.again import print_command
from bms_async.cli.terminal.exit import explain_error
from bms_async.config import Settings
from bms_async.config.clouds import KEYS
from bms_async.config.environment import VARIABLES
from tests.cli._helpers import NO_SERVER, Bms
from tests.support.virtual_clock import run_virtually

PROJECT = "51a0c10d51a0c10d51a0c10d51a0c10d"
USER = {
    "username": "operator",
    "password": "simulated-password",
    "user_domain_name": "simulated-account",
    "project_name": "simulated",
}
PASSWORD = PasswordAuth(auth_url="https://i", username="ann", user_domain_name="a", project_id="p", password="SECRET")
ACCESS_KEY = AkSkAuth("AKIA1234567", "SECRET-secret")


def write_clouds(folder: Path, **clouds: dict[str, Any]) -> None:
    (folder / "clouds.json").write_text(json.dumps({"clouds": clouds}))


def settings_with(auth: Auth, **more: Any) -> Settings:
    address = "https://bms.example.com"
    fixed = {"endpoint": address, "compute_endpoint": address, "identity_endpoint": address, "ca_bundle": None}
    return Settings(**{**fixed, "auth": auth, "project_id": PROJECT, "project_name": None, **more})


@pytest.mark.parametrize(
    "arguments",
    [
        ("--cloud", "foo", "servers", "list"),
        ("servers", "--cloud", "foo", "list"),
        ("servers", "list", "--cloud", "foo"),
        ("--cloud", "foo", "servers", "list", "--cloud", "foo"),
        ("--cloud", "foo", "worker"),
    ],
    ids=" ".join,
)
def test_a_cloud_is_named_before_the_command_or_after_it(nowhere: Bms, arguments: tuple[str, ...]) -> None:
    write_clouds(nowhere.state, other={})
    ended = nowhere(*arguments)
    assert (ended.code, ended.out) == (3, "")
    assert "no cloud 'foo'" in ended.err


@pytest.mark.parametrize("command", [("servers", "list"), ("worker",)], ids=" ".join)
def test_two_different_clouds_before_and_after_the_command_are_refused(nowhere: Bms, command: tuple[str, ...]) -> None:
    ended = nowhere("--cloud", "foo", *command, "--cloud", "bar")
    assert ended.code == 2
    assert "--cloud: expected one, got 'foo' and 'bar'" in ended.err


@pytest.mark.parametrize(
    "arguments",
    [("stop", "a", "--cloud", ""), ("--cloud", " ", "stop", "a"), ("stop", "a", "--profile", ""),
     ("worker", "--cloud", ""), ("stop", "a", "--key", "")],
    ids=" ".join,
)  # fmt: skip
def test_an_unset_variable_leads_to_no_other_cloud_and_to_no_other_run(
    nowhere: Bms, arguments: tuple[str, ...]
) -> None:
    write_clouds(nowhere.state, other={})
    nowhere.environment["OS_CLOUD"] = "other"
    ended = nowhere(*arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "is empty: expected " in ended.err


@pytest.mark.parametrize("arguments", [("-vv", "quota"), ("quota", "-vv"), ("-v", "quota", "-v")], ids=" ".join)
def test_a_log_is_asked_for_before_the_command_or_after_it(cloud: Bms, arguments: tuple[str, ...]) -> None:
    logged = cloud(*arguments)
    assert logged.err.startswith("DEBUG bms_async")
    lines = logged.err.splitlines()
    assert len(lines) == len(set(lines))
    assert cloud("quota").err == ""


# What is missing.


def test_nothing_set_is_three_short_lines(nowhere: Bms) -> None:
    ended = nowhere("servers", "list")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.splitlines() == [
        "bms: not set in the environment: credentials, project, endpoint",
        "     export BMS_ENDPOINT=https://... OS_PROJECT_ID=... OS_TOKEN=...",
        "     Or: --cloud NAME. More: `bms help settings`. To try it: `bms simulator`.",
    ]


def test_much_that_is_missing_is_cut_off_and_not_wrapped(nowhere: Bms) -> None:
    err = nowhere("quota", changes={"OS_USERNAME": "ann"}).err.splitlines()
    assert len(err) == 3
    assert err[1].endswith(" ...")
    assert all(len(line) <= 80 for line in err[1:])


def test_the_list_of_all_settings_has_them_all(nowhere: Bms) -> None:
    words = set(re.findall(r"[A-Za-z_]+", nowhere("help", "settings").out))
    assert words >= {name for names in VARIABLES.values() for name in names}
    other_names = {"tenant_id", "tenant_name", "insecure", "verify", "default_domain"}
    assert words >= {name.removeprefix("auth.") for names in KEYS.values() for name in names} - other_names


# The clouds.yaml that openstack uses, and BMS_ENDPOINT.


def test_what_a_cloud_lacks_is_named_with_the_variable_that_stands_in_for_it(nowhere: Bms) -> None:
    write_clouds(nowhere.state, mycloud={"auth": {**USER, "auth_url": "http://127.0.0.1:9/v3"}})
    ended = nowhere("quota", "--cloud", "mycloud")
    assert ended.code == 3
    assert ended.err.splitlines() == [
        f"bms: not set in cloud 'mycloud' of {nowhere.state / 'clouds.json'}: endpoint",
        "     Add bms_endpoint_override, or export BMS_ENDPOINT. More: `bms help settings`.",
    ]


@pytest.mark.parametrize("how", ["--cloud", "OS_CLOUD"])
def test_the_variable_of_the_hint_works(cloud: Bms, how: str) -> None:
    address = cloud.exports["BMS_ENDPOINT"]
    write_clouds(cloud.state, mycloud={"auth": {**USER, "auth_url": f"{address}/v3"}})
    left = dict.fromkeys(("OS_TOKEN", "OS_PROJECT_ID"))
    changes = {**left, "OS_CLOUD": "mycloud"} if how == "OS_CLOUD" else left
    ended = cloud("quota", *(["--cloud", "mycloud"] if how == "--cloud" else []), changes=changes)
    assert (ended.code, ended.err) == (0, "")


# Which cloud it is.


def test_the_variables_beside_os_cloud_are_the_cloud_and_a_line_says_so(cloud: Bms) -> None:
    ended = cloud("quota", changes={"OS_CLOUD": "other"})
    assert ended.code == 0
    assert ended.err == (
        "bms: the cloud is that of the variables (OS_TOKEN), and not OS_CLOUD=other: for that one, add --cloud other\n"
    )


def test_where_it_acts_is_printed_before_anything_is_changed(cloud: Bms) -> None:
    address = cloud.exports["BMS_ENDPOINT"]
    write_clouds(cloud.state, mine={"auth": {**USER, "auth_url": address}, "bms_endpoint_override": address})
    place = f"bms: cloud mine (--cloud), project simulated ({PROJECT}) at {address}, as operator"
    asked = cloud("--cloud", "mine", "stop", "--tag", "rack-1")
    assert asked.code == 2
    assert asked.err.splitlines()[0] == place
    assert "bms: stop 40 servers of cloud mine, project simulated?" in asked.err
    assert place in cloud("--cloud", "mine", "start", NO_SERVER, "--yes").err
    assert place not in cloud("--cloud", "mine", "start", NO_SERVER, "--yes", "--quiet").err
    assert place not in cloud("--cloud", "mine", "quota").err


@pytest.mark.parametrize(
    ("auth", "token", "expected"),
    [
        (PASSWORD, {}, "as ann"),
        (ACCESS_KEY, {}, "as access key AKIA..."),
        (StaticToken("SECRET-token"), {"user": {"name": "ann", "id": "1"}}, "as ann"),
        (StaticToken("SECRET-token"), {"user": {"id": "1"}}, "as 1"),
        (StaticToken("SECRET-token"), {"user": "ann", "project": ["x"]}, "https://bms.example.com"),
    ],
)
def test_the_user_is_that_of_the_credentials(
    monkeypatch: pytest.MonkeyPatch, auth: Auth, token: Mapping[str, object], expected: str
) -> None:
    async def read_token(*_: object) -> Mapping[str, object]:
        return token

    monkeypatch.setattr(whoami, "read_token", read_token)
    settings = settings_with(auth)
    cloud = OpenClient(BmsClient.from_settings(settings), settings, KnownServers())
    place = str(run_virtually(lambda: whoami.read_place(cloud)))
    assert place.endswith(expected)
    assert "SECRET" not in place + repr(cloud.place)


@pytest.mark.parametrize("patience", [whoami._PATIENCE, 3000.0], ids=["two seconds", "control"])
def test_an_identity_service_that_does_not_answer_costs_two_seconds_and_once(
    monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    async def read_token(*_: object) -> Mapping[str, object]:
        await anyio.sleep(3600)
        return {}

    async def main() -> float:
        await whoami.read_place(cloud)
        await whoami.read_place(cloud)
        return anyio.current_time()

    monkeypatch.setattr(whoami, "read_token", read_token)
    monkeypatch.setattr(whoami, "_PATIENCE", patience)
    settings = settings_with(StaticToken("t"))
    cloud = OpenClient(BmsClient.from_settings(settings), settings, KnownServers())
    assert run_virtually(main) == pytest.approx(2 if patience < 3 else 3000, abs=0.1)
    assert (cloud.place.project, cloud.place.user) == (PROJECT, None)


# What is refused.


def refusal(status: int, message: str, operation: str = "quotas.get") -> AuthenticationError:
    return AuthenticationError(status=status, code=None, message=message, request_id="r", operation=operation)


@pytest.mark.parametrize(
    ("auth", "error", "text", "advice"),
    [
        (
            PASSWORD,
            refusal(401, "Nobody; check the user's name, password and domain, the project", TOKEN_OPERATION),
            "the cloud refused the password of user ann: 401: Nobody (request id r)",
            "Check the password",
        ),
        (
            PASSWORD,
            refusal(404, "no token; check the user's name", TOKEN_OPERATION),
            "the cloud refused to log in: 404: no token (request id r)",
            "OS_AUTH_URL",
        ),
        (
            PASSWORD,
            refusal(401, "quotas.get was refused with a new token (401); check that", TOKEN_OPERATION),
            "the cloud refused a new token: 401: quotas.get was refused with a new token (401) (request id r)",
            "The password was accepted",
        ),
        (StaticToken("t"), refusal(401, "No."), "the cloud refused the token: 401: No. (request id r)", "a day"),
        (ACCESS_KEY, refusal(401, "No."), "the cloud refused the access key AKIA...: 401: No. (request id r)", "clock"),
    ],
)
def test_what_was_refused_is_called_by_its_name(auth: Auth, error: AuthenticationError, text: str, advice: str) -> None:
    note_refusal(error, auth)
    note_refusal(error, StaticToken("another"))
    shown = explain_error(error)
    assert shown.text == text
    assert advice in shown.advice
    assert ("A token is valid" in shown.advice) == isinstance(auth, StaticToken)


@pytest.mark.parametrize("command", ["quota", "login"])
def test_a_wrong_password_is_called_a_wrong_password_once(cloud: Bms, command: str) -> None:
    address = cloud.exports["BMS_ENDPOINT"]
    wrong = {**USER, "auth_url": address, "password": "SECRET-and-wrong"}
    write_clouds(cloud.state, wrong={"auth": wrong, "bms_endpoint_override": address})
    ended = cloud(command, "--cloud", "wrong")
    said = ended.out + ended.err
    assert ended.code == 3
    assert said.count("the cloud refused the password of user operator: 401: Nobody is known") == 1
    assert said.count("Check the password") == 1
    for absent in ("WARNING", "token lives", "None", "SECRET"):
        assert absent not in said
    assert "WARNING" in cloud(command, "--cloud", "wrong", "-v").err


def test_the_extra_of_the_command_reads_yaml() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    assert any(each.startswith("pyyaml") for each in project["optional-dependencies"]["cli"])


# Commands to be pasted.


@pytest.mark.parametrize(
    ("typed", "command", "printed"),
    [
        ("--cloud prod stop a", "bms stop --resume k", "bms --cloud prod stop --resume k"),
        ("stop a --cloud prod", "bms jobs watch j", "bms --cloud prod jobs watch j"),
        ("--profile x stop a --cloud 'my c'", "bms runs show k", "bms --cloud 'my c' --profile x runs show k"),
        ("stop a", "grep -v a f | bms reboot -", "grep -v a f | bms reboot -"),
        ("stop a --cloud prod", "grep -v bms f | bms reboot -", "grep -v bms f | bms --cloud prod reboot -"),
        (
            "stop a --journal sqlite:////tmp/a",
            "bms stop --resume k",
            "bms stop --resume k --journal sqlite:////tmp/a",
        ),
        ("stop a --journal sqlite:////tmp/a", "bms jobs watch j", "bms jobs watch j"),
        ("stop a --journal postgresql://u:SECRET@h/d", "bms runs show k", "bms runs show k"),
    ],
)
def test_a_command_to_be_pasted_names_the_cloud_that_was_typed(
    nowhere: Bms, monkeypatch: pytest.MonkeyPatch, typed: str, command: str, printed: str
) -> None:
    def act(*_: object) -> int:
        print_command(command)
        return 0

    monkeypatch.setattr(power, "act", act)
    monkeypatch.setattr("bms_async.cli.access.profiles.find_profile", lambda _name: None)
    assert nowhere(*shlex.split(typed)).err == f"  {printed}\n"
