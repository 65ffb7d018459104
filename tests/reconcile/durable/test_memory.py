"""The memory of a reconciler with a journal: what one replica is asked for, all of them know."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import msgspec
import pytest

from bms_async import LeadershipLostError
from bms_async.journal.transactions import desired
from bms_async.reconcile import durable_memory
from tests.reconcile.durable._replicas import Reader, journal_away, reading, wishes
from tests.runs._virtual import Site, at_a_site
from tests.support.virtual_clock import advance


def test_what_one_replica_is_asked_for_another_one_knows_within_a_second(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        first, second = Reader(await site.client()), Reader(await site.client())
        async with reading(first, second):
            await first.save(wishes("a", "b", "c"))
            began = anyio.current_time()
            await second.wait_for(first.revision)
            await second.save([*wishes("a", status=None), *wishes("b", status="SHUTOFF")])
            await first.wait_for(second.revision)
            assert anyio.current_time() < began + 2.5
            assert first.statuses == second.statuses == {"b": "SHUTOFF", "c": "ACTIVE"}

    at_a_site(tmp_path, main)


def test_a_wish_that_changes_nothing_is_seen_to_have_been_read_and_keeps_the_attempts(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        first, second = Reader(await site.client()), Reader(await site.client())
        async with reading(first, second):
            await first.save(wishes("a"))
            await first.memory.save_attempts(wishes("a", attempts=4))
            await first.save(wishes("a"))
            await second.wait_for(first.revision)
            assert second.known["a"] == wishes("a", attempts=4)[0]

    at_a_site(tmp_path, main)


def test_many_are_written_and_read_in_short_pages(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        first, second = Reader(await site.client()), Reader(await site.client())
        servers = [f"server-{number}" for number in range(1201)]
        async with reading(first):
            await first.save(wishes(*servers))
        async with reading(second):
            assert list(second.known) == servers
            assert second.pages == [500, 500, 201, 0]

    at_a_site(tmp_path, main)


@pytest.mark.parametrize("is_guarded", [True, False])
def test_a_replica_that_was_away_for_too_long_forgets_what_was_forgotten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_guarded: bool
) -> None:
    def read_as_if_nothing_was_deleted(*args: Any) -> Any:
        page = yield from desired.read_desired(*args)
        return msgspec.structs.replace(page, trimmed=0)

    async def main(site: Site) -> None:
        first, away = Reader(await site.client()), Reader(await site.client())
        async with reading(first, away):
            await first.save(wishes("a", "b"))
            await away.wait_for(first.revision)
            with journal_away(away.bms):
                await advance(2.0)
                await first.save([*wishes("a", status=None), *wishes("c")])
                runs = first.memory._runs
                await runs.journal.run(desired.trim_forgotten, await runs.place(), "power", -1.0)
            await away.wait_for(first.revision)
            await advance(1.0)
            expected = {"b": "ACTIVE", "c": "ACTIVE"} | ({} if is_guarded else {"a": "ACTIVE"})
            assert away.statuses == expected

    if not is_guarded:
        monkeypatch.setattr(durable_memory, "read_desired", read_as_if_nothing_was_deleted)
    at_a_site(tmp_path, main)


def test_a_journal_that_is_away_for_a_minute_is_waited_for(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async def main(site: Site) -> None:
        first, second = Reader(await site.client()), Reader(await site.client())
        async with reading(first, second):
            async with anyio.create_task_group() as tasks:
                with journal_away(first.bms):
                    tasks.start_soon(first.save, wishes("a"))
                    await advance(60.0)
                    assert second.known == {}
            assert first.statuses == {"a": "ACTIVE"}

    at_a_site(tmp_path, main)
    assert "are read and written when the journal is back" in caplog.text


def test_whoever_leads_knows_all_that_was_desired_by_then(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        first, second = Reader(await site.client()), Reader(await site.client())
        async with reading(first, second):
            async with first.memory.lead():
                # It is not iterated over, and so hears of it only by looking.
                await first.memory.save(wishes("a", "b"))
            async with second.memory.lead():
                assert second.statuses == {"a": "ACTIVE", "b": "ACTIVE"}

    at_a_site(tmp_path, main)


def test_a_replica_leads_alone_in_its_project_and_by_its_name(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        bms = await site.client()
        power, racks = Reader(bms), Reader(bms, "racks")
        async with reading(power, racks), power.memory.lead(), racks.memory.lead():
            with anyio.move_on_after(20.0) as waited:
                async with Reader(await site.client()).memory.lead():
                    pass
            assert waited.cancelled_caught

    at_a_site(tmp_path, main)


def test_a_leader_that_cannot_renew_its_lease_is_cancelled_and_may_lead_again(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        bms = await site.client()
        reader = Reader(bms)
        async with reading(reader):
            with pytest.raises(LeadershipLostError):
                await lead_and_be_forgotten(reader)
            async with reader.memory.lead():
                assert reader.memory._runs.is_leading

    at_a_site(tmp_path, main)


def test_a_journal_that_is_away_while_a_replica_waits_to_lead_is_asked_again(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        reader = Reader(await site.client())
        async with reading(reader):
            led = anyio.Event()

            async def lead() -> None:
                async with reader.memory.lead():
                    led.set()

            async with anyio.create_task_group() as tasks:
                with journal_away(reader.bms):
                    tasks.start_soon(lead)
                    await advance(60.0)
                    assert not led.is_set()
                await led.wait()

    at_a_site(tmp_path, main)


def test_reasons_are_kept_as_any_database_takes_them(tmp_path: Path) -> None:
    async def main(site: Site) -> None:
        reader = Reader(await site.client())
        async with reading(reader):
            await reader.save(wishes("a"))
            odd = wishes("a", attempts=1)[0].__replace__(retry_reason="\0\ud800" + "x" * 5000)
            await reader.memory.save_attempts([odd])
            await advance(2.0)
            assert reader.known["a"].retry_reason == "\ufffd?" + "x" * 998

    at_a_site(tmp_path, main)


async def lead_and_be_forgotten(reader: Reader) -> None:
    async with reader.memory.lead():
        await reader.memory._runs.journal.run(_resign)
        await anyio.sleep_forever()


def _resign() -> Any:
    from bms_async.journal.statements import ask

    yield from ask("UPDATE bms_async_leaders SET owner = NULL")
