"""Reading the servers of a rollout on a plain OpenStack cloud that were given as ids."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable, Collection
from contextlib import aclosing
from typing import Final, cast

from bms_async.api.nova._resource import MICROVERSION
from bms_async.errors import ApiError
from bms_async.models import Server
from bms_async.models.ids import canonical_id
from bms_async.validation.native import TAGS_MICROVERSION

from .listing import Listing

_READ_SINGLY: Final = 5
_NOT_ACCEPTABLE: Final = 406


class NativeServerReader:
    """Reads servers with all their fields, and keeps none: a few one by one, more by one list of all.

    Args:
        listing: Reads them.

    Attributes:
        calls: How many calls it has made; 0, since the listing counts them.
    """

    calls = 0

    def __init__(self, listing: Listing) -> None:
        self._listing = listing

    async def read_servers(self, ids: Collection[str], note: Callable[[Server], None]) -> None:
        """Read servers; those that the cloud does not show are left out.

        Args:
            ids: The servers.
            note: Called with each.

        Raises:
            CallError: They could not be read.
        """
        headers = {MICROVERSION: TAGS_MICROVERSION}
        try:
            await self._read(ids, note, headers)
        except ApiError as error:
            if error.status != _NOT_ACCEPTABLE:
                raise
            # A cloud that is older than the tags of servers.
            await self._read(ids, note, {})

    async def _read(self, ids: Collection[str], note: Callable[[Server], None], headers: dict[str, str]) -> None:
        if len(ids) <= _READ_SINGLY:
            for server_id in ids:
                server = await self._listing.read_server(server_id, headers)
                if server is not None:
                    note(server)
            return
        async with aclosing(cast("AsyncGenerator[Server, None]", self._listing.servers(headers))) as servers:
            async for server in servers:
                if canonical_id(server.id) in ids:
                    note(server)
