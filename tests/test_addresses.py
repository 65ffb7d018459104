"""Which file or server an address of a store means, for a kind of store that is not that of the limits."""

from __future__ import annotations

import traceback
from pathlib import Path

import pytest

from bms_async import ConfigurationError
from bms_async import _addresses as addresses
from bms_async._addresses import AddressKind, ServerAddress, find_file, find_server, state_folder
from bms_async.redaction import SecretStr
from tests.secrets._search import family

CANARY = "k4n4ry-pass"
RUNS = AddressKind(
    file="runs.db",
    schemes={"sqlite", "postgresql", "postgres"},
    expected="'postgresql://user@host/db', 'sqlite:///path' or 'machine'",
)


@pytest.mark.parametrize("address", [None, "machine"])
def test_the_file_of_this_machine_has_the_name_of_its_kind(
    address: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert find_file("runs", address, RUNS) == state_folder() / "runs.db" == tmp_path / "bms" / "runs.db"
    assert find_file("runs", address, RUNS._replace(file="others.db")) == tmp_path / "bms" / "others.db"


@pytest.mark.parametrize("address", ["sqlite:///var/lib/a b.db", "SQLITE:////var/lib/a%20b.db"])
def test_the_address_of_a_file_is_its_path(address: str) -> None:
    assert find_file("runs", address, RUNS) == Path("/var/lib/a b.db")


@pytest.mark.parametrize("scheme", ["postgresql", "postgres"])
def test_the_address_of_a_server_names_its_driver_and_is_kept_as_a_secret(scheme: str) -> None:
    address = f"{scheme}://u:{CANARY}@one:1,two:2/db"
    assert find_file("runs", address, RUNS) is None
    found = find_server("runs", address, RUNS)
    assert found == ServerAddress("asyncpg", SecretStr(address))
    assert CANARY not in repr(found)


@pytest.mark.parametrize(
    ("address", "text"),
    [
        (f"redis://:{CANARY}@host/0", "expected the address of a store: 'postgresql://user@host/db', 'sqlite:///path'"),
        ("runs.db", "expected the address of a store"),
        ("sqlite:runs.db", "expected the address of a store"),
        ("sqlite://runs.db", "such as 'sqlite:///var/lib/bms/runs.db'"),
        ("sqlite:///", "such as 'sqlite:///var/lib/bms/runs.db'"),
        ("sqlite:///a.db?mode=ro", "percent-encode"),
        (f"postgresql://u:{CANARY}@host:port/db", "expected a valid address of a store: 'postgresql://user@host/db'"),
        (f"postgresql://u:{CANARY}@[::1/db", "expected a valid address of a store"),
        ("postgresql://", "expected the store's host"),
    ],
)
def test_what_is_no_address_of_this_kind_is_refused_and_no_frame_shows_a_password(address: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"runs=.*{text}") as refused:
        _ = find_file("runs", SecretStr(address), RUNS) or find_server("runs", SecretStr(address), RUNS)
    frames = [frame for each in family(refused.value) for frame, _ in traceback.walk_tb(each.__traceback__)]
    shown = [repr(frame.f_locals) for frame in frames if frame.f_code.co_filename != __file__]
    assert shown
    assert CANARY not in f"{refused.value!r} {shown}"


def test_a_driver_that_is_missing_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(addresses, "is_installed", lambda _: False)
    with pytest.raises(ConfigurationError, match=r"needs the extra 'postgres': pip install 'bms-async\[postgres\]'"):
        find_server("runs", f"postgresql://u:{CANARY}@host/db", RUNS)


def test_a_machine_without_a_place_for_the_file_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_home() -> Path:
        raise RuntimeError("there is no home folder")

    monkeypatch.delenv("XDG_STATE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    with pytest.raises(ConfigurationError, match=r"runs=None: .* set XDG_STATE_HOME"):
        find_file("runs", None, RUNS)
