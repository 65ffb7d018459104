"""How long the first import takes and how many modules it loads, beside the peers, each in processes of its own.

    python -m benchmarks.imports [RUNS]

All take turns, so that other load on the machine affects each alike. The figure is the CPU of the whole process, which
equals its duration on an idle machine, for an import never waits; wall time is printed beside it. A process that only
starts is among them, and the others are compared with it. All compiled files are made beforehand, in a folder of their
own, as an installer would have made them. A client is made and not opened, so that nothing connects.
"""

from __future__ import annotations

import json
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping

from benchmarks._report import judge, report

RUNS = 15
BARE = "(bare Python)"
CLIENT = "bms_async, BmsClient"
LIBRARIES = ("aiohttp", "httptools", "httpx", "httpx2", "requests", "urllib3")
_MAKE = "BmsClient(endpoint='https://bms.example.com', project_id='0' * 32, auth=StaticToken('x' * 2000){})"
_VENDOR = """
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkbms.v1.bms_client import BmsClient
BmsClient.new_builder().with_credentials(BasicCredentials('x' * 20, 'x' * 40, '0' * 32)).with_endpoints(['https://bms.example.com']).build()
"""
_OPENSTACK = """
import openstack
openstack.connect(
    auth_type='token', auth={'auth_url': 'https://iam.example.com/v3', 'token': 'x' * 2000, 'project_id': '0' * 32},
    load_envvars=False, load_yaml_config=False,
)
"""
PROGRAMS = {
    BARE: "",
    "bms_async": "import bms_async",
    # Names come on demand, and this one brings most of the package.
    CLIENT: "from bms_async import BmsClient",
    "bms_async, client on aiohttp": (
        "import asyncio, aiohttp; from bms_async import AiohttpTransport, BmsClient, StaticToken\n"
        "async def main():\n    async with "
        + _MAKE.format(", transport=AiohttpTransport(aiohttp.ClientSession())")
        + ": pass\nasyncio.run(main())"
    ),
    "bms_async, client on httpx": (
        "from bms_async import BmsClient, HttpxTransport, StaticToken; " + _MAKE.format(", transport=HttpxTransport()")
    ),
    # Its HTTP library is imported when it is opened.
    "bms_async, client by default, opened": (
        f"import asyncio; from bms_async import BmsClient, StaticToken; asyncio.run({_MAKE.format('')}.__aenter__())"
    ),
    "httpx, msgspec": "import httpx, msgspec",
    "httpx with a client": "import httpx; httpx.AsyncClient()",
    "aiohttp with a session": (
        "import asyncio, aiohttp\nasync def main():\n    async with aiohttp.ClientSession(): pass\nasyncio.run(main())"
    ),
    "the vendor's client": _VENDOR,
    "openstacksdk, connection": _OPENSTACK,
}
PROGRAM = """
import sys
{}
modules = set(sys.modules)
import json
print(json.dumps([len(modules), sorted(modules & {})]))
"""


def run(program: str, environment: Mapping[str, str]) -> tuple[float, float, int, list[str]]:
    """Return the ms of CPU and of wall time of a process, and its modules and HTTP libraries at the end."""
    source = PROGRAM.format(program, set(LIBRARIES))
    command = [sys.executable, "-W", "ignore", "-c", source]
    begun, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True, env=environment)
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime
    modules, libraries = json.loads(done.stdout)
    return 1000 * cpu, 1000 * wall, modules, libraries


def main(runs: int = RUNS) -> int:
    """Measure, print and save; return the exit status."""
    with tempfile.TemporaryDirectory() as compiled:
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith(("OS_", "PYTHONDONTWRITE"))
        }
        environment["PYTHONPYCACHEPREFIX"] = compiled
        # The first run compiles, and reads from a cold disk.
        brought = {name: run(program, environment)[2:] for name, program in PROGRAMS.items()}
        taken: dict[str, list[tuple[float, float]]] = {name: [] for name in PROGRAMS}
        for _ in range(runs):
            for name, program in PROGRAMS.items():
                taken[name].append(run(program, environment)[:2])

    cpu, wall = ({name: statistics.median(pair[n] for pair in each) for name, each in taken.items()} for n in (0, 1))
    above = {name: each - cpu[BARE] for name, each in cpu.items()}
    peers = ("httpx with a client", "aiohttp with a session", "the vendor's client", "openstacksdk, connection")
    best = min(above[name] for name in peers)
    report(
        "imports",
        [
            {
                "import": name,
                "CPU above bare, ms": above[name],
                "ratio to the best peer": above[name] / best,
                "least, ms": min(pair[0] for pair in taken[name]) - min(pair[0] for pair in taken[BARE]),
                "wall above bare, ms": wall[name] - wall[BARE],
                "modules": brought[name][0] - brought[BARE][0],
                "HTTP libraries": ", ".join(brought[name][1]) or "none",
            }
            for name in PROGRAMS
        ],
        packages=("msgspec", "httpx", "aiohttp", "huaweicloudsdkbms", "openstacksdk"),
    )
    ratio = above[CLIENT] / above["httpx, msgspec"]
    return judge(
        {
            f"import bms_async under a fifth of its client: {above['bms_async'] / above[CLIENT]:.2f}": (
                above["bms_async"] < above[CLIENT] / 5
            ),
            f"BmsClient under 100 ms above bare Python: {above[CLIENT]:.1f}": above[CLIENT] < 100,
            f"and at most 1.5 times httpx with msgspec: {ratio:.2f}": ratio <= 1.5,
            "and without an HTTP library": not brought[CLIENT][1],
            "a client imports aiohttp and no other": brought["bms_async, client on aiohttp"][1] == ["aiohttp"],
            "or httpx and no other": brought["bms_async, client on httpx"][1] == ["httpx"],
            "or by default httptools": brought["bms_async, client by default, opened"][1] == ["httptools"],
        }
    )


if __name__ == "__main__":
    raise SystemExit(main(*map(int, sys.argv[1:])))
