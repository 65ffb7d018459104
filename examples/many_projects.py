"""List, stop, start or reboot the servers of many projects and regions at once, with one report of all.

    python -m bms_async.simulator --servers 40 --port 8801 --project-id one --token t1 --job-seconds 1 3   # a terminal
    python -m bms_async.simulator --servers 40 --port 8802 --project-id two --token t2 --job-seconds 1 3   # another one
    cat > projects.toml <<END
    [projects.one]
    endpoint = "http://127.0.0.1:8801"
    project_id = "one"
    token_env = "ONE_TOKEN"
    [projects.two]
    endpoint = "http://127.0.0.1:8802"
    project_id = "two"
    token_env = "TWO_TOKEN"
    END
    ONE_TOKEN=t1 TWO_TOKEN=t2 python examples/many_projects.py projects.toml stop --tag rack-0 --yes

A project has project_id or project_name; endpoint, or region and domain; token_env, or access_key_env and
secret_key_env, which name the environment variables that hold its secrets; and limits, if its calls a minute are
others than documented: limits = {"servers.stop" = 20}.

Exit codes: 0 all well, 1 a server is not as asked, 2 wrong usage or file, 3 a project has refused its credentials,
4 a project did not respond, 130 interrupted by Ctrl-C. If several are true it is the highest of them.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import os
import signal
import sys
import tomllib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import anyio
import msgspec
from rich.console import Console
from rich.table import Table

import bms_async
from bms_async import AkSkAuth, Auth, BmsClient, BmsError, FleetReport, FleetRun, Limits, StaticToken

SECONDS_BETWEEN_LINES: Final = 3.0


class UsageError(Exception):
    """What was asked for makes no sense; the text says why."""


class Project(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A project as the file has it; no secret is in there, only the names of the variables that hold them."""

    project_id: str | None = None
    project_name: str | None = None
    endpoint: str | None = None
    region: str | None = None
    domain: str | None = None
    token_env: str | None = None
    access_key_env: str | None = None
    secret_key_env: str | None = None
    limits: dict[str, int] = {}

    @property
    def place(self) -> tuple[str | None, ...]:
        """What identifies it."""
        endpoint = (self.endpoint or f"{self.region}.{self.domain}").rstrip("/").lower()
        return endpoint, self.project_id, self.project_name


class Part:
    """What is done in one project, and what came of it.

    Each has a client and a `Limits` of its own: limits belong to an account's project, and what one project uses up
    is no other's.
    """

    def __init__(self, name: str, client: BmsClient) -> None:
        self.name = name
        self.client = client
        self.scope: anyio.CancelScope | None = None
        self.statuses: Counter[str] = Counter()
        self.run: FleetRun | None = None
        self.report: FleetReport | None = None
        self.error: BmsError | None = None
        self.done = False

    async def work(self, action: str, tag: str | None, *, act: bool) -> None:
        """List the servers and act on them; whatever goes wrong here is kept, and spoils no other part."""
        try:
            with anyio.CancelScope() as self.scope:
                async with self.client as bms:
                    ids = []
                    async for server in bms.servers.list(tags=tag):
                        ids.append(server.id)
                        self.statuses[server.status or "?"] += 1
                    if act:
                        fleet = bms.fleet
                        self.run = {"stop": fleet.stop, "start": fleet.start, "reboot": fleet.reboot}[action](ids)
                        self.report = await self.run
                self.done = True
        except BmsError as error:
            self.error = error

    def interrupt(self) -> None:
        """Send no further batch, and return what is known."""
        if self.run is not None:
            self.run.cancel(detach=True)
        elif self.scope is not None:
            self.scope.cancel()

    @property
    def code(self) -> int:
        """The exit code for what came of it."""
        if self.error is not None:
            remedy = bms_async.explain(getattr(self.error, "code", None))
            refused = isinstance(self.error, bms_async.AuthenticationError | bms_async.PermissionDeniedError)
            return 3 if refused or (remedy and remedy.remedy is bms_async.Remedy.PERMISSION) else 4
        return int(self.report is not None and not all(outcome.state.is_success for outcome in self.report.outcomes))

    @property
    def problems(self) -> list[str]:
        """What went wrong, and what to do."""
        if self.error is not None:
            return [str(self.error)]
        if not self.done:
            return ["interrupted before anything was asked for"]
        codes = self.report.by_code if self.report else {}
        documented = {code: bms_async.explain(code) for code in codes}
        return [
            f"{count} servers: {code}" + (f": {row.meaning} {row.measure}" if (row := documented[code]) else "")
            for code, count in codes.items()
        ]


# Which projects.


def read_parts(path: Path, only: Sequence[str] | None) -> list[Part]:
    """Read the projects that are meant, and make a client of each.

    Raises:
        UsageError: The file makes no sense, a project is not in it, or the settings of one do not do.
    """
    try:
        tables = tomllib.loads(path.read_text("utf-8")).get("projects")
    except (OSError, ValueError) as error:
        raise UsageError(f"cannot read {path}: {error}") from error
    if not isinstance(tables, dict) or not tables:
        raise UsageError(f"{path} has no project; add a table [projects.NAME]")
    if unknown := [name for name in only or () if name not in tables]:
        raise UsageError(f"{path} has no project {unknown[0]!r}; it has {', '.join(tables)}")
    problems: list[str] = []
    parts: list[Part] = []
    names: dict[tuple[str | None, ...], str] = {}
    for name, table in tables.items():
        if only is None or name in only:
            try:
                project = msgspec.convert(table, Project)
                parts.append(Part(name, make_client(project)))
            except (UsageError, BmsError, msgspec.ValidationError) as error:
                problems.append(f"{path}, project {name}: {error}")
                continue
            # Two clients that do not share their limits would break them, and all would be done twice.
            if (first := names.setdefault(project.place, name)) != name:
                problems.append(f"{path}, project {name}: it is the same as {first}; delete one")
    if problems:
        # All at once, so that ten mistakes need not be found one by one.
        raise UsageError("\n".join(problems))
    return parts


def make_client(project: Project) -> BmsClient:
    """Make a client."""
    return BmsClient(
        endpoint=project.endpoint,
        region=project.region,
        domain=project.domain,
        project_id=project.project_id,
        project_name=project.project_name,
        auth=make_auth(project),
        limits=Limits(project.limits),
    )


def make_auth(project: Project) -> Auth:
    """Make credentials of what the variables hold."""
    if project.token_env is not None:
        return StaticToken(secret(project.token_env))
    if project.access_key_env is not None and project.secret_key_env is not None:
        return AkSkAuth(secret(project.access_key_env), secret(project.secret_key_env))
    raise UsageError("expected token_env, or access_key_env and secret_key_env: the names of variables")


def secret(variable: str) -> str:
    """Return what an environment variable holds."""
    value = os.environ.get(variable)
    if not value:
        raise UsageError(f"the environment variable {variable} is not set; export it")
    return value


# All of them at once.


async def operate(parts: Sequence[Part], options: argparse.Namespace) -> int:
    """Do what was asked for in all projects; return the exit code."""
    interrupted = False

    async def end_on_signal() -> None:
        nonlocal interrupted
        with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
            async for _ in signals:
                interrupted = True
                for part in parts:
                    part.interrupt()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(end_on_signal)
        tasks.start_soon(show_progress, parts)
        async with anyio.create_task_group() as projects:
            for part in parts:
                act = options.action != "list" and options.yes
                projects.start_soon(functools.partial(part.work, options.action, options.tag, act=act))
        tasks.cancel_scope.cancel()
    print_report(parts)
    if interrupted:
        print("many_projects: interrupted; the jobs continue in the clouds", file=sys.stderr)
        return 130
    servers = sum(part.statuses.total() for part in parts)
    if not servers and not any(part.error for part in parts):
        raise UsageError("there are no servers" + (f" with the tag {options.tag!r}" if options.tag else ""))
    if options.action != "list" and not options.yes:
        raise UsageError(f"this would {options.action} {servers} servers of {len(parts)} projects; if so, add --yes")
    return max(part.code for part in parts)


async def show_progress(parts: Sequence[Part]) -> None:
    """Tell now and then how far it is."""
    while True:
        await anyio.sleep(SECONDS_BETWEEN_LINES)
        known = [part.run.progress for part in parts if part.run is not None]
        done, total = sum(progress.done for progress in known), sum(part.statuses.total() for part in parts)
        going = ", ".join(part.name for part in parts if not part.done and part.error is None)
        print(f"{done:,} of {total:,} servers in {len(parts)} projects; at work: {going}", file=sys.stderr, flush=True)


def print_report(parts: Sequence[Part]) -> None:
    """Print what came of each project, and of all together."""
    counts = {part.name: Counter(part.report.by_state if part.report else part.statuses) for part in parts}
    states = list(dict.fromkeys(state for count in counts.values() for state in count))
    table = Table("project", "servers", *map(str.lower, states))
    for name, count in (*counts.items(), ("all", sum(counts.values(), Counter()))):
        table.add_row(name, *(f"{number:,}" for number in (count.total(), *(count[state] for state in states))))
    console = Console(markup=False, highlight=False)
    console.print(table)
    for part in parts:
        for problem in part.problems:
            console.print(f"{part.name}: {problem}", soft_wrap=True)


def tag(text: str) -> str:
    """Read a tag; a variable that is not set would mean all servers."""
    if not text.strip(" ,"):
        raise argparse.ArgumentTypeError("expected a tag; leave --tag out for all servers")
    return text


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("file", type=Path, help="the projects, in TOML")
    parser.add_argument("action", choices=("list", "stop", "start", "reboot"), help="what to do")
    parser.add_argument("--only", action="append", metavar="NAME", help="this project; may be given again")
    parser.add_argument("--tag", type=tag, help="the servers that carry it; all of them without")
    parser.add_argument("--yes", action="store_true", help="do it; without, what it would be done to is listed")
    options = parser.parse_args(arguments)
    try:
        return asyncio.run(operate(read_parts(options.file, options.only), options))
    except UsageError as error:
        print(f"many_projects: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
