"""``bms quota``."""

from __future__ import annotations

from bms_async import Quota, Quotas
from bms_async.cli.access.cloud import open_client, read_settings
from bms_async.cli.terminal.exit import Code
from bms_async.cli.terminal.output import TableWriter, json_line, write
from bms_async.cli.terminal.signals import SignalHandler, run_interruptibly

__all__ = ["show_quota"]


def show_quota(*, cloud: str | None, json: bool) -> int:
    """Print the quotas of the project and their usage."""
    settings = read_settings(cloud)

    async def main(_stop: SignalHandler) -> int:
        async with open_client(settings) as opened:
            quotas = await opened.bms.quotas.get()
        columns = TableWriter(("quota", "limit", "used", "left"), right=("limit", "used", "left"))
        for name in _QUOTAS:
            quota: Quota = getattr(quotas, name)
            if json:
                fields = {"quota": name, "limit": quota.limit, "used": quota.used, "left": quota.left}
                write(json_line({**fields, "unlimited": quota.is_unlimited}))
            else:
                limit = "unlimited" if quota.is_unlimited else quota.limit
                columns.add(name.replace("_", " "), limit, quota.used, quota.left)
        columns.flush()
        return Code.OK

    return run_interruptibly(main)


_QUOTAS = tuple(name for name, value in vars(Quotas).items() if isinstance(value, property))
