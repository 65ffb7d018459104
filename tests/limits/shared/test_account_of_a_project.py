"""Processes of one project share its limits, whether their settings have its id or its name; no others do."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import anyio
import pytest

from bms_async import BmsClient, ConfigurationError, Limits, StaticToken
from bms_async.config import read_environment
from bms_async.limits import Account
from bms_async.limits.shared import sqlite
from bms_async.limits.shared.exchange import Exchange
from bms_async.limits.shared.messages import Terms
from bms_async.limits.shared.sqlite import SqliteStore
from bms_async.testing import SimulatedCloud
from tests.limits.shared._memory import MemoryState, MemoryStore
from tests.limits.shared._processes import opened_state, store_time, worst_window
from tests.limits.test_accounts import ADDRESS, Gateway, client_of
from tests.support.virtual_clock import run_patiently, run_virtually

HOST = "localhost"
CALLS = 30
"""Calls of each process: more than half of what the limit of ``servers.stop`` allows a minute."""


def environments(cloud: SimulatedCloud, store: str) -> list[dict[str, str]]:
    """Return what two processes of one project have set: its id, and its name."""
    by_id = {**cloud.environment("password"), "BMS_LIMITS": store}
    by_name = {**by_id, "OS_PROJECT_NAME": cloud.settings.project_name}
    del by_name["OS_PROJECT_ID"]
    return [by_id, by_name]


async def busiest_minute(cloud: SimulatedCloud, path: Path, processes: Sequence[dict[str, str]]) -> int:
    """Have each process make its calls at once; return the most that came to the cloud within a minute."""
    store = SqliteStore(path)
    await store.open()
    for name in (cloud.project_id, cloud.settings.project_name):
        await store.open_account(f"{HOST}/{name}")
    await store.aclose()
    server = cloud.ids[0]

    async def play(environment: dict[str, str]) -> None:
        bms = BmsClient.from_settings(read_environment(environment), transport=cloud.transport())
        async with bms, anyio.create_task_group() as calls:
            for _ in range(CALLS):
                calls.start_soon(bms.servers.stop, [server])

    async with anyio.create_task_group() as playing:
        for each in processes:
            playing.start_soon(play, each)
    return worst_window([call.at for call in cloud.calls if call.operation == "servers.stop"])


@pytest.mark.parametrize("named_by_the_settings", [False, True])
def test_r1_a_process_by_id_and_one_by_name_keep_the_limit_together(
    named_by_the_settings: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "limits.db"

    async def main() -> int:
        # The store's clock is the machine's, which does not follow this one.
        loop = asyncio.get_running_loop()
        monkeypatch.setattr(sqlite, "steady_time", lambda: 5000.0 + loop.time())
        cloud = SimulatedCloud()
        by_id, by_name = environments(cloud, f"sqlite://{path}")
        if named_by_the_settings:
            # As the account was called before: by what the settings have of the project.
            by_name["BMS_LIMITS_ACCOUNT"] = f"{HOST}/{cloud.settings.project_name}"
        return await busiest_minute(cloud, path, [by_id, by_name])

    busiest = run_patiently(main)
    assert busiest > 50 if named_by_the_settings else busiest == 50


KEYSTONE = "fd73a4a1bce74b9e8f0c3c2b4d5e6f70"


@pytest.mark.parametrize(
    ("address", "project", "name"),
    [
        ("https://bms.example.com", "p-1", "bms.example.com/p-1"),
        ("https://BMS.Example.com.:443/", "p-1", "bms.example.com/p-1"),
        ("http://localhost:80", "p-1", "localhost/p-1"),
        ("http://localhost:443", "p-1", "localhost:443/p-1"),
        ("https://gateway.example.com:8443/Bms/", "p-1", "gateway.example.com:8443/Bms/p-1"),
        ("http://[::1]:8080", "p-1", "[::1]:8080/p-1"),
        ("https://[::1]", "p-1", "[::1]/p-1"),
        ("https://bms.example.com", KEYSTONE, f"bms.example.com/{KEYSTONE}"),
        ("https://bms.example.com", KEYSTONE.upper(), f"bms.example.com/{KEYSTONE}"),
        ("https://bms.example.com", "FD73A4A1-BCE7-4B9E-8F0C-3C2B4D5E6F70", f"bms.example.com/{KEYSTONE}"),
        # What is no id of Keystone's may be another one in lower case.
        ("https://bms.example.com", "P-1", "bms.example.com/P-1"),
        ("https://bms.example.com", None, None),
    ],
)
def test_an_account_has_one_name_however_its_address_and_its_project_are_written(
    address: str, project: str | None, name: str | None
) -> None:
    assert Account.at(address, project).name == name


def of_project(state: MemoryState) -> Limits:
    """Return what `Limits.shared` makes without an account, with a store of the test's."""
    limits = Limits.shared("sqlite:///nowhere/x.db")
    limits._exchange = Exchange(None, lambda: MemoryStore(state), Terms())
    return limits


def named_north(gateway: Gateway, limits: Limits) -> BmsClient:
    """A client that has its project's name; its id is ``by-name``."""
    return BmsClient(
        endpoint=ADDRESS, project_name="north", auth=StaticToken("t"), transport=gateway, limits=limits, retry=None
    )


async def opened_for(*projects: str) -> MemoryState:
    state = await opened_state()
    store = MemoryStore(state)
    await store.open()
    for project in projects:
        await store.open_account(f"bms.accounts.example/{project}")
    return state


def asked(state: MemoryState) -> set[str]:
    return {account for account, _, _ in state.asked}


def test_two_projects_of_one_name_in_two_domains_have_an_account_each() -> None:
    class Elsewhere(Gateway):
        projects = b'{"projects": [{"id": "of-another-domain", "name": "north"}]}'

    async def main() -> None:
        state, here, there = await opened_for("by-name", "of-another-domain"), Gateway(), Elsewhere()
        async with (
            named_north(here, of_project(state)) as one,
            named_north(there, of_project(state)) as other,
            anyio.create_task_group() as calls,
        ):
            for bms in [one, other] * 50:
                calls.start_soon(bms.servers.stop, ["s-1"])
            await anyio.sleep(10)
            # Neither waits for the other.
            assert (len(here.stops), len(there.stops)) == (50, 50)
        assert asked(state) == {"bms.accounts.example/by-name", "bms.accounts.example/of-another-domain"}

    run_virtually(main)


def test_nothing_is_asked_for_before_the_id_is_known_and_all_that_is_limited_waits_for_it() -> None:
    async def main() -> None:
        state = await opened_for("by-name")
        limits = of_project(state)
        async with named_north(Gateway(), limits) as bms:
            assert repr(limits) == "<Limits of a project in memory>"
            shared = limits["servers.stop"].statistics().shared
            assert shared is not None
            assert shared.account is None
            with pytest.raises(ConfigurationError, match="expected the project's id to be known"):
                await limits["servers.stop"].acquire()
            limits["servers.stop"].restore([30.0])
            await bms.identity.projects()
            await anyio.sleep(30)
            assert asked(state) == set()
            # Its path has no project, and its limit is the project's all the same.
            await bms.versions.list()
            assert bms.project_id == "by-name"
            assert asked(state) == {"bms.accounts.example/by-name"}
        assert repr(limits) == "<Limits of account 'bms.accounts.example/by-name' in memory>"

    run_virtually(main)


def test_a_store_that_is_away_while_the_id_is_found_is_waited_for_and_asked_by_that_name() -> None:
    async def main() -> None:
        state = MemoryState(store_time)
        state.away = True
        async with named_north(Gateway(), of_project(state)) as bms, anyio.create_task_group() as calls:
            calls.start_soon(bms.servers.stop, ["s-1"])
            await anyio.sleep(60)
            assert bms.project_id == "by-name"
            state.away = False
        assert asked(state) == {"bms.accounts.example/by-name"}

    run_virtually(main)


def test_limits_of_one_project_are_refused_to_a_client_of_another_one() -> None:
    async def main() -> None:
        state, gateway = await opened_for("p-1"), Gateway()
        limits = of_project(state)
        async with client_of(gateway, "p-1", limits=limits) as first:
            with pytest.raises(ConfigurationError, match=r"those of bms\.accounts\.example/p-1, and the client's"):
                async with client_of(gateway, "p-2", limits=limits):
                    pass
            async with named_north(gateway, limits) as other:
                for _ in range(2):
                    with pytest.raises(ConfigurationError, match="make Limits for each project, or name by account="):
                        await other.servers.stop(["s-1"])
            async with client_of(gateway, "p-1", limits=limits, endpoint=f"{ADDRESS}.:443") as same:
                await same.servers.stop(["s-1"])
            await first.servers.stop(["s-1"])
        assert asked(state) == {"bms.accounts.example/p-1"}
        assert len(gateway.stops) == 2

    run_virtually(main)


def test_clients_of_one_project_with_such_limits_each_are_not_warned_that_they_count_apart(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def main() -> None:
        state, gateway = await opened_for("by-name"), Gateway()
        async with (
            client_of(gateway, "by-name", limits=of_project(state)),
            client_of(gateway, "by-name", limits=of_project(state)) as one,
            named_north(gateway, of_project(state)) as other,
        ):
            await one.servers.stop(["s-1"])
            await other.servers.stop(["s-1"])
        assert not caplog.records

    caplog.set_level(logging.WARNING, logger="bms_async.limits")
    run_virtually(main)


def test_a_client_that_is_refused_on_another_event_loop_does_not_name_the_account() -> None:
    async def open_there(limits: Limits) -> None:
        async with client_of(Gateway(), "p-2", limits=limits):
            pass

    async def main() -> None:
        limits = of_project(await opened_for("by-name"))
        async with named_north(Gateway(), limits) as bms:
            with pytest.raises(ConfigurationError, match="one event loop at a time"):
                await asyncio.to_thread(asyncio.run, open_there(limits))
            await bms.servers.stop(["s-1"])

    asyncio.run(main())


def test_a_name_that_is_given_is_that_of_all_projects() -> None:
    async def main() -> None:
        state, gateway = await opened_state(), Gateway()
        limits = Limits.shared("sqlite:///nowhere/x.db", account="prod")
        limits._exchange = Exchange("prod", lambda: MemoryStore(state), Terms())
        async with client_of(gateway, "p-1", limits=limits) as one, named_north(gateway, limits) as other:
            await one.servers.stop(["s-1"])
            await other.servers.stop(["s-1"])
        assert asked(state) == {"prod"}

    run_virtually(main)


@pytest.mark.parametrize("name", ["identity.create_token", "identity.projects"])
def test_calls_that_find_the_id_have_no_limit_that_is_kept_by_it(name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"expected no limit of {name} without account="):
        Limits.shared(changes={name: 5})
    Limits.shared(account="prod", changes={name: 5})
    Limits.shared(changes={name: None, "servers.stop": 5})
