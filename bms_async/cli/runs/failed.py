"""Shows which servers of a run in the journal are not as asked."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

from bms_async import DurableRun, Outcome
from bms_async.cli.access.learning import learn_servers
from bms_async.cli.following.outcomes import outcome_table
from bms_async.cli.terminal.exit import Code
from bms_async.cli.terminal.forms import OutputOptions
from bms_async.cli.terminal.rows import write_rows_aside

if TYPE_CHECKING:
    from bms_async.cli.access.cloud import OpenClient

__all__ = ["show_failed"]


async def show_failed(run: DurableRun, cloud: OpenClient, *, output: OutputOptions) -> int:
    """Print the servers of a run that are not as asked, as they are read, and return the exit code.

    Args:
        run: The run.
        cloud: The client.
        output: The form of the rows.

    Raises:
        JournalError: The journal cannot be read.
    """
    if sum(count for state, count in run.progress.by_state.items() if not state.is_success):
        if output.form != "ids":
            await learn_servers(cloud, [outcome.server_id async for outcome in _failed(run)])
        table = outcome_table(cloud.known)
        await write_rows_aside(table, output, _failed(run))
    return Code.OK


async def _failed(run: DurableRun) -> AsyncIterator[Outcome]:
    async for outcome in run.outcomes(wait=False):
        if not outcome.state.is_success:
            yield outcome
