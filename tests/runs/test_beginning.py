"""Beginning a run: all of it is written down, or nothing is; and the same key is the same run."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import anyio
import pytest

from bms_async import (
    BmsClient,
    ConfigurationError,
    DurableRun,
    InvalidRequestError,
    OutcomeState,
    Runs,
    RunStatus,
    StaticToken,
)

from ._virtual import Site, at_a_site


def test_a_run_of_nothing_has_ended(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        run = await (await site.client()).runs.reboot([], key="k")
        assert run.ended is not None
        report = await run
        assert len(report) == 0
        assert site.calls("servers.reboot") == 0

    at_a_site(tmp_path, main)


@pytest.mark.parametrize("count", [3, 2500])
def test_a_run_of_ids_that_are_all_invalid_has_ended_with_an_outcome_for_each(tmp_path: Path, count: int) -> None:
    async def main(site: Site) -> None:
        client = await site.client()
        run = await client.runs.stop([f"no/such id {number}" for number in range(count)], key="k")
        report = await run
        assert dict(report.by_state) == dict.fromkeys(OutcomeState, 0) | {OutcomeState.SKIPPED: count}
        assert len({outcome.server_id for outcome in report.outcomes}) == count
        assert {outcome.reason for outcome in report.outcomes} == {"InvalidRequestError"}
        assert run.ended is not None
        again = await client.runs.retry(run)
        assert again.progress.total == 0

    at_a_site(tmp_path, main)


def test_an_id_with_half_a_surrogate_pair_has_its_outcome_as_any_invalid_one_has(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        client = await site.client()
        report = await (await client.runs.reboot([*site.ids, "\udcff"], key="k"))
        assert report.by_state[OutcomeState.SUCCEEDED] == len(site.ids)
        assert [each.server_id for each in report.outcomes if each.state is OutcomeState.SKIPPED] == ["\udcff"]

    at_a_site(tmp_path, main)


@pytest.mark.parametrize(
    ("address", "is_same"),
    [
        ("HTTPS://BMS.Example.com/", True),
        ("https://bms.example.com:443", True),
        ("https://bms.example.com:8443", False),
        ("https://bms.example.com/Path", False),
    ],
)
async def test_one_place_is_found_however_its_address_is_written(tmp_path: Path, address: str, is_same: bool) -> None:
    found = []
    for endpoint in ("https://bms.example.com", address):
        auth, runs = StaticToken("token"), Runs(f"sqlite://{tmp_path}/runs.db")
        async with BmsClient(endpoint=endpoint, project_id="a" * 32, auth=auth, runs=runs) as client:
            run = await client.runs.reboot(["a"], key="k", detach=True)
            found.append((run.id, run.place))
    assert (found[0] == found[1]) is is_same


def test_ids_that_come_twice_are_one_server(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        ids = [*site.ids, *site.ids, *(each.upper() for each in site.ids)]
        report = await (await (await site.client()).runs.stop(ids, key="k"))
        assert len(report) == 30
        assert site.calls("servers.stop") == 1

    at_a_site(tmp_path, main)


def test_the_same_key_asked_for_twice_at_once_is_one_run_and_acts_once(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        clients = [await site.client(), await site.client()]
        runs: list[DurableRun] = []

        async def begin(number: int) -> None:
            runs.append(await clients[number % 2].runs.reboot(site.ids, key="k"))

        async with anyio.create_task_group() as tasks:
            for number in range(6):
                tasks.start_soon(begin, number)
        assert len({run.id for run in runs}) == 1
        assert len(await runs[0]) == 30
        later = await clients[0].runs.reboot(reversed(site.ids), key="k")
        assert later.id == runs[0].id
        assert later.ended is not None
        assert site.calls("servers.reboot") == 1

    at_a_site(tmp_path, main)


def test_a_key_is_that_of_one_action_and_of_the_same_servers(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        client = await site.client()
        await client.runs.stop(site.ids, key="k", detach=True)
        with pytest.raises(InvalidRequestError, match=r"servers\.reboot"):
            await client.runs.reboot(site.ids, key="k")
        with pytest.raises(InvalidRequestError, match="same servers"):
            await client.runs.stop(site.ids[1:], key="k")

    at_a_site(tmp_path, main)


@pytest.mark.parametrize("key", ["", "x" * 256, "a\nb", 7])
def test_what_is_no_key_is_refused(tmp_path: Path, key: Any) -> None:
    async def main(site: Site) -> None:
        client = await site.client()
        with pytest.raises(InvalidRequestError, match="key"):
            await client.runs.stop(site.ids, key=key)
        with pytest.raises(InvalidRequestError, match="key"):
            await client.runs.get(key)
        assert [run async for run in client.runs.list()] == []

    at_a_site(tmp_path, main)


class Broken(Exception):  # noqa: N818 - what a source of ids raises
    """A source broke."""


@pytest.mark.parametrize("kind", ["sync", "async"])
def test_a_source_that_raises_keeps_anything_from_being_written_down(tmp_path: Path, kind: str) -> None:
    async def main(site: Site) -> None:
        def give() -> Iterator[str]:
            yield from site.ids
            raise Broken

        async def give_later() -> AsyncIterator[str]:
            for server_id in give():
                yield server_id

        client = await site.client()
        with pytest.raises(Broken):
            await client.runs.stop(give() if kind == "sync" else give_later(), key="k")
        assert [run async for run in client.runs.list()] == []
        # The key is still free.
        assert len(await (await client.runs.stop(site.ids, key="k"))) == 30

    at_a_site(tmp_path, main)


def test_ids_may_come_slowly_and_nothing_is_sent_before_all_are_written_down(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        async def give() -> AsyncIterator[str]:
            for server_id in site.ids:
                await anyio.sleep(1)
                assert site.calls("servers.stop") == 0
                yield server_id

        run = await (await site.client()).runs.stop(give(), key="k")
        assert run.progress.total == 30
        assert len(await run) == 30

    at_a_site(tmp_path, main)


def test_a_client_without_a_journal_says_so(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        async with site.cloud.client() as client:
            with pytest.raises(ConfigurationError, match="BMS_RUNS"):
                await client.runs.stop(site.ids)
            with pytest.raises(ConfigurationError, match="BMS_RUNS"):
                async with client.runs.work():
                    raise AssertionError

    at_a_site(tmp_path, main)


def test_runs_are_listed_the_latest_first_page_by_page_and_pruned_once_they_have_ended(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        client = await site.client()
        keys = [f"run {number}" for number in range(130)]
        for key in keys:
            await client.runs.stop([] if key != "run 7" else site.ids, key=key, detach=True)
        assert [run.key async for run in client.runs.list()] == keys[::-1]
        assert [run.key async for run in client.runs.list(open=True)] == ["run 7"]
        assert len([run async for run in client.runs.list(open=False)]) == 129
        await anyio.sleep(100)
        assert await client.runs.prune(older_than=200) == 0
        assert await client.runs.prune(older_than=50) == 129
        (left,) = [run async for run in client.runs.list(all_places=True)]
        assert left.status is RunStatus.OPEN
        with pytest.raises(InvalidRequestError, match="older_than"):
            await client.runs.prune(older_than=-1)
        with pytest.raises(InvalidRequestError, match="expected 0 or more"):
            await client.runs.prune(older_than=float("nan"))

    at_a_site(tmp_path, main)


def test_retrying_asks_for_what_failed_and_never_again_for_a_reboot_that_may_have_been(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        client = await site.client()
        run = await client.runs.reboot(site.ids, key="first", detach=True)
        with pytest.raises(InvalidRequestError, match="has ended"):
            await client.runs.retry(run)
        async with client.runs.work():
            report = await run
            failed = [outcome.server_id for outcome in report.outcomes if outcome.state is OutcomeState.FAILED]
            assert failed
            again = await client.runs.retry(run, key="second")
            assert sorted(outcome.server_id for outcome in (await again).outcomes) == sorted(failed)

    at_a_site(tmp_path, main, fail_share=0.3)
