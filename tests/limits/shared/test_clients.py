"""Whole clients that share their limits with other processes: opening, closing, settings, and what is refused."""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path

import anyio
import pytest

from bms_async import BmsClient, ClientClosedError, ConfigurationError, Limits
from bms_async.config import read_cloud, read_environment
from bms_async.limits.shared.exchange import Exchange
from bms_async.limits.shared.messages import Answer, Question, Terms
from bms_async.limits.shared.store import StoreError
from bms_async.wire import HttpRequest
from tests.limits.shared._memory import MemoryState, MemoryStore
from tests.limits.shared._processes import ACCOUNT, opened_state, store_time
from tests.limits.test_accounts import ADDRESS, Gateway, client_of
from tests.secrets._search import family
from tests.support.virtual_clock import run_virtually

SETTINGS = {"BMS_ENDPOINT": "https://bms.example.com", "OS_TOKEN": "t", "OS_PROJECT_ID": "p-1"}


def shared(store: MemoryStore) -> Limits:
    limits = Limits.shared("sqlite:///nowhere/x.db", account=ACCOUNT)
    limits._exchange = Exchange(ACCOUNT, lambda: store, Terms())
    return limits


def test_two_clients_with_limits_of_one_account_keep_them_together_and_leave_nothing_behind() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        async with (
            client_of(gateway, limits=shared(MemoryStore(state))) as first,
            client_of(gateway, limits=shared(MemoryStore(state))) as second,
            anyio.create_task_group() as tasks,
        ):
            for number in range(80):
                tasks.start_soon((first, second)[number % 2].servers.stop, ["s-1"])
            await anyio.sleep(50)
            assert len(gateway.stops) == 50
        assert len(gateway.stops) == 80
        assert len(asyncio.all_tasks()) == 1
        store = MemoryStore(state)
        await store.open()
        usage = await store.read(ACCOUNT)
        assert not any(holder.held for ledger in usage.ledgers.values() for holder in ledger.holders)

    run_virtually(main)


def test_one_of_two_clients_with_the_same_limits_may_be_closed_before_the_other() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        limits = shared(MemoryStore(state))
        async with client_of(gateway, limits=limits) as first:
            async with client_of(gateway, limits=limits) as second:
                await second.servers.stop(["s-1"])
            assert not any(question.leaving for _, _, question in state.asked)
            await first.servers.stop(["s-1"])
        assert state.asked[-1][2].leaving

    run_virtually(main)


def test_a_call_that_waits_for_a_store_that_is_away_ends_when_the_client_is_closed() -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        state.away = True
        bms = client_of(gateway, limits=shared(MemoryStore(state)))

        async def call() -> None:
            with pytest.raises(ClientClosedError):
                await bms.servers.stop(["s-1"])

        async with anyio.create_task_group() as tasks, bms:
            tasks.start_soon(call)
            await anyio.sleep(10)
        assert len(asyncio.all_tasks()) == 1

    run_virtually(main)


class SlowCredentials:
    """A plain token that takes its time: long enough for the lease of the slot to be over."""

    def __init__(self) -> None:
        self.seconds = 0.0

    async def headers(self, request: HttpRequest) -> Mapping[str, str]:
        await anyio.sleep(self.seconds)
        return {"X-Auth-Token": "t"}

    def redact(self, text: str) -> str:
        return text


@pytest.mark.parametrize("guard", [True, False])
def test_a_call_whose_lease_is_over_once_its_credentials_come_is_not_sent_with_that_slot(
    guard: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not guard:
        monkeypatch.setattr("bms_async.limits.shared.limiter.SharedLimiter.has_leases", False)

    async def main() -> None:
        gateway, state, auth = Gateway(), await opened_state(), SlowCredentials()
        limits = shared(MemoryStore(state))
        async with (
            BmsClient(endpoint=ADDRESS, project_id="p-1", auth=auth, transport=gateway, limits=limits) as bms,
            anyio.create_task_group() as tasks,
        ):
            auth.seconds = 20.0
            tasks.start_soon(bms.servers.stop, ["s-1"])
            await anyio.sleep(1)
            state.away = True
            auth.seconds = 0.0
            await anyio.sleep(59)
            assert len(gateway.stops) == (0 if guard else 1)
            state.away = False
        assert len(gateway.stops) == 1

    run_virtually(main)


class Refusing(MemoryStore):
    async def open(self) -> None:
        raise StoreError("the store refuses the password")


def test_a_client_whose_store_refuses_does_not_open_and_leaves_nothing_behind(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        bms = client_of(Gateway(), limits=shared(Refusing(MemoryState(store_time))))
        with pytest.raises(ConfigurationError, match=r"Limits\.shared: the store refuses the password"):
            async with bms:
                pass
        assert len(asyncio.all_tasks()) == 1
        # The error says all of it.
        assert not caplog.records

    caplog.set_level(logging.WARNING, logger="bms_async.limits")
    run_virtually(main)


class RefusingLater(MemoryStore):
    refuses = False

    async def ask(self, account: str, questions: Sequence[tuple[str, Question]]) -> list[Answer]:
        if self.refuses:
            raise StoreError(f"{self.label}: the password has changed")
        return await super().ask(account, questions)


def test_a_store_that_refuses_an_open_client_is_logged_once_with_the_reason(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        store = RefusingLater(await opened_state())
        async with client_of(Gateway(), limits=shared(store)) as bms, anyio.create_task_group() as tasks:
            store.refuses = True
            tasks.start_soon(bms.servers.stop, ["s-1"])
            await anyio.sleep(60)
            [said] = [record.message for record in caplog.records if record.name == "bms_async.limits"]
            assert said.endswith("refuses to be used (the password has changed): calls wait until that is mended")
            seen = bms.limits["servers.stop"].statistics().shared
            assert seen is not None
            assert seen.error == "the password has changed"
            assert 55 < (seen.unreachable_for or 0) <= 60
            tasks.cancel_scope.cancel()

    caplog.set_level(logging.WARNING, logger="bms_async.limits")
    run_virtually(main)


def test_clients_that_share_by_one_store_are_not_warned_that_they_count_apart(caplog: pytest.LogCaptureFixture) -> None:
    async def main() -> None:
        gateway, state = Gateway(), await opened_state()
        async with (
            client_of(gateway, "p-77", limits=shared(MemoryStore(state))),
            client_of(gateway, "p-77", limits=shared(MemoryStore(state))),
        ):
            assert not caplog.records
            async with client_of(gateway, "p-77", limits=Limits()):
                assert "different Limits" in caplog.text

    caplog.set_level(logging.WARNING, logger="bms_async.limits")
    run_virtually(main)


def test_the_environment_names_the_store_and_the_account() -> None:
    environment = SETTINGS | {"BMS_LIMITS": "redis://ops:hunter2@limits:6379/0", "BMS_LIMITS_ACCOUNT": "prod-eu"}
    settings = read_environment(environment)
    assert settings.limits == "redis://ops:hunter2@limits:6379/0"
    assert settings.limits_account == "prod-eu"
    bms = BmsClient.from_settings(settings)
    for text in (repr(settings), repr(bms.limits), str(bms)):
        assert "hunter2" not in text
    assert repr(bms.limits) == "<Limits of account 'prod-eu' in redis://limits:6379/0>"


def test_an_account_without_a_name_is_that_of_the_endpoint_and_the_project() -> None:
    settings = read_environment(SETTINGS | {"BMS_LIMITS": "machine"})
    assert settings.limits_account is None

    async def main() -> None:
        async with BmsClient.from_settings(settings, transport=Gateway()) as bms:
            assert repr(bms.limits).startswith("<Limits of account 'bms.example.com/p-1' in ")

    run_virtually(main)


def test_limits_that_are_given_go_before_the_environment() -> None:
    own = Limits({"servers.stop": 3})
    settings = read_environment(SETTINGS | {"BMS_LIMITS": "machine"})
    assert BmsClient.from_settings(settings, limits=own).limits is own
    assert BmsClient.from_settings(read_environment(SETTINGS)).limits._exchange is None


@pytest.mark.parametrize(
    ("cloud", "environment", "expected"),
    [
        ({"bms_limits": "machine", "bms_limits_account": "a"}, {}, ("machine", "a")),
        ({}, {"BMS_LIMITS": "machine", "BMS_LIMITS_ACCOUNT": "b"}, ("machine", "b")),
        ({"bms_limits": "sqlite:///x/y"}, {"BMS_LIMITS": "machine"}, ("sqlite:///x/y", None)),
        ({}, {}, (None, None)),
    ],
)
def test_a_cloud_names_its_store_and_the_environment_one_for_all_others(
    tmp_path: Path, cloud: Mapping[str, str], environment: Mapping[str, str], expected: tuple[str | None, str | None]
) -> None:
    file = tmp_path / "clouds.yaml"
    lines = [f"    {key}: {value}" for key, value in cloud.items()]
    lines += ["    bms_endpoint_override: https://bms.example.com", "    auth: {token: t, project_id: p-1}"]
    file.write_text("clouds:\n  eu:\n" + "\n".join(lines) + "\n")
    settings = read_cloud("eu", {"OS_CLIENT_CONFIG_FILE": str(file), **environment})
    assert (settings.limits, settings.limits_account) == expected


@pytest.mark.parametrize(
    ("store", "text"),
    [
        ("mysql://host/db", "expected the address of a store"),
        ("redis:6379", "expected the address of a store"),
        ("redis://", "expected the store's host"),
        ("unix://", "expected the store's host"),
        ("postgresql://", "expected the store's host"),
        ("sqlite:///var/lib/a#b.db", "percent-encode '.' and '#'"),
        ("sqlite:///var/lib/a.db?mode=ro", "percent-encode '.' and '#'"),
        ("redis://host:port/0", "expected a valid address"),
        ("sqlite://", "expected the whole path of a file"),
        ("sqlite://relative/x.db", "expected the whole path of a file"),
        (7, "expected the address of a store"),
    ],
)
def test_what_is_no_store_is_refused_and_the_text_says_what_is_expected(store: str, text: str) -> None:
    with pytest.raises(ConfigurationError, match=f"store=.*{text}"):
        Limits.shared(store, account="a")


@pytest.mark.parametrize(
    "store",
    [
        "mysql://u:k4n4ry-pass@host/db",
        "redis://:k4n4ry-pass@host:port/0",
        "postgresql://u:k4n4ry-pass@[::1/db",
        "postgresql://u:k4n4ry-pass@/x@y",
    ],
)
def test_no_frame_of_the_error_for_what_is_no_store_shows_its_password(store: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        Limits.shared(store, account="a")
    frames = [frame for each in family(refused.value) for frame, _ in traceback.walk_tb(each.__traceback__)]
    # That of the test itself has the plain address, and a store that is half made has no repr.
    shown = [
        repr({name: value for name, value in frame.f_locals.items() if name != "self"})
        for frame in frames
        if frame.f_code.co_filename != __file__
    ]
    assert shown
    assert "k4n4ry-pass" not in f"{shown}"


@pytest.mark.parametrize(
    ("store", "label"),
    [
        ("unix:///run/redis.sock?db=2", "unix:///run/redis.sock?db=2"),
        ("valkey+unix:///run/redis.sock", "unix:///run/redis.sock?db=0"),
        ("postgresql://u:p%40%2F@one:1,two:2/db", "postgresql://one:1,two:2/db"),
        ("postgresql://[::1]/db", "postgresql://[::1]/db"),
        ("postgresql:///db?host=/run/postgresql", "postgresql:///db?host=/run/postgresql"),
        ("postgresql:///db", "postgresql:///db"),
        ("sqlite:///var/lib/a%23b%3Fc d.db", "/var/lib/a#b?c d.db"),
    ],
)
async def test_sockets_and_several_hosts_are_stores_too(store: str, label: str) -> None:
    exchange = Limits.shared(store, account="a")._exchange
    assert exchange is not None
    assert exchange.store.label == label


@pytest.mark.parametrize("account", ["", "a\nb", "x" * 201, 7])
def test_what_is_no_name_of_an_account_is_refused(account: str) -> None:
    with pytest.raises(ConfigurationError, match=r"account=.*expected a name of 1 to 200 printable characters"):
        Limits.shared("machine", account=account)


@pytest.mark.parametrize("share", [0, -1, 1.5])
def test_what_is_no_share_is_refused(share: float) -> None:
    with pytest.raises(ConfigurationError, match=r"without_store=.*above 0 and at most 1"):
        Limits.shared("machine", account="a", without_store=share)


@pytest.mark.parametrize(
    ("store", "extra"), [("redis://h", "redis"), ("valkey://h", "redis"), ("postgresql://h", "postgres")]
)
def test_a_store_whose_extra_is_missing_is_named_with_the_extra(
    store: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bms_async._addresses.is_installed", lambda _: False)
    with pytest.raises(ConfigurationError, match=rf"needs the extra '{extra}': pip install 'bms-async\[{extra}\]'"):
        Limits.shared(store, account="a")
