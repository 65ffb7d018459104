"""The parent of all workers: it has imported once what each needs, and none of them outlives it, stopped or not.

python -m tests.support.nursery MODULE      reads parts from its input, and ends with it

The module is that of the workers: it has a `Part`, which says what a process does, and a `run`, which is that process.
"""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Generic, TypeVar

import anyio.lowlevel
import msgspec

from tests.support.machine import patience

PartT = TypeVar("PartT", bound=msgspec.Struct)


class _Order(msgspec.Struct, frozen=True):
    """A process that is to be begun."""

    part: msgspec.Raw
    control: int


class Nursery(Generic[PartT]):
    """What begins processes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process

    def begin(self, part: PartT, control: int) -> None:
        """Begin a process, which speaks to a port."""
        assert self._process.stdin is not None
        order = _Order(msgspec.Raw(msgspec.json.encode(part)), control)
        self._process.stdin.write(msgspec.json.encode(order) + b"\n")
        self._process.stdin.flush()


@contextmanager
def nursery(part: type[PartT]) -> Iterator[Nursery[PartT]]:
    """A nursery that ends with the context, or with this process if that is earlier, and all that it has begun.

    Args:
        part: What its processes are given; its module has `run`.
    """
    with subprocess.Popen(
        [sys.executable, "-m", "tests.support.nursery", part.__module__],
        stdin=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
        # Not of a session of its own, so that it may be the leader of a group, which is killed as a whole.
        process_group=0,
    ) as process:
        try:
            yield Nursery(process)
        finally:
            assert process.stdin is not None
            process.stdin.close()
            process.wait(patience(10.0))


def _main(module: str) -> None:
    workers = import_module(module)
    # What is imported with the first use is imported here, once.
    asyncio.run(anyio.lowlevel.checkpoint())
    # Nobody waits for the children.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        order = msgspec.json.decode(line, type=_Order)
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            workers.run(msgspec.json.decode(order.part, type=workers.Part), order.control)
            return
    os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    _main(sys.argv[1])
