"""Without `transport=` a client takes the fastest that is installed, and imports no other; each in a fresh process."""

from __future__ import annotations

import subprocess
import sys

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
made = client()._core.transport
print(type(made).__name__, *(name for name in ("httpx", "httpx2", "aiohttp") if sys.modules.get(name)))
"""


def test_with_the_extra_it_is_aiohttp_and_httpx_is_not_imported() -> None:
    assert run(WHICH) == "AiohttpTransport aiohttp"


def test_without_the_extra_it_is_httpx() -> None:
    assert run(WHICH, hidden="aiohttp") == "HttpxTransport httpx"


def test_who_asks_for_aiohttp_without_the_extra_is_told_what_to_install() -> None:
    program = """
try:
    bms_async.AiohttpTransport
except ImportError as error:
    print(error)
"""
    told = run(program, hidden="aiohttp")
    assert told == "AiohttpTransport needs the extra 'speedups': pip install 'bms-async[speedups]'"
