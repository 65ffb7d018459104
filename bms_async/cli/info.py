"""``bms limits``, ``bms calls`` and ``bms quota``."""

from __future__ import annotations

import math
from collections.abc import Iterable

from bms_async import Quota, Quotas
from bms_async.api import operations
from bms_async.limits import DOCUMENTED_LIMITS

from .cloud import open_client, read_settings, usage_of
from .exit import Code, UsageError, print_error
from .output import TableWriter, json_line, write
from .signals import SignalHandler, run_interruptibly

__all__ = ["show_calls", "show_limits", "show_quota"]


def show_limits(names: Iterable[str], *, cloud: str | None, json: bool) -> int:
    """Write of each limit how much is used; no call is made for it.

    Args:
        names: The calls that are asked for; none for all.
        cloud: A cloud of ``clouds.yaml``.
        json: Whether to write JSON.
    """
    wanted = list(names) or list(DOCUMENTED_LIMITS)
    unknown = [name for name in wanted if name not in DOCUMENTED_LIMITS]
    if unknown:
        raise UsageError(f"{', '.join(unknown)}: no limit is documented for it; `bms calls` lists all calls")
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
        # When more than the limit are used, so many must come back before one is free.
        soon = back[len(back) - limit] if len(back) >= limit else None
        if json:
            told: dict[str, object] = {"call": name, "limit": limit, "used": len(back), "left": left}
            told |= {"next_slot": None if soon is None else round(soon, 1), "noted": failure is None}
            write(json_line(told))
        else:
            columns.add(name, limit, len(back), left, "now" if soon is None else f"{math.ceil(soon)} s")
    columns.flush()
    return Code.OK


def show_calls(word: str | None, *, json: bool) -> int:
    """Write every call that there is, in the order of the reference's chapters.

    Args:
        word: What its name, path, title or chapter has in it; None for all.
        json: Whether to write JSON.
    """
    columns = TableWriter(("call", "method", "limit", "chapter", "permission", "title"), right=("limit",))
    count = 0
    for each in operations():
        searched = " ".join((each.name, each.path, each.title, each.chapter, each.permission or "")).lower()
        if word is not None and word.lower() not in searched:
            continue
        count += 1
        if json:
            told = {
                "call": each.name,
                "method": each.method,
                "path": each.path,
                "limit": each.limit,
                "chapter": each.chapter,
                "service": each.service.value,
                "permission": each.permission,
                "title": each.title,
            }
            write(json_line(told))
        else:
            columns.add(each.name, each.method, each.limit, each.chapter, each.permission, each.title)
    columns.flush()
    if not count:
        raise UsageError(f"no call has {word!r} in its name, path, title or chapter; `bms calls` lists all")
    return Code.OK


def show_quota(*, cloud: str | None, json: bool) -> int:
    """Write how much the project may have, and has."""
    settings = read_settings(cloud)

    async def main(_stop: SignalHandler) -> int:
        async with open_client(settings) as opened:
            quotas = await opened.bms.quotas.get()
        columns = TableWriter(("quota", "limit", "used", "left"), right=("limit", "used", "left"))
        for name in _QUOTAS:
            quota: Quota = getattr(quotas, name)
            if json:
                told = {"quota": name, "limit": quota.limit, "used": quota.used, "left": quota.left}
                write(json_line({**told, "unlimited": quota.is_unlimited}))
            else:
                limit = "unlimited" if quota.is_unlimited else quota.limit
                columns.add(name.replace("_", " "), limit, quota.used, quota.left)
        columns.flush()
        return Code.OK

    return run_interruptibly(main)


_QUOTAS = tuple(name for name, value in vars(Quotas).items() if isinstance(value, property))
