"""``bms servers``."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import AsyncIterator, Sequence
from enum import Enum
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
import msgspec

from bms_async import BmsError, InvalidRequestError, NotFoundError, Server
from bms_async.cli.access.cloud import OpenClient, open_client
from bms_async.cli.access.seen import Seen
from bms_async.cli.access.settings import read_settings
from bms_async.cli.selection.filters import Filters
from bms_async.cli.selection.listing import find_ids, find_servers
from bms_async.cli.terminal.cells import cell_len, padded
from bms_async.cli.terminal.exit import Code, UsageError, explain_error, print_error
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.output import format_cell, is_terminal, write, write_aside
from bms_async.cli.terminal.plain import plain
from bms_async.cli.terminal.rows import RowWriter, Table, write_rows_aside
from bms_async.cli.terminal.signals import SignalHandler, run_interruptibly
from bms_async.cli.terminal.texts import strip_control_chars
from bms_async.cli.terminal.words import quote

if TYPE_CHECKING:
    from bms_async import BmsClient
    from bms_async.cli.terminal.progress import Screen
    from bms_async.config import Settings

__all__ = ["TABLE", "ListOptions", "list_servers", "show_servers"]

_CONCURRENT_READS = 8
_PAGE: Final = 1000
_PATIENCE: Final = 2.0
"""Seconds until the number of servers that were read is shown, where no row is to be seen."""

TABLE: Final = Table[Server](
    columns={
        "id": lambda server: server.id,
        "name": lambda server: server.name,
        "status": lambda server: server.status,
        "power": lambda server: server.power_state,
        "task": lambda server: server.task_state,
        "flavor": lambda server: server.flavor and (server.flavor.id or server.flavor.name),
        "image": lambda server: server.image and (server.image.name or server.image.id),
        "zone": lambda server: server.availability_zone,
        "addresses": lambda server: [address.address for group in server.addresses.values() for address in group],
        "tags": lambda server: server.tags,
        "key": lambda server: server.key_name,
        "host": lambda server: server.hypervisor_hostname,
        "fault": lambda server: server.fault and server.fault.message,
        "created": lambda server: server.created,
        "updated": lambda server: server.updated,
        "launched": lambda server: server.launched_at,
        "metadata": lambda server: server.metadata,
        "description": lambda server: server.description,
    },
    usual=("id", "name", "status", "flavor", "zone", "addresses"),
    ids=lambda server: server.id,
    fields=plain,
    keep=3,
)
"""The columns of servers."""


class ListOptions(msgspec.Struct, frozen=True, kw_only=True):
    """The options as typed.

    Attributes:
        filters: The filters; none for all servers.
        cloud: A cloud of ``clouds.yaml``.
        limit: How many servers at most.
        output: The form of the rows.
        ids: Whether to print ids only.
    """

    filters: Filters = Filters()
    cloud: str | None = None
    limit: int | None = None
    output: OutputOptions = OutputOptions()
    ids: bool = False


def list_servers(options: ListOptions) -> int:
    """Print the servers that match, as they come."""
    output = options.output
    if options.ids:
        if output.form not in {None, "ids"} or output.columns is not None:
            raise UsageError("--ids prints ids only; leave out --json, --output and --columns")
        output = output._replace(form="ids")
    # What is wrong with the options is said before anything is asked.
    RowWriter(TABLE, output)
    settings = read_settings(options.cloud)

    async def main(_stop: SignalHandler) -> int:
        async with open_client(settings) as cloud:
            await _write_list(cloud, options, output)
        return Code.OK

    return run_interruptibly(main)


async def _write_list(cloud: OpenClient, options: ListOptions, output: OutputOptions) -> None:
    bms, count = cloud.bms, 0
    if output.form == "ids" and output.sort is None:
        count = await _write_ids(bms, options)
    else:
        page_size = _page_size(options) if output.sort is None else _PAGE
        servers = find_servers(bms, options.filters, page_size=page_size)
        if options.limit is None and options.filters == Filters():
            servers = _noting(servers, cloud.settings)
        if not _hides_rows(output):
            count = await write_rows_aside(TABLE, output, servers, limit=options.limit)
        else:
            counter = _Counter()
            try:
                count = await write_rows_aside(TABLE, output, counter.count(servers), limit=options.limit)
            finally:
                await counter.clear()
    if not count and is_terminal():
        print_error(f"there is no server{f' with {options.filters}' if options.filters else ''}")


async def _noting(servers: AsyncIterator[Server], settings: Settings) -> AsyncIterator[Server]:
    """Iterate over all servers, and leave for the completion of a shell what they have."""
    seen = Seen()
    async for server in servers:
        seen.add(server)
        yield server
    await anyio.to_thread.run_sync(seen.saved_now, settings)


def _hides_rows(output: OutputOptions) -> bool:
    """Return whether somebody waits at a terminal and sees no row: they are held for their order, or go to a file."""
    if not sys.stderr.isatty():
        return False
    try:
        return output.sort is not None or stat.S_ISREG(os.fstat(sys.stdout.fileno()).st_mode)
    except (OSError, ValueError):
        return False


class _Counter:
    """Shows how many servers were read so far, once that takes a while."""

    def __init__(self) -> None:
        self._screen: Screen | None = None

    async def count(self, servers: AsyncIterator[Server]) -> AsyncIterator[Server]:
        """Yield servers, and show their number from time to time."""
        count, due = 0, anyio.current_time() + _PATIENCE
        async for server in servers:
            yield server
            count += 1
            if count % _PAGE == 0 and anyio.current_time() >= due:
                await self._show(f"{count:,} servers so far")

    async def _show(self, text: str) -> None:
        # Reads that end soon do without what draws.
        from rich.text import Text

        from bms_async.cli.terminal.progress import Screen

        self._screen = self._screen or Screen()
        await self._screen.draw([Text(text, style="dim")])

    async def clear(self) -> None:
        """Erase the number."""
        if self._screen is not None:
            with anyio.CancelScope(shield=True), anyio.move_on_after(1):
                await self._screen.clear()


async def _write_ids(bms: BmsClient, options: ListOptions) -> int:
    count = 0
    if options.limit == 0:
        return count
    async for ids in find_ids(bms, options.filters, page_size=_page_size(options)):
        wanted = ids if options.limit is None else ids[: options.limit - count]
        count += len(wanted)
        await write_aside("".join(f"{strip_control_chars(server_id)}\n" for server_id in wanted))
        if count == options.limit:
            break
    return count


def _page_size(options: ListOptions) -> int:
    return min(options.limit or _PAGE, _PAGE)


def show_servers(arguments: Sequence[str], *, cloud: str | None, output: OutputOptions) -> int:
    """Print all fields of some servers; returns 1 if one of them could not be read.

    Args:
        arguments: Their ids; a ``-`` stands for standard input.
        cloud: A cloud of ``clouds.yaml``.
        output: The form of the rows; the usual one is text for people.
    """
    # A list takes no servers by name, and does without what reads files of them.
    from bms_async.cli.selection.ids import Given, read_given
    from bms_async.cli.selection.names import resolve

    given = read_given(arguments, None) or Given(())
    rows = None if output.is_default else RowWriter(TABLE, output)
    settings = read_settings(cloud)

    async def main(_stop: SignalHandler) -> int:
        async with open_client(settings) as opened:
            code: int = Code.OK
            ids = await resolve(opened, given, is_lenient=True)
            for start in range(0, len(ids), _CONCURRENT_READS):
                for server_id, result in await _read(opened.bms, ids[start : start + _CONCURRENT_READS]):
                    if not isinstance(result, Server):
                        code = Code.FAILED
                        _print_missing(server_id, result, opened.place.brief)
                    elif rows is None:
                        write(_describe(result))
                    else:
                        rows.add(result)
        if rows is not None:
            rows.finish()
        return code

    return run_interruptibly(main)


async def _read(bms: BmsClient, ids: Sequence[str]) -> list[tuple[str, Server | BmsError]]:
    found: dict[str, Server | BmsError] = {}
    errors: list[BmsError] = []

    async def read_one(server_id: str) -> None:
        try:
            found[server_id] = await bms.servers.get(server_id)
        except (NotFoundError, InvalidRequestError) as error:
            found[server_id] = error
        except BmsError as error:
            errors.append(error)

    async with anyio.create_task_group() as tasks:
        for server_id in ids:
            tasks.start_soon(read_one, server_id)
    if errors:
        raise errors[0]
    return [(server_id, found[server_id]) for server_id in ids]


def _print_missing(server_id: str, error: BmsError, where: str) -> None:
    if isinstance(error, NotFoundError):
        advice = "check the id: `bms servers list` shows all"
        print_error(f"there is no server {strip_control_chars(server_id)} in {where}; {advice}{quote(error)}")
    else:
        print_error(strip_control_chars(explain_error(error).text))


def _describe(server: Server) -> str:
    """Return a server as text for people: a field a line, nested fields indented."""
    lines: list[str] = []
    _add_fields(lines, server.__rich_repr__(), 0)
    return "\n".join(lines) + "\n\n"


def _add_fields(lines: list[str], fields: Sequence[tuple[str, object]], depth: int) -> None:
    indent = "  " * depth
    width = max((cell_len(strip_control_chars(name)) for name, _ in fields), default=0) + 1
    for name, value in fields:
        shown = plain(value)
        if isinstance(shown, dict) and shown:
            lines.append(f"{indent}{strip_control_chars(name)}:")
            _add_fields(lines, list(shown.items()), depth + 1)
        elif isinstance(shown, list) and any(isinstance(item, dict) for item in shown):
            lines.append(f"{indent}{strip_control_chars(name)}:")
            for item in shown:
                block: list[str] = []
                _add_fields(block, list(item.items()), 0)
                lines += [f"{indent}  {'  ' if index else '- '}{line}" for index, line in enumerate(block)]
        else:
            # The name of an enum says more than its number.
            text = format_cell(value if isinstance(value, Enum) else shown)
            lines.append(f"{indent}{padded(f'{strip_control_chars(name)}:', width)} {text}")
