"""Without `transport=` a client takes one library and imports no other; each in a fresh process."""

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


def test_without_the_extra_it_is_httpx() -> None:
    assert run(WHICH, hidden="aiohttp") == "HttpxTransport httpx"


def test_making_a_client_imports_no_library_and_opening_it_does_so_in_a_thread() -> None:
    program = """
import asyncio, threading
on_loop = lambda: threading.current_thread() is threading.main_thread()
async def main():
    modules = set(sys.modules)
    bms = client()
    assert not {name.partition(".")[0] for name in set(sys.modules) - modules} & {"httpx", "aiohttp", "aiolimiter"}
    importing = []
    sys.addaudithook(lambda name, found: importing.append(found[0]) if name == "import" and on_loop() else None)
    async with bms:
        assert {"httpx", "aiolimiter"} <= set(sys.modules)
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
