"""The cloud itself: servers, jobs, counters and a clock, without HTTP."""

import math
import random
import time
from collections.abc import Callable, Sequence
from typing import Literal

import anyio.lowlevel

from bms_async.simulator.core.activity import Activity
from bms_async.simulator.core.attributes import Attributes, CreationSpec, Disk, disks_of
from bms_async.simulator.core.clock import View, WallClock
from bms_async.simulator.core.faults import Fault, FaultHook
from bms_async.simulator.core.inventory import Inventory
from bms_async.simulator.core.jobs import REASONS, BatchJob
from bms_async.simulator.core.keypairs import KeyPairStore
from bms_async.simulator.core.refusals import Refusal, native
from bms_async.simulator.core.servers import Filters, PowerAction, Server
from bms_async.simulator.core.settings import CloudSettings
from bms_async.simulator.core.throttle import CallCounts, RateLimitGate
from bms_async.simulator.core.tokens import AccessKey, Grant, TokenStore

__all__ = ["Cloud"]


class Cloud:
    """A bare-metal cloud on this machine.

    It has no task of its own: what becomes of a batch is drawn when it is accepted, and whoever looks
    lets the clock's time happen first. So it runs on any clock, a virtual one that jumps too.

    Args:
        settings: How it behaves.
        clock: Seconds, never going back; a virtual event loop's `time` in tests.
        wall_clock: Unix seconds, which signed calls are dated by. By default the real time for a cloud on the real
            clock; else what has gone by on its own clock since `settings.epoch`, so that tests stay the same each time.
        life: What the ids of jobs and answers are mixed with, where no id of an earlier cloud of this seed may come
            again; with 0, equal seeds give equal ids.

    Attributes:
        settings: As given.
        faults: Hooks asked at every call, in order; the first fault counts.
        tokens: The tokens that are accepted now beside the issued ones, for the project of the settings.
        access_keys: The access keys that are accepted now, by name.
        wall: Turns the clock's seconds into the timestamps of answers.
        born: The clock's time at the beginning.
        view: What documents need to know.
        volumes: Which server has which EVS disk.
        keys: The SSH key pairs.
        board: What is being done.
    """

    def __init__(
        self,
        settings: CloudSettings | None = None,
        clock: Callable[[], float] = time.monotonic,
        *,
        wall_clock: Callable[[], float] | None = None,
        life: int = 0,
    ) -> None:
        self._life = life
        self.settings = settings or CloudSettings()
        self.faults: list[FaultHook] = []
        self.tokens = {self.settings.token}
        self.access_keys = {self.settings.access_key: AccessKey(self.settings.secret_key, self.settings.security_token)}
        self._clock = clock
        self._wall_clock = time.time if wall_clock is None and clock is time.monotonic else wall_clock
        self.born = clock()
        self.wall = WallClock(self.settings.epoch, self.born)
        self.view = View(self.settings.project_id, self.wall, self.born)
        self.volumes: dict[str, str] = {}
        self.keys = KeyPairStore(self.settings, self.born)
        self._park = Inventory(self.settings)
        self._gate = RateLimitGate(self.settings)
        self._created = 0
        self._desk = TokenStore(self.settings.token_lifetime, self.draw("tokens"))
        self.board = Activity(self.settings, clock, self.draw, life)
        self._latency = self.draw("latency")
        self._request_ids = self.draw("requests")

    def __repr__(self) -> str:
        return f"<Cloud servers={self.settings.servers} jobs={len(self.board)}>"

    def now(self) -> float:
        """The clock's time."""
        return self._clock()

    def unix_now(self) -> float:
        """The wall-clock time, as `Date` and signatures know it."""
        if self._wall_clock is not None:
            return self._wall_clock() + self.settings.clock_skew
        return self.settings.epoch.timestamp() + self._clock() - self.born + self.settings.clock_skew

    @property
    def servers(self) -> dict[str, Server]:
        """All servers by id, as they are now; for tests to look at, not to change."""
        self.board.catch_up(math.inf)
        return self._park.by_id

    def count_servers(self) -> dict[str, int]:
        """How many servers have which status now."""
        self.board.catch_up(math.inf)
        return self._park.count()

    def call_counts(self) -> CallCounts:
        """What arrived so far, by operation."""
        return self._gate.call_counts()

    def minute(self) -> dict[str, tuple[int, int]]:
        """The minute before, by operation; see `RateLimitGate.minute`."""
        return self._gate.minute(self._clock())

    def arrive(self, operation: str) -> tuple[int, float]:
        """Count a call; see `RateLimitGate.arrive`."""
        return self._gate.arrive(operation, self._clock())

    def fault(self, operation: str, nth: int, path: str) -> Fault | None:
        """What goes wrong with this call, if anything."""
        for hook in self.faults:
            fault = hook(operation, nth, path)
            if fault is not None:
                return fault
        return None

    def note_unauthorized(self, operation: str) -> None:
        """Write down a 401; see `RateLimitGate.note_unauthorized`."""
        self._gate.note_unauthorized(operation)

    def issue_token(self, project_id: str | None) -> str:
        """A new token for a project, or for none (API reference 3.1)."""
        return self._desk.issue(project_id, self._clock())

    def revoke_tokens(self) -> int:
        """Refuse all tokens that were issued until now; returns how many were good. `tokens` is left alone."""
        return self._desk.revoke(self._clock())

    def grant_of(self, token: str | None) -> Grant | None:
        """What a token is good for now; None if for nothing."""
        if token is None:
            return None
        if token in self.tokens:
            return Grant(self.settings.project_id, math.inf)
        return self._desk.find(token, self._clock())

    def new_request_id(self) -> str:
        """An id for one answer."""
        return f"{self._request_ids.getrandbits(128) ^ self._life:032x}"

    def draw(self, what: str) -> random.Random:
        """A source of drawn values, the same for the same name and seed."""
        return random.Random(f"{self.settings.seed}/{what}")

    def draw_latency(self) -> tuple[float, float]:
        """Seconds on the way there and on the way back."""
        low, high = self.settings.latency
        if not high:
            return 0.0, 0.0
        both = self._latency.uniform(low, high)
        there = both * self._latency.random()
        return there, both - there

    def server(self, server_id: str) -> Server:
        """One server as it is now (API reference 4.3.1).

        Raises:
            Refusal: There is none.
        """
        server = self._park.by_id.get(server_id)
        if server is None:
            raise Refusal(404, "BMS.0040", f"No server has the id {server_id}.")
        server.look(self._clock())
        if server.id not in self._park.by_id:
            # Looking has shown that it is gone.
            raise Refusal(404, "BMS.0040", f"No server has the id {server_id}.")
        return server

    def machine(self, server_id: str) -> Server:
        """One bare-metal server or virtual machine as it is now, as the native API sees them.

        Raises:
            Refusal: There is none.
        """
        server = self._park.by_id.get(server_id) or self._park.machines.get(server_id)
        if server is not None:
            server.look(self._clock())
            # Looking may have shown that it is gone.
            if server_id in self._park.by_id or server_id in self._park.machines:
                return server
        raise native(404, f"Instance {server_id} could not be found.")

    def machines(self) -> Sequence[Server]:
        """All machines there have been, the oldest first; see `Inventory.rows`."""
        return self._park.rows()

    def attributes_of(self, server: Server) -> Attributes | None:
        """What is known of a machine beyond its place in line, to be read."""
        return self._park.extras.get(server.id)

    def disks_of(self, server: Server) -> Sequence[Disk]:
        """A machine's EVS disks."""
        return disks_of(server, self._park.extras.get(server.id))

    def change(self, server: Server) -> Attributes:
        """What is known of a machine beyond its place in line, to be written to."""
        self._park.mark(server)
        server.updated = self._clock()
        return self._park.record(server)

    def create(self, birth: CreationSpec, name: str) -> Server:
        """Make room for a machine; whoever asked must begin to build it."""
        rng = self.draw(f"birth/{self._created}")
        self._created += 1
        server = self._park.add(birth, name, rng)
        server.faulty = rng.random() < self.settings.fail_share
        return server

    @property
    def virtual_machines(self) -> int:
        """How many machines there are that only the native API knows."""
        return len(self._park.machines)

    @property
    def used(self) -> tuple[int, int, int]:
        """Bare-metal servers there are, their cores and their memory."""
        return self._park.used

    async def find(self, filters: Filters, first: int, most: int) -> tuple[int, list[Server]]:
        """How many servers match and a page of them (API reference 4.3.2)."""
        await self.settle()
        count, page = self._park.find(filters, first, most)
        # A server found by its status must show that status, even if a microsecond has gone by.
        if filters.status is None:
            now = self._clock()
            for server in page:
                server.look(now)
        return count, page

    async def settle(self) -> None:
        """Let everything that was due happen.

        Who looks at servers of many jobs after a long silence has much to make up for, and others
        must get their turn in between.
        """
        while self.board.catch_up(4):
            await anyio.lowlevel.checkpoint()

    def act(self, action: PowerAction, server_ids: Sequence[str]) -> BatchJob:
        """Accept a batch (API reference 4.4.3 to 4.4.5).

        Raises:
            Refusal: A server is unknown, or in the wrong state where that refuses the batch.
        """
        now = self._clock()
        servers = []
        for server_id in server_ids:
            server = self._park.by_id.get(server_id)
            if server is None:
                raise Refusal(400, "BMS.0040", f"No server has the id {server_id}.")
            server.look(now)
            servers.append(server)
        if self.settings.refuse_batches:
            for server in servers:
                code = server.objection(action)
                if code is not None:
                    # Which one it is stays untold, as with the real service's texts.
                    raise Refusal(400, code, REASONS[code])
        return self.board.batch(action, servers)

    def delete(self, server: Server) -> None:
        """Begin to delete a machine; whatever else is being done to it comes to nothing."""

        def gone(_done: bool) -> None:  # noqa: FBT001 - a callback's argument
            self._park.remove(server)
            self.volumes = {volume: owner for volume, owner in self.volumes.items() if owner != server.id}

        self.board.quietly("delete", server, gone)

    def work(self, action: PowerAction | Literal["create"], server: Server) -> None:
        """Begin something with one server that nobody gets a job for, as native operations are."""
        extra = self._park.record(server)
        extra.fault = None

        def note(at: float) -> None:
            extra.fault = (f"The {action} operation failed.", at)

        self.board.alone(action, server, note)

    def job_document(self, job_id: str) -> bytes:
        """A job, or one of its sub-jobs, as it is answered now; see `Activity.document`."""
        return self.board.document(job_id, self.wall)
