"""Stop, start or reboot a fleet of bare-metal servers, and report what became of each of them.

    python examples/fleet_power.py --servers 10000 --fail-share 0.01 stop start reboot     # a simulated cloud
    BMS_ENDPOINT=https://... OS_PROJECT_ID=... OS_TOKEN=... python examples/fleet_power.py --tag rack-7 --yes stop

Exit codes: 0 every server has its outcome, 1 one has none (with --strict: or is not as asked), 2 wrong usage,
3 invalid credentials or settings, 4 the cloud does not respond, or not as one, 130 interrupted by Ctrl-C.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Final

import anyio
import httpx
import msgspec
from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

import bms_async
from bms_async import BmsClient, FleetReport, FleetRun, HttpxTransport, LimiterStatistics, OutcomeState

SIMULATOR_FLAGS: Final = ("servers", "seed", "fail_share", "job_seconds")
SECONDS_BETWEEN_LINES: Final = 3.0
CALLS: Final = ("servers.list", "servers.get", "servers.stop", "servers.start", "servers.reboot", "jobs.get")


class UsageError(Exception):
    """What was asked for makes no sense; the text says why."""


class Interruption:
    """Ctrl-C: the first lets the servers go and still brings the report, the next ends everything."""

    def __init__(self) -> None:
        self.scope = anyio.CancelScope()
        self.run: FleetRun | None = None
        self.signal = 0

    def take(self, number: int) -> None:
        """Take a signal in."""
        if self.run is None or self.signal:
            self.scope.cancel()
        else:
            self.run.cancel(detach=True)
        self.signal = number


# Which cloud, and which servers.


def read_options(arguments: Sequence[str] | None) -> argparse.Namespace:
    """Read the command line; a wrong one ends the program with code 2."""
    parser = argparse.ArgumentParser(
        description="Stop, start or reboot any number of bare-metal servers, as fast as the cloud's limits allow.",
        epilog="The cloud is the one that BMS_ENDPOINT, OS_PROJECT_ID and OS_TOKEN name. Without BMS_ENDPOINT, or with"
        " a flag of the simulator, it is a simulated one, and all of its servers are meant unless you name some.",
    )
    parser.add_argument("actions", nargs="+", choices=("stop", "start", "reboot"), help="done one after another")
    which = parser.add_argument_group("which servers").add_mutually_exclusive_group()
    which.add_argument("--id", dest="ids", action="append", metavar="ID", help="this one; may be given again")
    which.add_argument("--file", help="one id a line; - is standard input, which is the default if it is a pipe")
    which.add_argument("--tag", help="all that carry it")
    parser.add_argument("--yes", action="store_true", help="do it to more than one server of a real cloud")
    parser.add_argument("--strict", action="store_true", help="exit with 1 if any server is not as asked")
    simulator = parser.add_argument_group("the simulator")
    simulator.add_argument("--servers", metavar="N", help="how many it has (1000)")
    simulator.add_argument("--seed", metavar="N", help="where its random numbers come from")
    simulator.add_argument("--fail-share", metavar="SHARE", help="share of the servers that always fail (0)")
    simulator.add_argument("--job-seconds", nargs=2, metavar=("MIN", "MAX"), help="time a server takes (2 to 10)")
    options = parser.parse_args(arguments)
    asked_for = any(vars(options)[name] is not None for name in SIMULATOR_FLAGS)
    options.simulated = asked_for or not os.environ.get("BMS_ENDPOINT")
    return options


def read_ids(options: argparse.Namespace) -> list[str] | None:
    """Return the ids that were named, each once; None if the cloud is to be asked for them."""
    if options.ids:
        lines = options.ids
    elif options.file == "-" or not (options.file or options.simulated or options.tag or sys.stdin.isatty()):
        lines = sys.stdin.read().splitlines()
    elif options.file:
        try:
            lines = Path(options.file).read_text().splitlines()
        except (OSError, UnicodeError) as error:
            raise UsageError(f"cannot read the ids: {error}") from error
    elif options.tag or options.simulated:
        return None
    else:
        raise UsageError("which servers? Give --id, --file or --tag, or pipe their ids in")
    named = (line.strip() for line in lines)
    return list(dict.fromkeys(line for line in named if line and not line.startswith("#")))


@asynccontextmanager
async def open_cloud(options: argparse.Namespace) -> AsyncIterator[tuple[BmsClient, str | None]]:
    """Open the client of the cloud; yield it with the address of the simulator, if it is one."""
    if not options.simulated:
        async with BmsClient.from_env() as bms:
            yield bms, None
        return
    async with run_simulator(options) as simulator:
        # A proxy that the environment names does not lead to this machine.
        transport = HttpxTransport(httpx.AsyncClient(trust_env=False))
        token = bms_async.StaticToken(simulator["token"])
        async with BmsClient(
            endpoint=simulator["address"], project_id=simulator["project_id"], auth=token, transport=transport
        ) as bms:
            yield bms, simulator["address"]


@asynccontextmanager
async def run_simulator(options: argparse.Namespace) -> AsyncIterator[dict[str, str]]:
    """Run a simulator in a process of its own, which ends with us whatever happens; yield its announcement."""
    flags = ["--job-seconds", "2", "10"]
    for name in SIMULATOR_FLAGS:
        value = vars(options)[name]
        if value is not None:
            flags += [f"--{name.replace('_', '-')}", *([value] if isinstance(value, str) else value)]
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bms_async.simulator", *flags),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        # The terminal sends Ctrl-C to all processes in the foreground, and the report still needs the simulator.
        start_new_session=True,
    )
    try:
        line = await process.stdout.readline() if process.stdout else b""
        if not line:
            error = await process.stderr.read() if process.stderr else b""
            await process.wait()
            raise UsageError(f"the simulator did not start: {error.decode().strip().rpartition('error: ')[2]}")
        yield msgspec.json.decode(line)
    finally:
        with anyio.CancelScope(shield=True):
            if process.returncode is None:
                process.terminate()
            with anyio.move_on_after(5):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()


async def settle_ids(named: list[str] | None, options: argparse.Namespace, bms: BmsClient) -> list[str]:
    """Return the ids to act on, after a check of the cloud, the credentials and the user's consent."""
    if named is None:
        ids = [server.id async for server in bms.servers.list(tags=options.tag)]
    else:
        ids = named
        for server_id in ids[:1]:
            # Any response will do: credentials that may not read a server may still stop it.
            with suppress(bms_async.InvalidRequestError, bms_async.NotFoundError, bms_async.PermissionDeniedError):
                await bms.servers.get(server_id)
    if not ids:
        raise UsageError(f"no server has the tag {options.tag!r}" if options.tag else "there are no ids to act on")
    if len(ids) > 1 and not options.simulated and not options.yes:
        raise UsageError(f"this would {' and '.join(options.actions)} {len(ids)} real servers; if so, add --yes")
    return ids


# The action, and how far it is.

Show = Callable[[bms_async.Progress, LimiterStatistics, float], None]


async def carry_out(action: str, ids: list[str], bms: BmsClient, console: Console, stop: Interruption) -> FleetReport:
    """Do one thing to all servers, showing how far it is."""
    run: FleetRun = {"stop": bms.fleet.stop, "start": bms.fleet.start, "reboot": bms.fleet.reboot}[action](ids)
    stop.run = run
    began = anyio.current_time()
    on_terminal = sys.stdout.isatty() and not console.is_dumb_terminal
    drawing = draw_bar(action, len(ids), console) if on_terminal else print_lines(action, len(ids))
    # The run does not outlive the block, however that ends.
    async with run:
        with drawing as show:
            while run.report is None:
                with anyio.move_on_after(0.1):
                    await run
                show(run.progress, bms.limits[f"servers.{action}"].statistics(), anyio.current_time() - began)
        return await run


@contextmanager
def draw_bar(action: str, total: int, console: Console) -> Iterator[Show]:
    """Show progress as a bar that stays in its place."""
    with Live(console=console, auto_refresh=False) as live:

        def show(progress: bms_async.Progress, limiter: LimiterStatistics, seconds: float) -> None:
            line = Table.grid(padding=(0, 2), expand=True)
            line.add_column(width=6)
            line.add_column(ratio=1)
            bar = ProgressBar(total=total, completed=progress.done)
            line.add_row(action, bar, f"{progress.done:,}/{total:,}", *pace(progress, seconds))
            live.update(Group(line, Text(f"{'':8}{describe(progress, limiter)}", style="dim")), refresh=True)

        yield show


@contextmanager
def print_lines(action: str, total: int) -> Iterator[Show]:
    """Show progress as a line now and then, for a log."""
    due = 0.0

    def show(progress: bms_async.Progress, limiter: LimiterStatistics, seconds: float) -> None:
        nonlocal due
        if seconds >= due or progress.done == total:
            due = seconds + SECONDS_BETWEEN_LINES
            figures = ", ".join([f"{progress.done:,} of {total:,}", *pace(progress, seconds)])
            print(f"{action}: {figures}; {describe(progress, limiter)}", flush=True)

    yield show


def pace(progress: bms_async.Progress, seconds: float) -> tuple[str, str]:
    """Return the rate so far, and the time."""
    return f"{progress.done / max(seconds, 0.1):,.0f}/s", f"{seconds:.0f} s"


def describe(progress: bms_async.Progress, limiter: LimiterStatistics) -> str:
    """Return the states of the servers, and how many calls wait for the limit."""
    states = [f"{count:,} {state.lower()}" for state, count in progress.by_state.items() if count]
    waiting = f"{limiter.waiting_bulk + limiter.waiting_interactive} calls wait for the limit"
    return ", ".join([f"{progress.submitted:,} asked", *states, waiting])


# What became of it.


def print_outcomes(reports: list[FleetReport], console: Console) -> None:
    """Print what became of the servers, and why some are not as asked."""
    outcomes = table("What became of the servers", "action", *(state.lower() for state in OutcomeState), "seconds")
    reasons = table("Those that are not as asked", "action", "servers")
    reasons.add_column("why")
    for report in reports:
        outcomes.add_row(
            name_of(report), *(f"{count:,}" for count in report.by_state.values()), f"{report.seconds:.1f}"
        )
        for failure in find_failures(report):
            documented = bms_async.explain(failure.code)
            why = f"{documented.code}: {documented.meaning} {documented.measure}" if documented else str(failure)
            reasons.add_row(name_of(report), f"{len(failure.server_ids):,}", Text(why))
    console.print(outcomes)
    if reasons.row_count:
        console.print(reasons)


def find_failures(report: FleetReport) -> list[bms_async.FleetError]:
    """Return one error for each reason for which servers are not as asked."""
    try:
        report.raise_for_failures()
    except ExceptionGroup as group:
        return [error for error in group.exceptions if isinstance(error, bms_async.FleetError)]
    return []


async def print_calls(bms: BmsClient, simulator: str | None, console: Console) -> int:
    """Print the calls made against the calls allowed; return how many were refused."""
    counts = await ask_simulator(simulator) if simulator else {}
    counted = ("counted", "worst minute") if simulator else ()
    calls = table("Calls", "call", "made", "allowed a minute", *counted, "refused")
    for name in CALLS:
        ours, theirs = bms.limits[name].statistics(), counts.get(name, {})
        if ours.calls:
            figures = [ours.calls, ours.limit or 0, *(theirs[key] for key in ("arrived", "worst_minute") if theirs)]
            calls.add_row(name, *(f"{figure:,}" for figure in (*figures, theirs.get("refused", ours.refused))))
    if calls.row_count:
        console.print(calls)
    return sum(counts.get(name, {}).get("refused", bms.limits[name].statistics().refused) for name in CALLS)


async def ask_simulator(address: str) -> dict[str, dict[str, int]]:
    """Return what the simulator itself counted, by the name of the call."""
    async with httpx.AsyncClient(trust_env=False) as client:
        response = await client.get(f"{address}/_admin/calls")
        operations: dict[str, dict[str, int]] = response.raise_for_status().json()["operations"]
    return operations


def table(title: str, first: str, *figures: str) -> Table:
    """Make a table of figures, with a first column that names them."""
    made = Table(first, title=title)
    for figure in figures:
        made.add_column(figure, justify="right")
    return made


def name_of(report: FleetReport) -> str:
    """Return the action as the user typed it."""
    return report.action.removeprefix("servers.")


def sum_up(report: FleetReport, ids: list[str]) -> bool:
    """Print how the outcomes add up; return whether every server has exactly one."""
    terms = " + ".join(f"{state.lower()} {count}" for state, count in report.by_state.items())
    print(f"{name_of(report)}: {terms} = {len(report)}")
    if sorted(outcome.server_id for outcome in report.outcomes) == sorted(ids):
        return True
    print(f"{name_of(report)}: {len(ids)} servers were handed over, and these outcomes are not theirs", file=sys.stderr)
    return False


# All of it.


async def operate(options: argparse.Namespace, named: list[str] | None) -> int:
    """Do what was asked for and report; return the exit code."""
    stop = Interruption()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.take, number)
    code = 0
    with stop.scope:
        async with open_cloud(options) as (bms, simulator):
            ids = await settle_ids(named, options, bms)
            console = Console()
            where = f"a simulated cloud at {simulator}" if simulator else f"project {bms.project_id}"
            print(f"{', then '.join(options.actions)}: {len(ids):,} servers of {where}", flush=True)
            reports = [
                await carry_out(action, ids, bms, console, stop) for action in options.actions if not stop.signal
            ]
            print_outcomes(reports, console)
            refused = await print_calls(bms, simulator, console)
            whole = [sum_up(report, ids) for report in reports]
            print(f"calls refused by the {'simulator' if simulator else 'cloud'}: {refused}")
            as_asked = all(outcome.state.is_success for report in reports for outcome in report.outcomes)
            code = 0 if all(whole) and (as_asked or not options.strict) else 1
    if stop.signal:
        asked = "the jobs continue in the cloud" if stop.run else "nothing was asked for"
        print(f"fleet_power: interrupted; {asked}", file=sys.stderr)
        return 128 + stop.signal
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    options = read_options(arguments)
    try:
        return asyncio.run(operate(options, read_ids(options)))
    except KeyboardInterrupt:
        return 130
    except (UsageError, bms_async.BmsError, httpx.HTTPError) as error:
        print(f"fleet_power: {error}", file=sys.stderr)
        return exit_code(error)
    except BrokenPipeError:
        # The reader of the output has closed it. Python would report that once more when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE


def exit_code(error: Exception) -> int:
    """Return the exit code for what ended the program early."""
    if isinstance(error, UsageError):
        return 2
    ours = bms_async.ConfigurationError | bms_async.AuthenticationError | bms_async.PermissionDeniedError
    documented = bms_async.explain(getattr(error, "code", None))
    if isinstance(error, ours) or (documented and documented.remedy is bms_async.Remedy.PERMISSION):
        return 3
    return 4


if __name__ == "__main__":
    sys.exit(main())
