"""Stop, start and reboot 10,000 servers of a simulated cloud with the command `bms`, and count its calls.

    make demo
    python examples/demo.py --servers 500       # fewer

Some servers fail on purpose. The last lines are the books of the cloud, which counts as strictly as a real one: how
many calls of each kind came, how many it allows a minute, and how many it had to refuse.

Exit codes: 0 every run ended and no call was refused, 1 not so, 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile

from bms_async import Limits
from bms_async.testing import CloudSettings, SimulatorProcess

ACTIONS = ("stop", "start", "reboot")
CALLS = ("servers.list", *(f"servers.{action}" for action in ACTIONS), "jobs.get")
SERVERS_OF_THE_CLOUD = ("--tag", "__type_baremetal", "--yes")


def main() -> int:
    """Run the demonstration; return its exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--servers", type=int, default=10_000, metavar="N", help="how many servers there are (10000)")
    parser.add_argument(
        "--job-seconds", type=float, nargs=2, default=(2.0, 10.0), help="how long a server takes (2 10)"
    )
    options = parser.parse_args()
    shortest, longest = options.job_seconds
    settings = CloudSettings(servers=options.servers, seed=7, fail_share=0.01, job_seconds=(shortest, longest))
    try:
        # The command keeps runs in the user's state folder, which is a temporary one here.
        with SimulatorProcess(settings) as cloud, tempfile.TemporaryDirectory() as folder:
            environment = os.environ | cloud.environment() | {"XDG_STATE_HOME": folder}
            ended = []
            for action in ACTIONS:
                print(f"\n$ bms {action} {' '.join(SERVERS_OF_THE_CLOUD)}", flush=True)
                command = [sys.executable, "-m", "bms_async.cli", action, *SERVERS_OF_THE_CLOUD]
                code = subprocess.run(command, env=environment, check=False).returncode  # noqa: S603 - it is ours
                # 1: some servers are not as asked, as those that fail on purpose.
                ended.append(code in (0, 1))
            print(f"\n{'calls of the cloud':20}{'came':>8}{'a minute':>10}{'refused':>9}")
            for name in CALLS:
                print(f"{name:20}{cloud.arrived(name):8,}{Limits()[name].limit or 0:10,}{cloud.refused(name):9,}")
            return 0 if all(ended) and cloud.refused() == 0 else 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
