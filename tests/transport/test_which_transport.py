"""Without `transport=` a client takes the fastest that is installed, and imports no other; each in a fresh process."""

from __future__ import annotations

import subprocess
import sys

import pytest

PRELUDE = """
import sys
if {hidden!r}:
    sys.modules[{hidden!r}] = None
import bms_async
def client():
    return bms_async.BmsClient(endpoint="https://bms.example.com", project_id="p", auth=bms_async.StaticToken("t"))
"""


def run(program: str, *, hidden: str = "") -> str:
    command = [sys.executable, "-c", PRELUDE.format(hidden=hidden) + program]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


WHICH = """
import asyncio
LIBRARIES = ("httpx", "httpx2", "aiohttp")
bms = client()
assert not any(sys.modules.get(name) for name in LIBRARIES)
async def main():
    async with bms:
        made = bms._core.transport._transport
        print(type(made).__name__, *(name for name in LIBRARIES if sys.modules.get(name)))
asyncio.run(main())
"""


def test_with_the_extra_it_is_aiohttp_and_httpx_is_not_imported() -> None:
    assert run(WHICH) == "AiohttpTransport aiohttp"


def test_without_the_extra_it_is_httpx() -> None:
    assert run(WHICH, hidden="aiohttp") == "HttpxTransport httpx"


def test_making_a_client_imports_no_library_and_opening_it_does_so_in_a_thread() -> None:
    program = """
import asyncio, threading
from bms_async.limits import Pacer
on_loop = lambda: threading.current_thread() is threading.main_thread()
async def main():
    modules = set(sys.modules)
    bms, pace = client(), Pacer(1800)
    assert not {name.partition(".")[0] for name in set(sys.modules) - modules} & {"httpx", "aiohttp", "aiolimiter"}
    importing = []
    sys.addaudithook(lambda name, found: importing.append(found[0]) if name == "import" and on_loop() else None)
    async with bms:
        assert "aiohttp" in sys.modules
        # Only polls of jobs need it.
        assert "aiolimiter" not in sys.modules
        await pace.acquire()
        assert "aiolimiter" in sys.modules
    assert not {"aiohttp", "aiolimiter", "httpx"} & set(importing), importing
asyncio.run(main())
"""
    assert run(program) == ""


def test_who_asks_for_aiohttp_without_the_extra_is_told_what_to_install() -> None:
    program = """
try:
    from bms_async import AiohttpTransport
except ImportError as error:
    print(error)
"""
    output = run(program, hidden="aiohttp")
    assert output == "bms_async.AiohttpTransport needs the extra 'speedups': pip install 'bms-async[speedups]'"


LOGGED = """
import logging
logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)
"""

OLD_VERSION = """
from importlib import metadata
version = metadata.version
metadata.version = lambda name: "3.10.11" if name == "aiohttp" else version(name)
"""

UNTESTED_VERSION = OLD_VERSION.replace("3.10.11", "3.15.0rc0")

OTHER_PARSER = """
from aiohttp.client_proto import ResponseHandler
def set_response_params(self, *, timer=None, skip_payload=False, read_until_eof=False): pass
ResponseHandler.set_response_params = set_response_params
"""

SILENT_PARSER = """
from aiohttp.client_proto import ResponseHandler
ResponseHandler.set_response_params = lambda self, **params: None
ResponseHandler.is_connected = lambda self: False
"""

BROKEN_INSTALLATION = """
sys.modules["aiohttp.client_proto"] = None
"""


@pytest.mark.parametrize(
    ("there", "why"),
    [
        (OLD_VERSION, "aiohttp 3.10.11 cannot carry requests"),
        (UNTESTED_VERSION, "aiohttp 3.15.0rc0 cannot carry requests"),
        (OTHER_PARSER, "TypeError at a trial"),
        (SILENT_PARSER, "at a trial"),
        (BROKEN_INSTALLATION, "ModuleNotFoundError"),
    ],
    ids=["old", "untested", "another parser", "a parser that says nothing", "broken"],
)
def test_beside_an_aiohttp_that_does_not_do_it_is_httpx_and_one_warning_says_why(there: str, why: str) -> None:
    first, last = run(LOGGED + there + WHICH.replace("assert not any", "not any")).splitlines()
    assert first.startswith("WARNING using httpx, which is slower than aiohttp: ")
    assert why in first
    assert last.startswith("HttpxTransport httpx")


def test_who_asks_for_the_transport_over_an_aiohttp_that_does_not_do_is_told_its_version() -> None:
    program = """
import aiohttp
aiohttp.__version__ = "3.9.5"
try:
    bms_async.AiohttpTransport()
except bms_async.ConfigurationError as error:
    print(error)
"""
    output = run(program)
    assert output.startswith("aiohttp 3.9.5 cannot carry requests")
    assert "expected aiohttp>=3.11,<3.15" in output


def test_a_parser_that_does_something_else_is_found_when_the_transport_is_opened() -> None:
    program = f"""
import asyncio
{OTHER_PARSER}
async def main():
    try:
        async with bms_async.AiohttpTransport():
            print("open")
    except bms_async.ConfigurationError as error:
        print(error)
asyncio.run(main())
"""
    assert "cannot carry requests (TypeError at a trial" in run(program)
