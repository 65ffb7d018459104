"""Many clients are opened and closed together, and each of them costs only its own (R4)."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any, Self

import anyio
import pytest

from bms_async import (
    BmsClient,
    ClientClosedError,
    CloudOutcome,
    Clouds,
    CloudsRun,
    ConfigurationError,
    InvalidRequestError,
    JournalError,
    Limits,
    OutcomeState,
    StaticToken,
)
from bms_async.clouds.members import Members
from tests.clouds._helpers import Dead, Unopened, assert_one_each, client_over, cloud_of, nothing_is_left
from tests.support.virtual_clock import advance, run_virtually

S = OutcomeState


class Hooked(BmsClient):
    """A client whose opening does something else first, and whose closing does so in the end, once."""

    on_open: Callable[[], Any] | None = None
    on_close: Callable[[], Any] | None = None

    async def __aenter__(self) -> Self:
        if self.on_open is not None:
            await self.on_open()
        return await super().__aenter__()

    async def aclose(self) -> None:
        await super().aclose()
        on_close, self.on_close = self.on_close, None
        if on_close is not None:
            await on_close()


def hooked(**hooks: Any) -> Hooked:
    client = Hooked(endpoint="http://127.0.0.1:1", project_id="p", auth=StaticToken("t"), transport=Dead())
    for name, hook in hooks.items():
        setattr(client, name, hook)
    return client


def is_open(client: BmsClient) -> bool:
    return client._core.is_open


def test_clouds_are_a_mapping_of_open_clients() -> None:
    async def main() -> None:
        eu, us = cloud_of("eu"), cloud_of("us")
        clients = {"eu": eu.client(), "us": us.client()}
        with nothing_is_left():
            async with Clouds(clients) as clouds:
                assert clouds["eu"] is clients["eu"]
                assert (list(clouds), len(clouds), clouds.names) == (["eu", "us"], 2, ("eu", "us"))
                assert ("eu" in clouds, "asia" in clouds, clouds.get("asia")) == (True, False, None)
                assert dict(clouds) == clients
                assert all(map(is_open, clients.values()))
                assert (await clouds["us"].servers.get(us.ids[0])).id == us.ids[0]
                with pytest.raises(InvalidRequestError, match="expected one of the clouds 'eu', 'us'"):
                    clouds["asia"]
                assert repr(clouds) == "<Clouds open: eu, us>"
                assert {clouds: 1}[clouds] == 1
        assert not any(map(is_open, clients.values()))
        assert repr(clouds) == "<Clouds closed: eu, us>"

    run_virtually(main)


def test_all_are_opened_at_once_and_closed_at_once() -> None:
    async def main() -> None:
        async def linger() -> None:
            await anyio.sleep(3)

        begun = anyio.current_time()
        async with Clouds({str(number): hooked(on_open=linger, on_close=linger) for number in range(10)}):
            assert anyio.current_time() - begun == pytest.approx(3, abs=0.1)
            begun = anyio.current_time()
        assert anyio.current_time() - begun == pytest.approx(3, abs=0.1)

    run_virtually(main)


@pytest.mark.parametrize("error", [JournalError("away"), OSError("secret words"), SystemExit(3)])
def test_a_cloud_that_cannot_be_opened_is_not_there_and_says_why(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    async def main() -> None:
        eu = cloud_of("eu")
        async with Clouds({"eu": eu.client(), "away": client_over(Unopened(error))}) as clouds:
            assert (list(clouds), len(clouds), clouds.names) == (["eu"], 1, ("eu", "away"))
            assert ("away" in clouds, clouds.get("away")) == (False, None)
            assert repr(clouds) == "<Clouds open: eu; could not be opened: away>"
            with pytest.raises(ClientClosedError, match="the cloud 'away' could not be opened") as caught:
                clouds["away"]
            assert caught.value.__cause__ is clouds.failures["away"]
            assert list(clouds.failures) == ["away"]
            report = await clouds.fleet.stop({"eu": eu.ids, "away": iter(eu.ids)})
            assert report.by_cloud["eu"].by_state[S.SUCCEEDED] == 20
            assert report.by_cloud["away"].by_state[S.SKIPPED] == 20
            assert report.by_code == {"ClientClosedError": 20}
        assert "secret words" not in caplog.text + str(caught.value)

    with caplog.at_level(logging.WARNING, "bms_async"):
        run_virtually(main)
    assert "the cloud 'away' could not be opened, and its servers are skipped" in caplog.text


def test_every_server_of_clouds_that_are_all_away_has_its_outcome() -> None:
    async def main() -> None:
        ids = {"a": [f"server-{number}" for number in range(3000)], "b": ["server-1", "not an id"]}
        async with Clouds({"a": client_over(Unopened()), "b": client_over(Unopened())}) as clouds:
            run = clouds.fleet.reboot(ids)
            outcomes = [outcome async for outcome in run]
            assert run.progress.done == run.progress.total == 3002
            each = await clouds.fleet.each({"a": ids["a"][:3]}, lambda bms, server_id: bms.servers.get(server_id))
        assert_one_each(ids, outcomes)
        assert {outcome.state for outcome in [*outcomes, *each]} == {S.SKIPPED}

    run_virtually(main)


def test_a_run_in_a_cloud_that_is_away_can_be_ended_too() -> None:
    async def main() -> None:
        async def servers() -> Any:
            yield "server-1"
            await anyio.sleep_forever()

        with nothing_is_left():
            async with Clouds({"away": client_over(Unopened())}) as clouds:
                for detach in (False, True):
                    run = clouds.fleet.stop({"away": servers()})
                    await advance(10)
                    assert run.progress.done == 1
                    run.cancel(detach=detach)
                    assert len(await run) == 1
                left = clouds.fleet.stop({"away": servers()})
                await advance(10)
            assert left.report is not None
            assert len(left.report) == 1

    run_virtually(main)


def test_a_cloud_whose_client_was_closed_by_itself_costs_only_its_own() -> None:
    async def main() -> None:
        eu, us = cloud_of("eu"), cloud_of("us")
        async with Clouds({"eu": eu.client(), "us": us.client()}) as clouds:
            await clouds["us"].aclose()
            report = await clouds.fleet.stop({"eu": eu.ids, "us": us.ids})
        assert report.by_cloud["eu"].by_state[S.SUCCEEDED] == 20
        assert report.by_cloud["us"].by_state[S.SKIPPED] == 20

    run_virtually(main)


def test_closing_in_the_middle_of_a_run_gives_every_server_its_outcome() -> None:
    async def main() -> None:
        eu, us = cloud_of("eu"), cloud_of("us")
        ids = {"eu": eu.ids, "us": us.ids, "away": ["server-1"]}
        with nothing_is_left():
            clients = {"eu": eu.client(), "us": us.client(), "away": client_over(Unopened())}
            async with Clouds(clients) as clouds:
                run = clouds.fleet.stop(ids, wave_size=10)
                waiter = asyncio.ensure_future(waited(run))
                await advance(2)
            assert_one_each(ids, await asyncio.wait_for(waiter, 1))
            assert run.report is not None
            assert run.report.by_state[S.UNKNOWN] == 20
        with pytest.raises(ClientClosedError, match="not open"):
            clouds.fleet.stop(ids)

    run_virtually(main)


async def waited(run: CloudsRun) -> list[CloudOutcome]:
    return [outcome async for outcome in run]


def test_a_function_that_is_handed_an_outcome_may_close_the_clouds() -> None:
    async def main() -> None:
        eu, us = cloud_of("eu"), cloud_of("us")
        ids = {"eu": eu.ids, "us": us.ids, "away": ["server-1"]}
        for closer in ids:
            clouds = Clouds({"eu": eu.client(), "us": us.client(), "away": client_over(Unopened())})

            async def leave(outcome: CloudOutcome, clouds: Clouds = clouds, closer: str = closer) -> None:
                if outcome.cloud == closer:
                    await clouds.aclose()

            with nothing_is_left():
                await clouds.__aenter__()
                run = clouds.fleet.reboot(ids, on_outcome=leave)
                outcomes = await asyncio.wait_for(waited(run), 600)
                await clouds.aclose()
            assert_one_each(ids, outcomes)

    run_virtually(main)


def test_closing_goes_on_when_one_fails_and_says_which() -> None:
    async def main() -> None:
        async def fail() -> None:
            raise OSError("it does not close")

        async def refuse() -> None:
            raise asyncio.CancelledError

        clients = {"a": hooked(on_close=fail), "b": hooked(), "c": hooked(on_close=refuse), "d": hooked()}
        clouds = Clouds(clients)
        with nothing_is_left():
            await clouds.__aenter__()
            with pytest.raises(ExceptionGroup, match="closing failed for a, c; the others are closed") as caught:
                await clouds.aclose()
        assert [type(error) for error in caught.value.exceptions] == [OSError, ClientClosedError]
        assert not any(map(is_open, clients.values()))

    run_virtually(main)


@pytest.mark.parametrize("passes", range(8))
def test_whoever_is_cancelled_while_opening_or_closing_leaves_nothing(passes: int) -> None:
    async def main() -> None:
        clients = {str(number): hooked() for number in range(3)}

        async def use() -> None:
            async with Clouds(clients):
                pass

        with nothing_is_left():
            user = asyncio.ensure_future(use())
            for _ in range(passes):
                await asyncio.sleep(0)
            user.cancel()
            await asyncio.wait({user})
        assert not any(map(is_open, clients.values()))

    run_virtually(main)


@pytest.mark.filterwarnings("ignore:.*never awaited", "ignore:Exception ignored in. <coroutine")
@pytest.mark.parametrize("passes", range(8))
def test_closing_is_done_also_when_every_task_is_cancelled(passes: int) -> None:
    async def main() -> None:
        clients = {str(number): hooked() for number in range(3)}
        clouds = Clouds(clients)
        with nothing_is_left():
            await clouds.__aenter__()
            closing = asyncio.ensure_future(clouds.aclose())
            for _ in range(passes):
                await asyncio.sleep(0)
            for task in asyncio.all_tasks() - {asyncio.current_task()}:
                task.cancel()
            await asyncio.wait({closing})
            # Where the caller itself has never begun, nobody has asked for a closing yet.
            if passes == 0:
                await clouds.aclose()
        assert not any(map(is_open, clients.values()))

    run_virtually(main)
    # Tasks that were cancelled before their first step are found here, and not in another test.
    gc.collect()


@pytest.mark.filterwarnings("ignore:.*never awaited", "ignore:Exception ignored in. <coroutine")
def test_without_the_last_look_a_client_whose_closing_never_began_stays_open(monkeypatch: pytest.MonkeyPatch) -> None:
    async def close_once(self: Members) -> None:
        errors: dict[str, Exception] = {}
        async with anyio.create_task_group() as tasks:
            for name in self.clients:
                tasks.start_soon(self._close_one, name, errors)

    async def main() -> None:
        clients = {str(number): hooked() for number in range(3)}
        clouds = Clouds(clients)
        await clouds.__aenter__()
        closing = asyncio.ensure_future(clouds.aclose())
        await asyncio.sleep(0)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            if task is not closing:
                task.cancel()
        await asyncio.wait({closing})
        assert any(map(is_open, clients.values()))
        for client in clients.values():
            await client.aclose()

    monkeypatch.setattr(Members, "aclose", close_once)
    run_virtually(main)
    gc.collect()


def test_clouds_that_are_closed_while_they_are_opened_do_not_open() -> None:
    async def main() -> None:
        async def linger() -> None:
            await anyio.sleep(10)

        clients = {"a": hooked(), "b": hooked(on_open=linger)}
        clouds = Clouds(clients)
        with nothing_is_left():
            opening = asyncio.ensure_future(clouds.__aenter__())
            await advance(1)
            await clouds.aclose()
            with pytest.raises(ClientClosedError, match="closed while"):
                await opening
        assert not any(map(is_open, clients.values()))

    run_virtually(main)


@pytest.mark.parametrize("passes", range(6))
def test_opening_that_is_cancelled_leaves_a_client_open_that_was_so_before(passes: int) -> None:
    async def main() -> None:
        cloud, other = cloud_of("eu"), cloud_of("us")
        async with cloud.client() as bms:
            opening = asyncio.ensure_future(Clouds({"eu": bms, "us": other.client()}).__aenter__())
            for _ in range(passes):
                await asyncio.sleep(0)
            opening.cancel()
            await asyncio.wait([opening])
            if not opening.cancelled():
                await opening.result().aclose()
            assert (await bms.servers.get(cloud.ids[0])).id == cloud.ids[0]

    run_virtually(main)


def test_clouds_are_opened_once_and_closed_as_often_as_one_likes() -> None:
    async def main() -> None:
        clouds = Clouds({"eu": cloud_of("eu").client()})
        await clouds.aclose()
        with pytest.raises(ClientClosedError, match="not open"):
            clouds.fleet.stop({"eu": ["server-1"]})
        async with clouds:
            pass
        await clouds.aclose()
        with pytest.raises(ClientClosedError, match="opened once"):
            await clouds.__aenter__()

    run_virtually(main)


def account(project: str) -> BmsClient:
    return BmsClient(
        endpoint="https://bms.many-clouds.example", project_id=project, auth=StaticToken("t"), transport=Dead()
    )


def test_each_cloud_keeps_the_limits_of_its_account_and_those_of_one_account_share_them() -> None:
    async def main() -> None:
        async with Clouds({"a": account("one"), "b": account("two"), "c": account("one")}) as clouds:
            assert clouds["a"].limits is clouds["c"].limits
            assert clouds["a"].limits is not clouds["b"].limits
            assert clouds["a"].limits["servers.stop"].limit == Limits()["servers.stop"].limit

    run_virtually(main)


def test_what_is_no_cloud_is_refused() -> None:
    client = account("one")
    wrong: list[tuple[Any, str]] = [
        ({}, "expected a mapping of names to clients"),
        ([client], "expected a mapping of names to clients"),
        ({"a": "text"}, "cloud 'a': expected a BmsClient, got str"),
        ({"": client}, "expected a name for each cloud"),
        ({1: client}, "expected a name for each cloud"),
        ({"a": client, "b": client}, "cloud 'b': it has the client of 'a'"),
    ]
    for clients, text in wrong:
        with pytest.raises(ConfigurationError, match=text):
            Clouds(clients)


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "clouds.json"
    monkeypatch.setenv("OS_CLIENT_CONFIG_FILE", str(path))
    monkeypatch.setenv("OS_CLOUD", "us")
    clouds = {
        name: {"bms_endpoint_override": f"https://bms.{name}.example", "auth": {"token": "t", "project_id": name}}
        for name in ("eu", "us", "asia")
    }
    path.write_text(json.dumps({"clouds": clouds}))
    return path


def test_clouds_of_the_file_are_made_all_or_those_that_are_named(file: Path) -> None:
    assert Clouds.from_clouds().names == ("eu", "us", "asia")
    some = Clouds.from_clouds("asia", "eu", max_wait=2.0)
    assert {name: bms.project_id for name, bms in some.items()} == {"asia": "asia", "eu": "eu"}


def test_all_that_is_wrong_in_the_file_is_said_at_once(file: Path) -> None:
    tree = json.loads(file.read_text())
    del tree["clouds"]["eu"]["auth"]["project_id"], tree["clouds"]["asia"]["bms_endpoint_override"]
    file.write_text(json.dumps(tree))
    with pytest.raises(ConfigurationError, match=r"(?s)cloud 'eu'.*\n.*cloud 'asia'") as caught:
        Clouds.from_clouds()
    assert "'us'" not in str(caught.value)


def test_what_the_file_cannot_give_is_refused(file: Path) -> None:
    wrong: list[tuple[Callable[[], object], str]] = [
        (lambda: Clouds.from_clouds("eu", "africa"), "no cloud 'africa'"),
        (lambda: Clouds.from_clouds("eu", "eu"), "expected each cloud once"),
        (lambda: Clouds.from_clouds(transport=Dead()), "transport: expected none"),
    ]
    for make, text in wrong:
        with pytest.raises(ConfigurationError, match=text):
            make()
    file.write_text("{}")
    with pytest.raises(ConfigurationError, match=r"expected a cloud in clouds\.yaml"):
        Clouds.from_clouds()
