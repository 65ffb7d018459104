"""The clock of leases, and the name of the time since the machine came up."""

from __future__ import annotations

import ctypes
import sys
import time
from pathlib import Path

import pytest

from bms_async import _clock as clock


@pytest.mark.parametrize(("has_boottime", "platform"), [(True, "linux"), (False, "darwin"), (False, "win32")])
def test_the_clock_is_the_one_that_goes_on_in_sleep(
    has_boottime: bool, platform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(time, "CLOCK_BOOTTIME", 7, raising=False)
    if not has_boottime:
        monkeypatch.delattr(time, "CLOCK_BOOTTIME")
    monkeypatch.setattr(sys, "platform", platform)
    read = clock._bind()
    expected = {
        "linux": (time.clock_gettime, (7,)),
        "darwin": (time.clock_gettime, (time.CLOCK_MONOTONIC,)),
        "win32": (time.monotonic, ()),
    }
    assert (read.func, read.args) == expected[platform]


def test_the_clock_goes_forward() -> None:
    assert 0 < clock.steady_time() <= clock.steady_time()


def test_a_boot_has_a_name_that_stays() -> None:
    assert clock.boot_id() == clock.boot_id() != ""


def test_a_system_without_boot_ids_has_an_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(clock, "_BOOT_ID", tmp_path / "missing")
    assert clock.boot_id() == ""
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    assert clock.boot_id() == ""


@pytest.mark.parametrize(
    ("content", "offset"),
    [
        ("monotonic           0         0\nboottime            0         0\n", 0.0),
        ("monotonic          50         0\nboottime    -10     500000000\n", -9.5),
        (None, 0.0),
    ],
)
def test_a_container_with_a_time_of_its_own_is_known(
    content: str | None, offset: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offsets = tmp_path / "timens_offsets"
    if content is not None:
        offsets.write_text(content)
    monkeypatch.setattr(clock, "_OFFSETS", offsets)
    assert clock.namespace_offset() == offset
