"""Reading a run: from anywhere, as often as one likes, and from where another reader stopped."""

from __future__ import annotations

import json
from pathlib import Path

import anyio
import pytest

from bms_async import DurableRun, InvalidRequestError, JournalError, Outcome, RunNotFoundError

from ._virtual import Site, at_a_site


async def _read(run: DurableRun, since: str | None = None, at_most: int | None = None) -> tuple[list[Outcome], str]:
    outcomes = run.outcomes(since=since)
    found: list[Outcome] = []
    while at_most is None or len(found) < at_most:
        try:
            found.append(await anext(outcomes))
        except StopAsyncIteration:
            break
    return found, outcomes.cursor


def names(outcomes: list[Outcome]) -> list[str]:
    return [outcome.server_id for outcome in outcomes]


@pytest.mark.parametrize("step", [1, 7, 30])
def test_readers_that_go_on_where_the_last_one_stopped_miss_nothing_and_read_nothing_twice(
    tmp_path: Path, step: int
) -> None:
    async def main(site: Site) -> None:
        beginner, elsewhere = await site.client(), await site.client()
        run = await beginner.runs.stop(site.ids, key="k", wave_size=12)
        cursor, found = None, []
        while True:
            some, cursor = await _read(await elsewhere.runs.get("k"), cursor, step)
            found += names(some)
            if not some:
                break
        assert found == names(list((await run).outcomes))
        assert sorted(found) == sorted(site.ids)

    at_a_site(tmp_path, main)


def test_a_reader_waits_for_what_is_not_known_yet_and_another_process_reads_the_same(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        beginner, elsewhere = await site.client(), await site.client()
        run = await beginner.runs.stop(site.ids, key="k")
        seen: dict[str, list[str]] = {}

        async def read(name: str, run: DurableRun) -> None:
            seen[name] = names([outcome async for outcome in run])

        async with anyio.create_task_group() as readers:
            for number in range(4):
                readers.start_soon(read, f"here {number}", run)
                readers.start_soon(read, f"there {number}", await elsewhere.runs.get("k"))
        assert len({tuple(each) for each in seen.values()}) == 1
        first, second = await run, await run
        assert first is second
        assert run.progress.done == len(first) == 30
        assert run.ended is not None

    at_a_site(tmp_path, main)


@pytest.mark.parametrize("since", ["", "7", "a.b", "-1.0", "1.-1", "0.5", "1.2.3", "9" * 5000 + ".0", 7])
def test_what_is_no_cursor_is_refused(tmp_path: Path, since: str) -> None:
    async def main(site: Site) -> None:
        run = await (await site.client()).runs.stop(site.ids, key="k", detach=True)
        with pytest.raises(InvalidRequestError, match="cursor"):
            run.outcomes(since=since)

    at_a_site(tmp_path, main)


def test_a_cursor_beyond_the_end_is_that_of_another_run_and_refused(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        run = await (await site.client()).runs.stop(site.ids, key="k")
        await run
        _, end = await _read(run)
        assert await _read(run, end) == ([], end)
        with pytest.raises(InvalidRequestError, match="another run"):
            await anext(run.outcomes(since="900.0"))

    at_a_site(tmp_path, main)


def test_a_run_is_told_as_json_can_hold_it_and_one_that_there_is_not_by_an_error_of_its_own(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        bms = await site.client()
        run = await bms.runs.stop(site.ids, key="tonight")
        assert run.to_dict()["status"] == "open"
        await run

        told = json.loads(json.dumps((await bms.runs.get("tonight")).to_dict()))

        assert (told["key"], told["action"], told["aborted"]) == ("tonight", "servers.stop", None)
        assert told["status"] == "ended"
        assert told["progress"]["by_state"]["SUCCEEDED"] == told["progress"]["total"] == len(site.ids)
        with pytest.raises(RunNotFoundError, match="'tomorrow'"):
            await bms.runs.get("tomorrow")

    at_a_site(tmp_path, main)


def test_who_reads_a_run_that_is_deleted_is_told_so(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        client = await site.client()
        run = await client.runs.stop(site.ids, key="k")
        await run
        outcomes = run.outcomes()
        await anext(outcomes)
        assert await client.runs.prune(older_than=0) == 1
        with pytest.raises(JournalError, match="deleted"):
            await _read(run)
        with pytest.raises(InvalidRequestError, match="key"):
            await client.runs.get("k")

    at_a_site(tmp_path, main)


def test_a_waiter_that_leaves_leaves_the_run_alone(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        run = await (await site.client()).runs.stop(site.ids, key="k")
        with anyio.move_on_after(0.5) as scope:
            await run
        assert scope.cancelled_caught
        assert len(await run) == 30

    at_a_site(tmp_path, main, job_seconds=(5, 8))
