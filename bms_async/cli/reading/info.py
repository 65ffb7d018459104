"""``bms limits`` and ``bms calls``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Any, Final, NamedTuple, Self

from bms_async.cli.access.account_usage import AccountView, HolderView, LimitView, read_account
from bms_async.cli.access.settings import read_settings
from bms_async.cli.terminal.exit import Code, UsageError, print_error
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.output import folded, is_terminal, write
from bms_async.cli.terminal.rows import RowWriter, Table, write_rows
from bms_async.cli.terminal.texts import duration, strip_control_chars
from bms_async.limits import DOCUMENTED_LIMITS

if TYPE_CHECKING:
    from bms_async.wire import Operation

__all__ = ["CALLS", "LIMITS", "show_calls", "show_limits"]


def show_limits(names: Iterable[str], *, cloud: str | None, output: OutputOptions) -> int:
    """Print how much of each limit all processes use, and who holds it and waits; no call is made for it.

    Args:
        names: The calls to show, or groups of calls such as ``servers``; none for all.
        cloud: A cloud of ``clouds.yaml``.
        output: The form of the rows.
    """
    found = {name: _calls_of(name) for name in dict.fromkeys(names)}
    unknown = [name for name, calls in found.items() if not calls]
    if unknown:
        raise UsageError(
            f"{', '.join(unknown)}: expected a call with a documented limit, or a group of them such as servers; `bms"
            " limits` shows all"
        )
    wanted = list(dict.fromkeys(chain.from_iterable(found.values()))) or list(DOCUMENTED_LIMITS)
    pending: list[str] = []
    writer = RowWriter(LIMITS, output, out=pending.append)
    view = read_account(read_settings(cloud))
    if view.failure is not None:
        print_error(f"commands cannot share the limits ({view.failure}): the real usage may be higher than shown")
    # A budget that several calls share, as some gateways count, has a name of its own.
    budgets = [name for name in view.limits if name not in DOCUMENTED_LIMITS]
    wanted += [name for name in budgets if not names or any(name.startswith(each) for each in wanted)]
    rows = [_Row.of(name, view) for name in wanted]
    writer.add_object(_account_fields(view))
    for row in rows:
        writer.add(row)
    for _ in writer.in_order():
        pass
    for fields in _holder_fields(rows):
        writer.add_object(fields)
    writer.finish()
    write("".join(pending))
    if output.form is None and is_terminal():
        _write_holders(view, rows)
    if view.closed_for:
        _print_closed(view)
    return Code.OK


def _calls_of(name: str) -> list[str]:
    """Return the calls with a limit that a name means: itself, or all of a group."""
    name = name.rstrip(".")
    return [call for call in DOCUMENTED_LIMITS if call == name or call.startswith(f"{name}.")]


class _Row(NamedTuple):
    """A limit as it is shown."""

    call: str
    limit: int
    view: LimitView
    left: int
    next_slot: float | None
    is_shared: bool

    @classmethod
    def of(cls, name: str, view: AccountView) -> Self:
        limit = DOCUMENTED_LIMITS.get(name)
        found = view.limits.get(name) or LimitView(limit or 0, (), 0.0, ())
        used = len(found.spent)
        wait = max(view.closed_for, found.blocked_for)
        if used >= found.capacity:
            # If more slots are used than the limit has, the surplus must come back before one is free.
            wait = max(wait, found.spent[used - found.capacity])
        left = 0 if wait else found.capacity - used
        is_shared = view.failure is None
        return cls(name, found.capacity if limit is None else limit, found, left, wait or None, is_shared)

    @property
    def waiting(self) -> int:
        return sum(holder.interactive + holder.bulk for holder in self.view.holders)


def _limit_fields(row: _Row) -> dict[str, object]:
    view, next_slot = row.view, row.next_slot
    return {
        "type": "limit",
        "call": row.call,
        "limit": row.limit,
        "capacity": view.capacity,
        "used": len(view.spent),
        "left": row.left,
        "next_slot": None if next_slot is None else round(next_slot, 1),
        "waiting": row.waiting,
        "holders": len(view.holders),
        "shared": row.is_shared,
    }


LIMITS: Final = Table[_Row](
    columns={
        "call": lambda row: row.call,
        "limit": lambda row: row.limit,
        "used": lambda row: len(row.view.spent),
        "left": lambda row: row.left,
        "next_slot": lambda row: "now" if row.next_slot is None else f"{math.ceil(row.next_slot)} s",
        "waiting": lambda row: row.waiting,
        "holders": lambda row: len(row.view.holders),
        "capacity": lambda row: row.view.capacity,
    },
    usual=("call", "limit", "used", "left", "next_slot", "waiting", "holders"),
    ids=lambda row: row.call,
    fields=_limit_fields,
    right=frozenset({"limit", "used", "left", "next_slot", "waiting", "holders", "capacity"}),
    # The holders are listed below, too, and all but their number has room in 80 columns.
    keep=6,
)
"""The columns of limits."""


class _Held(NamedTuple):
    call: str
    holder: HolderView


_HELD: Final = Table[_Held](
    columns={
        "call": lambda row: row.call,
        "holder": lambda row: row.holder.id,
        "held": lambda row: row.holder.held,
        "waiting": lambda row: row.holder.interactive + row.holder.bulk,
        "of_them_bulk": lambda row: row.holder.bulk,
        "lease_left": lambda row: f"{math.ceil(row.holder.lease_left)} s",
    },
    usual=("call", "holder", "held", "waiting", "of_them_bulk", "lease_left"),
    ids=lambda row: row.call,
    fields=lambda row: row,
    right=frozenset({"held", "waiting", "of_them_bulk", "lease_left"}),
    keep=4,
)


def _account_fields(view: AccountView) -> dict[str, object]:
    return {
        "type": "account",
        "account": view.account,
        "store": view.store,
        "known": view.is_known,
        "closed_for": round(view.closed_for, 1),
        "failure": view.failure,
    }


def _holder_fields(rows: Iterable[_Row]) -> Iterator[dict[str, object]]:
    for row in rows:
        for holder in row.view.holders:
            yield {
                "type": "holder",
                "call": row.call,
                "holder": holder.id,
                "held": holder.held,
                "waiting_interactive": holder.interactive,
                "waiting_bulk": holder.bulk,
                "lease_left": round(holder.lease_left, 1),
            }


def _write_holders(view: AccountView, rows: Sequence[_Row]) -> None:
    """Write who holds slots; on a terminal alone, since elsewhere each line is a limit."""
    held = [_Held(row.call, holder) for row in rows for holder in row.view.holders]
    if held:
        write("\n")
        write_rows(_HELD, OutputOptions(), held)
    write(folded(f"\naccount {strip_control_chars(view.account)} in {strip_control_chars(view.store)}\n"))


def _print_closed(view: AccountView) -> None:
    since = "still closed for" if view.is_known else "not known in the store: its first call waits"
    print_error(
        f"the account {strip_control_chars(view.account)} is {since} {duration(view.closed_for)};"
        " `bms limits open` opens it"
    )


CALLS: Final[Table[Operation[Any]]] = Table(
    columns={
        "call": lambda call: call.name,
        "method": lambda call: call.method,
        "path": lambda call: call.path,
        "limit": lambda call: call.limit,
        "chapter": lambda call: call.chapter,
        "service": lambda call: call.service.value,
        "permission": lambda call: call.permission,
        "title": lambda call: call.title,
    },
    usual=("call", "method", "limit", "chapter", "permission", "title"),
    ids=lambda call: call.name,
    fields=lambda call: {
        "call": call.name,
        "method": call.method,
        "path": call.path,
        "limit": call.limit,
        "chapter": call.chapter,
        "service": call.service.value,
        "permission": call.permission,
        "title": call.title,
    },
    right=frozenset({"limit"}),
)
"""The columns of calls."""


def show_calls(word: str | None, *, output: OutputOptions) -> int:
    """Print all calls, in the order of the reference's chapters.

    Args:
        word: A part of the name, path, title, chapter or permission; None for all.
        output: The form of the rows.
    """
    from bms_async.api import operations

    found = [
        call
        for call in operations()
        if word is None
        or word.lower() in " ".join((call.name, call.path, call.title, call.chapter, call.permission or "")).lower()
    ]
    if not found:
        raise UsageError(f"no call has {word!r} in its name, path, title or chapter; `bms calls` lists all")
    write_rows(CALLS, output, found)
    return Code.OK
