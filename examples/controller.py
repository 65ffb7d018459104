"""Keep the power of servers as a file has it, and print what changes.

    python -m bms_async.simulator --servers 100 --port 8800 --project-id demo --token demo --job-seconds 1 3
    export BMS_ENDPOINT=http://127.0.0.1:8800 OS_PROJECT_ID=demo OS_TOKEN=demo         # in another terminal
    bms servers list --ids | sed 's/$/ off/' > desired.txt                             # the extra cli brings it
    python examples/controller.py desired.txt --resync 5

desired.txt has a server a line, `ID on` or `ID off`; # begins a comment. What it does not name is left alone, it may
be edited at any time, and nothing is ever rebooted. Each change is printed as a JSON object on a line. However it is
killed, the next one sees which servers are under way, and asks none of them twice. Where BMS_RUNS is set, the desired
states are in that journal too, and of several replicas with the same file one acts.

Exit codes: 0 ended by a signal, 2 wrong usage or file, 3 wrong settings or credentials, or the cloud does not respond.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
from datetime import UTC, datetime
from pathlib import Path

import anyio
import msgspec

from bms_async import BmsClient, BmsError, InvalidRequestError, PowerChanges, Reconciler, ServerStatus

STATUSES = {"on": ServerStatus.ACTIVE, "off": ServerStatus.SHUTOFF}


def read_desired(path: Path) -> dict[str, ServerStatus]:
    """Read the desired statuses; if a line makes no sense, none counts: half a file is not what anybody wants."""
    desired = dict[str, ServerStatus]()
    # Some editors begin a file with a byte order mark.
    text = path.read_text("utf-8-sig")
    if text and not text.endswith("\n"):
        raise ValueError("it ends within a line; write a line end after the last one")
    for number, line in enumerate(text.split("\n"), 1):
        match line.partition("#")[0].split():
            case [server_id, "on" | "off" as power] if server_id not in desired:
                desired[server_id] = STATUSES[power]
            case [_, *_]:
                raise ValueError(f"line {number}: {line.strip()!r}; write an id of no other line, a blank, on or off")
    return desired


def say(event: str, **details: object) -> None:
    """Print what has happened, on one line."""
    print(msgspec.json.encode({"at": datetime.now(UTC), "event": event} | details).decode(), flush=True)


async def follow_file(path: Path, power: Reconciler) -> None:
    """Desire what the file says, whenever it has changed; one that makes no sense changes nothing."""
    applied = seen = ""
    while True:
        before, seen = seen, await asyncio.to_thread(stamp, path)
        # One that has changed since the last look may still be written.
        if seen == before != applied:
            applied = seen
            try:
                desired = await asyncio.to_thread(read_desired, path)
                power.replace(desired)
                say("desired", servers=len(desired))
            except (OSError, ValueError) as error:
                say("kept", why=f"cannot use {path}: {error}")
        await anyio.sleep(0.5)


def stamp(path: Path) -> str:
    """Return what differs from one version of the file to another, or why there is none."""
    try:
        found = path.stat()
    except OSError as error:
        return str(error)
    return f"{found.st_mtime_ns} {found.st_size} {found.st_ino}"


async def report(changes: PowerChanges) -> None:
    """Print each server whose condition has changed."""
    async for change in changes:
        details = msgspec.structs.asdict(change.condition)
        if (reason := details.get("reason")) is not None:
            details |= {"reason": str(reason), "code": getattr(reason, "code", None)}
        say(type(change.condition).__name__, server=change.server_id, desired=change.desired, **details)


async def control(options: argparse.Namespace) -> None:
    """Keep servers as the file has them, until a signal comes."""
    async with BmsClient.from_env() as bms:
        # Wrong credentials end the program at once, and not server by server.
        await anext(aiter(bms.with_options(retry=None, total_timeout=10.0).servers.list(page_size=1)), None)
        power = bms.reconciler(resync=options.resync, wave_size=options.wave)
        async with power, anyio.create_task_group() as tasks:
            tasks.start_soon(follow_file, options.desired, power)
            tasks.start_soon(report, power.changes())
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                await anext(aiter(signals))
            tasks.cancel_scope.cancel()
    say("ended")


def main() -> None:
    """Run the program."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("desired", type=Path, help="the file of desired states")
    parser.add_argument("--resync", type=float, default=30.0, help="seconds between two readings of all states (30)")
    parser.add_argument("--wave", type=int, default=200, help="how many servers may be under way at once (200)")
    options = parser.parse_args()
    try:
        read_desired(options.desired)
        asyncio.run(control(options))
    except BmsError as error:
        parser.exit(2 if isinstance(error, InvalidRequestError) else 3, f"{error}\n")
    except (OSError, ValueError) as error:
        parser.exit(2, f"cannot use {options.desired}: {error}\n")


if __name__ == "__main__":
    main()
