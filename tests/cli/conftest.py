from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from bms_async.fleet import proving
from tests.cli._helpers import Bms, simulator


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bms]:
    """The command, in a quick cloud of 300 servers of which one in twenty fails."""
    with simulator("--servers", "300", "--job-seconds", "0.2", "0.6", "--fail-share", "0.05") as exports:
        yield Bms(exports, tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def healthy_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bms]:
    """The command, in a quick cloud of 300 servers of which none fails."""
    with simulator("--servers", "300", "--job-seconds", "0.2", "0.6") as exports:
        yield Bms(exports, tmp_path_factory.mktemp("state"))


@pytest.fixture(scope="module")
def slow_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bms]:
    """The command, in a cloud of 300 servers that take their time."""
    with simulator("--servers", "300", "--job-seconds", "2.5", "3") as exports:
        yield Bms(exports, tmp_path_factory.mktemp("state"))


@pytest.fixture
def nowhere(tmp_path: Path) -> Bms:
    """The command, without any settings."""
    return Bms({}, tmp_path)


@pytest.fixture(scope="module")
def endless_cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bms]:
    """The command, in a cloud of 300 servers whose jobs end on no day of ours."""
    with simulator("--servers", "300", "--job-seconds", "90000", "90000") as exports:
        yield Bms(exports, tmp_path_factory.mktemp("state"))


@pytest.fixture
def quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have servers whose states prove nothing given up soon by what runs in this process."""
    monkeypatch.setattr(proving, "_IDLE_TIMEOUT", 0.5)
    monkeypatch.setattr(proving, "_POLL_DELAYS", (0.1,))
