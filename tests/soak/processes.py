"""The two processes on the other side: the cloud, and what stands before it."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from tests.soak.faults import BINDING
from tests.support.machine import patience

SERVERS = 600
LIMITS = {
    "jobs.get": 1_000_000,
    "servers.list": 1_000_000,
    "servers.get": 1_000_000,
    "servers.start": 1_000_000,
    "servers.stop": 1_000_000,
    "servers.reboot": 1_000_000,
    BINDING: 400,
}
_CLOUD = [
    "--port", "0", "--servers", str(SERVERS), "--job-seconds", "0.05", "0.3", "--fail-share", "0.04",
    "--stopped-share", "0.3", "--token-lifetime", "40",
    *(f"--limit={name}={limit}" for name, limit in LIMITS.items()),
]  # fmt: skip


class Surroundings(NamedTuple):
    """Where the cloud is, and what it takes to be let in.

    Attributes:
        cloud: The simulator's own address, for its books.
        proxy: The address that the SDK is given.
        control: Where the proxy tells what it did.
    """

    cloud: str
    proxy: str
    control: str
    project_id: str
    token: str
    username: str
    password: str
    user_domain_name: str


@contextmanager
def surroundings(*, seed: int, share: float, patience: float) -> Iterator[Surroundings]:
    """Run a cloud and a proxy before it; both must end cleanly."""
    with _process("bms_async.simulator", *_CLOUD, "--seed", str(seed)) as told:
        flags = ("--seed", str(seed), "--share", str(share), "--patience", str(patience))
        with _process("tests.soak.proxy", told["address"], *flags) as proxy:
            wanted = Surroundings._fields[3:]
            yield Surroundings(
                told["address"], proxy["address"], proxy["control"], **{name: told[name] for name in wanted}
            )


@contextmanager
def _process(module: str, *arguments: str) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", module, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            yield json.loads(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            said, complaints = process.communicate(timeout=patience(60.0))
            ended = (said, complaints, process.returncode)
            assert ended == ("", "", 0), f"{module} ended with {ended}"
        finally:
            if process.poll() is None:
                process.kill()
