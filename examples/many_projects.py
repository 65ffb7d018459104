"""List, stop, start or reboot the servers of many projects and regions at once: one run, one report.

    async with Clouds.from_clouds() as clouds:  # all clouds of clouds.yaml
        run = clouds.fleet.stop({name: bms.servers.list(tags="rack-0") for name, bms in clouds.items()})
        async for outcome in run:
            print(outcome.cloud, outcome.server_id, outcome.state)

The rest is a command around that, which needs the extras cli and clouds, and two clouds to try it with:

    python -m bms_async.simulator --servers 40 --port 8801 --project-id one --token t1 --job-seconds 1 3   # a terminal
    python -m bms_async.simulator --servers 40 --port 8802 --project-id two --token t2 --job-seconds 1 3   # another one
    cat > clouds.yaml <<END
    clouds:
      one: {bms_endpoint_override: "http://127.0.0.1:8801", auth: {project_id: one, token: t1}}
      two: {bms_endpoint_override: "http://127.0.0.1:8802", auth: {project_id: two, token: t2}}
    END
    python examples/many_projects.py stop --tag rack-0 --yes

Exit codes: 0 all well, 1 a server is not as asked, 2 wrong usage or file, 3 a cloud has refused its credentials,
4 a cloud did not respond, 130 interrupted by Ctrl-C. If several are true it is the highest of them.
"""

from __future__ import annotations

import argparse
import asyncio
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator

import anyio
from rich.console import Console
from rich.table import Table

from bms_async import BmsClient, Clouds, CloudsRun, ConfigurationError, Server


async def operate(options: argparse.Namespace) -> int:
    """Do what was asked for in all clouds; return the exit code."""
    async with Clouds.from_clouds(*options.cloud) as clouds, anyio.create_task_group() as tasks:
        counts = {name: Counter[str]() for name in clouds.names}
        servers = {name: read(bms, options.tag, counts[name]) for name, bms in clouds.items()}
        acts = options.action != "list" and options.yes
        actions = {"stop": clouds.fleet.stop, "start": clouds.fleet.start, "reboot": clouds.fleet.reboot}
        run = actions[options.action](servers) if acts else clouds.fleet.each(servers, lambda *_: asyncio.sleep(0))
        tasks.start_soon(end_on_signal, run)
        tasks.start_soon(show_progress, run)
        report = await run.wait()
        tasks.cancel_scope.cancel()
    errors = {**clouds.failures, **run.errors}
    shown = {name: Counter[str](each.by_state) for name, each in report.by_cloud.items()} if acts else counts
    states = list(dict.fromkeys(state for count in shown.values() for state in count))
    table = Table("cloud", "servers", *map(str.lower, states))
    for name, count in (*shown.items(), ("all", sum(shown.values(), Counter()))):
        table.add_row(name, f"{count.total():,}", *(f"{count[state]:,}" for state in states))
    Console(markup=False, highlight=False).print(table)
    for name, error in errors.items():
        print(f"{name}: {error}")
    for name, each in report.by_cloud.items():
        for code, number in each.by_code.items():
            print(f"{name}: {number} servers: {code}", each.measures.get(code, ""))
    if report.cancelled:
        return say(130, "interrupted; the jobs continue in the clouds")
    if not len(report) and not errors:
        return say(2, "there are no servers" + (f" with the tag {options.tag!r}" if options.tag else ""))
    if options.action != "list" and not options.yes:
        return say(2, f"this would {options.action} {len(report)} servers of {len(counts)} clouds; if so, add --yes")
    codes = [3 if getattr(error, "status", 0) in (401, 403) else 4 for error in errors.values()]
    return max([*codes, bool(report.by_code)])


async def read(bms: BmsClient, tag: str | None, statuses: Counter[str]) -> AsyncIterator[Server]:
    """Read the servers of a cloud, and count their statuses."""
    async for server in bms.servers.list(tags=tag):
        statuses[server.status or "?"] += 1
        yield server


async def end_on_signal(run: CloudsRun) -> None:
    """Let the run go on Ctrl-C: what was sent continues in the clouds, and the report comes all the same."""
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for _ in signals:
            run.cancel(detach=True)


async def show_progress(run: CloudsRun) -> None:
    """Say now and then how far it is."""
    while True:
        await anyio.sleep(3)
        going = ", ".join(name for name, part in run.by_cloud.items() if part.report is None)
        say(0, f"{run.progress.done:,} servers have ended; at work: {going}")


def say(code: int, text: str) -> int:
    """Print a line for the user, and return the exit code."""
    print(f"many_projects: {text}", file=sys.stderr, flush=True)
    return code


def main() -> int:
    """Run the program; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("action", choices=("list", "stop", "start", "reboot"), help="what to do")
    parser.add_argument("--cloud", action="append", default=[], help="this one; may be given again; all without")
    parser.add_argument("--tag", help="the servers that carry it; all of them without")
    parser.add_argument("--yes", action="store_true", help="do it; without, what it would be done to is listed")
    options = parser.parse_args()
    if options.tag is not None and not options.tag.strip(" ,"):
        parser.error("--tag: expected a tag; leave --tag out for all servers")
    try:
        return asyncio.run(operate(options))
    except ConfigurationError as error:
        return say(2, str(error))
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
