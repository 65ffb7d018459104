"""The cloud itself: servers, jobs, counters and a clock, without HTTP."""

import math
import random
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Literal

import anyio.lowlevel

from bms_async.simulator.core.activity import Activity
from bms_async.simulator.core.attributes import Attributes, CreationSpec, Disk, disks_of
from bms_async.simulator.core.availability import Availability
from bms_async.simulator.core.clock import View, WallClock
from bms_async.simulator.core.drift import Drifting
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

_CHANGES = 500


class Cloud:
    """A bare-metal cloud on this machine.

    It has no task of its own: the course of a batch is drawn when it is accepted, and every read first applies what is
    due by the clock. So it runs on any clock, including a virtual one that jumps.

    Args:
        settings: How it behaves.
        clock: Monotonic seconds; a virtual event loop's `time` in tests.
        wall_clock: Unix seconds, for the dates of signed calls. By default the real time for a cloud on the real clock;
            else `settings.epoch` plus the time by its own clock, so that tests are reproducible.
        life: Mixed into the ids of jobs and responses, so that they differ from those of an earlier cloud of this seed;
            with 0, equal seeds give equal ids.

    Attributes:
        settings: As given.
        faults: Hooks that are called at every call, in order; the first fault counts.
        tokens: Accepted tokens beside the issued ones, for the project of the settings.
        access_keys: Accepted access keys, by name.
        wall: Converts the clock's seconds into timestamps.
        born: The clock's time at the start.
        view: The project and the clock, for documents.
        volumes: The server of each EVS disk.
        keys: The SSH key pairs.
        availability: Which servers were away when, from the acceptance of an action until they were back.
        activity: The work in progress, and the jobs.
        drifting: The changes of servers that no call asks for.
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
        # One clock for the dates of responses and for the times of servers: clients compare them.
        real = None if self._wall_clock is None else datetime.fromtimestamp(self._wall_clock(), UTC)
        self.wall = WallClock(real or self.settings.epoch, self.born)
        self.view = View(self.settings.project_id, self.wall, self.born)
        self.volumes: dict[str, str] = {}
        self.keys = KeyPairStore(self.settings, self.born)
        self._inventory = Inventory(self.settings)
        self._gate = RateLimitGate(self.settings)
        self._created = 0
        self._token_store = TokenStore(self.settings.token_lifetime, self.draw("tokens"))
        self.availability = Availability(self.settings, self.draw, self._inventory.never_back)
        self.activity = Activity(self.settings, clock, self.draw, self.availability, life)
        self.drifting = Drifting(self.settings, clock, self.draw, self._inventory, self.availability)
        self._latency = self.draw("latency")
        self._request_ids = self.draw("requests")

    def __repr__(self) -> str:
        return f"<Cloud servers={self.settings.servers} jobs={len(self.activity)}>"

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
        """All servers by id, as they are now; for tests to read, not to change."""
        self.drifting.catch_up()
        self.activity.catch_up(math.inf)
        return self._inventory.by_id

    def count_servers(self) -> dict[str, int]:
        """Return how many servers are in each status now."""
        self.drifting.catch_up()
        self.activity.catch_up(math.inf)
        return self._inventory.count()

    def call_counts(self) -> CallCounts:
        """Return the calls that arrived so far, by operation."""
        return self._gate.call_counts()

    def minute(self) -> dict[str, tuple[int, int]]:
        """The minute before, by operation; see `RateLimitGate.minute`."""
        return self._gate.minute(self._clock())

    def arrive(self, operation: str) -> tuple[int, float]:
        """Count a call; see `RateLimitGate.arrive`."""
        return self._gate.arrive(operation, self._clock())

    def fault(self, operation: str, nth: int, path: str) -> Fault | None:
        """Return the fault of this call, None without one."""
        for hook in self.faults:
            fault = hook(operation, nth, path)
            if fault is not None:
                return fault
        return None

    def note_unauthorized(self, operation: str) -> None:
        """Count a 401; see `RateLimitGate.note_unauthorized`."""
        self._gate.note_unauthorized(operation)

    def issue_token(self, project_id: str | None) -> str:
        """Issue a token for a project, or for none (API reference 3.1)."""
        return self._token_store.issue(project_id, self._clock())

    def revoke_tokens(self) -> int:
        """Revoke all issued tokens; returns how many were valid. `tokens` is not changed."""
        return self._token_store.revoke(self._clock())

    def grant_of(self, token: str | None) -> Grant | None:
        """Return the grant of a token; None if it is not accepted."""
        if token is None:
            return None
        if token in self.tokens:
            return Grant(self.settings.project_id, math.inf)
        return self._token_store.find(token, self._clock())

    def new_request_id(self) -> str:
        """Return an id for one response."""
        return f"{self._request_ids.getrandbits(128) ^ self._life:032x}"

    def draw(self, what: str) -> random.Random:
        """Return a source of random values, the same for the same name and seed."""
        return random.Random(f"{self.settings.seed}/{what}")

    def draw_latency(self) -> tuple[float, float]:
        """Return the seconds that the request and the response travel."""
        low, high = self.settings.latency
        if not high:
            return 0.0, 0.0
        both = self._latency.uniform(low, high)
        there = both * self._latency.random()
        return there, both - there

    def server(self, server_id: str) -> Server:
        """Return a server as it is now (API reference 4.3.1).

        Raises:
            Refusal: It does not exist.
        """
        self.drifting.catch_up()
        server = self._inventory.by_id.get(server_id)
        if server is None:
            raise Refusal(404, "BMS.0040", f"No server has the id {server_id}.")
        server.advance(self._clock())
        if server.id not in self._inventory.by_id:
            # The event that was due has removed it.
            raise Refusal(404, "BMS.0040", f"No server has the id {server_id}.")
        return server

    def machine(self, server_id: str) -> Server:
        """Return a bare-metal server or virtual machine as it is now, for the native API.

        Raises:
            Refusal: It does not exist.
        """
        self.drifting.catch_up()
        server = self._inventory.by_id.get(server_id) or self._inventory.machines.get(server_id)
        if server is not None:
            server.advance(self._clock())
            # The event that was due may have removed it.
            if server_id in self._inventory.by_id or server_id in self._inventory.machines:
                return server
        raise native(404, f"Instance {server_id} could not be found.")

    def is_reachable(self, server_id: str) -> bool:
        """Return whether what runs on a machine could answer now.

        It exists, is on, nothing is being done to it, it has booted, and it is none of those that never come back.
        """
        try:
            server = self.machine(server_id)
        except Refusal:
            return False
        return server.powered and server.action is None and self.availability.has_booted(server_id, self._clock())

    def machines(self) -> Sequence[Server]:
        """Return all machines, including removed ones, the oldest first; see `Inventory.rows`."""
        return self._inventory.rows()

    def attributes_of(self, server: Server) -> Attributes | None:
        """Return the attributes of a machine that do not follow from its index, for reading."""
        return self._inventory.extras.get(server.id)

    def disks_of(self, server: Server) -> Sequence[Disk]:
        """Return a machine's EVS disks."""
        return disks_of(server, self._inventory.extras.get(server.id))

    def change(self, server: Server) -> Attributes:
        """Return the attributes of a machine that do not follow from its index, for writing."""
        self._inventory.mark(server)
        server.updated = self._clock()
        return self._inventory.record(server)

    def create(self, birth: CreationSpec, name: str) -> Server:
        """Add a machine to the inventory; the caller must start its creation."""
        rng = self.draw(f"birth/{self._created}")
        self._created += 1
        server = self._inventory.add(birth, name, rng)
        server.faulty = rng.random() < self.settings.fail_share
        if rng.random() < self.settings.never_back_share:
            self.availability.never_back.add(server.id)
        return server

    @property
    def virtual_machines(self) -> int:
        """The number of virtual machines, which only the native API shows."""
        return len(self._inventory.machines)

    @property
    def used(self) -> tuple[int, int, int]:
        """The number of bare-metal servers, their cores and their memory."""
        return self._inventory.used

    async def find(self, filters: Filters, first: int, most: int) -> tuple[int, list[Server]]:
        """Return how many servers match, and a page of them (API reference 4.3.2)."""
        await self.settle()
        count, page = self._inventory.find(filters, first, most)
        # A server found by its status must show that status, even if a microsecond has gone by.
        if filters.status is None:
            now = self._clock()
            for server in page:
                server.advance(now)
        return count, page

    async def settle(self) -> None:
        """Apply everything that is due.

        After a long pause that can be much work, so that other tasks run in between.
        """
        # No work is brought beyond a change that is due.
        while self.drifting.catch_up(_CHANGES) or self.activity.catch_up(4):
            await anyio.lowlevel.checkpoint()

    def act(self, action: PowerAction, server_ids: Sequence[str]) -> BatchJob:
        """Accept a batch (API reference 4.4.3 to 4.4.5).

        Raises:
            Refusal: A server is unknown, or in the wrong state where that refuses the batch.
        """
        self.drifting.catch_up()
        now = self._clock()
        servers = []
        for server_id in server_ids:
            server = self._inventory.by_id.get(server_id)
            if server is None:
                raise Refusal(400, "BMS.0040", f"No server has the id {server_id}.")
            server.advance(now)
            servers.append(server)
        if self.settings.refuse_batches:
            for server in servers:
                code = server.objection(action)
                if code is not None:
                    # The message does not name the server, as the real service's does not.
                    raise Refusal(400, code, REASONS[code])
        return self.activity.start_batch(action, servers)

    def delete(self, server: Server) -> None:
        """Start to delete a machine; other work on it has no effect any more."""

        def gone(_done: bool) -> None:  # noqa: FBT001 - a callback's argument
            self._remove(server)

        self.activity.start_internal("delete", server, gone)

    def _remove(self, server: Server) -> None:
        self._inventory.remove(server)
        self.volumes = {volume: owner for volume, owner in self.volumes.items() if owner != server.id}

    def work(self, action: PowerAction | Literal["create"], server: Server) -> None:
        """Start a native operation on one server, which has no job."""
        extra = self._inventory.record(server)
        extra.fault = None

        def note(at: float) -> None:
            extra.fault = (f"The {action} operation failed.", at)

        def vanish(at: float) -> None:
            if not server.is_deleted:
                server.end("delete", at, done=True)
                self._remove(server)

        self.activity.start_native(action, server, note, vanish)

    def job_document(self, job_id: str) -> bytes:
        """Return the document of a job or a sub-job; see `Activity.document`."""
        self.drifting.catch_up()
        return self.activity.document(job_id, self.wall)
