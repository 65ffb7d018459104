"""``bms limits`` and ``bms calls``."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bms_async.limits import DOCUMENTED_LIMITS

from .exit import Code, UsageError, print_error
from .output import TableWriter, json_line, write
from .settings import read_settings, usage_of

__all__ = ["show_calls", "show_limits"]


def show_limits(names: Iterable[str], *, cloud: str | None, json: bool) -> int:
    """Print how much of call limit is used; no call is made for it.

    Args:
        names: The calls to show; none for all.
        cloud: A cloud of ``clouds.yaml``.
        json: Whether to write JSON.
    """
    wanted = list(names) or list(DOCUMENTED_LIMITS)
    unknown = [name for name in wanted if name not in DOCUMENTED_LIMITS]
    if unknown:
        raise UsageError(f"{', '.join(unknown)}: no documented limit; `bms calls` lists all calls")
    usage = usage_of(read_settings(cloud))
    used, failure = usage.used(), usage.check_writable()
    if failure is not None:
        print_error(
            f"commands cannot record the slots that they use ({failure}): the real usage may be higher than shown"
        )
    columns = TableWriter(("call", "limit", "used", "left", "next_slot"), right=("limit", "used", "left", "next_slot"))
    for name in wanted:
        limit, back = DOCUMENTED_LIMITS[name], used.get(name, [])
        left = max(0, limit - len(back))
        # If more slots are used than the limit has, the surplus must come back before one is free.
        next_slot = back[len(back) - limit] if len(back) >= limit else None
        if json:
            fields: dict[str, object] = {"call": name, "limit": limit, "used": len(back), "left": left}
            fields |= {"next_slot": None if next_slot is None else round(next_slot, 1), "noted": failure is None}
            write(json_line(fields))
        else:
            columns.add(name, limit, len(back), left, "now" if next_slot is None else f"{math.ceil(next_slot)} s")
    columns.flush()
    return Code.OK


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
