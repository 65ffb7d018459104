"""Runs in either store: written down whole, found by their key, paused, cancelled, listed and deleted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial

import pytest

from bms_async.journal import Counts, JournalStore, NewBlock, RunStatus, Step
from bms_async.journal.transactions import runs
from tests.journal._desk import Desk, make_batch, make_block, opened


async def test_a_run_is_there_with_all_of_its_servers(desk: Desk) -> None:
    refused = [make_block(skipped=2), make_block(skipped=1)]
    kept, is_new = await desk.begin(*(make_batch(7) for _ in range(120)), refused=refused, key="k")
    assert is_new
    assert (kept.key, kept.servers, kept.open_batches, kept.in_flight) == ("k", 843, 120, 0)
    assert kept.counts == Counts(skipped=3)
    assert kept.ended is None
    assert [block.body for block in await desk.blocks(kept.id)] == [block.body for block in refused]
    await desk.check(kept.id)


async def test_the_same_key_is_the_same_run_and_writes_nothing(desk: Desk) -> None:
    first, _ = await desk.begin(make_batch(), key="k")
    before = await desk.everything(first.id)
    second, is_new = await desk.begin(make_batch(), make_batch(), key="k", refused=[make_block(skipped=1)])
    assert not is_new
    assert second.id == first.id
    assert await desk.everything(first.id) == before


async def test_a_run_that_is_begun_once_more_by_the_same_id_counts_as_new(desk: Desk) -> None:
    first, _ = await desk.begin(make_batch(), key="k", run=f"{desk.place}-r")
    second, is_new = await desk.begin(make_batch(), key="k", run=f"{desk.place}-r")
    assert is_new
    assert second == first
    await desk.check(first.id)


async def test_the_same_key_in_another_place_is_another_run(desk: Desk) -> None:
    first, _ = await desk.begin(make_batch(), key="k")
    second, is_new = await desk.begin(make_batch(), key="k", place=f"{desk.place}/2")
    assert is_new
    assert second.id != first.id
    assert (await desk.claim_one()).claim.run == first.id
    assert await desk.claim() == []


async def test_of_many_who_begin_a_run_at_once_one_does(desk: Desk, make_store: Callable[[], JournalStore]) -> None:
    async def begin() -> tuple[str, bool]:
        async with opened(make_store()) as store:
            kept, is_new = await desk.another(store).begin(make_batch(), make_batch(), key="k")
        return kept.id, is_new

    begun = await asyncio.gather(*(begin() for _ in range(4)))
    assert sorted(is_new for _, is_new in begun) == [False, False, False, True]
    assert len({run for run, _ in begun}) == 1
    await desk.check(begun[0][0])


async def test_a_run_without_servers_has_ended(desk: Desk) -> None:
    kept, _ = await desk.begin()
    assert kept.ended is not None
    refused, _ = await desk.begin(refused=[make_block(skipped=2)])
    assert refused.ended is not None
    assert refused.servers == 2


async def test_a_paused_run_goes_on_where_it_was(desk: Desk) -> None:
    kept, _ = await desk.begin(make_batch())
    for status in (RunStatus.PAUSED, RunStatus.PAUSED):
        paused = await desk.set_status(kept.id, status)
        assert paused is not None
        assert paused.status is RunStatus.PAUSED
    assert await desk.claim() == []
    await desk.set_status(kept.id, RunStatus.OPEN)
    assert (await desk.claim_one()).claim.run == kept.id


@pytest.mark.parametrize("status", [RunStatus.OPEN, RunStatus.PAUSED])
async def test_a_cancelled_run_stays_cancelled(desk: Desk, status: RunStatus) -> None:
    kept, _ = await desk.begin(make_batch())
    await desk.set_status(kept.id, RunStatus.CANCELLED)
    found = await desk.set_status(kept.id, status)
    assert found is not None
    assert found.status is RunStatus.CANCELLED


async def test_a_run_that_has_ended_keeps_its_status(desk: Desk) -> None:
    kept, _ = await desk.begin(make_batch(5))
    await desk.finish((await desk.send()).claim, make_block(succeeded=5))
    found = await desk.set_status(kept.id, RunStatus.CANCELLED)
    assert found is not None
    assert found.status is RunStatus.OPEN
    assert await desk.set_status("nowhere", RunStatus.PAUSED) is None


async def test_a_run_is_found_by_its_key_in_its_place(desk: Desk) -> None:
    kept, _ = await desk.begin(make_batch(), key="k")
    assert await desk.run(runs.find_run, desk.place, "k") == kept
    assert await desk.run(runs.find_run, desk.place, "other") is None
    assert await desk.run(runs.find_run, "elsewhere", "k") is None
    assert await desk.run(runs.read_run, "nowhere") is None


async def test_how_many_batches_are_held_counts_no_lease_that_is_over(desk: Desk) -> None:
    kept, _ = await desk.begin(make_batch(), make_batch())
    first, _ = await desk.send(), await desk.send()
    assert (await desk.read(kept.id)).held == 2
    await desk.expire(first.claim)
    assert (await desk.read(kept.id)).held == 1


async def test_runs_are_listed_by_pages_and_none_twice(desk: Desk) -> None:
    begun = [(await desk.begin(make_batch(), key=f"k{number}"))[0] for number in range(5)]
    # Of the same moment, as on a coarse clock.
    await desk.sql("UPDATE bms_async_runs SET created = 1000 WHERE place = $1", desk.place)
    await desk.sql("UPDATE bms_async_runs SET created = 2000 WHERE id = $1", begun[3].id)
    await desk.finish((await desk.send(begun[1].id)).claim, make_block(succeeded=10))

    async def listed(*, is_open: bool | None) -> list[str]:
        found: list[str] = []
        after: tuple[float, str] | None = None
        while True:
            page = await desk.store.run(
                partial(runs.list_runs, desk.place, is_open=is_open, after=after, limit=2), writes=False
            )
            if not page:
                return found
            found += [each.id for each in page]
            after = page[-1].created, page[-1].id

    everything = await listed(is_open=None)
    assert everything[0] == begun[3].id
    assert everything[1:] == sorted(run.id for run in begun if run is not begun[3])
    assert await listed(is_open=False) == [begun[1].id]
    assert await listed(is_open=True) == [run for run in everything if run != begun[1].id]
    everywhere = await desk.store.run(lambda: runs.list_runs(None, is_open=None, after=None, limit=10_000))
    assert {run.id for run in begun} <= {run.id for run in everywhere}


async def test_only_what_ended_long_ago_is_deleted_with_all_that_is_kept_of_it(desk: Desk) -> None:
    old, young, still = [(await desk.begin(make_batch(5)))[0] for _ in range(3)]
    for run in (old, young):
        assert await desk.finish((await desk.send(run.id)).claim, make_block(succeeded=5)) is Step.MADE
    await desk.sql("UPDATE bms_async_runs SET ended = bms_wall() - 1000 WHERE id = $1", old.id)
    assert await desk.run(runs.delete_ended, 500.0, "elsewhere") == 0
    assert await desk.run(runs.delete_ended, 500.0, desk.place) == 1
    assert await desk.run(runs.delete_ended, 500.0, desk.place) == 0
    assert await desk.everything(old.id) == []
    assert len(await desk.everything(young.id)) == 3
    assert len(await desk.everything(still.id)) == 2


async def test_a_key_is_free_again_once_its_run_is_deleted(desk: Desk) -> None:
    await desk.begin(key="k")
    assert await desk.run(runs.delete_ended, -1.0, desk.place) == 1
    assert (await desk.begin(key="k"))[1]


@pytest.mark.parametrize("body", [b"", b"\x00\xff" * 5000])
async def test_bytes_and_names_come_back_as_they_were(desk: Desk, body: bytes) -> None:
    key = "日本 ' \" $1 % \\ 🦀"
    block = NewBlock(counts=Counts(skipped=1), body=body)
    kept, _ = await desk.begin(key=key, refused=[block])
    assert (await desk.read(kept.id)).key == key
    assert [each.body for each in await desk.blocks(kept.id)] == [body]
