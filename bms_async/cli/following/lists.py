"""Writes the lists of a run's servers that are not as asked, and says where they are."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import anyio.to_thread

from bms_async.cli.terminal.exit import print_error
from bms_async.cli.terminal.texts import describe_os_error, pluralize, strip_control_chars

from .followed import Followed
from .not_as_asked import NotAsAsked, keep_list, list_lines, write_list

if TYPE_CHECKING:
    from bms_async.cli.access.cloud import OpenClient

__all__ = ["FailedLists"]


class FailedLists:
    """The lists of a run.

    Args:
        servers: The servers.
        run: Their run.
        verb: What it does, in a word.
        cloud: The client.
    """

    def __init__(self, servers: NotAsAsked, run: Followed, verb: str, cloud: OpenClient) -> None:
        self._servers = servers
        self._run = run
        self._verb = verb
        self._cloud = cloud
        self._written: list[Path] = []

    async def keep(self) -> Path | None:
        """Write the list into the state folder, and return where it is; None if there is nothing to write, or no way.

        What went wrong is printed.
        """
        if not self._servers:
            return None
        lines = list_lines(self._servers, self._cloud.known)
        try:
            kept = await anyio.to_thread.run_sync(keep_list, self._run.list_name, self._head(), lines)
        except OSError as error:
            print_error(f"the list of the servers that are not as asked was not written: {describe_os_error(error)}")
            return None
        self._written.append(kept)
        return kept

    async def write(self, path: Path) -> bool:
        """Write the list into a file that the user has named; return whether it was written.

        What went wrong is printed.

        Args:
            path: The file.
        """
        lines = list_lines(self._servers, self._cloud.known)
        try:
            await anyio.to_thread.run_sync(write_list, path, self._head(), lines)
        except OSError as error:
            print_error(f"--failed-to {path}: the list was not written: {describe_os_error(error)}")
            return False
        self._written.insert(0, path)
        return True

    def print_where(self) -> None:
        """Print how many servers are not as asked, and where the lists of them are."""
        count = f"{pluralize(len(self._servers), 'server')} not as asked"
        if self._written:
            print_error(f"{count}; the list: {' and '.join(map(str, self._written))}")
        elif self._run.key is None:
            # Nothing else has them.
            print_error(f"{count}:")
            for server_id in self._servers.ids():
                print_error(strip_control_chars(server_id), first="  ")

    def _head(self) -> str:
        count = pluralize(len(self._servers), "server")
        named = f" of the run {self._run.key}" if self._run.key is not None else ""
        when = f"{datetime.now(UTC):%Y-%m-%d %H:%M:%S} UTC"
        return f"{self._verb}: {count}{named} not as asked, {self._cloud.place}, {when}"
