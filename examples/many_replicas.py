"""Four copies of a service, each a process of its own, on the one budget that their account has at the cloud.

    python examples/many_replicas.py                 # a minute: 100 calls, of which 50 a minute are allowed
    python examples/many_replicas.py --alone         # the same, each by itself: the cloud has to refuse some

It starts a simulated cloud that counts strictly, and the copies. Each stops servers as requests for it come in, one
call a request. What makes them share is in their environment, and a service needs no code for it: BMS_LIMITS names the
store. Here it is a file in a temporary folder; name a server for copies on several machines:

    python examples/many_replicas.py --store redis://127.0.0.1:6379/0 --account demo

Such a store does not know the account at first and keeps it closed for 135 s, for calls may be under way that it does
not know of. Whoever knows that there are none opens it at once: bms limits open --account demo, with the same store.

Exit codes: 0 no call was refused, 1 some were, 2 wrong usage, 3 a copy has ended early, 130 interrupted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence

import anyio

from bms_async import BmsClient, BmsError
from bms_async.testing import CloudSettings, SimulatorProcess

REPLICAS = 4
SECONDS_BETWEEN_REQUESTS = 0.1


async def serve(number: int, calls: int, patience: float) -> None:
    """Be one copy: stop a server for each request, and print what came of it as a line of JSON."""
    began = time.monotonic()
    waits: list[float] = []
    async with BmsClient.from_env() as bms:
        ids = [server.id async for server in bms.servers.list()][number::REPLICAS]

        async def handle_request(server_id: str) -> None:
            arrived = time.monotonic()
            await bms.servers.stop([server_id])
            waits.append(time.monotonic() - arrived)

        async with anyio.create_task_group() as requests:
            for server_id in ids[:calls]:
                requests.start_soon(handle_request, server_id)
                await anyio.sleep(SECONDS_BETWEEN_REQUESTS)
            # Whoever still waits then is sent away; the calls that were sent are finished.
            requests.cancel_scope.deadline = anyio.current_time() + patience
        at_once = sum(wait < 1.0 for wait in waits)
        refused = bms.limits["servers.stop"].statistics().refused
    result = {"done": len(waits), "at_once": at_once, "refused": refused, "seconds": time.monotonic() - began}
    print(json.dumps(result), flush=True)


async def run_replica(number: int, options: argparse.Namespace, environment: Mapping[str, str]) -> bool:
    """Start a copy and wait for its end; return whether it ended well."""
    command = [sys.executable, __file__, "--replica", str(number)]
    command += ["--calls", str(options.calls), "--patience", str(options.patience)]
    process = await asyncio.create_subprocess_exec(*command, env=environment, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    if process.returncode:
        return False
    said = json.loads(output)
    print(
        f"replica {number}: {said['done']} of {options.calls} requests done, {said['at_once']} of them at once, "
        f"{said['refused']} calls refused, {said['seconds']:.1f} s",
        flush=True,
    )
    return True


async def run_all(options: argparse.Namespace) -> int:
    """Start the cloud and the copies, and print what the cloud has counted; return the exit code."""
    settings = CloudSettings(servers=REPLICAS * options.calls, job_seconds=(0.5, 2.0), throttle="sliding")
    with tempfile.TemporaryDirectory() as folder:
        async with SimulatorProcess(settings) as cloud:
            environment = os.environ | cloud.environment()
            # The file of this machine is in the user's state folder, which is a temporary one here.
            environment |= {"BMS_LIMITS": "" if options.alone else options.store, "XDG_STATE_HOME": folder}
            environment |= {"BMS_LIMITS_ACCOUNT": options.account or f"replicas at {cloud.address}"}
            ended = await asyncio.gather(*(run_replica(number, options, environment) for number in range(REPLICAS)))
            arrived = await asyncio.to_thread(cloud.arrived, "servers.stop")
            refused = await asyncio.to_thread(cloud.refused, "servers.stop")
    print(f"the cloud: {arrived} calls arrived, {refused} were refused")
    return 3 if not all(ended) else min(1, refused)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    add = parser.add_argument
    add("--store", default="machine", help="where the copies count their calls; a file of this machine by default")
    add("--account", help="the name of the account there; by default a new one for each run")
    add("--alone", action="store_true", help="let each copy count by itself")
    add("--calls", type=int, default=25, metavar="N", help="requests to each copy (25)")
    add("--patience", type=float, default=600.0, metavar="S", help="seconds that a request waits at most (600)")
    add("--replica", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args(arguments)
    try:
        if options.replica is not None:
            asyncio.run(serve(options.replica, options.calls, options.patience))
            return 0
        return asyncio.run(run_all(options))
    except BmsError as error:
        # In one piece, since four copies write to one place.
        sys.stderr.write(f"replica {options.replica}: {error}\n")
        return 3
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
