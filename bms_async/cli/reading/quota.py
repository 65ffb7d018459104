"""``bms quota``."""

from __future__ import annotations

from typing import Final, NamedTuple

from bms_async import Quota, Quotas
from bms_async.cli.access.cloud import open_client
from bms_async.cli.access.settings import read_settings
from bms_async.cli.terminal.exit import Code
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.rows import RowWriter, Table, write_rows
from bms_async.cli.terminal.signals import SignalHandler, run_interruptibly

__all__ = ["TABLE", "show_quota"]


class _Row(NamedTuple):
    name: str
    quota: Quota


TABLE: Final = Table[_Row](
    columns={
        "quota": lambda row: row.name.replace("_", " "),
        "limit": lambda row: "unlimited" if row.quota.is_unlimited else row.quota.limit,
        "used": lambda row: row.quota.used,
        "left": lambda row: row.quota.left,
    },
    usual=("quota", "limit", "used", "left"),
    ids=lambda row: row.name,
    fields=lambda row: {
        "quota": row.name,
        "limit": row.quota.limit,
        "used": row.quota.used,
        "left": row.quota.left,
        "unlimited": row.quota.is_unlimited,
    },
    right=frozenset({"limit", "used", "left"}),
)
"""The columns of quotas."""


def show_quota(*, cloud: str | None, output: OutputOptions) -> int:
    """Print the quotas of the project and their usage.

    Args:
        cloud: A cloud of ``clouds.yaml``.
        output: The form of the rows.
    """
    RowWriter(TABLE, output)
    settings = read_settings(cloud)

    async def main(_stop: SignalHandler) -> int:
        async with open_client(settings) as opened:
            quotas = await opened.bms.quotas.get()
        write_rows(TABLE, output, [_Row(name, getattr(quotas, name)) for name in _QUOTAS])
        return Code.OK

    return run_interruptibly(main)


_QUOTAS = tuple(name for name, value in vars(Quotas).items() if isinstance(value, property))
