"""Profiles: what `bms configure` writes, and which of option, environment and profile wins."""

from __future__ import annotations

import json
import os
import stat
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async._files import FileLock
from bms_async.cli.access import configure
from bms_async.cli.access.configure import edit
from bms_async.cli.access.profiles import KEYS
from bms_async.cli.acting import power
from bms_async.cli.acting.power_options import PowerOptions
from bms_async.cli.help import Command
from tests.cli._helpers import Bms, Ended

CLOUD = {"auth": {"token": "t", "project_id": "p"}, "bms_endpoint_override": "http://127.0.0.1:9"}
COMPLETE = {"BMS_ENDPOINT": "http://127.0.0.1:8", "OS_PROJECT_ID": "q", "OS_TOKEN": "t"}


def config_of(bms: Bms) -> Path:
    return bms.state / "bms" / "config.toml"


def write_config(bms: Bms, text: str) -> None:
    config_of(bms).parent.mkdir(exist_ok=True)
    config_of(bms).write_text(text)
    (bms.state / "clouds.json").write_text(json.dumps({"clouds": {"prod": CLOUD, "other": CLOUD}}))


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[PowerOptions]:
    """The options of the power commands that were given, none of which is carried out."""
    options: list[PowerOptions] = []

    def act(_action: str, given: PowerOptions) -> int:
        options.append(given)
        return 0

    monkeypatch.setattr(power, "act", act)
    return options


PROD = """
[profiles.prod]
cloud = "prod"
wave = 50
abort_above = 0.02
verify = true
journal = "sqlite:////tmp/prod.db"
output = "json"
"""


def test_a_profile_sets_what_is_not_typed(nowhere: Bms, asked: list[PowerOptions]) -> None:
    write_config(nowhere, PROD)
    for arguments in (("--profile", "prod", "stop", "a"), ("stop", "a", "--profile", "prod")):
        assert nowhere(*arguments).code == 0
        options = asked.pop()
        assert (options.wave, options.abort_above, options.verify) == (50, 0.02, True)
        assert options.journal == "sqlite:////tmp/prod.db"
    assert nowhere("stop", "a").code == 0
    assert (asked.pop().wave, len(asked)) == (None, 0)


def test_an_option_wins_over_a_variable_and_a_variable_over_a_profile(nowhere: Bms, asked: list[PowerOptions]) -> None:
    write_config(nowhere, PROD)
    runs = {"BMS_RUNS": "sqlite:////tmp/runs.db", "BMS_PROFILE": "prod"}
    assert nowhere("stop", "a", "--wave", "3", changes=runs).code == 0
    assert asked[-1].wave == 3
    assert asked[-1].journal is None
    assert nowhere("stop", "a", "--journal", "machine", changes=runs).code == 0
    assert (asked[-1].wave, str(asked[-1].journal)) == (50, "machine")


def test_a_run_that_goes_on_keeps_what_it_was_begun_with(nowhere: Bms, asked: list[PowerOptions]) -> None:
    write_config(nowhere, PROD)
    assert nowhere("stop", "--resume", "key", "--profile", "prod").code == 0
    assert (asked[-1].wave, asked[-1].abort_above, asked[-1].verify) == (None, None, False)
    assert asked[-1].journal == "sqlite:////tmp/prod.db"
    assert nowhere("stop", "a", "--no-journal", "--profile", "prod").code == 0
    assert asked[-1].wave == 50
    assert asked[-1].journal is None


def test_without_the_guard_a_profile_would_change_a_run_that_goes_on(
    nowhere: Bms, asked: list[PowerOptions], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Command, "after_parsing", ())
    write_config(nowhere, PROD)
    assert nowhere("stop", "--resume", "key", "--profile", "prod").code == 0
    assert (asked[-1].wave, asked[-1].verify) == (50, True)


def limits(bms: Bms, *arguments: str, **changes: str) -> Ended:
    return bms("limits", *arguments, changes=changes)


@pytest.mark.parametrize(
    ("arguments", "changes", "cloud", "said"),
    [
        (("--profile", "prod"), {}, "prod", ""),
        ((), {"BMS_PROFILE": "prod"}, "prod", ""),
        (("--profile", "prod", "--cloud", "other"), {}, "other", ""),
        ((), {"BMS_PROFILE": "prod", "OS_CLOUD": "other"}, "other", ""),
        (("--profile", "prod"), {"OS_CLOUD": "other"}, "prod", ""),
        (("--profile", "prod"), COMPLETE, "prod", ""),
        (
            (),
            {"BMS_PROFILE": "prod", **COMPLETE},
            None,
            "and not prod, of the profile prod: for that one, add --profile",
        ),
        ((), {"BMS_PROFILE": "prod", "OS_TOKEN": "t"}, "prod", "OS_TOKEN in the environment is not used"),
    ],
)
def test_which_cloud_it_is_where_several_are_named(
    nowhere: Bms,
    monkeypatch: pytest.MonkeyPatch,
    arguments: tuple[str, ...],
    changes: dict[str, str],
    cloud: str | None,
    said: str,
) -> None:
    seen: list[str | None] = []

    def show(_calls: object, *, cloud: str | None, **_: object) -> int:
        from bms_async.cli.access.settings import read_settings

        seen.append(read_settings(cloud).cloud)
        return 0

    monkeypatch.setattr("bms_async.cli.reading.info.show_limits", show)
    write_config(nowhere, PROD)
    ended = limits(nowhere, *arguments, **changes)
    assert (ended.code, seen) == (0, [cloud])
    assert said in ended.err
    assert bool(said) == bool(ended.err)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[profiles.prod]\nwave = 0\n", "config.toml, line 2: wave: expected a number of servers, from 1 on"),
        ("[profiles.prod]\nwave = true\n", "line 2: wave: expected a number"),
        ("# first\n\n[profiles.prod]\ncloud='a'\nwav = 1\n", "line 5: wav: expected one of cloud, wave"),
        ("[profiles.prod]\nabort_above = '200%'\n", "line 2: abort_above: expected a share from 0 to 1"),
        ("[profiles.prod]\noutput = 'xml'\n", "line 2: output: expected one of table, json"),
        ("[profiles.prod]\nverify = 'yes'\n", "line 2: verify: expected true or false"),
        ("[profiles.prod]\npassword = 'SECRET'\n", "line 2: password: no secret belongs in this file"),
        ("[profiles.prod]\njournal = 'postgresql://u:SECRET@h/d'\n", "line 2: journal: expected the address of a"),
        ("os_token = 'SECRET'\n", "line 1: os_token: no secret belongs in this file"),
        ("wave = 5\n", "line 1: wave: expected default_profile, or [profiles.NAME]"),
        ("default_profile = 5\n", "line 1: default_profile: expected the name of a profile"),
        ("[profiles]\nprod = 'SECRET'\n", "expected [profiles.NAME] above the settings of a profile"),
        ("[profiles.prod]\nwave = SECRET\n", "line 2: expected TOML"),
        ("[profiles.test]\n", "there is no profile 'prod'"),
        (None, "there is no profile 'prod', as there is no"),
    ],
)
def test_what_is_wrong_in_the_file_is_said_with_its_line_and_without_a_value(
    nowhere: Bms, text: str | None, said: str
) -> None:
    if text is not None:
        write_config(nowhere, text)
    ended = nowhere("--profile", "prod", "servers", "list")
    assert (ended.code, ended.out) == (3, "")
    assert ended.err.startswith("bms: ")
    assert said in ended.err
    assert "SECRET" not in ended.err
    # What needs no profile works all the same.
    assert nowhere("--profile", "prod", "completion", "bash").code == 0
    assert nowhere("--profile", "prod", "servers", "list", "--help").code == 0


def test_profiles_are_written_listed_and_shown(nowhere: Bms) -> None:
    first = nowhere("configure", "--profile", "prod", "--set", "wave=50", "--set", "cloud=prod")
    assert first.code == 0
    # Nobody knows which clouds there will be.
    assert "whether there is a cloud prod is not known: no clouds.yaml found" in first.err
    assert stat.S_IMODE(config_of(nowhere).stat().st_mode) == 0o600
    assert nowhere("--profile", "test", "configure", "--set", "abort-above=2%", "--default").code == 0
    assert nowhere("configure", "--list").out == "prod\ntest (default)\n"
    assert nowhere("configure", "--show").out.splitlines()[1:] == ['  abort_above = "2%"']
    [shown] = nowhere("configure", "--profile", "prod", "--show", "--json").json
    assert shown == {"profile": "prod", "default": False, "wave": 50, "cloud": "prod"}
    assert nowhere("configure", "--profile", "prod", "--unset", "wave", "--set", "verify=true").code == 0
    assert tomllib.loads(config_of(nowhere).read_text()) == {
        "default_profile": "test",
        "profiles": {"prod": {"cloud": "prod", "verify": True}, "test": {"abort_above": "2%"}},
    }


def test_a_cloud_that_there_is_not_is_refused_with_those_that_there_are(nowhere: Bms) -> None:
    write_config(nowhere, PROD)
    for slip, meant in (
        ("prdo", "did you mean prod? The clouds are: prod, other"),
        ("x", "The clouds are: prod, other"),
    ):
        ended = nowhere("configure", "--profile", "prod", "--set", f"cloud={slip}")
        assert (ended.code, ended.out) == (2, "")
        assert ended.err == f"bms: cloud {slip}: clouds.yaml has no such cloud; {meant}\n"
    assert config_of(nowhere).read_text() == PROD
    assert nowhere("configure", "--profile", "prod", "--set", "cloud=other").err == ""
    # A cloud that has gone meanwhile does not keep anybody from setting the rest.
    write_config(nowhere, PROD.replace('"prod"', '"gone"'))
    assert nowhere("configure", "--profile", "prod", "--set", "wave=7").code == 0


def test_a_profile_without_a_name_is_the_default_one(nowhere: Bms) -> None:
    assert nowhere("configure", "--set", "wave=5").code == 0
    assert tomllib.loads(config_of(nowhere).read_text()) == {
        "default_profile": "default",
        "profiles": {"default": {"wave": 5}},
    }


def test_comments_and_what_this_version_does_not_know_stay(nowhere: Bms) -> None:
    text = (
        "# mine\n\n[profiles.prod]  # nights\nwave = 5  # it's enough\ncloud = 'a # b'\n\n"
        "[profiles.'new']\nfuture = [\n  1,\n]\n"
    )
    write_config(nowhere, text)
    assert (
        nowhere("configure", "--profile", "prod", "--set", "wave=6", "--set", "cloud=b", "--set", "verify=no").code == 2
    )
    assert config_of(nowhere).read_text() == text
    assert nowhere("configure", "--profile", "prod", "--set", "wave=6", "--set", "verify=true").code == 0
    assert config_of(nowhere).read_text() == text.replace("wave = 5", "wave = 6").replace(
        "'a # b'\n", "'a # b'\nverify = true\n"
    )


@pytest.mark.parametrize(
    "text",
    ["[profiles]\nprod = {wave = 5}\n", "profiles.prod.wave = 5\n", '[profiles.prod]\n"wa\\u0076e" = 5\n'],
)
def test_a_file_written_in_another_way_is_refused_and_left_alone(nowhere: Bms, text: str) -> None:
    write_config(nowhere, text)
    ended = nowhere("configure", "--profile", "prod", "--set", "wave=6")
    assert (ended.code, "nothing was written: edit the file" in ended.err) == (2, True)
    assert config_of(nowhere).read_text() == text


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "there is no terminal to ask on: say what is set"),
        (("--set", "wave"), "--set: expected KEY=VALUE"),
        (("--set", "wave=many"), "--set wave: expected a number of servers, from 1 on"),
        (("--set", "colour=red"), "--set colour: expected one of cloud, wave"),
        (("--set", "token=SECRET"), "--set token: no secret belongs in this file"),
        (("--set", "journal=postgresql://h/db?password=SECRET"), "--set journal: expected the address of a journal"),
        (("--set", "journal=postgresql://[SECRET/db"), "--set journal: expected the address of a journal"),
        (("--set", "wave=5", "--unset", "wave"), "--set wave and --unset wave: expected one of them"),
        (("--unset", "wave"), "--unset wave: the profile default does not set it"),
        (("--profile", "a b", "--set", "wave=5"), "--profile a b: expected letters, digits, - and _"),
        (("--list", "--set", "wave=5"), "--list and --show print only"),
        (("--show",), "there is no profile 'default'"),
    ],
)
def test_what_cannot_be_configured_is_refused(nowhere: Bms, arguments: tuple[str, ...], said: str) -> None:
    ended = nowhere("configure", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err
    assert "SECRET" not in ended.err
    assert not config_of(nowhere).exists()


def test_a_file_without_an_end_is_refused_by_its_beginning(nowhere: Bms) -> None:
    config_of(nowhere).parent.mkdir()
    config_of(nowhere).symlink_to("/dev/zero")
    ended = nowhere("configure", "--list")
    assert (ended.code, "line 1: expected TOML" in ended.err) == (2, True)


def test_what_another_command_has_written_meanwhile_stays(nowhere: Bms, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(_config: object, _name: str) -> tuple[dict[str, Any], bool]:
        write_config(nowhere, "[profiles.other]\nwave = 7\n")
        return {"wave": 5}, False

    monkeypatch.setattr(configure, "_ask", ask)
    assert nowhere("configure", "--profile", "prod").code == 0
    assert tomllib.loads(config_of(nowhere).read_text())["profiles"] == {"other": {"wave": 7}, "prod": {"wave": 5}}


def test_two_commands_do_not_write_at_once(nowhere: Bms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(configure, "_PATIENCE", 0.0)
    lock = FileLock(config_of(nowhere).with_name(".config.toml.lock"), os.O_CREAT)
    assert lock.try_acquire()
    ended = nowhere("configure", "--set", "wave=5")
    lock.release()
    assert (ended.code, "another command writes it; nothing was written" in ended.err) == (2, True)
    assert nowhere("configure", "--set", "wave=5").code == 0


def test_it_asks_on_a_terminal(nowhere: Bms) -> None:
    (nowhere.state / "clouds.json").write_text(json.dumps({"clouds": {"prod": CLOUD}}))
    with nowhere.on_a_terminal("configure", "--profile", "prod") as terminal:
        for question, reply in (
            ("cloud (one of prod) []: ", "prdo"),
            ("did you mean prod?", "prod"),
            ("wave (a number of servers, from 1 on) []: ", "many"),
            ("wave: expected a number", "50"),
            ("abort_above", ""),
            ("output", "json"),
            ("[y/N]", "y"),
        ):
            terminal.wait_for_text(question.rstrip())
            terminal.send(f"{reply}\n")
        assert terminal.end() == 0
    assert tomllib.loads(config_of(nowhere).read_text()) == {
        "default_profile": "prod",
        "profiles": {"prod": {"cloud": "prod", "wave": 50, "output": "json"}},
    }


VALUES = st.one_of(st.none(), st.booleans(), st.integers(1, 99), st.text(st.characters(codec="utf-8"), max_size=5))
NAMES = st.sampled_from(["prod", "test", "a-b"])


@given(st.lists(st.tuples(NAMES, st.sampled_from(sorted(KEYS)), VALUES), max_size=8))
def test_any_changes_one_after_another_are_what_is_read_then(changes: list[tuple[str, str, Any]]) -> None:
    text, wanted = "", dict[str, dict[str, Any]]()
    for name, key, value in changes:
        profile = wanted.setdefault(name, {})
        text = edit(text, name, {key: value})
        profile.pop(key, None) if value is None else profile.update({key: value})
    try:
        assert tomllib.loads(text).get("profiles", {}) == wanted
    except tomllib.TOMLDecodeError:
        # What is not readable again is refused; TOML has no way to write these characters without an escape.
        assert any(isinstance(value, str) and not value.isprintable() for _, _, value in changes)


def test_the_names_of_profiles_are_completed(nowhere: Bms) -> None:
    write_config(nowhere, PROD + "[profiles.test]\n")
    line = {"_BMS_COMPLETE": "bash_complete", "COMP_WORDS": "bms servers list --profile ", "COMP_CWORD": "4"}
    nowhere.environment |= line
    assert nowhere.in_a_process().out.split() == ["plain,prod", "plain,test"]


def test_nothing_is_imported_or_read_where_there_is_no_file(nowhere: Bms, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "bms_async.cli.access.profiles", None)
    assert nowhere("calls", "--json").code == 0
