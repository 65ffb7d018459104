"""Names for servers that a run has and no list has shown."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bms_async.cli.access.cloud import OpenClient

__all__ = ["learn_servers"]


async def learn_servers(cloud: OpenClient, ids: Iterable[str], *, native: bool = False) -> None:
    """Fill in what is known of servers that are not known yet.

    Args:
        cloud: The client.
        ids: The servers.
        native: Whether they are read by the native calls of OpenStack.
    """
    # The branch `select` has it; until then nothing is learnt.
