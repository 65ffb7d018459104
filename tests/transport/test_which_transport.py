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
LIBRARIES = ("httpx", "httpx2", "aiohttp", "httptools")
bms = client()
assert not any(sys.modules.get(name) for name in LIBRARIES)
async def main():
    async with bms:
        made = bms._core.transport._transport
        print(type(made).__name__, *(name for name in LIBRARIES if sys.modules.get(name)))
asyncio.run(main())
"""


def test_with_the_extra_it_is_our_own_and_httpx_and_aiohttp_are_not_imported() -> None:
    assert run(WHICH) == "Http1Transport httptools"


def test_without_the_extra_it_is_httpx() -> None:
    assert run(WHICH, hidden="httptools") == "HttpxTransport httpx"


def test_making_a_client_imports_no_library_and_opening_it_does_so_in_a_thread() -> None:
    program = """
import asyncio, threading
from bms_async.limits import Pacer
on_loop = lambda: threading.current_thread() is threading.main_thread()
async def main():
    modules = set(sys.modules)
    bms, pace = client(), Pacer(1800)
    assert not {name.partition(".")[0] for name in set(sys.modules) - modules} & {"httpx", "httptools", "aiolimiter"}
    importing = []
    sys.addaudithook(lambda name, found: importing.append(found[0]) if name == "import" and on_loop() else None)
    async with bms:
        assert "httptools" in sys.modules
        # Only polls of jobs need it.
        assert "aiolimiter" not in sys.modules
        await pace.acquire()
        assert "aiolimiter" in sys.modules
    assert not {"httptools", "aiolimiter", "httpx"} & set(importing), importing
asyncio.run(main())
"""
    assert run(program) == ""


@pytest.mark.parametrize(
    ("name", "hidden", "extra"),
    [("AiohttpTransport", "aiohttp", "aiohttp"), ("Http1Transport", "httptools", "speedups")],
)
def test_who_asks_for_a_transport_without_its_extra_is_told_what_to_install(name: str, hidden: str, extra: str) -> None:
    program = f"""
try:
    from bms_async import {name}
except ImportError as error:
    print(error)
"""
    output = run(program, hidden=hidden)
    assert output == f"bms_async.{name} needs the extra '{extra}': pip install 'bms-async[{extra}]'"


LOGGED = """
import logging
logging.basicConfig(format="%(levelname)s %(message)s", stream=sys.stdout)
"""

OLD_VERSION = """
import httptools
httptools.__version__ = "0.6.1"
"""

OTHER_PARSER = """
import httptools
httptools.HttpResponseParser = lambda: None
"""

SILENT_PARSER = """
import httptools
class Silent:
    def __init__(self, protocol): pass
    def feed_data(self, data): pass
httptools.HttpResponseParser = Silent
"""

BROKEN_INSTALLATION = """
sys.modules["httptools.parser"] = None
"""


@pytest.mark.parametrize(
    ("there", "why"),
    [
        (OLD_VERSION, "httptools 0.6.1 cannot parse responses (it is too old): expected httptools>=0.6.4"),
        (OTHER_PARSER, "TypeError at a trial"),
        (SILENT_PARSER, "the trial responses were parsed incorrectly"),
        (BROKEN_INSTALLATION, "ModuleNotFoundError"),
    ],
    ids=["old", "another parser", "a parser that says nothing", "broken"],
)
def test_beside_an_httptools_that_does_not_do_it_is_httpx_and_one_warning_says_why(there: str, why: str) -> None:
    first, last = run(LOGGED + there + WHICH.replace("assert not any", "not any")).splitlines()
    assert first.startswith("WARNING using httpx, which is slower than httptools: ")
    assert why in first
    assert last.startswith("HttpxTransport httpx")


def test_who_asks_for_our_own_transport_beside_an_httptools_that_is_too_old_is_told_so() -> None:
    program = f"""
{OLD_VERSION}
try:
    bms_async.Http1Transport()
except bms_async.ConfigurationError as error:
    print(error)
"""
    assert run(program).startswith("httptools 0.6.1 cannot parse responses (it is too old): expected httptools>=0.6.4")
