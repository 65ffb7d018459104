"""What `import bms_async` costs and brings: counted, not timed (`benchmarks/imports.py` times it)."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
import tomllib
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import bms_async
from bms_async import _names
from bms_async._extras import is_installed

ROOT = Path(__file__).parents[1]
SUBPACKAGES = sorted(
    f"bms_async.{folder.name}"
    for folder in (ROOT / "bms_async").iterdir()
    if "__all__" in ((folder / "__init__.py").read_text() if (folder / "__init__.py").is_file() else "")
)

PROGRAM = """
import json, sys, threading
events = []
WATCHED = ("socket.__new__", "_thread.start_new_thread", "subprocess.Popen", "os.fork", "socket.getaddrinfo")
sys.addaudithook(lambda name, _: events.append(name) if name in WATCHED else None)
before = set(sys.modules)
import {names}
print(json.dumps({{
    "modules": sorted(set(sys.modules) - before),
    "events": events,
    "threads": threading.active_count(),
}}))
"""


@cache
def imported(names: str) -> dict[str, Any]:
    """Import in a process of its own and tell what that brought."""
    command = [sys.executable, "-c", PROGRAM.format(names=names)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stderr == ""
    told: dict[str, Any] = json.loads(done.stdout)
    return told


# Each in a child of a process that has imported the package, what all of it needs, and nothing below it: no other has
# brought it.
PACKAGES = """
import os, sys
import anyio._backends._asyncio, msgspec
import bms_async
for name in sys.stdin.read().split():
    if not os.fork():
        is_there = getattr(bms_async, name) is sys.modules[f"bms_async.{name}"]
        os._exit(0 if is_there else 1)
    if os.wait()[1]:
        print(name)
"""

CLIENT_MODULES = "bms_async, bms_async.client"


def top_levels(modules: list[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


def test_importing_the_package_imports_nothing_before_a_name_is_asked_for() -> None:
    modules = imported("bms_async")["modules"]
    assert [name for name in modules if name.startswith("bms_async")] == [
        "bms_async",
        "bms_async._extras",
        "bms_async._names",
        "bms_async._version",
    ]
    assert not {"anyio", "asyncio", "inspect", "logging", "msgspec", "socket", "ssl"} & set(modules)


def test_importing_the_client_imports_no_http_library_and_no_extra() -> None:
    brought = top_levels(imported(CLIENT_MODULES)["modules"])
    libraries = {"httpx", "httpcore", "h11", "h2", "httpx2", "httpcore2", "httptools", "aiohttp", "requests", "urllib3"}
    extras = {"starlette", "uvicorn", "uvloop", "rich", "click", "redis", "temporalio", "opentelemetry"}
    tests = {"pytest", "hypothesis", "respx", "blockbuster", "huaweicloudsdkbms", "huaweicloudsdkcore"}
    assert brought & (libraries | extras | tests) == set()
    assert {"bms_async", "anyio", "msgspec"} <= brought
    # It looks for its own version on the disk while it is imported; the first poll of a job waits for that.
    assert not {"aiolimiter", "email"} & brought


def test_importing_the_client_brings_no_simulator_and_no_command_line() -> None:
    modules = imported(CLIENT_MODULES)["modules"]
    assert [name for name in modules if name.split(".")[1:2] in (["simulator"], ["cli"])] == []
    assert "argparse" not in modules


def test_importing_the_client_starts_nothing() -> None:
    told = imported(CLIENT_MODULES)
    # An event loop opens a pair of sockets to wake itself, so that no socket also means no loop.
    assert told["events"] == []
    assert told["threads"] == 1


def test_importing_the_client_loads_no_more_modules_than_half_again_what_httpx_and_msgspec_load() -> None:
    ours, theirs = (len(imported(names)["modules"]) for names in (CLIENT_MODULES, "httpx, msgspec"))
    assert ours <= 1.5 * theirs


def test_the_transport_brings_httpx_when_it_is_asked_for() -> None:
    assert "httpx" in imported("bms_async; bms_async.HttpxTransport")["modules"]


CLIENT = "BmsClient(endpoint='https://bms.example.com', project_id='0' * 32, auth=bms_async.StaticToken('x'), {})"


@pytest.mark.parametrize(
    ("made", "library"),
    [
        ("AiohttpTransport", "aiohttp"),
        (CLIENT.format("transport=bms_async.Http1Transport()"), "httptools"),
        (CLIENT.format("transport=bms_async.HttpxTransport()"), "httpx"),
    ],
)
def test_a_transport_brings_one_http_library_and_no_other(made: str, library: str) -> None:
    brought = top_levels(imported("bms_async; bms_async." + made)["modules"])
    assert brought & {"aiohttp", "httptools", "httpx", "httpx2", "requests", "urllib3"} == {library}


def test_a_client_that_is_only_made_brings_none() -> None:
    brought = top_levels(imported("bms_async; bms_async." + CLIENT.format(""))["modules"])
    assert brought & {"aiohttp", "httptools", "httpx", "httpx2", "requests", "urllib3"} == set()


def test_every_public_name_resolves() -> None:
    assert [name for name in bms_async.__all__ if not hasattr(bms_async, name)] == []


def test_the_public_names_are_sorted_and_each_is_told_once() -> None:
    assert bms_async.__all__ == sorted(set(bms_async.__all__))


def test_the_public_names_are_all_that_the_package_holds() -> None:
    held = {
        name
        for name, value in vars(bms_async).items()
        if not name.startswith("_") and not isinstance(value, ModuleType) and name != "TYPE_CHECKING"
    }
    # Some are there from the first time they are asked for, and __version__ is public though it looks private.
    on_demand = set(_names.ON_DEMAND)
    assert held - on_demand == set(bms_async.__all__) - on_demand - {"__version__"}


def imports_for_type_checkers() -> dict[str, str]:
    """Return the module of each name that `bms_async` imports where only type checkers look."""
    tree = ast.parse((ROOT / "bms_async" / "__init__.py").read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    assert ast.unparse(block.test) == "TYPE_CHECKING"
    imports = [node for node in block.body if isinstance(node, ast.ImportFrom)]
    assert len(imports) == len(block.body)
    return {alias.asname or alias.name: str(node.module) for node in imports for alias in node.names}


def test_each_name_comes_from_where_type_checkers_are_shown_it() -> None:
    shown = imports_for_type_checkers()
    assert shown == _names.ON_DEMAND
    # Those without an extra are not in `__all__` where it is missing; here all extras are installed.
    assert {*shown, "__version__"} == set(bms_async.__all__)


def test_a_name_is_the_same_object_however_it_is_asked_for() -> None:
    for name, module in _names.ON_DEMAND.items():
        assert getattr(bms_async, name) is getattr(importlib.import_module(module), name)
        # The second time it is an attribute like any other.
        assert vars(bms_async)[name] is getattr(bms_async, name)


def test_the_packages_below_are_attributes_without_an_import_of_their_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", PACKAGES],
        check=False,
        input="\n".join(bms_async._PACKAGES),
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    modules = {module.split(".")[1] for module in _names.ON_DEMAND.values()}
    assert modules <= bms_async._PACKAGES


def test_making_and_opening_a_client_imports_nothing_of_ours_in_the_event_loop_but_its_transport() -> None:
    program = f"""
import asyncio, sys
from bms_async import BmsClient, HttpxTransport, StaticToken

async def main():
    before = set(sys.modules)
    async with {CLIENT.format("transport=HttpxTransport()").replace("bms_async.", "")} as bms:
        bms.fleet, bms.jobs, bms.nova
    print(*sorted(name for name in set(sys.modules) - before if name.startswith("bms_async")))

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split() == []


def test_a_name_that_does_not_exist_is_an_ordinary_attribute_error() -> None:
    with pytest.raises(AttributeError, match=r"^module 'bms_async' has no attribute 'Nothing'$"):
        _ = bms_async.Nothing  # type: ignore[attr-defined]


def test_a_star_import_brings_the_public_names() -> None:
    space: dict[str, Any] = {}
    exec("from bms_async import *", space)
    assert set(bms_async.__all__) <= space.keys()


# Each in a child of one process, which has imported what the package needs and nothing of the package itself: no module
# has brought another, and the hundred milliseconds of these imports are not spent dozens of times.
WITHOUT = """
import importlib, inspect, json, logging, os, pydoc, sys, traceback
import anyio._backends._asyncio, msgspec

def look(module_name, name, missing):
    sys.modules.update(dict.fromkeys(missing))
    module = importlib.import_module(module_name)
    if name == "Nothing":
        pydoc.render_doc(module)
        inspect.getmembers(module)
    space = {}
    exec(f"from {module_name} import *", space)

    def told(ask):
        try:
            ask()
        except Exception as error:
            return [type(error).__name__, str(error)]

    return {
        "all": list(module.__all__),
        "dir": dir(module),
        "star": sorted(set(space) & set(module.__all__)),
        "has": hasattr(module, name),
        "read": told(lambda: getattr(module, name)),
        "imported": told(lambda: exec(f"from {module_name} import {name}")),
    }

for asked in json.load(sys.stdin):
    assert not set(asked[2]) & set(sys.modules), asked
    assert not [each for each in sys.modules if each.startswith("bms_async")]
    if not os.fork():
        try:
            print(json.dumps(look(*asked)), flush=True)
        except BaseException:
            print(json.dumps({"failed": traceback.format_exc()}), flush=True)
        os._exit(0)
    os.wait()
"""
ALL_MISSING = ("aiohttp", "asyncpg", "click", "httptools", "opentelemetry", "redis", "rich", "uvloop", "yaml")

EXTRAS = [
    ("bms_async", "Telemetry", "otel", ["opentelemetry"]),
    ("bms_async", "Telemetry", "otel", ["opentelemetry.trace", "opentelemetry.metrics"]),
    ("bms_async", "AiohttpTransport", "aiohttp", ["aiohttp"]),
    ("bms_async", "Http1Transport", "speedups", ["httptools"]),
    ("bms_async.telemetry", "Telemetry", "otel", ["opentelemetry"]),
    ("bms_async.testing", "SimulatedCloud", "simulator", ["starlette"]),
    ("bms_async.testing", "FaultPlan", "simulator", ["starlette"]),
    ("bms_async.testing", "CutAfter", "simulator", ["starlette"]),
]


@cache
def seen_without() -> dict[tuple[str, str, str], dict[str, Any]]:
    """Look at each module where some are missing; return what is seen, by module, name and what is missing."""
    asked = [(module, name, missing) for module, name, _, missing in EXTRAS]
    asked += [(module, "Nothing", [*ALL_MISSING]) for module in ("bms_async", *SUBPACKAGES)]
    command = [sys.executable, "-c", WITHOUT]
    done = subprocess.run(command, input=json.dumps(asked), capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    seen = [json.loads(line) for line in done.stdout.splitlines()]
    keys = [(module, name, " ".join(missing)) for module, name, missing in asked]
    return dict(zip(keys, seen, strict=True))


@pytest.mark.parametrize(("module", "name", "extra", "missing"), EXTRAS)
def test_a_name_whose_extra_is_missing_is_no_attribute_and_says_what_brings_it(
    module: str, name: str, extra: str, missing: list[str]
) -> None:
    told = seen_without()[module, name, " ".join(missing)]
    assert "failed" not in told, told["failed"]
    text = f"{module}.{name} needs the extra {extra!r}: pip install 'bms-async[{extra}]'"
    assert told["read"] == ["AttributeError", text]
    assert told["imported"] == ["ImportError", text]
    assert not told["has"]
    assert name not in told["all"] + told["dir"]
    assert told["star"] == sorted(told["all"])


def test_a_name_whose_extra_is_too_old_is_no_attribute_either() -> None:
    program = """
import sys, types
old = types.ModuleType("aiohttp")
old.__path__ = []
sys.modules["aiohttp"] = old
import bms_async
assert not hasattr(bms_async, "AiohttpTransport")
try:
    from bms_async import AiohttpTransport
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("bms_async.AiohttpTransport needs the extra 'aiohttp'")


def test_an_import_hook_that_refuses_an_extra_is_an_extra_that_is_missing() -> None:
    program = """
import sys

class Refusing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("aiohttp", "httptools"):
            raise ImportError(f"{name} may not be imported here")

sys.meta_path.insert(0, Refusing())
import bms_async
assert not hasattr(bms_async, "Http1Transport")
try:
    from bms_async import AiohttpTransport
except ImportError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("bms_async.AiohttpTransport needs the extra 'aiohttp'")


@pytest.mark.parametrize("module", ["bms_async", *SUBPACKAGES])
def test_help_and_a_star_import_work_without_any_extra(module: str) -> None:
    """The names that come on demand are those of the packages below as well."""
    told = seen_without()[module, "Nothing", " ".join(ALL_MISSING)]
    assert "failed" not in told, told["failed"]
    assert told["has"] is False


@pytest.mark.parametrize(
    ("module", "is_there"),
    [
        ("bms_async", True),
        ("opentelemetry.trace", True),
        ("opentelemetry.nothing", False),
        ("json.decoder", True),
        ("json.decoder.nothing", False),
        ("nothing.at_all", False),
    ],
)
def test_whether_a_module_is_installed_is_told_without_importing_it(module: str, is_there: bool) -> None:
    assert is_installed(module) is is_there


def test_no_test_run_of_others_loads_anything_of_ours(tmp_path: Path) -> None:
    (tmp_path / "test_theirs.py").write_text(
        "import sys\n\ndef test_x():\n    assert not [each for each in sys.modules if each.startswith('bms_async')]\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout
    assert "entry-points" not in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_wheel_tells_type_checkers_that_the_package_is_typed() -> None:
    # Building one would need the build's own packages here; hatchling puts in whatever lies in the package.
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert settings["tool"]["hatch"]["build"]["targets"]["wheel"] == {"packages": ["bms_async"]}
    assert (ROOT / "bms_async" / "py.typed").is_file()
