"""Processes with a reconciler that are really killed, each in the middle of something, with the journal in a file."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Mapping
from contextlib import AsyncExitStack, suppress
from pathlib import Path

import msgspec

from tests.reconcile.durable._process import Part
from tests.runs.failures._gateway import Gateway
from tests.runs.failures._points import Fate
from tests.runs.failures._times import SHORT, cloud_of
from tests.runs.failures._worker import Said
from tests.support.changes import Changes
from tests.support.listener import Listener
from tests.support.machine import patience
from tests.support.nursery import Nursery, nursery

POINTS = ("after the commit of sending", "answered", "writing outcomes")
FATES: Mapping[str, dict[int, Fate]] = {point: {0: "kill"} for point in POINTS}
"""The tests on the virtual clock have all others."""


class Replicas:
    """Two processes at any time, until as many have died as are to."""

    def __init__(self, begun: Nursery[Part], folder: Path) -> None:
        self._nursery = begun
        self._folder = folder
        self.changes = Changes()
        self.gateway = Gateway(
            cloud_of(SHORT, 12, 0, is_off=False),
            latency=SHORT.latency,
            on_read=lambda _, __: None,
            window=None,
            changes=self.changes,
            patience=SHORT.margin,
        )
        self.control = Listener(self._hear)
        self._pids: dict[str, int] = {}
        self.names = 0
        self.died: list[str] = []
        self.synced: set[str] = set()

    def begin(self) -> None:
        self.names += 1
        settings = self.gateway.cloud.settings
        part = Part(
            name=f"replica-{self.names}",
            journal=f"sqlite://{self._folder}/runs.db",
            endpoint=self.gateway.address,
            project=settings.project_id,
            token=settings.token,
            ids=list(self.gateway.cloud.servers),
            points=str(self._folder),
            fates=dict(FATES),
        )
        self._nursery.begin(part, self.control.port)

    async def _hear(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            said = msgspec.json.decode(line, type=Said)
            self._pids[said.name] = said.pid
            if said.what == "dying":
                del self._pids[said.name]
                self.died.append(said.point)
                self.begin()
            elif said.what == "synced":
                self.synced.add(said.name)
            self.changes.tell()

    def kill(self) -> None:
        for pid in self._pids.values():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @property
    def is_over(self) -> bool:
        """Whether all have died that are to, and those that live see that all is as desired."""
        return len(self.died) == len(POINTS) and len(self.synced & self._pids.keys()) == 2


def test_processes_die_at_three_points_and_each_server_is_asked_once(tmp_path: Path) -> None:
    async def play(begun: Nursery[Part]) -> None:
        async with AsyncExitStack() as stack:
            replicas = Replicas(begun, tmp_path)
            await stack.enter_async_context(replicas.control)
            await stack.enter_async_context(replicas.gateway)
            stack.callback(replicas.kill)
            replicas.begin()
            replicas.begin()
            async with asyncio.timeout(patience(30.0)):
                await replicas.changes.until(lambda: replicas.is_over)
            cloud = replicas.gateway.cloud
            assert set(replicas.died) == set(POINTS)
            assert {server.status for server in cloud.servers.values()} == {"SHUTOFF"}
            assert set(cloud.obeyed.values()) == {1}

    with nursery(Part) as begun:
        asyncio.run(play(begun))
