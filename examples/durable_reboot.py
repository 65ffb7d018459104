"""Reboot servers once, however often this program is killed and run again.

    pip install '.[cli,simulator]'
    python -m bms_async.simulator --servers 200 --port 8800 --project-id demo --token demo --job-seconds 2 8
    export BMS_ENDPOINT=http://127.0.0.1:8800 OS_PROJECT_ID=demo OS_TOKEN=demo      # in another terminal
    bms servers list --ids > ids.txt
    python examples/durable_reboot.py kernel-42 ids.txt --wave 40

Press Ctrl-C, or kill -9 it, and run the same line again: it goes on where it was, and prints what it has not printed
yet. No server is rebooted twice, because the key makes it the same run. The run is in the file of this machine, or in
the database that BMS_RUNS names; with a database any other worker of the project goes on meanwhile.

What was printed is known from a cursor file, `KEY.cursor`, which is saved every second: after a kill the lines of the
last second may come again.

Exit codes: 0 every server was rebooted, 1 some were not or it is unknown, 2 wrong usage, 3 invalid settings or a
journal that cannot be used, 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import anyio

from bms_async import BmsClient, BmsError, DurableRun, Outcome, Runs

SAVE_EVERY = 1.0


async def reboot(ids: Sequence[str], options: argparse.Namespace) -> int:
    """Begin the run or go on with it, and print its outcomes; return the exit code."""
    runs = None if os.environ.get("BMS_RUNS") else Runs()
    async with BmsClient.from_env(runs=runs) as bms:
        run = await bms.runs.reboot(ids, key=options.key, wave_size=options.wave)
        print(f"{run!r}, in the journal since {run.created:%Y-%m-%d %H:%M:%S} UTC", flush=True)
        await print_outcomes(run, anyio.Path(options.cursor or f"{quote(options.key, safe='')}.cursor"))
        report = await run
    print(report, flush=True)
    return 1 if report.by_code else 0


async def print_outcomes(run: DurableRun, place: anyio.Path) -> None:
    """Print the outcomes that were not printed yet, as they happen."""
    outcomes = run.outcomes(since=await read_cursor(place))
    saved_at = anyio.current_time()
    try:
        async for outcome in outcomes:
            print(describe(outcome), flush=True)
            if anyio.current_time() - saved_at >= SAVE_EVERY:
                await save_cursor(place, outcomes.cursor)
                saved_at = anyio.current_time()
    finally:
        # Also after Ctrl-C, which cancels everything else here.
        with anyio.CancelScope(shield=True):
            await save_cursor(place, outcomes.cursor)


async def read_cursor(place: anyio.Path) -> str | None:
    """Return the cursor that was saved, or None."""
    return (await place.read_text(encoding="utf-8")).strip() if await place.exists() else None


async def save_cursor(place: anyio.Path, cursor: str) -> None:
    """Save a cursor; whoever is killed meanwhile leaves the one before."""
    new = place.with_name(f"{place.name}.new")
    await new.write_text(f"{cursor}\n", encoding="utf-8")
    await new.replace(place)


def describe(outcome: Outcome) -> str:
    """Write an outcome as a line."""
    return f"{outcome.server_id} {outcome.state.value} {outcome.error or ''}".rstrip()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("key", help="the name of the run; the same name is the same run")
    parser.add_argument("ids", type=Path, help="a file with the id of a server on each line")
    parser.add_argument("--wave", type=int, metavar="N", help="reboot so many servers at a time at most")
    parser.add_argument("--cursor", metavar="FILE", help="where to note what was printed (KEY.cursor)")
    options = parser.parse_args(arguments)
    try:
        ids = options.ids.read_text(encoding="utf-8").split()
    except OSError as error:
        parser.error(f"expected a file with ids: {error}")
    if not ids:
        parser.error(f"expected a file with ids: {options.ids} has none")
    try:
        return asyncio.run(reboot(ids, options))
    except BmsError as error:
        sys.stderr.write(f"{error}\n")
        return 3
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on with the run\n")
        return 130


if __name__ == "__main__":
    sys.exit(main())
