"""What each command imports: nothing that it does not need."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from tests.cli._helpers import Bms
from tests.support.machine import patience

PROGRAM = """
import sys
from bms_async.cli import main
code = main(sys.argv[1:])
print(code, *sys.modules, sep="\\n", file=sys.stderr)
"""

NEVER = {"pydantic", "typer", "pygments", "rich.markdown", "rich.traceback", "jinja2", "starlette", "httpx", "pytest"}
NO_NETWORK = NEVER | {"aiohttp", "anyio", "asyncio", "httptools", "rich.console", "socket", "ssl", "uvloop", "yaml"}
AT_ONCE = NO_NETWORK | {
    "bms_async.errors",
    "bms_async.models",
    "decimal",
    "importlib.metadata",
    "msgspec",
    "rich.cells",
}


AS_ON_WINDOWS = """
import contextlib, importlib, io, json, os, pathlib, pkgutil, signal, sys
from tests.support.windows import prepare

prepare()
import anyio
import bms_async

# What Temporal and pytest make of the system is theirs to say.
others = ("bms_async.temporal", "bms_async.testing")
for found in pkgutil.walk_packages(bms_async.__path__, "bms_async."):
    if not found.name.startswith(others) and not found.name.endswith("__main__"):
        importlib.import_module(found.name)

from bms_async._files import FileLock
from bms_async.cli import main
from bms_async.cli.terminal import confirm, signals


def run(*arguments):
    with contextlib.redirect_stdout(io.TextIOWrapper(io.BytesIO(), encoding="utf-8")) as out:
        code = main(arguments)
        out.seek(0)
        return code, out.read()


def lock():
    first, second = (FileLock(pathlib.Path("lock"), os.O_CREAT) for _ in range(2))
    taken = [first.try_acquire(), second.try_acquire()]
    first.release()
    return [*taken, second.try_acquire()]


async def interrupted(stop):
    signal.raise_signal(signal.SIGINT)
    await anyio.sleep_forever()


try:
    import fcntl
except ModuleNotFoundError as error:
    missing = error.name
before = signal.getsignal(signal.SIGINT)
told = {
    "platform": sys.platform,
    "missing": missing,
    "version": run("--version"),
    "help": run("--help"),
    "list": run("servers", "list", "--limit", "2"),
    "stop": run("stop", "--tag", "rack-1", "--yes", "--no-journal"),
    "lock": lock(),
    "interrupted": signals.run_interruptibly(interrupted),
    "reply": anyio.run(confirm._read_line),
    "restored": signal.getsignal(signal.SIGINT) is before,
}
print(json.dumps(told))
"""


def imported(bms: Bms, *arguments: str) -> set[str]:
    """Run the command in a process of its own, and return all modules that are loaded at its end."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        env={**bms.environment, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=patience(60.0),
        check=False,
        cwd=bms.state,
    )
    code, *modules = done.stderr.splitlines()
    assert code == "0", done.stderr
    return set(modules)


@pytest.mark.parametrize(
    "arguments", [["--version"], ["--help"], ["stop", "--help"], ["servers", "list", "-h"], ["completion", "bash"]]
)
def test_help_the_version_and_completion_import_nothing_but_click(nowhere: Bms, arguments: list[str]) -> None:
    modules = imported(nowhere, *arguments)
    assert AT_ONCE & modules == set()
    ours = {name for name in modules if name.startswith("bms_async.") and not name.startswith("bms_async.cli")}
    assert ours == {"bms_async._extras", "bms_async._names", "bms_async._version"}


def test_what_needs_no_cloud_imports_no_event_loop_and_no_http_library(healthy_cloud: Bms) -> None:
    modules = imported(healthy_cloud, "limits")
    assert NO_NETWORK & modules == set()
    assert not {"bms_async.api", "bms_async.client", "bms_async.fleet", "bms_async.session"} & modules
    # The control: these are what it would be made of.
    assert {"bms_async.limits.table", "bms_async.config.settings", "msgspec"} <= modules


@pytest.mark.parametrize(
    "arguments",
    [
        ["servers", "list"],
        ["servers", "list", "--ids", "--limit", "3"],
        ["servers", "list", "--json", "--limit", "3"],
        ["quota"],
        ["login"],
        ["calls"],
    ],
)
def test_a_read_imports_no_progress_display_and_no_report(healthy_cloud: Bms, arguments: list[str]) -> None:
    modules = imported(healthy_cloud, *arguments)
    assert NEVER & modules == set()
    others = {"acting", "following", "runs", "report_page"}
    assert not {f"bms_async.cli.{name}" for name in others} & modules
    assert not {"bms_async.journal", "bms_async.runs"} & modules
    assert "rich.console" not in modules


@pytest.mark.parametrize("arguments", [["servers", "list"], ["quota"]])
def test_a_list_imports_neither_the_fleet_nor_what_tls_and_proxies_need(
    healthy_cloud: Bms, arguments: list[str]
) -> None:
    modules = imported(healthy_cloud, *arguments)
    # The fleet is for who acts on servers, and certificates are for addresses that are reached over TLS.
    assert {"certifi", "ctypes", "email", "encodings.idna", "json", "pickle", "tempfile"} & modules == set()
    assert not {"bms_async.api.nova.nova", "bms_async.fleet", "bms_async.reconcile.wishes"} & modules


def test_a_run_imports_its_display_and_still_no_report(healthy_cloud: Bms) -> None:
    modules = imported(healthy_cloud, "stop", "--tag", "rack-1", "--dry-run")
    assert NEVER & modules == set()
    assert "rich.console" in modules


def test_all_modules_import_and_the_command_works_where_there_is_only_what_windows_has(healthy_cloud: Bms) -> None:
    """On this system, without what it alone has: this never ran on Windows."""
    done = subprocess.run(
        [sys.executable, "-c", AS_ON_WINDOWS],
        input="yes\n",
        env={**healthy_cloud.environment, "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        timeout=patience(60.0),
        check=False,
        cwd=healthy_cloud.state,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    told = json.loads(done.stdout)
    # The controls: nothing that POSIX alone has was to be had.
    assert (told["platform"], told["missing"]) == ("win32", "fcntl")
    assert [told[name][0] for name in ("version", "help", "list", "stop")] == [0, 0, 0, 0], done.stderr[-2000:]
    assert told["list"][1].count("\n") == 2
    assert "stop" in told["help"][1]
    assert told["lock"] == [True, False, True]
    assert (told["interrupted"], told["reply"], told["restored"]) == (130, "yes\n", True)
