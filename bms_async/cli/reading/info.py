"""``bms limits`` and ``bms calls``."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import NamedTuple, Self

from bms_async.cli.access.account_usage import AccountView, LimitView, read_account
from bms_async.cli.access.settings import read_settings
from bms_async.cli.terminal.exit import Code, UsageError, print_error
from bms_async.cli.terminal.output import TableWriter, is_terminal, json_line, write
from bms_async.cli.terminal.texts import duration, strip_control_chars
from bms_async.limits import DOCUMENTED_LIMITS

__all__ = ["show_calls", "show_limits"]


def show_limits(names: Iterable[str], *, cloud: str | None, json: bool) -> int:
    """Print how much of each limit all processes use, and who holds it and waits; no call is made for it.

    Args:
        names: The calls to show, or groups of calls such as ``servers``; none for all.
        cloud: A cloud of ``clouds.yaml``.
        json: Whether to write JSON.
    """
    found = {name: _calls_of(name) for name in dict.fromkeys(names)}
    unknown = [name for name, calls in found.items() if not calls]
    if unknown:
        raise UsageError(
            f"{', '.join(unknown)}: expected a call with a documented limit, or a group of them such as servers; `bms"
            " limits` shows all"
        )
    wanted = list(dict.fromkeys(chain.from_iterable(found.values()))) or list(DOCUMENTED_LIMITS)
    view = read_account(read_settings(cloud))
    if view.failure is not None:
        print_error(f"commands cannot share the limits ({view.failure}): the real usage may be higher than shown")
    # A budget that several calls share, as some gateways count, has a name of its own.
    budgets = [name for name in view.limits if name not in DOCUMENTED_LIMITS]
    wanted += [name for name in budgets if not names or any(name.startswith(each) for each in wanted)]
    rows = [_Row.of(name, view) for name in wanted]
    if json:
        _write_json(view, rows)
    else:
        _write_tables(view, rows)
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
        return cls(name, found.capacity if limit is None else limit, found, left, wait or None)

    @property
    def waiting(self) -> int:
        return sum(holder.interactive + holder.bulk for holder in self.view.holders)


def _write_json(view: AccountView, rows: Iterable[_Row]) -> None:
    fields: dict[str, object] = {"type": "account", "account": view.account, "store": view.store}
    fields |= {"known": view.is_known, "closed_for": round(view.closed_for, 1), "failure": view.failure}
    write(json_line(fields))
    for row in rows:
        fields = {"type": "limit", "call": row.call, "limit": row.limit, "capacity": row.view.capacity}
        fields |= {"used": len(row.view.spent), "left": row.left}
        fields |= {"next_slot": None if row.next_slot is None else round(row.next_slot, 1)}
        fields |= {"waiting": row.waiting, "holders": len(row.view.holders), "shared": view.failure is None}
        write(json_line(fields))
    for row in rows:
        for holder in row.view.holders:
            fields = {"type": "holder", "call": row.call, "holder": holder.id, "held": holder.held}
            fields |= {"waiting_interactive": holder.interactive, "waiting_bulk": holder.bulk}
            write(json_line(fields | {"lease_left": round(holder.lease_left, 1)}))


def _write_tables(view: AccountView, rows: Sequence[_Row]) -> None:
    """Write the limits; on a terminal also who holds slots, since elsewhere each line is a limit."""
    names = ("call", "limit", "used", "left", "next_slot", "waiting", "holders")
    # The holders are listed below, too, and all but their number has room in 80 columns.
    columns = TableWriter(names, right=names[1:], keep=len(names) - 1)
    for row in rows:
        next_slot = "now" if row.next_slot is None else f"{math.ceil(row.next_slot)} s"
        columns.add(row.call, row.limit, len(row.view.spent), row.left, next_slot, row.waiting, len(row.view.holders))
    columns.flush()
    if is_terminal():
        fields = ("call", "holder", "held", "waiting", "of_them_bulk", "lease_left")
        columns = TableWriter(fields, right=fields[2:], keep=len(fields) - 2)
        held = [(row.call, holder) for row in rows for holder in row.view.holders]
        if held:
            write("\n")
        for call, holder in held:
            left = f"{math.ceil(holder.lease_left)} s"
            columns.add(call, holder.id, holder.held, holder.interactive + holder.bulk, holder.bulk, left)
        columns.flush()
        write(f"\naccount {strip_control_chars(view.account)} in {strip_control_chars(view.store)}\n")
    if view.closed_for:
        since = "still closed for" if view.is_known else "not known in the store: its first call waits"
        print_error(
            f"the account {strip_control_chars(view.account)} is {since} {duration(view.closed_for)};"
            " `bms limits open` opens it"
        )


def show_calls(word: str | None, *, json: bool) -> int:
    """Print all calls, in the order of the reference's chapters.

    Args:
        word: A part of the name, path, title, chapter or permission; None for all.
        json: Whether to write JSON.
    """
    from bms_async.api import operations

    columns = TableWriter(("call", "method", "limit", "chapter", "permission", "title"), right=("limit",))
    count = 0
    for call in operations():
        searched = " ".join((call.name, call.path, call.title, call.chapter, call.permission or "")).lower()
        if word is not None and word.lower() not in searched:
            continue
        count += 1
        if json:
            fields = {
                "call": call.name,
                "method": call.method,
                "path": call.path,
                "limit": call.limit,
                "chapter": call.chapter,
                "service": call.service.value,
                "permission": call.permission,
                "title": call.title,
            }
            write(json_line(fields))
        else:
            columns.add(call.name, call.method, call.limit, call.chapter, call.permission, call.title)
    columns.flush()
    if not count:
        raise UsageError(f"no call has {word!r} in its name, path, title or chapter; `bms calls` lists all")
    return Code.OK
