"""Desired states, in either store: replicas read what has changed since, and miss nothing."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import anyio
import pytest

from bms_async.journal import JournalStore
from bms_async.journal.transactions import desired
from bms_async.journal.transactions.desired import DesiredFields, DesiredPage
from tests.journal._desk import Desk, opened

NAME = "power"


def rows(*servers: str, status: str | None = "ACTIVE", attempts: int = 0) -> list[DesiredFields]:
    retry_at, reason = (123.5, "busy") if attempts else (None, None)
    return [(server, status, attempts, retry_at, reason) for server in servers]


async def save(desk: Desk, states: Sequence[DesiredFields], name: str = NAME) -> None:
    await desk.run(desired.save_desired, desk.place, name, states)


async def read(desk: Desk, after: int = 0, *, limit: int = 100, name: str = NAME) -> DesiredPage:
    return await desk.run(desired.read_desired, desk.place, name, after, limit, writes=False)


async def test_what_was_changed_since_is_read_in_its_order_and_nothing_else(desk: Desk) -> None:
    await save(desk, rows("a", "b", "c"))
    first = await read(desk)
    assert (first.rows, first.is_last) == (rows("a", "b", "c"), True)
    await save(desk, [*rows("b", status="SHUTOFF"), *rows("d")])
    later = await read(desk, first.number)
    assert later.rows == [*rows("b", status="SHUTOFF"), *rows("d")]
    assert (await read(desk, later.number)).rows == []


async def test_a_state_that_is_desired_once_more_is_no_change_and_keeps_its_attempts(desk: Desk) -> None:
    await save(desk, rows("a"))
    await desk.run(desired.save_attempts, desk.place, NAME, rows("a", attempts=3))
    number = (await read(desk)).number
    await save(desk, rows("a"))
    assert (await read(desk, number)).rows == []
    assert (await read(desk)).rows == rows("a", attempts=3)
    await save(desk, rows("a", status="SHUTOFF"))
    assert (await read(desk, number)).rows == rows("a", status="SHUTOFF")


async def test_attempts_at_what_is_not_desired_any_more_are_not_kept(desk: Desk) -> None:
    await save(desk, [*rows("a"), *rows("b", status=None)])
    await save(desk, rows("a", status="SHUTOFF"))
    await desk.run(desired.save_attempts, desk.place, NAME, rows("a", "b", "c", attempts=1))
    assert (await read(desk)).rows == rows("a", status="SHUTOFF")


async def test_the_last_state_of_a_server_counts(desk: Desk) -> None:
    await save(desk, [*rows("a"), *rows("a", status="SHUTOFF"), *rows("b", status=None), *rows("b")])
    assert (await read(desk)).rows == [*rows("a", status="SHUTOFF"), *rows("b")]


async def test_pages_go_on_where_the_last_one_ended_also_while_states_change(desk: Desk) -> None:
    await save(desk, rows("a", "b", "c", "d"))
    page = await read(desk, limit=2)
    assert (page.rows, page.is_last) == (rows("a", "b"), False)
    await save(desk, rows("a", "d", status="SHUTOFF"))
    page = await read(desk, page.number, limit=2)
    assert page.rows == [*rows("c"), *rows("a", status="SHUTOFF")]
    page = await read(desk, page.number, limit=2)
    assert (page.rows, page.is_last) == (rows("d", status="SHUTOFF"), True)


async def test_a_forgotten_server_is_told_to_those_who_knew_it_and_deleted_later(desk: Desk) -> None:
    await save(desk, rows("a", "b"))
    known = (await read(desk)).number
    await save(desk, rows("a", status=None))
    assert (await read(desk)).rows == rows("b")
    assert (await read(desk, known)).rows == rows("a", status=None)
    assert not await desk.run(desired.trim_forgotten, desk.place, NAME, 60.0)
    assert (await read(desk)).trimmed == 0
    assert not await desk.run(desired.trim_forgotten, desk.place, NAME, -1.0)
    page = await read(desk, known)
    assert page.rows == []
    # By this a reader sees that it has to read all anew.
    assert page.trimmed > known
    assert (await read(desk)).rows == rows("b")


async def test_forgotten_servers_are_deleted_a_few_at_a_time(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(desired, "_DELETED_AT_ONCE", 2)
    await save(desk, rows("a", "b", "c", status=None))
    assert await desk.run(desired.trim_forgotten, desk.place, NAME, -1.0)
    assert not await desk.run(desired.trim_forgotten, desk.place, NAME, -1.0)
    assert await desk.sql("SELECT server FROM bms_async_desired WHERE place = $1", desk.place) == []


async def test_reconcilers_and_places_know_nothing_of_each_other(desk: Desk) -> None:
    other = desk.another()
    other.place += " elsewhere"
    await save(desk, rows("a"))
    await save(desk, rows("b"), name="racks")
    await save(other, rows("c"))
    assert [(await read(desk)).rows, (await read(desk, name="racks")).rows] == [rows("a"), rows("b")]
    assert (await read(other)).rows == rows("c")
    assert await desk.run(desired.list_reconcilers, desk.place) == [(desk.place, NAME), (desk.place, "racks")]
    assert (other.place, NAME) in await desk.run(desired.list_reconcilers, None)


async def test_of_many_who_write_at_once_a_reader_misses_no_change(
    desk: Desk, make_store: Callable[[], JournalStore]
) -> None:
    known: dict[str, str | None] = {}
    number = 0

    async def write(store: JournalStore, writer: int) -> None:
        its = desk.another(store)
        for at in range(8):
            await save(its, rows(f"{writer}.{at}", f"{writer}.{at + 1}", status="ACTIVE" if at % 2 else "SHUTOFF"))

    async def read_on() -> None:
        nonlocal number, known
        is_last = False
        while not is_last:
            page = await read(desk, number, limit=3)
            number, is_last = page.number, page.is_last
            known |= {row[0]: row[1] for row in page.rows}

    async with opened(make_store()) as first, opened(make_store()) as second, anyio.create_task_group() as tasks:
        for writer, store in enumerate([first, second, first]):
            tasks.start_soon(write, store, writer)
        while len(known) < 27:
            await read_on()
    await read_on()
    assert known == {row[0]: row[1] for row in (await read(desk)).rows}
    assert len(known) == 27
