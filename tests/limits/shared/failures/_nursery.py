"""The parent of all workers: it has imported once what each needs, and none of them outlives it, stopped or not.

python -m tests.limits.shared.failures._nursery      reads parts from its input, and ends with it
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import anyio.lowlevel
import msgspec

from tests.limits.shared.failures._worker import Part, run
from tests.support.machine import patience


class _Order(msgspec.Struct, frozen=True):
    """A process that is to be begun."""

    part: Part
    control: int


class Nursery:
    """What begins processes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def begin(self, part: Part, control: int) -> None:
        """Begin a process, which speaks to a port."""
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(_Order(part, control)) + b"\n")
        self._process.stdin.flush()


@contextmanager
def nursery() -> Iterator[Nursery]:
    """A nursery that ends with the context, or with this process if that is earlier, and all that it has begun."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.limits.shared.failures._nursery"],
        stdin=subprocess.PIPE,
        cwd=Path(__file__).parents[4],
        # Not of a session of its own, so that it may be the leader of a group, which is killed as a whole.
        process_group=0,
    ) as process:
        try:
            yield Nursery(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(patience(10.0))


def _main() -> None:
    # What is imported with the first use is imported here, once.
    asyncio.run(anyio.lowlevel.checkpoint())
    # Nobody waits for the children.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=_Order)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            run(order.part, order.control)
            return
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    _main()
