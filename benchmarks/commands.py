"""The CPU of whole commands, from the start of the process to its end, beside another checkout and two other clients.

    python -m benchmarks.commands [--base PATH] [--aws PATH] [--openstack PATH] [--runs N]

``--base`` is another checkout of this project, which is run by the same Python. ``--aws`` is an environment that
``awscli`` is installed in; it lists the instances of an empty EC2 endpoint here, with keys that open nothing.
``--openstack`` is one with ``python-openstackclient``, which logs in to the simulator and lists its servers by native
calls, without looking up the names of images and flavors.

Commands take turns, so that other load on the machine affects each alike, and a ratio is the median over the rounds.
The figure is the CPU of the process; wall time is printed beside it, and has the waiting for the simulated cloud in it.
All compiled files are made beforehand, in a folder of their own, as an installer would have made them. Each run has a
state folder of its own, for commands wait for one another's calls.

Filters are measured with 20,000 servers: a command by filters, which reads ids only, beside the list of all servers.
What the same command takes with one server is subtracted from each, and so is what it takes to receive the pages, which
is the transport's and the same for both. The ratio with that is printed too.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

from benchmarks._report import judge, report
from benchmarks._serving import serving
from bms_async.simulator import CloudSettings
from bms_async.testing import SimulatorProcess

ROOT = Path(__file__).parents[1]
RUNS = 11
ONE, FEW, MANY = 1, 300, 20_000
OURS, BASE, AWS, OPENSTACK = "ours", "base", "aws", "openstack"
DESCRIBE, AWS_VERSION = "aws ec2 describe-instances", "aws --version"
SERVER_LIST, OPENSTACK_VERSION = "openstack server list", "openstack --version"
VERSION, HELP, LIST, IDS = "bms --version", "bms --help", "bms servers list", "bms servers list --ids"
PAGES = "pages"
_BMS: Mapping[str, Sequence[str]] = {
    VERSION: ("--version",),
    HELP: ("--help",),
    "bms limits": ("limits",),
    IDS: ("servers", "list", "--ids"),
    LIST: ("servers", "list"),
}
_AIMS: Mapping[str, float] = {VERSION: 0.45, HELP: 0.36, IDS: 0.6, LIST: 0.375}
"""How much of the base's CPU each may take at most."""

_LISTS: Mapping[str, Sequence[str]] = {
    "list": ("servers", "list"),
    "ids": ("servers", "list", "--ids"),
    "filters": ("stop", "--tag", "rack-1", "--dry-run"),
}


class Command(NamedTuple):
    """A command, and what it is measured as.

    Attributes:
        name: What a person types.
        of: The checkout or the peer that it belongs to.
        line: What is run.
        environment: Its variables, beside those of all.
    """

    name: str
    of: str
    line: Sequence[str]
    environment: Mapping[str, str]


class Sample(NamedTuple):
    """The ms of CPU and of wall time of one run."""

    cpu: float
    wall: float


def run(command: Command, common: Mapping[str, str]) -> Sample:
    """Run a command once.

    Raises:
        subprocess.CalledProcessError: It failed.
    """
    with tempfile.TemporaryDirectory() as folder:
        environment = {**common, **command.environment, "XDG_STATE_HOME": folder, "HOME": folder}
        begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
        # In an empty folder, for `python -m` finds a package in the one that it is run in.
        subprocess.run(command.line, check=True, capture_output=True, env=environment, cwd=folder, timeout=120)
        wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    return Sample(1000 * cpu, 1000 * wall)


def bms(name: str, checkout: Path, of: str, arguments: Sequence[str], cloud: Mapping[str, str]) -> Command:
    """Return a command of a checkout, in a cloud."""
    line = (sys.executable, "-m", "bms_async.cli", *arguments)
    return Command(name, of, line, {**cloud, "PYTHONPATH": str(checkout)})


def fetching(count: int, cloud: Mapping[str, str]) -> Command:
    """Return the program that fetches pages and reads nothing of them."""
    line = (sys.executable, "-m", "benchmarks._fetch_pages", str(count))
    return Command(f"{PAGES}, {count:,} servers", OURS, line, {**cloud, "PYTHONPATH": str(ROOT)})


def aws(environment: Path, endpoint: str) -> list[Command]:
    """Return the AWS CLI's commands, with no look-up of credentials or of a region."""
    variables = {
        "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
        "AWS_SECRET_ACCESS_KEY": "0123456789abcdef0123456789abcdef01234567",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_EC2_METADATA_DISABLED": "true",
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_PAGER": "",
    }
    line = (str(environment / "bin" / "python"), str(environment / "bin" / "aws"))
    return [
        Command(DESCRIBE, AWS, (*line, "ec2", "describe-instances"), variables),
        Command(AWS_VERSION, AWS, (*line, "--version"), variables),
    ]


def openstack(environment: Path, address: str) -> list[Command]:
    """Return the commands of OpenStack's client, in the simulated cloud at an address."""
    settings = CloudSettings()
    variables = {
        "OS_AUTH_URL": f"{address}/v3",
        "OS_USERNAME": settings.username,
        "OS_PASSWORD": settings.password or "",
        "OS_USER_DOMAIN_NAME": settings.user_domain_name,
        "OS_PROJECT_ID": settings.project_id,
        "OS_IDENTITY_API_VERSION": "3",
    }
    line = (str(environment / "bin" / "python"), str(environment / "bin" / "openstack"))
    return [
        Command(SERVER_LIST, OPENSTACK, (*line, "server", "list", "--no-name-lookup"), variables),
        Command(OPENSTACK_VERSION, OPENSTACK, (*line, "--version"), variables),
    ]


def page_cloud(address: str) -> dict[str, str]:
    """Return the settings for a server of pages."""
    return {"BMS_ENDPOINT": address, "OS_PROJECT_ID": "0" * 32, "OS_TOKEN": "0123456789abcdef" * 8}


def measure(commands: Sequence[Command], runs: int) -> list[list[Sample]]:
    """Return the samples of each command."""
    with tempfile.TemporaryDirectory() as compiled:
        unset = ("OS_", "BMS_", "AWS_", "HUAWEICLOUD_", "PYTHON", "SSL_", "XDG_")
        common = {name: value for name, value in os.environ.items() if not name.startswith(unset)}
        common |= {"PYTHONPYCACHEPREFIX": compiled, "NO_PROXY": "127.0.0.1"}
        for command in commands:
            # The first run compiles, and reads from a cold disk.
            run(command, common)
        samples: list[list[Sample]] = [[] for _ in commands]
        for _ in range(runs):
            for taken, command in zip(samples, commands, strict=True):
                taken.append(run(command, common))
    return samples


def ratio(ours: Sequence[Sample], others: Sequence[Sample]) -> float:
    """Return the median over the rounds of our CPU by that of another."""
    return statistics.median(a.cpu / b.cpu for a, b in zip(ours, others, strict=True))


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print and save; return the exit status."""
    parser = argparse.ArgumentParser(description="The CPU of whole commands.")
    parser.add_argument("--base", type=Path, help="another checkout")
    parser.add_argument("--aws", type=Path, help="an environment with awscli")
    parser.add_argument("--openstack", type=Path, help="an environment with python-openstackclient")
    parser.add_argument("--runs", type=int, default=RUNS)
    given = parser.parse_args(arguments)
    checkouts = {OURS: ROOT, **({BASE: given.base.resolve()} if given.base else {})}
    with ExitStack() as stack:
        cloud = stack.enter_context(SimulatorProcess(CloudSettings(servers=FEW)))
        pages = {count: page_cloud(stack.enter_context(serving("_page_server", count))) for count in (ONE, MANY)}
        commands = [
            bms(name, checkout, of, line, cloud.environment())
            for name, line in _BMS.items()
            for of, checkout in checkouts.items()
        ]
        commands += [
            bms(f"{name}, {count:,} servers", ROOT, OURS, line, pages[count])
            for name, line in _LISTS.items()
            for count in pages
        ]
        commands += [fetching(count, pages[count]) for count in pages]
        if given.aws:
            # Not resolved: an environment's Python is a link to another.
            commands += aws(given.aws.absolute(), stack.enter_context(serving("_empty_ec2")))
        if given.openstack:
            commands += openstack(given.openstack.absolute(), cloud.address)
        samples = measure(commands, given.runs)
    by_key = {(command.name, command.of): taken for command, taken in zip(commands, samples, strict=True)}
    report("commands", rows_of(by_key), packages=("click", "rich", "msgspec", "httptools"))
    return judge(targets_of(by_key))


def rows_of(samples: Mapping[tuple[str, str], Sequence[Sample]]) -> list[dict[str, object]]:
    """Return the rows of the table."""
    peers = {
        "aws": {VERSION: samples.get((AWS_VERSION, AWS)), LIST: samples.get((DESCRIBE, AWS))},
        "openstack": {
            VERSION: samples.get((OPENSTACK_VERSION, OPENSTACK)),
            LIST: samples.get((SERVER_LIST, OPENSTACK)),
        },
    }

    def beside(peer: str, name: str, of: str, taken: Sequence[Sample]) -> object:
        other = peers[peer].get(name) if of == OURS else None
        return ratio(taken, other) if other else "-"

    return [
        {
            "command": name,
            "of": of,
            "CPU, ms": statistics.median(sample.cpu for sample in taken),
            "least, ms": min(sample.cpu for sample in taken),
            "wall, ms": statistics.median(sample.wall for sample in taken),
            "ratio to base": ratio(taken, samples[name, BASE]) if of == OURS and (name, BASE) in samples else "-",
            "ratio to aws": beside("aws", name, of, taken),
            "ratio to openstack": beside("openstack", name, of, taken),
        }
        for (name, of), taken in samples.items()
    ]


def targets_of(samples: Mapping[tuple[str, str], Sequence[Sample]]) -> dict[str, bool]:
    """Return the targets, and whether each was met."""
    targets: dict[str, bool] = {}
    for name, aim in _AIMS.items():
        if (name, BASE) in samples:
            found = ratio(samples[name, OURS], samples[name, BASE])
            targets[f"{name}: at most {aim:g} times the CPU of the base: {found:.2f}"] = found <= aim
    if (DESCRIBE, AWS) in samples:
        found = ratio(samples[LIST, OURS], samples[DESCRIBE, AWS])
        targets[f"{LIST}: at most 0.65 times the CPU of {DESCRIBE}: {found:.2f}"] = found <= 0.65

    def above_one(name: str) -> float:
        many, one = (samples[f"{name}, {count:,} servers", OURS] for count in (MANY, ONE))
        return statistics.median(a.cpu - b.cpu for a, b in zip(many, one, strict=True))

    pages, whole = above_one(PAGES), above_one("list")
    for name in ("ids", "filters"):
        read = above_one(name)
        found = (read - pages) / (whole - pages)
        text = f"{name}: at most 0.3 times the CPU of reading the list of all servers: {found:.2f}"
        targets[f"{text}, and {read / whole:.2f} with receiving it"] = found <= 0.3
    return targets


if __name__ == "__main__":
    raise SystemExit(main())
