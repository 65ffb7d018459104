"""Fetch the pages of a list of servers and read nothing of them, as `benchmarks.commands` subtracts it.

    python -m benchmarks._fetch_pages SERVERS

The environment names the cloud, as for the command ``bms``.
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

from bms_async import BmsClient
from bms_async.api.bms.server_list import MAX_PAGE_SIZE
from bms_async.api.bms.servers import LIST
from bms_async.wire import Operation

_UNREAD: Operation[bytes] = msgspec.structs.replace(LIST, result=bytes)  # type: ignore[arg-type]  # same call


async def main(servers: int) -> None:
    """Fetch one page after the other."""
    async with BmsClient.from_env() as bms:
        for number in range(1, servers // MAX_PAGE_SIZE + 2):
            query = {"limit": MAX_PAGE_SIZE, "offset": number}
            await bms.servers._session.call(_UNREAD, query=query)  # noqa: SLF001 - public calls read what they fetch


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
