"""Transactions as generators: pure, without a database, so that both stores run the very same ones.

A transaction yields a `Statement`, is sent its rows, and returns its result. The store begins before the first one and
commits after the last. It may have to run a transaction once more, because the connection was lost while it committed.
So each is written such that making it twice does no harm.

The SQL is what PostgreSQL and SQLite have in common. Four words in it are the store's to replace: `bms_now()` is the
clock that leases are counted on, in seconds; `bms_wall()` is the time of day, in seconds since 1970; `bms_floor()`
rounds down; and a SQLite store leaves out `FOR UPDATE OF b SKIP LOCKED`, since there nobody else is in a transaction
that writes.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import NamedTuple, TypeAlias, TypeVar

T = TypeVar("T")

Value: TypeAlias = str | int | float | bytes | None
"""What a table holds."""

Row: TypeAlias = Sequence[Value]

SKIP_LOCKED = "FOR UPDATE OF b SKIP LOCKED"


class Statement(NamedTuple):
    """One statement, with its parameters ``$1``, ``$2`` and so on.

    Attributes:
        sql: The statement.
        values: Its parameters.
        rows: In the place of `values`, the parameters of each of many executions, which return no rows.
    """

    sql: str
    values: tuple[Value, ...] = ()
    rows: Sequence[tuple[Value, ...]] | None = None


Transaction: TypeAlias = Generator[Statement, Sequence[Row], T]


class RollBack(Exception):  # noqa: N818 - it is no failure: a transaction raises it to end without any effect
    """Raised by a transaction to have nothing of it kept.

    Attributes:
        result: The result in its place.
    """

    def __init__(self, result: object) -> None:
        super().__init__()
        self.result = result


def ask(sql: str, *values: Value) -> Transaction[Sequence[Row]]:
    """Execute one statement, and return its rows.

    Args:
        sql: The statement.
        *values: Its parameters.
    """
    return (yield Statement(sql, values))
