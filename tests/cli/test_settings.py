from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli._helpers import Bms


def write_clouds(folder: Path, **clouds: dict[str, Any]) -> None:
    (folder / "clouds.json").write_text(json.dumps({"clouds": clouds}))


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


@pytest.mark.parametrize("arguments", [("-vv", "quota"), ("quota", "-vv"), ("-v", "quota", "-v")], ids=" ".join)
def test_a_log_is_asked_for_before_the_command_or_after_it(cloud: Bms, arguments: tuple[str, ...]) -> None:
    logged = cloud(*arguments)
    assert logged.err.startswith("DEBUG bms_async")
    lines = logged.err.splitlines()
    assert len(lines) == len(set(lines))
    assert cloud("quota").err == ""
