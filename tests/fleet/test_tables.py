"""The tables and lists of a run against a plain dict and a plain list."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bms_async.fleet.sharded import CHUNK_SIZE, SHARDS, OrderedTable, Pieces, Table

KEYS = st.one_of(st.sampled_from("abcde"), st.integers(0, 400).map("{:08x}-1111-4222-8333-123456789abc".format))
VALUES = st.one_of(st.none(), st.integers(0, 3))
ENTRIES = st.lists(st.tuples(KEYS, VALUES), max_size=300)


@given(ENTRIES, st.lists(KEYS, max_size=20))
def test_a_table_is_as_a_dict_without_an_order(entries: list[tuple[str, int | None]], asked: list[str]) -> None:
    table: Table[int | None] = Table()
    plain: dict[str, int | None] = {}
    for key, value in entries:
        table[key] = plain[key] = value
        assert table.get(key) == value
        assert len(table) == len(plain)
    for key in [*asked, *plain]:
        assert table.get(key) == plain.get(key)
        assert (key in table) == (key in plain)


@given(ENTRIES, st.lists(KEYS, max_size=20))
def test_an_ordered_table_is_as_a_dict(entries: list[tuple[str, int | None]], asked: list[str]) -> None:
    table: OrderedTable[int | None] = OrderedTable()
    plain: dict[str, int | None] = {}
    for key, value in entries:
        table[key] = plain[key] = value
        assert len(table) == len(plain)
        assert bool(table) == bool(plain)
    views: list[Callable[[Mapping[str, int | None]], list[object]]] = [
        list, lambda each: list(each.keys()), lambda each: list(each.values()), lambda each: list(each.items())
    ]  # fmt: skip
    for view in views:
        assert view(table) == view(plain)
    assert table == plain
    assert plain == table
    assert dict(table) == plain
    assert table != {**plain, "another": 1}
    for key in [*asked, *plain]:
        assert table.get(key, 7) == plain.get(key, 7)
        assert (key in table) == (key in plain)
        if key not in plain:
            with pytest.raises(KeyError, match=key):
                table[key]
    others: list[object] = [7, None]
    assert not any(other in table for other in others)


def test_an_ordered_table_shows_how_many_it_has_and_not_which() -> None:
    table: OrderedTable[int] = OrderedTable()
    table["a"] = 1
    assert repr(table) == "<OrderedTable of 1 entries>"


def test_a_key_that_is_set_again_keeps_its_place() -> None:
    table: OrderedTable[int] = OrderedTable()
    for number in range(3 * CHUNK_SIZE):
        table[f"id-{number}"] = number
    table["id-0"] = -1
    assert next(iter(table.items())) == ("id-0", -1)
    assert len(list(table)) == len(table) == 3 * CHUNK_SIZE


@given(st.integers(0, 3 * CHUNK_SIZE), st.integers(0, 3 * CHUNK_SIZE), st.data())
def test_pieces_are_as_a_list(size: int, start: int, data: st.DataObject) -> None:
    pieces: Pieces[int] = Pieces()
    for number in range(size):
        pieces.append(number)
    assert list(pieces) == list(range(size))
    assert [item for chunk in pieces.chunks(start) for item in chunk] == list(range(start, size))
    assert len(pieces) == size
    assert bool(pieces) == bool(size)
    if size:
        index = data.draw(st.integers(0, size - 1))
        assert pieces[index] == index
        assert pieces.pick([index, 0, size - 1]) == [index, 0, size - 1]
    for outside in (size, size + CHUNK_SIZE, -1):
        with pytest.raises(IndexError):
            pieces[outside]


@given(st.integers(0, 2 * CHUNK_SIZE), st.integers(0, 3 * CHUNK_SIZE))
def test_pieces_that_grow_while_they_are_read_are_read_to_their_end(before: int, after: int) -> None:
    pieces: Pieces[int] = Pieces()
    for number in range(before):
        pieces.append(number)
    read = []
    for item in pieces:
        read.append(item)
        if len(pieces) < after:
            pieces.append(len(pieces))
    assert read == list(range(len(pieces)))


def test_a_copy_and_the_list_that_it_was_made_of_grow_apart() -> None:
    pieces: Pieces[int] = Pieces()
    for number in range(CHUNK_SIZE + 3):
        pieces.append(number)
    copied = pieces.copy()
    for number in range(CHUNK_SIZE):
        pieces.append(-number)
        copied.append(number)
    assert list(copied)[: CHUNK_SIZE + 3] == list(pieces)[: CHUNK_SIZE + 3] == list(range(CHUNK_SIZE + 3))
    assert list(copied)[CHUNK_SIZE + 3 :] == [-number for number in list(pieces)[CHUNK_SIZE + 3 :]]


def test_r9_no_part_of_a_large_table_is_large_or_visited_by_the_collector() -> None:
    table: OrderedTable[str] = OrderedTable()
    for number in range(50_000):
        key = f"{number:08x}-1111-4222-8333-123456789abc"
        table[key] = key
    shards = table._table._shards
    assert len(shards) == SHARDS
    assert max(map(len, shards)) < 2 * 50_000 / SHARDS
    assert not any(gc.is_tracked(shard) for shard in shards)
    assert not any(map(gc.is_tracked, table._keys._chunks))
    assert max(map(len, table._keys.chunks())) == CHUNK_SIZE


def test_r9_a_table_is_freed_a_part_at_a_time() -> None:
    table: OrderedTable[str] = OrderedTable()
    for number in range(20_000):
        table[f"id-{number}"] = "a"
    shards = table._table._shards
    left = [sum(map(len, shards)) for _ in table.dismantle()]
    assert left[0] == 20_000
    assert left[-1] == len(table) == 0
    assert max(before - after for before, after in pairwise(left)) < 20_000 / 8
    assert list(table) == []
    table["id-7"] = "b"
    assert dict(table) == {"id-7": "b"}
